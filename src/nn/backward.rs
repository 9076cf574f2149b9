//! The backward pass.

use crate::kernels::conv2d::{self, Weight};
use crate::kernels::layout::unflatten;
use crate::kernels::norm::Relu;
use crate::kernels::{bias, norm, pool, repeat};

use super::forward::drop_out;
use super::layer::{Layer, Norm};
use super::layout::Weights;
use super::network::Network;
use super::patterns::Patterns;
use super::tape::{Gradients, Saved, Tape};
use super::workspace::{Buffer, Workspace};

/// What every step of a backward pass works on.
struct Pass<'a, 'b> {
    network: &'a Network,
    weights: &'a Weights,
    patterns: Option<&'a Patterns>,
    tape: Tape,
    wanted: Gradients<'b>,
    grads: Vec<Option<Buffer>>,
    workspace: &'a mut Workspace,
}

impl Network {
    /// Runs a tape backward from the gradient of its output; returns the gradient of the section's
    /// input if it is wanted. The tape must come from [`super::Mode::Train`] or
    /// [`super::Mode::EvalTape`] with the same weights and patterns; parameter gradients need
    /// [`super::Mode::Train`] where a layer has a batch norm.
    pub fn backward(
        &self,
        tape: Tape,
        weights: &Weights,
        patterns: Option<&Patterns>,
        grad_output: Buffer,
        wanted: Gradients<'_>,
        workspace: &mut Workspace,
    ) -> Option<Buffer> {
        let mut grads: Vec<Option<Buffer>> = tape.slots.iter().map(|_| None).collect();
        *grads.last_mut().expect("there is an input slot") = Some(grad_output);
        let section = tape.section.clone();
        let mut pass = Pass { network: self, weights, patterns, tape, wanted, grads, workspace };
        for index in section.clone().rev() {
            if let Some(grad) = pass.grads[index + 1 - section.start].take() {
                pass.layer(index, grad);
            }
        }
        let Pass { tape, mut grads, workspace, .. } = pass;
        tape.recycle(workspace);
        grads[0].take()
    }
}

impl Pass<'_, '_> {
    /// From the gradient of a layer's output to those of its parameters and of the slots that it reads.
    fn layer(&mut self, index: usize, mut grad: Buffer) {
        let start = self.tape.section.start;
        let (layer, batch) = (&self.network.layers[index], self.tape.batch);
        let (source, target) = (layer.source() - start, index + 1 - start);
        let (from, to) = (self.tape.shapes[source], self.tape.shapes[target]);
        let wants_source = source > 0 || self.wanted.input;
        match layer {
            Layer::Convolution { convolution, norm, residual, relu, .. } => {
                let grad_z = self.before_finish(index, norm.as_ref(), *residual, *relu, grad);
                if let Some(bias) = convolution.bias {
                    self.bias_gradient(bias, &grad_z);
                }
                self.product(index, &grad_z);
                self.workspace.give(grad_z);
            }
            Layer::Activation { norm, residual, relu, .. } => {
                let grad_z = self.before_finish(index, norm.as_ref(), *residual, *relu, grad);
                self.add(source, wants_source, grad_z);
            }
            Layer::Linear { bias, relu, .. } => {
                if *relu {
                    mask_by_output(&mut grad, self.output(target));
                }
                self.bias_gradient(*bias, &grad);
                self.product(index, &grad);
                self.workspace.give(grad);
            }
            Layer::MaxPool { kernel, stride, padding, .. } => {
                let geometry = from.max_pool(batch, *kernel, *stride, *padding);
                let saved = std::mem::replace(&mut self.tape.saved[target - 1], Saved::Nothing);
                self.through(source, wants_source, &grad, |grad, to| {
                    if let Saved::MaxPool(argmax) = &saved {
                        pool::max_pool_backward(&geometry, argmax, grad, to);
                    }
                });
                self.workspace.give(grad);
            }
            Layer::GlobalAveragePool { .. } => {
                let positions = from.height * from.width;
                self.through(source, wants_source, &grad, |grad, to| {
                    pool::global_average_pool_backward(from.channels, positions, batch, grad, to);
                });
                self.workspace.give(grad);
            }
            Layer::AdaptiveAveragePool { .. } => {
                let shape = from.adaptive(to, batch);
                self.through(source, wants_source, &grad, |grad, to| {
                    pool::adaptive_average_pool_backward(&shape, grad, to);
                });
                self.workspace.give(grad);
            }
            Layer::Flatten { .. } => {
                self.through(source, wants_source, &grad, |grad, to| {
                    unflatten(batch, from.channels, from.height * from.width, grad, to);
                });
                self.workspace.give(grad);
            }
            Layer::Dropout { probability, .. } => {
                if let Saved::Kept(kept) = &self.tape.saved[target - 1] {
                    let after = grad.to_vec();
                    drop_out(kept, *probability, &after, &mut grad);
                }
                self.add(source, wants_source, grad);
            }
        }
    }

