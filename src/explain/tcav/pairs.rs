//! Testing with concept activation vectors (Kim et al. 2018, §3.3–3.4), all sets and all pairs at once.
//!
//! A concept and N random sets are a **family** of N + 1 members: member 0 is the concept, member
//! `r + 1` random set `r`. Which pairs of members are fitted is the **design**, a list of pairs;
//! the CAVs do not depend on a class, so [`fit_pairs`] runs once per (checkpoint, stage) and
//! [`score_class`](super::score_class) once per class with the products `P = G Aᵀ` of its gradients
//! and all activations.

use std::collections::{BTreeMap, BTreeSet};

use nalgebra::DMatrix;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::stats::effect;
pub use crate::stats::exchangeability::PairScore;

use super::cav::{Cav, CavError, CavKind, CavState, ROUNDING, check_kind, check_set, fit_checked};
use super::held_out::{HeldOut, held_out_checked};
use super::products::View;

/// The sets of images, as rows of the Gram matrix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sets {
    /// Images of each concept.
    pub concepts: Vec<Vec<usize>>,
    /// Images of each random counterpart; shared by all concepts.
    pub random: Vec<Vec<usize>>,
}

/// The CAVs of every pair of sets that a design asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct PairCavs {
    pub(super) sets: Sets,
    pub(super) design: Vec<(usize, usize)>,
    pub(super) images: usize,
    /// Per pair of sets (concepts first, then random sets), the smaller number being the positive set.
    pub(super) cavs: BTreeMap<(usize, usize), Cav>,
    /// Held-out accuracy of each concept against each random set that the design pairs it with.
    pub(super) held_out: BTreeMap<(usize, usize), HeldOut>,
}

/// One concept against one random set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Index of the random set.
    pub random: usize,
    /// Share of class images with a positive sensitivity.
    pub score: f64,
    /// Share of class images with a zero sensitivity.
    pub ties: f64,
    /// `S = g·w/|w|` of each class image, in logits per unit of activation; 0 where it is within rounding of 0.
    pub sensitivity: Vec<f64>,
    /// Accuracy on held-out images.
    pub heldout_accuracy: f64,
    /// Its binomial p-value against chance, [`HeldOut::p_value`].
    pub heldout_p_value: f64,
    /// Accuracy on the images the CAV was fitted to.
    pub train_accuracy: f64,
    /// Intercept of the CAV.
    pub intercept: f64,
    /// `|w|` before normalisation.
    pub weight_norm: f64,
    /// [`Cav::kkt_residual`].
    pub kkt_residual: f64,
    /// What came of the fit.
    pub state: CavState,
}

/// The change of the class's logit from the mean random activation to the mean concept activation, to first order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// `ḡ·a` of each concept image, in logits; `ḡ` is the mean gradient of the class images.
    pub concept: Vec<f64>,
    /// `ḡ·a` of each random image, all sets pooled, each image once, without the concept's own
    /// images; in the order of the Gram matrix.
    pub random: Vec<f64>,
    /// `Δ = ḡ·(μ_C - μ_R)`, in logits.
    pub effect: f64,
    /// `Δ` over the pooled standard deviation (n - 1) of the two samples (Cohen's d); `None` where
    /// neither sample varies.
    pub effect_standardised: Option<f64>,
}

/// All that a class's gradients say about one concept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConceptScores {
    /// The concept against each random set that the design pairs it with, by random set.
    pub runs: Vec<Run>,
    /// Every pair of the design, in its order, the first member as the concept: what the
    /// exchangeability test of the score takes.
    pub family: Vec<PairScore>,
    /// The concept effect.
    pub effect: Effect,
}

/// All that a class's gradients say about all concepts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassScores {
    /// Per concept, in the order of [`Sets::concepts`].
    pub concepts: Vec<ConceptScores>,
    /// Random set `i` against set `i + 1` (the last against the first), the customary baseline.
    pub random_baseline: Vec<PairScore>,
}

/// Fits the CAV of every pair of the design for every concept, and the baseline's; in parallel,
/// with a result that does not depend on the thread count. Pairs of random sets are fitted once for
/// all concepts, and a pair in both orders once.
///
/// `gram` `(images, images)` is the Gram matrix of all concept and random images, `design` the
/// pairs of family members, `seed` draws the folds of the held-out accuracy.
///
/// # Errors
/// Fewer than two random sets, fewer than two images in a set, images that do not exist or are
/// repeated within a set, a pair of the design that does not exist, or a `c` that is not positive.
pub fn fit_pairs(
    gram: &DMatrix<f64>,
    sets: Sets,
    design: &[(usize, usize)],
    kind: CavKind,
    seed: u64,
) -> Result<PairCavs, CavError> {
    fit_pairs_with_copies(gram.into(), sets, design, kind, seed, &|image| image)
}

