//! The further concept statistics: their values from plain vectors, their level where there is
//! nothing to find, their power where there is. The tables that these tests print stand in
//! `docs/statistics.md`.

use nalgebra::DMatrix;
use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_distr::{Distribution, StandardNormal};
use ticketlens::data::Factor;
use ticketlens::explain::tcav::cav::{CavKind, fit};
use ticketlens::explain::tcav::gram::{Rows, gram};
use ticketlens::explain::tcav::products::Products;
use ticketlens::explain::tcav::region::ClassActivations;
use ticketlens::explain::tcav::statistics::{Case, members};
use ticketlens::explain::tcav::{
    ConceptCavs, ConceptImages, ConceptScores, Finding, STATISTICS, Samples, Tests, concept_effect,
};
use ticketlens::seed::stream;
use ticketlens::stats::exchangeability::{Design, PairScore, exchangeability_test};
use ticketlens::stats::special::normal_cdf;

use crate::calibration::{Bench, SET, digits, effect_p, shape_bench, texture_bench, truth};
use crate::support::exact_interval;

const ALPHA: f64 = 0.05;

/// What a statistic says of the images `concept` beside the random sets, by the class gradients'
/// products `cross`; nothing of CAVs is needed. `shows` as in a case.
fn find(
    key: &str,
    cross: &DMatrix<f64>,
    (concept, sets): (&[usize], &[Vec<usize>]),
    (shows, place): (&[&[Option<bool>]], usize),
    seed: u64,
) -> Option<Finding> {
    let statistic = STATISTICS.iter().find(|statistic| statistic.key == key).unwrap();
    let random: Vec<usize> = sets.iter().flatten().copied().collect();
    let effect = concept_effect(cross, concept, sets).unwrap();
    let scores = ConceptScores { runs: Vec::new(), family: Vec::new(), effect };
    let design = Design::all_pairs(3).unwrap();
    let family = exchangeability_test(&design, &[PairScore { score: 0.5, ties: 0.0 }; 3]).unwrap();
    let tests = Tests {
        cav: CavKind::MeanDifference,
        design,
        // 199 hold the level of 5 % as exactly as 9,999 do.
        permutations: 199,
        resamples: 0,
        confidence: 0.9,
        interval_in_logits: false,
        alpha: ALPHA,
        seed,
        regions: None,
    };
    let case = Case {
        label: "test",
        scores: &scores,
        family: &family,
        means: &cross.column_iter().map(|column| column.sum() / cross.nrows() as f64).collect::<Vec<_>>(),
        effect_in_logits: None,
        concept,
        random: &random,
        members: &members(cross, concept, sets),
        shows,
        place,
        region: None,
        tests: &tests,
    };
    (statistic.find)(&case).unwrap()
}

fn normal(draws: &mut impl Rng, shape: (usize, usize)) -> DMatrix<f64> {
    DMatrix::from_fn(shape.0, shape.1, |_, _| StandardNormal.sample(draws))
}

