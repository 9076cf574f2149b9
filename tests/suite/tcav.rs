//! TCAV over all pairs of sets: against the definition in feature space, invariances, ties and degenerate networks.
use nalgebra::DMatrix;
use rand::Rng;
use ticketlens::explain::tcav::cav::{CavError, CavKind, CavState, fit};
use ticketlens::explain::tcav::gram::{Rows, cross, gram};
use ticketlens::explain::tcav::products::{ClassRows, Products, View};
use ticketlens::explain::tcav::region::ClassActivations;
use ticketlens::explain::tcav::{
    ClassScores, ConceptCavs, ConceptImages, PairScore, STATISTICS, Samples, Sets, Tests, concept_effect, design,
    fit_pairs, score, score_class, sensitivities,
};

const LOGISTIC: CavKind = CavKind::Logistic { c: 1.0 };
const FEATURES: usize = 24;
const SIZE: usize = 10;
const CLASS_IMAGES: usize = 16;

/// Two concepts (one planted in the even features, one meaningless) and four random sets, with
/// class gradients that favour feature 0.
struct World {
    activations: Vec<f32>,
    gradients: Vec<f32>,
    sets: Sets,
}

fn world() -> World {
    let mut stream = ticketlens::seed::stream(11, "tcav test", 0);
    let activations = (0..6 * SIZE * FEATURES)
        .map(|flat| {
            let (image, feature) = (flat / FEATURES, flat % FEATURES);
            let planted = image < SIZE && feature % 2 == 0;
            stream.random_range(0.0..2.0f32) + if planted { 1.0 } else { 0.0 }
        })
        .collect();
    let gradients = (0..CLASS_IMAGES * FEATURES)
        .map(|flat| stream.random_range(-1.0..1.0f32) + if flat % FEATURES == 0 { 1.5 } else { 0.0 })
        .collect();
    let set = |i: usize| (i * SIZE..(i + 1) * SIZE).collect();
    World {
        activations,
        gradients,
        sets: Sets { concepts: (0..2).map(set).collect(), random: (2..6).map(set).collect() },
    }
}

fn all_pairs(members: usize) -> Vec<(usize, usize)> {
    (0..members).flat_map(|a| (a + 1..members).map(move |b| (a, b))).collect()
}

impl World {
    fn gram(&self) -> DMatrix<f64> {
        gram(Rows::new(&self.activations, FEATURES).unwrap()).unwrap()
    }

    fn cross(&self) -> DMatrix<f64> {
        let rows = |values| Rows::new(values, FEATURES).unwrap();
        cross(rows(&self.gradients), rows(&self.activations)).unwrap()
    }

    fn scores(&self, design: &[(usize, usize)], kind: CavKind) -> ClassScores {
        let cavs = fit_pairs(&self.gram(), self.sets.clone(), design, kind, 5).unwrap();
        score_class(&cavs, &self.cross()).unwrap()
    }
}

#[test]
fn runs_follow_the_definition_in_feature_space() {
    let world = world();
    let k = world.gram();
    for kind in [LOGISTIC, CavKind::MeanDifference] {
        let scores = world.scores(&all_pairs(5), kind);
        for (concept, found) in scores.concepts.iter().enumerate() {
            assert_eq!(found.runs.len(), 4);
            for (index, run) in found.runs.iter().enumerate() {
                assert_eq!((run.random, run.state), (index, CavState::Solved));
                let cav = fit(&k, &world.sets.concepts[concept], &world.sets.random[index], kind).unwrap();
                let mut w = vec![0.0; FEATURES];
                for (&image, alpha) in cav.samples.iter().zip(&cav.alpha) {
                    for (w, a) in w.iter_mut().zip(&world.activations[image * FEATURES..]) {
                        *w += alpha * f64::from(*a);
                    }
                }
                let norm = w.iter().map(|w| w * w).sum::<f64>().sqrt();
                let mut positive = 0;
                for (gradient, found) in world.gradients.chunks_exact(FEATURES).zip(&run.sensitivity) {
                    let exact = gradient.iter().zip(&w).map(|(g, w)| f64::from(*g) * w).sum::<f64>() / norm;
                    assert!((exact - found).abs() < 1e-10);
                    positive += usize::from(exact > 0.0);
                }
                assert_eq!(run.score, positive as f64 / CLASS_IMAGES as f64);
                assert_eq!(run.ties, 0.0);
                assert_eq!((run.intercept, run.weight_norm), (cav.intercept, cav.weight_norm));
            }
        }
    }
}

