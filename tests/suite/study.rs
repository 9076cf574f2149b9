//! Whole studies of cheap networks: the level of "changed" where nothing but the data order
//! differs, no verdict where nothing was learned, other floors than twins, one replicate.

use rand::seq::SliceRandom;
use ticketlens::plan::Plan;
use ticketlens::progress::Silent;
use ticketlens::records::{Comparators, Explanations, Line, Outcome, RoundId, Store, StudyRecord};
use ticketlens::seed::stream;
use ticketlens::stats::Interval;
use ticketlens::stats::crossed::{Mean, RatioByImage, log_ratios};
use ticketlens::stats::similarity::{Similarity, spearman};
use ticketlens::stats::verdict::explanations_answer;
use ticketlens::study::run;

use crate::support::cheap;

fn study(plan: &Plan) -> (StudyRecord, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (run(plan, folder.path(), &Silent).unwrap(), folder)
}

/// What one dense network is compared by.
struct Dense {
    maps: Vec<Vec<f32>>,
    correct: Vec<bool>,
    effects: Vec<f64>,
}

fn dense(store: &Store, id: &RoundId, classes: &[usize]) -> Dense {
    let record = store.round(id).unwrap().unwrap();
    let maps = store.maps(id).unwrap().remove("layer4").unwrap();
    Dense {
        maps: maps.flatten_from(1).unwrap().to_vec2().unwrap(),
        correct: record.grad_cam[0].predicted.iter().zip(classes).map(|(a, b)| a == b).collect(),
        effects: record.tcav.iter().map(|tcav| tcav.effect_standardised.unwrap_or(0.0)).collect(),
    }
}

/// Roles are drawn among dense networks of one θ_k: a "ticket", its "parent", three "twins". They
/// are exchangeable, so ρ is 1 in truth: "changed" may come no more often than its level, "kept"
/// must be found mostly at the number of replicates that `quick` has.
#[test]
fn retrained_networks_in_the_tickets_place_are_called_changed_no_more_often_than_the_level() {
    let (seeds, twins, draws) = (32, 4, 400);
    let plan = cheap(&[
        ("replicates", "32"),
        ("floor.twins", "4"),
        ("prune.fraction", "0.05"),
        ("seed", "5000"),
        ("data.train", "1920"),
    ]);
    let (_, folder) = study(&plan);
    let store = Store::existing(folder.path()).unwrap();
    let classes: Vec<usize> = store.manifest().unwrap().cam_images.iter().map(|shown| shown.class).collect();
    let families: Vec<Vec<Dense>> = (0..seeds)
        .map(|replicate| {
            let twins = (1..=twins).map(|order| Line::Twin(order).id(replicate, 0));
            std::iter::once(RoundId::parent(replicate)).chain(twins).map(|id| dense(&store, &id, &classes)).collect()
        })
        .collect();
    let quick = Plan::preset("quick", &[]).unwrap();
    let (margins, limit) = (&quick.verdict, 1.0 + quick.verdict.drift_margin);
    let level = (1.0 - margins.confidence) / 2.0;
    let mut found = [[0usize; 3]; 2];
    for draw in 0..draws {
        let mut random = stream(7, "null-study", draw);
        let mut chosen: Vec<usize> = (0..seeds).collect();
        chosen.shuffle(&mut random);
        let (mut pixels, mut concepts) = (Vec::new(), Vec::new());
        for &family in &chosen[..quick.replicates] {
            let mut roles: Vec<&Dense> = families[family].iter().collect();
            roles.shuffle(&mut random);
            let (ticket, parent, twins) = (roles[0], roles[1], &roles[2..]);
            pixels.push(by_image(ticket, parent, twins));
            let rms = |a: &Dense, b: &Dense| {
                let squares = a.effects.iter().zip(&b.effects).map(|(a, b)| (a - b).powi(2));
                (squares.sum::<f64>() / a.effects.len() as f64).sqrt()
            };
            let above: f64 = twins.iter().map(|twin| rms(twin, ticket)).sum();
            let below: f64 = twins.iter().map(|twin| rms(twin, parent)).sum();
            concepts.push((above / below).ln());
        }
        let (logs, images) = log_ratios(&pixels).unwrap();
        for (kind, mean) in
            [Mean::of(&logs, Some(images)).unwrap(), Mean::of(&concepts, None).unwrap()].into_iter().enumerate()
        {
            let logs = mean.interval(margins.confidence).unwrap();
            let interval = Interval { low: logs.low.exp(), high: logs.high.exp() };
            let place = match explanations_answer(interval, limit).unwrap() {
                Explanations::Kept => 0,
                Explanations::Changed => 1,
                Explanations::Undecided => 2,
            };
            found[kind][place] += 1;
        }
    }
    for (name, [kept, changed, undecided]) in ["pixels", "concepts"].into_iter().zip(found) {
        println!(
            "{name}, {} replicates: kept {kept}, changed {changed}, undecided {undecided} of {draws}",
            quick.replicates
        );
        let allowed = level + 3.0 * (level * (1.0 - level) / draws as f64).sqrt();
        assert!(changed as f64 / draws as f64 <= allowed, "{name}: {changed} of {draws}");
        // The power that the default study promises.
        assert!(kept as f64 >= 0.8 * draws as f64, "{name}: kept is found in {kept} of {draws}");
    }
}

