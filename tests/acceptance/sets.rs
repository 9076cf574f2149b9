//! Sets of a concept test: the same content twice, and the order in which random sets are given.

use candle_core::Tensor;

use crate::support::{Place, fixture, json, program, save, tensors, words};

const CHECKPOINT: &str = "oracle/resnet18_mnist/checkpoint.safetensors";
const INPUTS: &str = "oracle/resnet18_mnist/inputs.safetensors";

/// Runs `tcav` on sets by name; the record, and what was warned of.
fn tcav(place: &Place, concept: &str, random: &[String]) -> (serde_json::Value, String) {
    let out = place.arg("tcav.json");
    let line = format!(
        "tcav --checkpoint {} --images {}:images --class 0 --alpha 0.3 --permutations 199 --resamples 50 --concept c={concept} \
         --random {} --json {out}",
        fixture(CHECKPOINT),
        fixture(INPUTS),
        random.join(" ")
    );
    let output = program(&words(&line)).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    (json(out), said)
}

fn random() -> Vec<String> {
    (0..6).map(|set| format!("{}:random_{set:02}", fixture(INPUTS))).collect()
}

#[test]
fn a_random_set_that_holds_the_concepts_images_is_warned_of() {
    let place = Place::new();
    let concept = tensors(fixture(INPUTS))["concept_striped"].clone();
    save(&place.path("renamed.safetensors"), &[("images", concept)]);
    let striped = format!("{}:concept_striped", fixture(INPUTS));
    let (record, said) = tcav(&place, &striped, &random());
    assert!(said.is_empty() && record["copies"].as_array().unwrap().is_empty(), "{said}");
    let mut leak = random();
    leak[2] = format!("{}:images", place.arg("renamed.safetensors"));
    let (record, said) = tcav(&place, &striped, &leak);
    assert!(said.contains("renamed.safetensors") && said.contains("20 identical images"), "{said}");
    assert_eq!(record["copies"].as_array().unwrap().len(), 1);
}

/// Two meaningless images, each five times: held-out folds must not see copies of what they were fitted to.
#[test]
fn copies_stay_in_one_fold() {
    let place = Place::new();
    let two = tensors(fixture(INPUTS))["random_07"].narrow(0, 0, 2).unwrap();
    let copied = Tensor::cat(&[&two, &two, &two, &two, &two], 0).unwrap();
    save(&place.path("copied.safetensors"), &[("images", copied)]);
    let (record, said) = tcav(&place, &format!("{}:images", place.arg("copied.safetensors")), &random());
    assert!(said.contains("10 images, but only 2 different"), "{said}");
    let concept = &record["concepts"]["c"];
    assert_eq!(concept["decodable"].as_bool(), Some(false), "{}", concept["heldout_accuracy"]);
}

#[test]
fn the_order_of_random_sets_changes_no_number() {
    let place = Place::new();
    let concept = format!("{}:concept_striped", fixture(INPUTS));
    let (forward, _) = tcav(&place, &concept, &random());
    let (backward, _) = tcav(&place, &concept, &random().into_iter().rev().collect::<Vec<_>>());
    for key in ["random_baseline", "smallest_p", "cavs"] {
        assert_eq!(forward[key], backward[key], "{key}");
    }
    let (a, b) = (&forward["concepts"]["c"], &backward["concepts"]["c"]);
    for (key, value) in a.as_object().unwrap().iter().filter(|(key, _)| *key != "runs") {
        assert_eq!(*value, b[key], "{key}");
    }
    // Runs stand under the numbers of their sets as given.
    let runs = |record: &serde_json::Value| record["runs"].as_array().unwrap().clone();
    let (mut a, b) = (runs(a), runs(b));
    a.reverse();
    for (set, (mut one, other)) in a.into_iter().zip(b).enumerate() {
        assert_eq!((one["random"].as_u64(), other["random"].as_u64()), (Some(5 - set as u64), Some(set as u64)));
        one["random"] = other["random"].clone();
        assert_eq!(one, other);
    }
}