#[test]
fn family_and_baseline_are_the_pairs_asked_for_and_swaps_are_exact() {
    let world = world();
    let design = all_pairs(5);
    let scores = world.scores(&design, LOGISTIC);
    let backwards: Vec<_> = design.iter().map(|&(a, b)| (b, a)).collect();
    let swapped = world.scores(&backwards, LOGISTIC);
    for (concept, other) in scores.concepts.iter().zip(&swapped.concepts) {
        assert_eq!(concept.runs, other.runs);
        for (pair, back) in concept.family.iter().zip(&other.family) {
            // Sixteenths: exact.
            assert_eq!(back.score, 1.0 - pair.score - pair.ties);
        }
        for run in &concept.runs {
            let pair = concept.family[design.iter().position(|&pair| pair == (0, run.random + 1)).unwrap()];
            assert_eq!((pair.score, pair.ties), (run.score, run.ties));
        }
    }
    let family = &scores.concepts[0].family;
    assert_eq!(scores.random_baseline.len(), 4);
    for (i, baseline) in scores.random_baseline.iter().enumerate() {
        let members = (i.min((i + 1) % 4) + 1, i.max((i + 1) % 4) + 1);
        let pair = family[design.iter().position(|&pair| pair == members).unwrap()];
        let expected = if i < 3 { pair.score } else { 1.0 - pair.score - pair.ties };
        assert_eq!(baseline.score, expected);
    }
}

#[test]
fn a_sparse_design_fits_its_pairs_and_the_baseline_only() {
    let world = world();
    let cavs = fit_pairs(&world.gram(), world.sets.clone(), &[(0, 2), (3, 1), (0, 4)], LOGISTIC, 5).unwrap();
    // Two per concept, four of the baseline, and random sets 2 and 0.
    assert_eq!(cavs.count(), 2 * 2 + 4 + 1);
    let random: Vec<usize> = cavs.of_concept(1).map(|(random, _)| random).collect();
    assert_eq!(random, [1, 3]);
    let scores = score_class(&cavs, &world.cross()).unwrap();
    let full = world.scores(&all_pairs(5), LOGISTIC);
    assert_eq!(scores.concepts[1].runs[0], full.concepts[1].runs[1]);
    assert_eq!(scores.concepts[1].runs[1], full.concepts[1].runs[3]);
    assert_eq!(scores.random_baseline, full.random_baseline);
    let expected = [(0, 2), (1, 3), (0, 4)].map(|pair| all_pairs(5).iter().position(|&other| other == pair).unwrap());
    let [first, swapped, last] = expected.map(|pair| full.concepts[0].family[pair]);
    let turned = PairScore { score: 1.0 - swapped.score - swapped.ties, ..swapped };
    assert_eq!(scores.concepts[0].family, [first, turned, last]);
}

#[test]
fn scaling_the_gradients_scales_sensitivities_and_effects_and_keeps_scores() {
    let mut world = world();
    let before = world.scores(&all_pairs(5), LOGISTIC);
    world.gradients.iter_mut().for_each(|g| *g *= 4.0);
    let after = world.scores(&all_pairs(5), LOGISTIC);
    for (a, b) in before.concepts.iter().zip(&after.concepts) {
        assert_eq!(a.family, b.family);
        for (s, t) in a.runs[0].sensitivity.iter().zip(&b.runs[0].sensitivity) {
            assert_eq!(4.0 * s, *t);
        }
        assert_eq!(4.0 * a.effect.effect, b.effect.effect);
        assert_eq!(a.effect.effect_standardised, b.effect.effect_standardised);
    }
}

