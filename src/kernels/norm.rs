//! Batch normalisation in the batch-innermost layout, fused with the residual add and the ReLU that follow it.
//!
//! A channel's plane of `H·W·N` values is contiguous. Ioffe & Szegedy 2015; variances are biased (divided by `H·W·N`).

use crate::kernels::simd::versions;
use rayon::prelude::*;

/// Values summed in `f32`, lane by lane, before their sum goes into an `f64`.
const BLOCK: usize = 2048;
/// Independent partial sums.
const SUMS: usize = 64;
/// Values a task should have at least.
const TASK: usize = 1 << 15;

/// Channels of a task, for planes of a given size.
fn channels_per_task(plane: usize) -> usize {
    TASK.div_ceil(plane.max(1))
}

#[inline(always)]
fn block_sum(length: usize, mut term: impl FnMut(usize) -> f32) -> f64 {
    let mut sums = [0.0f32; SUMS];
    let whole = length / SUMS * SUMS;
    for start in (0..whole).step_by(SUMS) {
        for (lane, sum) in sums.iter_mut().enumerate() {
            *sum += term(start + lane);
        }
    }
    for index in whole..length {
        sums[index - whole] += term(index);
    }
    fold(sums)
}

/// The partial sums added up, as a tree.
#[inline(always)]
fn fold(mut sums: [f32; SUMS]) -> f64 {
    let mut width = SUMS / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    f64::from(sums[0])
}

versions! {
    /// Mean and biased variance, in two passes.
    fn moments(z: &[f32]) -> (f32, f32) {
        let mut sum = 0.0;
        for z in z.chunks(BLOCK) {
            sum += block_sum(z.len(), |index| z[index]);
        }
        let mean = sum / z.len() as f64;
        let centre = mean as f32;
        let mut squares = 0.0;
        for z in z.chunks(BLOCK) {
            squares += block_sum(z.len(), |index| (z[index] - centre) * (z[index] - centre));
        }
        // The centre was rounded to f32: what that adds to the mean square is taken off again.
        let shift = mean - f64::from(centre);
        (centre, (squares / z.len() as f64 - shift * shift).max(0.0) as f32)
    }
}

versions! {
    /// `out = relu(z·scale + shift + residual)`
    fn apply(z: &[f32], centre: f32, scale: f32, shift: f32, residual: Option<&[f32]>, relu: bool, out: &mut [f32]) {
        // The maximum keeps NaN (as PyTorch's ReLU does): a comparison with NaN is false.
        let rectify = |value: f32| if relu && value <= 0.0 { 0.0 } else { value };
        match residual {
            None => {
                for (out, z) in out.iter_mut().zip(z) {
                    *out = rectify((z - centre) * scale + shift);
                }
            }
            Some(residual) => {
                for ((out, z), residual) in out.iter_mut().zip(z).zip(residual) {
                    *out = rectify((z - centre) * scale + shift + residual);
                }
            }
        }
    }
}

versions! {
    /// Masks `grad_out` by `out > 0` (with `relu`) and returns Σ grad and Σ grad·(z − centre).
    fn masked_sums(z: &[f32], centre: f32, out: &[f32], relu: bool, grad_out: &mut [f32]) -> (f64, f64) {
        let (mut sum, mut product) = (0.0, 0.0);
        for (nth, (z, grad)) in z.chunks(BLOCK).zip(grad_out.chunks_mut(BLOCK)).enumerate() {
            let (mut sums, mut products) = ([0.0f32; SUMS], [0.0f32; SUMS]);
            let out = if relu { &out[nth * BLOCK..][..grad.len()] } else { &[] };
            let whole = grad.len() / SUMS * SUMS;
            for start in (0..whole).step_by(SUMS) {
                let (z, grad) = (&z[start..start + SUMS], &mut grad[start..start + SUMS]);
                if relu {
                    let out = &out[start..start + SUMS];
                    for lane in 0..SUMS {
                        grad[lane] = if out[lane] <= 0.0 { 0.0 } else { grad[lane] };
                    }
                }
                for lane in 0..SUMS {
                    sums[lane] += grad[lane];
                    products[lane] += grad[lane] * (z[lane] - centre);
                }
            }
            for index in whole..grad.len() {
                if relu && out[index] <= 0.0 {
                    grad[index] = 0.0;
                }
                sums[index - whole] += grad[index];
                products[index - whole] += grad[index] * (z[index] - centre);
            }
            sum += fold(sums);
            product += fold(products);
        }
        (sum, product)
    }
}

