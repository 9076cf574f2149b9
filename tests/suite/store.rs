//! The run folder: what is finished is read back and left alone, what is not leaves no record, and
//! other data are refused.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use ticketlens::plan::Plan;
use ticketlens::progress::{Event, Observer, Silent};
use ticketlens::records::{Store, round_ids};
use ticketlens::run::{Options, Setup};
use ticketlens::study::{derive, run, run_with};

use crate::reseal::reseal;
use crate::run::tiny_plan;

fn plan() -> Plan {
    tiny_plan(&[("arms", "[\"lottery\"]"), ("prune.rounds", "1"), ("data.train", "160")])
}

/// Notes what is said.
#[derive(Default)]
struct Notes(Mutex<Vec<Event>>);

impl Observer for Notes {
    fn notice(&self, event: &Event) -> ControlFlow<()> {
        self.0.lock().unwrap().push(event.clone());
        ControlFlow::Continue(())
    }
}

fn edit_json(path: &Path, edit: impl FnOnce(&mut serde_json::Value)) {
    let mut value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    edit(&mut value);
    std::fs::write(path, serde_json::to_vec(&value).unwrap()).unwrap();
}

#[test]
fn a_finished_run_is_read_and_not_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let first = run(&plan(), folder.path(), &Silent).unwrap();
    let notes = Notes::default();
    assert_eq!(run(&plan(), folder.path(), &notes).unwrap(), first);
    let events = notes.0.into_inner().unwrap();
    assert!(events.iter().any(|event| matches!(event, Event::RunStarted { rounds: 6, finished: 6 })));
    let resumed: Vec<bool> = events
        .iter()
        .filter_map(|event| match event {
            Event::RoundDone { resumed, .. } => Some(*resumed),
            _ => None,
        })
        .collect();
    assert_eq!(resumed, [true; 6]);
    assert!(!events.iter().any(|event| matches!(event, Event::RoundStarted { .. } | Event::StepDone { .. })));

    // Other data or another version's records are refused, not used.
    let store = Store::existing(folder.path()).unwrap();
    let record = folder.path().join("replicate-0/round-01/round.json");
    let whole = std::fs::read(&record).unwrap();
    edit_json(&record, |value| value["format"] = (value["format"].as_u64().unwrap() + 1).into());
    reseal(folder.path());
    let error = store.round(&round_ids(&plan())[1]).unwrap_err().to_string();
    assert!(error.contains("round.json") && error.contains("record format"), "{error}");
    std::fs::write(&record, &whole).unwrap();
    reseal(folder.path());
    // Found by fuzzing: records of one run that speak of different numbers of images.
    edit_json(&record, |value| value["test_correct"] = "10110".into());
    reseal(folder.path());
    let error = derive(&plan(), &store).unwrap_err().to_string();
    assert!(error.contains("lottery round 1 of replicate 0 records other answers"), "{error}");
    std::fs::write(&record, whole).unwrap();
    let other = |value: &mut serde_json::Value| {
        value["data"] = "0badc0ffee".into();
        let run = ["plan", "data"].map(|field| value[field].as_str().unwrap().to_owned()).join("\n") + "\n";
        value["seal"]["run"] = crate::reseal::sha256(run.as_bytes()).into();
    };
    edit_json(&folder.path().join("manifest.json"), other);
    reseal(folder.path());
    let error = run(&plan(), folder.path(), &Silent).unwrap_err().to_string();
    assert!(error.contains("the data have changed"), "{error}");
}

