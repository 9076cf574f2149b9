//! Levels and power of the concept tests on activations of trained networks: real digits, and
//! planted images whose truth is known. The tables that these tests print stand in
//! `docs/statistics.md`.

use std::sync::{Arc, OnceLock};

use nalgebra::DMatrix;
use rand::seq::{IndexedRandom, SliceRandom};
use ticketlens::data::{Factor, Images, Origin, Planted, PlantedPlan, Subset, planted};
use ticketlens::explain::tcav::cav::CavKind;
use ticketlens::explain::tcav::gram::{Rows, cross, gram};
use ticketlens::explain::tcav::held_out::held_out;
use ticketlens::explain::tcav::{Effect, PairCavs, Sets, concept_effect, fit_pairs, score_class};
use ticketlens::explain::{Cut, Targets, grad_cam, upsample_map};
use ticketlens::model::Stage;
use ticketlens::nn::Weights;
use ticketlens::plan::Plan;
use ticketlens::progress::Silent;
use ticketlens::prune::Mask;
use ticketlens::run::Setup;
use ticketlens::seed::stream;
use ticketlens::stats::exchangeability::{Design, exchangeability_test};
use ticketlens::stats::localisation::{PixelBox, pointing_game};
use ticketlens::stats::permutation::label_permutation;
use ticketlens::stats::t_tests::welch_t;
use ticketlens::train::{Training, evaluate};

use crate::support::exact_interval;

/// Images in a set where CAVs are fitted, whose cost grows with the cube of it.
pub(crate) const SET: usize = 20;
/// Images in a set for the effect alone: at 25 the network's weakest concept, the digit 1, is found in 86 draws of 100.
const EFFECT_SET: usize = 60;
const RANDOM_SETS: usize = 19;
/// Sets that each set meets.
const PARTNERS: usize = 10;
const ALPHA: f64 = 0.05;

/// A trained dense network with what concept tests need of a pool of images that it was not trained on.
pub(crate) struct Bench {
    pub(crate) setup: Setup,
    pub(crate) accuracy: f64,
    /// Data set indices of the pool, in the order of the Gram matrix.
    pub(crate) pool: Vec<usize>,
    pub(crate) gram: DMatrix<f64>,
    /// Products of the gradients of each class's logit with the pool's activations.
    pub(crate) cross: Vec<DMatrix<f64>>,
    design: Design,
}

impl Bench {
    fn new(overrides: &[(&str, &str)]) -> Self {
        let (setup, weights) = trained(0, overrides);
        let test = Subset::new(&setup.data, &setup.splits.test);
        let right = evaluate(&setup.model, &weights, &test, 128).unwrap();
        let accuracy = right.iter().filter(|&&right| right).count() as f64 / right.len() as f64;
        let cut = Cut::new(&setup.model, weights, Stage::new("layer3")).unwrap();
        let flat = |indices: &[usize], class: Option<usize>| -> Vec<f32> {
            let mut values = Vec::new();
            for batch in indices.chunks(100) {
                let activation = cut.activation(&setup.data.tensor(batch).unwrap()).unwrap();
                let of = match class {
                    None => activation,
                    Some(class) => cut.gradient(&activation, Targets::Class(class)).unwrap().gradient,
                };
                values.extend(of.flatten_all().unwrap().to_vec1::<f32>().unwrap());
            }
            values
        };
        let pool = setup.splits.validation.clone();
        let values = flat(&pool, None);
        let features = values.len() / pool.len();
        let activations = Rows::new(&values, features).unwrap();
        let cross = setup
            .class_images
            .iter()
            .enumerate()
            .map(|(class, images)| {
                let gradients = flat(images, Some(class));
                cross(Rows::new(&gradients, features).unwrap(), activations).unwrap()
            })
            .collect();
        Self {
            gram: gram(activations).unwrap(),
            cross,
            design: Design::regular(RANDOM_SETS + 1, PARTNERS, 1, "calibration").unwrap(),
            pool,
            accuracy,
            setup,
        }
    }

