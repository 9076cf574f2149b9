//! Running a [`Network`] forward and backward, with a tape of what the backward pass needs.
//!
//! Activations are kept in the kernels' order ([`crate::kernels::layout::Order`]), batch innermost. Buffers come from a [`Workspace`] and go
//! back to it, so a training step allocates nothing after the first.

use std::ops::Range;

use crate::error::Result;
use crate::kernels::{conv2d, norm, pool};

use super::layout::Weights;
use super::network::{Layer, Network, Patterns, Shape3};

/// How batch norm behaves and what a forward pass keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Batch statistics; running statistics are updated; everything is kept for [`Network::backward`].
    Train,
    /// Running statistics, which are constants; outputs are kept for [`Network::backward`].
    EvalTape,
    /// Running statistics; every slot is freed after its last use.
    Eval,
}

/// Buffers for reuse. One per thread of control.
#[derive(Default)]
pub struct Workspace {
    free: Vec<Vec<f32>>,
}

impl Workspace {
    /// A buffer of `len` floats with arbitrary content.
    pub fn take(&mut self, len: usize) -> Vec<f32> {
        // The smallest free buffer that is large enough keeps large ones for large maps.
        let fit = self
            .free
            .iter()
            .enumerate()
            .filter(|(_, buffer)| buffer.capacity() >= len)
            .min_by_key(|(_, buffer)| buffer.capacity())
            .map(|(index, _)| index);
        let mut buffer = fit.map_or_else(|| Vec::with_capacity(len), |index| self.free.swap_remove(index));
        buffer.resize(len, 0.0);
        buffer
    }

    /// Takes a buffer back.
    pub fn give(&mut self, buffer: Vec<f32>) {
        if buffer.capacity() > 0 {
            self.free.push(buffer);
        }
    }
}

/// What layer keeps between forward and backward, beside its output.
enum Saved {
    Nothing,
    /// Input of the batch norm and the batch's mean and biased variance.
    Norm {
        z: Vec<f32>,
        mean: Vec<f32>,
        variance: Vec<f32>,
    },
    /// Offset of the maximum in each window.
    MaxPool(Vec<u8>),
}

/// The result of a forward pass over a section.
pub struct Tape {
    section: Range<usize>,
    batch: usize,
    shapes: Vec<Shape3>,
    slots: Vec<Option<Vec<f32>>>,
    saved: Vec<Saved>,
}

impl Tape {
    /// Shape of the output, per image.
    pub fn output_shape(&self) -> Shape3 {
        self.shapes[self.shapes.len() - 1]
    }

    /// The output, in the kernels' order (logits: `(K, N)`).
    pub fn output(&self) -> &[f32] {
        self.slots.last().and_then(Option::as_deref).unwrap_or(&[])
    }

    /// Gives every buffer back.
    pub fn recycle(self, workspace: &mut Workspace) {
        for slot in self.slots.into_iter().flatten() {
            workspace.give(slot);
        }
        for saved in self.saved {
            if let Saved::Norm { z, .. } = saved {
                workspace.give(z);
            }
        }
    }
}

/// Gradients that a backward pass should produce.
pub struct Gradients<'a> {
    /// Flat gradient of the parameters, overwritten for every parameter of the section; `None`: not wanted.
    pub parameters: Option<&'a mut [f32]>,
    /// Whether the gradient of the section's input is wanted.
    pub input: bool,
}