/// The record is the commit marker: whatever file of a round cannot be written, there is no record
/// and nothing half-written.
#[test]
fn a_round_that_cannot_be_stored_whole_has_no_record() {
    let folder = tempfile::tempdir().unwrap();
    run(&plan(), folder.path(), &Silent).unwrap();
    let store = Store::existing(folder.path()).unwrap();
    let setup = Setup::new(&plan()).unwrap();
    let id = round_ids(&plan()).remove(1);
    let record = store.round(&id).unwrap().unwrap();
    let weights = store.weights(&id, &setup.model).unwrap();
    let mask = store.mask(&id, &setup.model.network.layout).unwrap();
    let maps = store.maps(&id).unwrap();
    for name in ["weights.safetensors", "mask.safetensors", "explain/maps.safetensors"] {
        let round = folder.path().join("replicate-0/round-01");
        std::fs::remove_dir_all(&round).unwrap();
        // A folder stands where the file belongs.
        std::fs::create_dir_all(round.join(name).join("in the way")).unwrap();
        let error = store.finish_round(&record, &weights, &mask, &maps).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
        assert_eq!(store.round(&id).unwrap(), None, "{name}");
        for place in [round.clone(), round.join("explain")].iter().filter(|place| place.is_dir()) {
            for entry in std::fs::read_dir(place).unwrap() {
                let found = entry.unwrap().file_name().into_string().unwrap();
                assert!(!found.ends_with(".part"), "{name}: {found} was left");
            }
        }
        std::fs::remove_dir_all(round.join(name)).unwrap();
        store.finish_round(&record, &weights, &mask, &maps).unwrap();
        assert_eq!(store.round(&id).unwrap().as_ref(), Some(&record));
        assert_eq!(store.weights(&id, &setup.model).unwrap(), weights);
        let read: BTreeMap<String, Vec<usize>> =
            store.maps(&id).unwrap().into_iter().map(|(stage, maps)| (stage, maps.dims().to_vec())).collect();
        assert_eq!(read, maps.iter().map(|(stage, maps)| (stage.clone(), maps.dims().to_vec())).collect());
    }
}

/// Removes a folder when a round of the lottery is trained.
struct Removes {
    round: usize,
    folder: PathBuf,
    training: AtomicBool,
}

