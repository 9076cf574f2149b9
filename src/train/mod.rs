//! Training and evaluation.

mod live;
mod on_device;
mod statistics;

use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::data::{Images, for_each_batch};
use crate::error::{Error, Result};
use crate::kernels::layout::{filled, to_kernels};
use crate::kernels::on_worker;
use crate::model::Model;
use crate::nn::optimizer::{Optimizer, OptimizerKind, OptimizerState};
use crate::nn::schedule::{Schedule, ScheduleKind};
use crate::nn::{Draws, Gradients, Mode, Shape3, Weights, Workspace, predicted_class};
use crate::progress::{Event, Observer};
use crate::prune::Mask;
use crate::seed;

use live::Live;
pub use statistics::renew_statistics;

/// How a network is trained; checked by the plan.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainConfig {
    /// The optimiser.
    pub optimizer: OptimizerKind,
    /// Learning rate before the schedule.
    pub learning_rate: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Shape of the learning rate.
    pub schedule: ScheduleKind,
    /// Steps of linear warm-up.
    pub warmup_steps: u64,
    /// Passes over the training images.
    pub epochs: u64,
    /// Images per step; a last incomplete batch is dropped.
    pub batch_size: usize,
    /// Density of a layer below which its masked products skip what is pruned; a measured crossover
    /// where absent. Changes speed, and results only by rounding.
    pub sparse_below: Option<f64>,
}

impl TrainConfig {
    /// Optimiser steps of one epoch.
    pub fn steps_per_epoch(&self, images: usize) -> u64 {
        (images / self.batch_size) as u64
    }

    /// Optimiser steps of the whole training.
    pub fn total_steps(&self, images: usize) -> u64 {
        self.steps_per_epoch(images) * self.epochs
    }
}

/// Sees the weights and may change the loss's gradient before the optimiser takes its step.
pub type EditGradient<'a> = &'a mut (dyn FnMut(&Weights, &mut [f32]) + Send);

/// The state of a training after whole epochs.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// Steps done, counted from the start of training.
    pub step: u64,
    /// The weights.
    pub weights: Weights,
    /// What the optimiser remembers.
    pub optimizer: OptimizerState,
    /// Sum of the losses of each epoch, and steps.
    pub losses: Vec<(f64, u64)>,
}

/// Sees the state after each epoch but the last: steps done, weights, what the optimiser remembers, losses.
pub type Keep<'a> = &'a mut dyn FnMut(u64, &Weights, &OptimizerState, &[(f64, u64)]) -> Result<()>;

/// What a training run reports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainSummary {
    /// Mean loss of each epoch that was trained (in part or whole), in nats.
    pub epoch_loss: Vec<f64>,
    /// Optimiser steps taken.
    pub steps: u64,
}

/// One training run: the network, its images, and the random streams of its replicate.
pub struct Training<'a> {
    /// The network, and where it computes.
    pub model: &'a Model,
    /// Training images.
    pub images: &'a dyn Images,
    /// Constants.
    pub config: &'a TrainConfig,
    /// Seed of the data order: the order of an epoch depends on this and the epoch alone.
    pub seed: u64,
}

