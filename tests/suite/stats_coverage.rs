//! Coverage of the intervals at a nominal 95 %, in simulation.

use rand::Rng;
use rand_distr::{Distribution, Exp1, StandardNormal};
use ticketlens::seed::stream;
use ticketlens::stats::{
    bootstrap::{self, Options},
    descriptive::mean,
    intervals::paired_accuracy_difference,
};

fn assert_coverage(what: &str, covered: usize, trials: usize) {
    let rate = covered as f64 / trials as f64;
    println!("{what}: {covered} of {trials} cover ({:.1} %)", 100.0 * rate);
    assert!((0.92..=0.98).contains(&rate), "{what}: {rate}");
}

#[test]
fn bootstrap_covers_a_difference_of_means_and_a_score() {
    let trials = 1000;
    let options = Options { resamples: 799, ..Options::default() };
    let (mut difference, mut score) = (0, 0);
    for trial in 0..trials {
        let mut draws = stream(11, "coverage/means", trial);
        // Skewed concept values, more numerous random ones.
        let concept: Vec<f64> = (0..40).map(|_| Exp1.sample(&mut draws)).collect();
        let random: Vec<f64> = (0..120).map(|_| StandardNormal.sample(&mut draws)).collect();
        let of = |a: &[f64], b: &[f64]| Some(mean(a).ok()? - mean(b).ok()?);
        let b = bootstrap::two_sample(&concept, &random, of, options, trial, "coverage").unwrap();
        difference += usize::from(b.interval.contains(1.0));
        let signs: Vec<f64> = (0..150).map(|_| f64::from(u8::from(draws.random_bool(0.7)))).collect();
        let b = bootstrap::one_sample(&signs, |v| mean(v).ok(), options, trial, "coverage").unwrap();
        score += usize::from(b.interval.contains(0.7));
    }
    assert_coverage("difference of means", difference, trials as usize);
    assert_coverage("score of 150 images", score, trials as usize);
}

#[test]
fn bootstrap_covers_the_concept_effect_over_images_of_all_kinds() {
    let trials = 400u64;
    let (class, concept, random) = (40, 30, 90);
    let options = Options { resamples: 399, ..Options::default() };
    let mut covered = 0;
    for trial in 0..trials {
        let mut draws = stream(12, "coverage/effect", trial);
        let mut normal = |n: usize| -> Vec<f64> { (0..n).map(|_| StandardNormal.sample(&mut draws)).collect() };
        // Two features: gradients of mean (1, 0), concept images moved by (0.5, 0.5); the true effect is 0.5.
        let (g, a) = (normal(2 * class), normal(2 * (concept + random)));
        let mut products = Vec::new();
        for k in 0..class {
            for i in 0..concept + random {
                let moved = if i < concept { 0.5 } else { 0.0 };
                products.push((1.0 + g[2 * k]) * (a[2 * i] + moved) + g[2 * k + 1] * (a[2 * i + 1] + moved));
            }
        }
        let effect = bootstrap::ConceptEffect::new(class, concept, random, options, trial, "coverage".into());
        let mut effect = effect.unwrap();
        // Class images in two blocks.
        let (first, second) = products.split_at((concept + random) * 25);
        effect.add(first).and_then(|()| effect.add(second)).unwrap();
        let b = effect.finish().unwrap();
        covered += usize::from(b.interval.contains(0.5));
    }
    assert_coverage("concept effect", covered, trials as usize);
}

#[test]
fn the_paired_accuracy_interval_covers() {
    for (first_only, second_only, images) in [(0.03, 0.01, 200), (0.10, 0.15, 100), (0.004, 0.004, 500)] {
        let trials = 2000u64;
        let mut covered = 0;
        for trial in 0..trials {
            let mut draws = stream(14, "coverage/accuracy", trial);
            let (mut b, mut c) = (0, 0);
            for _ in 0..images {
                let u: f64 = draws.random();
                b += usize::from(u < first_only);
                c += usize::from(u > 1.0 - second_only);
            }
            covered +=
                usize::from(paired_accuracy_difference(b, c, images, 0.95).unwrap().contains(first_only - second_only));
        }
        assert_coverage(
            &format!("accuracy difference, {first_only} and {second_only} of {images}"),
            covered,
            trials as usize,
        );
    }
}