#[test]
fn the_thread_count_and_the_order_of_the_random_sets_do_not_matter() {
    let world = world();
    let run = |threads, sets: &Sets| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let cavs = fit_pairs(&world.gram(), sets.clone(), &all_pairs(5), LOGISTIC, 5).unwrap();
            score_class(&cavs, &world.cross()).unwrap()
        })
    };
    let one = run(1, &world.sets);
    assert_eq!(one, run(3, &world.sets));
    let mut reversed = world.sets.clone();
    reversed.random.reverse();
    for (a, b) in one.concepts.iter().zip(&run(2, &reversed).concepts) {
        assert_eq!(a.effect, b.effect);
        for (run, other) in a.runs.iter().zip(b.runs.iter().rev()) {
            assert_eq!(run.sensitivity, other.sensitivity);
            assert_eq!(run.heldout_accuracy, other.heldout_accuracy);
        }
    }
}

#[test]
fn the_effect_is_the_difference_of_pooled_means() {
    // One class image with gradient 1 in one feature: the projections are the activations.
    let activations = [4.0, 6.0, 1.0, 2.0, 3.0, 6.0];
    let p = DMatrix::from_row_slice(1, 6, &activations);
    let effect = concept_effect(&p, &[0, 1], &[vec![2, 3], vec![3, 4]]).unwrap();
    assert_eq!(effect.concept, [4.0, 6.0]);
    assert_eq!(effect.random, [1.0, 2.0, 3.0], "image 3 once");
    assert_eq!(effect.effect, 3.0);
    // Sums of squares 2 and 2 over 2 + 3 - 2 degrees of freedom.
    assert!((effect.effect_standardised.unwrap() - 3.0 / (4.0f64 / 3.0).sqrt()).abs() < 1e-15);
    // A concept's own image is no counterpart of the concept.
    assert_eq!(concept_effect(&p, &[0, 1], &[vec![1, 2]]).unwrap().random, [1.0]);
    assert_eq!(concept_effect(&p, &[0, 1], &[vec![0], vec![1]]), Err(CavError::NoRandomImage(0)));
    // No variation, and none that could be seen: undefined, not infinite.
    let flat = DMatrix::from_element(3, 6, 0.1);
    let effect = concept_effect(&flat, &[0, 1], &[vec![2, 3]]).unwrap();
    assert_eq!((effect.effect, effect.effect_standardised), (0.0, None));
    assert_eq!(concept_effect(&p, &[0], &[vec![1]]).unwrap().effect_standardised, None);
}

#[test]
fn the_effect_points_where_the_gradient_does() {
    let world = world();
    let planted = &world.scores(&all_pairs(5), LOGISTIC).concepts[0];
    assert!(planted.effect.effect_standardised.unwrap() > 1.0);
    assert!(planted.runs.iter().all(|run| run.score > 0.5));
}

#[test]
fn a_concept_in_channels_without_gradient_scores_ties_not_noise() {
    let mut world = world();
    // The concept differs in the even features only, and the class looks at the odd ones, where all images are equal.
    for row in world.activations.chunks_exact_mut(FEATURES) {
        for (j, value) in row.iter_mut().enumerate() {
            if j % 2 == 1 {
                *value = 1.0 / 3.0;
            }
        }
    }
    for row in world.gradients.chunks_exact_mut(FEATURES) {
        for value in row.iter_mut().step_by(2) {
            *value = 0.0;
        }
    }
    for kind in [LOGISTIC, CavKind::MeanDifference] {
        let scores = world.scores(&all_pairs(5), kind);
        for concept in &scores.concepts {
            for run in &concept.runs {
                assert_eq!((run.score, run.ties, run.state), (0.0, 1.0, CavState::Solved));
            }
            assert!(concept.family.iter().all(|p| (p.score, p.ties) == (0.0, 1.0)));
            assert_eq!(concept.effect.effect_standardised, None);
        }
    }
}

