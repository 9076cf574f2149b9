//! What answers rest on, in simulation: intervals of ρ, of the accuracy difference and of onsets cover; ranges of the
//! hypotheses reach past the truth no more often than the level; the test of forgetting holds its level and has power.

use rand::Rng;
use rand_distr::{Distribution, StandardNormal};
use ticketlens::seed::{Stream, stream};
use ticketlens::stats::crossed::{Mean, RatioByImage, image_variance_of_means, log_ratios, pseudo_values};
use ticketlens::stats::forgetting::{Images, forgetting};
use ticketlens::stats::onset::onset;
use ticketlens::stats::verdict::{Accuracy, Call, Kind, accuracy_answer, call, explanations_answer, ranges};

fn normal(draws: &mut Stream, spread: f64) -> f64 {
    spread * <StandardNormal as Distribution<f64>>::sample(&StandardNormal, draws)
}

/// 93 to 97 % of a nominal 95 %.
fn assert_covers(what: &str, covered: usize, trials: usize) {
    let rate = covered as f64 / trials as f64;
    println!("{what}: {covered} of {trials} cover ({:.1} %)", 100.0 * rate);
    assert!((0.93..=0.97).contains(&rate), "{what}: {rate}");
}

/// Drifts by image of `replicates` tickets and parents from `twins` comparators each. Some images
/// are hard for all networks (0.6, log scale), pruning moves some images more than others in every
/// replicate (0.2), each replicate has its own ratio (`own`), and every single drift has noise.
fn drifts(replicates: usize, twins: usize, log_rho: f64, own: f64, draws: &mut Stream) -> Vec<RatioByImage> {
    let images = 120;
    let hard: Vec<f64> = (0..images).map(|_| normal(draws, 0.6)).collect();
    let moved: Vec<f64> = (0..images).map(|_| normal(draws, 0.2)).collect();
    (0..replicates)
        .map(|_| {
            let (level, ratio) = (normal(draws, 0.2), log_rho + normal(draws, own));
            (0..images)
                .map(|image| {
                    let mut one = |extra: f64| (hard[image] + level + extra + normal(draws, 0.4)).exp();
                    let above = (0..twins).map(|_| one(ratio + moved[image])).sum();
                    let below = (0..twins).map(|_| one(0.0)).sum();
                    Some((above, below)).filter(|_| image % 17 != 0)
                })
                .collect()
        })
        .collect()
}

#[test]
fn intervals_of_rho_cover_over_replicates_and_images() {
    let trials = 5000;
    for (replicates, twins, own) in [(4, 1, 0.2), (4, 2, 0.1), (6, 1, 0.2), (6, 2, 0.15), (8, 1, 0.2), (8, 2, 0.15)] {
        // Images that pruning moves more weigh in by the mean of a log-normal.
        let truth = 1.3f64.ln() + 0.2 * 0.2 / 2.0;
        let mut covered = 0;
        for trial in 0..trials {
            let mut draws = stream(21, "coverage/rho", trial);
            let rows = drifts(replicates, twins, 1.3f64.ln(), own, &mut draws);
            let (values, images) = log_ratios(&rows).unwrap();
            let interval = Mean::of(&values, Some(images)).unwrap().interval(0.95).unwrap();
            covered += usize::from(interval.contains(truth));
        }
        assert_covers(&format!("ρ, {replicates} replicates, {twins} twins"), covered, trials as usize);
    }
}

