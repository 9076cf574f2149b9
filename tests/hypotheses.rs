//! Whole studies, from mild to extreme pruning: mild pruning keeps winning tickets and their explanations, extreme pruning loses
//! both. Nothing here sets an outcome: plans go in, verdicts come out, and each test prints its table. docs/lab-notes.md says how these
//! plans were found and what else was tried.

use ticketlens::plan::Plan;
use ticketlens::progress::Silent;
use ticketlens::records::{Call, Outcome, StudyRecord};
use ticketlens::study::run;

/// Two prunings of 93 %: 7 % and 0.5 % of the weights are left.
const DIGITS: &[(&str, &str)] = &[("prune.rounds", "2"), ("prune.fraction", "0.93"), ("data.train", "4000")];
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
    ("prune.rounds", "2"),
    ("prune.fraction", "0.968"),
];

fn plan(parts: &[(&str, &str)]) -> Plan {
    // Wider margins than `quick`'s, so that five replicates are enough.
    let small: &[(&str, &str)] = &[
        ("replicates", "5"),
        ("floor.twins", "2"),
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
    let all: Vec<(String, String)> =
        small.iter().chain(parts).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
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

/// A from the dense network down to the mild density, B at the extreme one; random weights move the maps further than retraining.
fn has_both_ranges(name: &str, parts: &[(&str, &str)]) {
    let plan = plan(parts);
    let study = study(name, &plan);
    assert_eq!(study.hypothesis_a.outcome, Outcome::Supported, "{}", study.hypothesis_a.reason);
    assert_eq!(study.hypothesis_b.outcome, Outcome::Supported, "{}", study.hypothesis_b.reason);
    let calls: Vec<Call> = study.densities.iter().map(|record| record.call).collect();
    assert_eq!(calls, [Call::Dense, Call::A, Call::B]);
    assert_eq!(study.sanity.len(), plan.replicates);
    for check in &study.sanity {
        assert_eq!(check.destroyed, Some(true), "random weights: {check:?}");
    }
}

#[test]
fn digits_have_a_range_of_a_and_a_range_of_b() {
    has_both_ranges("digits", DIGITS);
}

#[test]
fn planted_images_have_a_range_of_a_and_a_range_of_b() {
    has_both_ranges("planted", PLANTED);
}
