//! `sweep` as a user meets it: units in processes and, with a stand-in for Slurm's commands, in job
//! arrays. `ci/slurm.sh` has a real Slurm.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Place, fails, fixture, json, succeeds};

/// A plan whose units take about a second, with what follows.
pub(crate) fn plan(more: &str) -> String {
    format!(
        r#"
preset = "quick"
name = "tiny"
replicates = 2
floor.twins = 1
data = {{ train = 160, validation = 100, test = 100 }}
model.width = 4
prune = {{ rounds = 1, fraction = 0.5 }}
train = {{ epochs = 1, batch_size = 32 }}
explain = {{ cam_images = 10, class_images = 6, images_per_set = 4, random_sets = 20 }}
statistics = {{ permutations = 199, bootstrap = 99 }}
{more}
"#
    )
}

/// Runs a sweep to its end; its folder and what it says.
fn sweep(place: &Place, plan: &str, out: &str, more: &[&str]) -> (PathBuf, String) {
    let mut arguments = ["sweep", plan, "--jobs", "2", "--out"].map(str::to_owned).to_vec();
    arguments.push(place.arg(out));
    arguments.extend(more.iter().map(|&word| word.to_owned()));
    let said = succeeds(&arguments);
    (folder(place, out, &said), said)
}

/// The folder that a sweep says it has.
fn folder(place: &Place, out: &str, said: &str) -> PathBuf {
    let folders = std::fs::read_dir(place.path(out)).unwrap().map(|entry| entry.unwrap().path());
    let named = |path: &PathBuf| said.contains(&*path.file_name().unwrap().to_string_lossy());
    folders.filter(|path| path.join("units.json").exists()).find(named).unwrap()
}

/// The folder in `out` that holds a file of that name.
fn holding(out: &Path, name: &str) -> Option<PathBuf> {
    let mut folders = std::fs::read_dir(out).ok()?.map(|entry| entry.unwrap().path());
    folders.find(|path| path.join(name).exists())
}

/// When the records of the units were written, by path.
fn written(out: &Path) -> Vec<(PathBuf, std::time::SystemTime)> {
    let mut found = Vec::new();
    for unit in std::fs::read_dir(out.join("units")).unwrap() {
        let marker = unit.unwrap().path().join("unit.json");
        if let Ok(metadata) = std::fs::metadata(&marker) {
            found.push((marker, metadata.modified().unwrap()));
        }
    }
    found.sort();
    found
}

fn bytes(path: impl AsRef<Path>) -> Vec<u8> {
    std::fs::read(path.as_ref()).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

#[test]
fn a_point_is_what_a_run_of_its_plan_is_and_no_work_is_done_twice() {
    let place = Place::new();
    let grid = "arms = [\"lottery\", \"reinit\"]\n[sweep]\nprune.fraction = [0.3, 0.6]\n";
    let file = place.write("grid.toml", plan(grid).as_bytes());
    let (first, said) = sweep(&place, &file, "out", &[]);
    // 2 replicates × (1 dense that both points share, 2 points × 2 arms).
    assert!(said.contains("2 points, 10 units, 0 finished"), "{said}");
    assert!(said.contains("2 of 2 points are finished"), "{said}");
    let page = std::fs::read_to_string(first.join("report.html")).unwrap();
    assert!(page.contains("Where A and B hold, by prune.fraction") && page.contains("0.6"), "{page}");
    let record = json(first.join("sweep.json"));
    assert_eq!(record["points"][1]["values"][0], "0.6");

    // A run of the second point ends with the same study, to the byte.
    let file = place.write("one.toml", plan("arms = [\"lottery\", \"reinit\"]").as_bytes());
    let run = place.arg("run");
    succeeds(&["run", &file, "--set", "prune.fraction=0.6", "--out", &run].map(str::to_owned));
    let point = place.path("out/points").join(record["points"][1]["id"].as_str().unwrap());
    assert!(bytes(place.path("run/metrics.json")) == bytes(point.join("metrics.json")));
    succeeds(&["verify".into(), point.display().to_string()]);
    succeeds(&["report".into(), point.display().to_string()]);

    // Another sweep in the folder, with a replicate, an arm and margins more, makes what is new alone.
    let before = written(&place.path("out"));
    let wider =
        "arms = [\"lottery\", \"random_mask\"]\nverdict.accuracy_margin = 0.02\n[sweep]\nprune.fraction = [0.6]\n";
    let file = place.write("wider.toml", plan(wider).replace("replicates = 2", "replicates = 3").as_bytes());
    let (_, said) = sweep(&place, &file, "out", &[]);
    // Of 3 × (dense, lottery, random_mask) two replicates have dense and lottery.
    assert!(said.contains("1 points, 9 units, 4 finished"), "{said}");
    let after = written(&place.path("out"));
    assert_eq!(after.len(), before.len() + 5);
    assert!(before.iter().all(|unit| after.contains(unit)), "a finished unit was made again");
    // And the same again does nothing.
    let (_, said) = sweep(&place, &file, "out", &[]);
    assert!(said.contains("9 units, 9 finished") && written(&place.path("out")) == after, "{said}");
}

/// Processes whose arguments name a folder.
fn processes(folder: &Path) -> Vec<u32> {
    let name = folder.display().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&words).contains(&name) {
            found.push(pid);
        }
    }
    found
}