fn by_image(ticket: &Dense, parent: &Dense, twins: &[&Dense]) -> RatioByImage {
    let drift = |a: &Dense, b: &Dense, image: usize| {
        spearman(&a.maps[image], &b.maps[image]).map(Similarity::value).unwrap().map(|rho| 1.0 - rho)
    };
    (0..ticket.maps.len())
        .map(|image| {
            let right = ticket.correct[image] && parent.correct[image] && twins.iter().all(|twin| twin.correct[image]);
            let sums = twins.iter().try_fold((0.0, 0.0), |(above, below), twin| {
                Some((above + drift(twin, ticket, image)?, below + drift(twin, parent, image)?))
            });
            sums.filter(|_| right)
        })
        .collect()
}

/// A learning rate at which nothing is learned: there is nothing to keep, and every map of a ticket
/// is that of its parent.
#[test]
fn untrained_networks_get_no_verdict() {
    for seed in 0..20 {
        let (study, _folder) = study(&cheap(&[
            ("seed", &format!("{}", 6000 + 10 * seed)),
            ("train.learning_rate", "1e-30"),
            ("train.epochs", "1"),
            ("data.train", "64"),
            ("model.width", "2"),
        ]));
        for verdict in [&study.hypothesis_a, &study.hypothesis_b] {
            assert_eq!(verdict.outcome, Outcome::NoVerdict, "seed {seed}: {}", study.answer);
            assert_eq!(verdict.range, None);
            assert!(verdict.reason.contains("no better than guessing"), "{}", verdict.reason);
        }
        assert!(study.answer.starts_with("No verdict"), "{}", study.answer);
    }
}

#[test]
fn without_twins_other_seeds_are_the_floor_and_the_study_says_so() {
    // However few of the images all of these small networks get right.
    let changes = [("floor.twins", "0"), ("replicates", "4"), ("verdict.least_images", "0.1")];
    let (study, _folder) = study(&cheap(&changes));
    assert_eq!(study.floor.comparators, Comparators::Seeds);
    assert!(study.warnings.iter().any(|warning| warning.contains("other seeds")), "{:?}", study.warnings);
    let pruned = &study.densities[1];
    let ratio = &pruned.pixels[0].measures[&ticketlens::stats::similarity::Measure::Spearman];
    assert_eq!(ratio.replicates.len(), 4);
    let (rho, interval) = (ratio.rho.unwrap(), ratio.interval.unwrap());
    let inside = interval.low < rho && rho < interval.high;
    assert!(inside && ratio.changed_p.is_some(), "{rho}: {interval:?}, p {:?}", ratio.changed_p);
    assert!(pruned.concepts[0].ratio.interval.is_some() && pruned.concepts[0].flipped_twins.is_none());
}

