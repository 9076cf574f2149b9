//! The forward pass.

use std::ops::Range;

use rand::RngCore;

use crate::error::Result;
use crate::kernels::conv2d::{self, Weight};
use crate::kernels::layout::flatten;
use crate::kernels::{bias, norm, pool, repeat};
use crate::seed;

use super::at_rest::Convolved;
use super::layer::{Layer, Norm};
use super::layout::Weights;
use super::network::Network;
use super::patterns::Patterns;
use super::shape::Shape3;
use super::tape::{Draws, Mode, Saved, Tape};
use super::workspace::{Buffer, Workspace};

/// Floats of a map up to which it is made again in the backward pass.
const MADE_AGAIN: usize = 1 << 21;

impl Network {
    /// Runs `section` on `input`, in the kernels' order. Weights are only read: after
    /// [`Mode::Train`] the caller takes the batch statistics over with
    /// [`Network::update_running_statistics`]. With `patterns` the weights are packed by them.
    ///
    /// # Errors
    /// When `input` does not fit the section.
    #[expect(clippy::too_many_arguments, reason = "one call site per mode; a struct would only rename them")]
    pub fn forward(
        &self,
        section: Range<usize>,
        mode: Mode,
        weights: &Weights,
        patterns: Option<&Patterns>,
        input: Buffer,
        shape: Shape3,
        batch: usize,
        workspace: &mut Workspace,
    ) -> Result<Tape> {
        let shapes = self.shapes(section.clone(), shape)?;
        let mut slots: Vec<Option<Buffer>> = vec![Some(input)];
        let mut saved = Vec::with_capacity(section.len());
        let mut layers = section.clone();
        while let Some(mut index) = layers.next() {
            let layer = &self.layers[index];
            let source = layer.source() - section.start;
            let pool = if mode == Mode::Eval { self.pool_behind(&section, index, &shapes, batch) } else { None };
            let (from, to) = (shapes[source], shapes[index + 1 + usize::from(pool.is_some()) - section.start]);
            let mut output = workspace.take(to.len() * batch);
            let held = |slot: usize| slots[slot].as_deref().expect("slots are freed after their last use only");
            let from_values = held(source);
            let residual = layer.residual().map(|slot| held(slot - section.start));
            let mut keep = Saved::Nothing;
            let (operand, times) = self.operand(index, &section, &shapes);
            let geometry = self.geometry(index, from, batch);
            let operands = || {
                let (weight, geometry) = geometry.expect("only layers that multiply come here");
                let pattern = patterns.and_then(|patterns| patterns.of(weight));
                (geometry, Weight::of(weights.parameter(weight), pattern), held(operand - section.start))
            };
            let product = |output: &mut [f32]| {
                let (mut geometry, weight, input) = operands();
                if times > 1 {
                    geometry.in_channels /= times;
                    let mut folded = vec![0.0; geometry.weight_len()];
                    repeat::fold(weight, times, &mut folded);
                    conv2d::forward(&geometry, Weight::Dense(&folded), input, output);
                    return folded;
                }
                conv2d::forward(&geometry, weight, input, output);
                Vec::new()
            };
            match layer {
                Layer::Convolution { convolution, norm, relu, .. } if !mode.trains() => {
                    let (geometry, weight, input) = operands();
                    let bias = convolution.bias.map(|bias| weights.parameter(bias));
                    let norm = norm.as_ref().map(|norm| self.at_rest(norm, weights, residual, *relu));
                    let convolved = Convolved { geometry, weight, input, bias, norm, residual, relu: *relu };
                    match &pool {
                        None => convolved.whole(&mut output),
                        Some((pool, rows)) => convolved.pooled(pool, *rows, &mut output, workspace),
                    }
                }
                Layer::Convolution { convolution, norm, relu, .. } => {
                    let bias = convolution.bias.map(|bias| weights.parameter(bias));
                    product(&mut output);
                    match norm {
                        None => bias::finish(to.channels, batch, bias, residual, *relu, &mut output),
                        Some(norm) => {
                            if bias.is_some() {
                                bias::finish(to.channels, batch, bias, None, false, &mut output);
                            }
                            keep = self.normalise(norm, mode, weights, batch, residual, *relu, &mut output, workspace);
                        }
                    }
                }
                Layer::Activation { norm, relu, .. } => match norm {
                    None => {
                        output.copy_from_slice(from_values);
                        bias::finish(to.channels, batch, None, residual, *relu, &mut output);
                    }
                    Some(norm) => {
                        output.copy_from_slice(from_values);
                        keep = self.normalise(norm, mode, weights, batch, residual, *relu, &mut output, workspace);
                    }
                },
                Layer::MaxPool { kernel, stride, padding, .. } => {
                    let geometry = from.max_pool(batch, *kernel, *stride, *padding);
                    if mode == Mode::Eval {
                        pool::max_pool_rows(&geometry, 0..to.height, 0, from_values, &mut output);
                    } else {
                        let mut argmax = vec![0; output.len()];
                        pool::max_pool(&geometry, from_values, &mut output, &mut argmax);
                        keep = Saved::MaxPool(argmax);
                    }
                }
                Layer::GlobalAveragePool { .. } => {
                    pool::global_average_pool(from.channels, from.height * from.width, batch, from_values, &mut output);
                }
                Layer::AdaptiveAveragePool { .. } => {
                    pool::adaptive_average_pool(&from.adaptive(to, batch), from_values, &mut output);
                }
                Layer::Flatten { .. } => {
                    flatten(batch, from.channels, from.height * from.width, from_values, &mut output);
                }
                Layer::Dropout { probability, .. } => match mode {
                    Mode::Train(draws) => {
                        let kept = draw(draws, index, *probability, output.len());
                        drop_out(&kept, *probability, from_values, &mut output);
                        keep = Saved::Kept(kept);
                    }
                    Mode::EvalTape | Mode::Eval => output.copy_from_slice(from_values),
                },
                Layer::Linear { bias, relu, .. } => {
                    keep = Saved::Folded(product(&mut output));
                    bias::finish(to.channels, batch, Some(weights.parameter(*bias)), None, *relu, &mut output);
                }
            }
            if pool.is_some() {
                // The convolution's own map never was.
                slots.push(None);
                saved.push(Saved::Nothing);
                index = layers.next().unwrap_or(index);
            }
            slots.push(Some(output));
            saved.push(keep);
            if mode != Mode::EvalTape {
                for slot in 0..slots.len() - 1 {
                    if mode.trains() && !self.made_again(&section, slot, slots[slot].as_deref()) {
                        continue;
                    }
                    let needed = self.is_read(&section, &shapes, slot + section.start, index + 1);
                    if !needed && let Some(buffer) = slots[slot].take() {
                        workspace.give(buffer);
                    }
                }
            }
        }
        Ok(Tape { section, batch, shapes, slots, saved })
    }

