//! How much memory putting a sweep together takes: the same for 10,000 units as for 400. Slow, so
//! it runs when it is asked for:
//! `cargo test --test acceptance -- --ignored sweep_size --nocapture`.

use std::process::{Command, Stdio};

use ticketlens::plan::Sweep;
use ticketlens::records::{Line, Store, SweepStore, Unit};
use ticketlens::run::units;

use crate::support::{Place, succeeds};
use crate::sweep::plan;

/// A sweep of `points` points, each with two replicates of a dense unit and a lottery arm: four
/// units. The first point is computed; the others' units hold its networks, under plans of their
/// own.
fn generated(place: &Place, points: usize) -> SweepStore {
    let out = place.path(&format!("out-{points}"));
    let rates: Vec<String> = (0..points).map(|point| format!("{}", 0.01 + 1e-6 * point as f64)).collect();
    let grid = |rates: &[String]| {
        plan(&format!("arms = [\"lottery\"]\n[sweep]\ntrain.learning_rate = [{}]\n", rates.join(", ")))
    };
    let file = place.write("one.toml", grid(&rates[..1]).as_bytes());
    succeeds(&["sweep", &file, "--out", &out.display().to_string()].map(str::to_owned));
    let sweep = Sweep::parse("many", &grid(&rates), &[]).unwrap();
    let all = units(&sweep, "cpu", false).unwrap();
    assert_eq!(all.units.len(), 4 * points);
    let store = SweepStore::of(&out, &sweep, &all).unwrap();
    store.start(&sweep, &all).unwrap();
    let first = sweep.plan(0).unwrap();
    for unit in all.units.iter().skip(4) {
        let from = Store::existing(&store.unit_path(&Unit::id(&first, unit.part).unwrap())).unwrap();
        let own = sweep.plan(unit.point).unwrap().unit(unit.part);
        let mut to = Store::open(&store.unit_path(&unit.id), &own).unwrap();
        let mut manifest = from.manifest().unwrap();
        manifest.plan = own.digest().unwrap();
        let pixels = from.images().unwrap();
        to.begin(&manifest, (pixels.dims(), &pixels.flatten_all().unwrap().to_vec1::<u8>().unwrap()), false).unwrap();
        for line in Line::of(&own) {
            for round in line.rounds(&own) {
                assert!(to.take_over(&from, &line.id(unit.part.replicate, round)).unwrap());
            }
        }
        to.take_over_sanity(&from, unit.part.replicate).unwrap();
        store.finish(unit).unwrap();
    }
    store
}

/// The most memory, in KiB, that putting it together takes.
fn peak(store: &SweepStore) -> u64 {
    let program = assert_cmd::cargo::cargo_bin("ticketlens");
    let mut process = Command::new(program)
        .args(["--threads", "1", "sweep", "aggregate"])
        .arg(store.root())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut most = 0;
    let status = format!("/proc/{}/status", process.id());
    let ended = loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        most = most.max(line.map_or(0, |line| line.trim().trim_end_matches(" kB").parse().unwrap()));
        if let Some(ended) = process.try_wait().unwrap() {
            break ended;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    assert!(ended.success());
    most
}

#[test]
#[ignore = "makes 10,000 run folders"]
fn ten_thousand_units_are_put_together_in_the_memory_of_four_hundred() {
    let place = Place::new();
    let mut peaks = Vec::new();
    for points in [100, 2500] {
        let store = generated(&place, points);
        peaks.push(peak(&store));
        let found = store.record().unwrap().points.iter().filter(|point| point.found.is_some()).count();
        assert_eq!(found, points);
        println!("{} units: at most {:.1} MiB", 4 * points, peaks[peaks.len() - 1] as f64 / 1024.0);
    }
    // What grows is the list of units and a row for each point, not what networks are.
    assert!(peaks[1] < peaks[0] + 64 * 1024, "{peaks:?} KiB");
}