#[test]
fn a_dead_network_gives_named_states_and_finite_numbers() {
    let mut world = world();
    world.activations.fill(0.25);
    let k = world.gram();
    let cavs = fit_pairs(&k, world.sets.clone(), &all_pairs(5), LOGISTIC, 5).unwrap();
    assert!(!cavs.decodable(0, 0.05) && !cavs.decodable(1, 0.05));
    let scores = score_class(&cavs, &world.cross()).unwrap();
    let json = serde_json::to_string(&scores).unwrap();
    let concept = &scores.concepts[0];
    assert!(concept.runs.iter().all(|run| run.state == CavState::Degenerate && run.ties == 1.0));
    assert_eq!(concept.effect.effect_standardised, None);
    // serde_json writes NaN as null: the one null is the standardised effect of each concept.
    assert_eq!(json.matches("null").count(), 2, "{json}");
}

#[test]
fn zeros_do_not_count() {
    let found = score(&[0.0, -0.0, 2.0, -1.0]);
    assert_eq!((found.score, found.ties), (0.25, 0.5));
    let k = DMatrix::identity(2, 2);
    let cav = fit(&k, &[0], &[1], CavKind::MeanDifference).unwrap();
    let p = DMatrix::from_row_slice(3, 2, &[1.0, 0.0, 0.3, 0.3, 0.0, 0.0]);
    assert_eq!(sensitivities(&p, &cav), [1.0 / 2f64.sqrt(), 0.0, 0.0]);
}

/// Twice the upper median of the runs' p-values, at most 1.
#[test]
fn decodability_is_twice_the_median_p_value() {
    let world = world();
    for partners in [4, 3] {
        let design: Vec<(usize, usize)> = (1..=partners).map(|random| (0, random)).collect();
        let cavs = fit_pairs(&world.gram(), world.sets.clone(), &design, LOGISTIC, 5).unwrap();
        let scores = score_class(&cavs, &world.cross()).unwrap();
        let mut below_one = 0;
        for (concept, found) in scores.concepts.iter().enumerate() {
            let mut p_values: Vec<f64> = found.runs.iter().map(|run| run.heldout_p_value).collect();
            p_values.sort_by(f64::total_cmp);
            assert_eq!(p_values.len(), partners);
            let expected = (2.0 * p_values[partners / 2]).min(1.0);
            assert_eq!(cavs.decodability_p_value(concept), expected);
            below_one += usize::from(expected < 1.0);
        }
        assert!(below_one > 0, "the bound at 1 hides the factor");
    }
}

#[test]
fn decodability_separates_a_planted_concept_from_a_meaningless_one() {
    let world = world();
    let cavs = fit_pairs(&world.gram(), world.sets.clone(), &all_pairs(5), LOGISTIC, 5).unwrap();
    assert!(cavs.decodable(0, 0.05), "{}", cavs.decodability_p_value(0));
    assert!(!cavs.decodable(1, 0.05), "{}", cavs.decodability_p_value(1));
}

#[test]
fn a_meaningless_concept_is_rarely_decodable() {
    // 60 draws at 5 %: the exact binomial 99 % interval of the count ends at 8.
    let features = 60;
    let decodable = (0..60)
        .filter(|&seed| {
            let mut stream = ticketlens::seed::stream(seed, "null concepts", 0);
            // A few strong common directions, as in activations.
            let values: Vec<f32> = (0..60 * features)
                .map(|flat| {
                    let strength = if flat % features < 3 { 5.0 } else { 1.0 };
                    strength * stream.random_range(-1.0..1.0f32)
                })
                .collect();
            let set = |i: usize| (i * 12..(i + 1) * 12).collect();
            let sets = Sets { concepts: vec![set(0)], random: (1..5).map(set).collect() };
            let k = gram(Rows::new(&values, features).unwrap()).unwrap();
            let design = [(0, 1), (0, 2), (0, 3), (0, 4)];
            fit_pairs(&k, sets, &design, LOGISTIC, seed).unwrap().decodable(0, 0.05)
        })
        .count();
    assert!(decodable <= 8, "{decodable} of 60");
}

