//! Activations and gradients in the place of a checkpoint: the same bits as from the checkpoint that gave them.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use serde_json::Value;

use crate::support::{CASES, Place, fails, fixture, json, save, succeeds, tensors, words};

/// What `predict` writes of the set `key` of images in the file `inputs`.
fn predicted(place: &Place, name: &str, inputs: &str, key: &str) -> String {
    let expected = json(fixture(&format!("oracle/{name}/expected.json")));
    let out = place.arg(&format!("{key}.safetensors"));
    let case = fixture(&format!("oracle/{name}"));
    succeeds(&words(&format!(
        "predict --checkpoint {case}/checkpoint.safetensors --images {inputs}:{key} --stage {} --class {} --out {out}",
        expected["layer"].as_str().unwrap(),
        expected["class"]
    )));
    out
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    let values = tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

#[test]
fn maps_of_arrays_are_those_of_the_checkpoint() {
    for name in CASES {
        let place = Place::new();
        let expected = json(fixture(&format!("oracle/{name}/expected.json")));
        let case = fixture(&format!("oracle/{name}"));
        let (stage, class) = (expected["layer"].as_str().unwrap(), &expected["class"]);
        let images = tensors(format!("{case}/inputs.safetensors"));
        let (_, _, height, width) = images["images"].dims4().unwrap();
        let arrays = predicted(&place, name, &format!("{case}/inputs.safetensors"), "images");
        for method in ["grad-cam", "layer-cam", "grad-cam-plus-plus"] {
            let (of_checkpoint, of_arrays) = (place.arg("checkpoint.safetensors"), place.arg("arrays.safetensors"));
            succeeds(&words(&format!(
                "cam --checkpoint {case}/checkpoint.safetensors --images {case}/inputs.safetensors:images --stage {stage} \
                 --class {class} --method {method} --out {of_checkpoint}"
            )));
            succeeds(&words(&format!(
                "cam --activation {arrays}:activation --gradient {arrays}:gradient --method {method} --size {height} {width} \
                 --batch 3 --out {of_arrays}"
            )));
            let (of_checkpoint, of_arrays) = (tensors(of_checkpoint), tensors(of_arrays));
            assert_eq!(
                of_arrays.keys().collect::<Vec<_>>(),
                ["cam_normalised", "cam_raw", "cam_upsampled", "degenerate"]
            );
            for (key, tensor) in &of_arrays {
                assert_eq!(tensor.dims(), of_checkpoint[key].dims());
                assert_eq!(bits(tensor), bits(&of_checkpoint[key]), "{name} {method} {key}");
            }
        }
    }
}

#[test]
fn maps_beyond_what_f32_holds_are_refused() {
    let place = Place::new();
    let large = Tensor::full(1e30f32, (2, 3, 2, 2), &Device::Cpu).unwrap();
    save(&place.path("large.safetensors"), &[("a", large.clone()), ("g", large.affine(-1.0, 0.0).unwrap())]);
    let large = place.arg("large.safetensors");
    for method in ["grad-cam", "hires-cam", "xgrad-cam"] {
        let line =
            format!("cam --activation {large}:a --gradient {large}:a --method {method} --out {}", place.arg("out"));
        let error = fails(&words(&line));
        assert!(error.contains("large.safetensors:a: image 0: its map holds"), "{error}");
    }
    // Below zero everywhere, however far: such a map says nothing.
    succeeds(&words(&format!(
        "cam --activation {large}:a --gradient {large}:g --method grad-cam --out {}",
        place.arg("out")
    )));
    assert_eq!(tensors(place.path("out"))["degenerate"].to_vec1::<u8>().unwrap(), [1, 1]);
}

#[test]
fn concepts_of_arrays_are_those_of_the_checkpoint() {
    for name in CASES {
        concepts_of_arrays(&Place::new(), name, &fixture(&format!("oracle/{name}/inputs.safetensors")));
    }
}

/// Sets of more images than a batch holds, whole batches and the rest.
#[test]
fn concepts_of_many_images_are_those_of_the_checkpoint() {
    let place = Place::new();
    let name = CASES[0];
    let sets = tensors(fixture(&format!("oracle/{name}/inputs.safetensors")));
    let joined = |keys: &[&str]| Tensor::cat(&keys.iter().map(|key| &sets[*key]).collect::<Vec<_>>(), 0).unwrap();
    let inputs = place.arg("inputs.safetensors");
    let large = [
        ("images", joined(&["images", "random_10", "random_11"])),
        ("concept_a", joined(&["concept_striped", "random_08", "random_09"])),
        ("concept_b", joined(&["concept_null", "random_06", "random_07"])),
        ("random_a", joined(&["random_00", "random_01"])),
        ("random_b", joined(&["random_02", "random_03"])),
        ("random_c", joined(&["random_04", "random_05"])),
    ];
    assert!(large.iter().all(|(_, images)| images.dims()[0] > 32));
    save(Path::new(&inputs), &large);
    concepts_of_arrays(&place, name, &inputs);
}

fn concepts_of_arrays(place: &Place, name: &str, inputs: &str) {
    let expected = json(fixture(&format!("oracle/{name}/expected.json")));
    let case = fixture(&format!("oracle/{name}"));
    let keys: Vec<String> = tensors(inputs).into_keys().collect();
    let of = |start: &str| keys.iter().filter(|key| key.starts_with(start)).cloned().collect::<Vec<_>>();
    let (concepts, random) = (of("concept_"), of("random_"));
    assert!(concepts.len() >= 2 && random.len() >= 2);
    let (of_checkpoint, of_arrays) = (place.arg("checkpoint.json"), place.arg("arrays.json"));
    let mut line = words(&format!(
        "tcav --checkpoint {case}/checkpoint.safetensors --images {inputs}:images --stage {} --class {} --json {of_checkpoint}",
        expected["layer"].as_str().unwrap(),
        expected["class"]
    ));
    line.extend(concepts.iter().flat_map(|key| ["--concept".into(), format!("{key}={inputs}:{key}")]));
    line.extend(random.iter().flat_map(|key| ["--random".into(), format!("{inputs}:{key}")]));
    succeeds(&line);
    let array = |key: &str, what: &str| format!("{}:{what}", predicted(place, name, inputs, key));
    let mut line = words(&format!("tcav --gradients {} --batch 7 --json {of_arrays}", array("images", "gradient")));
    line.extend(
        concepts.iter().flat_map(|key| ["--activations".into(), format!("{key}={}", array(key, "activation"))]),
    );
    line.extend(random.iter().flat_map(|key| ["--random-activations".into(), array(key, "activation")]));
    succeeds(&line);
    let (mut of_checkpoint, mut of_arrays) = (json(of_checkpoint), json(of_arrays));
    assert_eq!([&of_arrays["stage"], &of_arrays["class"]], [&Value::Null, &Value::Null]);
    for record in [&mut of_checkpoint, &mut of_arrays] {
        for told_by_the_checkpoint_alone in ["stage", "class", "assumed"] {
            record.as_object_mut().unwrap().remove(told_by_the_checkpoint_alone);
        }
    }
    assert_eq!(of_arrays, of_checkpoint, "{name}");
}

#[test]
fn arrays_that_do_not_fit_are_one_error() {
    let place = Place::new();
    let tensor = |shape: &[usize]| {
        let count: usize = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|value| (value * 7 % 11) as f32 / 11.0).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    };
    let file = place.arg("a.safetensors");
    let tokens = tensor(&[4, 5, 3]);
    let whole = tensor(&[4, 5]).to_dtype(DType::I64).unwrap();
    save(
        Path::new(&file),
        &[
            ("flat", tensor(&[4, 6])),
            ("wide", tensor(&[4, 7])),
            ("one", tensor(&[1, 6])),
            ("tokens", tokens),
            ("whole", whole),
        ],
    );
    let out = place.arg("out.safetensors");
    let cam = |rest: &str| fails(&words(&format!("cam --out {out} {rest}")));
    let at = |key: &str| format!("{file}:{key}");
    assert!(
        cam(&format!("--activation {} --gradient {}", at("flat"), at("flat")))
            .contains("a.safetensors:flat: maps need (N, C, H, W)")
    );
    let pair = format!("--activation {0} --gradient {0}", at("tokens"));
    assert!(cam(&format!("{pair} --grid 2 2")).contains("has 5 tokens, a grid of 2 × 2 after 0 others needs 4"));
    assert!(cam(&format!("{pair} --grid 2 2 --skip-tokens 1 --size 0 8")).contains("--size"));
    assert!(
        cam(&format!("{pair} --grid 2 2 --skip-tokens 1 --method gradient"))
            .contains("--method: gradient works on the input")
    );
    assert!(cam(&format!("--activation {0} --gradient {0}", at("whole"))).contains("holds whole numbers"));
    assert!(!place.path("out.safetensors").exists());
    succeeds(&words(&format!("cam --out {out} {pair} --grid 2 2 --skip-tokens 1")));
    assert_eq!(tensors(&out)["cam_raw"].dims(), [4, 2, 2]);
    let tcav = |concept: &str, random: &str, gradients: &str| {
        fails(&words(&format!(
            "tcav --activations c={} --random-activations {} {} --gradients {}",
            at(concept),
            at(random),
            at("flat"),
            at(gradients)
        )))
    };
    assert!(tcav("flat", "flat", "wide").contains("a.safetensors:flat: one activation is [6], one gradient of"));
    assert!(tcav("one", "flat", "flat").contains("a.safetensors:one: 1 image"));
    assert!(tcav("none", "flat", "flat").contains("no tensor `none`; it holds"));
    let both =
        format!("tcav --activations c={0} --random-activations {0} {0} --gradients {0} --checkpoint x.pth", at("flat"));
    assert!(fails(&words(&both)).contains("--checkpoint"));
}
