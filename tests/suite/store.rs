//! The run folder: what is finished is read back and left alone, what is not leaves no record, and other data are refused.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Mutex;

use ticketlens::plan::Plan;
use ticketlens::progress::{Event, Observer, Silent};
use ticketlens::records::{Store, round_ids};
use ticketlens::run::Setup;
use ticketlens::study::{derive, run};

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
    let error = store.round(&round_ids(&plan())[1]).unwrap_err().to_string();
    assert!(error.contains("round.json") && error.contains("record format"), "{error}");
    std::fs::write(&record, &whole).unwrap();
    // Found by fuzzing: records of one run that speak of different numbers of images.
    edit_json(&record, |value| value["test_correct"] = "10110".into());
    let error = derive(&plan(), &store).unwrap_err().to_string();
    assert!(error.contains("lottery round 1 of replicate 0 records other answers"), "{error}");
    std::fs::write(&record, whole).unwrap();
    edit_json(&folder.path().join("manifest.json"), |value| value["data"] = "0badc0ffee".into());
    let error = run(&plan(), folder.path(), &Silent).unwrap_err().to_string();
    assert!(error.contains("the data have changed"), "{error}");
}

/// The record is the commit marker: whatever file of a round cannot be written, there is no record and nothing half-written.
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

/// What a run must not be: begun with other vectors, in a folder that another process has, under a name that leaves the folder, with an
/// excluded layer that is none.
#[test]
fn a_run_is_of_one_computation_in_a_folder_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan();
    let store = Store::open(folder.path(), &plan).unwrap();
    let manifest = Setup::new(&plan).unwrap().manifest(&plan).unwrap();
    assert_eq!(manifest.vectors, ticketlens::kernels::vector_path());
    store.begin(&manifest).unwrap();
    edit_json(&folder.path().join("manifest.json"), |value| value["vectors"] = "vax".into());
    let error = run(&plan, folder.path(), &Silent).unwrap_err().to_string();
    assert!(error.contains("began with vax vectors"), "{error}");
    let lock = store.lock().unwrap();
    let error = run(&plan, folder.path(), &Silent).unwrap_err().to_string();
    assert!(error.contains("another process"), "{error}");
    drop(lock);
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