impl Network {
    /// Runs `section` on `input`, in the kernels' order. Weights are only read: after [`Mode::Train`] the caller takes the batch
    /// statistics over with [`Network::update_running_statistics`].
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
        input: Vec<f32>,
        shape: Shape3,
        batch: usize,
        workspace: &mut Workspace,
    ) -> Result<Tape> {
        let shapes = self.shapes(section.clone(), shape)?;
        let mut slots: Vec<Option<Vec<f32>>> = vec![Some(input)];
        let mut saved = Vec::with_capacity(section.len());
        for index in section.clone() {
            let layer = &self.layers[index];
            let source = layer.source() - section.start;
            let to = shapes[index + 1 - section.start];
            let mut output = workspace.take(to.len() * batch);
            let from_values = slots[source].as_deref().expect("slots are freed after their last use only");
            let mut keep = Saved::Nothing;
            match layer {
                Layer::Convolution { norm: batch_norm, residual, relu, .. } => {
                    let (weight, geometry) =
                        self.geometry(index, shapes[source], batch).expect("a convolution multiplies");
                    let pattern = patterns.and_then(|patterns| patterns[index].as_ref());
                    let residual = residual.map(|slot| {
                        slots[slot - section.start].as_deref().expect("slots are freed after their last use only")
                    });
                    match batch_norm {
                        None => {
                            conv2d::forward(&geometry, weights.parameter(weight), pattern, from_values, &mut output);
                            finish_without_norm(&mut output, residual, *relu);
                        }
                        Some(bn) => {
                            let mut z = workspace.take(output.len());
                            conv2d::forward(&geometry, weights.parameter(weight), pattern, from_values, &mut z);
                            let (scale, shift) = (weights.parameter(bn.scale), weights.parameter(bn.shift));
                            if mode == Mode::Train {
                                let mut mean = vec![0.0; to.channels];
                                let mut variance = vec![0.0; to.channels];
                                norm::batch_norm_train(
                                    &z,
                                    norm::NormShape { channels: to.channels, batch },
                                    scale,
                                    shift,
                                    self.norm_epsilon,
                                    residual,
                                    *relu,
                                    &mut output,
                                    &mut mean,
                                    &mut variance,
                                );
                                keep = Saved::Norm { z, mean, variance };
                            } else {
                                norm::batch_norm_eval(
                                    &z,
                                    norm::NormShape { channels: to.channels, batch },
                                    scale,
                                    shift,
                                    weights.buffer(bn.mean),
                                    weights.buffer(bn.variance),
                                    self.norm_epsilon,
                                    residual,
                                    *relu,
                                    &mut output,
                                );
                                workspace.give(z);
                            }
                        }
                    }
                }
                Layer::MaxPool { kernel, stride, padding, .. } => {
                    let geometry = pool_geometry(shapes[source], batch, *kernel, *stride, *padding);
                    let mut argmax = vec![0; output.len()];
                    pool::max_pool(&geometry, from_values, &mut output, &mut argmax);
                    keep = Saved::MaxPool(argmax);
                }
                Layer::GlobalAveragePool { .. } => {
                    let from = shapes[source];
                    pool::global_average_pool(from.channels, from.height * from.width, batch, from_values, &mut output);
                }
                Layer::Linear { bias, .. } => {
                    let (weight, geometry) =
                        self.geometry(index, shapes[source], batch).expect("a linear layer multiplies");
                    let pattern = patterns.and_then(|patterns| patterns[index].as_ref());
                    conv2d::forward(&geometry, weights.parameter(weight), pattern, from_values, &mut output);
                    for (row, bias) in output.chunks_exact_mut(batch).zip(weights.parameter(*bias)) {
                        row.iter_mut().for_each(|value| *value += bias);
                    }
                }
            }
            slots.push(Some(output));
            saved.push(keep);
            if mode == Mode::Eval {
                for slot in 0..slots.len() - 1 {
                    let needed = self.layers[index + 1..section.end].iter().any(|later| {
                        later.source() == slot + section.start || later.residual() == Some(slot + section.start)
                    });
                    if !needed && let Some(buffer) = slots[slot].take() {
                        workspace.give(buffer);
                    }
                }
            }
        }
        Ok(Tape { section, batch, shapes, slots, saved })
    }

    /// Blends the batch statistics of a training tape into the running ones; the variance unbiased, as in PyTorch.
    pub fn update_running_statistics(&self, tape: &Tape, weights: &mut Weights) {
        let layout = weights.layout().clone();
        for (index, saved) in tape.section.clone().zip(&tape.saved) {
            let (Layer::Convolution { norm: Some(norm), .. }, Saved::Norm { z, mean, variance }) =
                (&self.layers[index], saved)
            else {
                continue;
            };
            let count = (z.len() / mean.len()) as f32;
            let unbiased = count / (count - 1.0).max(1.0);
            for (buffer, new, factor) in [(norm.mean, mean, 1.0), (norm.variance, variance, unbiased)] {
                let running = &mut weights.buffers[layout.buffers[buffer].range.clone()];
                for (old, new) in running.iter_mut().zip(new) {
                    *old += self.norm_momentum * (new * factor - *old);
                }
            }
        }
    }

    /// Runs a tape backward from the gradient of its output; returns the gradient of the section's input if
    /// it is wanted. The tape must come from [`Mode::Train`] or [`Mode::EvalTape`] with the same weights and patterns;
    /// parameter gradients need [`Mode::Train`] where a layer has a batch norm.
    pub fn backward(
        &self,
        mut tape: Tape,
        weights: &Weights,
        patterns: Option<&Patterns>,
        grad_output: Vec<f32>,
        mut wanted: Gradients<'_>,
        workspace: &mut Workspace,
    ) -> Option<Vec<f32>> {
        let (start, batch) = (tape.section.start, tape.batch);
        let mut grads: Vec<Option<Vec<f32>>> = tape.slots.iter().map(|_| None).collect();
        *grads.last_mut().expect("there is an input slot") = Some(grad_output);
        for index in tape.section.clone().rev() {
            let layer = &self.layers[index];
            let source = layer.source() - start;
            let target = index + 1 - start;
            let Some(mut grad) = grads[target].take() else {
                continue;
            };
            let from = tape.shapes[source];
            let to = tape.shapes[target];
            let wants_source = source > 0 || wanted.input;
            match layer {
                Layer::Convolution { norm: batch_norm, residual, relu, .. } => {
                    let output = tape.slots[target].take().expect("each output is used once");
                    let grad_z = match batch_norm {
                        None => {
                            if *relu {
                                mask_by_output(&mut grad, &output);
                            }
                            let mut grad_z = workspace.take(grad.len());
                            grad_z.copy_from_slice(&grad);
                            grad_z
                        }
                        Some(bn) => match std::mem::replace(&mut tape.saved[target - 1], Saved::Nothing) {
                            Saved::Norm { mut z, mean, variance } => {
                                let mut grad_scale = vec![0.0; to.channels];
                                let mut grad_shift = vec![0.0; to.channels];
                                norm::batch_norm_train_backward(
                                    &mut z,
                                    norm::NormShape { channels: to.channels, batch },
                                    weights.parameter(bn.scale),
                                    &mean,
                                    &variance,
                                    self.norm_epsilon,
                                    &output,
                                    *relu,
                                    &mut grad,
                                    &mut grad_scale,
                                    &mut grad_shift,
                                );
                                if let Some(flat) = wanted.parameters.as_deref_mut() {
                                    let specs = &self.layout.parameters;
                                    flat[specs[bn.scale].range.clone()].copy_from_slice(&grad_scale);
                                    flat[specs[bn.shift].range.clone()].copy_from_slice(&grad_shift);
                                }
                                z
                            }
                            _ => {
                                let mut grad_z = workspace.take(grad.len());
                                norm::batch_norm_eval_backward(
                                    norm::NormShape { channels: to.channels, batch },
                                    weights.parameter(bn.scale),
                                    weights.buffer(bn.variance),
                                    self.norm_epsilon,
                                    &output,
                                    *relu,
                                    &mut grad,
                                    &mut grad_z,
                                );
                                grad_z
                            }
                        },
                    };
                    workspace.give(output);
                    match residual {
                        Some(slot) if *slot > start || wanted.input => {
                            add_or_move(&mut grads[slot - start], grad, workspace);
                        }
                        _ => workspace.give(grad),
                    }
                    self.multiply_backward(
                        index,
                        from,
                        batch,
                        &tape,
                        source,
                        weights,
                        patterns,
                        &grad_z,
                        &mut wanted,
                        wants_source.then_some(&mut grads[source]),
                        workspace,
                    );
                    workspace.give(grad_z);
                }
                Layer::Linear { bias, .. } => {
                    if let Some(flat) = wanted.parameters.as_deref_mut() {
                        let range = self.layout.parameters[*bias].range.clone();
                        for (sum, row) in flat[range].iter_mut().zip(grad.chunks_exact(batch)) {
                            *sum = row.iter().sum();
                        }
                    }
                    self.multiply_backward(
                        index,
                        from,
                        batch,
                        &tape,
                        source,
                        weights,
                        patterns,
                        &grad,
                        &mut wanted,
                        wants_source.then_some(&mut grads[source]),
                        workspace,
                    );
                    workspace.give(grad);
                }
                Layer::MaxPool { kernel, stride, padding, .. } => {
                    if wants_source {
                        let geometry = pool_geometry(from, batch, *kernel, *stride, *padding);
                        let mut grad_source = workspace.take(from.len() * batch);
                        if let Saved::MaxPool(argmax) = &tape.saved[target - 1] {
                            pool::max_pool_backward(&geometry, argmax, &grad, &mut grad_source);
                        }
                        add_or_move(&mut grads[source], grad_source, workspace);
                    }
                    workspace.give(grad);
                }
                Layer::GlobalAveragePool { .. } => {
                    if wants_source {
                        let mut grad_source = workspace.take(from.len() * batch);
                        let positions = from.height * from.width;
                        pool::global_average_pool_backward(from.channels, positions, batch, &grad, &mut grad_source);
                        add_or_move(&mut grads[source], grad_source, workspace);
                    }
                    workspace.give(grad);
                }
            }
        }
        tape.recycle(workspace);
        grads[0].take()
    }

    #[expect(clippy::too_many_arguments, reason = "the shared tail of two match arms, private")]
    fn multiply_backward(
        &self,
        index: usize,
        from: Shape3,
        batch: usize,
        tape: &Tape,
        source: usize,
        weights: &Weights,
        patterns: Option<&Patterns>,
        grad: &[f32],
        wanted: &mut Gradients<'_>,
        grad_source: Option<&mut Option<Vec<f32>>>,
        workspace: &mut Workspace,
    ) {
        let (weight, geometry) = self.geometry(index, from, batch).expect("only layers that multiply come here");
        let pattern = patterns.and_then(|patterns| patterns[index].as_ref());
        if let Some(flat) = wanted.parameters.as_deref_mut() {
            let input = tape.slots[source].as_deref().expect("a layer's input is freed after the layer");
            let range = self.layout.parameters[weight].range.clone();
            conv2d::grad_weight(&geometry, pattern, input, grad, &mut flat[range]);
        }
        if let Some(slot) = grad_source {
            let accumulate = slot.is_some();
            let target = slot.get_or_insert_with(|| workspace.take(from.len() * batch));
            conv2d::grad_input(&geometry, weights.parameter(weight), pattern, grad, target, accumulate);
        }
    }
}

fn pool_geometry(from: Shape3, batch: usize, kernel: usize, stride: usize, padding: usize) -> pool::PoolShape {
    pool::PoolShape {
        batch,
        channels: from.channels,
        in_height: from.height,
        in_width: from.width,
        kernel,
        stride,
        padding,
    }
}

fn finish_without_norm(output: &mut [f32], residual: Option<&[f32]>, relu: bool) {
    if let Some(residual) = residual {
        output.iter_mut().zip(residual).for_each(|(value, add)| *value += add);
    }
    if relu {
        output.iter_mut().for_each(|value| *value = value.max(0.0));
    }
}

fn mask_by_output(grad: &mut [f32], output: &[f32]) {
    for (grad, output) in grad.iter_mut().zip(output) {
        if *output <= 0.0 {
            *grad = 0.0;
        }
    }
}

fn add_or_move(slot: &mut Option<Vec<f32>>, grad: Vec<f32>, workspace: &mut Workspace) {
    match slot {
        None => *slot = Some(grad),
        Some(sum) => {
            sum.iter_mut().zip(&grad).for_each(|(sum, add)| *sum += add);
            workspace.give(grad);
        }
    }
}