#[test]
fn wrong_requests_are_named() {
    let world = world();
    let (k, p) = (world.gram(), world.cross());
    let attempt =
        |sets: Sets, design: &[(usize, usize)]| fit_pairs(&k, sets, design, LOGISTIC, 5).unwrap_err().to_string();
    let sets = || world.sets.clone();
    assert_eq!(attempt(Sets { random: vec![vec![20, 21]], ..sets() }, &[]), "random sets: 1, at least 2 needed");
    assert_eq!(attempt(Sets { concepts: vec![vec![0]], ..sets() }, &[]), "concept 0: 1 images, at least 2 needed");
    assert_eq!(
        attempt(Sets { random: vec![vec![20, 21], vec![22, 60]], ..sets() }, &[]),
        "random set 1: image 60 of 60 does not exist"
    );
    assert_eq!(attempt(sets(), &[(0, 5)]), "design: pair (0, 5) is not of two different members below 5");
    assert_eq!(attempt(sets(), &[(2, 2)]), "design: pair (2, 2) is not of two different members below 5");
    let cavs = fit_pairs(&k, sets(), &all_pairs(5), LOGISTIC, 5).unwrap();
    let narrow = p.columns(0, 59).into_owned();
    assert_eq!(
        score_class(&cavs, &narrow).unwrap_err().to_string(),
        "class gradients: products of 16 x 59, expected at least 1 x 60"
    );
    assert!(score_class(&cavs, &DMatrix::zeros(0, 60)).is_err());
}

fn tests_of(sets: usize, interval_in_logits: bool) -> Tests {
    Tests {
        cav: LOGISTIC,
        design: design(sets, None, 5).unwrap(),
        permutations: 199,
        resamples: 99,
        confidence: 0.95,
        interval_in_logits,
        alpha: 0.05,
        seed: 5,
        regions: None,
    }
}

/// Concepts with random sets of their own, tested together, say what each says alone; the same name draws the same.
#[test]
fn concepts_do_not_depend_on_what_is_tested_beside_them() {
    let world = world();
    let (gram, cross) = (world.gram(), world.cross());
    let concept = |name: &str, index: usize, random| ConceptImages {
        name: name.into(),
        images: world.sets.concepts[index].clone(),
        random,
        shows: Vec::new(),
    };
    // The first concept's random sets are neither the first nor the last.
    let all = [concept("null", 1, 1..3), concept("planted", 0, 0..2), concept("again", 1, 2..4)];
    let tests = tests_of(2, true);
    let of = |concepts: &[ConceptImages], random: &[Vec<usize>], tests: &Tests| {
        let samples = Samples { stage: "layer3", concepts, random, originals: None };
        let cavs = ConceptCavs::fit(&gram, samples, tests).unwrap();
        (cavs.test(1, &cross).unwrap(), cavs.means(), cavs.count())
    };
    let random = &world.sets.random;
    let (together, means, count) = of(&all, random, &tests);
    // Two with random sets, and the one between those, for each.
    assert_eq!(count, 9);
    for (place, one) in all.iter().enumerate() {
        let own = ConceptImages { random: 0..2, ..one.clone() };
        let (alone, mean, _) = of(&[own], &random[one.random.clone()], &tests);
        let (a, b) = (&together.concepts[place], &alone.concepts[0]);
        assert_eq!(
            (&a.statistics, &a.runs, &a.family_scores),
            (&b.statistics, &b.runs, &b.family_scores),
            "{}",
            one.name
        );
        assert_eq!((a.legacy_welch_p, a.decodable_p_value), (b.legacy_welch_p, b.decodable_p_value));
        assert_eq!(means[place], mean[0]);
        // The baseline is that of the first concept's sets.
        assert_eq!(together.random_baseline == alone.random_baseline, place == 0);
    }
    // What the parts say.
    let planted = &together.concepts[1];
    let expected = concept_effect(&cross, &all[1].images, &random[0..2]).unwrap();
    assert_eq!(
        (planted.effect().value, planted.effect().standardised),
        (expected.effect, expected.effect_standardised)
    );
    let mean = planted.runs.iter().map(|run| run.score).sum::<f64>() / 2.0;
    assert!((planted.score().value - mean).abs() < 1e-15 && planted.score().interval.is_some());
    // One interval for each unit; that in logits only where it is asked for.
    let (logits, standard) = (planted.effect().interval.unwrap(), planted.effect().standardised_interval.unwrap());
    assert!(logits.contains(expected.effect) && standard.contains(expected.effect_standardised.unwrap()));
    assert_ne!(logits, standard);
    let without = of(&all, random, &tests_of(2, false)).0;
    assert_eq!(without.concepts[1].effect().interval, None);
    assert_eq!(without.concepts[1].effect().standardised_interval, Some(standard));
}