    /// A concept set of `size` of those rows of the pool that `shows` (all, if there is no
    /// concept), and random sets from the rest of the pool.
    pub(crate) fn draw(&self, name: &str, index: u64, size: usize, shows: &dyn Fn(usize) -> bool) -> Sets {
        let mut random = stream(11, name, index);
        let candidates: Vec<usize> = (0..self.pool.len()).filter(|&row| shows(self.pool[row])).collect();
        let concept: Vec<usize> = candidates.choose_multiple(&mut random, size).copied().collect();
        let mut rest: Vec<usize> = (0..self.pool.len()).filter(|row| !concept.contains(row)).collect();
        rest.shuffle(&mut random);
        Sets {
            concepts: vec![concept],
            random: rest.chunks_exact(size).take(RANDOM_SETS).map(<[usize]>::to_vec).collect(),
        }
    }

    /// The effect alone, which needs no CAV.
    fn effect(&self, sets: &Sets, class: usize, index: u64) -> (Effect, f64) {
        let effect = concept_effect(&self.cross[class], &sets.concepts[0], &sets.random).unwrap();
        let p = effect_p(&effect, index);
        (effect, p)
    }

    fn fit(&self, sets: &Sets) -> PairCavs {
        let kind = CavKind::Logistic { c: 1.0 };
        fit_pairs(&self.gram, sets.clone(), self.design.pairs(), kind, 5).unwrap()
    }

    /// What the tests of the score say of the first concept for one class.
    fn test(&self, cavs: &PairCavs, class: usize) -> ScoreTests {
        let scores = score_class(cavs, &self.cross[class]).unwrap();
        let of = &scores.concepts[0];
        let test = exchangeability_test(&self.design, &of.family).unwrap();
        let runs: Vec<f64> = of.runs.iter().map(|run| run.score).collect();
        let baseline: Vec<f64> = scores.random_baseline.iter().map(|pair| pair.score).collect();
        ScoreTests {
            score: test.mean_score,
            score_p: test.p_value,
            // Undefined where neither group varies; it cannot reject then.
            legacy_p: welch_t(&runs, &baseline, 0.95).map_or(1.0, |test| test.p_value),
        }
    }
}

/// A dense network of the preset `quick` with these settings, and what it was trained on.
fn trained(seed: u64, overrides: &[(&str, &str)]) -> (Setup, Arc<Weights>) {
    let seed = seed.to_string();
    let settings = overrides.iter().copied().chain([("seed", seed.as_str())]);
    let owned: Vec<(String, String)> = settings.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    let plan = Plan::preset("quick", &owned).unwrap();
    let setup = Setup::new(&plan).unwrap();
    let images = Subset::new(&setup.data, &setup.splits.train);
    let config = plan.train_config();
    let training = Training { model: &setup.model, images: &images, config: &config, seed: plan.seed };
    let mut weights = setup.model.network.initialise(plan.seed);
    let mask = Mask::dense(setup.model.network.layout.clone());
    let steps = config.total_steps(images.len());
    training.run(&mut weights, &mask, 0, steps, &Silent, |_, _| {}).unwrap();
    (setup, Arc::new(weights))
}

struct ScoreTests {
    score: f64,
    score_p: f64,
    legacy_p: f64,
}

/// 199 permutations hold the level of 5 % as exactly as 9,999 do (10 of 200 arrangements) at a fiftieth of the cost.
pub(crate) fn effect_p(effect: &Effect, index: u64) -> f64 {
    label_permutation(&effect.concept, &effect.random, 199, index, "calibration").unwrap().p_value
}

pub(crate) fn digits() -> &'static Bench {
    static BENCH: OnceLock<Bench> = OnceLock::new();
    BENCH.get_or_init(|| {
        Bench::new(&[
            ("data.train", "3000"),
            ("data.validation", "1500"),
            ("data.test", "600"),
            ("explain.class_images", "60"),
        ])
    })
}

/// What of the preset `quick` planted images whose class is the factor `used` change.
fn planted_settings(used: &str) -> Vec<(&'static str, &str)> {
    vec![
        ("data.source", "planted"),
        ("data.task", "classes"),
        ("data.planted", used),
        ("data.train", "2000"),
        ("data.validation", "1500"),
        ("data.test", "600"),
        ("explain.class_images", "60"),
        ("explain.cam_images", "300"),
    ]
}

