//! `run` and `report` as a user meets them: small studies, Ctrl-C, and plans that are wrong.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::{Place, fails, json, program, succeeds, words};

/// A study of seconds.
const SMALL: &str = "--set data.train=320 --set data.validation=300 --set data.test=300 --set model.width=4 \
     --set prune.rounds=2 --set prune.fraction=0.5 --set train.epochs=1 --set replicates=2 --set explain.cam_images=20 \
     --set explain.class_images=12 --set explain.images_per_set=6 --set explain.random_sets=20 \
     --set statistics.permutations=199 --set statistics.bootstrap=99";

fn small(place: &Place, out: &str) -> Vec<String> {
    let mut arguments = words(&format!("run {SMALL} --out"));
    arguments.push(place.arg(out));
    arguments
}

/// Weights, masks and maps of a run folder.
fn tensors(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "safetensors") {
                let name = path.strip_prefix(root).unwrap().display().to_string();
                files.insert(name, std::fs::read(path).unwrap());
            }
        }
    }
    files
}

#[test]
fn a_run_prints_its_table_and_the_report_comes_in_every_form() {
    let place = Place::new();
    let table = succeeds(&small(&place, "run"));
    for word in ["density", "accuracy", "pixels", "concepts", "100.0 %", "25.0 %", "Hypothesis A", "Hypothesis B"] {
        assert!(table.contains(word), "{word} is missing in\n{table}");
    }
    let page = std::fs::read_to_string(place.path("run/report.html")).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("Hypothesis A"));
    let run = place.arg("run");
    for (format, expected) in [("markdown", "|"), ("csv", "density"), ("json", "{")] {
        let text = succeeds(&["report".into(), run.clone(), "--format".into(), format.into()]);
        assert!(text.contains(expected), "{format}: {text}");
    }
    let same = succeeds(&["compare".into(), run.clone(), run.clone()]);
    assert!(same.contains('|'), "{same}");
    let figure = |name: &str| ["report", &run, "--figure", name].map(str::to_owned);
    assert!(succeeds(&figure("drift-concepts")).starts_with("<svg"));
    assert!(fails(&figure("drift-smell")).contains("no `drift-smell` here: accuracy, drift-"));
    let barriers = |from: &str, rest: &str| [vec!["barriers".to_owned(), from.to_owned()], words(rest)].concat();
    let lines = place.arg("barriers.json");
    succeeds(&barriers(&run, &format!("--points 3 --format json --out {lines}")));
    // Of two replicates: parent to twin, and from ticket to ticket twice.
    assert_eq!(json(place.path("barriers.json"))["barriers"].as_array().unwrap().len(), 6);
    assert!(succeeds(&barriers(&lines, "--format svg")).starts_with("<svg"));
    assert_eq!(succeeds(&barriers(&lines, "")), succeeds(&barriers(&run, "--points 3")));
    assert!(fails(&barriers(&lines, &format!("--format csv --out {lines}"))).contains("an input of this command"));
    assert!(fails(&barriers(&place.arg("run/manifest.json"), "")).contains("manifest.json: "));
    assert!(fails(&barriers(&run, "--points 2")).contains("--points"));
    assert!(fails(&barriers(&lines, "--points 5")).contains("need the folder of the run"));
    let mut bad = json(place.path("barriers.json"));
    for (value, said) in
        [(0.0, "a density of 0"), (-1.0, "a density of -1"), (1e-300, "a density of 0.0"), (2.0, "a density of 2")]
    {
        bad["barriers"][0]["density"] = value.into();
        assert!(fails(&barriers(&place.write("bad.json", bad.to_string().as_bytes()), "--format svg")).contains(said));
    }
    bad["barriers"] = serde_json::json!([]);
    assert!(fails(&barriers(&place.write("bad.json", bad.to_string().as_bytes()), "")).contains("holds no barrier"));
    // No report takes the place of a record that it is made from; that of the page it may take.
    for record in
        ["plan.toml", "metrics.json", "manifest.json", "replicate-0/round-00/round.json", "images.safetensors"]
    {
        let path = place.path("run").join(record);
        let kept = std::fs::read(&path).unwrap();
        for command in [vec!["report", &run], vec!["compare", &run, &run]] {
            let mut arguments: Vec<String> = command.into_iter().map(str::to_owned).collect();
            arguments.extend(["--format".into(), "json".into(), "--out".into(), path.display().to_string()]);
            assert!(fails(&arguments).contains("an input of this command"), "{record}");
            assert!(std::fs::read(&path).unwrap() == kept, "{record}");
        }
    }
    succeeds(&["report".into(), run.clone()]);
    // A damaged file is named, by whatever reads it; a run makes it again.
    let verify = ["verify".to_owned(), run.clone()];
    let fine = succeeds(&verify);
    assert!(
        fine.contains("as they were written") && fine.contains("answers on 128 test images, 20 maps: equal"),
        "{fine}"
    );
    let maps = place.path("run/replicate-1/round-01/explain/maps.safetensors");
    let mut bytes = std::fs::read(&maps).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&maps, &bytes).unwrap();
    for refused in [vec!["report".into(), run.clone()], vec!["compare".into(), run.clone(), run.clone()]] {
        assert!(fails(&refused).contains("maps.safetensors: is not the file that its record lists"));
    }
    let output = program(&verify).output().unwrap();
    let (faults, error) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!((output.status.code(), faults.lines().count(), error.lines().count()), (Some(2), 1, 1), "{error}");
    assert!(faults.contains("replicate-1/round-01/explain/maps.safetensors") && error.contains("1 fault"), "{faults}");
    let without_time = |told: &str| told.split("\nRun ").next().unwrap_or_default().to_owned();
    assert_eq!(without_time(&succeeds(&small(&place, "run"))), without_time(&table), "made again");
    assert!(place.path("run/replicate-1/round-01.damaged/explain/maps.safetensors").exists());
    succeeds(&[&verify[..], &["--hashes-only".to_owned()]].concat());
}

