//! Whether a concept can be told from its counterparts at all: the accuracy of CAVs on images that
//! they were not fitted to.

use std::collections::{BTreeMap, BTreeSet};

use nalgebra::DMatrix;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use statrs::distribution::{Binomial, DiscreteCDF};

use super::cav::{CavError, CavKind, check_kind, check_set, decision_value, fit_checked};

/// Folds of the cross-validation, where both sets have as many images.
const FOLDS: usize = 5;

/// Accuracy of a CAV on images that it was not fitted to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct HeldOut {
    /// Images predicted right, each by the CAV of the folds without it.
    pub correct: usize,
    /// Images of both sets.
    pub total: usize,
    /// `correct / total`.
    pub accuracy: f64,
    /// Exact one-sided binomial probability of as many right predictions at the rate of the larger set.
    ///
    /// It takes the predictions as independent. They are not quite: folds share training images, so
    /// the accuracy of meaningless sets varies about 1.2 times as much as the binomial says, and a
    /// single test rejects 5 to 9 % of them at 5 % (simulated; also Noirhomme et al. 2014, "Biased
    /// binomial assessment of cross-validated estimation of classification accuracies").
    /// [`super::pairs::PairCavs::decodability_p_value`] combines runs with room to spare (under 1
    /// %).
    pub p_value: f64,
}

impl HeldOut {
    /// Whether the sets can be told apart better than by chance, at level `alpha`.
    pub fn decodable(&self, alpha: f64) -> bool {
        self.p_value <= alpha
    }
}

/// Held-out accuracy by stratified cross-validation: five folds, or as many as the smaller set has images.
///
/// The fold of an image depends on `seed`, its position in its set and the set's size alone, so it
/// does not depend on the set's counterpart.
///
/// # Errors
/// As [`super::cav::fit`]; and a set needs two images.
pub fn held_out(
    gram: &DMatrix<f64>,
    positive: &[usize],
    negative: &[usize],
    kind: CavKind,
    seed: u64,
) -> Result<HeldOut, CavError> {
    check_set("positive set", positive, gram.nrows(), 2)?;
    check_set("negative set", negative, gram.nrows(), 2)?;
    check_kind(kind)?;
    Ok(held_out_checked(gram, positive, negative, kind, seed, &|image| image))
}

/// [`held_out`] on checked input. `original` gives images that are copies of each other one number:
/// they lie in one fold and are one prediction, or a copy would be held out of what was fitted to
/// its original.
pub(super) fn held_out_checked(
    gram: &DMatrix<f64>,
    positive: &[usize],
    negative: &[usize],
    kind: CavKind,
    seed: u64,
    original: &(dyn Fn(usize) -> usize + Sync),
) -> HeldOut {
    let (positive_copies, negative_copies) = (groups(positive, original), groups(negative, original));
    let distinct = |copies: &[usize]| copies.iter().max().map_or(0, |most| most + 1);
    let (positives, negatives) = (distinct(&positive_copies), distinct(&negative_copies));
    let folds = FOLDS.min(positives).min(negatives);
    let of_images = |copies: &[usize], count: usize| -> Vec<usize> {
        let fold_of = fold_of(count, folds.max(1), seed);
        copies.iter().map(|&copy| fold_of[copy]).collect()
    };
    let (upper, lower) = (of_images(&positive_copies, positives), of_images(&negative_copies, negatives));
    let total = positives + negatives;
    if folds < 2 {
        // Nothing can be held out of one image and its copies: that is no evidence.
        return HeldOut { correct: 0, total, accuracy: 0.0, p_value: 1.0 };
    }
    let mut correct = 0;
    for fold in 0..folds {
        let split = |set: &[usize], fold_of: &[usize]| -> (Vec<usize>, Vec<usize>) {
            let (test, train): (Vec<_>, Vec<_>) = set.iter().zip(fold_of).partition(|(_, own)| **own == fold);
            let images = |part: Vec<(&usize, &usize)>| part.into_iter().map(|(i, _)| *i).collect();
            (images(train), images(test))
        };
        let (train_positive, test_positive) = split(positive, &upper);
        let (train_negative, test_negative) = split(negative, &lower);
        let cav = fit_checked(gram, &train_positive, &train_negative, kind);
        let is_positive = |image: &&usize| decision_value(gram, &cav, **image) > 0.0;
        let (test_positive, test_negative) =
            (first_copies(&test_positive, original), first_copies(&test_negative, original));
        correct += test_positive.iter().filter(is_positive).count();
        correct += test_negative.len() - test_negative.iter().filter(is_positive).count();
    }
    let chance = positives.max(negatives) as f64 / total as f64;
    let p_value = match correct {
        0 => 1.0,
        _ => Binomial::new(chance, total as u64)
            .expect("a share of a positive count lies in (0, 1)")
            .sf(correct as u64 - 1),
    };
    HeldOut { correct, total, accuracy: correct as f64 / total as f64, p_value }
}

/// A number from 0 for each image of a set, one for all copies of an image, in the order in which they first appear.
fn groups(set: &[usize], original: &(dyn Fn(usize) -> usize + Sync)) -> Vec<usize> {
    let mut numbers = BTreeMap::new();
    set.iter()
        .map(|&image| {
            let next = numbers.len();
            *numbers.entry(original(image)).or_insert(next)
        })
        .collect()
}

/// The first of each group of copies.
fn first_copies(set: &[usize], original: &(dyn Fn(usize) -> usize + Sync)) -> Vec<usize> {
    let mut seen = BTreeSet::new();
    set.iter().copied().filter(|&image| seen.insert(original(image))).collect()
}

/// A fold for each position of a set of `size` images; the folds' sizes differ by at most one.
fn fold_of(size: usize, folds: usize, seed: u64) -> Vec<usize> {
    let mut fold_of: Vec<usize> = (0..size).map(|position| position % folds).collect();
    fold_of.shuffle(&mut crate::seed::stream(seed, "cav folds", size as u64));
    fold_of
}
