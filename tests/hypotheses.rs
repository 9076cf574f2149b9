//! Whole studies whose outcome is known beforehand: mild pruning keeps winning tickets and their explanations, extreme pruning loses both.
//! Nothing here sets an outcome: plans go in, verdicts come out, and each test prints its table. Real digits and planted images.

use ticketlens::experiment::records::{Call, Outcome, StudyRecord};
use ticketlens::experiment::{Plan, Store, run};
use ticketlens::progress::Silent;
use ticketlens::stats::floor::{Candidate, FloorPair, floor_ratio};
use ticketlens::stats::similarity::{Similarity, spearman};
use ticketlens::stats::verdict::{Answer, within_limit};

const DIGITS: &[(&str, &str)] = &[("data.task", "classes"), ("data.train", "3000")];
const PLANTED: &[(&str, &str)] = &[
    ("data.source", "planted"),
    ("data.task", "classes"),
    ("data.planted", "{ side = 32, channels = 3, used = [\"shape\", \"colour\"] }"),
    ("data.train", "2000"),
];
/// Two prunings of a tenth: 81 % of the weights are left.
const MILD: &[(&str, &str)] = &[("replicates", "3"), ("prune.rounds", "2"), ("prune.fraction", "0.1")];
/// One pruning of 99.5 %, far below the critical density of these networks; a fourth replicate, since the interval of the drift
/// rests on pairs of dense replicates.
const EXTREME: &[(&str, &str)] = &[("replicates", "4"), ("prune.rounds", "1"), ("prune.fraction", "0.995")];

fn plan(parts: &[&[(&str, &str)]]) -> Plan {
    let small: &[(&str, &str)] = &[
        // At layer3 the maps of two dense seeds have almost nothing in common (floor 0.5 to 0.8, where unrelated maps are at 1), so nothing
        // can drift beyond them; before global average pooling a map is the class's own evidence and the floor is low.
        ("explain.stages", "[\"layer4\"]"),
        ("train.epochs", "3"),
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
        ("verdict.drift_margin", "0.25"),
    ];
    let all: Vec<(String, String)> = [small]
        .iter()
        .chain(parts)
        .flat_map(|part| part.iter())
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    Plan::preset("quick", &all).unwrap()
}

/// Runs the study and prints its table.
fn study(name: &str, plan: &Plan) -> (StudyRecord, Store, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let study = run(plan, folder.path(), &Silent).unwrap();
    println!("\n{name}: floor {:.3} (Spearman drift of dense replicates)", study.floor.spearman.unwrap());
    println!("  round  density  accuracy  difference, points     drift, floors          call");
    for call in &study.calls {
        let range = |range: Option<ticketlens::experiment::records::Range>, scale: f64| {
            range.map_or("-".into(), |range| format!("[{:.2}, {:.2}]", scale * range.low, scale * range.high))
        };
        println!(
            "  {:>5}  {:>6.2}%  {:>7.1}%  {:>6.2} {:<16}  {:>5} {:<16}  {:?}",
            call.round,
            100.0 * call.density,
            100.0 * call.test_accuracy,
            100.0 * call.accuracy_difference,
            range(call.accuracy_interval, 100.0),
            call.drift_in_floors.map_or("-".into(), |drift| format!("{drift:.2}")),
            range(call.drift_interval, 1.0),
            call.call
        );
    }
    for (hypothesis, verdict) in [("A", &study.hypothesis_a), ("B", &study.hypothesis_b)] {
        println!("  {hypothesis}: {:?}: {}", verdict.outcome, verdict.reason);
    }
    for check in &study.sanity {
        println!(
            "  random weights, replicate {}: drift {:.2} floors, destroyed: {:?}",
            check.replicate,
            check.drift_in_floors.unwrap_or(f64::NAN),
            check.destroyed
        );
    }
    for warning in &study.warnings {
        println!("  note: {warning}");
    }
    (study, Store::existing(folder.path()).unwrap(), folder)
}

fn mild_pruning_supports_a(name: &str, data: &[(&str, &str)]) {
    let plan = plan(&[data, MILD]);
    let (study, store, _folder) = study(&format!("{name}, mild pruning"), &plan);
    assert_eq!(study.hypothesis_a.outcome, Outcome::Supported);
    assert_ne!(study.hypothesis_b.outcome, Outcome::Supported);
    units(&plan, &study, &store);
}

fn extreme_pruning_loses_tickets_and_explanations(name: &str, data: &[(&str, &str)]) {
    let plan = plan(&[data, EXTREME]);
    let (study, _store, _folder) = study(&format!("{name}, extreme pruning"), &plan);
    assert_ne!(study.hypothesis_a.outcome, Outcome::Supported);
    let last = study.calls.last().unwrap();
    assert!(matches!(last.call, Call::B | Call::Inconclusive), "{last:?}");
    let lost = last.accuracy_interval.unwrap();
    assert!(lost.high < -plan.verdict.accuracy_margin, "tickets lost: {lost:?}");
    let drift = last.drift_interval.unwrap();
    assert!(drift.low > 1.0, "drift above the floor: {drift:?}");
}

/// What a floor unit is: 0 for the same checkpoint, about 1 for a held-out dense seed, more for random weights.
fn units(plan: &Plan, study: &StudyRecord, store: &Store) {
    let dense: Vec<Vec<Vec<f32>>> = study
        .rounds
        .iter()
        .filter(|summary| summary.id.round == 0)
        .map(|summary| {
            let maps = store.maps(&summary.id).unwrap().remove(plan.explain.stages[0].name());
            maps.unwrap().flatten_from(1).unwrap().to_vec2().unwrap()
        })
        .collect();
    let drift = |a: usize, b: usize| -> Vec<Option<f64>> {
        (dense[a].iter().zip(&dense[b]))
            .map(|(a, b)| spearman(a, b).map(Similarity::value).unwrap().map(|rho| (1.0 - rho).max(0.0)))
            .collect()
    };
    let floor = drift(0, 1);
    let in_floors = |candidate: &[Option<f64>]| {
        floor_ratio(
            &[Candidate { replicate: 2, drift: candidate }],
            &[FloorPair { replicates: (0, 1), drift: &floor }],
            0.95,
            999,
            1,
            "units",
        )
        .unwrap()
    };
    let same = in_floors(&drift(2, 2));
    assert!(same.ratio < 1e-9, "{same:?}");
    assert_eq!(within_limit(same.interval, 1.0).unwrap(), Answer::Yes);
    for other in [0, 1] {
        let held_out = in_floors(&drift(2, other));
        println!("  held-out dense seed 2 from seed {other}: {:.2} floor units of seeds 0 and 1", held_out.ratio);
        assert!((0.5..2.0).contains(&held_out.ratio), "about one: {held_out:?}");
    }
    assert_eq!(study.sanity.len(), plan.replicates);
    for check in &study.sanity {
        let drift = check.drift_in_floors.unwrap();
        assert!(drift > 1.0 && check.destroyed != Some(false), "{check:?}");
    }
}

#[test]
fn mild_pruning_of_digits_supports_a() {
    mild_pruning_supports_a("digits", DIGITS);
}

#[test]
fn extreme_pruning_of_digits_loses_tickets_and_explanations() {
    extreme_pruning_loses_tickets_and_explanations("digits", DIGITS);
}

#[test]
fn mild_pruning_of_planted_images_supports_a() {
    mild_pruning_supports_a("planted", PLANTED);
}

#[test]
fn extreme_pruning_of_planted_images_loses_tickets_and_explanations() {
    extreme_pruning_loses_tickets_and_explanations("planted", PLANTED);
}
