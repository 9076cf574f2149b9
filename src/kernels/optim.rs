//! Masked optimiser steps, one pass over flat slices.

use crate::simd::versions;
use rayon::prelude::*;

/// Values of a task.
const CHUNK: usize = 1 << 15;

/// What SGD does to a weight and its momentum.
#[inline(always)]
fn sgd_one(weight: f32, grad: f32, buffer: f32, hyper: [f32; 3], first_step: bool) -> (f32, f32) {
    let [learning_rate, momentum, weight_decay] = hyper;
    let gradient = grad + weight_decay * weight;
    let moved = if first_step { gradient } else { momentum * buffer + gradient };
    (weight - learning_rate * moved, moved)
}

versions! {
    fn sgd(weight: &mut [f32], grad: &[f32], buffer: &mut [f32], hyper: [f32; 3], first_step: bool) {
        for ((weight, grad), buffer) in weight.iter_mut().zip(grad).zip(buffer) {
            (*weight, *buffer) = sgd_one(*weight, *grad, *buffer, hyper, first_step);
        }
    }
}

versions! {
    /// [`sgd`] where `mask` is not 0; elsewhere weight and momentum become 0.
    fn sgd_masked(mask: &[u8], weight: &mut [f32], grad: &[f32], buffer: &mut [f32], hyper: [f32; 3], first_step: bool) {
        for (((weight, grad), buffer), bit) in weight.iter_mut().zip(grad).zip(buffer).zip(mask) {
            let (new_weight, new_buffer) = sgd_one(*weight, *grad, *buffer, hyper, first_step);
            (*weight, *buffer) = if *bit == 0 { (0.0, 0.0) } else { (new_weight, new_buffer) };
        }
    }
}

/// What Adam does to a weight and its moments.
#[inline(always)]
fn adam_one(weight: f32, grad: f32, [first, second]: [f32; 2], hyper: [f32; 7]) -> (f32, [f32; 2]) {
    let [step_size, beta1, beta2, eps, root_correction2, decay, l2] = hyper;
    let gradient = grad + l2 * weight;
    let first = beta1 * first + (1.0 - beta1) * gradient;
    let second = beta2 * second + (1.0 - beta2) * gradient * gradient;
    (weight * decay - step_size * first / (second.sqrt() / root_correction2 + eps), [first, second])
}

versions! {
    fn adam(weight: &mut [f32], grad: &[f32], first: &mut [f32], second: &mut [f32], hyper: [f32; 7]) {
        for (((weight, grad), first), second) in weight.iter_mut().zip(grad).zip(first).zip(second) {
            (*weight, [*first, *second]) = adam_one(*weight, *grad, [*first, *second], hyper);
        }
    }
}

versions! {
    /// [`adam`] where `mask` is not 0; elsewhere weight and moments become 0.
    fn adam_masked(mask: &[u8], weight: &mut [f32], grad: &[f32], first: &mut [f32], second: &mut [f32], hyper: [f32; 7]) {
        for ((((weight, grad), first), second), bit) in weight.iter_mut().zip(grad).zip(first).zip(second).zip(mask) {
            let (new_weight, moments) = adam_one(*weight, *grad, [*first, *second], hyper);
            (*weight, [*first, *second]) = if *bit == 0 { (0.0, [0.0; 2]) } else { (new_weight, moments) };
        }
    }
}

/// One step of SGD with momentum, with PyTorch's semantics (`torch.optim.SGD`, dampening 0, no Nesterov).
///
/// `g = grad + weight_decay·w; buffer = momentum·buffer + g` (`buffer = g` on the first step);
/// `w -= learning_rate·buffer`. With `momentum == 0` the buffer still holds `g`. Where `mask` is 0,
/// weight and buffer become exactly 0.
#[expect(clippy::too_many_arguments, reason = "the hyper-parameters of one formula")]
pub fn sgd_step(
    weight: &mut [f32],
    grad: &[f32],
    mask: Option<&[u8]>,
    momentum_buffer: &mut [f32],
    learning_rate: f32,
    momentum: f32,
    weight_decay: f32,
    first_step: bool,
) {
    let length = weight.len();
    assert_eq!(grad.len(), length, "sgd_step: grad length");
    assert_eq!(momentum_buffer.len(), length, "sgd_step: momentum_buffer length");
    assert!(mask.is_none_or(|mask| mask.len() == length), "sgd_step: mask length");
    let buffers = weight.par_chunks_mut(CHUNK).zip(momentum_buffer.par_chunks_mut(CHUNK)).zip(grad.par_chunks(CHUNK));
    buffers.enumerate().for_each(|(nth, ((weight, buffer), grad))| {
        let hyper = [learning_rate, momentum, weight_decay];
        match mask {
            None => sgd(weight, grad, buffer, hyper, first_step),
            Some(mask) => sgd_masked(&mask[nth * CHUNK..], weight, grad, buffer, hyper, first_step),
        }
    });
}

/// One step of Adam or, with `decoupled`, AdamW, with PyTorch's semantics (no AMSGrad). `step` counts from 1.
///
/// Where `mask` is 0, weight and moments become exactly 0. Kingma & Ba 2015; Loshchilov & Hutter 2019.
#[expect(clippy::too_many_arguments, reason = "the hyper-parameters of one formula")]
pub fn adam_step(
    weight: &mut [f32],
    grad: &[f32],
    mask: Option<&[u8]>,
    first_moment: &mut [f32],
    second_moment: &mut [f32],
    learning_rate: f32,
    beta1: f32,
    beta2: f32,
    eps: f32,
    weight_decay: f32,
    decoupled: bool,
    step: u64,
) {
    let length = weight.len();
    assert_eq!(grad.len(), length, "adam_step: grad length");
    assert_eq!(first_moment.len(), length, "adam_step: first_moment length");
    assert_eq!(second_moment.len(), length, "adam_step: second_moment length");
    assert!(step >= 1, "adam_step: step counts from 1");
    assert!(mask.is_none_or(|mask| mask.len() == length), "adam_step: mask length");
    let correction1 = 1.0 - f64::from(beta1).powf(step as f64);
    let correction2 = 1.0 - f64::from(beta2).powf(step as f64);
    let step_size = (f64::from(learning_rate) / correction1) as f32;
    let root_correction2 = correction2.sqrt() as f32;
    let (decay, l2) = if decoupled { (1.0 - learning_rate * weight_decay, 0.0) } else { (1.0, weight_decay) };
    let hyper = [step_size, beta1, beta2, eps, root_correction2, decay, l2];
    let moments = first_moment.par_chunks_mut(CHUNK).zip(second_moment.par_chunks_mut(CHUNK));
    weight.par_chunks_mut(CHUNK).zip(grad.par_chunks(CHUNK)).zip(moments).enumerate().for_each(
        |(nth, ((weight, grad), (first, second)))| match mask {
            None => adam(weight, grad, first, second, hyper),
            Some(mask) => adam_masked(&mask[nth * CHUNK..], weight, grad, first, second, hyper),
        },
    );
}

#[cfg(test)]
mod tests;
