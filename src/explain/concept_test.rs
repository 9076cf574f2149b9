//! TCAV from images to tested numbers, for one network, stage and class (DESIGN 1.4 and 1.5).
//!
//! Images are read in batches and met twice at most: concept and random images become a Gram matrix, class images the products
//! of their gradients with it. Both come from one streamed matrix product, so that memory does not grow with the images.

use std::ops::Range;
use std::sync::Arc;

use nalgebra::DMatrix;
use serde::Serialize;

use crate::data::ImageSource;
use crate::error::{Error, Result, undefined};
use crate::model::{Checkpoint, Stage};
use crate::stats::bootstrap::{self, Bootstrapped};
use crate::stats::exchangeability::{Design, PairScore, exchangeability_test};
use crate::stats::multiplicity::{Adjustment, adjust};
use crate::stats::permutation::label_permutation;
use crate::stats::t_tests::welch_t;
use crate::stats::{Interval, StatsError};

use super::cav::CavKind;
use super::copies::Copies;
use super::cut::{Cut, Targets};
use super::gram::{GramError, Products, products_in_blocks_on};
use super::stream::{activation_batch, activation_shape, explain_batch};
use super::tcav::{ClassScores, ConceptScores, PairCavs, Run, Sets, fit_pairs_with_copies, score_class};

/// Random sets up to which every pair of sets is fitted; beyond it each set meets [`PARTNERS`] others.
pub const ALL_PAIRS: usize = 64;
/// Partners of each set in the regular design of many random sets; even, so that it exists for any number of sets.
pub const PARTNERS: usize = 32;

/// What is tested.
pub struct Question<'a> {
    /// The network.
    pub checkpoint: &'a Checkpoint,
    /// Where it is cut.
    pub stage: Stage,
    /// Images of the class.
    pub images: &'a ImageSource,
    /// The class whose logit is asked for.
    pub class: usize,
    /// Concepts by name.
    pub concepts: &'a [(String, ImageSource)],
    /// Random counterparts, shared by all concepts.
    pub random: &'a [ImageSource],
}

/// How it is tested.
#[derive(Clone, Copy, Debug)]
pub struct TestConfig {
    /// How a CAV is found.
    pub cav: CavKind,
    /// Label permutations of the effect's test.
    pub permutations: usize,
    /// Bootstrap resamples of the intervals; 0 for none.
    pub resamples: usize,
    /// How the p-values of the concepts are adjusted, each statistic's apart.
    pub adjustment: Adjustment,
    /// Level of decodability, and one minus the confidence of the intervals.
    pub alpha: f64,
    /// Seed of folds, permutations and bootstrap.
    pub seed: u64,
    /// Images in memory at a time.
    pub batch: usize,
    /// Bytes of activations and gradients that are kept; what does not fit is computed again.
    pub resident_bytes: usize,
}

/// What is known of one concept.
#[derive(Clone, Debug, Serialize)]
pub struct ConceptTest {
    /// The concept against each random set (of many sets, against those it was paired with).
    pub runs: Vec<Run>,
    /// Mean of the runs' scores.
    pub mean: f64,
    /// Bootstrap interval of `mean` over class images; absent where undefined.
    pub mean_interval: Option<Interval>,
    /// Exchangeability test of the score.
    pub p_value: f64,
    /// That, adjusted over the concepts.
    pub p_adjusted: f64,
    /// Mean score of each member of the family against its partners, the concept first: what the test compares.
    pub family_scores: Vec<f64>,
    /// Welch's test of the runs' scores against the random baseline's: customary, not calibrated. Absent where undefined.
    pub legacy_welch_p: Option<f64>,
    /// `ḡ·(μ_C − μ_R)`, in logits.
    pub effect: f64,
    /// Bootstrap interval of `effect` over class, concept and random images; absent where undefined.
    pub effect_interval: Option<Interval>,
    /// The effect over the pooled standard deviation; absent where that is zero.
    pub effect_standardised: Option<f64>,
    /// Label permutation test of the effect.
    pub effect_p_value: f64,
    /// That, adjusted over the concepts.
    pub effect_p_adjusted: f64,
    /// Mean held-out accuracy of the runs.
    pub heldout_accuracy: f64,
    /// Whether the concept can be told from random images; if not, nothing above may be interpreted.
    pub decodable: bool,
    /// The p-value behind that.
    pub decodable_p_value: f64,
}

