//! Every number of `fixtures/oracle`, through the program (its README states the tolerances).

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use serde_json::Value;

use crate::support::{
    CASES, Place, fails, fixture, json, relative_error, save, succeeds, tensor_error, tensors, values, words,
};

struct Case {
    checkpoint: String,
    inputs: String,
    expected: Value,
    tensors: BTreeMap<String, Tensor>,
    stage: String,
    class: u64,
}

fn case(name: &str) -> Case {
    let path = |file: &str| fixture(&format!("oracle/{name}/{file}"));
    let expected = json(path("expected.json"));
    Case {
        checkpoint: path("checkpoint.safetensors"),
        inputs: path("inputs.safetensors"),
        tensors: tensors(path("expected.safetensors")),
        stage: expected["layer"].as_str().unwrap().into(),
        class: expected["class"].as_u64().unwrap(),
        expected,
    }
}

#[test]
fn predictions_and_maps_equal_pytorchs_and_captums() {
    for name in CASES {
        let Case { checkpoint, inputs, tensors: expected, stage, class, .. } = case(name);
        let place = Place::new();
        let common = format!("--checkpoint {checkpoint} --images {inputs}:images --stage {stage} --class {class}");
        // A batch that does not divide the images.
        let (predicted, maps) = (place.arg("predict.safetensors"), place.arg("cam.safetensors"));
        succeeds(&words(&format!("predict {common} --batch 5 --out {predicted}")));
        succeeds(&words(&format!("cam {common} --batch 5 --out {maps}")));
        let mut got = tensors(&predicted);
        assert_eq!(got.keys().collect::<Vec<_>>(), ["activation", "gradient", "logits"]);
        got.extend(tensors(&maps));
        for (tensor, expected) in &expected {
            let error = tensor_error(&got[tensor], expected);
            println!("{name} {tensor}: {error:.1e}");
            assert!(error < 1e-4, "{name} {tensor}: {error:e}");
        }
        let plain = place.arg("logits.safetensors");
        succeeds(&words(&format!("predict --checkpoint {checkpoint} --images {inputs}:images --out {plain}")));
        let plain = tensors(&plain);
        assert_eq!(plain.keys().collect::<Vec<_>>(), ["logits"]);
        assert!(tensor_error(&plain["logits"], &expected["logits"]) < 1e-4);
    }
}

