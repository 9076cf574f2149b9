//! Sweeps: what a unit is, and that damage in one unit reaches no other.

use std::collections::BTreeSet;
use std::path::Path;

use ticketlens::plan::{Arm, Part, Sweep};
use ticketlens::progress::Silent;
use ticketlens::records::{SweepStore, SweepUnits, Unit};
use ticketlens::run::{Options, unit, units};
use ticketlens::study::{put_together, run};

/// Text of a plan of tiny networks, with `more`.
fn text(more: &str) -> String {
    let tiny = crate::support::cheap(&[("data.train", "160"), ("data.test", "100"), ("train.epochs", "1")]);
    format!("{}\n{more}", tiny.to_toml().unwrap().replace("name = \"quick\"", "name = \"tiny\""))
}

fn sweep(more: &str, settings: &[(&str, &str)]) -> Sweep {
    let settings: Vec<(String, String)> =
        settings.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    Sweep::parse("sweep", &text(more), &settings).unwrap()
}

fn ids(sweep: &Sweep) -> BTreeSet<String> {
    units(sweep, "cpu", false).unwrap().units.into_iter().map(|unit| unit.id).collect()
}

#[test]
fn a_unit_is_known_by_what_decides_its_networks() {
    let grid = "[sweep]\nprune.fraction = [0.2, 0.5]\nprune.rounds = [1, 2]\n";
    let base = sweep(grid, &[("replicates", "2")]);
    let plans: Vec<_> = (0..base.points()).map(|point| base.plan(point).unwrap()).collect();
    // The last axis varies fastest.
    let varied: Vec<(f64, usize)> = plans.iter().map(|plan| (plan.prune.fraction, plan.prune.rounds)).collect();
    assert_eq!(varied, [(0.2, 1), (0.2, 2), (0.5, 1), (0.5, 2)]);
    assert_eq!(base.settings(1), [("prune.fraction".into(), "0.2".into()), ("prune.rounds".into(), "2".into())]);
    // A dense unit for each replicate, a lottery arm for each replicate and point.
    assert_eq!(ids(&base).len(), 2 + 2 * 4);
    let made = units(&base, "cpu", false).unwrap().units;
    assert!(made.iter().enumerate().all(|(index, unit)| match (unit.part.arm, unit.needs) {
        (None, needs) => needs.is_none(),
        (Some(_), Some(needs)) => needs < index && made[needs].part == Part { arm: None, ..unit.part },
        (Some(_), None) => false,
    }));
    // More replicates, arms, other margins and names make no unit another.
    let wider =
        [("replicates", "3"), ("arms", "[\"reinit\", \"lottery\"]"), ("verdict.drift_margin", "0.5"), ("name", "x")];
    assert!(ids(&sweep(grid, &wider)).is_superset(&ids(&base)));
    // Twins belong to the dense network.
    let arms = |sweep: &Sweep| {
        let units = units(sweep, "cpu", false).unwrap().units;
        units.into_iter().filter(|unit| unit.part.arm.is_some()).map(|unit| unit.id).collect::<BTreeSet<_>>()
    };
    let twins = sweep(grid, &[("replicates", "2"), ("floor.twins", "2")]);
    assert!(arms(&twins) == arms(&base) && ids(&twins) != ids(&base));
    // What decides weights or explanations makes every unit another.
    let others = [
        ("seed", "1"),
        ("train.learning_rate", "0.011"),
        ("explain.cam_images", "59"),
        ("verdict.confidence", "0.8"),
        ("prune.rewind", "1it"),
        ("prune.exclude", "[\"fc\"]"),
        ("statistics.permutations", "299"),
        ("data.train", "161"),
    ];
    for other in others {
        assert!(ids(&sweep(grid, &[("replicates", "2"), other])).is_disjoint(&ids(&base)), "{other:?}");
    }
    // A plan's digest leaves paths out, for folders that are moved; a grid may go over them.
    let [here, there] = ["/a", "/b"].map(|path| sweep(grid, &[("data.path", path)]));
    assert_eq!(here.plan(0).unwrap().digest().unwrap(), there.plan(0).unwrap().digest().unwrap());
    assert!(ids(&here).is_disjoint(&ids(&there)));
    // As text and back.
    let again = Sweep::parse("sweep", &base.to_toml().unwrap(), &[]).unwrap();
    assert_eq!(again, base);
}

