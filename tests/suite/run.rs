//! Whole runs on a small plan: the invariants of lottery tickets, resuming, and thread counts.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use ticketlens::data::{Images, Subset};
use ticketlens::error::Error;
use ticketlens::nn::Weights;
use ticketlens::plan::Plan;
use ticketlens::progress::{Event, Observer, Silent};
use ticketlens::prune::{Mask, prune_count};
use ticketlens::records::{FaithfulnessRecord, MethodChecks, RoundId, Store, round_ids};
use ticketlens::run::{Options, Setup, barriers, recompute};
use ticketlens::stats::similarity::Measure;
use ticketlens::study::{run, run_with};
use ticketlens::train::Training;

use crate::reseal::files_below;

pub(crate) fn tiny_plan(overrides: &[(&str, &str)]) -> Plan {
    let mut all = vec![
        ("replicates", "2"),
        ("floor.twins", "1"),
        ("explain.stages", "[\"layer3\"]"),
        ("data.train", "320"),
        ("data.validation", "300"),
        ("data.test", "300"),
        ("model.width", "4"),
        ("prune.rounds", "2"),
        ("prune.rewind", "3it"),
        ("prune.fraction", "0.5"),
        ("train.epochs", "1"),
        ("train.batch_size", "32"),
        ("explain.cam_images", "20"),
        ("explain.class_images", "12"),
        ("explain.images_per_set", "6"),
        ("explain.random_sets", "20"),
        ("statistics.permutations", "199"),
        ("statistics.bootstrap", "99"),
        ("arms", "[\"lottery\", \"random_mask\", \"reinit\"]"),
    ];
    all.extend_from_slice(overrides);
    let all: Vec<(String, String)> = all.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Plan::preset("quick", &all).unwrap()
}

/// Every file of a run but for wall-clock seconds, and the manifest's thread count with its digest.
pub(crate) fn contents(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let mut bytes = std::fs::read(&path).unwrap();
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.ends_with(".json") {
                let mut value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
                value.as_object_mut().unwrap().remove("seconds");
                if value.as_object_mut().unwrap().remove("threads").is_some() {
                    value["seal"]["digest"] = "".into();
                }
                bytes = serde_json::to_vec(&value).unwrap();
            }
            files.insert(path.strip_prefix(root).unwrap().to_owned(), bytes);
        }
    }
    files
}

/// Breaks at the n-th event.
struct BreakAt {
    event: usize,
    seen: AtomicUsize,
}