    /// Back through `relu?(norm?(z) + residual?)`: the gradient of z; that of the residual is added to its slot.
    fn before_finish(
        &mut self,
        index: usize,
        norm: Option<&Norm>,
        residual: Option<usize>,
        relu: bool,
        mut grad: Buffer,
    ) -> Buffer {
        let start = self.tape.section.start;
        let (target, added) = (index + 1 - start, residual.is_some());
        let residual = residual.map(|slot| slot - start).filter(|&slot| slot > 0 || self.wanted.input);
        let Some(norm) = norm else {
            if relu {
                mask_by_output(&mut grad, self.output(target));
            }
            if let Some(slot) = residual {
                let mut copy = self.workspace.take(grad.len());
                copy.copy_from_slice(&grad);
                self.add(slot, true, copy);
            }
            return grad;
        };
        let (network, weights) = (self.network, self.weights);
        let scale = weights.parameter(norm.scale);
        let shape = norm::NormShape { channels: scale.len(), batch: self.tape.batch };
        let saved = std::mem::replace(&mut self.tape.saved[target - 1], Saved::Nothing);
        let output = self.tape.slots[target].take();
        let kept = || output.as_deref().expect("an output that cannot be made again is kept");
        let grad_z = match saved {
            Saved::Norm { mut z, mean, variance } => {
                let relu = match (relu, added) {
                    (false, _) => Relu::None,
                    (true, false) => Relu::Own(weights.parameter(norm.shift)),
                    (true, true) => Relu::Out(kept()),
                };
                let (mut grad_scale, mut grad_shift) = (vec![0.0; scale.len()], vec![0.0; scale.len()]);
                norm::batch_norm_train_backward(
                    &mut z,
                    shape,
                    scale,
                    &mean,
                    &variance,
                    network.norm_epsilon,
                    relu,
                    &mut grad,
                    &mut grad_scale,
                    &mut grad_shift,
                );
                if let Some(flat) = self.wanted.parameters.as_deref_mut() {
                    let specs = &weights.layout().parameters;
                    flat[specs[norm.scale].range.clone()].copy_from_slice(&grad_scale);
                    flat[specs[norm.shift].range.clone()].copy_from_slice(&grad_shift);
                }
                z
            }
            _ => {
                let mut grad_z = self.workspace.take(grad.len());
                let variance = weights.buffer(norm.variance);
                let epsilon = network.norm_epsilon;
                norm::batch_norm_eval_backward(shape, scale, variance, epsilon, kept(), relu, &mut grad, &mut grad_z);
                grad_z
            }
        };
        if let Some(output) = output {
            self.workspace.give(output);
        }
        match residual {
            Some(slot) => self.add(slot, true, grad),
            None => self.workspace.give(grad),
        }
        grad_z
    }

