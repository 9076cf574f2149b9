//! Whatever byte of a run changes, and whichever of its files change places: it is named, and no
//! number changes in silence.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use rand::Rng;
use rand::seq::IndexedRandom;
use ticketlens::error::Error;
use ticketlens::plan::Plan;
use ticketlens::progress::{Event, Observer, Silent};
use ticketlens::records::{Store, StudyRecord, round_ids};
use ticketlens::run::recompute;
use ticketlens::seed::stream;
use ticketlens::study::{derive, run};

use crate::reseal::{files_below, reseal};
use crate::run::{contents, tiny_plan};

fn plan() -> Plan {
    tiny_plan(&[
        ("arms", "[\"lottery\", \"random_mask\"]"),
        ("data.train", "96"),
        ("prune.rewind", "\"0ep\""),
        ("explain.cam_images", "8"),
    ])
}

/// One run, for tests that leave it as they found it.
fn shared() -> (std::sync::MutexGuard<'static, ()>, &'static Path) {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    static USED: Mutex<()> = Mutex::new(());
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        run(&plan(), folder.path(), &Silent).unwrap();
        folder
    });
    (USED.lock().unwrap_or_else(std::sync::PoisonError::into_inner), folder.path())
}

/// Tensors and records, but for the lock.
fn protected(root: &Path) -> Vec<PathBuf> {
    files_below(root).into_iter().filter(|path| !path.ends_with(".lock")).collect()
}

/// What `report` reads, and the study derived anew: what a number could change in silence.
fn read_all(root: &Path) -> Result<(StudyRecord, StudyRecord), Error> {
    let store = Store::existing(root)?;
    let plan = store.plan()?;
    store.images()?;
    for id in round_ids(&plan) {
        store.round(&id)?;
        store.maps(&id)?;
    }
    for replicate in 0..plan.replicates {
        store.sanity(replicate)?;
    }
    Ok((store.study()?, derive(&plan, &store)?))
}

fn named(faults: &[String], path: &Path) -> bool {
    faults.iter().any(|fault| fault.contains(&path.display().to_string()))
}

#[test]
fn every_flipped_bit_is_named_and_changes_no_number() {
    let (_used, root) = shared();
    let whole = read_all(root).unwrap();
    let faults = Store::existing(root).unwrap().inspect().unwrap();
    assert_eq!((faults.faults.len(), faults.unfinished), (0, 0), "{faults:?}");
    let files = protected(root);
    let mut random = stream(1, "flips", 0);
    for flip in 0..200 {
        // Each kind of file as often as another, however large.
        let path = files.choose(&mut random).unwrap();
        let before = std::fs::read(path).unwrap();
        let mut bytes = before.clone();
        let at = random.random_range(0..bytes.len());
        bytes[at] ^= 1 << random.random_range(0..8);
        std::fs::write(path, &bytes).unwrap();
        let found = Store::existing(root).unwrap().inspect().unwrap();
        assert!(named(&found.faults, path), "flip {flip}: byte {at} of {}: {found:?}", path.display());
        if let Ok(read) = read_all(root) {
            assert!(read == whole, "flip {flip}: byte {at} of {}", path.display());
        }
        std::fs::write(path, &before).unwrap();
    }
    assert!(read_all(root).unwrap() == whole);
}

#[test]
fn every_swap_between_rounds_and_replicates_is_named_and_refused() {
    let (_used, root) = shared();
    let mut by_kind: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for path in protected(root) {
        let kind = path.file_name().unwrap().to_string_lossy().into_owned();
        by_kind.entry(kind).or_default().push(path);
    }
    by_kind.retain(|_, paths| paths.len() > 1);
    assert_eq!(by_kind.len(), 6, "{:?}", by_kind.keys());
    let kinds: Vec<&Vec<PathBuf>> = by_kind.values().collect();
    let mut random = stream(2, "swaps", 0);
    let mut swapped = 0;
    while swapped < 50 {
        let paths = kinds.choose(&mut random).unwrap();
        let pair: Vec<&PathBuf> = paths.choose_multiple(&mut random, 2).collect();
        let [first, second] = [pair[0], pair[1]].map(|path| std::fs::read(path).unwrap());
        // Dense masks are all the same file.
        if first == second {
            continue;
        }
        std::fs::write(pair[0], &second).unwrap();
        std::fs::write(pair[1], &first).unwrap();
        let found = Store::existing(root).unwrap().inspect().unwrap().faults;
        assert!(named(&found, pair[0]) && named(&found, pair[1]), "{pair:?}: {found:?}");
        let tensors = ["weights.safetensors", "mask.safetensors", "theta_k.safetensors"];
        if !tensors.iter().any(|name| pair[0].ends_with(name)) {
            assert!(matches!(read_all(root), Err(Error::Damaged { .. })), "{pair:?}");
        }
        std::fs::write(pair[0], &first).unwrap();
        std::fs::write(pair[1], &second).unwrap();
        swapped += 1;
    }
}

/// A file that cannot be read ends no inspection: the others are looked at too.
#[cfg(unix)]
#[test]
fn what_cannot_be_read_is_named_with_all_other_faults() {
    let (_used, root) = shared();
    let unreadable = root.join("replicate-0/round-01/round.json");
    let flipped = root.join("replicate-1/round-01/weights.safetensors");
    let [record, weights] = [&unreadable, &flipped].map(|path| std::fs::read(path).unwrap());
    std::fs::remove_file(&unreadable).unwrap();
    // It leads to itself.
    std::os::unix::fs::symlink(&unreadable, &unreadable).unwrap();
    std::fs::write(&flipped, &weights[1..]).unwrap();
    let found = Store::existing(root).unwrap().inspect().map(|found| found.faults);
    std::fs::remove_file(&unreadable).unwrap();
    std::fs::write(&unreadable, record).unwrap();
    std::fs::write(&flipped, weights).unwrap();
    let found = found.unwrap();
    assert!(named(&found, &unreadable) && named(&found, &flipped), "{found:?}");
}