/// Where other seeds are the floor, replicates share networks: `ρ(i) = Σ_j d(D_j, T_i) / Σ_j d(D_j, D_i)`.
#[test]
fn intervals_of_rho_over_other_seeds_cover_by_the_jackknife() {
    let trials = 2000;
    for replicates in [4, 6, 8] {
        let mut covered = 0;
        for trial in 0..trials {
            let mut draws = stream(22, "coverage/seeds", trial);
            // Networks are points; a ticket lies twice as far from where all come from as a dense network.
            let mut point = |scale: f64| -> Vec<f64> { (0..40).map(|_| normal(&mut draws, scale)).collect() };
            let dense: Vec<Vec<f64>> = (0..replicates).map(|_| point(1.0)).collect();
            let tickets: Vec<Vec<f64>> = (0..replicates).map(|_| point(2.0)).collect();
            let distance = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
            let value = |i: usize, others: &[usize]| {
                let above: f64 = others.iter().map(|&j| distance(&dense[j], &tickets[i])).sum();
                let below: f64 = others.iter().map(|&j| distance(&dense[j], &dense[i])).sum();
                Some((above / below).ln())
            };
            let pseudo = pseudo_values(replicates, value).unwrap();
            // Expected squared distances: 1 + 4 against 1 + 1.
            covered += usize::from(Mean::of(&pseudo, None).unwrap().interval(0.95).unwrap().contains(2.5f64.ln()));
        }
        let rate = covered as f64 / trials as f64;
        println!("ρ over other seeds, {replicates} replicates: {:.1} %", 100.0 * rate);
        assert!((0.92..=0.985).contains(&rate), "{replicates}: {rate}");
    }
}

#[test]
fn intervals_of_the_accuracy_difference_cover_over_replicates_and_images() {
    let trials = 3000;
    for (replicates, spread) in [(4, 0.004), (6, 0.004), (8, 0.002)] {
        let mut covered = 0;
        for trial in 0..trials {
            let mut draws = stream(23, "coverage/accuracy", trial);
            // Some images are forgotten by most tickets: the same ones in every replicate.
            let fragile: Vec<f64> = (0..600).map(|_| if draws.random_bool(0.05) { 0.5 } else { 0.006 }).collect();
            let rows: Vec<Vec<f64>> = (0..replicates)
                .map(|_| {
                    let shift = normal(&mut draws, spread);
                    (fragile.iter())
                        .map(|chance| {
                            let lost = draws.random_bool((chance + shift).clamp(0.0, 1.0));
                            let learned = draws.random_bool(0.01);
                            f64::from(u8::from(learned)) - f64::from(u8::from(lost))
                        })
                        .collect()
                })
                .collect();
            let means: Vec<f64> = rows.iter().map(|row| row.iter().sum::<f64>() / row.len() as f64).collect();
            let mean = Mean::of(&means, Some(image_variance_of_means(&rows).unwrap())).unwrap();
            let truth = 0.01 - (0.05 * 0.5 + 0.95 * 0.006);
            covered += usize::from(mean.interval(0.95).unwrap().contains(truth));
        }
        assert_covers(&format!("accuracy difference, {replicates} replicates"), covered, trials as usize);
    }
}

const DENSITIES: [f64; 7] = [1.0, 0.4, 0.16, 0.064, 0.0256, 0.01, 0.004];

/// Curves of replicates around `mean`: each has a level of its own, and noise at every density but the dense one.
fn curves(mean: &[f64], replicates: usize, level: f64, noise: f64, draws: &mut Stream) -> Vec<Vec<f64>> {
    (0..replicates)
        .map(|_| {
            let own = normal(draws, level);
            (mean.iter().enumerate())
                .map(|(at, mean)| if at == 0 { *mean } else { mean + own + normal(draws, noise) })
                .collect()
        })
        .collect()
}

#[test]
fn intervals_of_onsets_cover() {
    let trials = 3000;
    let mean = [0.0, 0.02, 0.08, 0.15, 0.3, 0.45, 0.6];
    let limit = 1.25f64.ln();
    // On straight lines over the logarithm of the density, between the fourth and the fifth.
    let share = (limit - 0.15) / 0.15;
    let truth = (DENSITIES[3].ln() + share * (DENSITIES[4] / DENSITIES[3]).ln()).exp();
    for replicates in [4, 6, 8] {
        let (mut covered, mut inside) = (0, 0);
        for trial in 0..trials {
            let mut draws = stream(24, "coverage/onset", trial);
            let found = onset(&DENSITIES, &curves(&mean, replicates, 0.08, 0.06, &mut draws), limit, 0.95).unwrap();
            covered +=
                usize::from(found.earliest.is_none_or(|e| e >= truth) && found.latest.is_none_or(|l| l <= truth));
            inside += usize::from(found.earliest.is_some() && found.latest.is_some());
        }
        println!("onset, {replicates} replicates: both ends within the tested densities in {inside} of {trials}");
        assert_covers(&format!("onset, {replicates} replicates"), covered, trials as usize);
    }
}

