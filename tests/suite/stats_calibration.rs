//! Levels of the tests under nulls that are known to be true, and coverage of the intervals.

use rand::seq::SliceRandom;
use rand_distr::{Distribution, Exp1, StandardNormal};
use ticketlens::seed::stream;
use ticketlens::stats::{
    exchangeability::{Design, PairScore, exchangeability_test},
    permutation::label_permutation,
    t_tests::welch_t,
};

use crate::support::exact_interval;

/// That `rejections` in `trials` fit a level of at most `level` (and not far below, if `exact`), by a 99.9 % interval.
fn assert_level(what: &str, rejections: usize, trials: usize, level: f64, exact: bool) {
    let interval = exact_interval(rejections, trials, 0.999);
    let rate = rejections as f64 / trials as f64;
    println!("{what}: {rejections} of {trials} rejected at {level} ({:.1} %)", 100.0 * rate);
    assert!(interval.low <= level, "{what}: rejects {rate}, above {level}");
    assert!(!exact || interval.high >= level, "{what}: rejects {rate}, below {level}");
}

#[test]
fn label_permutation_holds_its_level() {
    let (trials, levels) = (2000, [0.01, 0.05, 0.2]);
    let mut rejections = [0; 3];
    for trial in 0..trials {
        let mut draws = stream(1, "calibration/permutation", trial);
        let mut skewed = |n: usize| -> Vec<f64> { (0..n).map(|_| Exp1.sample(&mut draws)).collect() };
        let (concept, random) = (skewed(20), skewed(60));
        let p = label_permutation(&concept, &random, 499, trial, "calibration").unwrap().p_value;
        levels.iter().zip(&mut rejections).for_each(|(level, r)| *r += usize::from(p <= *level));
    }
    for (level, rejected) in levels.iter().zip(rejections) {
        assert_level("label permutation", rejected, trials as usize, *level, true);
    }
}

/// Scores as TCAV makes them: sets are drawn from one pool of features, a CAV is a difference of
/// set means, and a score is the share of class gradients it points along. The scores of one member
/// share its set, so they are dependent.
fn pair_scores(design: &Design, trial: u64) -> Vec<PairScore> {
    const FEATURES: usize = 12;
    let mut draws = stream(2, "calibration/scores", trial);
    let mut normal = |spread: f64| -> Vec<f64> {
        (0..FEATURES)
            .map(|_| spread * <StandardNormal as Distribution<f64>>::sample(&StandardNormal, &mut draws))
            .collect()
    };
    let common = normal(1.0);
    let gradients: Vec<Vec<f64>> =
        (0..40).map(|_| normal(1.0).iter().zip(&common).map(|(g, c)| g + 2.0 * c).collect()).collect();
    let sets: Vec<Vec<f64>> = (0..design.members()).map(|_| normal(0.2)).collect();
    design
        .pairs()
        .iter()
        .map(|&(i, j)| {
            let along = |g: &[f64]| (0..FEATURES).map(|k| g[k] * (sets[i][k] - sets[j][k])).sum::<f64>() > 0.0;
            let score = gradients.iter().filter(|g| along(g)).count() as f64 / gradients.len() as f64;
            PairScore { score, ties: 0.0 }
        })
        .collect()
}

#[test]
fn exchangeability_holds_its_level_and_the_legacy_t_test_does_not() {
    let trials = 1000u64;
    // The more runs share the concept set, the further the legacy test is off: 19 here, then 6.
    for (name, design, legacy_at_least) in [
        ("all pairs of 20", Design::all_pairs(20).unwrap(), trials / 4),
        ("40 members, 6 partners", Design::regular(40, 6, 5, "design").unwrap(), trials / 8),
    ] {
        let (mut valid, mut legacy) = (0, 0);
        for trial in 0..trials {
            let scores = pair_scores(&design, trial);
            valid += usize::from(exchangeability_test(&design, &scores).unwrap().p_value <= 0.05);
            // The customary test: the concept's scores against those of random pairs.
            let of = |keep: &dyn Fn(usize, usize) -> bool| -> Vec<f64> {
                design.pairs().iter().zip(&scores).filter(|((i, j), _)| keep(*i, *j)).map(|(_, s)| s.score).collect()
            };
            let concept = of(&|i, _| i == 0);
            let mut random = of(&|i, _| i != 0);
            random.shuffle(&mut stream(3, "calibration/baseline", trial));
            random.truncate(concept.len());
            legacy += usize::from(welch_t(&concept, &random, 0.95).is_ok_and(|t| t.p_value <= 0.05));
        }
        assert_level(&format!("exchangeability, {name}"), valid, trials as usize, 0.05, false);
        println!("  legacy Welch t: {legacy} of {trials}");
        assert!(legacy >= legacy_at_least as usize, "the legacy test was expected to reject far too often: {legacy}");
    }
}
