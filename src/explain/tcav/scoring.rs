//! What a class's gradients say about each concept, class images in blocks.

use std::collections::BTreeMap;

use nalgebra::DMatrix;
use rayon::prelude::*;

use crate::stats::exchangeability::PairScore;

use super::cav::{Cav, CavError};
use super::pairs::{ClassScores, ConceptScores, PairCavs, Run, check_cross, effect_of, ordered, sensitivities, set_of};

/// Sensitivities, scores and effects of all concepts for one class, whose gradients enter by
/// `cross` = `G Aᵀ` `(class images, images)`.
///
/// # Errors
/// `cross` has no row or not one column per image of the Gram matrix, or all random images are in one of the concepts.
pub fn score_class(cavs: &PairCavs, cross: &DMatrix<f64>) -> Result<ClassScores, CavError> {
    let mut scoring = Scoring::new(cavs);
    scoring.add(cross)?;
    scoring.finish()
}

/// [`score_class`] of class images that come in blocks: of each only its sensitivity to a concept
/// against each random set is kept. The numbers have the same bits for every partition into blocks.
pub(super) struct Scoring<'a> {
    cavs: &'a PairCavs,
    pairs: Vec<(&'a (usize, usize), &'a Cav)>,
    tallies: Vec<Tally>,
    /// Sum of `g·a` over the class images, of each image.
    sums: Vec<f64>,
    class_images: usize,
}

/// What is known of a pair's sensitivities so far.
#[derive(Clone, Default)]
struct Tally {
    positive: usize,
    negative: usize,
    /// The sensitivities, of a concept against a random set.
    kept: Vec<f64>,
}

impl<'a> Scoring<'a> {
    pub(super) fn new(cavs: &'a PairCavs) -> Self {
        let pairs: Vec<_> = cavs.cavs.iter().collect();
        let tallies = vec![Tally::default(); pairs.len()];
        Self { cavs, pairs, tallies, sums: vec![0.0; cavs.images], class_images: 0 }
    }

    /// Adds some class images, by their products `(class images, images)`.
    ///
    /// # Errors
    /// No class image, or not one column for each image of the Gram matrix.
    pub(super) fn add(&mut self, cross: &DMatrix<f64>) -> Result<(), CavError> {
        check_cross(cross, self.cavs.images)?;
        self.class_images += cross.nrows();
        for (sum, column) in self.sums.iter_mut().zip(cross.column_iter()) {
            column.iter().for_each(|product| *sum += product);
        }
        self.tallies.par_iter_mut().zip(&self.pairs).for_each(|(tally, (pair, cav))| {
            let sensitivities = sensitivities(cross, cav);
            tally.positive += sensitivities.iter().filter(|s| **s > 0.0).count();
            tally.negative += sensitivities.iter().filter(|s| **s < 0.0).count();
            if self.cavs.held_out.contains_key(pair) {
                tally.kept.extend(sensitivities);
            }
        });
        Ok(())
    }

    /// `ḡ·a` of each image, `ḡ` the mean gradient.
    pub(super) fn means(&self) -> Vec<f64> {
        self.sums.iter().map(|sum| sum / self.class_images as f64).collect()
    }

    /// # Errors
    /// There was no class image, or all random images are in one of the concepts.
    pub(super) fn finish(mut self) -> Result<ClassScores, CavError> {
        let (cavs, means) = (self.cavs, self.means());
        if self.class_images == 0 {
            return Err(CavError::Gradients { rows: 0, columns: cavs.images, images: cavs.images });
        }
        let mut by_pair: BTreeMap<(usize, usize), Tally> =
            self.pairs.iter().map(|(pair, _)| **pair).zip(std::mem::take(&mut self.tallies)).collect();
        let share = |count: usize| count as f64 / self.class_images as f64;
        let counted = |positive: usize, tally: &Tally| PairScore {
            score: share(positive),
            ties: share(self.class_images - tally.positive - tally.negative),
        };
        let mut kept: BTreeMap<(usize, usize), Vec<f64>> =
            by_pair.iter_mut().map(|(pair, tally)| (*pair, std::mem::take(&mut tally.kept))).collect();
        // The CAV of the swapped pair is -w.
        let pair_score = |a: usize, b: usize| match &by_pair[&ordered(a, b)] {
            tally if a < b => counted(tally.positive, tally),
            tally => counted(tally.negative, tally),
        };
        let count = cavs.sets.concepts.len();
        let mut concepts = Vec::with_capacity(count);
        for (concept, images) in cavs.sets.concepts.iter().enumerate() {
            let runs = cavs.of_concept(concept).map(|(random, cav)| {
                let pair = (concept, count + random);
                let PairScore { score, ties } = pair_score(pair.0, pair.1);
                let held_out = &cavs.held_out[&pair];
                Run {
                    random,
                    score,
                    ties,
                    sensitivity: kept.remove(&pair).unwrap_or_default(),
                    heldout_accuracy: held_out.accuracy,
                    heldout_p_value: held_out.p_value,
                    train_accuracy: cav.train_accuracy,
                    intercept: cav.intercept,
                    weight_norm: cav.weight_norm,
                    kkt_residual: cav.kkt_residual,
                    state: cav.state,
                }
            });
            let runs = runs.collect();
            let set = |member| set_of(count, concept, member);
            let family = cavs.design.iter().map(|&(a, b)| pair_score(set(a), set(b))).collect();
            let effect = effect_of(&means, images, &cavs.sets.random).ok_or(CavError::NoRandomImage(concept))?;
            concepts.push(ConceptScores { runs, family, effect });
        }
        let random = cavs.sets.random.len();
        let random_baseline = (0..random).map(|i| pair_score(count + i, count + (i + 1) % random)).collect();
        Ok(ClassScores { concepts, random_baseline })
    }
}
