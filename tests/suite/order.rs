//! Concept tests do not depend on the order in which sets, or images in a set, are given, nor on
//! the number of threads. (The commands take random sets by name, so that a regular design does not
//! depend on their order either.)

use nalgebra::DMatrix;
use rand::seq::SliceRandom;
use rand_distr::{Distribution, StandardNormal};
use ticketlens::explain::tcav::cav::CavKind;
use ticketlens::explain::tcav::gram::{Rows, cross, gram};
use ticketlens::explain::tcav::{Sets, design, fit_pairs, score_class};
use ticketlens::seed::stream;
use ticketlens::stats::exchangeability::exchangeability_test;
use ticketlens::stats::permutation::label_permutation;

const FEATURES: usize = 30;
const SIZE: usize = 8;
const RANDOM: usize = 12;

fn normal(name: &str, rows: usize) -> Vec<f32> {
    let mut draws = stream(4, name, 0);
    (0..rows * FEATURES).map(|_| StandardNormal.sample(&mut draws)).collect()
}

/// p-values of effect and score, to the bit.
fn p_values(gram: &DMatrix<f64>, cross: &DMatrix<f64>, sets: &Sets, partners: Option<usize>) -> (u64, u64) {
    let design = design(sets.random.len(), partners, 2).unwrap();
    let kind = CavKind::Logistic { c: 1.0 };
    let cavs = fit_pairs(gram, sets.clone(), design.pairs(), kind, 1).unwrap();
    let scores = score_class(&cavs, cross).unwrap();
    let of = &scores.concepts[0];
    let effect = label_permutation(&of.effect.concept, &of.effect.random, 1999, 3, "order").unwrap().p_value;
    let score = exchangeability_test(&design, &of.family).unwrap().p_value;
    (effect.to_bits(), score.to_bits())
}

#[test]
fn order_of_sets_and_images_and_the_number_of_threads_do_not_matter() {
    let images = SIZE * (RANDOM + 1);
    let mut values = normal("activations", images);
    // The concept is a little apart along the first feature, so that neither p-value is at an end of its range.
    (0..SIZE).for_each(|image| values[image * FEATURES] += 0.7);
    let mut gradients = normal("gradients", 20);
    gradients.iter_mut().step_by(FEATURES).for_each(|value| *value += 0.5);
    let activations = Rows::new(&values, FEATURES).unwrap();
    let gram = gram(activations).unwrap();
    let cross = cross(Rows::new(&gradients, FEATURES).unwrap(), activations).unwrap();
    let set = |number: usize| (number * SIZE..(number + 1) * SIZE).collect::<Vec<usize>>();
    let given = Sets { concepts: vec![set(0)], random: (1..=RANDOM).map(set).collect() };
    // Every pair of sets, and a regular design, which says by their places which sets meet.
    for partners in [None, Some(4)] {
        let expected = p_values(&gram, &cross, &given, partners);
        let (effect, score) = (f64::from_bits(expected.0), f64::from_bits(expected.1));
        assert!(effect > 0.001 && effect < 0.9 && score < 1.0, "{effect} {score}: nothing could change");
        for index in 0..10 {
            let mut draws = stream(5, "order", index);
            let mut sets = given.clone();
            if partners.is_none() {
                sets.random.shuffle(&mut draws);
            }
            let all = sets.concepts.iter_mut().chain(&mut sets.random);
            all.for_each(|set| set.shuffle(&mut draws));
            assert_eq!(p_values(&gram, &cross, &sets, partners), expected, "{partners:?} order {index}");
        }
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let found = pool.install(|| p_values(&gram, &cross, &given, partners));
            assert_eq!(found, expected, "{partners:?}, {threads} threads");
        }
    }
}