impl Observer for Removes {
    fn notice(&self, event: &Event) -> ControlFlow<()> {
        match event {
            Event::RoundStarted { arm, round, .. } => {
                self.training.store(arm == "lottery" && *round == self.round, Ordering::Relaxed);
            }
            Event::Phase("evaluating") if self.training.swap(false, Ordering::Relaxed) => {
                std::fs::remove_dir_all(&self.folder).unwrap();
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// A record that left out what its network is made from would never be found to be outdated.
#[test]
fn what_a_round_is_made_from_must_be_there_when_it_is_recorded() {
    let plan = tiny_plan(&[
        ("arms", "[\"lottery\"]"),
        ("prune.rounds", "1"),
        ("data.train", "160"),
        // Of several that are made side by side events come in any order.
        ("replicates", "1"),
    ]);
    for (round, folder, named) in [(1, "replicate-0/round-00", "round-00/round.json"), (0, "", "manifest.json")] {
        let root = tempfile::tempdir().unwrap();
        let removes = Removes { round, folder: root.path().join(folder), training: AtomicBool::new(false) };
        let error = run(&plan, root.path(), &removes).unwrap_err().to_string();
        assert!(error.contains(named) && error.contains("was removed while the run went on"), "{error}");
        let record = root.path().join(format!("replicate-0/round-0{round}/round.json"));
        assert!(!record.exists(), "{}", record.display());
        if round > 0 {
            run(&plan, root.path(), &Silent).unwrap();
            let store = Store::existing(root.path()).unwrap();
            assert_eq!(store.inspect().unwrap().faults, Vec::<String>::new());
            let sealed = std::fs::read_to_string(record).unwrap();
            assert!(sealed.contains("\"replicate-0/round-00/round.json\": "), "{sealed}");
        }
    }
}

/// What a run must not be: begun with other vectors, in a folder that another process has, under a
/// name that leaves the folder, with an excluded layer that is none.
#[test]
fn a_run_is_of_one_computation_in_a_folder_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan();
    let mut store = Store::open(folder.path(), &plan).unwrap();
    let setup = Setup::new(&plan).unwrap();
    let manifest = setup.manifest(&plan).unwrap();
    assert_eq!(manifest.vectors, ticketlens::kernels::vector_path());
    let (shape, pixels) = setup.cam_pixels().unwrap();
    store.begin(&manifest, (&shape, &pixels), false).unwrap();
    edit_json(&folder.path().join("manifest.json"), |value| value["vectors"] = "vax".into());
    reseal(folder.path());
    let error = run(&plan, folder.path(), &Silent).unwrap_err().to_string();
    assert!(error.contains("computed with vax vectors") && error.contains("--allow-mixed"), "{error}");
    let lock = store.lock().unwrap();
    let error = run(&plan, folder.path(), &Silent).unwrap_err().to_string();
    assert!(error.contains(&format!("another process ({} on ", std::process::id())), "{error}");
    drop(lock);
    assert_eq!(std::fs::read(folder.path().join(".lock")).unwrap(), b"");
    store.lock().unwrap();
    // A kill while the plan was being written leaves a part; the same command goes on.
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(".plan.toml.123.part"), "name = \"qu").unwrap();
    Store::open(folder.path(), &plan).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("thesis.tex"), "x").unwrap();
    assert!(Store::open(folder.path(), &plan).unwrap_err().to_string().contains("is not empty"));
    for name in ["../evil", "a/b", "", ".hidden"] {
        let text = plan.to_toml().unwrap().replacen("name = \"quick\"", &format!("name = \"{name}\""), 1);
        let error = Plan::parse("plan", &text, &[]).unwrap_err().to_string();
        assert!(error.contains("`name`"), "{name}: {error}");
    }
    let misspelt = tiny_plan(&[("prune.exclude", "[\"conv1\", \"fcc\"]")]);
    let Err(error) = Setup::new(&misspelt) else { panic!("`fcc` is no layer") };
    assert!(error.to_string().contains("prune.exclude") && error.to_string().contains("fcc"), "{error}");
}

/// The data are known by their content: a folder that was moved, or is reached by another path, is the same.
#[test]
fn moved_data_go_on_and_changed_data_do_not() {
    let data = tempfile::tempdir().unwrap();
    let here = data.path().join("here");
    std::fs::create_dir(&here).unwrap();
    for entry in std::fs::read_dir(crate::support::fixture("mnist")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, here.join(path.file_name().unwrap())).unwrap();
    }
    let at = |path: &Path| {
        let path = format!("\"{}\"", path.display());
        let fields =
            [("arms", "[\"lottery\"]"), ("prune.rounds", "1"), ("data.train", "160"), ("data.source", "mnist")];
        tiny_plan(&[&fields[..], &[("replicates", "1"), ("data.path", path.as_str())]].concat())
    };
    let folder = tempfile::tempdir().unwrap();
    let first = run(&at(&here), folder.path(), &Silent).unwrap();
    let there = data.path().join("there");
    std::fs::rename(&here, &there).unwrap();
    let notes = Notes::default();
    assert_eq!(run(&at(&there), folder.path(), &notes).unwrap(), first);
    assert!(!notes.0.into_inner().unwrap().iter().any(|event| matches!(event, Event::StepDone { .. })));
    assert_eq!(at(&here).digest().unwrap(), at(&there).digest().unwrap());
    // Training images in the place of test images.
    std::fs::rename(there.join("train-images-idx3-ubyte.gz"), there.join("t10k-images-idx3-ubyte.gz")).unwrap();
    assert!(run(&at(&there), folder.path(), &Silent).is_err());
}

/// Rounds of another kind of machine are refused, or stand beside others with a warning in the study.
#[test]
fn a_mixed_run_is_refused_or_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let first = run(&plan(), folder.path(), &Silent).unwrap();
    assert!(!first.warnings.iter().any(|warning| warning.contains("--allow-mixed")));
    edit_json(&folder.path().join("replicate-0/round-01/round.json"), |value| {
        value["seal"]["computed"]["vectors"] = "vax".into();
    });
    reseal(folder.path());
    let error = run(&plan(), folder.path(), &Silent).unwrap_err().to_string();
    assert!(error.contains("round-01") && error.contains("vax") && error.contains("--allow-mixed"), "{error}");
    let options = Options { allow_mixed: true, ..Options::default() };
    let study = run_with(&plan(), folder.path(), &options, &Silent).unwrap();
    let said = study.warnings.iter().find(|warning| warning.contains("--allow-mixed")).unwrap();
    assert!(said.contains("1 by") && said.contains("5 by") && said.contains("vax"), "{said}");
}
