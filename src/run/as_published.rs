//! The defects found in the code of "Explaining why Lottery Ticket Hypothesis Works or Fails", each
//! a switch of the plan's table `[as_published]`, all off unless a plan names them. They let a
//! study ask how much of the published conclusion is the code.
//!
//! Everything they do stands here. The rest of the program has a hook for each and knows nothing
//! more: [`Training::run_with`] edits a gradient, [`prune_with`] takes another cut, [`Mask`] says
//! what is prunable, [`Cut::gradient_along`] follows another function of the logits, and the rounds
//! ask this table where to rewind and what to explain. A plan with every switch off serialises, and
//! so hashes, as if the table did not exist.
//!
//! [`Training::run_with`]: crate::train::Training::run_with
//! [`prune_with`]: crate::prune::prune_with

use std::collections::BTreeSet;

use candle_core::Tensor;
use nalgebra::DMatrix;
use rand::seq::SliceRandom;

use crate::data::Splits;
use crate::error::{Error, Result};
use crate::explain::saliency::{GRAD_CAM, Map, Method};
use crate::explain::tcav::cav::{Cav, CavKind, fit};
use crate::explain::tcav::{score, sensitivities};
use crate::explain::{Cut, LogitGradient, Maps, Targets};
use crate::nn::{Weights, predicted_class};
use crate::prune::{Mask, Prunable, prune, prune_layers, prune_with};
use crate::seed::stream;
use crate::stats::descriptive::quantile;

use crate::plan::{AsPublished, PrunePlan};
use crate::records::TcavRecord;

/// Weights below this get no gradient under [`AsPublished::freeze_below_epsilon`].
pub const EPSILON: f32 = 6e-7;

/// Grad-CAM as the study's code has it: pooled gradients are added to the activation, not
/// multiplied with it, and nothing is rectified.
const ADDED_GRADIENTS: Method = Method {
    name: GRAD_CAM.name,
    title: "Grad-CAM with added gradients",
    source: "the study's code",
    settings: &[],
    map: Map::AtStage(added_gradients),
};

fn added_gradients(activation: &Tensor, gradient: &Tensor) -> Result<Maps> {
    Maps::signed(activation.broadcast_add(&gradient.mean_keepdim((2, 3))?)?.mean(1)?)
}

/// The splits of a leak.
pub(super) struct Leaked {
    /// As trained and evaluated on: an image may stand in two splits, or twice in one.
    pub(super) splits: Splits,
    /// The same with each image once in a split.
    pub(super) distinct: Splits,
}

impl AsPublished {
    /// The splits with `duplicate_leak`, of the sizes of `clean`; nothing where it is off.
    pub(super) fn leak(&self, clean: &Splits, seed: u64) -> Result<Option<Leaked>> {
        if !self.duplicate_leak {
            return Ok(None);
        }
        let once = clean.train.iter().chain(&clean.validation);
        let mut copies: Vec<usize> = once.flat_map(|&image| [image, image]).collect();
        let [train, validation, test] = [&clean.train, &clean.validation, &clean.test].map(Vec::len);
        if train + validation + test > copies.len() {
            let what =
                format!("{test} is more than the {} copies that the leak leaves for testing", train + validation);
            return Err(Error::config("data.test", what));
        }
        copies.shuffle(&mut stream(seed, "as-published/duplicate-leak", 0));
        let splits = Splits {
            train: copies[..train].to_vec(),
            validation: copies[train..train + validation].to_vec(),
            test: copies[train + validation..train + validation + test].to_vec(),
            duplicates: clean.duplicates,
        };
        let once = |images: &[usize]| {
            let mut seen = BTreeSet::new();
            images.iter().copied().filter(|&image| seen.insert(image)).collect()
        };
        let distinct = Splits {
            train: once(&splits.train),
            validation: once(&splits.validation),
            test: once(&splits.test),
            duplicates: splits.duplicates,
        };
        Ok(Some(Leaked { splits, distinct }))
    }

