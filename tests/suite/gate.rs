//! The drift gate on cheap networks: how often it refuses one more retrained network, and how often
//! one that was pruned too far.

use rand::seq::SliceRandom;
use ticketlens::progress::Silent;
use ticketlens::records::gate::{CandidateDrift, Kind, OnUndecided};
use ticketlens::records::{Explanations, Line, RoundId, Store};
use ticketlens::seed::stream;
use ticketlens::stats::multiplicity::{Adjustment, adjust};
use ticketlens::study::gate::{ClassEffect, Dense, Explained, Rules, judge};
use ticketlens::study::run;

use crate::support::cheap;

/// Seeds; each gives a dense network and one with 1 % of its weights.
const SEEDS: usize = 48;

/// Networks of less than a second.
fn networks() -> (Vec<usize>, Vec<Explained>, Vec<Explained>) {
    let replicates = SEEDS.to_string();
    let plan = cheap(&[
        ("replicates", &replicates),
        ("floor.twins", "0"),
        ("seed", "5000"),
        ("prune.fraction", "0.99"),
        ("data.train", "1920"),
    ]);
    let folder = tempfile::tempdir().unwrap();
    run(&plan, folder.path(), &Silent).unwrap();
    let store = Store::existing(folder.path()).unwrap();
    let labels = store.manifest().unwrap().cam_images.iter().map(|shown| shown.class).collect();
    let lottery = Line::Arm(ticketlens::plan::Arm::Lottery);
    let of = |round| (0..SEEDS).map(|seed| explained(&store, &lottery.id(seed, round))).collect();
    (labels, of(0), of(1))
}

fn explained(store: &Store, id: &RoundId) -> Explained {
    let record = store.round(id).unwrap().unwrap();
    let maps = store.maps(id).unwrap().remove("layer4").unwrap();
    let (_, height, width) = maps.dims3().unwrap();
    let p_values: Vec<f64> = record.tcav.iter().map(|tcav| tcav.effect_p).collect();
    let adjusted = adjust(&p_values, Adjustment::BenjaminiHochberg).unwrap();
    let effects = record.tcav.iter().zip(adjusted).map(|(tcav, p)| ClassEffect {
        class: tcav.class,
        concept: tcav.concept.clone(),
        standardised: tcav.effect_standardised,
        significant: tcav.decodable && p <= 0.05,
    });
    Explained {
        name: format!("{} {}", id.replicate, id.round),
        size: [height, width],
        maps: maps.flatten_from(1).unwrap().to_vec2().unwrap(),
        predicted: Some(record.grad_cam[0].predicted.clone()),
        effects: effects.collect(),
        density: Some(record.density),
        assumed: None,
    }
}

/// Roles are drawn among dense networks of different seeds: reference, candidate, floor. They are
/// exchangeable, so whatever is called changed is a false alarm. The pruned networks have lost all
/// that makes them comparable.
#[test]
fn the_gate_holds_its_level_and_refuses_what_was_pruned_too_far() {
    let (labels, dense, pruned) = networks();
    let accuracy = |of: &[Explained]| {
        let right = |network: &Explained| {
            network.predicted.as_ref().unwrap().iter().zip(&labels).filter(|(a, b)| a == b).count() as f64
        };
        of.iter().map(right).sum::<f64>() / (of.len() * labels.len()) as f64
    };
    println!("accuracy: dense {:.3}, pruned {:.3}", accuracy(&dense), accuracy(&pruned));
    assert!(accuracy(&dense) > 0.9);
    let draws = 200;
    for floors in [3, 4, 6] {
        let mut changed = [0usize; 3];
        let (mut alarms, mut caught, mut caught_by_an_answer) = (0, 0, 0);
        for draw in 0..draws {
            let mut random = stream(11, "gate-null", draw);
            let mut roles: Vec<usize> = (0..SEEDS).collect();
            roles.shuffle(&mut random);
            let context = Dense {
                images: (0..labels.len()).map(|image| image.to_string()).collect(),
                labels: Some(labels.clone()),
                targets: labels.clone(),
                stage: None,
                reference: dense[roles[0]].clone(),
                floor: roles[2..2 + floors].iter().map(|&role| dense[role].clone()).collect(),
            };
            let mut candidates = vec![dense[roles[1]].clone(), pruned[roles[0]].clone()];
            // The reference itself has moved by nothing; that needs no statistics.
            candidates.extend((draw < 10).then(|| dense[roles[0]].clone()));
            let report = judge(&context, &candidates, &Rules::default()).unwrap();
            let [retrained, ticket] = [0, 1].map(|place: usize| &report.candidates[place]);
            alarms += usize::from(retrained.tripped());
            for (count, kind) in changed.iter_mut().zip(Kind::ALL) {
                *count += usize::from(is(retrained, kind, Explanations::Changed));
            }
            caught += usize::from(ticket.tripped());
            caught_by_an_answer += usize::from(Kind::ALL.iter().any(|&kind| is(ticket, kind, Explanations::Changed)));
            for same in report.candidates.iter().skip(2) {
                let kept = is(same, Kind::Pixels, Explanations::Kept) && is(same, Kind::Concepts, Explanations::Kept);
                assert!(kept && !same.tripped() && same.answers[0].value == Some(1.0), "{:?}", same.answers);
            }
        }
        let share = |count: usize| count as f64 / draws as f64;
        println!(
            "{floors} floor networks: refused {:.3} of retrained (pixels, concepts, accuracy {:?}), {:.3} of pruned, {:.3} by an answer",
            share(alarms),
            changed.map(share),
            share(caught),
            share(caught_by_an_answer),
        );
        let level = 0.05;
        let allowed = level + 3.0 * (level * (1.0 - level) / draws as f64).sqrt();
        assert!(share(alarms) <= allowed, "{floors}: {alarms} of {draws}");
        assert!(share(caught) >= 0.95 && share(caught_by_an_answer) >= 0.95, "{floors}: {caught} of {draws}");
    }
}