#[test]
fn a_dry_run_says_what_a_plan_takes_and_writes_nothing() {
    let place = Place::new();
    let mut arguments = small(&place, "run");
    arguments.push("--dry-run".into());
    let said = succeeds(&arguments);
    // Two replicates of a parent, three twins and two tickets, ten steps each.
    assert!(said.contains("networks  12, "), "{said}");
    for word in ["time ", "memory ", "disk "] {
        assert!(said.lines().any(|line| line.starts_with(word)), "{word}: {said}");
    }
    assert!(!place.path("run").exists());
}

#[cfg(unix)]
#[test]
fn sigterm_and_sighup_end_a_run_within_a_second_and_nohup_keeps_it() {
    let place = Place::new();
    let binary = program(&[]).get_program().to_owned();
    let send = |signal: &str, pid: u32| {
        let status = std::process::Command::new("kill").args([signal, &pid.to_string()]).status();
        assert!(status.unwrap().success());
    };
    let start = |before: &[&str], out: &str| {
        let mut words: Vec<std::ffi::OsString> = before.iter().map(Into::into).collect();
        words.push(binary.clone());
        let child = std::process::Command::new(&words[0])
            .args(&words[1..])
            .args(small(&place, out))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let started = Instant::now();
        while !place.path(out).join("manifest.json").exists() {
            assert!(started.elapsed() < Duration::from_secs(120), "it never began");
            std::thread::sleep(Duration::from_millis(5));
        }
        child
    };
    for signal in ["-TERM", "-HUP"] {
        let child = start(&[], "run");
        send(signal, child.id());
        let output = child.wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(130), "{signal}: {error}");
        assert!(error.lines().last().unwrap().contains("goes on from the last finished round"), "{error}");
        std::fs::remove_dir_all(place.path("run")).unwrap();
    }
    let child = start(&["nohup"], "kept");
    send("-HUP", child.id());
    assert!(child.wait_with_output().unwrap().status.success());
}

#[cfg(unix)]
#[test]
fn ctrl_c_loses_nothing_that_was_finished_and_the_result_is_the_same_bit_for_bit() {
    let place = Place::new();
    succeeds(&small(&place, "whole"));
    let binary = program(&[]).get_program().to_owned();
    let child = std::process::Command::new(binary)
        .args(small(&place, "broken"))
        .args(["--threads", "2"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while !place.path("broken/replicate-0/round-00/round.json").exists() {
        assert!(started.elapsed() < Duration::from_secs(120), "the first round never ended");
        std::thread::sleep(Duration::from_millis(5));
    }
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{error}");
    assert!(error.lines().last().unwrap().contains("goes on from the last finished round"), "{error}");
    assert!(!place.path("broken/metrics.json").exists());
    succeeds(&small(&place, "broken"));
    let (whole, broken) = (tensors(&place.path("whole")), tensors(&place.path("broken")));
    assert_eq!(whole.keys().collect::<Vec<_>>(), broken.keys().collect::<Vec<_>>());
    assert!(whole == broken);
    let metrics = |run: &str| std::fs::read(place.path(run).join("metrics.json")).unwrap();
    assert!(metrics("whole") == metrics("broken"));
}

#[test]
fn a_wrong_plan_is_one_line_that_names_its_fault() {
    let place = Place::new();
    let plan = place.write("plan.toml", b"name = \"x\"\ncolour = 3\n");
    let empty = place.arg("mnist");
    std::fs::create_dir(place.path("mnist")).unwrap();
    let cases = [
        (vec![plan], "colour"),
        (words("no-such-preset"), "no-such-preset"),
        (words("quick --set prune.fraction=0"), "prune.fraction"),
        (words("quick --set prune.fraction=1"), "prune.fraction"),
        (words("quick --set explain.stages=[\"layer7\"]"), "layer7"),
        (words("quick --set prune.colour=1"), "colour"),
        (words("quick --set prune.fractoin=0.2"), "did you mean `fraction`?"),
        (words("quik"), "did you mean `quick`?"),
        (words("quick --device cuda"), "--device"),
        (vec!["mnist".into(), "--set".into(), format!("data.path={empty}")], "train-images"),
    ];
    for (arguments, named) in cases {
        let mut all = vec!["run".to_owned()];
        all.extend(arguments);
        all.extend(["--out".into(), place.arg("out")]);
        let error = fails(&all);
        assert!(error.contains(named), "{all:?}: {error}");
        assert!(!place.path("out").exists(), "{all:?} left something");
    }
    let error = fails(&["report".into(), place.arg("nothing")]);
    assert!(error.contains("nothing"), "{error}");
}