    /// `freeze_below_epsilon`: zeroes the gradient of weights below [`EPSILON`].
    pub fn edit_gradient(&self, weights: &Weights, gradient: &mut [f32]) {
        if !self.freeze_below_epsilon {
            return;
        }
        for spec in weights.layout().parameters.iter().filter(|spec| !spec.kind.named_bias()) {
            let values = &weights.parameters[spec.range.clone()];
            for (gradient, &value) in gradient[spec.range.clone()].iter_mut().zip(values) {
                if value < EPSILON {
                    *gradient = 0.0;
                }
            }
        }
    }

    /// `prune_batch_norm`: what pruning may take.
    pub fn prunable(&self) -> Prunable {
        if self.prune_batch_norm { Prunable::WeightsAndNormScales } else { Prunable::Weights }
    }

    /// `per_layer_percentile`: the pruning of one round, counted from 1, by `plan`, or as published.
    ///
    /// # Errors
    /// As [`prune`].
    pub fn prune(&self, plan: &PrunePlan, round: usize, weights: &Weights, mask: &Mask) -> Result<Mask> {
        let fraction = plan.fraction_of(round);
        if !plan.layers.is_empty() {
            return prune_layers(weights, mask, fraction, &plan.layers, &plan.exclude);
        }
        if !self.per_layer_percentile {
            return prune(weights, mask, plan.scope, fraction, &plan.exclude);
        }
        prune_with(weights, mask, &plan.exclude, |values, masks| {
            for (values, mask) in values.iter().zip(masks) {
                percentile_cut(values, mask, fraction)?;
            }
            Ok(())
        })
    }

    /// Whether rewinding leaves something out.
    pub(super) fn rewinds_in_part(&self) -> bool {
        self.keep_buffers || self.alias_biases
    }

    /// `keep_buffers` and `alias_biases`: puts back into the rewound `weights` of round `round` ≥ 1
    /// what the study's code did not rewind, from the network before it.
    pub(super) fn undo_rewind(&self, round: usize, weights: &mut Weights, previous: &Weights) {
        if self.keep_buffers {
            weights.buffers.copy_from_slice(&previous.buffers);
        }
        if self.alias_biases && round > 1 {
            let layout = weights.layout().clone();
            for spec in layout.parameters.iter().filter(|spec| spec.kind.named_bias()) {
                weights.parameters[spec.range.clone()].copy_from_slice(&previous.parameters[spec.range.clone()]);
            }
        }
    }

    /// `explain_best_validation`: what keeps the best epoch while a network trains.
    pub(super) fn best_epoch(&self, steps_per_epoch: u64) -> Option<BestEpoch> {
        self.explain_best_validation.then_some(BestEpoch { steps_per_epoch, best: Ok(None) })
    }

    /// `probability_gradient`: the gradient that Grad-CAM and TCAV follow, `(N, C, H, W)`.
    ///
    /// # Errors
    /// As [`Cut::gradient`].
    pub fn gradient(&self, cut: &Cut, activation: &Tensor, targets: Targets<'_>) -> Result<LogitGradient> {
        if !self.probability_gradient {
            return cut.gradient(activation, targets);
        }
        cut.gradient_along(activation, |image, logits| {
            let class = match targets {
                Targets::Class(class) => Some(class),
                Targets::PerImage(labels) => labels.get(image).copied(),
                Targets::Predicted => Some(predicted_class(logits)),
            };
            let class = class.filter(|&class| class < logits.len());
            let class = class.ok_or_else(|| Error::input(format!("image {image} has no target class")))?;
            Ok(log_probability_gradient(logits, class))
        })
    }

    /// `cam_added_gradients`: what stands in the place of Grad-CAM.
    pub fn method(&self, method: Method) -> Method {
        if self.cam_added_gradients && method == GRAD_CAM { ADDED_GRADIENTS } else { method }
    }

