//! Masked optimiser steps, one pass over flat slices.

/// One step of SGD with momentum, with PyTorch's semantics (`torch.optim.SGD`, dampening 0, no Nesterov).
///
/// `g = grad + weight_decay·w; buffer = momentum·buffer + g` (`buffer = g` on the first step); `w -= learning_rate·buffer`.
/// Where `mask` is 0, weight and momentum are written as exactly 0. With `momentum == 0` the buffer still holds `g`.
#[expect(
    clippy::too_many_arguments,
    reason = "the hyper-parameters of one formula"
)]
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
    assert_eq!(
        momentum_buffer.len(),
        length,
        "sgd_step: momentum_buffer length"
    );
    if let Some(mask) = mask {
        assert_eq!(mask.len(), length, "sgd_step: mask length");
    }
    let momentum = if first_step { 0.0 } else { momentum };
    for index in 0..length {
        if mask.is_some_and(|mask| mask[index] == 0) {
            weight[index] = 0.0;
            momentum_buffer[index] = 0.0;
            continue;
        }
        let gradient = grad[index] + weight_decay * weight[index];
        let buffer = if first_step {
            gradient
        } else {
            momentum * momentum_buffer[index] + gradient
        };
        momentum_buffer[index] = buffer;
        weight[index] -= learning_rate * buffer;
    }
}

/// One step of Adam or, with `decoupled`, AdamW, with PyTorch's semantics (no AMSGrad). `step` counts from 1.
///
/// Where `mask` is 0, the weight and both moments are written as exactly 0. Kingma & Ba 2015; Loshchilov & Hutter 2019.
#[expect(
    clippy::too_many_arguments,
    reason = "the hyper-parameters of one formula"
)]
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
    assert_eq!(
        second_moment.len(),
        length,
        "adam_step: second_moment length"
    );
    assert!(step >= 1, "adam_step: step counts from 1");
    if let Some(mask) = mask {
        assert_eq!(mask.len(), length, "adam_step: mask length");
    }
    let correction1 = 1.0 - f64::from(beta1).powf(step as f64);
    let correction2 = 1.0 - f64::from(beta2).powf(step as f64);
    let step_size = (f64::from(learning_rate) / correction1) as f32;
    let root_correction2 = correction2.sqrt() as f32;
    let (decay, l2) = if decoupled {
        (1.0 - learning_rate * weight_decay, 0.0)
    } else {
        (1.0, weight_decay)
    };
    for index in 0..length {
        if mask.is_some_and(|mask| mask[index] == 0) {
            weight[index] = 0.0;
            first_moment[index] = 0.0;
            second_moment[index] = 0.0;
            continue;
        }
        let value = weight[index] * decay;
        let gradient = grad[index] + l2 * weight[index];
        let first = beta1 * first_moment[index] + (1.0 - beta1) * gradient;
        let second = beta2 * second_moment[index] + (1.0 - beta2) * gradient * gradient;
        first_moment[index] = first;
        second_moment[index] = second;
        weight[index] = value - step_size * first / (second.sqrt() / root_correction2 + eps);
    }
}
