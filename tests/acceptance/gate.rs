//! The gate: how many images it rests on, what it says of candidates, and masks.

use candle_core::{Device, Tensor};

use crate::support::{Place, fails, fixture, json, program, tensors, words};

const CHECKPOINT: &str = "oracle/resnet18_mnist/checkpoint.safetensors";
const INPUTS: &str = "oracle/resnet18_mnist/inputs.safetensors";

fn drift(candidate: &str, more: &str) -> (Option<i32>, String, String) {
    let images = format!("{}:images", fixture(INPUTS));
    let line = format!("drift --reference {} --candidate {candidate} --images {images} {more}", fixture(CHECKPOINT));
    let output = program(&words(&line)).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Labels that are right for the first `right` of the images and wrong for the rest.
fn labels(place: &Place, right: usize) -> String {
    let expected = tensors(fixture("oracle/resnet18_mnist/expected.safetensors"));
    let rows = expected["logits"].to_vec2::<f32>().unwrap();
    let of = |(image, row): (usize, &Vec<f32>)| {
        let predicted = usize::from(row[1] > row[0]);
        format!("{}\n", if image < right { predicted } else { 1 - predicted })
    };
    let text: String = rows.iter().enumerate().map(of).collect();
    place.write(&format!("labels-{right}.txt"), text.as_bytes())
}

/// Nothing has moved, but hardly any image says so.
#[test]
fn too_few_images_trip_the_gate_and_every_format_says_why() {
    let place = Place::new();
    let few = labels(&place, 1);
    for format in ["table", "json", "junit", "github", "markdown"] {
        let (code, text, _) =
            drift(&fixture(CHECKPOINT), &format!("--max-drift 0.05 --labels {few} --format {format}"));
        assert_eq!(code, Some(1), "{format}: {text}");
        match format {
            "json" => assert!(text.contains("\"misclassified\": 23") && text.contains("\"counted\": 1")),
            _ => assert!(text.contains("only 1 of 24 images count (23 misclassified"), "{format}: {text}"),
        }
        let (code, text, _) = drift(
            &fixture(CHECKPOINT),
            &format!("--max-drift 0.05 --labels {few} --format {format} --min-images 0.04"),
        );
        assert_eq!(code, Some(0), "{format}: {text}");
        assert!(format == "json" || text.contains("1 of 24 images count"), "{format}: {text}");
    }
    // Half of them is enough by default, one less is not.
    for (right, expected) in [(12, 0), (11, 1)] {
        let (code, text, _) =
            drift(&fixture(CHECKPOINT), &format!("--max-drift 0.05 --labels {}", labels(&place, right)));
        assert_eq!(code, Some(expected), "{text}");
    }
    // None: the drift is undefined, and that has a reason.
    let (code, text, _) =
        drift(&fixture(CHECKPOINT), &format!("--max-drift 0.05 --min-images 0 --labels {}", labels(&place, 0)));
    assert_eq!(code, Some(1));
    assert!(text.contains("is undefined; no image counts"), "{text}");
    let images = format!("{}:images", fixture(INPUTS));
    let line = format!("drift --reference {0} --candidate {0} --images {images} --min-images 1.5", fixture(CHECKPOINT));
    assert!(fails(&words(&line)).contains("--min-images"));
}

#[test]
fn density_and_accuracy_are_told_and_a_dense_candidate_is_warned_of() {
    let place = Place::new();
    let mask = place.arg("mask.safetensors");
    let line = format!("prune --weights {} --fraction 0.5 --levels 2 --exclude fc --out {mask}", fixture(CHECKPOINT));
    assert!(program(&words(&line)).output().unwrap().status.success());
    let labels = labels(&place, 24);
    for format in ["table", "junit", "github", "markdown"] {
        let (_, text, warned) =
            drift(&fixture(CHECKPOINT), &format!("--max-drift 2 --labels {labels} --format {format}"));
        // GitHub's commands escape the sign.
        assert!(text.replace("%25", "%").contains("density 100.0 %, accuracy 100.0 %"), "{format}: {text}");
        assert!(warned.contains("is as dense as the reference"), "{warned}");
    }
    let (_, text, warned) = drift(&fixture(CHECKPOINT), &format!("--max-drift 2 --mask {mask} --format json"));
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    let density = report["candidates"][0]["density"].as_f64().unwrap();
    assert!((density - 0.25).abs() < 0.01 && report["density"] == 1.0, "{density}");
    assert!(!warned.contains("as dense"), "{warned}");
    // The last level of the file is what is applied: by hand it gives the same numbers.
    let masks = tensors(&mask);
    let mut pruned = candle_core::safetensors::load(fixture(CHECKPOINT), &Device::Cpu).unwrap();
    for (name, tensor) in &mut pruned {
        if let Some(mask) = masks.get(&format!("mask/2/{name}")) {
            *tensor = tensor.mul(&mask.to_dtype(tensor.dtype()).unwrap()).unwrap();
        }
    }
    candle_core::safetensors::save(&pruned, place.path("pruned.safetensors")).unwrap();
    let out = place.arg("by-hand.json");
    drift(&place.arg("pruned.safetensors"), &format!("--max-drift 2 --format json --out {out}"));
    assert_eq!(json(&out)["candidates"][0]["measures"], report["candidates"][0]["measures"]);
    // A mask of something else.
    let other = Tensor::ones((2, 2), candle_core::DType::U8, &Device::Cpu).unwrap();
    crate::support::save(&place.path("other.safetensors"), &[("mask/1/nothing.weight", other)]);
    let (code, _, error) = drift(&fixture(CHECKPOINT), &format!("--mask {}", place.arg("other.safetensors")));
    assert_eq!(code, Some(2));
    assert!(error.contains("nothing.weight"), "{error}");
}

#[test]
fn what_is_required_and_what_is_undecided_are_flags() {
    let place = Place::new();
    let image = fixture(INPUTS);
    let labels = labels(&place, 24);
    for (more, named) in [
        ("--require pixels", "pixels are required"),
        ("--require accuracy --max-drift 1", "accuracy is required"),
        ("--require concepts --max-drift 1", "concepts are required"),
        ("--require colours", "--require"),
        ("--classes 7 --max-drift 1", "--classes"),
    ] {
        let sets = format!("--concept s={image}:concept_striped --random {image}:random_00 {image}:random_01");
        let more = if named == "--classes" { format!("{more} {sets}") } else { more.to_owned() };
        let (code, _, error) = drift(&fixture(CHECKPOINT), &more);
        assert!(code == Some(2) && error.contains(named) && error.lines().count() == 1, "{named}: {error}");
    }
    // With 24 images the accuracy of the same network is undecided, and only that is asked.
    for (on_undecided, code) in [("pass", Some(0)), ("fail", Some(1))] {
        let more = format!("--labels {labels} --require accuracy --on-undecided {on_undecided}");
        let (found, text, _) = drift(&fixture(CHECKPOINT), &more);
        assert_eq!(found, code, "{text}");
        assert!(text.contains("accuracy undecided"), "{text}");
    }
}