fn is(candidate: &CandidateDrift, kind: Kind, answer: Explanations) -> bool {
    candidate.answer(kind).unwrap().answer == answer
}

/// A network with `maps` of 2 × 2 that all say the same but for noise of its own.
fn simple(name: &str, noise: f32) -> Explained {
    let map = |image: usize| {
        let own = (name.len() * 7 + image * 13) % 11;
        vec![1.0, 2.0 + noise * own as f32, 3.0 - noise * (own as f32 - 5.0), 4.0 + image as f32]
    };
    Explained {
        name: name.into(),
        size: [2, 2],
        maps: (0..20).map(map).collect(),
        predicted: Some(vec![0; 20]),
        effects: Vec::new(),
        density: None,
        assumed: None,
    }
}

fn context(floor: Vec<Explained>) -> Dense {
    Dense {
        images: (0..20).map(|image| format!("image {image}")).collect(),
        labels: None,
        targets: vec![0; 20],
        stage: None,
        reference: simple("reference", 0.3),
        floor,
    }
}

#[test]
fn what_cannot_be_answered_is_refused_by_name() {
    let with = |required: Kind, max_drift| Rules { required: Some(vec![required]), max_drift, ..Rules::default() };
    let candidate = [simple("candidate", 0.2)];
    let judged = |dense: &Dense, rules: &Rules| judge(dense, &candidate, rules).map_err(|error| error.to_string());
    for (rules, named) in [
        (with(Kind::Pixels, None), "floor"),
        (with(Kind::Concepts, None), "concepts are required (`require`), but none"),
        (with(Kind::Accuracy, None), "labels"),
    ] {
        let error = judged(&context(Vec::new()), &rules).unwrap_err();
        assert!(error.contains(named), "{error}");
    }
    assert!(judged(&context(Vec::new()), &with(Kind::Pixels, Some(2.0))).is_ok());
    // A floor network that is the reference, or given twice.
    let copy = Explained { name: "copy".into(), ..simple("reference", 0.3) };
    let error = judged(&context(vec![copy]), &Rules::default()).unwrap_err();
    assert!(error.contains("reference and copy have the same maps"), "{error}");
    // Other images, another size.
    let mut fewer = simple("fewer", 0.1);
    fewer.maps.pop();
    let error = judged(&context(vec![fewer]), &Rules::default()).unwrap_err();
    assert!(error.contains("fewer: 19 maps"), "{error}");
    let other = Explained { size: [1, 4], ..simple("other", 0.1) };
    let error = judge(&context(Vec::new()), &[other], &Rules::default()).unwrap_err().to_string();
    assert!(error.contains("other: its maps are 1 × 4"), "{error}");
}

#[test]
fn a_candidate_that_is_a_floor_network_is_no_distance_from_it_by_any_measure() {
    let floor = simple("floor", 0.1);
    let candidate = Explained { name: "candidate".into(), ..floor.clone() };
    let report = judge(&context(vec![floor]), &[candidate], &Rules::default()).unwrap();
    for measured in &report.candidates[0].measures {
        assert_eq!(measured.rho, Some(0.0), "{measured:?}");
    }
}

#[test]
fn undecided_passes_or_fails_as_asked_and_what_was_not_measured_never_passes() {
    let floor = || vec![simple("first floor", 0.3), simple("second floor net", 0.31), simple("third", 0.32)];
    let close = [simple("a close one", 0.33)];
    let rules = |on_undecided, max_drift| Rules { on_undecided, max_drift: Some(max_drift), ..Rules::default() };
    // A limit inside the interval decides nothing.
    let found = judge(&context(floor()), &close, &Rules::default()).unwrap();
    let interval = found.candidates[0].answers[0].interval.unwrap();
    assert!(interval.low < interval.high);
    let middle = (interval.low + interval.high) / 2.0;
    for (on_undecided, trips) in [(OnUndecided::Pass, false), (OnUndecided::Fail, true)] {
        let report = judge(&context(floor()), &close, &rules(on_undecided, middle)).unwrap();
        let answer = &report.candidates[0].answers[0];
        assert!(answer.answer == Explanations::Undecided && answer.measured);
        assert_eq!(report.tripped(), trips);
    }
    // A map that says nothing is not shown to be close.
    let blind = Explained { maps: vec![vec![0.0; 4]; 20], ..simple("blind", 0.0) };
    let report = judge(&context(floor()), &[blind], &rules(OnUndecided::Pass, 100.0)).unwrap();
    let answer = &report.candidates[0].answers[0];
    assert!(report.tripped() && !answer.measured && answer.value.is_none());
}
