//! `drift` as a gate: what passes, what trips and is named, what is refused.

use candle_core::{Device, Tensor};

use crate::support::{Place, fails, fixture, program};

const CHECKPOINT: &str = "oracle/resnet18_mnist/checkpoint.safetensors";

/// The oracle's checkpoint with one tensor replaced by noise of the same scale.
fn randomised(place: &Place, name: &str, layer: &str, seed: u64) -> String {
    let mut tensors = candle_core::safetensors::load(fixture(CHECKPOINT), &Device::Cpu).unwrap();
    let old = tensors[layer].clone();
    let values = old.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let scale = values.iter().map(|v| v.abs()).sum::<f32>() / values.len() as f32;
    let mut state = seed;
    let noise: Vec<f32> = values
        .iter()
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 40) as f32 / (1 << 23) as f32 - 1.0) * 2.0 * scale
        })
        .collect();
    tensors.insert(layer.to_owned(), Tensor::from_vec(noise, old.dims(), &Device::Cpu).unwrap());
    let path = place.path(name);
    candle_core::safetensors::save(&tensors, &path).unwrap();
    path.display().to_string()
}

/// The oracle's checkpoint with every weight moved a little: another training run, as far as this test cares.
fn nudged(place: &Place, name: &str) -> String {
    let mut tensors = candle_core::safetensors::load(fixture(CHECKPOINT), &Device::Cpu).unwrap();
    for (name, tensor) in &mut tensors {
        if name.contains("conv") {
            *tensor = (tensor.clone() + (tensor.abs().unwrap() * 0.02).unwrap()).unwrap();
        }
    }
    let path = place.path(name);
    candle_core::safetensors::save(&tensors, &path).unwrap();
    path.display().to_string()
}

fn arguments(candidate: &str, more: &[&str]) -> Vec<String> {
    let images = fixture("oracle/resnet18_mnist/inputs.safetensors:images");
    let mut all: Vec<String> =
        ["drift", "--reference", &fixture(CHECKPOINT), "--candidate", candidate, "--images", &images]
            .map(str::to_owned)
            .to_vec();
    all.extend(more.iter().map(|word| (*word).to_owned()));
    all
}

fn outcome(arguments: &[String]) -> (Option<i32>, String) {
    let output = program(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code(), text + &String::from_utf8_lossy(&output.stderr))
}

#[test]
fn an_identical_checkpoint_passes_and_a_randomised_layer_trips_and_is_named() {
    let place = Place::new();
    let (code, text) = outcome(&arguments(&fixture(CHECKPOINT), &["--max-drift", "0.05"]));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("passed"), "{text}");
    let layer = "layer2.0.conv1.weight";
    let bad = randomised(&place, "bad.safetensors", layer, 7);
    for format in ["table", "github", "junit", "markdown", "json"] {
        let (code, text) = outcome(&arguments(&bad, &["--max-drift", "0.05", "--format", format]));
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains(layer), "{format}: {text}");
    }
}

#[test]
fn a_floor_sets_the_unit_and_without_one_there_is_no_gate() {
    let place = Place::new();
    let floor = nudged(&place, "floor.safetensors");
    let bad = randomised(&place, "bad.safetensors", "layer2.0.conv1.weight", 7);
    let (code, text) = outcome(&arguments(&bad, &["--floor", &floor]));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("floor"), "{text}");
    let (code, text) = outcome(&arguments(&floor, &["--floor", &floor]));
    assert_eq!(code, Some(0), "the floor itself is one floor unit away: {text}");
    let (code, text) = outcome(&arguments(&bad, &[]));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("no gate"), "{text}");
}

/// A network whose head is all zero has no gradient, so no map and no drift; that is no pass. Nor
/// is a pass among candidates.
#[test]
fn what_cannot_be_shown_to_be_small_trips() {
    let place = Place::new();
    let mut tensors = candle_core::safetensors::load(fixture(CHECKPOINT), &Device::Cpu).unwrap();
    for name in ["fc.weight", "fc.bias"] {
        let zero = tensors[name].zeros_like().unwrap();
        tensors.insert(name.into(), zero);
    }
    candle_core::safetensors::save(&tensors, place.path("blind.safetensors")).unwrap();
    let blind = place.arg("blind.safetensors");
    let (code, text) = outcome(&arguments(&blind, &["--max-drift", "100"]));
    assert_eq!(code, Some(1), "{text}");
    let (code, text) = outcome(&arguments(&fixture(CHECKPOINT), &["--max-drift", "100", "--candidate", &blind]));
    assert_eq!(code, Some(1), "one of two trips: {text}");
}

/// Only images that both networks classify right count: with labels that are all wrong none does,
/// and no drift is known.
#[test]
fn labels_choose_the_images_that_count() {
    let place = Place::new();
    let expected = fixture("oracle/resnet18_mnist/expected.safetensors");
    let logits = candle_core::safetensors::load(expected, &Device::Cpu).unwrap()["logits"].to_vec2::<f32>().unwrap();
    let right: Vec<usize> = logits.iter().map(|row| usize::from(row[1] > row[0])).collect();
    let labels = |name: &str, of: &dyn Fn(usize) -> usize| {
        let lines: String = right.iter().map(|&class| format!("{}\n", of(class))).collect();
        place.write(name, lines.as_bytes())
    };
    let same = fixture(CHECKPOINT);
    let right_labels = labels("right.txt", &|class| class);
    let (code, text) = outcome(&arguments(&same, &["--max-drift", "0.05", "--labels", &right_labels]));
    assert_eq!(code, Some(0), "{text}");
    let wrong_labels = labels("wrong.txt", &|class| 1 - class);
    let (code, text) = outcome(&arguments(&same, &["--max-drift", "0.05", "--labels", &wrong_labels]));
    assert_eq!(code, Some(1), "{text}");
}

#[test]
fn concepts_and_bad_input() {
    let place = Place::new();
    let of = |key: &str| fixture(&format!("oracle/resnet18_mnist/inputs.safetensors:{key}"));
    let concept = format!("striped={}", of("concept_striped"));
    let (first, second) = (of("random_00"), of("random_01"));
    let bad = randomised(&place, "bad.safetensors", "layer2.0.conv1.weight", 7);
    let with = ["--concept", concept.as_str(), "--random", first.as_str(), second.as_str(), "--max-drift", "0.05"];
    let (code, text) = outcome(&arguments(&bad, &with));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("most moved concept: striped"), "{text}");
    let other = fixture("oracle/resnet50_birds/checkpoint.safetensors");
    for (candidate, more, named) in [
        ("nothing.safetensors", vec![], "nothing.safetensors"),
        (other.as_str(), vec![], "classes"),
        (bad.as_str(), vec!["--stage", "layer9"], "layer9"),
        (bad.as_str(), vec!["--max-drift", "-1"], "--max-drift"),
        (bad.as_str(), vec!["--concept", concept.as_str(), "--random", first.as_str()], "--random"),
    ] {
        let error = fails(&arguments(candidate, &more));
        assert!(error.contains(named), "{named}: {error}");
    }
}