/// Studies whose truth is known: accuracy is lost from the fifth density on, pixels change from the
/// third on. A's range must not reach the third, nor B's the fourth, in more than the level of all
/// studies.
#[test]
fn ranges_reach_past_the_truth_no_more_often_than_the_level() {
    let trials = 4000;
    let limit = 1.25f64;
    // At the worst case allowed: exactly at the margins where a hypothesis just fails.
    let pixels = [0.0, 0.0, 0.05, limit.ln() + 1e-6, 0.4, 0.6, 0.8];
    let concepts = [0.0, 0.0, 0.0, 0.05, 0.1, 0.5, 0.9];
    let accuracy = [0.0, 0.002, 0.002, 0.0, -0.01 + 1e-6, -0.04, -0.1];
    for (replicates, confidence) in [(5, 0.95), (7, 0.9)] {
        let level = (1.0 - confidence) / 2.0;
        let (mut a_past, mut b_past, mut a_whole, mut b_whole) = (0, 0, 0, 0);
        for trial in 0..trials {
            let mut draws = stream(25, "ranges", trial);
            let mut of = |mean: &[f64], level: f64, noise: f64| curves(mean, replicates, level, noise, &mut draws);
            let (pixels, concepts) = (of(&pixels, 0.05, 0.05), of(&concepts, 0.05, 0.1));
            let accuracy = of(&accuracy, 0.001, 0.002);
            let mean = |rows: &[Vec<f64>], at: usize| {
                Mean::of(&rows.iter().map(|row| row[at]).collect::<Vec<_>>(), None).unwrap()
            };
            let calls: Vec<Call> = (1..7)
                .map(|at| {
                    let answer = accuracy_answer(mean(&accuracy, at).interval(confidence).unwrap(), 0.01).unwrap();
                    let kind = |rows: &[Vec<f64>]| {
                        let mean = mean(rows, at);
                        let logs = mean.interval(confidence).unwrap();
                        let interval = ticketlens::stats::Interval { low: logs.low.exp(), high: logs.high.exp() };
                        Kind {
                            answer: explanations_answer(interval, limit).unwrap(),
                            changed_p: mean.p_above(limit.ln()),
                        }
                    };
                    call(answer, &[kind(&pixels), kind(&concepts)], level)
                })
                .collect();
            let found = ranges(&calls);
            // Pruned densities 1 and 2 are A's in truth, 5 and 6 are B's.
            a_past += usize::from(found.a > 2);
            b_past += usize::from(found.b > 2);
            a_whole += usize::from(found.a == 2);
            b_whole += usize::from(found.b == 2);
        }
        let share = |count: usize| count as f64 / trials as f64;
        println!(
            "{replicates} replicates, {confidence}: A past the truth {:.3}, B {:.3}; found whole A {:.2}, B {:.2}",
            share(a_past),
            share(b_past),
            share(a_whole),
            share(b_whole)
        );
        assert!(share(a_past) <= 0.055 && share(b_past) <= 0.055, "{a_past} and {b_past} of {trials}");
        assert!(share(a_whole) > 0.3 && share(b_whole) > 0.3, "{a_whole} and {b_whole}: no power at all");
    }
}