/// What does not fit into memory lies in a file: no number depends on it.
#[test]
fn products_in_a_file_give_the_same_numbers() {
    let world = world();
    let more = World { gradients: world.gradients.repeat(40), ..world };
    let (gram, cross) = (more.gram(), more.cross());
    assert!(cross.nrows() > 512, "class images come in blocks");
    let stored = |table: &DMatrix<f64>| {
        let mut stored = Products::zeros(table.nrows(), table.ncols(), 0).unwrap();
        stored.put(0, 0, table).unwrap();
        assert!(matches!(stored, Products::Kept(_)));
        stored
    };
    let concept = |name: &str, images: &Vec<usize>| ConceptImages {
        name: name.into(),
        images: images.clone(),
        random: 0..4,
        shows: Vec::new(),
    };
    let concepts = [concept("planted", &more.sets.concepts[0]), concept("null", &more.sets.concepts[1])];
    // The second image of a concept is a copy of its first.
    let originals: Vec<usize> = (0..gram.nrows()).map(|row| if row == 1 { 0 } else { row }).collect();
    let random = &more.sets.random;
    let samples = Samples { stage: "layer3", concepts: &concepts, random, originals: Some(&originals) };
    let tests = Tests { regions: Some(19), ..tests_of(4, true) };
    let squares = vec![1.0; cross.nrows()];
    let of = |gram: View<'_>, rows: ClassRows<'_>, products: Products| {
        let cavs = ConceptCavs::fit(gram, samples, &tests).unwrap();
        let activations = ClassActivations { products, squares: squares.clone() };
        format!("{:?} {:?}", cavs.test_with_regions(1, rows, Some(&activations)).unwrap(), cavs.means())
    };
    let expected = of((&gram).into(), (&cross).into(), Products::Whole(cross.clone()));
    let (kept_gram, kept_cross) = (stored(&gram), stored(&cross));
    assert_eq!(of((&kept_gram).into(), (&kept_cross).into(), stored(&cross)), expected);
    // Some of the class images, among others.
    let some: Vec<usize> = (0..cross.nrows()).filter(|row| row % 3 > 0).collect();
    let alone = cross.select_rows(&some);
    let expected = of((&gram).into(), (&alone).into(), Products::Whole(cross.clone()));
    let rows = ClassRows::some(&kept_cross, &some);
    assert_eq!(of((&kept_gram).into(), rows, Products::Whole(cross.clone())), expected);
}

#[test]
fn concepts_with_another_number_of_random_sets_than_the_design_are_refused() {
    let world = world();
    let gram = world.gram();
    for random in [0..3, 3..5, 0..0] {
        let images = world.sets.concepts[0].clone();
        let concepts = [ConceptImages { name: "planted".into(), images, random, shows: Vec::new() }];
        let samples = Samples { stage: "layer3", concepts: &concepts, random: &world.sets.random, originals: None };
        let error = ConceptCavs::fit(&gram, samples, &tests_of(2, true)).err().unwrap().to_string();
        assert!(error.contains("planted"), "{error}");
    }
}

#[test]
fn statistics_have_keys_of_their_own() {
    let keys: std::collections::BTreeSet<&str> = STATISTICS.iter().map(|statistic| statistic.key).collect();
    assert_eq!(keys.len(), STATISTICS.len());
    assert!(STATISTICS.iter().all(|statistic| !statistic.title.is_empty() && !statistic.definition.is_empty()));
}