/// Scores along one CAV from the whole pool, with means, differences and products of vectors written out.
#[test]
fn pool_scores_are_those_of_the_vectors() {
    let mut draws = stream(3, "test/pool", 0);
    let (activations, gradients) = (normal(&mut draws, (25, 7)), normal(&mut draws, (11, 7)));
    let cross = &gradients * activations.transpose();
    let sets: Vec<Vec<usize>> = (0..5).map(|set| (5 * set..5 * set + 5).collect()).collect();
    let scores = |member: usize| -> (f64, f64) {
        let others: Vec<usize> = (0..25).filter(|row| !sets[member].contains(row)).collect();
        let mean = |rows: &[usize]| -> Vec<f64> {
            (0..7).map(|k| rows.iter().map(|&row| activations[(row, k)]).sum::<f64>() / rows.len() as f64).collect()
        };
        let along = |rows: &[usize], image: usize| -> Vec<f64> {
            rows.iter().map(|&row| (0..7).map(|k| gradients[(image, k)] * activations[(row, k)]).sum()).collect()
        };
        let variance = |values: &[f64]| {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64
        };
        let (inside, outside) = (mean(&sets[member]), mean(&others));
        let (mut count, mut smooth) = (0.0, 0.0);
        for image in 0..11 {
            let s: f64 = (0..7).map(|k| gradients[(image, k)] * (inside[k] - outside[k])).sum();
            let error = variance(&along(&sets[member], image)) / 5.0 + variance(&along(&others, image)) / 20.0;
            count += f64::from(u8::from(s > 0.0)) / 11.0;
            smooth += normal_cdf(s / error.sqrt()) / 11.0;
        }
        (count, smooth)
    };
    let all: Vec<(f64, f64)> = (0..5).map(scores).collect();
    for (key, of) in [("pool_score", 0), ("smooth_score", 1)] {
        let values: Vec<f64> = all.iter().map(|pair| if of == 0 { pair.0 } else { pair.1 }).collect();
        let found = find(key, &cross, (&sets[0], &sets[1..]), (&[], 0), 1).unwrap();
        assert!((found.value - values[0]).abs() < 1e-9, "{key}: {} {}", found.value, values[0]);
        let reached = values[1..].iter().filter(|v| (*v - 0.5).abs() >= (values[0] - 0.5).abs() - 1e-9).count();
        assert_eq!(found.p_value, (1 + reached) as f64 / 5.0, "{key}");
    }
    // A class whose gradient is zero says nothing, and no set stands out.
    let still = DMatrix::zeros(11, 25);
    assert_eq!(find("smooth_score", &still, (&sets[0], &sets[1..]), (&[], 0), 1).unwrap().value, 0.5);
    for key in ["pool_score", "smooth_score"] {
        assert_eq!(find(key, &still, (&sets[0], &sets[1..]), (&[], 0), 1).unwrap().p_value, 1.0);
    }
}

/// PatternCAV (Pahde et al. 2025, equation 6): covariance of activations and labels over the
/// labels' variance. For two sets of any sizes that is the difference of their means, which
/// `mean-difference` and the pool scores take.
#[test]
fn pattern_cav_is_the_difference_of_means() {
    let mut draws = stream(4, "test/pattern", 0);
    let activations = normal(&mut draws, (17, 6));
    let label = |row: usize| f64::from(u8::from(row < 5));
    let mean_label = 5.0 / 17.0;
    let mean = |k: usize| activations.column(k).mean();
    let variance: f64 = (0..17).map(|row| (label(row) - mean_label).powi(2)).sum();
    let pattern: Vec<f64> = (0..6)
        .map(|k| {
            (0..17).map(|row| (label(row) - mean_label) * (activations[(row, k)] - mean(k))).sum::<f64>() / variance
        })
        .collect();
    let flat: Vec<f32> = activations.transpose().iter().map(|&value| value as f32).collect();
    let gram = gram(Rows::new(&flat, 6).unwrap()).unwrap();
    let (concept, random): (Vec<usize>, Vec<usize>) = (0..17).partition(|&row| row < 5);
    let cav = fit(&gram, &concept, &random, CavKind::MeanDifference).unwrap();
    for (k, pattern) in pattern.iter().enumerate() {
        let own: f64 = cav.samples.iter().zip(&cav.alpha).map(|(&row, alpha)| alpha * activations[(row, k)]).sum();
        assert!((own - pattern).abs() < 1e-6, "{k}: {own} {pattern}");
    }
}

#[test]
fn the_conditional_effect_compares_images_that_agree_in_the_other_concepts() {
    // Projections: 10 for an image that shows the other concept, plus 1 for the concept itself,
    // plus a little that is its own.
    let (yes, no) = (Some(true), Some(false));
    let own = [yes, yes, yes, no, no, no, no, None, yes];
    let other = [yes, yes, no, yes, no, no, no, no, no];
    let excluded = [no, no, no, yes, no, yes, no, no, no];
    let cross = DMatrix::from_fn(2, 9, |_, row| {
        let shown = |of: &[Option<bool>], size: f64| if of[row] == yes { size } else { 0.0 };
        shown(&other, 10.0) + shown(&own, 1.0) + 0.01 * row as f64
    });
    let (concept, sets) = ([0, 1, 2], vec![vec![3, 4, 5], vec![6, 7, 8]]);
    let run =
        |shows: &[&[Option<bool>]], place| find("conditional_effect", &cross, (&concept, &sets), (shows, place), 1);
    let found = run(&[&own, &other, &excluded], 0).unwrap();
    // With the other: 0, 1 against 3; without: 2 against 4, 5, 6, as 8 shows the concept and it is not
    // known what 7 shows. Weights 2/3 and 3/4.
    let with = 1.0 + 0.01 * (0.5 - 3.0);
    let without = 1.0 + 0.01 * (2.0 - 5.0);
    let expected = (2.0 / 3.0 * with + 0.75 * without) / (2.0 / 3.0 + 0.75);
    assert!((found.value - expected).abs() < 1e-9, "{} {expected}", found.value);
    assert!(found.standardised.unwrap() > 10.0);
    // The plain effect takes in that two of three, but one of six, show the other.
    assert!(concept_effect(&cross, &concept, &sets).unwrap().effect > 4.0);
    assert_eq!(run(&[&own, &excluded], 0), None, "nothing that goes with it");
    assert_eq!(run(&[&[], &other], 0), None, "it is not known which images show it");
    assert_eq!(run(&[], 0), None);
}