    /// Whether a layer of the section from number `from` on reads `slot`.
    pub(super) fn is_read(&self, section: &Range<usize>, shapes: &[Shape3], slot: usize, from: usize) -> bool {
        (from..section.end).any(|later| {
            let (layer, (operand, _)) = (&self.layers[later], self.operand(later, section, shapes));
            operand == slot || layer.source() == slot || layer.residual() == Some(slot)
        })
    }

    /// Whether the backward pass makes the values of a slot again from what its batch norm keeps,
    /// rather than have them kept as well: of a ResNet-18 a quarter of the maps. Those too large
    /// for the caches would be read from main memory once more.
    fn made_again(&self, section: &Range<usize>, slot: usize, values: Option<&[f32]>) -> bool {
        // The first slot is the section's input.
        let layer = self.layers[section.clone()][..slot].last();
        let alone = matches!(layer, Some(Layer::Convolution { norm: Some(_), residual: None, .. }));
        alone && values.is_some_and(|values| values.len() <= MADE_AGAIN)
    }

    /// Of z, which is in `output`: `output = relu?(norm(z) + residual?)`. What the backward pass
    /// needs is the tape's; while training that is z.
    #[expect(clippy::too_many_arguments, reason = "the shared tail of two match arms, private")]
    fn normalise(
        &self,
        norm: &Norm,
        mode: Mode,
        weights: &Weights,
        batch: usize,
        residual: Option<&[f32]>,
        relu: bool,
        output: &mut Buffer,
        workspace: &mut Workspace,
    ) -> Saved {
        let (scale, shift) = (weights.parameter(norm.scale), weights.parameter(norm.shift));
        let shape = norm::NormShape { channels: scale.len(), batch };
        let epsilon = self.norm_epsilon;
        if mode.trains() {
            let (mut mean, mut variance) = (vec![0.0; scale.len()], vec![0.0; scale.len()]);
            let normalised = workspace.take(output.len());
            let z = std::mem::replace(output, normalised);
            norm::batch_norm_train(&z, shape, scale, shift, epsilon, residual, relu, output, &mut mean, &mut variance);
            return Saved::Norm { z, mean, variance };
        }
        self.at_rest(norm, weights, residual, relu).apply(output, batch);
        Saved::Nothing
    }

