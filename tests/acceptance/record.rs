//! `record`, and `drift` beside a record: the same numbers without the dense checkpoints.

use candle_core::Device;
use serde_json::Value;

use crate::support::{Place, fails, fixture, json, program, words};

const CHECKPOINT: &str = "oracle/resnet18_mnist/checkpoint.safetensors";
const INPUTS: &str = "oracle/resnet18_mnist/inputs.safetensors";

/// The oracle's checkpoint with its convolutions moved by some noise: another training, as far as this test cares.
fn retrained(place: &Place, name: &str, seed: u64) -> String {
    let mut tensors = candle_core::safetensors::load(fixture(CHECKPOINT), &Device::Cpu).unwrap();
    let mut names: Vec<String> = tensors.keys().filter(|name| name.contains("conv")).cloned().collect();
    names.sort();
    let mut state = seed;
    for name in names {
        let old = &tensors[&name];
        let values = old.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let moved: Vec<f32> = values
            .iter()
            .map(|value| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                value * (1.0 + 0.4 * ((state >> 40) as f32 / (1 << 23) as f32 - 1.0))
            })
            .collect();
        let shape = old.dims().to_vec();
        tensors.insert(name, candle_core::Tensor::from_vec(moved, shape, &Device::Cpu).unwrap());
    }
    let path = place.path(name);
    candle_core::safetensors::save(&tensors, &path).unwrap();
    path.display().to_string()
}

fn sets() -> String {
    let inputs = fixture(INPUTS);
    format!(
        "--images {inputs}:images --concept striped={inputs}:concept_striped --random {inputs}:random_00 {inputs}:random_01"
    )
}

