//! The level of the tests on the run's own networks: every random set once in the place of the
//! concept, where there is nothing to find.

use std::collections::BTreeSet;

use nalgebra::DMatrix;

use crate::explain::tcav::{ClassTests, PairScore};
use crate::model::Stage;
use crate::stats::permutation::label_permutation;
use crate::stats::t_tests::welch_t;

use crate::plan::Plan;
use crate::records::CalibrationRecord;

/// Label permutations of each set: enough to tell 5 % from more; the concepts' own test draws the plan's number.
const PERMUTATIONS: usize = 999;

/// Rejections at the plan's level among the random sets (`random`, as rows of the Gram matrix) for
/// one class, whose gradients' products with all activations are `products`
/// `(class images, images)`. `design` holds the pairs that the tests' families score.
pub(super) fn calibration(
    plan: &Plan,
    stage: Stage,
    class: usize,
    random: &[Vec<usize>],
    design: &[(usize, usize)],
    products: &DMatrix<f64>,
    tests: &ClassTests,
) -> CalibrationRecord {
    let alpha = plan.statistics.alpha;
    let family: &[PairScore] = tests.concepts.first().map_or(&[], |concept| &concept.family);
    let images: BTreeSet<usize> = random.iter().flatten().copied().collect();
    let projection = |row: usize| products.column(row).mean();
    let own: Vec<Vec<f64>> = (0..random.len()).map(|set| own_scores(design, family, set + 1)).collect();
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
        // Pair i of the baseline is set i against set i + 1.
        let others = (0..random.len()).filter(|&pair| pair != set && (pair + 1) % random.len() != set);
        let baseline: Vec<f64> = others.map(|pair| tests.random_baseline[pair].score).collect();
        let legacy = welch_t(&own[set], &baseline, plan.verdict.confidence);
        found.legacy += usize::from(legacy.is_ok_and(|test| test.p_value <= alpha));
    }
    found
}

/// Scores of one member of a family against the random sets it is paired with, itself as the concept.
fn own_scores(design: &[(usize, usize)], family: &[PairScore], member: usize) -> Vec<f64> {
    let own = |(&pair, found): (&(usize, usize), &PairScore)| match pair {
        (0, _) | (_, 0) => None,
        (positive, _) if positive == member => Some(found.score),
        (_, negative) if negative == member => Some(1.0 - found.score - found.ties),
        _ => None,
    };
    design.iter().zip(family).filter_map(own).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::explain::tcav::ConceptTest;

    #[test]
    fn a_set_takes_the_concepts_place_against_the_other_random_sets() {
        let design = [(0, 1), (0, 2), (1, 2), (3, 2)];
        let family = [(0.9, 0.0), (0.8, 0.0), (0.7, 0.1), (0.4, 0.0)].map(|(score, ties)| PairScore { score, ties });
        assert_eq!(own_scores(&design, &family, 1), [0.7]);
        let second = own_scores(&design, &family, 2);
        assert!((second[0] - 0.2).abs() < 1e-12 && (second[1] - 0.6).abs() < 1e-12 && second.len() == 2);
    }

    fn untied(score: f64) -> PairScore {
        PairScore { score, ties: 0.0 }
    }

    fn tests_of(family: Vec<PairScore>, random_baseline: Vec<PairScore>) -> ClassTests {
        let concept = ConceptTest {
            runs: Vec::new(),
            family,
            family_scores: Vec::new(),
            statistics: BTreeMap::new(),
            legacy_welch_p: None,
            heldout_accuracy: 0.0,
            decodable: false,
            decodable_p_value: 1.0,
        };
        ClassTests { concepts: vec![concept], random_baseline }
    }

    #[test]
    fn a_set_is_no_part_of_what_it_is_compared_with() {
        let plan = Plan::preset("quick", &[]).unwrap();
        // Four images against four others: p = 2 / 70 for both sets. Against all eight neither would be rejected.
        let random: Vec<Vec<usize>> = vec![(0..4).collect(), (4..8).collect()];
        let products = DMatrix::from_fn(3, 8, |_, row| if row < 4 { 10.0 + row as f64 } else { row as f64 - 4.0 });
        let tests = tests_of(vec![untied(0.5)], [0.5, 0.5].map(untied).to_vec());
        assert_eq!(calibration(&plan, Stage::new("layer3"), 0, &random, &[(1, 2)], &products, &tests).effect, 2);
        // The first set scores high against the others, whose scores between themselves are a half.
        // Its own pairs in the baseline would spread that so widely that nothing could be told from
        // it.
        let random: Vec<Vec<usize>> = (0..4).map(|set| vec![2 * set, 2 * set + 1]).collect();
        let design = [(1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4)];
        let family = [0.9, 0.92, 0.94, 0.5, 0.5, 0.5].map(untied).to_vec();
        let tests = tests_of(family, [0.93, 0.5, 0.51, 0.07].map(untied).to_vec());
        assert_eq!(calibration(&plan, Stage::new("layer3"), 0, &random, &design, &products, &tests).legacy, 1);
    }

    #[test]
    fn rejections_are_counted_at_the_level() {
        let plan = Plan::preset("quick", &[("explain.random_sets".into(), "39".into())]).unwrap();
        // Forty sets of five images; the first leans along the gradient, all others are alike.
        let random: Vec<Vec<usize>> = (0..40).map(|set| (5 * set..5 * set + 5).collect()).collect();
        let lean = |row: usize| if row < 5 { 9.0 } else { (row % 7) as f64 };
        let products = DMatrix::from_fn(3, 200, |_, row| lean(row));
        let score = |a: usize, b: usize| if a == 1 { 1.0 } else { 0.5 + 0.001 * ((3 * a + 5 * b) % 11) as f64 };
        let design: Vec<(usize, usize)> = (1..=40).flat_map(|a| (a + 1..=40).map(move |b| (a, b))).collect();
        let family: Vec<PairScore> = design.iter().map(|&(a, b)| untied(score(a, b))).collect();
        let baseline = (0..40).map(|set| untied(0.5 + 0.01 * (set % 3) as f64)).collect();
        let found =
            calibration(&plan, Stage::new("layer3"), 1, &random, &design, &products, &tests_of(family, baseline));
        assert_eq!((found.stage, found.class, found.sets), (Stage::new("layer3"), 1, 40));
        // Two of forty may be rejected by ranks; the leaning set is by every test.
        assert!((1..=3).contains(&found.effect), "{found:?}");
        assert!((1..=2).contains(&found.score), "{found:?}");
        assert!(found.legacy >= 1, "{found:?}");
    }
}