    /// Whether maps are those of `method` as defined, so that checks of the method are checks of them.
    pub(super) fn maps_as_defined(&self, method: Method) -> bool {
        !self.probability_gradient && self.method(method).title == method.title
    }

    /// `no_random_cavs`: each concept's CAV against the images of all others; nothing where it is off.
    pub(super) fn cavs_against_rest(
        &self,
        gram: &DMatrix<f64>,
        concepts: &[Vec<usize>],
        kind: CavKind,
    ) -> Result<Option<Vec<Cav>>> {
        if !self.no_random_cavs {
            return Ok(None);
        }
        let against_rest = |concept: &Vec<usize>| {
            let rest: BTreeSet<usize> =
                concepts.iter().flatten().filter(|image| !concept.contains(image)).copied().collect();
            let rest: Vec<usize> = rest.into_iter().collect();
            fit(gram, concept, &rest, kind).map_err(|error| Error::statistics("TCAV", error.to_string()))
        };
        concepts.iter().map(against_rest).collect::<Result<_>>().map(Some)
    }
}

/// `no_random_cavs`: replaces the score of a record by that of one CAV, which nothing tests.
/// `cross` = `G Aᵀ` `(class images, images)`.
pub(super) fn score_without_test(record: &mut TcavRecord, cross: &DMatrix<f64>, cav: &Cav) {
    record.score = score(&sensitivities(cross, cav)).score;
    record.score_interval = None;
    record.score_p = 1.0;
    record.legacy_welch_p = None;
}

/// Clears the mask where a weight's magnitude lies strictly below the interpolated percentile of
/// the non-zero magnitudes. A weight that is zero goes too, as the study's code cannot tell it from
/// a pruned one.
fn percentile_cut(values: &[f32], mask: &mut [u8], fraction: f64) -> Result<()> {
    let alive: Vec<f64> = values.iter().filter(|value| **value != 0.0).map(|value| f64::from(value.abs())).collect();
    if alive.is_empty() {
        return Ok(());
    }
    let percentile = quantile(&alive, fraction).map_err(|error| Error::config("prune.fraction", error.to_string()))?;
    for (bit, value) in mask.iter_mut().zip(values) {
        if f64::from(value.abs()) < percentile {
            *bit = 0;
        }
    }
    Ok(())
}

/// Gradient of `log softmax(logits)[class]`, in single precision like the study's: where the
/// probability rounds to 1 its own entry is exactly 0.
fn log_probability_gradient(logits: &[f32], class: usize) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = logits.iter().map(|logit| (logit - largest).exp()).sum();
    let probability = |logit: f32| (logit - largest).exp() / sum;
    logits.iter().enumerate().map(|(k, &logit)| f32::from(u8::from(k == class)) - probability(logit)).collect()
}

/// The weights after the epoch of highest validation accuracy, the first of equals.
pub(super) struct BestEpoch {
    steps_per_epoch: u64,
    best: Result<Option<(f64, Weights)>>,
}

impl BestEpoch {
    /// After `step` steps: at the end of an epoch, keeps the weights if they are better than those before.
    pub(super) fn see(&mut self, step: u64, weights: &Weights, accuracy: impl FnOnce() -> Result<f64>) {
        let Ok(best) = &self.best else { return };
        if !step.is_multiple_of(self.steps_per_epoch) {
            return;
        }
        match accuracy() {
            Err(error) => self.best = Err(error),
            Ok(accuracy) if best.as_ref().is_none_or(|(before, _)| accuracy > *before) => {
                self.best = Ok(Some((accuracy, weights.clone())));
            }
            Ok(_) => {}
        }
    }

    /// What was kept.
    ///
    /// # Errors
    /// When an evaluation failed, or no epoch ended.
    pub(super) fn weights(self) -> Result<Weights> {
        let best = self.best?;
        best.map(|(_, weights)| weights)
            .ok_or_else(|| Error::config("as_published.explain_best_validation", "no epoch of training ends"))
    }
}