    /// A batch norm with its running statistics.
    fn at_rest<'a>(
        &self,
        norm: &Norm,
        weights: &'a Weights,
        residual: Option<&'a [f32]>,
        relu: bool,
    ) -> norm::AtRest<'a> {
        let [scale, shift] = [norm.scale, norm.shift].map(|index| weights.parameter(index));
        let [mean, variance] = [norm.mean, norm.variance].map(|index| weights.buffer(index));
        norm::AtRest::new(scale, shift, mean, variance, self.norm_epsilon, residual, relu)
    }

    /// Blends the batch statistics of a training tape into the running ones; the variance unbiased, as in PyTorch.
    pub fn update_running_statistics(&self, tape: &Tape, weights: &mut Weights) {
        self.blend_statistics(tape, weights, self.norm_momentum);
    }

    /// [`Network::update_running_statistics`] with another weight of the new batch: 1/i in the i-th
    /// of several makes their mean.
    pub fn blend_statistics(&self, tape: &Tape, weights: &mut Weights, share: f32) {
        let layout = weights.layout().clone();
        for (index, saved) in tape.section.clone().zip(&tape.saved) {
            let (Some(norm), Saved::Norm { z, mean, variance }) = (self.layers[index].norm(), saved) else {
                continue;
            };
            let count = (z.len() / mean.len()) as f32;
            let unbiased = count / (count - 1.0).max(1.0);
            for (buffer, new, factor) in [(norm.mean, mean, 1.0), (norm.variance, variance, unbiased)] {
                let running = &mut weights.buffers[layout.buffers[buffer].range.clone()];
                for (old, new) in running.iter_mut().zip(new) {
                    *old += share * (new * factor - *old);
                }
            }
        }
    }
}

/// Which of `count` values a dropout layer keeps in one step.
fn draw(draws: Draws, layer: usize, probability: f32, count: usize) -> Vec<bool> {
    let mut stream = seed::stream(draws.seed, &format!("dropout/{layer}"), draws.step);
    let bound = (f64::from(probability) * 2.0_f64.powi(32)) as u64;
    (0..count).map(|_| u64::from(stream.next_u32()) >= bound).collect()
}

/// `to = from / (1 − p)` where kept, else 0.
pub(super) fn drop_out(kept: &[bool], probability: f32, from: &[f32], to: &mut [f32]) {
    let scale = 1.0 / (1.0 - probability);
    for ((to, from), &kept) in to.iter_mut().zip(from).zip(kept) {
        *to = if kept { from * scale } else { 0.0 };
    }
}
