//! CAVs against exact references, the conditions of the optimum, and invariances.
use nalgebra::DMatrix;
use proptest::prelude::*;
use rand::Rng;
use rand::seq::SliceRandom;
use rayon::prelude::*;
use serde::Deserialize;
use ticketlens::explain::tcav::cav::{Cav, CavError, CavKind, CavState, cosine, fit};
use ticketlens::explain::tcav::gram::{Rows, gram};
use ticketlens::explain::tcav::held_out::held_out;

const LOGISTIC: CavKind = CavKind::Logistic { c: 1.0 };

fn gram_of(values: &[f32], features: usize) -> DMatrix<f64> {
    gram(Rows::new(values, features).unwrap()).unwrap()
}

fn indices(range: std::ops::Range<usize>) -> Vec<usize> {
    range.collect()
}

/// Permutation p-value of [`held_out`]: `(1 + #{shuffled ≥ observed}) / (1 + permutations)` over
/// shuffles of the labels, every fold refitted. Exact for exchangeable images, whatever the
/// dependence between folds (Ojala & Garriga 2010, "Permutation Tests for Studying Classifier
/// Performance", Test 1).
fn held_out_permutation(
    gram: &DMatrix<f64>,
    positive: &[usize],
    negative: &[usize],
    seed: u64,
    permutations: usize,
) -> f64 {
    let correct = |a: &[usize], b: &[usize]| held_out(gram, a, b, LOGISTIC, seed).unwrap().correct;
    let observed = correct(positive, negative);
    let exceeding = (0..permutations as u64)
        .into_par_iter()
        .filter(|&index| {
            let mut images: Vec<usize> = positive.iter().chain(negative).copied().collect();
            images.shuffle(&mut ticketlens::seed::stream(seed, "cav label permutation", index));
            let (upper, lower) = images.split_at(positive.len());
            correct(upper, lower) >= observed
        })
        .count();
    (1 + exceeding) as f64 / (1 + permutations) as f64
}

/// `w = Σ αᵢ aᵢ`, formed in feature space, which the library never does.
fn weight(cav: &Cav, values: &[f32], features: usize) -> Vec<f64> {
    (0..features)
        .map(|j| {
            cav.samples.iter().zip(&cav.alpha).map(|(&i, alpha)| alpha * f64::from(values[i * features + j])).sum()
        })
        .collect()
}

/// Uniform values in [-1, 1), the first `positive` images shifted.
fn shifted(images: usize, features: usize, positive: usize, shift: f32, seed: u64) -> Vec<f32> {
    let mut stream = ticketlens::seed::stream(seed, "cav test", 0);
    (0..images * features)
        .map(|flat| {
            let shift = if flat / features < positive { shift } else { 0.0 };
            stream.random_range(-1.0..1.0f32) + shift
        })
        .collect()
}

#[derive(Deserialize)]
struct Reference {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    c: f64,
    features: usize,
    positive: usize,
    activations: Vec<f32>,
    weight: Vec<f64>,
    intercept: f64,
    weight_norm: f64,
    decision_values: Vec<f64>,
}

#[test]
fn logistic_cavs_equal_the_exact_reference() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/cav/logistic.json");
    let reference: Reference = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    for case in reference.cases {
        let images = case.activations.len() / case.features;
        let cav = fit(
            &gram_of(&case.activations, case.features),
            &indices(0..case.positive),
            &indices(case.positive..images),
            CavKind::Logistic { c: case.c },
        )
        .unwrap();
        // Far from the origin, the Gram matrix has fewer digits left for what separates the sets;
        // f32 activations have fewer still.
        let far = case.name.contains("far");
        let tolerance = if far { 1e-8 } else { 1e-11 };
        assert_eq!(cav.state, CavState::Solved, "{}", case.name);
        let close = |what: &str, found: f64, exact: f64, scale: f64| {
            let error = (found - exact).abs() / scale;
            assert!(error < tolerance, "{}, {what}: {found} != {exact}, {error}", case.name);
        };
        close("norm", cav.weight_norm, case.weight_norm, case.weight_norm);
        // Where the intercept is small it is the rest of a cancellation; it counts on the scale of a decision value.
        let terms: f64 = cav.alpha.iter().map(|alpha| alpha.abs()).sum::<f64>().min(1.0);
        close("intercept", cav.intercept, case.intercept, case.intercept.abs().max(terms));
        // σ(f) near ½ fixes f to the last bit of ½ only, however small f is.
        let decision_scale = case.decision_values.iter().fold(1e-4, |top: f64, f| top.max(f.abs()));
        for (found, exact) in cav.decision_values.iter().zip(&case.decision_values) {
            close("decision value", *found, *exact, decision_scale);
        }
        for (found, exact) in weight(&cav, &case.activations, case.features).iter().zip(&case.weight) {
            close("weight", *found, *exact, case.weight_norm);
        }
    }
}