#[test]
fn saliency_methods_equal_captums_and_pytorch_grad_cams() {
    let at_stage = [
        ("hires-cam", "hirescam"),
        ("layer-cam", "layercam"),
        ("xgrad-cam", "xgradcam"),
        ("grad-cam-plus-plus", "gradcam_pp"),
    ];
    let on_input = [
        ("gradient", "saliency"),
        ("input-x-gradient", "input_x_gradient"),
        ("integrated-gradients", "integrated_gradients"),
    ];
    for name in CASES {
        let Case { checkpoint, inputs, stage, class, .. } = case(name);
        let expected = tensors(fixture(&format!("oracle/{name}/saliency.safetensors")));
        let place = Place::new();
        let out = place.arg("cam.safetensors");
        let common =
            format!("cam --checkpoint {checkpoint} --images {inputs}:images --class {class} --batch 5 --out {out}");
        let compare = |method: &str, flags: &str, key: &str, reference: &str| {
            succeeds(&words(&format!("{common} --method {method} {flags}")));
            let found = tensors(&out);
            let error = tensor_error(&found[key], &expected[reference]);
            assert!(error < 5e-4, "{name} {method}: {error:e}");
            found.keys().cloned().collect::<Vec<_>>()
        };
        for (method, reference) in at_stage {
            let keys = compare(method, &format!("--stage {stage}"), "cam_raw", reference);
            assert_eq!(keys, ["cam_normalised", "cam_raw", "cam_upsampled", "class", "degenerate"]);
        }
        for (method, reference) in on_input {
            let keys = compare(method, "", "attribution", reference);
            assert_eq!(keys, ["attribution", "class", "degenerate"]);
        }
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

/// Statistics hold to 1e-9 of equal scores; effects and vectors come from f32 activations.
const OF_ACTIVATIONS: f64 = 1e-3;

fn close(place: &str, got: &Value, expected: &Value, tolerance: f64) {
    match (got.as_f64(), expected.as_f64()) {
        (Some(a), Some(b)) => assert!((a - b).abs() <= tolerance * b.abs().max(1e-6), "{place}: {a} against {b}"),
        (None, None) => assert!(got.is_null() && expected.is_null(), "{place}"),
        _ => panic!("{place}: {got} against {expected}"),
    }
}

#[test]
fn concept_tests_equal_scikit_learns_and_scipys() {
    for name in CASES {
        let Case { checkpoint, inputs, expected, stage, class, .. } = case(name);
        let place = Place::new();
        let sets = expected["random_baseline"].as_array().unwrap().len();
        let random: Vec<String> = (0..sets).map(|set| format!("--random {inputs}:random_{set:02}")).collect();
        let out = place.arg("tcav.json");
        let line = format!(
            "tcav --checkpoint {checkpoint} --images {inputs}:images --stage {stage} --class {class} --concept \
             concept_striped={inputs}:concept_striped --concept concept_null={inputs}:concept_null {} --json {out}",
            random.join(" ")
        );
        succeeds(&words(&line));
        let got = json(&out);
        assert_eq!((got["stage"].as_str(), got["class"].as_u64()), (Some(stage.as_str()), Some(class)));
        assert_eq!(got["concepts"].as_object().unwrap().len(), 2);
        let mut worst = 0.0_f64;
        let mut certain = true;
        for (concept, runs) in expected["concepts"].as_object().unwrap() {
            let found = &got["concepts"][concept];
            assert_eq!(found["runs"].as_array().unwrap().len(), runs.as_array().unwrap().len());
            for (index, expected) in runs.as_array().unwrap().iter().enumerate() {
                let (run, at) = (&found["runs"][index], format!("{name} {concept} {index}"));
                assert_eq!(run["random"], expected["random"]);
                let sensitivity = numbers(&expected["sensitivity"]);
                worst = worst.max(relative_error(&numbers(&run["sensitivity"]), &sensitivity));
                let largest = sensitivity.iter().fold(0.0_f64, |top, s| top.max(s.abs()));
                // A sensitivity this close to zero may have either sign.
                let sure = sensitivity.iter().all(|s| s.abs() >= 1e-3 * largest);
                certain &= sure;
                if sure {
                    close(&at, &run["score"], &expected["score"], 1e-12);
                }
                for key in ["weight_norm", "intercept"] {
                    close(&format!("{at} {key}"), &run[key], &expected[key], OF_ACTIVATIONS);
                }
                close(&at, &run["train_accuracy"], &expected["train_accuracy"], 1e-12);
                let accuracy = run["heldout_accuracy"].as_f64().unwrap();
                assert!((0.0..=1.0).contains(&accuracy), "{at}");
            }
            let effects = &expected["effects"][concept];
            close(name, &found["effect"], &effects["effect"], OF_ACTIVATIONS);
            close(name, &found["effect_standardised"], &effects["standardised"], OF_ACTIVATIONS);
            if certain {
                let tests = &expected[format!("tests_{concept}")];
                close(name, &found["mean"], &tests["mean"], 1e-12);
                close(name, &found["legacy_welch_p"], &tests["welch_p"], 1e-9);
            }
            for key in ["p_value", "p_adjusted", "effect_p_value", "effect_p_adjusted"] {
                let p = found[key].as_f64().unwrap();
                assert!(p > 0.0 && p <= 1.0, "{name} {key}: {p}");
            }
            assert!(found["decodable"].is_boolean());
        }
        let baseline: Vec<f64> = expected["random_baseline"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pair| pair["score"].as_f64().unwrap())
            .collect();
        assert_eq!(numbers(&got["random_baseline"]), baseline, "{name}");
        println!("{name}: sensitivities differ by {worst:.1e}, all scores compared: {certain}");
        assert!(worst < 1e-3, "{name}: {worst:e}");
    }
}

#[test]
fn other_families_predict_and_map_as_pytorch_does() {
    let place = Place::new();
    for case in
        ["family_cifar_resnet20", "family_kuangliu_resnet18", "family_lenet_300_100", "family_vgg11", "family_vgg11_bn"]
    {
        let expected = json(fixture(&format!("oracle/{case}/expected.json")));
        let file = |name: &str| fixture(&format!("oracle/{case}/{name}.safetensors"));
        let out = place.arg("out.safetensors");
        let common = format!("--checkpoint {} --images {}:images --out {out}", file("checkpoint"), file("inputs"));
        let stage = expected["stage"].as_str().map(|stage| format!("--stage {stage} --class {}", expected["class"]));
        succeeds(&words(&format!("predict {common} {}", stage.clone().unwrap_or_default())));
        let mut got = tensors(&out);
        match stage {
            Some(stage) => {
                succeeds(&words(&format!("cam {common} {stage}")));
                got.extend(tensors(&out));
            }
            None => {
                let error = fails(&words(&format!("cam {common} --class 0")));
                assert!(error.contains("--stage: the output of fc_layers.1"), "{error}");
                succeeds(&words(&format!("predict {common} --stage fc_layers.0 --class 1")));
                assert_eq!(tensors(&out)["activation"].dims(), [6, 32, 1, 1]);
            }
        }
        for (name, expected) in tensors(file("expected")) {
            let error = tensor_error(&got[&name], &expected);
            assert!(error < 1e-4, "{case} {name}: {error:e}");
        }
    }
}

/// The sum of `x · g` is how fast the logit moves as the image is stretched.
#[test]
fn methods_on_the_input_work_in_every_family() {
    let place = Place::new();
    let out = place.arg("out.safetensors");
    const STEP: f64 = 1e-3;
    for case in ["family_cifar_resnet20", "family_lenet_300_100", "family_vgg11", "family_vgg11_bn"] {
        let file = |name: &str| fixture(&format!("oracle/{case}/{name}.safetensors"));
        let (checkpoint, images) = (file("checkpoint"), tensors(file("inputs"))["images"].clone());
        let logits = |factor: f64| -> Vec<f64> {
            save(&place.path("stretched.safetensors"), &[("x", images.affine(factor, 0.0).unwrap())]);
            let stretched = place.arg("stretched.safetensors");
            succeeds(&words(&format!("predict --checkpoint {checkpoint} --images {stretched}:x --out {out}")));
            let logits = tensors(&out)["logits"].to_vec2::<f32>().unwrap();
            logits.iter().map(|row| f64::from(row[1])).collect()
        };
        let (more, less) = (logits(1.0 + STEP), logits(1.0 - STEP));
        let expected: Vec<f64> = more.iter().zip(less).map(|(more, less)| (more - less) / (2.0 * STEP)).collect();
        let common = format!("cam --checkpoint {checkpoint} --images {}:images --class 1 --out {out}", file("inputs"));
        succeeds(&words(&format!("{common} --method input-x-gradient")));
        let attribution = tensors(&out)["attribution"].clone();
        assert_eq!(attribution.dims(), images.dims());
        let rows = attribution.flatten_from(1).unwrap().to_vec2::<f32>().unwrap();
        let found: Vec<f64> = rows.iter().map(|row| row.iter().map(|&value| f64::from(value)).sum()).collect();
        let error = relative_error(&found, &expected);
        assert!(error < 0.02, "{case}: {error:e}");
        for method in ["gradient", "integrated-gradients --steps 2", "smooth-grad --steps 2"] {
            succeeds(&words(&format!("{common} --method {method}")));
        }
    }
}

/// Masks bear torchvision's names; what is left out may be named as the file does.
#[test]
fn layers_are_excluded_by_the_files_own_names_too() {
    let place = Place::new();
    let weights = fixture("oracle/family_kuangliu_resnet18/checkpoint.safetensors");
    let masks = |exclude: &str| {
        let out = place.arg("masks.safetensors");
        succeeds(&words(&format!("prune --weights {weights} --fraction 0.5 --exclude {exclude} --out {out}")));
        tensors(&out).into_keys().collect::<Vec<String>>()
    };
    let found = masks("linear,layer2.0.shortcut.0");
    assert_eq!(found, masks("fc.weight,layer2.0.downsample.0"));
    assert!(found.contains(&"mask/1/layer3.0.downsample.0.weight".to_owned()) && found.len() > 10);
}

#[test]
fn masks_equal_torch_nn_utils_prunes_bit_for_bit() {
    let place = Place::new();
    let oracle = tensors(fixture("oracle/prune.safetensors"));
    let names = ["a.weight", "b.weight", "c.weight"];
    let bare: Vec<(&str, Tensor)> =
        names.iter().map(|name| (*name, oracle[&format!("weight/{name}")].clone())).collect();
    // A bias among the weights is no weight.
    let bias = ("a.bias", Tensor::new(&[1e-9f32, 2e-9], &candle_core::Device::Cpu).unwrap());
    save(&place.path("weights.safetensors"), &[bare, vec![bias]].concat());
    let (weights, out) = (place.arg("weights.safetensors"), place.arg("masks.safetensors"));
    for scope in ["global", "layerwise"] {
        let line = format!("prune --weights {weights} --scope {scope} --fraction 0.2 --levels 2 --out {out}");
        succeeds(&words(&line));
        let masks = tensors(&out);
        assert_eq!(masks.len(), 6);
        for level in 1..=2 {
            for name in names {
                let expected = &oracle[&format!("{scope}/level{level}/{name}")];
                let mask = &masks[&format!("mask/{level}/{name}")];
                assert_eq!((mask.dtype(), mask.dims()), (DType::U8, expected.dims()));
                assert_eq!(values(&mask.to_dtype(DType::F32).unwrap()), values(expected), "{scope} {level} {name}");
            }
        }
    }
}