fn until(what: &str, mut test: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(120);
    while !test() {
        assert!(Instant::now() < end, "{what}: not within two minutes");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The program with stdin, stdout and stderr to nowhere.
fn spawned(arguments: &[&str]) -> std::process::Child {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("ticketlens"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_parent_that_is_killed_leaves_no_orphan_and_loses_no_unit() {
    let place = Place::new();
    // Four replicates: four dense units, four lottery arms.
    let text =
        plan("arms = [\"lottery\"]").replace("replicates = 2", "replicates = 4").replace("epochs = 1", "epochs = 6");
    let file = place.write("plan.toml", text.as_bytes());
    let out = place.arg("out");
    let mut parent = spawned(&["sweep", &file, "--jobs", "2", "--out", &out]);
    let own = [parent.id()];
    until("a finished unit while two others run", || {
        place.path("out/units").exists()
            && !written(&place.path("out")).is_empty()
            && processes(&place.path("out")).iter().filter(|&pid| !own.contains(pid)).count() == 2
    });
    let before = written(&place.path("out"));
    parent.kill().unwrap();
    parent.wait().unwrap();
    until("the last process", || processes(&place.path("out")).is_empty());
    let left = written(&place.path("out"));
    assert!(before.iter().all(|unit| left.contains(unit)), "{left:?}");
    // Orphans would have finished both.
    assert!(left.len() < before.len() + 2, "{left:?}");
    let (folder, said) = sweep(&place, &file, "out", &[]);
    assert!(said.contains(&format!("8 units, {} finished", left.len())), "{said}");
    let after = written(&place.path("out"));
    assert!(after.len() == 8 && left.iter().all(|unit| after.contains(unit)), "a finished unit was made again");
    let (whole, _) = sweep(&place, &file, "whole", &[]);
    assert!(bytes(folder.join("sweep.json")) == bytes(whole.join("sweep.json")));
}

#[test]
fn two_sweeps_at_once_do_no_harm() {
    let place = Place::new();
    let of = |values: &str| plan(&format!("arms = [\"lottery\"]\n[sweep]\nprune.fraction = {values}\n"));
    let files = [("a.toml", "[0.3, 0.6]"), ("b.toml", "[0.6, 0.3]"), ("c.toml", "[0.3, 0.6]")];
    let files = files.map(|(name, values)| place.write(name, of(values).as_bytes()));
    let out = place.arg("both");
    // The third is the first once more: the very same sweep, twice at a time.
    let running =
        files.each_ref().map(|file| spawned(&["sweep", file, "--jobs", "2", "--threads", "2", "--out", &out]));
    for mut process in running {
        assert!(process.wait().unwrap().success());
    }
    assert_eq!(written(&place.path("both")).len(), 6);
    for file in &files[..2] {
        let (together, said) = sweep(&place, file, "both", &[]);
        assert!(said.contains("6 units, 6 finished"), "{said}");
        let (alone, _) = sweep(&place, file, "alone", &[]);
        assert!(bytes(together.join("sweep.json")) == bytes(alone.join("sweep.json")));
        assert!(bytes(together.join("report.html")) == bytes(alone.join("report.html")));
    }
}

/// Commands of Slurm's that do at once what Slurm does in the end: `sbatch` notes what it was
/// called with and runs the script in its folder, an array's entries in turn.
fn stand_in(place: &Place) -> PathBuf {
    let bin = place.path("bin");
    std::fs::create_dir(&bin).unwrap();
    let sbatch = r#"#!/bin/bash
printf '%s\n' "$@" >>called
[ "$1" = --parsable ] || exit 1
script="${@: -1}"
count=$(( $(cat jobs 2>/dev/null || echo 0) + 1 ))
echo "$count" >jobs
echo "$count"
exec >/dev/null
range=$(sed -n 's/^#SBATCH --array=0-\([0-9]*\).*/\1/p' "$script")
export SLURM_JOB_ID=$count SLURM_ARRAY_JOB_ID=$count SLURM_CPUS_PER_TASK=2
[ -n "$range" ] || { bash "$script"; exit 0; }
for (( entry = 0; entry <= range; entry++ )); do SLURM_ARRAY_TASK_ID=$entry bash "$script"; done
exit 0
"#;
    for (name, text) in [("sbatch", sbatch), ("squeue", "#!/bin/bash\n"), ("scancel", "#!/bin/bash\n")] {
        std::fs::write(bin.join(name), text).unwrap();
        std::fs::set_permissions(bin.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    bin
}

/// The program, in a folder, with the stand-in before all else on the path.
fn with(bin: &Path, folder: &Path, arguments: &[&str]) -> std::process::Output {
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("ticketlens"));
    command.args(arguments).env("PATH", path).current_dir(folder).output().unwrap()
}

#[test]
fn names_reach_the_jobs_unharmed_and_slurm_gives_what_processes_give() {
    let place = Place::new();
    let bin = stand_in(&place);
    let hostile = "a b'c\"d $(touch pwned) `touch pwned`;touch pwned\n#SBATCH --hold\n%j \\n";
    let here = place.path(hostile);
    std::fs::create_dir(&here).unwrap();
    let name = "odd $HOME \\\"q\\\" $(touch pwned) `touch pwned`; 'x' %A";
    let text = plan("arms = [\"lottery\", \"random_mask\"]").replace("name = \"tiny\"", &format!("name = \"{name}\""));
    // Digits in files, behind a path that is relative to the folder where the sweep is started: jobs run elsewhere.
    let text =
        text.replace("data = { train", "data = { source = \"mnist\", path = \"../$(touch pwned) 'digits'\", train");
    let digits = place.path("$(touch pwned) 'digits'");
    std::fs::create_dir(&digits).unwrap();
    for entry in std::fs::read_dir(fixture("mnist")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, digits.join(path.file_name().unwrap())).unwrap();
    }
    let file = place.write(&format!("{hostile}/plan.toml"), text.as_bytes());
    let out = |name: &str| place.arg(&format!("{hostile}/{name}"));
    let ask = ["--time", "10", "--memory", "1G", "--jobs", "2"];
    let start = ["sweep", &file, "--engine", "slurm", "--out", &out("slurm")];
    let dry = with(&bin, &here, &[&start[..], &ask, &["--dry-run"]].concat());
    let scripts = String::from_utf8(dry.stdout).unwrap();
    let lines = scripts.lines().skip(1);
    assert!(scripts.contains("#SBATCH --array=0-1%2") && !place.path(hostile).join("slurm").exists(), "{scripts}");
    assert!(lines.clone().all(|line| !line.contains("odd") && !line.contains("pwned")), "{scripts}");

    let output = with(&bin, &here, &[&start[..], &ask].concat());
    let (said, error) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{said}{error}");
    assert!(said.contains("submitted jobs 1, 2, 3, 4"), "{said}");
    let slurm = holding(&place.path(hostile).join("slurm"), "units.json").unwrap();
    let called = std::fs::read_to_string(slurm.join("called")).unwrap();
    let expected = "--parsable\nbatches/1.sh\n--parsable\n--dependency=afterany:1\nbatches/2.sh\n--parsable\n\
                    --dependency=afterany:1:2\nbatches/3.sh\n--parsable\n--dependency=afterany:1:2:3\nbatches/last.sh\n";
    assert_eq!(called, expected);
    let status = with(&bin, &here, &["sweep", "status", slurm.to_str().unwrap()]).stdout;
    assert!(String::from_utf8(status).unwrap().contains("6  finished"));

    let output = with(&bin, &here, &["sweep", &file, "--jobs", "2", "--out", &out("local")]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let local = place.path(hostile).join("local").join(slurm.file_name().unwrap());
    for name in ["sweep.json", "sweep.csv", "report.html"] {
        assert!(bytes(slurm.join(name)) == bytes(local.join(name)), "{name}");
    }
    let stray = Command::new("find").arg(place.path("")).args(["-name", "pwned"]).output().unwrap();
    assert!(stray.stdout.is_empty(), "{}", String::from_utf8_lossy(&stray.stdout));
}

#[test]
fn a_unit_that_fails_is_named_and_tried_again() {
    let place = Place::new();
    let (bin, here) = (stand_in(&place), place.path(""));
    let file =
        place.write("plan.toml", plan("arms = [\"lottery\"]\n[sweep]\nprune.fraction = [0.3, 0.6]\n").as_bytes());
    // A folder that cannot be written stands where a lottery arm of one point belongs.
    let dry = succeeds(&["sweep", &file, "--out", &place.arg("out"), "--dry-run"].map(str::to_owned));
    let unit = dry.lines().find(|line| line.contains("replicate 1, lottery, point 2")).unwrap();
    let unit = place.path("out/units").join(unit.split_whitespace().next().unwrap());
    std::fs::create_dir_all(unit.join("plan.toml")).unwrap();
    for engine in ["local", "slurm"] {
        let ask = ["--engine", engine, "--time", "10", "--memory", "1G", "--jobs", "2"];
        let start = ["sweep", &file, "--out", &place.arg("out")];
        let output = with(&bin, &here, &[&start[..], &ask].concat());
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(if engine == "local" { 2 } else { 0 }), "{error}");
        let own = folder(&place, "out", &String::from_utf8(output.stdout).unwrap());
        let status = with(&bin, &here, &["sweep", "status", own.to_str().unwrap()]).stdout;
        let status = String::from_utf8(status).unwrap();
        assert!(status.contains("1  failed") && status.contains("5  finished"), "{status}");
        assert!(status.contains("replicate 1, lottery, point 2") && status.contains("plan.toml"), "{status}");
        // The other point is there.
        let record = json(own.join("sweep.json"));
        assert!(record["points"][0]["found"].is_object() && record["points"][1]["found"].is_null(), "{record}");
        assert_eq!(record["points"][1]["missing"], "1 of 4 units are not finished");
    }
    std::fs::remove_dir_all(&unit).unwrap();
    let own = holding(&place.path("out"), "units.json").unwrap();
    let retry = with(&bin, &here, &["sweep", "retry", "--failed", own.to_str().unwrap()]);
    assert!(retry.status.success(), "{}", String::from_utf8_lossy(&retry.stderr));
    assert!(json(own.join("sweep.json"))["points"][1]["found"].is_object());
    let again = with(&bin, &here, &["sweep", "retry", "--failed", own.to_str().unwrap()]).stdout;
    let again = String::from_utf8(again).unwrap();
    assert!(again.contains("nothing failed"), "{again}");
}

#[test]
fn a_sweep_can_be_cancelled_and_goes_on() {
    let place = Place::new();
    let text = plan("arms = [\"lottery\"]").replace("epochs = 1", "epochs = 400");
    let file = place.write("plan.toml", text.as_bytes());
    let mut parent = spawned(&["sweep", &file, "--jobs", "2", "--out", &place.arg("out")]);
    let own = || holding(&place.path("out"), "engine.json");
    until("units that run", || own().is_some() && place.path("out/units").is_dir());
    let own = own().unwrap();
    until("units that hold their folders", || {
        let status = succeeds(&["sweep".into(), "status".into(), own.display().to_string()]);
        status.contains("2  running")
    });
    succeeds(&["sweep".into(), "cancel".into(), own.display().to_string()]);
    assert_eq!(parent.wait().unwrap().code(), Some(130));
    assert!(processes(&place.path("out")).is_empty());
    let status = succeeds(&["sweep".into(), "status".into(), own.display().to_string()]);
    assert!(status.contains("4  not started, cancelled or lost") && !status.contains("failed"), "{status}");
}

#[test]
fn what_is_no_sweep_is_refused_in_one_line() {
    let place = Place::new();
    let cases = [
        ("[sweep]\nprune.fraction = 0.5", "sweep.prune.fraction"),
        ("[sweep]\nprune.fraction = []", "has no values"),
        ("[sweep]\nprune.fraction = [0.5, 0.5]", "names a value twice"),
        ("[sweep]\nprune.fraction = [0.5, 1.5]", "1.5 is not between 0 and 1 (sweep: prune.fraction = 1.5)"),
        ("[sweep]\nprune.fractoin = [0.5]", "unknown field `fractoin`"),
        ("[slurm]\npartition = \"a\\n#SBATCH --hold\"", "slurm.partition"),
        ("[slurm]\ntime = \"1; rm\"", "slurm.time"),
        ("[slurm]\nqueue = \"x\"", "unknown field `queue`"),
        ("[part]\nreplicate = 0", "part"),
    ];
    for (more, expected) in cases {
        let file = place.write("plan.toml", plan(more).as_bytes());
        let error = fails(&["sweep", &file, "--out", &place.arg("out")].map(str::to_owned));
        assert!(error.contains(expected), "{more}\n{error}");
        assert!(!place.path("out").exists(), "{more}");
    }
    let values: Vec<String> = (1..1000).map(|n| format!("{n}")).collect();
    let many = format!("[sweep]\nseed = [{0}]\ntrain.epochs = [{0}]", values.join(","));
    let file = place.write("plan.toml", plan(&many).as_bytes());
    assert!(fails(&["sweep".into(), file]).contains("more than 100000 points"));
    let file = place.write("plan.toml", plan("[part]\nreplicate = 0").as_bytes());
    assert!(fails(&["run", &file, "--out", &place.arg("out")].map(str::to_owned)).contains("part"));
    for command in ["status", "cancel", "aggregate"] {
        assert!(fails(&["sweep".into(), command.into(), place.arg("")]).contains("not the folder of a sweep"));
    }
    assert!(fails(&["sweep".into(), "no-such.toml".into()]).contains("no-such.toml"));
    assert!(fails(&["sweep".into(), "no-such".into()]).contains("does not exist; presets"));
}