/// Activations of two sets, sizes 1 to 12, any scale, from overlapping to far apart, and C.
fn problem() -> impl Strategy<Value = (Vec<f32>, usize, usize, f64)> {
    (1usize..12, 1usize..12, 1usize..20, -6i32..6, 0.0f32..4.0, -2i32..3, any::<u64>()).prop_map(
        |(positive, negative, features, scale, shift, c, seed)| {
            let mut values = shifted(positive + negative, features, positive, shift, seed);
            values.iter_mut().for_each(|v| *v *= 10f32.powi(scale));
            (values, features, positive, 10f64.powi(c))
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn logistic_cavs_meet_the_conditions_of_the_optimum((values, features, positive, c) in problem()) {
        let images = values.len() / features;
        let (upper, lower) = (indices(0..positive), indices(positive..images));
        let cav = fit(&gram_of(&values, features), &upper, &lower, CavKind::Logistic { c }).unwrap();
        prop_assume!(cav.state != CavState::Degenerate);
        prop_assert_eq!(cav.state, CavState::Solved);
        // In feature space, from α and b alone: w = C Σ sᵢ σ(-sᵢ fᵢ) aᵢ and C Σ sᵢ σ(-sᵢ fᵢ) = 0.
        let w = weight(&cav, &values, features);
        let mut gradient = w.clone();
        let mut pull = 0.0;
        let mut force = 0.0;
        for (i, row) in values.chunks_exact(features).enumerate() {
            let sign = if i < positive { 1.0 } else { -1.0 };
            let f = row.iter().zip(&w).map(|(a, w)| f64::from(*a) * w).sum::<f64>() + cav.intercept;
            let alpha = c * sign / (1.0 + (sign * f).exp());
            prop_assert!((f - cav.decision_values[i]).abs() < 1e-7 * f.abs().max(1.0));
            pull += alpha;
            force += alpha.abs() * f64::from(row.iter().fold(0f32, |top, a| top.max(a.abs())));
            for (g, a) in gradient.iter_mut().zip(row) {
                *g -= alpha * f64::from(*a);
            }
        }
        let largest = gradient.iter().fold(0.0, |top: f64, g| top.max(g.abs()));
        prop_assert!(largest <= 1e-7 * force, "{largest} of {force}");
        prop_assert!(pull.abs() <= 1e-7 * c);
        let norm = w.iter().map(|w| w * w).sum::<f64>().sqrt();
        prop_assert!((norm - cav.weight_norm).abs() <= 1e-6 * norm);
    }

    #[test]
    fn swapping_the_sets_reverses_the_cav((values, features, positive, c) in problem()) {
        let images = values.len() / features;
        let (upper, lower) = (indices(0..positive), indices(positive..images));
        let k = gram_of(&values, features);
        for kind in [CavKind::Logistic { c }, CavKind::MeanDifference] {
            let (cav, swapped) = (fit(&k, &upper, &lower, kind).unwrap(), fit(&k, &lower, &upper, kind).unwrap());
            prop_assert_eq!(cav.state, swapped.state);
            if let Some(cosine) = cosine(&k, &cav, &swapped) {
                prop_assert!((cosine + 1.0).abs() < 1e-9, "{cosine}");
                prop_assert!((cav.weight_norm / swapped.weight_norm - 1.0).abs() < 1e-7);
            }
        }
    }
}

#[test]
fn moving_or_rotating_the_activations_changes_the_intercept_alone() {
    let (images, features, positive) = (30, 8, 12);
    let values = shifted(images, features, positive, 0.5, 3);
    // Multiples of 1/256, moved by an integer and reflected by a swap of features with a sign: exact in f32.
    let values: Vec<f32> = values.iter().map(|v| (v * 256.0).round() / 256.0).collect();
    let moved: Vec<f32> = values.iter().map(|v| v + 64.0).collect();
    let rotated: Vec<f32> = values
        .chunks_exact(features)
        .flat_map(|row| (0..features).map(|j| if j % 2 == 0 { -row[j + 1] } else { row[j - 1] }))
        .collect();
    let (upper, lower) = (indices(0..positive), indices(positive..images));
    for kind in [LOGISTIC, CavKind::MeanDifference] {
        let cav = fit(&gram_of(&values, features), &upper, &lower, kind).unwrap();
        let by_move = fit(&gram_of(&moved, features), &upper, &lower, kind).unwrap();
        let by_turn = fit(&gram_of(&rotated, features), &upper, &lower, kind).unwrap();
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9 * a.abs().max(1.0), "{a} {b}");
        for other in [&by_move, &by_turn] {
            close(cav.weight_norm, other.weight_norm);
            for (a, b) in cav.alpha.iter().zip(&other.alpha) {
                close(*a, *b);
            }
            for (a, b) in cav.decision_values.iter().zip(&other.decision_values) {
                close(*a, *b);
            }
        }
        close(cav.intercept, by_turn.intercept);
        let w = weight(&cav, &values, features);
        close(cav.intercept - 64.0 * w.iter().sum::<f64>(), by_move.intercept);
    }
}

#[test]
fn the_order_of_the_images_does_not_matter() {
    let values = shifted(20, 50, 10, 0.2, 4);
    let k = gram_of(&values, 50);
    let (upper, lower) = (indices(0..10), indices(10..20));
    let (upper_back, lower_back): (Vec<_>, Vec<_>) =
        (upper.iter().rev().copied().collect(), lower.iter().rev().copied().collect());
    let (a, b) = (fit(&k, &upper, &lower, LOGISTIC).unwrap(), fit(&k, &upper_back, &lower_back, LOGISTIC).unwrap());
    assert!((a.intercept - b.intercept).abs() < 1e-10);
    assert!((cosine(&k, &a, &b).unwrap() - 1.0).abs() < 1e-12);
    for (alpha, image) in a.alpha.iter().zip(&a.samples) {
        let position = b.samples.iter().position(|other| other == image).unwrap();
        assert!((alpha - b.alpha[position]).abs() < 1e-11);
    }
}

#[test]
fn mean_difference_has_its_closed_form() {
    // Means (3, 1) and (0, 1): w = (3, 0), the boundary at 1.5.
    let values = [2.0, 0.0, 4.0, 2.0, -1.0, 1.0, 1.0, 1.0, 0.0, 1.0];
    let k = gram_of(&values, 2);
    let cav = fit(&k, &[0, 1], &[2, 3, 4], CavKind::MeanDifference).unwrap();
    assert_eq!(cav.state, CavState::Solved);
    assert!((cav.weight_norm - 3.0).abs() < 1e-14);
    assert!((cav.intercept + 4.5).abs() < 1e-13);
    for (found, exact) in cav.decision_values.iter().zip([1.5, 7.5, -7.5, -1.5, -4.5]) {
        assert!((found - exact).abs() < 1e-13);
    }
    assert_eq!(cav.train_accuracy, 1.0);
    assert_eq!(cav.kkt_residual, 0.0);
}

#[test]
fn sets_that_nothing_separates_are_degenerate() {
    let third = 1.0f32 / 3.0;
    let equal = vec![third; 12 * 7];
    let zero = vec![0.0; 12 * 7];
    // The same five images, and one more each, in both sets: equal means.
    let five = shifted(6, 7, 0, 0.0, 5);
    let both = [five.clone(), five].concat();
    for (name, values) in [("equal", equal), ("zero", zero), ("same images", both)] {
        let k = gram_of(&values, 7);
        for kind in [LOGISTIC, CavKind::Logistic { c: 1e6 }, CavKind::MeanDifference] {
            let cav = fit(&k, &indices(0..6), &indices(6..12), kind).unwrap();
            assert_eq!(cav.state, CavState::Degenerate, "{name}");
            assert_eq!((cav.weight_norm, cav.intercept), (0.0, 0.0));
            assert!(cav.alpha.iter().all(|alpha| *alpha == 0.0));
            assert_eq!(cav.train_accuracy, 0.5);
            assert_eq!(cosine(&k, &cav, &cav), None);
            let held_out = held_out(&k, &indices(0..6), &indices(6..12), kind, 1).unwrap();
            assert!(!held_out.decodable(0.05));
            assert!(held_out.p_value.is_finite() && held_out.accuracy <= 0.5);
        }
    }
    // Unequal sets: the intercept is the log odds.
    let cav = fit(&gram_of(&[2.0; 8], 2), &[0], &[1, 2, 3], LOGISTIC).unwrap();
    assert_eq!(cav.intercept, (1.0f64 / 3.0).ln());
    // A difference in the last bit of one value is rounding; in the fourth digit it is not.
    let mut near = vec![third; 12 * 7];
    near[3] = third.next_up();
    let state = |values: &[f32]| fit(&gram_of(values, 7), &indices(0..6), &indices(6..12), LOGISTIC).unwrap().state;
    assert_eq!(state(&near), CavState::Degenerate);
    near[3] = third + 1e-4;
    assert_eq!(state(&near), CavState::Solved);
}

#[test]
fn cosines_are_those_of_feature_space() {
    let (features, size) = (40, 9);
    let values = shifted(3 * size, features, size, 0.7, 6);
    let k = gram_of(&values, features);
    let set = |i: usize| indices(i * size..(i + 1) * size);
    let a = fit(&k, &set(0), &set(1), LOGISTIC).unwrap();
    let b = fit(&k, &set(0), &set(2), CavKind::MeanDifference).unwrap();
    let (wa, wb) = (weight(&a, &values, features), weight(&b, &values, features));
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    let exact = dot(&wa, &wb) / (dot(&wa, &wa) * dot(&wb, &wb)).sqrt();
    assert!((cosine(&k, &a, &b).unwrap() - exact).abs() < 1e-12);
    assert!((cosine(&k, &a, &a).unwrap() - 1.0).abs() < 1e-12);
}

#[test]
fn held_out_accuracy_is_of_images_the_cav_never_saw() {
    // With as many features as images, any labels fit the training images; held out, meaningless ones stay at chance.
    let values = shifted(80, 300, 0, 0.0, 7);
    let k = gram_of(&values, 300);
    let (upper, lower) = (indices(0..40), indices(40..80));
    assert_eq!(fit(&k, &upper, &lower, LOGISTIC).unwrap().train_accuracy, 1.0);
    let null = held_out(&k, &upper, &lower, LOGISTIC, 1).unwrap();
    assert!((0.3..0.7).contains(&null.accuracy), "{null:?}");
    assert_eq!(null.total, 80);

    let values = shifted(80, 300, 40, 0.3, 7);
    let k = gram_of(&values, 300);
    let real = held_out(&k, &upper, &lower, LOGISTIC, 1).unwrap();
    assert!(real.accuracy > 0.9 && real.decodable(1e-6), "{real:?}");
    assert_eq!(real, held_out(&k, &upper, &lower, LOGISTIC, 1).unwrap());
    assert_eq!(held_out_permutation(&k, &upper, &lower, 1, 19), 0.05);

    // Two images a set: two folds of one image each. Four of four right has p = 1/16.
    let far = gram_of(&[0.0, 0.1, 5.0, 5.1], 1);
    let least = held_out(&far, &[2, 3], &[0, 1], LOGISTIC, 1).unwrap();
    assert_eq!((least.correct, least.total), (4, 4));
    assert!((least.p_value - 0.0625).abs() < 1e-12);
}

#[test]
fn the_permutation_test_of_held_out_accuracy_holds_its_level() {
    // 60 draws at 10 %: the exact binomial 99 % interval of the count is [1, 13].
    let rejected = (0..60)
        .filter(|&seed| {
            let k = gram_of(&shifted(24, 30, 0, 0.0, 100 + seed), 30);
            held_out_permutation(&k, &indices(0..12), &indices(12..24), seed, 29) <= 0.1
        })
        .count();
    assert!(rejected <= 13, "{rejected} of 60");
}

#[test]
fn wrong_requests_are_named() {
    let k = gram_of(&shifted(6, 3, 0, 0.0, 8), 3);
    let message = |result: Result<Cav, CavError>| result.unwrap_err().to_string();
    assert_eq!(message(fit(&k, &[], &[1], LOGISTIC)), "positive set: 0 images, at least 1 needed");
    assert_eq!(message(fit(&k, &[0], &[6], LOGISTIC)), "negative set: image 6 of 6 does not exist");
    assert_eq!(message(fit(&k, &[0, 2, 0], &[1], LOGISTIC)), "positive set: image 0 is in the set twice");
    for c in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(fit(&k, &[0], &[1], CavKind::Logistic { c }).is_err());
    }
    assert!(held_out(&k, &[0], &[1, 2], LOGISTIC, 1).is_err());
}