versions! {
    /// `z = (grad − mean_grad − (z − centre)·slope)·scale`
    fn spread(z: &mut [f32], centre: f32, grad: &[f32], scale: f32, mean_grad: f32, slope: f32) {
        for (z, grad) in z.iter_mut().zip(grad) {
            *z = (grad - mean_grad - (*z - centre) * slope) * scale;
        }
    }
}

versions! {
    fn masked_scale(out: &[f32], relu: bool, scale: f32, grad_out: &mut [f32], grad_z: &mut [f32]) {
        if relu {
            for (grad, out) in grad_out.iter_mut().zip(out) {
                *grad = if *out <= 0.0 { 0.0 } else { *grad };
            }
        }
        for (grad_z, grad) in grad_z.iter_mut().zip(&*grad_out) {
            *grad_z = grad * scale;
        }
    }
}

fn plane(length: usize, channels: usize, name: &str) -> usize {
    assert!(channels > 0 && length.is_multiple_of(channels), "{name}: length is not a multiple of channels");
    length / channels
}

fn check(z: &[f32], channels: usize, per_channel: [&[f32]; 4], residual: Option<&[f32]>, out: &[f32]) {
    for (values, name) in per_channel.into_iter().zip(["gamma", "beta", "mean", "var"]) {
        assert_eq!(values.len(), channels, "batch_norm: {name} length");
    }
    assert_eq!(out.len(), z.len(), "batch_norm: out length");
    if let Some(residual) = residual {
        assert_eq!(residual.len(), z.len(), "batch_norm: residual length");
    }
}

/// `out = relu(gamma·(z − mean)/√(var + eps) + beta + residual)` with the batch's own statistics, which are written to
/// `mean` and `var` (biased). Without `relu` the outer function is the identity.
#[expect(clippy::too_many_arguments, reason = "the terms of one formula")]
pub fn batch_norm_train(
    z: &[f32],
    channels: usize,
    gamma: &[f32],
    beta: &[f32],
    eps: f32,
    residual: Option<&[f32]>,
    relu: bool,
    out: &mut [f32],
    mean: &mut [f32],
    var: &mut [f32],
) {
    let plane = plane(z.len(), channels, "batch_norm_train: z");
    check(z, channels, [gamma, beta, mean, var], residual, out);
    if plane == 0 {
        return;
    }
    out.par_chunks_mut(plane)
        .zip(mean.par_iter_mut().zip(var.par_iter_mut()))
        .enumerate()
        .with_min_len(channels_per_task(plane))
        .for_each(|(channel, (out, (mean, var)))| {
            let range = channel * plane..(channel + 1) * plane;
            let z = &z[range.clone()];
            (*mean, *var) = moments(z);
            let scale = gamma[channel] / (*var + eps).sqrt();
            apply(z, *mean, scale, beta[channel], residual.map(|residual| &residual[range]), relu, out);
        });
}

/// As [`batch_norm_train`] with given statistics.
#[expect(clippy::too_many_arguments, reason = "the terms of one formula")]
pub fn batch_norm_eval(
    z: &[f32],
    channels: usize,
    gamma: &[f32],
    beta: &[f32],
    running_mean: &[f32],
    running_var: &[f32],
    eps: f32,
    residual: Option<&[f32]>,
    relu: bool,
    out: &mut [f32],
) {
    let plane = plane(z.len(), channels, "batch_norm: z");
    check(z, channels, [gamma, beta, running_mean, running_var], residual, out);
    if plane == 0 {
        return;
    }
    out.par_chunks_mut(plane).enumerate().with_min_len(channels_per_task(plane)).for_each(|(channel, out)| {
        let range = channel * plane..(channel + 1) * plane;
        let scale = gamma[channel] / (running_var[channel] + eps).sqrt();
        let residual = residual.map(|residual| &residual[range.clone()]);
        apply(&z[range], running_mean[channel], scale, beta[channel], residual, relu, out);
    });
}