/// What is known of all concepts.
#[derive(Clone, Debug)]
pub struct ConceptTests {
    /// In the order asked.
    pub concepts: Vec<ConceptTest>,
    /// Score of random set i against set i + 1, the last against the first, the sets in the order of their names.
    pub random_baseline: Vec<f64>,
    /// CAVs fitted at full size (those of the held-out folds come on top).
    pub cavs: usize,
    /// Smallest p-value that the exchangeability test can give with this many random sets.
    pub smallest_p: f64,
    /// A line for each set that holds copies of an image, and each two sets that share images.
    pub copies: Vec<String>,
}

/// Fits, scores and tests all concepts. `read` is told after each batch how many images it held.
///
/// # Errors
/// The source is named: fewer than two images in a set, images that do not fit the network or each other, values that are not
/// finite. Fewer than two random sets; a class that does not exist; an undefined setting.
pub fn test_concepts(question: &Question<'_>, config: &TestConfig, read: impl FnMut(usize)) -> Result<ConceptTests> {
    check(question)?;
    // Random sets are taken by name, so that nothing depends on the order in which they are given.
    let mut order: Vec<usize> = (0..question.random.len()).collect();
    order.sort_by(|&a, &b| question.random[a].name().cmp(question.random[b].name()));
    let random = order.iter().map(|&set| &question.random[set]);
    let pool: Vec<&ImageSource> = question.concepts.iter().map(|(_, source)| source).chain(random).collect();
    let copies = Copies::find(&pool, config.batch)?;
    let (gram, cross) = products(question, &pool, config, read)?;
    let mut rows = pool.iter().scan(0, |next, source| {
        *next += source.len();
        Some((*next - source.len()..*next).collect::<Vec<usize>>())
    });
    let sets = Sets { concepts: rows.by_ref().take(question.concepts.len()).collect(), random: rows.collect() };
    let partners = (question.random.len() > ALL_PAIRS).then_some(PARTNERS);
    let design = family_design(&gram, &sets.random, partners, config.seed).map_err(undefined("TCAV"))?;
    let original = |image: usize| copies.original(image);
    let cavs = fit_pairs_with_copies(&gram, sets.clone(), design.pairs(), config.cav, config.seed, &original)
        .map_err(|error| Error::statistics("TCAV", error.to_string()))?;
    let scores = score_class(&cavs, &cross).map_err(|error| Error::statistics("TCAV", error.to_string()))?;
    let mut concepts = Vec::new();
    for (place, (name, _)) in question.concepts.iter().enumerate() {
        let images = (&sets.concepts[place], &sets.random);
        let label = format!("{}/{}/{name}", question.stage, question.class);
        let mut test = test_concept(place, &label, &design, &cavs, &scores, config)?;
        test.effect_interval = effect_interval(&cross, images.0, images.1, &label, config);
        // As numbered by whoever asked.
        test.runs.iter_mut().for_each(|run| run.random = order[run.random]);
        test.runs.sort_by_key(|run| run.random);
        concepts.push(test);
    }
    let adjusted = |value: fn(&ConceptTest) -> f64| {
        adjust(&concepts.iter().map(value).collect::<Vec<_>>(), config.adjustment).map_err(undefined("TCAV"))
    };
    let (score, effect) = (adjusted(|test| test.p_value)?, adjusted(|test| test.effect_p_value)?);
    for (test, (score, effect)) in concepts.iter_mut().zip(score.into_iter().zip(effect)) {
        (test.p_adjusted, test.effect_p_adjusted) = (score, effect);
    }
    Ok(ConceptTests {
        concepts,
        random_baseline: scores.random_baseline.iter().map(|pair| pair.score).collect(),
        cavs: cavs.count(),
        smallest_p: 1.0 / design.members() as f64,
        copies: copies.warnings(question),
    })
}