fn outcome(line: &str) -> (Option<i32>, String) {
    let output = program(&words(line)).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

/// Without what needs the reference's weights.
fn but_layers(path: &str) -> Value {
    let mut report = json(path);
    for candidate in report["candidates"].as_array_mut().unwrap() {
        candidate["layers"] = Value::Null;
    }
    report
}

#[test]
fn a_record_stands_for_the_checkpoints_to_the_last_bit_and_what_changed_is_named() {
    let place = Place::new();
    let floor: Vec<String> = (0..3).map(|seed| retrained(&place, &format!("floor-{seed}.safetensors"), seed)).collect();
    let candidate = retrained(&place, "candidate.safetensors", 9);
    let (dense, floor, sets) = (fixture(CHECKPOINT), floor.join(" "), sets());
    let (direct, recorded, record) = (place.arg("direct.json"), place.arg("recorded.json"), place.arg("dense.json"));
    let (code, text) = outcome(&format!(
        "drift --reference {dense} --candidate {candidate} --floor {floor} {sets} --format json --out {direct}"
    ));
    assert!(matches!(code, Some(0 | 1)), "{text}");
    let recording = format!("record --checkpoint {dense} --floor {floor} {sets} --out {record}");
    let (code, text) = outcome(&recording);
    assert_eq!(code, Some(0), "{text}");
    // The record names its images: nothing else has to be said.
    let from_record = format!("drift --reference {record} --candidate {candidate} --format json --out {recorded}");
    assert_eq!(outcome(&from_record).0, outcome(&from_record).0);
    let (direct, found) = (but_layers(&direct), but_layers(&recorded));
    assert_eq!(direct, found);
    assert_eq!(found["candidates"][0]["answers"].as_array().unwrap().len(), 2);
    assert!(!found["candidates"][0]["concepts"].as_array().unwrap().is_empty());

    // Recorded again it says the same; with another reference what changed is told, and written only when accepted.
    let (code, text) = outcome(&recording);
    assert!(code == Some(0) && text.contains("unchanged"), "{text}");
    let before = std::fs::read(&record).unwrap();
    let other = recording.replace(&format!("--checkpoint {dense}"), &format!("--checkpoint {candidate}"));
    let (code, text) = outcome(&other);
    assert!(code == Some(1) && text.contains("reference: weights") && text.contains("maps of the reference"), "{text}");
    assert_eq!(std::fs::read(&record).unwrap(), before);

    // Another image set, stage or list of concepts is named.
    let inputs = fixture(INPUTS);
    for (more, named) in [
        (format!("--images {inputs}:random_00"), "--images"),
        ("--stage layer2".into(), "--stage: layer2"),
        ("--classes 0".into(), "--classes"),
        (format!("--concept other={inputs}:concept_striped"), "--concept: other"),
        (format!("--concept striped={inputs}:random_01"), "--concept striped"),
        (format!("--random {inputs}:random_01 {inputs}:random_00"), "--random"),
        (format!("--floor {candidate}"), "--floor"),
    ] {
        let error = fails(&words(&format!("drift --reference {record} --candidate {candidate} {more}")));
        assert!(error.contains(named), "{named}: {error}");
    }
    let (code, text) = outcome(&format!("{other} --accept"));
    assert_eq!(code, Some(0), "{text}");
    assert_ne!(std::fs::read(&record).unwrap(), before);
}

#[test]
fn damaged_and_foreign_records_are_refused_in_a_line() {
    let place = Place::new();
    let (dense, sets, record) = (fixture(CHECKPOINT), sets(), place.arg("dense.json"));
    let floor = retrained(&place, "floor.safetensors", 1);
    assert_eq!(outcome(&format!("record --checkpoint {dense} --floor {floor} {sets} --out {record}")).0, Some(0));
    let drift = |record: &str| fails(&words(&format!("drift --reference {record} --candidate {dense}")));
    let (json_bytes, tensors) =
        (std::fs::read(&record).unwrap(), std::fs::read(place.path("dense.safetensors")).unwrap());
    // Half of it; another JSON; another version; tensors with one byte changed; one word edited; tensors gone.
    let write = |name: &str, json: &[u8], tensors: Option<&[u8]>| {
        if let Some(tensors) = tensors {
            place.write(&format!("{name}.safetensors"), tensors);
        }
        place.write(&format!("{name}.json"), json)
    };
    let text = String::from_utf8(json_bytes.clone()).unwrap();
    assert!(text.contains("\"significant\": true"));
    let mut flipped = tensors.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for (name, json, tensors, named) in [
        ("half", &json_bytes[..json_bytes.len() / 2], Some(&tensors[..]), "half.json"),
        ("foreign", b"{\"a\": 1}", Some(&tensors[..]), "no recorded reference"),
        ("future", text.replace("\"version\": 1", "\"version\": 7").as_bytes(), Some(&tensors[..]), "version 7"),
        ("flipped", &json_bytes[..], Some(&flipped[..]), "flipped.safetensors"),
        (
            "edited",
            text.replacen("\"significant\": true", "\"significant\": false", 1).as_bytes(),
            Some(&tensors[..]),
            "digest",
        ),
        ("alone", &json_bytes[..], None, "alone.safetensors"),
        (
            "empty",
            text.replace(&text[text.find("\"networks\"").unwrap()..], "\"networks\": []}").as_bytes(),
            Some(&tensors[..]),
            "damaged",
        ),
    ] {
        let error = drift(&write(name, json, tensors));
        assert!(error.contains(named), "{name}: {error}");
    }
    // An input is not written over.
    let error = fails(&words(&format!("record --checkpoint {floor} {sets} --out {}", place.arg("floor.json"))));
    assert!(error.contains("floor.safetensors"), "{error}");
    // A file that is no record is not replaced.
    let error =
        fails(&words(&format!("record --checkpoint {dense} {sets} --out {}", place.write("mine.json", b"[1]"))));
    assert!(error.contains("mine.json"), "{error}");
    // Nor what lies where its tensors would go.
    let out = place.arg("other.json");
    place.write("other.safetensors", b"mine");
    let error = fails(&words(&format!("record --checkpoint {dense} {sets} --out {out}")));
    assert!(error.contains("other.safetensors") && error.contains("--accept"), "{error}");
    assert_eq!(std::fs::read(place.path("other.safetensors")).unwrap(), b"mine");
    assert_eq!(outcome(&format!("record --checkpoint {dense} {sets} --accept --out {out}")).0, Some(0));
}

/// What `drift` would refuse is not recorded, nor compared with a record that is there.
#[test]
fn a_floor_that_no_gate_takes_is_not_recorded() {
    let place = Place::new();
    let (dense, sets) = (fixture(CHECKPOINT), sets());
    let floor = retrained(&place, "floor.safetensors", 1);
    let other = fixture("oracle/resnet18_imagenet_stem/checkpoint.safetensors");
    let recording = |floor: &str, name: &str| {
        format!("record --checkpoint {dense} --floor {floor} {sets} --out {}", place.arg(name))
    };
    assert_eq!(outcome(&recording(&floor, "good.json")).0, Some(0));
    for bad in [format!("{floor} {floor}"), format!("{floor} {dense}"), format!("{floor} {other}")] {
        for name in ["new.json", "good.json"] {
            fails(&words(&recording(&bad, name)));
        }
    }
    assert_eq!(place.names(), ["floor.safetensors", "good.json", "good.safetensors"]);
}

#[test]
fn pages_and_scanners_get_their_forms() {
    let place = Place::new();
    let (dense, candidate) = (fixture(CHECKPOINT), retrained(&place, "candidate %1.safetensors", 9));
    let line = |format: &str| {
        let mut all = words(&format!("drift --reference {dense} {} --max-drift 0.01 --format {format}", sets()));
        all.extend(["--candidate".to_owned(), candidate.clone()]);
        let output = program(&all).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stdout).unwrap()
    };
    let sarif: Value = serde_json::from_str(&line("sarif")).unwrap();
    let result = &sarif["runs"][0]["results"][0];
    assert_eq!((result["ruleId"].as_str(), result["level"].as_str()), (Some("drift/pixels"), Some("error")));
    let uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].as_str().unwrap();
    assert!(uri.ends_with("candidate%20%251.safetensors"), "{uri}");
    let page = line("html");
    assert!(page.contains("<!DOCTYPE html>") && page.contains("data:image/png;base64,") && page.contains("striped"));
    assert_eq!(page.matches("<figcaption>").count(), 12);
    let markdown = line("markdown");
    assert!(markdown.contains("✗ failed"), "{markdown}");
    // Several forms of one reading are the same.
    let (first, second) = (place.arg("drift.html"), place.arg("drift.md"));
    assert!(line(&format!("github --also html={first} markdown={second}")).starts_with("::error "));
    let read = |path: &str| std::fs::read_to_string(path).unwrap();
    assert!(read(&first) == page && read(&second) == markdown);
    let error = fails(&words(&format!("drift --reference {dense} --candidate {dense} --also html {}", sets())));
    assert!(error.contains("--also") && error.contains("FORMAT=FILE"), "{error}");
}