/// [`fit_pairs`] where some images are copies of others: `original` gives all copies of an image
/// one number. Copies lie in one fold when accuracy is held out, and count once.
///
/// # Errors
/// As [`fit_pairs`].
pub fn fit_pairs_with_copies(
    gram: View<'_>,
    sets: Sets,
    design: &[(usize, usize)],
    kind: CavKind,
    seed: u64,
    original: &(dyn Fn(usize) -> usize + Sync),
) -> Result<PairCavs, CavError> {
    check_kind(kind)?;
    let (images, _) = gram.shape();
    for (index, set) in sets.concepts.iter().enumerate() {
        check_set(&format!("concept {index}"), set, images, 2)?;
    }
    for (index, set) in sets.random.iter().enumerate() {
        check_set(&format!("random set {index}"), set, images, 2)?;
    }
    let (concepts, random) = (sets.concepts.len(), sets.random.len());
    if random < 2 {
        return Err(CavError::TooFewRandomSets { found: random, needed: 2 });
    }
    if let Some(&(a, b)) = design.iter().find(|(a, b)| a == b || *a.max(b) > random) {
        return Err(CavError::Design(a, b, random + 1));
    }

    let mut pairs: BTreeSet<(usize, usize)> =
        (0..random).map(|i| ordered(concepts + i, concepts + (i + 1) % random)).collect();
    for concept in 0..concepts {
        let set = |member| set_of(concepts, concept, member);
        pairs.extend(design.iter().map(|&(a, b)| ordered(set(a), set(b))));
    }
    let pairs: Vec<(usize, usize)> = pairs.into_iter().collect();
    let images_of = |set: usize| match set.checked_sub(concepts) {
        None => &sets.concepts[set],
        Some(random) => &sets.random[random],
    };
    let fitted = pairs.par_iter().map(|&(a, b)| {
        let (positive, negative) = (images_of(a), images_of(b));
        let fit = |gram: &DMatrix<f64>,
                   positive: &[usize],
                   negative: &[usize],
                   original: &(dyn Fn(usize) -> usize + Sync)| {
            let held_out = (a < concepts).then(|| held_out_checked(gram, positive, negative, kind, seed, original));
            (fit_checked(gram, positive, negative, kind), held_out)
        };
        if let View::Whole(gram) = gram {
            return Ok(fit(gram, positive, negative, original));
        }
        // The pair's own part of the table, whose images are numbered anew.
        let samples = [&positive[..], negative].concat();
        let own: Vec<usize> = (0..samples.len()).collect();
        let (positive, negative) = own.split_at(positive.len());
        let (cav, held_out) = fit(&gram.square(&samples)?, positive, negative, &|image| original(samples[image]));
        Ok((Cav { samples, ..cav }, held_out))
    });
    let fitted = fitted.collect::<Result<Vec<(Cav, Option<HeldOut>)>, CavError>>()?;
    let held_out = pairs
        .iter()
        .zip(&fitted)
        .filter_map(|(pair, (_, held_out))| held_out.map(|held_out| (*pair, held_out)))
        .collect();
    let cavs = pairs.into_iter().zip(fitted.into_iter().map(|(cav, _)| cav)).collect();
    Ok(PairCavs { sets, design: design.to_vec(), images, cavs, held_out })
}

/// Number of the set that is `member` of the family of `concept`.
pub(super) fn set_of(concepts: usize, concept: usize, member: usize) -> usize {
    match member {
        0 => concept,
        random => concepts + random - 1,
    }
}