/// A network that forgets each image with its own chance, and moves it by `drift` plus what goes with being forgotten.
fn forgetful(images: usize, classes: &[usize], together: f64, draws: &mut Stream) -> Images {
    (0..images)
        .map(|image| {
            // Hard images are of one class more than of the other, and drift more there: a
            // confounder for whoever pools.
            let chance = if classes[image] == 0 { 0.25 } else { 0.1 };
            let lost = draws.random_bool(chance);
            let base = if classes[image] == 0 { 0.6 } else { 0.2 };
            Some((lost, base + normal(draws, 0.3) + if lost { together } else { 0.0 })).filter(|_| image % 13 != 5)
        })
        .collect()
}

#[test]
fn the_test_of_forgetting_holds_its_level_and_finds_what_is_there() {
    let trials = 600;
    let classes: Vec<usize> = (0..120).map(|image| image % 2).collect();
    for (together, networks) in [(0.0, 1), (0.0, 5), (0.35, 5)] {
        let mut rejected = 0;
        for trial in 0..trials {
            let mut draws = stream(26, "forgetting", trial);
            let all: Vec<Images> = match (together > 0.0, networks) {
                // Under the null the networks may well agree on which images are hard: forgetting
                // and drift are then the same in all of them.
                (false, 5) => {
                    let first = forgetful(120, &classes, 0.0, &mut draws);
                    let again = |image: &Option<(bool, f64)>, draws: &mut Stream| {
                        image.map(|(lost, drift)| (lost ^ draws.random_bool(0.02), drift + normal(draws, 0.05)))
                    };
                    (0..networks).map(|_| first.iter().map(|image| again(image, &mut draws)).collect()).collect()
                }
                _ => (0..networks).map(|_| forgetful(120, &classes, together, &mut draws)).collect(),
            };
            let test = forgetting(&all, &classes, 199, trial, "test").unwrap();
            rejected += u32::from(test.p_value <= 0.05);
        }
        let rate = f64::from(rejected) / f64::from(trials as u32);
        println!("forgetting, {networks} networks, planted {together}: rejects {:.1} %", 100.0 * rate);
        if together > 0.0 {
            assert!(rate > 0.9, "power {rate}");
        } else {
            // 5 % and three binomial errors.
            assert!(rate < 0.05 + 3.0 * (0.05 * 0.95 / f64::from(trials as u32)).sqrt(), "level {rate}");
        }
    }
}

/// The numbers that docs/statistics.md works through.
#[test]
fn the_worked_example_of_the_page_on_statistics_is_right() {
    let page = include_str!("../../docs/statistics.md");
    let of = |ratios: [f64; 3]| Mean::of(&ratios.map(f64::ln), None).unwrap();
    let ends = |mean: &Mean, confidence: f64| {
        let logs = mean.interval(confidence).unwrap();
        format!("{:.2} to {:.2}", logs.low.exp(), logs.high.exp())
    };
    let (mild, extreme) = (of([1.05, 0.95, 1.12]), of([1.9, 1.6, 2.3]));
    let limit = 1.25f64.ln();
    for said in [
        format!("= **{:.2}** (the geometric mean)", mild.estimate.exp()),
        format!("**{}**", ends(&mild, 0.9)),
        ends(&mild, 0.95),
        format!("ρ = {:.2}", extreme.estimate.exp()),
        ends(&extreme, 0.9),
        format!("p = {:.3}", extreme.p_above(limit)),
    ] {
        assert!(page.replace('\n', " ").contains(&said), "{said}");
    }
    let kind = |mean: &Mean, answer| Kind { answer, changed_p: mean.p_above(limit) };
    let pixels =
        kind(&extreme, explanations_answer(ticketlens::stats::Interval { low: 1.41, high: 2.6 }, 1.25).unwrap());
    let concepts =
        kind(&mild, explanations_answer(ticketlens::stats::Interval { low: 0.9, high: 1.19 }, 1.25).unwrap());
    assert_eq!(call(Accuracy::Lost, &[pixels, concepts], 0.05), Call::Inconclusive);
}

#[test]
fn one_replicate_gives_no_interval_and_so_no_answer() {
    assert!(Mean::of(&[0.1], None).is_err());
    assert_eq!(call(Accuracy::Undecided, &[], 0.025), Call::Inconclusive);
}