/// Maps that `cam` wrote give what `drift` finds from the checkpoints.
#[test]
fn maps_as_arrays_give_the_numbers_of_their_checkpoints() {
    let place = Place::new();
    let (images, dense) = (format!("{}:images", fixture(INPUTS)), fixture(CHECKPOINT));
    let names = ["reference", "candidate", "first", "second", "third"];
    let mut checkpoints = vec![dense];
    checkpoints.extend((1..5).map(|seed| retrained(&place, &format!("{}.pth", names[seed]), seed as u64)));
    let classes = place.arg("reference-classes.npy");
    let logits = crate::support::tensors(fixture("oracle/resnet18_mnist/expected.safetensors"))["logits"].clone();
    let predicted = logits.argmax(1).unwrap().to_dtype(candle_core::DType::I64).unwrap();
    predicted.write_npy(&classes).unwrap();
    for (name, checkpoint) in names.iter().zip(&checkpoints) {
        let out = place.arg(&format!("{name}.cam.safetensors"));
        // Every network explains the class that the reference predicts.
        let line = format!(
            "cam --checkpoint {checkpoint} --images {images} --labels {classes} --class true --stage layer3 --out {out}"
        );
        assert_eq!(outcome(&line).0, Some(0), "{}", outcome(&line).1);
    }
    let maps = |name: &str| format!("{}:cam_raw", place.arg(&format!("{name}.cam.safetensors")));
    let (direct, arrays) = (place.arg("direct.json"), place.arg("arrays.json"));
    let (candidate, floor) = (&checkpoints[1], checkpoints[2..].join(" "));
    let (reference, of_floor) =
        (&checkpoints[0], names[2..].iter().map(|name| maps(name)).collect::<Vec<_>>().join(" "));
    outcome(&format!(
        "drift --reference {reference} --candidate {candidate} --floor {floor} --images {images} --stage layer3 --format json --out {direct}"
    ));
    let line = format!(
        "drift --reference-maps {} --candidate-maps {} --floor-maps {of_floor} --format json --out {arrays}",
        maps("reference"),
        maps("candidate")
    );
    assert!(matches!(outcome(&line).0, Some(0 | 1)), "{}", outcome(&line).1);
    let (direct, found) = (&json(&direct)["candidates"][0], &json(&arrays)["candidates"][0]);
    for part in ["answers", "measures", "counted", "degenerate", "gate"] {
        assert_eq!(direct[part], found[part], "{part}");
    }
    // What does not fit together is named.
    let upsampled = format!("{}:cam_upsampled", place.arg("candidate.cam.safetensors"));
    for (more, named) in [
        (format!("--candidate-maps {upsampled}"), "its maps are"),
        (format!("--candidate-maps {classes}"), "--candidate-maps"),
        (format!("--candidate-maps {} --labels {classes}", maps("candidate")), "predictions"),
        (format!("--candidate-maps {} --predictions {classes}", maps("candidate")), "--predictions: 1 given"),
        (format!("--candidate-maps {} --candidate {candidate}", maps("candidate")), "--candidate"),
    ] {
        let error = fails(&words(&format!("drift --reference-maps {} {more} --max-drift 1", maps("reference"))));
        assert!(error.contains(named), "{named}: {error}");
    }
}