impl Training<'_> {
    /// Trains from step `from` up to, not including, step `to` with a fresh optimiser; the learning
    /// rate and the data order are those of the steps. After every step `w (1 − m) = 0`.
    /// `after_step` sees the number of steps done and the weights, which is how θ_k is taken.
    ///
    /// # Errors
    /// [`Error::Interrupted`] when the observer breaks; a loss that is not finite is an error that names the step.
    pub fn run(
        &self,
        weights: &mut Weights,
        mask: &Mask,
        from: u64,
        to: u64,
        observer: &dyn Observer,
        after_step: impl FnMut(u64, &Weights),
    ) -> Result<TrainSummary> {
        self.run_with(weights, mask, from, to, observer, None, &|_| true, after_step, None)
    }

    /// [`Training::run`] with `keep`: a state to go on from, if there is one, and who sees later
    /// ones. It ends with the same bits. On a device there is none.
    ///
    /// With `edit_gradient`, which sees the weights and may change the loss's gradient before the
    /// optimiser takes its step (where a plan's `as_published.freeze_below_epsilon` comes in); of a
    /// pruned network both may be packed ([`crate::nn::Patterns`]). And with `after_step` called
    /// only after the steps that `sees` names. On a device each look at weights or gradient is a
    /// copy to the host.
    ///
    /// # Errors
    /// As [`Training::run`].
    #[expect(clippy::too_many_arguments, reason = "the hooks of one loop; a struct of closures would only rename them")]
    pub fn run_with(
        &self,
        weights: &mut Weights,
        mask: &Mask,
        from: u64,
        to: u64,
        observer: &dyn Observer,
        mut edit_gradient: Option<EditGradient<'_>>,
        sees: &dyn Fn(u64) -> bool,
        mut after_step: impl FnMut(u64, &Weights),
        keep: Option<(Option<Kept>, Keep<'_>)>,
    ) -> Result<TrainSummary> {
        let batch = self.config.batch_size;
        let shape = Shape3::from(self.images.shape());
        let steps_per_epoch = self.config.steps_per_epoch(self.images.len());
        if steps_per_epoch == 0 {
            let what = format!("{batch} is more than the {} training images", self.images.len());
            return Err(Error::config("train.batch_size", what));
        }
        let schedule = Schedule {
            kind: self.config.schedule,
            warmup_steps: self.config.warmup_steps,
            steps_per_epoch,
            total_steps: self.config.total_steps(self.images.len()),
        };
        let bits = Some(mask.bits()).filter(|bits| bits.contains(&0));
        mask.apply(weights);
        if let Some(device) = self.model.compute.device() {
            let engine = device.training();
            let steps = from..to;
            return self.run_on(engine, weights, bits, steps, schedule, observer, edit_gradient, sees, &mut after_step);
        }
        let patterns = bits.map(|bits| self.model.network.patterns(bits, shape, batch, self.config.sparse_below));
        let patterns = patterns.transpose()?;
        let (kind, decay) = (self.config.optimizer, self.config.weight_decay as f32);
        let mut live =
            Live::new(weights, patterns.as_ref(), bits, |parameters| Optimizer::new(kind, decay, parameters));
        let mut losses: Vec<(f64, u64)> = Vec::new();
        let mut first = from;
        let (kept, mut keep) = keep.unzip();
        if let Some(kept) = kept.flatten() {
            live.resume(kept.weights, kept.optimizer)?;
            (first, losses) = (kept.step, kept.losses);
        }
        let mut gradient = vec![0.0; live.weights().parameters.len()];
        let mut workspace = Workspace::default();
        while first < to {
            let epoch = first / steps_per_epoch;
            let order = epoch_order(self.seed, epoch, self.images.len());
            let last = to.min((epoch + 1) * steps_per_epoch);
            let place = |step: u64| (step % steps_per_epoch) as usize * batch;
            let batches: Vec<&[usize]> = (first..last).map(|step| &order[place(step)..place(step) + batch]).collect();
            losses.push((0.0, 0));
            let mut step = first;
            for_each_batch(self.images, &batches, Some(epoch), |indices, pixels| {
                // Reading stays outside: it may itself need a worker while this thread waits for it.
                let loss = on_worker(|| -> Result<f64> {
                    let mut input = workspace.take(pixels.len());
                    to_kernels(batch, shape.channels, shape.height * shape.width, pixels, &mut input);
                    let labels: Vec<usize> = indices.iter().map(|&index| self.images.label(index)).collect();
                    let (network, patterns) = (&self.model.network, live.patterns());
                    let tape = network.forward(
                        network.whole(),
                        Mode::Train(Draws { seed: self.seed, step }),
                        live.weights(),
                        patterns,
                        input,
                        shape,
                        batch,
                        &mut workspace,
                    )?;
                    network.update_running_statistics(&tape, live.weights_mut());
                    let mut grad_logits = workspace.take(tape.output().len());
                    let loss = cross_entropy(tape.output(), &labels, &mut grad_logits);
                    finite(loss, step, self.config.learning_rate * schedule.factor(step))?;
                    let wanted = Gradients { parameters: Some(&mut gradient), input: false };
                    network.backward(tape, live.weights(), patterns, grad_logits, wanted, &mut workspace);
                    if let Some(edit_gradient) = &mut edit_gradient {
                        edit_gradient(live.weights(), &mut gradient);
                    }
                    let rate = self.config.learning_rate * schedule.factor(step);
                    live.step(&gradient, rate as f32);
                    Ok(loss)
                })?;
                if let Some(last) = losses.last_mut() {
                    *last = (last.0 + loss, last.1 + 1);
                }
                step += 1;
                if sees(step) {
                    after_step(step, live.whole());
                }
                observer.tell(&Event::StepDone { epoch, step: step - from, loss })
            })?;
            first = last;
            if let Some(keep) = keep.as_mut().filter(|_| first < to) {
                let (weights, state) = live.state();
                keep(first, weights, &state, &losses)?;
            }
        }
        let last = to.saturating_sub(1);
        finite_weights(live.whole(), last, self.config.learning_rate * schedule.factor(last))?;
        let epoch_loss = losses.iter().map(|(sum, count)| sum / *count as f64).collect();
        Ok(TrainSummary { epoch_loss, steps: to.saturating_sub(from) })
    }
}