pub(super) fn ordered(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

impl PairCavs {
    /// Number of CAVs fitted.
    pub fn count(&self) -> usize {
        self.cavs.len()
    }

    /// The CAVs of one concept with the index of the random set each was fitted against, by random set.
    pub fn of_concept(&self, concept: usize) -> impl Iterator<Item = (usize, &Cav)> {
        let concepts = self.sets.concepts.len();
        self.cavs.range((concept, concepts)..(concept + 1, 0)).map(move |(&(_, set), cav)| (set - concepts, cav))
    }

    /// Evidence that a concept can be told from random images: the p-values of its runs' held-out
    /// accuracies, combined as twice their median (at most 1), which is valid however the runs
    /// depend on each other, as they do by sharing the concept (Meinshausen, Meier & Bühlmann 2009,
    /// "p-Values for High-Dimensional Regression", Theorem 3.1 with γ = ½). 1 without runs.
    pub fn decodability_p_value(&self, concept: usize) -> f64 {
        let mut p_values: Vec<f64> =
            self.held_out.range((concept, 0)..(concept + 1, 0)).map(|(_, held_out)| held_out.p_value).collect();
        p_values.sort_by(f64::total_cmp);
        // The upper median: with an even count the cautious one of the two.
        match p_values.get(p_values.len() / 2) {
            Some(median) => (2.0 * median).min(1.0),
            None => 1.0,
        }
    }

    /// Whether a concept is decodable at level `alpha`; one that is not must not be interpreted.
    pub fn decodable(&self, concept: usize, alpha: f64) -> bool {
        self.decodability_p_value(concept) <= alpha
    }
}

/// The directional derivative `S = g·w/|w|` of each class image along a CAV, `(class images)`, from
/// `cross` = `G Aᵀ` `(class images, images)`.
///
/// A value that is zero up to the rounding of its terms is returned as 0: a concept that differs
/// only in channels without gradient must not get its score from noise. All are 0 for a CAV without
/// direction.
pub fn sensitivities(cross: &DMatrix<f64>, cav: &Cav) -> Vec<f64> {
    let mut sum = vec![0.0; cross.nrows()];
    if cav.weight_norm == 0.0 {
        return sum;
    }
    let mut terms = vec![0.0; cross.nrows()];
    for (&sample, alpha) in cav.samples.iter().zip(&cav.alpha) {
        let products = cross.column(sample);
        for ((sum, terms), product) in sum.iter_mut().zip(&mut terms).zip(products.iter()) {
            let term = alpha * product;
            *sum += term;
            *terms += term.abs();
        }
    }
    for (sum, terms) in sum.iter_mut().zip(&terms) {
        *sum = if sum.abs() <= ROUNDING * terms { 0.0 } else { *sum / cav.weight_norm };
    }
    sum
}

/// The TCAV score of sensitivities `(class images)`; zeros do not count as positive (Kim et al. 2018, equation 2).
pub fn score(sensitivities: &[f64]) -> PairScore {
    let share = |count: usize| count as f64 / sensitivities.len().max(1) as f64;
    PairScore {
        score: share(sensitivities.iter().filter(|s| **s > 0.0).count()),
        ties: share(sensitivities.iter().filter(|s| **s == 0.0).count()),
    }
}

/// The effect of a concept on a class: see [`Effect`]. `cross` = `G Aᵀ` `(class images, images)`.
///
/// # Errors
/// An empty concept, an image that does not exist, no class image, or no random image outside the concept.
pub fn concept_effect(cross: &DMatrix<f64>, concept: &[usize], random: &[Vec<usize>]) -> Result<Effect, CavError> {
    check_cross(cross, cross.ncols())?;
    check_set("concept", concept, cross.ncols(), 1)?;
    for (index, set) in random.iter().enumerate() {
        check_set(&format!("random set {index}"), set, cross.ncols(), 0)?;
    }
    effect_of(&mean_products(cross), concept, random).ok_or(CavError::NoRandomImage(0))
}

/// The random images that a concept is compared with: all sets pooled, each image once, without the concept's own.
pub(super) fn pooled(concept: &[usize], random: &[Vec<usize>]) -> Vec<usize> {
    let own: BTreeSet<usize> = concept.iter().copied().collect();
    let pooled: BTreeSet<usize> = random.iter().flatten().filter(|image| !own.contains(image)).copied().collect();
    pooled.into_iter().collect()
}

/// `ḡ·a` of each image, from `cross` = `G Aᵀ` `(class images, images)`.
fn mean_products(cross: &DMatrix<f64>) -> Vec<f64> {
    cross.column_iter().map(|column| column.sum() / cross.nrows() as f64).collect()
}

/// [`concept_effect`] on checked input, from `ḡ·a` of each image; `None` without a random image outside the concept.
pub(super) fn effect_of(means: &[f64], concept: &[usize], random: &[Vec<usize>]) -> Option<Effect> {
    let pooled = pooled(concept, random);
    if pooled.is_empty() {
        return None;
    }
    let concept: Vec<f64> = concept.iter().map(|&image| means[image]).collect();
    let random: Vec<f64> = pooled.iter().map(|&image| means[image]).collect();
    let effect = effect::difference(&concept, &random);
    // Undefined where nothing varies, or with fewer than three images.
    let standardised = effect::concept_effect(&concept, &random).ok().map(|found| found.effect_standardised);
    Some(Effect { concept, random, effect, effect_standardised: standardised })
}

pub(super) fn check_cross(cross: &DMatrix<f64>, images: usize) -> Result<(), CavError> {
    let (rows, columns) = cross.shape();
    if rows == 0 || columns != images {
        return Err(CavError::Gradients { rows, columns, images });
    }
    Ok(())
}
