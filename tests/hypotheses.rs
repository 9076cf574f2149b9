//! Whole studies: mild pruning keeps winning tickets and their explanations, extreme pruning loses
//! both. Nothing here sets an outcome: plans go in, verdicts come out, and each test prints its table. docs/lab-notes.md says how these
//! plans were found and what else was tried.

use ticketlens::plan::Plan;
use ticketlens::progress::Silent;
use ticketlens::records::{Call, Outcome, StudyRecord};
use ticketlens::study::run;

const DIGITS: &[(&str, &str)] = &[("data.train", "3000")];
/// Class by the background's texture: its evidence covers the same pixels whether a network finds the one value or misses the other. By colour
/// or shape it does not: each seed finds one of the two values on the object and takes its absence, anywhere, for the other. The noise makes a
/// task of it that a few weights cannot do; the head is kept because it is what extreme pruning cuts off first, and a network without one has
/// no maps.
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
fn study(name: &str, plan: &Plan) -> StudyRecord {
    let folder = tempfile::tempdir().unwrap();
    let study = run(plan, folder.path(), &Silent).unwrap();
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

/// A supported at the mild density, B not; random weights move the maps further than retraining.
fn mild_pruning_supports_a(name: &str, data: &[(&str, &str)]) {
    let plan = plan(&[data, MILD]);
    let study = study(&format!("{name}, mild pruning"), &plan);
    assert_eq!(study.hypothesis_a.outcome, Outcome::Supported, "{}", study.hypothesis_a.reason);
    assert_ne!(study.hypothesis_b.outcome, Outcome::Supported, "{}", study.hypothesis_b.reason);
    assert_eq!(study.densities[1].call, Call::A);
    assert_eq!(study.sanity.len(), plan.replicates);
    for check in &study.sanity {
        assert_eq!(check.destroyed, Some(true), "random weights: {check:?}");
    }
}

/// B supported at the extreme density, A not.
fn extreme_pruning_supports_b(name: &str, data: &[(&str, &str)], extreme: &[(&str, &str)]) {
    let study = study(&format!("{name}, extreme pruning"), &plan(&[data, extreme]));
    assert_ne!(study.hypothesis_a.outcome, Outcome::Supported, "{}", study.hypothesis_a.reason);
    assert_eq!(study.hypothesis_b.outcome, Outcome::Supported, "{}", study.hypothesis_b.reason);
    assert_eq!(study.densities[1].call, Call::B);
}

#[test]
fn mild_pruning_of_digits_supports_a() {
    mild_pruning_supports_a("digits", DIGITS);
}

#[test]
fn extreme_pruning_of_digits_supports_b() {
    extreme_pruning_supports_b("digits", DIGITS, EXTREME_DIGITS);
}

#[test]
fn mild_pruning_of_planted_images_supports_a() {
    mild_pruning_supports_a("planted", PLANTED);
}

#[test]
fn extreme_pruning_of_planted_images_supports_b() {
    extreme_pruning_supports_b("planted", PLANTED, EXTREME_PLANTED);
}