/// The design of a concept and random sets (`random`, as rows of the Gram matrix): every pair, or so many `partners` each. Which sets meet is
/// drawn on the sets' ranks by what they hold (the sum of their images' squared activations), so it does not depend on the order in which they
/// are given; sets that hold the same are interchangeable.
///
/// # Errors
/// As [`Design::all_pairs`] and [`Design::regular`].
pub fn family_design(
    gram: &DMatrix<f64>,
    random: &[Vec<usize>],
    partners: Option<usize>,
    seed: u64,
) -> crate::stats::Result<Design> {
    let Some(partners) = partners else { return Design::all_pairs(random.len() + 1) };
    let content = |set: &[usize]| {
        let mut squares: Vec<f64> = set.iter().map(|&image| gram[(image, image)]).collect();
        // Sorted, so that the order of images does not round the sum differently.
        squares.sort_by(f64::total_cmp);
        squares.iter().sum::<f64>()
    };
    let contents: Vec<f64> = random.iter().map(|set| content(set)).collect();
    let mut order: Vec<usize> = (0..random.len()).collect();
    order.sort_by(|&a, &b| contents[a].total_cmp(&contents[b]));
    Design::regular(random.len() + 1, partners, seed, "tcav/design")?.on_random_sets(&order)
}

fn check(question: &Question<'_>) -> Result<()> {
    let classes = question.checkpoint.model.classes;
    if question.class >= classes {
        let what = format!("class {} does not exist: the network has {classes} classes", question.class);
        return Err(Error::input(what));
    }
    if question.random.len() < 2 {
        let what = format!("random sets: {} given, at least 2 are needed", question.random.len());
        return Err(Error::input(what));
    }
    let shape = activation_shape(question.checkpoint, question.images, question.stage)?;
    for source in question.concepts.iter().map(|(_, source)| source).chain(question.random) {
        if source.len() < 2 {
            return Err(Error::input(format!("{}: 1 image, at least 2 are needed in a set", source.name())));
        }
        let other = activation_shape(question.checkpoint, source, question.stage)?;
        if other != shape {
            let what = format!(
                "{}: images of {:?} give another activation than those of {:?} in {}",
                source.name(),
                source.shape(),
                question.images.shape(),
                question.images.name()
            );
            return Err(Error::input(what));
        }
    }
    Ok(())
}

/// The Gram matrix of the pool's activations `(pool, pool)`, and the products of the class images' gradients with them
/// `(class images, pool)`.
fn products(
    question: &Question<'_>,
    pool: &[&ImageSource],
    config: &TestConfig,
    mut read: impl FnMut(usize),
) -> Result<(DMatrix<f64>, DMatrix<f64>)> {
    let features = activation_shape(question.checkpoint, question.images, question.stage)?.len();
    let weights = Arc::new(question.checkpoint.weights.clone());
    let cut = Cut::new(&question.checkpoint.model, weights, question.stage)?;
    let mut blocks = batches(pool, config.batch);
    let gradients_from = blocks.len();
    // Gradients are rows of the same product, so that one pass in bounded memory gives everything.
    blocks.extend(batches(&[question.images], config.batch));
    let count = |parts: &Vec<Part<'_>>| parts.iter().map(|(_, images)| images.len()).sum::<usize>();
    let sizes: Vec<usize> = blocks.iter().map(count).collect();
    let compute = &question.checkpoint.model.network.compute;
    let Products { gram, .. } =
        products_in_blocks_on(compute, &sizes, features, config.resident_bytes, &[], |block| {
            let rows = match &blocks[block][..] {
                [(source, images)] if block >= gradients_from => {
                    let targets = Targets::Class(question.class);
                    explain_batch(&cut, source, images.clone(), targets)?.gradient
                }
                parts => activation_batch(&cut, parts)?,
            };
            read(sizes[block]);
            Ok::<_, Error>(rows.flatten_all()?.to_vec1::<f32>()?)
        })?;
    let images: usize = pool.iter().map(|source| source.len()).sum();
    let cross = gram.view((images, 0), (question.images.len(), images)).into_owned();
    Ok((gram.view((0, 0), (images, images)).into_owned(), cross))
}

/// Some images of one source.
type Part<'a> = (&'a ImageSource, Range<usize>);

