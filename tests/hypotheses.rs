//! Whole studies: mild pruning keeps winning tickets and their explanations, extreme pruning loses
//! both. Nothing here sets an outcome: plans go in, verdicts come out, and each test prints its
//! table. docs/lab-notes.md says how these plans were found and what else was tried.

use std::path::Path;

use ticketlens::plan::Plan;
use ticketlens::progress::Silent;
use ticketlens::records::{Call, Outcome, Store, StudyRecord, round_ids};
use ticketlens::run::Setup;
use ticketlens::study::run;

const DIGITS: &[(&str, &str)] = &[("data.train", "3000")];
/// Class by the background's texture: its evidence covers the same pixels whether a network finds
/// the one value or misses the other. By colour or shape it does not: each seed finds one of the
/// two values on the object and takes its absence, anywhere, for the other. The noise makes a task
/// of it that a few weights cannot do; the head is kept because it is what extreme pruning cuts off
/// first, and a network without one has no maps.
const PLANTED: &[(&str, &str)] = &[
    ("data.source", "planted"),
    ("data.task", "classes"),
    ("data.planted", "{ side = 32, channels = 3, used = [\"texture\"], noise = 50 }"),
    ("data.train", "1500"),
    ("prune.exclude", "[\"fc\"]"),
];
/// One pruning: 81 % of the weights are left.
const MILD: &[(&str, &str)] = &[("prune.fraction", "0.19")];
/// One pruning far below the critical density of these networks: 0.5 % for digits, 0.1 % for the easier planted images.
const EXTREME_DIGITS: &[(&str, &str)] = &[("prune.fraction", "0.995")];
const EXTREME_PLANTED: &[(&str, &str)] = &[("prune.fraction", "0.999")];

fn plan(parts: &[&[(&str, &str)]]) -> Plan {
    // Wider margins than `quick`'s, so that five replicates are enough.
    let small: &[(&str, &str)] = &[
        ("replicates", "5"),
        ("floor.twins", "2"),
        ("prune.rounds", "1"),
        ("train.epochs", "3"),
        ("train.batch_size", "32"),
        ("explain.stages", "[\"layer4\"]"),
        ("data.validation", "800"),
        ("data.test", "1000"),
        ("explain.cam_images", "200"),
        ("explain.class_images", "10"),
        ("explain.images_per_set", "8"),
        ("explain.random_sets", "19"),
        ("explain.partners", "4"),
        ("statistics.permutations", "999"),
        ("statistics.bootstrap", "399"),
        ("verdict.accuracy_margin", "0.03"),
        ("verdict.drift_margin", "0.5"),
        ("verdict.confidence", "0.9"),
    ];
    let all: Vec<(String, String)> = small
        .iter()
        .chain(parts.iter().copied().flatten())
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    Plan::preset("quick", &all).unwrap()
}

/// Runs the study and prints its table.
fn study(name: &str, plan: &Plan, folder: &Path) -> StudyRecord {
    let study = run(plan, folder, &Silent).unwrap();
    println!("\n{name}: {}", study.answer);
    for record in &study.densities {
        println!("  {:>6.2} %: {:?}: {}", 100.0 * record.density, record.call, record.reason);
    }
    for check in &study.sanity {
        println!(
            "  random weights, replicate {}: {:?} × retraining, {:?}",
            check.replicate, check.ratio, check.destroyed
        );
    }
    study
}

/// Begins the run of a plan in `folder` with the dense networks of another that differs in its pruning alone.
fn take_dense_networks_over(plan: &Plan, folder: &Path, from: &Path) {
    let mut store = Store::open(folder, plan).unwrap();
    let setup = Setup::new(plan).unwrap();
    let (shape, pixels) = setup.cam_pixels().unwrap();
    store.begin(&setup.manifest(plan).unwrap(), (&shape, &pixels), false).unwrap();
    let from = Store::existing(from).unwrap();
    for id in round_ids(plan).iter().filter(|id| id.round == 0) {
        assert!(store.take_over(&from, id).unwrap(), "{id:?}");
    }
}

/// At the mild density A is supported, B not, and random weights move the maps further than
/// retraining; at the extreme one B is, A not.
fn mild_pruning_supports_a_and_extreme_pruning_b(name: &str, data: &[(&str, &str)], extreme: &[(&str, &str)]) {
    let (mild, extreme) = (plan(&[data, MILD]), plan(&[data, extreme]));
    let folders = tempfile::tempdir().unwrap();
    let (mild_folder, extreme_folder) = (folders.path().join("mild"), folders.path().join("extreme"));
    let found = study(&format!("{name}, mild pruning"), &mild, &mild_folder);
    assert_eq!(found.hypothesis_a.outcome, Outcome::Supported, "{}", found.hypothesis_a.reason);
    assert_ne!(found.hypothesis_b.outcome, Outcome::Supported, "{}", found.hypothesis_b.reason);
    assert_eq!(found.densities[1].call, Call::A);
    assert_eq!(found.sanity.len(), mild.replicates);
    for check in &found.sanity {
        assert_eq!(check.destroyed, Some(true), "random weights: {check:?}");
    }
    take_dense_networks_over(&extreme, &extreme_folder, &mild_folder);
    let found = study(&format!("{name}, extreme pruning"), &extreme, &extreme_folder);
    assert_ne!(found.hypothesis_a.outcome, Outcome::Supported, "{}", found.hypothesis_a.reason);
    assert_eq!(found.hypothesis_b.outcome, Outcome::Supported, "{}", found.hypothesis_b.reason);
    assert_eq!(found.densities[1].call, Call::B);
}

#[test]
fn mild_pruning_of_digits_supports_a_and_extreme_pruning_b() {
    mild_pruning_supports_a_and_extreme_pruning_b("digits", DIGITS, EXTREME_DIGITS);
}

#[test]
fn mild_pruning_of_planted_images_supports_a_and_extreme_pruning_b() {
    mild_pruning_supports_a_and_extreme_pruning_b("planted", PLANTED, EXTREME_PLANTED);
}