/// Gradient of [`batch_norm_train`].
///
/// `z` comes in as the batch norm's input and goes out as its gradient; `grad_out` comes in as the gradient of `out` and
/// goes out masked by `out > 0` (with `relu`), which is the gradient of the residual.
#[expect(clippy::too_many_arguments, reason = "the terms of one formula")]
pub fn batch_norm_train_backward(
    z: &mut [f32],
    channels: usize,
    gamma: &[f32],
    mean: &[f32],
    var: &[f32],
    eps: f32,
    out: &[f32],
    relu: bool,
    grad_out: &mut [f32],
    grad_gamma: &mut [f32],
    grad_beta: &mut [f32],
) {
    let plane = plane(z.len(), channels, "batch_norm_train_backward: z");
    for (length, name) in [
        (gamma.len(), "gamma"),
        (mean.len(), "mean"),
        (var.len(), "var"),
        (grad_gamma.len(), "grad_gamma"),
        (grad_beta.len(), "grad_beta"),
    ] {
        assert_eq!(length, channels, "batch_norm_train_backward: {name} length");
    }
    assert_eq!(grad_out.len(), z.len(), "batch_norm_train_backward: grad_out length");
    if relu {
        assert_eq!(out.len(), z.len(), "batch_norm_train_backward: out length");
    }
    if plane == 0 {
        return;
    }
    z.par_chunks_mut(plane)
        .zip(grad_out.par_chunks_mut(plane))
        .zip(grad_gamma.par_iter_mut().zip(grad_beta.par_iter_mut()))
        .enumerate()
        .with_min_len(channels_per_task(plane))
        .for_each(|(channel, ((z, grad_out), (grad_gamma, grad_beta)))| {
            let out = if relu { &out[channel * plane..(channel + 1) * plane] } else { &[] };
            let (sum, product) = masked_sums(z, mean[channel], out, relu, grad_out);
            let inverse = 1.0 / (f64::from(var[channel]) + f64::from(eps)).sqrt();
            *grad_beta = sum as f32;
            *grad_gamma = (product * inverse) as f32;
            let slope = product * inverse * inverse / plane as f64;
            let scale = gamma[channel] * inverse as f32;
            spread(z, mean[channel], grad_out, scale, (sum / plane as f64) as f32, slope as f32);
        });
}

/// Gradient of [`batch_norm_eval`], whose statistics are constants. `grad_z` is written; `grad_out` is masked by `out > 0`
/// (with `relu`) in place.
#[expect(clippy::too_many_arguments, reason = "the terms of one formula")]
pub fn batch_norm_eval_backward(
    channels: usize,
    gamma: &[f32],
    running_var: &[f32],
    eps: f32,
    out: &[f32],
    relu: bool,
    grad_out: &mut [f32],
    grad_z: &mut [f32],
) {
    let plane = plane(grad_out.len(), channels, "batch_norm_eval_backward: grad_out");
    assert_eq!(gamma.len(), channels, "batch_norm_eval_backward: gamma length");
    assert_eq!(running_var.len(), channels, "batch_norm_eval_backward: running_var length");
    assert_eq!(grad_z.len(), grad_out.len(), "batch_norm_eval_backward: grad_z length");
    if relu {
        assert_eq!(out.len(), grad_out.len(), "batch_norm_eval_backward: out length");
    }
    if plane == 0 {
        return;
    }
    grad_out
        .par_chunks_mut(plane)
        .zip(grad_z.par_chunks_mut(plane))
        .enumerate()
        .with_min_len(channels_per_task(plane))
        .for_each(|(channel, (grad_out, grad_z))| {
            let out = if relu { &out[channel * plane..(channel + 1) * plane] } else { &[] };
            masked_scale(out, relu, gamma[channel] / (running_var[channel] + eps).sqrt(), grad_out, grad_z);
        });
}

#[cfg(test)]
mod tests;