/// The weights after the last step, of which no later loss would tell.
fn finite_weights(weights: &Weights, step: u64, learning_rate: f64) -> Result<()> {
    let whole = weights.parameters.iter().chain(&weights.buffers).all(|value| value.is_finite());
    finite(if whole { 0.0 } else { f64::NAN }, step, learning_rate)
}

/// Whether training may go on after a step's loss.
fn finite(loss: f64, step: u64, learning_rate: f64) -> Result<()> {
    if loss.is_finite() { Ok(()) } else { Err(Error::Diverged { step, loss, learning_rate }) }
}

/// The order in which an epoch visits `count` images: a function of seed and epoch, not of history.
pub fn epoch_order(seed: u64, epoch: u64, count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    order.shuffle(&mut seed::stream(seed, "data-order", epoch));
    order
}

/// Mean cross-entropy of logits `(K, N)` in nats, and its gradient.
pub fn cross_entropy(logits: &[f32], labels: &[usize], gradient: &mut [f32]) -> f64 {
    let batch = labels.len();
    let classes = logits.len() / batch;
    let mut loss = 0.0;
    for (image, &label) in labels.iter().enumerate() {
        let at = |class: usize| f64::from(logits[class * batch + image]);
        let largest = (0..classes).map(at).fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = (0..classes).map(|class| (at(class) - largest).exp()).sum();
        loss += largest + sum.ln() - at(label);
        for class in 0..classes {
            let share = (at(class) - largest).exp() / sum - f64::from(u8::from(class == label));
            gradient[class * batch + image] = (share / batch as f64) as f32;
        }
    }
    loss / batch as f64
}

/// Logits `(N, K)` of the images `indices`, in eval mode, `batch` images at a time.
///
/// # Errors
/// When images do not fit the network.
pub fn logits(
    model: &Model,
    weights: &Weights,
    images: &dyn Images,
    indices: &[usize],
    batch: usize,
) -> Result<Vec<Vec<f32>>> {
    let shape = Shape3::from(images.shape());
    let network = &model.network;
    if let Some(device) = model.compute.device() {
        return on_device::logits(network, device.exact(), weights, images, indices, batch);
    }
    let patterns = network.patterns_at_rest(weights);
    let packed = patterns.as_ref().map(|patterns| patterns.pack(weights));
    let weights = packed.as_ref().unwrap_or(weights);
    let mut workspace = Workspace::default();
    let mut rows = Vec::with_capacity(indices.len());
    for chunk in indices.chunks(batch) {
        let count = filled(chunk.len());
        let mut pixels = vec![0.0; shape.len() * count];
        images.read(chunk, None, &mut pixels[..shape.len() * chunk.len()])?;
        let mut input = workspace.take(pixels.len());
        to_kernels(count, shape.channels, shape.height * shape.width, &pixels, &mut input);
        let (whole, patterns) = (network.whole(), patterns.as_ref());
        let tape =
            on_worker(|| network.forward(whole, Mode::Eval, weights, patterns, input, shape, count, &mut workspace))?;
        let output = tape.output();
        for image in 0..chunk.len() {
            rows.push(output.iter().skip(image).step_by(count).copied().collect());
        }
        tape.recycle(&mut workspace);
    }
    Ok(rows)
}

/// Mean cross-entropy in nats and the share classified correctly, in eval mode.
///
/// # Errors
/// When images do not fit the network.
pub fn loss_and_accuracy(model: &Model, weights: &Weights, images: &dyn Images, batch: usize) -> Result<(f64, f64)> {
    let indices: Vec<usize> = (0..images.len()).collect();
    let (mut loss, mut right) = (0.0, 0);
    for (index, row) in logits(model, weights, images, &indices, batch)?.iter().enumerate() {
        loss += cross_entropy(row, &[images.label(index)], &mut vec![0.0; row.len()]);
        right += usize::from(predicted_class(row) == images.label(index));
    }
    let images = images.len().max(1) as f64;
    Ok((loss / images, right as f64 / images))
}

/// Whether each image is classified correctly, in eval mode.
///
/// # Errors
/// When images do not fit the network.
pub fn evaluate(model: &Model, weights: &Weights, images: &dyn Images, batch: usize) -> Result<Vec<bool>> {
    let indices: Vec<usize> = (0..images.len()).collect();
    let rows = logits(model, weights, images, &indices, batch)?;
    Ok(rows.iter().enumerate().map(|(index, row)| predicted_class(row) == images.label(index)).collect())
}