/// Notes warnings.
#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl Observer for Warnings {
    fn notice(&self, event: &Event) -> std::ops::ControlFlow<()> {
        if let Event::Warning(text) = event {
            self.0.lock().unwrap().push(text.clone());
        }
        std::ops::ControlFlow::Continue(())
    }
}

#[test]
fn a_run_sets_damage_aside_and_makes_the_same_again() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    run(&plan(), root, &Silent).unwrap();
    let whole = contents(root);
    let flip = |name: &str| {
        let path = root.join(name);
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        std::fs::write(path, bytes).unwrap();
    };
    let damaged = [
        ("plan.toml", "plan.toml"),
        ("manifest.json", "manifest.json"),
        ("images.safetensors", "images.safetensors"),
        ("metrics.json", "metrics.json"),
        ("replicate-0/sanity.json", "replicate-0/sanity.json"),
        ("replicate-1/theta_k.safetensors", "replicate-1/round-00"),
        ("replicate-0/round-01/weights.safetensors", "replicate-0/round-01"),
        ("replicate-0/round-02/mask.safetensors", "replicate-0/round-02"),
        ("replicate-0/random_mask/round-01/explain/maps.safetensors", "replicate-0/random_mask/round-01"),
        ("replicate-1/twin-1/round-00/round.json", "replicate-1/twin-1/round-00"),
    ];
    // One by one, and then all at once, but for the plan: plan or manifest must tell whose run this is.
    for some in damaged.iter().map(std::slice::from_ref).chain([&damaged[1..]]) {
        some.iter().for_each(|(file, _)| flip(file));
        let warnings = Warnings::default();
        run(&plan(), root, &warnings).unwrap();
        let said = warnings.0.into_inner().unwrap().join("\n");
        for (file, aside) in some {
            assert!(said.contains(file) && said.contains("set aside"), "{file}: {said}");
            assert!(root.join(format!("{aside}.damaged")).exists(), "{aside}: {said}");
        }
        for path in files_below(root).iter().filter(|path| path.to_string_lossy().contains(".damaged")) {
            std::fs::remove_file(path).unwrap();
        }
        for (_, aside) in some {
            let _ = std::fs::remove_dir_all(root.join(format!("{aside}.damaged")));
        }
        let now = contents(root);
        assert_eq!(now.keys().collect::<Vec<_>>(), whole.keys().collect::<Vec<_>>());
        for (path, bytes) in &now {
            assert!(*bytes == whole[path], "{} is another", path.display());
        }
        assert_eq!(Store::existing(root).unwrap().inspect().unwrap().faults, Vec::<String>::new());
    }
}

/// Records that fit their files but not their networks: hashes say nothing, computing again does.
#[test]
fn computing_again_finds_records_that_are_not_of_their_network() {
    let (_used, root) = shared();
    let store = Store::existing(root).unwrap();
    let again = recompute(&plan(), &store, &Silent).unwrap();
    assert_eq!(again.faults, Vec::<String>::new());
    assert_eq!((again.networks, again.answers, again.maps, again.exact), (12, 128, 8, true));
    let copy = tempfile::tempdir().unwrap();
    for path in files_below(root) {
        let to = copy.path().join(path.strip_prefix(root).unwrap());
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(path, to).unwrap();
    }
    let at = |name: &str| copy.path().join(name);
    let edit = |name: &str, from: &str, to: &str| {
        let text = std::fs::read_to_string(at(name)).unwrap();
        assert!(text.contains(from), "{name}: no {from}");
        std::fs::write(at(name), text.replacen(from, to, 1)).unwrap();
    };
    let right = "\"test_correct\": \"";
    let text = std::fs::read_to_string(at("replicate-0/round-01/round.json")).unwrap();
    let first = text.split(right).nth(1).unwrap().chars().next().unwrap();
    let other = if first == '1' { '0' } else { '1' };
    edit("replicate-0/round-01/round.json", &format!("{right}{first}"), &format!("{right}{other}"));
    edit("replicate-0/round-02/round.json", "\"kept\": ", "\"kept\": 1");
    std::fs::copy(at("replicate-1/round-01/mask.safetensors"), at("replicate-1/round-02/mask.safetensors")).unwrap();
    std::fs::copy(
        at("replicate-0/random_mask/round-01/explain/maps.safetensors"),
        at("replicate-0/random_mask/round-02/explain/maps.safetensors"),
    )
    .unwrap();
    reseal(copy.path());
    let found = recompute(&plan(), &Store::existing(copy.path()).unwrap(), &Silent).unwrap().faults.join("\n");
    for expected in [
        "replicate 0, lottery round 1: the test accuracy",
        "replicate 0, lottery round 1: the network does not give the answers",
        "replicate 0, lottery round 2: the mask keeps another number",
        "replicate 1, lottery round 2: the density is not that of the mask",
        "replicate 0, random_mask round 2: the network's maps",
    ] {
        assert!(found.contains(expected), "{expected}: {found}");
    }
}