/// The images of all sources in order, in batches of `size`; small sets of one image size share a batch.
fn batches<'a>(sources: &[&'a ImageSource], size: usize) -> Vec<Vec<Part<'a>>> {
    let mut batches: Vec<Vec<Part<'a>>> = Vec::new();
    let (mut room, mut shape) = (0, None);
    for source in sources {
        // Images of another size can give the same activation, but fill no batch together.
        if shape.replace(source.shape()) != Some(source.shape()) {
            room = 0;
        }
        let mut start = 0;
        while start < source.len() {
            if room == 0 {
                batches.push(Vec::new());
                room = size;
            }
            let end = source.len().min(start + room);
            batches.last_mut().expect("one was pushed when there was no room").push((source, start..end));
            room -= end - start;
            start = end;
        }
    }
    batches
}

/// Everything about the concept number `place` but what needs the products or the other concepts: p-values are not yet adjusted.
fn test_concept(
    place: usize,
    label: &str,
    design: &Design,
    cavs: &PairCavs,
    scores: &ClassScores,
    config: &TestConfig,
) -> Result<ConceptTest> {
    let ConceptScores { runs, family, effect } = scores.concepts[place].clone();
    let pairs: Vec<PairScore> = family.iter().map(|pair| PairScore { score: pair.score, ties: pair.ties }).collect();
    let test = exchangeability_test(design, &pairs).map_err(undefined("TCAV score"))?;
    let of_runs: Vec<f64> = runs.iter().map(|run| run.score).collect();
    let baseline: Vec<f64> = scores.random_baseline.iter().map(|pair| pair.score).collect();
    let name = format!("permutation/{label}");
    let effect_p_value =
        match label_permutation(&effect.concept, &effect.random, config.permutations, config.seed, &name) {
            Ok(test) => test.p_value,
            // Where no projection differs from another, every division of them gives the same difference.
            Err(StatsError::ZeroVariance { .. }) => 1.0,
            Err(error) => return Err(undefined("concept effect")(error)),
        };
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    // Each class image's share of runs in which its sensitivity is positive; their mean is the mean score.
    let class_images = runs.first().map_or(0, |run| run.sensitivity.len());
    let shares: Vec<f64> = (0..class_images)
        .map(|image| runs.iter().filter(|run| run.sensitivity[image] > 0.0).count() as f64 / runs.len() as f64)
        .collect();
    let mean_interval = match config.resamples {
        0 => None,
        _ => interval(bootstrap::one_sample(
            &shares,
            |shares| Some(mean(shares)),
            options(config),
            config.seed,
            &format!("score-interval/{label}"),
        )),
    };
    Ok(ConceptTest {
        mean: mean(&of_runs),
        mean_interval,
        p_value: test.p_value,
        p_adjusted: test.p_value,
        family_scores: test.member_scores,
        legacy_welch_p: welch_t(&of_runs, &baseline, 1.0 - config.alpha).ok().map(|test| test.p_value),
        effect: effect.effect,
        effect_interval: None,
        effect_standardised: effect.effect_standardised,
        effect_p_value,
        effect_p_adjusted: effect_p_value,
        heldout_accuracy: mean(&runs.iter().map(|run| run.heldout_accuracy).collect::<Vec<_>>()),
        decodable: cavs.decodable(place, config.alpha),
        decodable_p_value: cavs.decodability_p_value(place),
        runs,
    })
}

fn effect_interval(
    cross: &DMatrix<f64>,
    concept: &[usize],
    random: &[Vec<usize>],
    label: &str,
    config: &TestConfig,
) -> Option<Interval> {
    if config.resamples == 0 {
        return None;
    }
    let random: Vec<usize> = random.concat();
    let columns: Vec<usize> = concept.iter().chain(&random).copied().collect();
    let products: Vec<f64> =
        (0..cross.nrows()).flat_map(|row| columns.iter().map(move |&column| cross[(row, column)])).collect();
    let name = format!("effect-interval/{label}");
    interval(bootstrap::concept_effect(
        &products,
        cross.nrows(),
        concept.len(),
        random.len(),
        options(config),
        config.seed,
        &name,
    ))
}

fn options(config: &TestConfig) -> bootstrap::Options {
    let method = bootstrap::Method::Percentile;
    bootstrap::Options { resamples: config.resamples, confidence: 1.0 - config.alpha, method }
}

/// Undefined where nothing varies: then there is no interval.
fn interval(result: crate::stats::Result<Bootstrapped>) -> Option<Interval> {
    result.ok().map(|result| result.interval)
}

impl From<GramError> for Error {
    fn from(error: GramError) -> Self {
        Error::statistics("activations", error.to_string())
    }
}