/// Makes all units in turn.
fn made(store: &SweepStore, units: &SweepUnits) {
    for index in 0..units.units.len() {
        unit(store, units, index, &Options::default(), &Silent).unwrap();
    }
}

fn flip_last(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    // Not in place: the file may have other names.
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn damage_is_found_and_made_good() {
    let folder = tempfile::tempdir().unwrap();
    let sweep = sweep("", &[("arms", "[\"lottery\", \"random_mask\"]")]);
    let plan = sweep.plan(0).unwrap();
    let all = units(&sweep, "cpu", false).unwrap();
    let whole = SweepStore::of(&folder.path().join("whole"), &sweep, &all).unwrap();
    whole.start(&sweep, &all).unwrap();
    made(&whole, &all);
    let record = put_together(&whole, &all, &Silent).unwrap();
    assert!(record.points[0].found.is_some(), "{record:?}");
    let alone = run(&plan, &folder.path().join("alone"), &Silent).unwrap();
    assert_eq!(record.points[0].found.as_ref().unwrap().answer, alone.answer);

    // The dense network is damaged after it was made: the arm that starts from it makes it again, for itself.
    let hurt = SweepStore::of(&folder.path().join("hurt"), &sweep, &all).unwrap();
    hurt.start(&sweep, &all).unwrap();
    let dense = Part { replicate: 0, arm: None };
    let path = |part: Part| hurt.unit_path(&Unit::id(&plan, part).unwrap()).join("replicate-0");
    unit(&hurt, &all, 0, &Options::default(), &Silent).unwrap();
    assert_eq!(all.units[0].part, dense);
    flip_last(&path(dense).join("round-00/weights.safetensors"));
    made(&hurt, &all);
    assert_eq!(put_together(&hurt, &all, &Silent).unwrap(), record);
    // A network that is nowhere whole: the point says so, and its units are made again.
    for arm in [None, Some(Arm::Lottery), Some(Arm::RandomMask)] {
        flip_last(&path(Part { replicate: 0, arm }).join("round-00/explain/maps.safetensors"));
    }
    std::fs::remove_dir_all(folder.path().join("hurt/points")).unwrap();
    let missing = put_together(&hurt, &all, &Silent).unwrap().points[0].missing.clone();
    assert!(missing.as_ref().is_some_and(|what| what.contains("maps.safetensors")), "{missing:?}");
    made(&hurt, &all);
    assert_eq!(put_together(&hurt, &all, &Silent).unwrap(), record);
}

#[test]
fn a_unit_waits_for_none_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let sweep = sweep("", &[]);
    let all = units(&sweep, "cpu", false).unwrap();
    let store = SweepStore::of(folder.path(), &sweep, &all).unwrap();
    store.start(&sweep, &all).unwrap();
    let error = unit(&store, &all, 1, &Options::default(), &Silent).unwrap_err().to_string();
    assert!(error.contains(&format!("needs unit {}, which is not finished", all.units[0].id)), "{error}");
    assert!(!store.unit_path(&all.units[1].id).exists());
    assert!(unit(&store, &all, 99, &Options::default(), &Silent).unwrap_err().to_string().contains("no unit 99"));
    // Units of another version, whose plans would have other digests.
    let mut other = all.clone();
    other.units[0].id = "0".repeat(32);
    let error = unit(&store, &other, 0, &Options::default(), &Silent).unwrap_err().to_string();
    assert!(error.contains("another version"), "{error}");
}