fn planted_images(used: &str) -> String {
    format!("{{ side = 32, channels = 3, used = [\"{used}\"] }}")
}

fn planted_bench(used: &str) -> Bench {
    Bench::new(&planted_settings(&planted_images(used)))
}

pub(crate) fn shape_bench() -> &'static Bench {
    static BENCH: OnceLock<Bench> = OnceLock::new();
    BENCH.get_or_init(|| planted_bench("shape"))
}

pub(crate) fn texture_bench() -> &'static Bench {
    static BENCH: OnceLock<Bench> = OnceLock::new();
    BENCH.get_or_init(|| planted_bench("texture"))
}

/// Draws of random images as concept for the effect, which needs no CAV, and for the score.
const NULL_EFFECTS: usize = 10_000;
const NULL_SCORES: usize = 200;

/// Prints and holds the levels of both tests: the exact 99 % intervals of their rejection rates
/// contain the nominal one.
fn hold_levels(name: &str, bench: &Bench) {
    println!(
        "{name}: dense accuracy {:.1} %; random images as concept, rejected at 5 % [exact 99 % interval]",
        100.0 * bench.accuracy
    );
    let draw = |index: usize| bench.draw(&format!("null/{name}"), index as u64, SET, &|_| true);
    let effects = (0..NULL_EFFECTS).filter(|&index| bench.effect(&draw(index), 0, index as u64).1 <= ALPHA).count();
    let (mut scores, mut legacy) = (0, 0);
    for index in 0..NULL_SCORES {
        let found = bench.test(&bench.fit(&draw(index)), 0);
        scores += usize::from(found.score_p <= ALPHA);
        legacy += usize::from(found.legacy_p <= ALPHA);
    }
    let show = |what: &str, rejected: usize, draws: usize| {
        let interval = exact_interval(rejected, draws, 0.99);
        println!(
            "  {what:<26} {rejected:>4} of {draws:>5}  {:5.1} %  [{:.1}, {:.1}]",
            100.0 * rejected as f64 / draws as f64,
            100.0 * interval.low,
            100.0 * interval.high
        );
        interval
    };
    let effect = show("effect, label permutation", effects, NULL_EFFECTS);
    let score = show("score, exchangeability", scores, NULL_SCORES);
    show("score, legacy Welch t", legacy, NULL_SCORES);
    assert!(effect.contains(ALPHA), "effect: {effect:?}");
    assert!(score.contains(ALPHA), "score: {score:?}");
    assert!(legacy * 4 >= NULL_SCORES, "the legacy test is no longer off: {legacy} of {NULL_SCORES}");
}

#[test]
fn random_images_as_concept_are_rejected_at_the_nominal_rate() {
    assert!(digits().accuracy > 0.9, "{}", digits().accuracy);
    hold_levels("digits", digits());
    hold_levels("planted", shape_bench());
}

/// What the tests say of one concept over many draws.
struct Power {
    /// Draws of the effect, those significant, and those significant with a positive sign.
    draws: usize,
    found: usize,
    positive: usize,
    standardised: f64,
    /// Draws of the score, those significant by its valid test, and by the legacy one.
    score_draws: usize,
    score_found: usize,
    legacy_found: usize,
    score: f64,
}

fn power(bench: &Bench, name: &str, shows: &dyn Fn(usize) -> bool, draws: usize, score_draws: usize) -> Power {
    let mut power = Power {
        draws,
        found: 0,
        positive: 0,
        standardised: 0.0,
        score_draws,
        score_found: 0,
        legacy_found: 0,
        score: 0.0,
    };
    for index in 0..draws as u64 {
        let (effect, p) = bench.effect(&bench.draw(name, index, EFFECT_SET, shows), 0, index);
        power.found += usize::from(p <= ALPHA);
        power.positive += usize::from(p <= ALPHA && effect.effect > 0.0);
        power.standardised += effect.effect_standardised.unwrap() / draws as f64;
    }
    for index in 0..score_draws as u64 {
        let sets = bench.draw(name, index, SET, shows);
        let found = bench.test(&bench.fit(&sets), 0);
        power.score_found += usize::from(found.score_p <= ALPHA);
        power.legacy_found += usize::from(found.legacy_p <= ALPHA);
        power.score += found.score / score_draws as f64;
    }
    power
}

