//! The level of the tests on the run's own networks: every random set once in the place of the concept, where there is nothing to find.

use std::collections::BTreeSet;

use nalgebra::DMatrix;

use crate::explain::tcav::{ClassScores, PairScore};
use crate::model::Stage;
use crate::stats::permutation::label_permutation;
use crate::stats::t_tests::welch_t;

use crate::plan::Plan;
use crate::records::CalibrationRecord;

/// Label permutations of each set: enough to tell 5 % from more; the concepts' own test draws the plan's number.
const PERMUTATIONS: usize = 999;

/// Rejections at the plan's level among the random sets (`random`, as rows of the Gram matrix) for one class, whose gradients' products with all
/// activations are `products` `(class images, images)`.
pub(super) fn calibration(
    plan: &Plan,
    stage: Stage,
    class: usize,
    random: &[Vec<usize>],
    products: &DMatrix<f64>,
    scores: &ClassScores,
) -> CalibrationRecord {
    let alpha = plan.statistics.alpha;
    let family: &[PairScore] = scores.concepts.first().map_or(&[], |concept| &concept.family);
    let images: BTreeSet<usize> = random.iter().flatten().copied().collect();
    let projection = |row: usize| products.column(row).mean();
    let own: Vec<Vec<f64>> = (0..random.len()).map(|set| own_scores(family, set + 1)).collect();
    // Ranks among the random sets alone: the concept is no part of this family.
    let statistics: Vec<f64> = own.iter().map(|scores| (mean(scores) - 0.5).abs()).collect();
    let mut found = CalibrationRecord { stage, class, sets: random.len(), effect: 0, score: 0, legacy: 0 };
    for (set, rows) in random.iter().enumerate() {
        let here: Vec<f64> = rows.iter().map(|&row| projection(row)).collect();
        let rest: Vec<f64> = images.iter().filter(|row| !rows.contains(row)).map(|&row| projection(row)).collect();
        let name = format!("calibration/{stage}/{class}/{set}");
        // A test is undefined where nothing varies; it cannot reject then.
        let effect = label_permutation(&here, &rest, PERMUTATIONS, plan.seed, &name);
        found.effect += usize::from(effect.is_ok_and(|test| test.p_value <= alpha));
        let reached = statistics.iter().filter(|&&other| other >= statistics[set] - 1e-12).count();
        found.score += usize::from(reached as f64 <= alpha * random.len() as f64);
        let others = scores.random_baseline.iter().filter(|pair| pair.positive != set && pair.negative != set);
        let baseline: Vec<f64> = others.map(|pair| pair.score).collect();
        let legacy = welch_t(&own[set], &baseline, plan.verdict.confidence);
        found.legacy += usize::from(legacy.is_ok_and(|test| test.p_value <= alpha));
    }
    found
}

/// Scores of one member of a family against the random sets it is paired with, itself as the concept.
fn own_scores(family: &[PairScore], member: usize) -> Vec<f64> {
    let own = |pair: &PairScore| match (pair.positive, pair.negative) {
        (0, _) | (_, 0) => None,
        (positive, _) if positive == member => Some(pair.score),
        (_, negative) if negative == member => Some(1.0 - pair.score - pair.ties),
        _ => None,
    };
    family.iter().filter_map(own).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_takes_the_concepts_place_against_the_other_random_sets() {
        let pair = |positive, negative, score, ties| PairScore { positive, negative, score, ties };
        let family = [pair(0, 1, 0.9, 0.0), pair(0, 2, 0.8, 0.0), pair(1, 2, 0.7, 0.1), pair(3, 2, 0.4, 0.0)];
        assert_eq!(own_scores(&family, 1), [0.7]);
        let second = own_scores(&family, 2);
        assert!((second[0] - 0.2).abs() < 1e-12 && (second[1] - 0.6).abs() < 1e-12 && second.len() == 2);
    }

    fn scores_of(family: Vec<PairScore>, random_baseline: Vec<PairScore>) -> ClassScores {
        let effect = crate::explain::tcav::Effect {
            concept: Vec::new(),
            random: Vec::new(),
            effect: 0.0,
            effect_standardised: None,
        };
        let concept = crate::explain::tcav::ConceptScores { runs: Vec::new(), family, effect };
        ClassScores { concepts: vec![concept], random_baseline }
    }

    #[test]
    fn a_set_is_no_part_of_what_it_is_compared_with() {
        let plan = Plan::preset("quick", &[]).unwrap();
        let pair = |positive, negative, score| PairScore { positive, negative, score, ties: 0.0 };
        // Four images against four others: p = 2 / 70 for both sets. Against all eight neither would be rejected.
        let random: Vec<Vec<usize>> = vec![(0..4).collect(), (4..8).collect()];
        let products = DMatrix::from_fn(3, 8, |_, row| if row < 4 { 10.0 + row as f64 } else { row as f64 - 4.0 });
        let scores = scores_of(vec![pair(1, 2, 0.5)], vec![pair(0, 1, 0.5), pair(1, 0, 0.5)]);
        assert_eq!(calibration(&plan, Stage::new("layer3"), 0, &random, &products, &scores).effect, 2);
        // The first set scores high against the others, whose scores between themselves are a half. Its own pairs in the
        // baseline would spread that so widely that nothing could be told from it.
        let random: Vec<Vec<usize>> = (0..4).map(|set| vec![2 * set, 2 * set + 1]).collect();
        let own = [pair(1, 2, 0.9), pair(1, 3, 0.92), pair(1, 4, 0.94)];
        let rest = [pair(2, 3, 0.5), pair(2, 4, 0.5), pair(3, 4, 0.5)];
        let baseline = vec![pair(0, 1, 0.93), pair(1, 2, 0.5), pair(2, 3, 0.51), pair(3, 0, 0.07)];
        let scores = scores_of([own, rest].concat(), baseline);
        assert_eq!(calibration(&plan, Stage::new("layer3"), 0, &random, &products, &scores).legacy, 1);
    }

    #[test]
    fn rejections_are_counted_at_the_level() {
        let plan = Plan::preset("quick", &[("explain.random_sets".into(), "39".into())]).unwrap();
        // Forty sets of five images; the first leans along the gradient, all others are alike.
        let random: Vec<Vec<usize>> = (0..40).map(|set| (5 * set..5 * set + 5).collect()).collect();
        let lean = |row: usize| if row < 5 { 9.0 } else { (row % 7) as f64 };
        let products = DMatrix::from_fn(3, 200, |_, row| lean(row));
        let score = |a: usize, b: usize| if a == 1 { 1.0 } else { 0.5 + 0.001 * ((3 * a + 5 * b) % 11) as f64 };
        let family: Vec<PairScore> = (1..=40)
            .flat_map(|a| (a + 1..=40).map(move |b| (a, b)))
            .map(|(a, b)| PairScore { positive: a, negative: b, score: score(a, b), ties: 0.0 })
            .collect();
        let baseline = (0..40).map(|set| PairScore {
            positive: set,
            negative: (set + 1) % 40,
            score: 0.5 + 0.01 * (set % 3) as f64,
            ties: 0.0,
        });
        let scores = scores_of(family, baseline.collect());
        let found = calibration(&plan, Stage::new("layer3"), 1, &random, &products, &scores);
        assert_eq!((found.stage, found.class, found.sets), (Stage::new("layer3"), 1, 40));
        // Two of forty may be rejected by ranks; the leaning set is by every test.
        assert!((1..=3).contains(&found.effect), "{found:?}");
        assert!((1..=2).contains(&found.score), "{found:?}");
        assert!(found.legacy >= 1, "{found:?}");
    }
}