#[test]
fn one_replicate_runs_and_is_refused_a_verdict() {
    let (study, _folder) = study(&cheap(&[("replicates", "1")]));
    assert_eq!(study.hypothesis_a.outcome, Outcome::NoVerdict);
    assert!(study.answer.contains("one replicate"), "{}", study.answer);
    let pruned = &study.densities[1];
    assert!(pruned.accuracy.interval.is_none() && pruned.pixels[0].measures.values().all(|of| of.interval.is_none()));
    assert!(study.onsets.is_none());
    let drift = &study.networks.iter().find(|network| network.id.is_twin()).unwrap().drift;
    assert!(drift.concepts.unwrap() > 0.0, "a twin is another network");
}

/// At most half of the images may go uncounted: a call on what survived would be a call on the easy ones.
#[test]
fn pixels_are_undecided_where_too_few_images_count() {
    let (study, _folder) = study(&cheap(&[("verdict.least_images", "1.0"), ("prune.fraction", "0.99")]));
    let pixels = &study.densities[1].pixels[0];
    assert!(pixels.counted < 1.0, "some image is wrong in some network");
    for ratio in pixels.measures.values() {
        assert_eq!(ratio.answer, Explanations::Undecided);
        let why = ratio.undefined.as_ref().unwrap();
        assert!(why.contains("of the images count") || ratio.rho.is_none(), "{why}");
    }
}

/// A learning rate at which some seeds diverge and others do not: those that do are marked, the
/// others go on, and there is no verdict.
#[test]
fn a_diverged_replicate_is_marked_and_the_others_go_on_without_a_verdict() {
    let overrides: &[(&str, &str)] = &[("replicates", "3"), ("data.train", "64"), ("model.width", "2")];
    let plan = cheap(overrides);
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path(), &plan).unwrap();
    let setup = ticketlens::run::Setup::new(&plan).unwrap();
    let (shape, pixels) = setup.cam_pixels().unwrap();
    store.begin(&setup.manifest(&plan).unwrap(), (&shape, &pixels), false).unwrap();
    // As a diverged training leaves it.
    let id = Line::Twin(1).id(1, 0);
    let record = ticketlens::records::DivergedRecord {
        format: ticketlens::records::FORMAT,
        id: id.clone(),
        step: 3,
        learning_rate: 0.05,
    };
    store.write_diverged(&record).unwrap();
    // Killed before the state of the training was removed.
    let left = folder.path().join("replicate-1/twin-1/round-00");
    assert!(left.join("diverged.json").is_file());
    for name in ["training.json", "training-3.safetensors"] {
        std::fs::write(left.join(name), b"left").unwrap();
    }
    let study = run(&plan, folder.path(), &Silent).unwrap();
    assert_eq!(study.hypothesis_a.outcome, Outcome::NoVerdict);
    assert!(
        study.answer.contains("diverged in 1 of 3 replicates") && study.answer.contains("twin-1"),
        "{}",
        study.answer
    );
    assert_eq!(study.densities[1].accuracy.replicates.len(), 2);
    assert!(store.round(&Line::Twin(1).id(2, 0)).unwrap().is_some(), "the next replicate went on");
    assert!(study.networks.iter().all(|network| network.id.replicate != 1));
    assert_eq!(std::fs::read_dir(&left).unwrap().count(), 1, "nothing is left but the mark");

    // Every replicate: an error that names the first, and the marks stay.
    let plan = cheap(&[overrides, &[("train.learning_rate", "1e30")]].concat());
    let folder = tempfile::tempdir().unwrap();
    let error = run(&plan, folder.path(), &Silent).unwrap_err().to_string();
    assert!(
        error.contains("every replicate") && error.contains("replicate 0") && error.contains("learning rate"),
        "{error}"
    );
    let store = Store::existing(folder.path()).unwrap();
    for replicate in 0..3 {
        assert!(store.diverged(&RoundId::parent(replicate)).unwrap().is_some());
    }
}