impl Power {
    fn header() {
        println!("  concept  effect d  found at 5 %    score  found  legacy");
    }

    fn print(&self, name: &str) {
        println!(
            "  {name:<7}  {:>8.2}  {:>4} of {:>4}   {:>6.2}  {:>2}/{}  {:>3}/{}",
            self.standardised,
            self.found,
            self.draws,
            self.score,
            self.score_found,
            self.score_draws,
            self.legacy_found,
            self.score_draws
        );
    }

    /// Found in at least 95 % of the draws, with the right sign.
    fn assert_found(&self, name: &str, positive: bool) {
        let right = if positive { self.positive } else { self.found - self.positive };
        assert!(right * 100 >= self.draws * 95, "{name}: {right} of {}", self.draws);
    }
}

#[test]
fn all_ten_digits_are_found_with_the_right_sign() {
    let bench = digits();
    println!("digits, logit `even`");
    Power::header();
    let mut scores = 0;
    for digit in 0..10u32 {
        let shows = |image: usize| bench.setup.data.fine().values()[image] == digit;
        let power = power(bench, &format!("digit/{digit}"), &shows, 100, 8);
        power.print(&digit.to_string());
        power.assert_found(&format!("digit {digit}"), digit % 2 == 0);
        scores += power.score_found;
    }
    println!("  power of the score under its valid test: {scores} of 80");
}

/// What is planted in the images of a bench.
pub(crate) fn truth(bench: &Bench, used: Factor) -> Planted {
    let size = bench.setup.data.origins().iter();
    let train = size.filter(|&&origin| origin == Origin::Train).count();
    let test = bench.setup.data.len() - train;
    let truth = planted(&PlantedPlan { train, test, used: vec![used], ..Default::default() }, 0).unwrap();
    assert_eq!(truth.data.fingerprint(), bench.setup.data.fingerprint());
    truth
}

/// The table of all planted concepts on a network whose class is the factor `used`, and how many
/// concepts that it does not use can be told from its activations.
fn planted_powers(bench: &Bench, used: Factor) -> (Vec<(String, bool, Power)>, usize) {
    println!("planted, class by {used:?}, logit of its first value, dense accuracy {:.1} %", 100.0 * bench.accuracy);
    Power::header();
    let truth = truth(bench, used);
    let mut powers = Vec::new();
    let mut decodable_unused = 0;
    for (place, concept) in bench.setup.concepts[0].sets.concepts.iter().enumerate() {
        let shows = |image: usize| usize::from(truth.factors[image][place / 2]) == place % 2;
        let name = concept.name.clone();
        let power = power(bench, &format!("{used:?}/{name}"), &shows, 200, 6);
        power.print(&name);
        if truth.used[place] {
            power.assert_found(&name, place % 2 == 0);
        }
        // Whether the class uses it or not, it can be told from the activations: half of the pool shows it.
        let (with, without): (Vec<usize>, Vec<usize>) = (0..400).partition(|&row| shows(bench.pool[row]));
        let kind = CavKind::Logistic { c: 1.0 };
        let decoded = held_out(&bench.gram, &with, &without, kind, 1).unwrap();
        println!("           held-out accuracy {:.2}", decoded.accuracy);
        decodable_unused += usize::from(!truth.used[place] && decoded.p_value < 1e-4);
        powers.push((name, truth.used[place], power));
    }
    assert!(decodable_unused >= 2, "unused concepts that can be decoded: {decodable_unused}");
    let sizes = |wanted: bool| -> Vec<f64> {
        let of = powers.iter().filter(move |(_, used, _)| *used == wanted);
        of.map(|(_, _, power)| power.standardised.abs()).collect()
    };
    let lowest = sizes(true).into_iter().fold(f64::INFINITY, f64::min);
    let highest = sizes(false).into_iter().fold(0.0, f64::max);
    assert!(lowest > 4.0 * highest, "used concepts from {lowest:.2}, unused ones up to {highest:.2}");
    (powers, decodable_unused)
}