    /// Makes a slot's values again where the forward pass did not keep them: the output of a batch
    /// norm and ReLU from their input.
    fn make_again(&mut self, slot: usize) {
        if self.tape.slots[slot].is_some() {
            return;
        }
        let layer = &self.network.layers[slot - 1 + self.tape.section.start];
        if let (Layer::Convolution { norm: Some(norm), relu, .. }, Saved::Norm { z, mean, variance }) =
            (layer, &self.tape.saved[slot - 1])
        {
            let (scale, shift) = (self.weights.parameter(norm.scale), self.weights.parameter(norm.shift));
            let shape = norm::NormShape { channels: scale.len(), batch: self.tape.batch };
            let mut output = self.workspace.take(z.len());
            let epsilon = self.network.norm_epsilon;
            norm::batch_norm_eval(z, shape, scale, shift, mean, variance, epsilon, None, *relu, &mut output);
            self.tape.slots[slot] = Some(output);
        }
    }

    /// A layer's output, which later layers have no use for any more.
    fn output(&self, target: usize) -> &[f32] {
        self.tape.slots[target].as_deref().expect("a layer's output is kept until the layer's backward pass")
    }

    fn bias_gradient(&mut self, bias: usize, grad: &[f32]) {
        if let Some(flat) = self.wanted.parameters.as_deref_mut() {
            let range = self.weights.layout().parameters[bias].range.clone();
            bias::gradient(self.tape.batch, grad, &mut flat[range]);
        }
    }

    /// Back through a layer's product.
    fn product(&mut self, index: usize, grad: &[f32]) {
        let (start, batch) = (self.tape.section.start, self.tape.batch);
        let (operand, times) = self.network.operand(index, &self.tape.section, &self.tape.shapes);
        let (source, own) = (operand - start, self.network.layers[index].source() - start);
        let (weight, mut geometry) =
            self.network.geometry(index, self.tape.shapes[own], batch).expect("only layers that multiply come here");
        geometry.in_channels /= times;
        let pattern = self.patterns.and_then(|patterns| patterns.of(weight));
        if self.wanted.parameters.is_some() {
            self.make_again(source);
        }
        if let Some(flat) = self.wanted.parameters.as_deref_mut() {
            let input = self.tape.slots[source].as_deref().expect("a layer's input is freed after the layer");
            let flat = &mut flat[self.weights.layout().parameters[weight].range.clone()];
            if times > 1 {
                let mut folded = self.workspace.take(geometry.weight_len());
                conv2d::grad_weight(&geometry, None, input, grad, &mut folded);
                repeat::unfold(&folded, times, pattern, flat);
                self.workspace.give(folded);
            } else {
                conv2d::grad_weight(&geometry, pattern, input, grad, flat);
            }
        }
        if source > 0 || self.wanted.input {
            let weight = match &self.tape.saved[index - start] {
                Saved::Folded(folded) if times > 1 => Weight::Dense(folded),
                _ => Weight::of(self.weights.parameter(weight), pattern),
            };
            let slot = &mut self.grads[source];
            let accumulate = slot.is_some();
            let target = slot.get_or_insert_with(|| self.workspace.take(self.tape.shapes[source].len() * batch));
            conv2d::grad_input(&geometry, weight, grad, target, accumulate);
        }
    }

    /// Adds to a slot's gradient what `backward` makes of `grad`.
    fn through(&mut self, slot: usize, wanted: bool, grad: &[f32], backward: impl FnOnce(&[f32], &mut [f32])) {
        if wanted {
            let mut grad_slot = self.workspace.take(self.tape.shapes[slot].len() * self.tape.batch);
            backward(grad, &mut grad_slot);
            self.add(slot, true, grad_slot);
        }
    }

    /// Adds `grad` to a slot's gradient, where that is wanted.
    fn add(&mut self, slot: usize, wanted: bool, grad: Buffer) {
        match &mut self.grads[slot] {
            _ if !wanted => self.workspace.give(grad),
            empty @ None => *empty = Some(grad),
            Some(sum) => {
                sum.iter_mut().zip(&*grad).for_each(|(sum, add)| *sum += add);
                self.workspace.give(grad);
            }
        }
    }
}

fn mask_by_output(grad: &mut [f32], output: &[f32]) {
    for (grad, output) in grad.iter_mut().zip(output) {
        if *output <= 0.0 {
            *grad = 0.0;
        }
    }
}