/// Prints a share with its exact 99 % interval.
fn show(what: &str, count: usize, draws: usize) -> ticketlens::stats::Interval {
    let interval = exact_interval(count, draws, 0.99);
    let share = |value: f64| 100.0 * value;
    let rate = share(count as f64 / draws as f64);
    println!(
        "  {what:<46} {count:>4} of {draws:>4}  {rate:5.1} %  [{:.1}, {:.1}]",
        share(interval.low),
        share(interval.high)
    );
    interval
}

fn rejected(key: &str, bench: &Bench, name: &str, draws: usize, shows: &dyn Fn(usize) -> bool) -> usize {
    (0..draws as u64)
        .filter(|&index| {
            let sets = bench.draw(name, index, SET, shows);
            find(key, &bench.cross[0], (&sets.concepts[0], &sets.random), (&[], 0), index).unwrap().p_value <= ALPHA
        })
        .count()
}

#[test]
fn the_smooth_score_holds_its_level_and_finds_more_than_counts_of_signs() {
    for (name, bench) in [("digits", digits()), ("planted", shape_bench())] {
        println!("{name}: dense accuracy {:.1} %; random images as concept, 19 random sets", 100.0 * bench.accuracy);
        for key in ["pool_score", "smooth_score"] {
            let null = rejected(key, bench, &format!("null/{name}"), 2000, &|_| true);
            let interval = show(key, null, 2000);
            // Sets whose score ties with the concept's count against it, so counts of signs may reject less often.
            assert!(
                interval.low <= ALPHA && (key == "pool_score" || interval.high >= ALPHA),
                "{name} {key}: {interval:?}"
            );
        }
    }
    println!("digits, logit `even`, sets of {SET}: found at 5 %");
    let mut found = [0, 0];
    for digit in 0..10u32 {
        let shows = |image: usize| digits().setup.data.fine().values()[image] == digit;
        for (count, key) in found.iter_mut().zip(["pool_score", "smooth_score"]) {
            let here = rejected(key, digits(), &format!("digit/{digit}"), 60, &shows);
            show(&format!("{digit}, {key}"), here, 60);
            *count += here;
        }
    }
    show("all digits, pool_score", found[0], 600);
    let smooth = show("all digits, smooth_score", found[1], 600);
    // The score over single random sets finds 29 of 80.
    assert!(smooth.low > 29.0 / 80.0, "{smooth:?}");
    for (used, bench) in [(Factor::Shape, shape_bench()), (Factor::Texture, texture_bench())] {
        println!("planted, class by {used:?}, sets of {SET}: found at 5 %");
        let truth = truth(bench, used);
        for (place, concept) in bench.setup.concepts[0].sets.concepts.iter().enumerate() {
            let shows = |image: usize| usize::from(truth.factors[image][place / 2]) == place % 2;
            for key in ["pool_score", "smooth_score"] {
                let here = rejected(key, bench, &format!("{used:?}/{}", concept.name), 60, &shows);
                let interval = show(
                    &format!("{}{}, {key}", concept.name, if truth.used[place] { " (used)" } else { "" }),
                    here,
                    60,
                );
                assert!(!truth.used[place] || key == "pool_score" || interval.low > 0.5, "{}: {here}", concept.name);
            }
        }
    }
}