impl Observer for BreakAt {
    fn notice(&self, _: &Event) -> ControlFlow<()> {
        match self.seen.fetch_add(1, Ordering::SeqCst) == self.event {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

#[test]
fn a_run_keeps_the_invariants_of_lottery_tickets() {
    let plan = tiny_plan(&[]);
    let folder = tempfile::tempdir().unwrap();
    let study = run(&plan, folder.path(), &Silent).unwrap();
    let store = Store::existing(folder.path()).unwrap();
    let setup = Setup::new(&plan).unwrap();
    let layout = setup.model.network.layout.clone();
    for replicate in 0..plan.replicates {
        let theta = store.rewind_state(replicate, &setup.model).unwrap();
        assert_ne!(theta, setup.model.network.initialise(plan.seed + replicate as u64), "k = 3 is not the start");
        for id in round_ids(&plan).into_iter().filter(|id| id.replicate == replicate) {
            let record = store.round(&id).unwrap().unwrap();
            let weights = store.weights(&id, &setup.model).unwrap();
            let mask = store.mask(&id, &layout).unwrap();
            assert!(mask.holds(&weights), "{id:?}: w (1 - m) = 0");
            assert_eq!(record.weights, weights.digest());
            let mut expected = record.total;
            for _ in 0..id.round {
                expected -= prune_count(plan.prune.fraction, expected);
            }
            assert_eq!(record.kept, expected, "{id:?}: exact count");
            for spec in layout.parameters.iter().filter(|spec| !spec.kind.prunable()) {
                assert!(mask.bits()[spec.range.clone()].iter().all(|&bit| bit == 1), "{} is prunable", spec.name);
            }
            if id.arm == "lottery" && id.round > 0 {
                let mut before = id.clone();
                before.round -= 1;
                let before = store.mask(&before, &layout).unwrap();
                assert!(mask.bits().iter().zip(before.bits()).all(|(now, then)| now <= then), "{id:?}: nested");
            }
            if id.arm == "random_mask" {
                let mut ticket = id.clone();
                ticket.arm = "lottery".into();
                let ticket = store.mask(&ticket, &layout).unwrap();
                assert_eq!(ticket.layer_densities(&[]), mask.layer_densities(&[]));
                assert_ne!(ticket, mask);
            }
            if id.arm == "reinit" {
                let mut ticket = id.clone();
                ticket.arm = "lottery".into();
                assert_eq!(store.mask(&ticket, &layout).unwrap(), mask);
                // The ticket's own start is not the control's: with one epoch of training most
                // weights are still near it.
                let own = store.weights(&ticket, &setup.model).unwrap();
                let apart = |start: &Weights, trained: &Weights| -> f64 {
                    start
                        .parameters
                        .iter()
                        .zip(&trained.parameters)
                        .zip(mask.bits())
                        .filter(|(_, bit)| **bit == 1)
                        .map(|((a, b), _)| f64::from(a - b).powi(2))
                        .sum()
                };
                assert!(apart(&theta, &own) * 2.0 < apart(&theta, &weights), "{id:?}: starts from weights of its own");
            }
        }
    }
    for arm in ["random_mask", "reinit"] {
        let of = study.densities.iter().filter(|record| record.arm == arm);
        assert_eq!(of.count(), 2, "{arm}: an answer for each round");
    }
    assert_eq!(study.floor.pairs.len(), 2 + 1, "each parent and its twin, and the two parents");
    assert_eq!(study.networks.len(), 2 * (3 + 1 + 2 + 2));
    for summary in study.networks.iter().filter(|summary| summary.id.round == 0 && !summary.id.is_twin()) {
        assert_eq!(summary.drift.concepts, Some(0.0), "a network does not drift from itself");
        for measure in Measure::ALL {
            let drift = summary.drift.pixels[&measure];
            assert!(drift.all.is_some_and(|drift| drift.abs() < 1e-12), "{measure:?}: {drift:?}");
        }
    }
}

/// Every round is trained again from the state it must start from; equal final weights and buffers,
/// bit for bit, show that it did. A parameter or a batch-norm buffer that was not rewound, a stale
/// optimiser, or a shifted data order would change them.
#[test]
fn every_round_starts_from_theta_k_buffers_and_all() {
    let plan = tiny_plan(&[("replicates", "2")]);
    let folder = tempfile::tempdir().unwrap();
    run(&plan, folder.path(), &Silent).unwrap();
    let store = Store::existing(folder.path()).unwrap();
    let setup = Setup::new(&plan).unwrap();
    let network = &setup.model.network;
    let images = Subset::new(&setup.data, &setup.splits.train);
    let config = plan.train_config();
    let total = config.total_steps(images.len());
    let k = 3;
    for replicate in 0..plan.replicates {
        let seed = plan.seed + replicate as u64;
        let training = Training { model: &setup.model, images: &images, config: &config, seed };
        let train = |start: &Weights, mask: &Mask, from, to| {
            let mut weights = start.clone();
            training.run(&mut weights, mask, from, to, &Silent, |_, _| {}).unwrap();
            weights
        };
        let initial = network.initialise(seed);
        let theta_k = train(&initial, &Mask::dense(network.layout.clone()), 0, k);
        assert!(
            theta_k == store.rewind_state(replicate, &setup.model).unwrap(),
            "theta_k is the state after {k} steps"
        );
        assert_ne!(theta_k.buffers, initial.buffers, "the buffers have moved by step {k}, so rewinding them shows");
        for id in round_ids(&plan).into_iter().filter(|id| id.replicate == replicate) {
            let mask = store.mask(&id, &network.layout).unwrap();
            let again = match (id.arm.as_str(), id.round) {
                ("lottery", 0) => train(&initial, &mask, 0, total),
                // A twin: the same θ_k, dense, with a data order of its own.
                ("twin-1", 0) => {
                    assert!(mask.bits().iter().all(|&bit| bit == 1));
                    let seed = Setup::derived_seed(&plan, replicate, "twin-1");
                    let mut weights = theta_k.clone();
                    let training = Training { model: &setup.model, images: &images, config: &config, seed };
                    training.run(&mut weights, &mask, k, total, &Silent, |_, _| {}).unwrap();
                    assert!(weights != train(&theta_k, &mask, k, total), "another order gives another network");
                    weights
                }
                ("reinit", _) => {
                    let own = network.initialise(Setup::derived_seed(&plan, replicate, "reinit"));
                    train(&own, &mask, 0, total)
                }
                _ => train(&theta_k, &mask, k, total),
            };
            assert!(again == store.weights(&id, &setup.model).unwrap(), "{id:?}");
        }
    }
}

#[test]
fn one_thread_or_more_an_interrupted_run_or_a_whole_one_give_the_same_bits() {
    // With two threads two replicates side by side, then the third; with five all three, one of them with one thread.
    let plan = tiny_plan(&[("arms", "[\"lottery\"]"), ("replicates", "3")]);
    let with_threads = |threads: usize| {
        let folder = tempfile::tempdir().unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| run(&plan, folder.path(), &Silent)).unwrap();
        contents(folder.path())
    };
    let one = with_threads(1);
    for threads in [2, 5] {
        let more = with_threads(threads);
        assert_eq!(one.keys().collect::<Vec<_>>(), more.keys().collect::<Vec<_>>());
        for (path, bytes) in &one {
            assert!(bytes == &more[path], "{} differs between 1 and {threads} threads", path.display());
        }
    }
    let folder = tempfile::tempdir().unwrap();
    for event in [2, 5, 12, 17, 30] {
        let observer = BreakAt { event, seen: AtomicUsize::new(0) };
        match run(&plan, folder.path(), &observer) {
            Err(Error::Interrupted) => {}
            other => panic!("event {event}: {other:?}"),
        }
    }
    run(&plan, folder.path(), &Silent).unwrap();
    for (path, bytes) in &contents(folder.path()) {
        assert!(bytes == &one[path], "{} differs after interruptions", path.display());
    }
}

/// Stops at its fifth step, and notes warnings.
#[derive(Default)]
struct FiveSteps {
    steps: AtomicUsize,
    warnings: std::sync::Mutex<String>,
}

impl Observer for FiveSteps {
    fn notice(&self, event: &Event) -> ControlFlow<()> {
        match event {
            Event::StepDone { .. } if self.steps.fetch_add(1, Ordering::SeqCst) == 4 => return ControlFlow::Break(()),
            Event::Warning(text) => self.warnings.lock().unwrap().push_str(text),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Trainings of twelve steps in four epochs, stopped at every fifth step: a program that dies loses
/// an epoch, not the round, so the run comes to its end, with the same bits; θ_k, which a training
/// that goes on does not meet again, among them. Nothing is left of the states in between, and a
/// damaged one is not used.
#[test]
fn a_training_goes_on_from_its_last_epoch() {
    let adam = "{ name = \"adam_w\", beta1 = 0.9, beta2 = 0.99, epsilon = 1e-8 }";
    for (optimizer, rewind) in [("{ name = \"sgd\", momentum = 0.9 }", "\"3it\""), (adam, "\"0ep\"")] {
        let plan = tiny_plan(&[
            ("arms", "[\"lottery\", \"reinit\"]"),
            ("replicates", "1"),
            ("prune.rounds", "1"),
            ("prune.rewind", rewind),
            ("train.epochs", "4"),
            ("data.train", "96"),
            ("train.optimizer", optimizer),
            ("train.look_every", "2"),
        ]);
        let (whole, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        run(&plan, whole.path(), &Silent).unwrap();
        let store = Store::existing(whole.path()).unwrap();
        for id in round_ids(&plan) {
            let record = store.round(&id).unwrap().unwrap();
            let steps: Vec<u64> = record.looks.iter().map(|look| look.step).collect();
            // Tickets and twins begin at step k.
            let later = id.is_twin() || id.arm == "lottery" && id.round == 1;
            let first = if later && rewind == "\"3it\"" { 4 } else { 2 };
            assert_eq!(steps, (first..=12).step_by(2).collect::<Vec<_>>(), "{id:?}");
            let last = record.looks.last().unwrap();
            assert_eq!(last.accuracy, record.validation_accuracy, "{id:?}");
            assert!(record.looks.windows(2).all(|pair| pair[0].loss != pair[1].loss && pair[0].loss > 0.0), "{id:?}");
        }
        let options = Options { keep_every: std::time::Duration::ZERO, ..Options::default() };
        let mut calls = 0;
        loop {
            let stop = FiveSteps::default();
            let ended = run_with(&plan, folder.path(), &options, &stop);
            let said = stop.warnings.into_inner().unwrap();
            assert_eq!(
                said.contains("training.json") || said.contains("training-"),
                calls == 2,
                "call {calls}: {said}"
            );
            match ended {
                Ok(_) => break,
                Err(Error::Interrupted) => {}
                other => panic!("call {calls}: {other:?}"),
            }
            calls += 1;
            assert!(calls < 30, "it comes to no end");
            assert_eq!(Store::existing(folder.path()).unwrap().inspect().unwrap().faults, Vec::<String>::new());
            if calls == 2 {
                let states = files_below(folder.path()).into_iter();
                let state = states.filter(|path| path.to_string_lossy().contains("training-")).collect::<Vec<_>>();
                let mut bytes = std::fs::read(&state[0]).unwrap();
                *bytes.last_mut().unwrap() ^= 1;
                std::fs::write(&state[0], bytes).unwrap();
            }
        }
        assert!(calls > 8, "stopped {calls} times");
        let mut left = contents(folder.path());
        left.retain(|path, _| !path.to_string_lossy().contains(".damaged"));
        let whole = contents(whole.path());
        assert_eq!(left.keys().collect::<Vec<_>>(), whole.keys().collect::<Vec<_>>());
        for (path, bytes) in &left {
            assert!(*bytes == whole[path], "{} differs", path.display());
        }
    }
}

#[test]
fn a_folder_of_another_plan_is_refused_and_left_alone() {
    let plan = tiny_plan(&[]);
    let folder = tempfile::tempdir().unwrap();
    Store::open(folder.path(), &plan).unwrap();
    let before = contents(folder.path());
    let error = run(&tiny_plan(&[("seed", "9")]), folder.path(), &Silent).unwrap_err().to_string();
    assert!(error.contains("another plan"), "{error}");
    assert_eq!(before, contents(folder.path()));
}

#[test]
fn a_plan_survives_a_round_trip_and_bad_plans_name_their_field() {
    for (name, _) in ticketlens::plan::PRESETS {
        let overrides = [("data.path".to_owned(), "x".to_owned())];
        let plan = Plan::preset(name, &overrides).unwrap();
        let again = Plan::parse("again", &plan.to_toml().unwrap(), &[]).unwrap();
        assert_eq!(plan, again);
        assert_eq!(plan.digest().unwrap(), again.digest().unwrap());
    }
    let cases = [
        ("prune.fraction", "0", "prune.fraction"),
        ("prune.fraction", "1.0", "prune.fraction"),
        ("prune.colour", "3", "colour"),
        ("explain.stages", "[\"layer9\"]", "layer9"),
        ("explain.random_sets", "5", "explain.random_sets"),
        ("explain.random_sets", "2000000000", "explain.random_sets"),
        ("explain.random_sets", "9223372036854775807", "explain.random_sets"),
        ("replicates", "0", "replicates"),
        ("replicates", "1000000000", "replicates"),
        ("replicates", "90000", "networks"),
        ("prune.rounds", "4611686018427387904", "prune.rounds"),
        ("train.epochs", "1000000000", "train.epochs"),
        ("statistics.permutations", "1000000000", "statistics.permutations"),
        ("statistics.bootstrap", "1000000000", "statistics.bootstrap"),
        (&["a"; 30_000].join("."), "1", "30000 parts"),
        ("prune.rewind", "\"3 epochs\"", "prune.rewind"),
        ("data.source", "mnist", "data.path"),
        ("model.family", "resnet19", "model.family"),
        ("explain.partners", "40", "explain.partners"),
        ("explain.partners", "0", "explain.partners"),
        ("explain.cav", "\"lasso\"", "lasso"),
        ("explain.saliency", "[]", "explain.saliency"),
        ("explain.saliency", "[\"grad-kam\"]", "grad-kam"),
        ("explain.saliency", "[\"gradient\", \"grad-cam\"]", "`gradient` works on the input"),
        ("explain.saliency", "[\"layer-cam\", \"layer-cam\"]", "twice"),
        ("statistics.alpha", "0.0001", "explain.random_sets"),
        ("data.planted", "{ used = [\"smell\"] }", "smell"),
        ("data.planted", "{}", "data.planted"),
        ("data.source", "planted", "data.task"),
        ("data.task", "{ low = [\"0\"] }", "data.task"),
        ("prune.layers", "{ fc = 0.1 }", "layerwise"),
        ("train.look_every", "0", "train.look_every"),
        ("prune.layers", "{ fc = 1.5 }", "prune.layers.fc"),
        ("prune.late", "{ after = 5, fraction = 0.5 }", "prune.late.after"),
        ("prune.late", "{ after = 0, fraction = 0.5 }", "prune.late.after"),
        ("prune.late", "{ after = 2, fraction = 1.0 }", "prune.late.fraction"),
        ("prune.control_rounds", "[2, 2]", "prune.control_rounds"),
        ("prune.control_rounds", "[]", "prune.control_rounds"),
        ("prune.control_rounds", "[0]", "prune.control_rounds"),
        ("prune.control_rounds", "[6]", "prune.control_rounds"),
    ];
    for (key, value, named) in cases {
        let error = Plan::preset("quick", &[(key.to_owned(), value.to_owned())]).unwrap_err().to_string();
        assert!(error.contains(named) && !error.contains('\n'), "{key}={value}: {error}");
    }
}

#[test]
fn layers_with_a_share_of_their_own_go_by_it() {
    let settings = |layers: &'static str| {
        [
            ("arms", "[\"lottery\"]"),
            ("replicates", "1"),
            ("floor.twins", "0"),
            ("prune.rounds", "1"),
            ("prune.scope", "layerwise"),
            ("prune.layers", layers),
        ]
    };
    let error = Setup::new(&tiny_plan(&settings("{ head = 0.1 }"))).err().unwrap().to_string();
    assert!(error.contains("prune.layers") && error.contains("no prunable layer `head`"), "{error}");
    let plan = tiny_plan(&settings("{ fc = 0.1 }"));
    assert_eq!(plan, Plan::parse("again", &plan.to_toml().unwrap(), &[]).unwrap());
    let folder = tempfile::tempdir().unwrap();
    run(&plan, folder.path(), &Silent).unwrap();
    let store = Store::existing(folder.path()).unwrap();
    let record = store.round(&round_ids(&plan)[1]).unwrap().unwrap();
    for layer in &record.layers {
        let share = if layer.name == "fc.weight" { 0.1 } else { 0.5 };
        assert_eq!(layer.kept, layer.total - prune_count(share, layer.total), "{}", layer.name);
    }
}

#[test]
fn later_rounds_prune_by_another_share_and_other_arms_stand_at_some_rounds() {
    let plan = tiny_plan(&[
        ("replicates", "1"),
        ("prune.rounds", "3"),
        ("prune.late", "{ after = 1, fraction = 0.25 }"),
        ("prune.control_rounds", "[1, 3]"),
        ("arms", "[\"lottery\", \"random_mask\", \"retrained\"]"),
    ]);
    let folder = tempfile::tempdir().unwrap();
    run(&plan, folder.path(), &Silent).unwrap();
    let store = Store::existing(folder.path()).unwrap();
    let names: Vec<(String, usize)> = round_ids(&plan).into_iter().map(|id| (id.arm, id.round)).collect();
    let of = |arm: &str| names.iter().filter(|(name, _)| name == arm).map(|(_, round)| *round).collect::<Vec<_>>();
    assert_eq!([of("lottery"), of("random_mask"), of("retrained")], [vec![0, 1, 2, 3], vec![1, 3], vec![1, 3]]);
    let id = |arm: &str, round| RoundId { arm: arm.into(), replicate: 0, round };
    let kept = |round| store.round(&id("lottery", round)).unwrap().unwrap().kept;
    let cut = |from: usize, share| from - prune_count(share, from);
    assert_eq!([kept(1), kept(2), kept(3)], [cut(kept(0), 0.5), cut(kept(1), 0.25), cut(kept(2), 0.25)]);
    let model = Setup::new(&plan).unwrap().model;
    for round in [1, 3] {
        let of = |arm| {
            (
                store.mask(&id(arm, round), &model.network.layout).unwrap(),
                store.weights(&id(arm, round), &model).unwrap(),
            )
        };
        let ((mask, ticket), (same, again)) = (of("lottery"), of("retrained"));
        assert!(mask == same && mask.holds(&again), "round {round}");
        assert_ne!(ticket, again, "round {round}: another data order");
    }
    let found = recompute(&plan, &store, &Silent).unwrap();
    assert_eq!((found.networks, found.faults), (9, Vec::new()));
    let record = barriers(&plan, &store, 3, &Silent).unwrap();
    // A twin, two tickets trained again, three steps from ticket to ticket.
    assert_eq!(record.barriers.len(), 6);
    let ends = |network: RoundId| {
        let starts = record.barriers.iter().filter(|line| line.from == network).map(|line| line.errors[0]);
        let stops = record.barriers.iter().filter(|line| line.to == network).map(|line| line.errors[2]);
        starts.chain(stops).collect::<Vec<f64>>()
    };
    for round in 0..4 {
        let errors = ends(id("lottery", round));
        assert!(errors.len() > 1 || round == 2 || round == 3, "round {round}");
        assert!(errors.iter().all(|error| *error == errors[0]), "one network, one error: {errors:?}");
    }
    assert!(barriers(&plan, &store, 2, &Silent).unwrap_err().to_string().contains("at least 3 points"));
}

/// Runs are resumed, and their folders named, by these; `quick` is left out, since its sizes are tuned.
#[test]
fn hashes_of_the_presets_are_what_they_were() {
    let known = [
        ("mnist", "5ca00b32c97bda4f"),
        ("fashion", "34748a451cbfb6e0"),
        ("mnist-as-published", "950530ac6db503f0"),
        ("mnist-corrected", "ce0b0f7ec7459e75"),
        ("cub", "75a24265ff86924c"),
        ("cub-small", "a8365ba8ad686d55"),
    ];
    let found = known.map(|(name, _)| {
        let plan = Plan::preset(name, &[("data.path".to_owned(), "x".to_owned())]).unwrap();
        (name, plan.digest().unwrap()[..16].to_owned())
    });
    assert_eq!(found.each_ref().map(|(name, hash)| (*name, hash.as_str())), known);
}

#[test]
fn a_plan_over_a_preset_is_that_preset_but_for_what_it_says() {
    let text = "preset = \"quick\"\nname = \"mine\"\n[data]\ntask = { few = [\"0\", \"1\"], many = [\"8\"] }\n\
        [train]\noptimizer = { name = \"adam\", beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8 }\n";
    let plan = Plan::parse("mine.toml", text, &[]).unwrap();
    let quick = Plan::preset("quick", &[]).unwrap();
    assert_ne!((&plan.data.task, plan.train.optimizer), (&quick.data.task, quick.train.optimizer));
    let mut back = plan.clone();
    back.data.task = quick.data.task.clone();
    back.train.optimizer = quick.train.optimizer;
    back.name.clone_from(&quick.name);
    assert_eq!(back, quick);
    assert_eq!(Plan::parse("again", &plan.to_toml().unwrap(), &[]).unwrap(), plan);
}

/// Older plans say the depth of a ResNet.
#[test]
fn a_depth_is_a_family() {
    let text = include_str!("../../src/plan/presets/quick.toml");
    let old = text.replace("family = \"resnet18\"", "depth = 18");
    assert_ne!(text, old);
    assert_eq!(Plan::parse("old", &old, &[]).unwrap(), Plan::preset("quick", &[]).unwrap());
    assert_eq!(Plan::parse("old", "preset = \"quick\"\n[model]\ndepth = 18\n", &[]).unwrap().model.family, "resnet18");
    let error = Plan::parse("old", &old.replace("depth = 18", "depth = 19"), &[]).unwrap_err().to_string();
    assert!(error.contains("resnet19"), "{error}");
}

#[test]
fn a_plan_that_can_find_nothing_is_refused_with_what_it_needs() {
    // 3 rounds × 2 classes × 10 concepts: Holm gives the smallest p the weight of the whole family.
    let plan = tiny_plan(&[("statistics.adjustment", "holm")]);
    let Err(error) = Setup::new(&plan) else { panic!("20 random sets cannot reach 0.05 among 60 hypotheses") };
    let error = error.to_string();
    assert!(error.contains("explain.random_sets") && error.contains("1199"), "{error}");
    // Step-up adjustments can find many together, so the plan runs, and says that one alone cannot be found.
    let warnings = Setup::new(&tiny_plan(&[])).unwrap().warnings;
    assert_eq!(warnings.len(), 1, "only of effects: answers do not rest on scores. {warnings:?}");
    assert!(warnings[0].contains("that needs 1199"), "{warnings:?}");
    let enough = tiny_plan(&[
        ("statistics.adjustment", "holm"),
        ("statistics.permutations", "1199"),
        ("explain.random_sets", "1199"),
        ("explain.partners", "4"),
        ("explain.images_per_set", "2"),
    ]);
    assert!(Setup::new(&enough).unwrap().warnings.is_empty());
}

#[test]
fn a_planted_run_with_mean_difference_cavs_and_a_regular_design_knows_its_boxes() {
    let plan = tiny_plan(&[
        ("arms", "[\"lottery\"]"),
        ("data.source", "planted"),
        ("data.task", "classes"),
        ("data.planted", "{ side = 16, channels = 1, used = [\"colour\"] }"),
        ("explain.cav", "mean_difference"),
        ("explain.partners", "6"),
        ("prune.rounds", "1"),
        ("prune.rewind", "0ep"),
    ]);
    assert_eq!(plan, Plan::parse("again", &plan.to_toml().unwrap(), &[]).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let study = run(&plan, folder.path(), &Silent).unwrap();
    let manifest = Store::existing(folder.path()).unwrap().manifest().unwrap();
    assert_eq!(manifest.classes, ["bright", "dark"]);
    assert_eq!(manifest.concepts.len(), 8);
    assert!(
        manifest.cam_images.iter().all(|image| {
            image.bounding_box.is_some_and(|of| of.left < of.right && of.right <= 16 && of.bottom <= 16)
        })
    );
    let of_run = Store::existing(folder.path()).unwrap();
    for summary in &study.networks {
        let record = of_run.round(&summary.id).unwrap().unwrap();
        let found = &record.localisation[0];
        assert_eq!(found.images + found.degenerate, 20);
        assert!(found.energy_in_box.unwrap() > 0.0 && found.chance < 0.5);
    }
    let store = Store::existing(folder.path()).unwrap();
    let record = store.round(&study.networks[0].id).unwrap().unwrap();
    let parents = (0..plan.replicates).map(|replicate| store.round(&RoundId::parent(replicate)).unwrap().unwrap());
    let energy: f64 = parents.map(|parent| parent.localisation[0].energy_in_box.unwrap()).sum();
    assert!((study.methods[0].energy_in_box.unwrap() - energy / plan.replicates as f64).abs() < 1e-12);
    // Of planted images every concept is known: those of other factors are strata, the other value of its own is none.
    let given = |concept: &str| &record.tcav.iter().find(|tcav| tcav.concept == concept).unwrap().further;
    assert!(given("bright").contains_key("conditional_effect") && given("dark").contains_key("conditional_effect"));
    let geometry = &record.cavs[0];
    assert_eq!(geometry.cosines.len(), 8);
    // Opposite values of a factor that the network sees point away from each other.
    let colour = geometry.concepts.iter().position(|name| name == "bright").unwrap();
    assert!(geometry.cosines[colour][colour + 1].unwrap() < 0.0);
}

#[test]
fn every_saliency_method_of_the_plan_is_recorded_and_the_first_decides() {
    let plan =
        |methods: &str| tiny_plan(&[("arms", "[\"lottery\"]"), ("prune.rounds", "1"), ("explain.saliency", methods)]);
    let default = plan("[\"grad-cam\"]");
    assert!(!default.to_toml().unwrap().contains("saliency"), "a plan without the field keeps its hash");
    let several = plan("[\"layer-cam\", \"gradient\", \"grad-cam\", \"grad-cam-plus-plus\"]");
    assert_eq!(several, Plan::parse("again", &several.to_toml().unwrap(), &[]).unwrap());
    let studies = [&default, &several].map(|plan| {
        let folder = tempfile::tempdir().unwrap();
        let study = run(plan, folder.path(), &Silent).unwrap();
        (Store::existing(folder.path()).unwrap(), study, folder)
    });
    let [(default, alone, _), (several, among, _)] = &studies;
    for summary in &among.networks {
        let (record, maps) = (several.round(&summary.id).unwrap().unwrap(), several.maps(&summary.id).unwrap());
        let names: Vec<&str> = record.grad_cam.iter().map(|cam| cam.method.name).collect();
        assert_eq!(names, ["layer-cam", "grad-cam", "grad-cam-plus-plus"]);
        let keys =
            ["input/gradient", "layer3", "layer3/grad-cam", "layer3/grad-cam-plus-plus", "representation/layer3"];
        assert_eq!(maps.keys().collect::<Vec<_>>(), keys);
        assert_eq!((record.input_maps.len(), record.input_maps[0].method.name), (1, "gradient"));
        assert_eq!((maps["input/gradient"].dims(), record.input_maps[0].size), (&[20, 28, 28][..], [28, 28]));
        assert_eq!(record.input_maps[0].degenerate, [false; 20]);
        let before = (default.round(&summary.id).unwrap().unwrap(), default.maps(&summary.id).unwrap());
        assert_eq!(record.grad_cam[1], before.0.grad_cam[0]);
        let values = |maps: &candle_core::Tensor| maps.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(values(&maps["layer3/grad-cam"]), values(&before.1["layer3"]));
        assert_ne!(values(&maps["layer3"]), values(&before.1["layer3"]));
        // TCAV and training know nothing of it; the checks of the maps are of the first method, and
        // of all methods in parents.
        assert_eq!((record.tcav, record.weights), (before.0.tcav, before.0.weights));
        assert_ne!(record.faithfulness[0], before.0.faithfulness[0]);
        let judged: Vec<Option<&str>> =
            record.faithfulness.iter().map(|judged| judged.method.map(|method| method.name)).collect();
        let parent = record.id == RoundId::parent(record.id.replicate);
        let all = [None, Some("grad-cam"), Some("grad-cam-plus-plus"), Some("gradient")];
        assert_eq!(judged, if parent { &all[..] } else { &all[..1] });
        if parent {
            let same = FaithfulnessRecord { method: None, ..record.faithfulness[1].clone() };
            assert_eq!(same, before.0.faithfulness[0]);
        }
    }
    // One row for each method; Grad-CAM's is the same whether it decides or stands beside.
    let views: Vec<&str> = among.methods.iter().map(|of| of.view.as_str()).collect();
    assert_eq!(views, ["layer3", "input/gradient", "layer3/grad-cam", "layer3/grad-cam-plus-plus"]);
    assert!(among.methods.iter().all(|of| of.sanity.len() == 2 && of.deletion.is_some() && of.chance.is_none()));
    assert_eq!(among.methods[0].sanity, among.sanity);
    assert_eq!(MethodChecks { view: "layer3".into(), ..among.methods[2].clone() }, alone.methods[0]);
    let random = |store: &Store| store.sanity(1).unwrap().unwrap();
    assert_eq!(random(several).further["layer3/grad-cam"], random(default).random_drift);
    assert!(random(several).further["input/gradient"].iter().flatten().any(|drift| *drift > 0.1));
    assert_ne!(alone.networks[1].drift.pixels, among.networks[1].drift.pixels);
    assert_ne!(several.sanity(0).unwrap().unwrap().layers, default.sanity(0).unwrap().unwrap().layers);
}