#[test]
fn planted_concepts_are_found_if_the_class_uses_them_and_else_at_the_level() {
    // A network that tells shapes keeps a slight dependence on colour (d about 0.1): true of it,
    // small, and ranked below every used concept.
    let (_, by_shape) = planted_powers(shape_bench(), Factor::Shape);
    // One that tells the background's texture does not depend on the object: its unused concepts are a true null.
    let (powers, by_texture) = planted_powers(texture_bench(), Factor::Texture);
    // Which of them its activations keep differs by network: half of both networks' together.
    assert!(by_shape + by_texture >= 6, "unused concepts that can be decoded: {by_shape} and {by_texture} of six each");
    for (name, used, power) in powers {
        let interval = exact_interval(power.found, power.draws, 0.99);
        assert!(
            used || interval.low <= ALPHA,
            "{name}: {} of {} although the class does not use it",
            power.found,
            power.draws
        );
    }
}

/// Share of a network's Grad-CAM maps at layer2, of gradients times `sign`, whose maximum lies in
/// the object's box, and the mean share of the image that the boxes cover.
fn pointing(setup: &Setup, weights: &Arc<Weights>, sign: f64) -> (f64, f64) {
    let cut = Cut::new(&setup.model, weights.clone(), Stage::new("layer2")).unwrap();
    let boxes = setup.boxes.as_ref().unwrap();
    let (mut hits, mut counted, mut covered) = (0.0, 0usize, 0usize);
    for indices in setup.cam_images.chunks(100) {
        let labels: Vec<usize> = indices.iter().map(|&index| setup.data.label(index)).collect();
        let activation = cut.activation(&setup.data.tensor(indices).unwrap()).unwrap();
        let gradient = cut.gradient(&activation, Targets::PerImage(&labels)).unwrap().gradient;
        let maps = grad_cam(&activation, &gradient.affine(sign, 0.0).unwrap()).unwrap().raw;
        let (_, height, width) = maps.dims3().unwrap();
        for (&index, map) in indices.iter().zip(maps.flatten_from(1).unwrap().to_vec2::<f32>().unwrap()) {
            let map: Vec<f64> = map.into_iter().map(f64::from).collect();
            let map = upsample_map(&map, (height, width), (32, 32));
            let of = &boxes[index];
            let target = PixelBox {
                left: of.left as usize,
                top: of.top as usize,
                right: of.right as usize,
                bottom: of.bottom as usize,
            };
            covered += (target.right - target.left) * (target.bottom - target.top);
            if let Ok(hit) = pointing_game(&map, 32, 32, target, 0).unwrap() {
                hits += hit;
                counted += 1;
            }
        }
    }
    let maps = setup.cam_images.len();
    assert!((maps - counted) * 10 <= maps, "{counted} of {maps} maps have a maximum");
    (hits / counted as f64, covered as f64 / (maps * 32 * 32) as f64)
}

#[test]
fn grad_cam_of_dense_planted_networks_points_at_the_object() {
    // 16×16 maps resolve the object. Networks differ (the lab notes list some): three of them are
    // held to common bounds, and each is its own control, as an object's activations stand out with
    // gradients of the wrong sign too.
    let images = planted_images("shape");
    let (mut all, mut more) = (0.0, 0.0);
    for seed in 0..3 {
        let (setup, weights) = trained(seed, &planted_settings(&images));
        let (rate, chance) = pointing(&setup, &weights, 1.0);
        let (opposite, _) = pointing(&setup, &weights, -1.0);
        println!(
            "planted, seed {seed}: pointing game {rate:.3}, of the opposite map {opposite:.3}, by chance {chance:.3}"
        );
        assert!(rate >= 2.0 * chance, "seed {seed}: {rate} where chance gives {chance}");
        all += rate / 3.0;
        more += (rate - opposite) / 3.0;
    }
    assert!(all >= 0.5 && more >= 0.1, "mean {all}, more than of opposite maps by {more}");
}