/// A factor that goes with the used one (texture) and that nothing in the image shows, so that the
/// network cannot use it: drawn for each image, equal to the texture so often that the correlation
/// of the two is `correlation`.
#[test]
fn the_conditional_effect_holds_its_level_where_factors_go_together() {
    const DRAWS: u64 = 1000;
    const IMAGES: usize = 60;
    let bench = texture_bench();
    let truth = truth(bench, Factor::Texture);
    let rows = bench.pool.len();
    let mut known: Vec<Vec<Option<bool>>> = (0..8)
        .map(|place| {
            let of = |&image: &usize| Some(usize::from(truth.factors[image][place / 2]) == place % 2);
            bench.pool.iter().map(of).collect()
        })
        .collect();
    known.push(Vec::new());
    let (stripes, unseen) = (4, 8);
    // How often the plain and the conditional effect reject, and the latter's mean size, for the concept at `place`.
    let mut rejections = |place: usize, correlation: f64, draws_in_all: u64| {
        let (mut plain, mut conditional, mut size) = (0, 0, 0.0);
        for index in 0..draws_in_all {
            let mut draws = stream(17, "test/correlated", index);
            known[unseen] = (0..rows)
                .map(|row| known[stripes][row].map(|shown| shown == draws.random_bool((1.0 + correlation) / 2.0)))
                .collect();
            let shows: Vec<&[Option<bool>]> = known.iter().map(Vec::as_slice).collect();
            let candidates: Vec<usize> = (0..rows).filter(|&row| shows[place][row] == Some(true)).collect();
            let concept: Vec<usize> = candidates.choose_multiple(&mut draws, IMAGES).copied().collect();
            let mut rest: Vec<usize> = (0..rows).filter(|row| !concept.contains(row)).collect();
            rest.shuffle(&mut draws);
            let sets: Vec<Vec<usize>> = rest.chunks_exact(IMAGES).take(19).map(<[usize]>::to_vec).collect();
            let cross = &bench.cross[0];
            plain += usize::from(effect_p(&concept_effect(cross, &concept, &sets).unwrap(), index) <= ALPHA);
            let found = find("conditional_effect", cross, (&concept, &sets), (&shows, place), index).unwrap();
            conditional += usize::from(found.p_value <= ALPHA);
            size += found.standardised.unwrap() / draws_in_all as f64;
        }
        println!("conditional d {size:.2}");
        let all = draws_in_all as usize;
        (show("effect", plain, all), show("conditional effect", conditional, all))
    };
    println!("planted, class by texture, logit of its first value; found at 5 %");
    for correlation in [0.0, 0.5, 0.8] {
        print!("correlation {correlation}, what no image shows: ");
        let (plain, conditional) = rejections(unseen, correlation, DRAWS);
        assert!(conditional.contains(ALPHA), "{conditional:?}");
        assert!(correlation == 0.0 || plain.low > 0.5, "the plain effect was expected to be misled: {plain:?}");
        print!("correlation {correlation}, the texture given it: ");
        assert!(rejections(stripes, correlation, DRAWS / 5).1.low > 0.9);
    }
    // Within strata of the texture, which makes most of the spread, the network is seen to lean on
    // what the class does not depend on.
    for (place, name) in [(0, "shape"), (2, "colour"), (6, "position")] {
        print!("{name}, which the class does not depend on: ");
        rejections(place, 0.0, DRAWS / 5);
    }
}

/// What the pipeline says of the region of `concept` beside the pooled images of two random sets.
fn region(
    gram: &DMatrix<f64>,
    (concept, random): (&[usize], [Vec<usize>; 2]),
    class: &ClassActivations,
    permutations: usize,
    seed: u64,
) -> Option<Finding> {
    let tests = Tests {
        cav: CavKind::MeanDifference,
        design: Design::all_pairs(3).unwrap(),
        permutations: 19,
        resamples: 0,
        confidence: 0.9,
        interval_in_logits: false,
        alpha: ALPHA,
        seed,
        regions: Some(permutations),
    };
    let concepts = [ConceptImages { name: "c".into(), images: concept.to_vec(), random: 0..2, shows: Vec::new() }];
    let samples = Samples { stage: "layer3", concepts: &concepts, random: &random, originals: None };
    let cavs = ConceptCavs::fit(gram, samples, &tests).unwrap();
    let cross = DMatrix::from_element(1, gram.nrows(), 1.0);
    cavs.test_with_regions(0, &cross, Some(class)).unwrap().concepts[0].statistics.get("region").copied()
}

fn flat_gram(rows: &DMatrix<f64>) -> DMatrix<f64> {
    rows * rows.transpose()
}

/// A concept on both sides of what is not it: no direction tells it, a region does.
#[test]
fn a_region_holds_what_no_direction_does() {
    let mut draws = stream(8, "test/region", 0);
    let mut rows = normal(&mut draws, (60, 5)) * 0.4;
    // Rows 0 to 19 at −4 and 4 along the first feature, the others about 0.
    (0..20).for_each(|row| rows[(row, 0)] += if row % 2 == 0 { 4.0 } else { -4.0 });
    let class_rows = DMatrix::from_fn(6, 5, |image, k| match (image, k) {
        (0..=1, 0) => 4.0,
        (2, 0) => -4.0,
        _ => 0.05 * image as f64,
    });
    let gram = flat_gram(&rows);
    let class = |rows: &DMatrix<f64>, class_rows: &DMatrix<f64>| ClassActivations {
        products: Products::Whole(class_rows * rows.transpose()),
        squares: class_rows.row_iter().map(|row| row.norm_squared()).collect(),
    };
    let concept: Vec<usize> = (0..20).collect();
    let random = [(20..40).collect::<Vec<usize>>(), (40..60).collect()];
    let found = region(&gram, (&concept, random.clone()), &class(&rows, &class_rows), 99, 3).unwrap();
    assert_eq!((found.value, found.p_value), (0.5, 0.01), "three of six images lie in it");
    let linear = fit(&gram, &concept, &random[0], CavKind::Logistic { c: 1.0 }).unwrap();
    assert!(linear.train_accuracy < 0.8, "a direction: {}", linear.train_accuracy);
    // A rotation and a shift of all activations change no distance.
    let turn = nalgebra::linalg::QR::new(normal(&mut draws, (5, 5))).q();
    let shift = |rows: &DMatrix<f64>| (rows * &turn).add_scalar(0.7);
    let (turned, turned_class) = (shift(&rows), shift(&class_rows));
    let again = region(&flat_gram(&turned), (&concept, random.clone()), &class(&turned, &turned_class), 99, 3).unwrap();
    assert_eq!((again.value, again.p_value), (found.value, found.p_value));
    // Images that are all alike have no region, and nothing is said.
    let alike = DMatrix::from_element(60, 60, 2.0);
    assert_eq!(region(&alike, (&concept, random), &class(&rows, &class_rows), 9, 3), None);
}

#[test]
fn the_test_of_a_region_holds_its_level_and_finds_what_has_one() {
    let rejected = |bench: &Bench, name: &str, draws: u64, shows: &dyn Fn(usize) -> bool| {
        let class =
            ClassActivations { products: Products::Whole(DMatrix::zeros(1, bench.pool.len())), squares: vec![1.0] };
        (0..draws)
            .filter(|&index| {
                let sets = bench.draw(name, index, SET, shows);
                let random = [sets.random[0].clone(), sets.random[1].clone()];
                region(&bench.gram, (&sets.concepts[0], random), &class, 39, index).unwrap().p_value <= ALPHA
            })
            .count()
    };
    println!("regions, sets of {SET}, 39 permutations; found at 5 %");
    for (name, bench) in [("digits", digits()), ("planted", shape_bench())] {
        let random = rejected(bench, &format!("null/{name}"), 400, &|_| true);
        let null = show(&format!("{name}, random images as concept"), random, 400);
        assert!(null.low <= ALPHA, "{null:?}");
    }
    let found: usize = (0..10u32)
        .map(|digit| {
            let shows = |image: usize| digits().setup.data.fine().values()[image] == digit;
            rejected(digits(), &format!("digit/{digit}"), 8, &shows)
        })
        .sum();
    let found = show("all digits", found, 80);
    assert!(found.low > 0.8, "{found:?}");
    // A region says where images lie, not what the class depends on: a factor that the class does
    // not use may have one, but the network parts its images less.
    let (mut used, mut unused) = (0, 0);
    let truth = truth(shape_bench(), Factor::Shape);
    for (place, concept) in shape_bench().setup.concepts[0].sets.concepts.iter().enumerate() {
        let shows = |image: usize| usize::from(truth.factors[image][place / 2]) == place % 2;
        let found = rejected(shape_bench(), &format!("Shape/{}", concept.name), 12, &shows);
        show(&format!("planted, {}{}", concept.name, if truth.used[place] { " (used)" } else { "" }), found, 12);
        *(if truth.used[place] { &mut used } else { &mut unused }) += found;
    }
    let used = show("planted, used", used, 24);
    let unused = show("planted, unused", unused, 72);
    assert!(used.low > unused.high, "{used:?}, {unused:?}");
}
