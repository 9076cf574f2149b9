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
            if relu {
                for (grad, out) in grad.iter_mut().zip(&out[nth * BLOCK..]) {
                    *grad = if *out <= 0.0 { 0.0 } else { *grad };
                }
            }
            let z = &z[..grad.len()];
            sum += block_sum(grad.len(), |index| grad[index]);
            product += block_sum(grad.len(), |index| grad[index] * (z[index] - centre));
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
    assert!(
        channels > 0 && length.is_multiple_of(channels),
        "{name}: length is not a multiple of channels"
    );
    length / channels
}

fn check(
    z: &[f32],
    channels: usize,
    per_channel: [&[f32]; 4],
    residual: Option<&[f32]>,
    out: &[f32],
) {
    for (values, name) in per_channel
        .into_iter()
        .zip(["gamma", "beta", "mean", "var"])
    {
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
            apply(
                z,
                *mean,
                scale,
                beta[channel],
                residual.map(|residual| &residual[range]),
                relu,
                out,
            );
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
    check(
        z,
        channels,
        [gamma, beta, running_mean, running_var],
        residual,
        out,
    );
    if plane == 0 {
        return;
    }
    out.par_chunks_mut(plane)
        .enumerate()
        .with_min_len(channels_per_task(plane))
        .for_each(|(channel, out)| {
            let range = channel * plane..(channel + 1) * plane;
            let scale = gamma[channel] / (running_var[channel] + eps).sqrt();
            let residual = residual.map(|residual| &residual[range.clone()]);
            apply(
                &z[range],
                running_mean[channel],
                scale,
                beta[channel],
                residual,
                relu,
                out,
            );
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
    assert_eq!(
        grad_out.len(),
        z.len(),
        "batch_norm_train_backward: grad_out length"
    );
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
            let out = if relu {
                &out[channel * plane..(channel + 1) * plane]
            } else {
                &[]
            };
            let (sum, product) = masked_sums(z, mean[channel], out, relu, grad_out);
            let inverse = 1.0 / (f64::from(var[channel]) + f64::from(eps)).sqrt();
            *grad_beta = sum as f32;
            *grad_gamma = (product * inverse) as f32;
            let slope = product * inverse * inverse / plane as f64;
            let scale = gamma[channel] * inverse as f32;
            spread(
                z,
                mean[channel],
                grad_out,
                scale,
                (sum / plane as f64) as f32,
                slope as f32,
            );
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
    let plane = plane(
        grad_out.len(),
        channels,
        "batch_norm_eval_backward: grad_out",
    );
    assert_eq!(
        gamma.len(),
        channels,
        "batch_norm_eval_backward: gamma length"
    );
    assert_eq!(
        running_var.len(),
        channels,
        "batch_norm_eval_backward: running_var length"
    );
    assert_eq!(
        grad_z.len(),
        grad_out.len(),
        "batch_norm_eval_backward: grad_z length"
    );
    if relu {
        assert_eq!(
            out.len(),
            grad_out.len(),
            "batch_norm_eval_backward: out length"
        );
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
            let out = if relu {
                &out[channel * plane..(channel + 1) * plane]
            } else {
                &[]
            };
            masked_scale(
                out,
                relu,
                gamma[channel] / (running_var[channel] + eps).sqrt(),
                grad_out,
                grad_z,
            );
        });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(length: usize, seed: u32) -> Vec<f32> {
        (0..length as u32)
            .map(|index| {
                ((index.wrapping_mul(2_654_435_761) ^ seed.wrapping_mul(40_503)) >> 8) as f32
                    / (1 << 23) as f32
                    - 1.0
            })
            .collect()
    }

    /// Forward in `f64`: out and the loss Σ out·grad.
    fn plain(
        z: &[f64],
        channels: usize,
        gamma: &[f64],
        beta: &[f64],
        statistics: Option<(&[f32], &[f32])>,
        residual: &[f64],
        relu: bool,
    ) -> Vec<f64> {
        let plane = z.len() / channels;
        let mut out = Vec::new();
        for channel in 0..channels {
            let z = &z[channel * plane..(channel + 1) * plane];
            let (mean, var) = match statistics {
                Some((mean, var)) => (f64::from(mean[channel]), f64::from(var[channel])),
                None => {
                    let mean = z.iter().sum::<f64>() / plane as f64;
                    (
                        mean,
                        z.iter().map(|z| (z - mean) * (z - mean)).sum::<f64>() / plane as f64,
                    )
                }
            };
            for (index, z) in z.iter().enumerate() {
                let value = (z - mean) / (var + 1e-5).sqrt() * gamma[channel]
                    + beta[channel]
                    + residual[channel * plane + index];
                out.push(if relu { value.max(0.0) } else { value });
            }
        }
        out
    }

    fn wide(values: &[f32]) -> Vec<f64> {
        values.iter().map(|&value| f64::from(value)).collect()
    }

    fn close(left: &[f32], right: &[f64], bound: f64, what: &str) {
        assert_eq!(left.len(), right.len());
        for (index, (left, right)) in left.iter().zip(right).enumerate() {
            assert!(
                (f64::from(*left) - right).abs() < bound,
                "{what}[{index}]: {left} against {right}"
            );
        }
    }

    #[test]
    fn forward_equals_the_formula() {
        for (channels, plane) in [(1, 1), (3, 7), (5, 63), (2, 5000), (17, 130)] {
            // A mean far from zero shows cancellation.
            let z: Vec<f32> = values(channels * plane, 1)
                .iter()
                .map(|z| z * 0.5 + 20.0)
                .collect();
            let residual = values(z.len(), 2);
            let (gamma, beta) = (values(channels, 3), values(channels, 4));
            for relu in [false, true] {
                for added in [None, Some(&residual[..])] {
                    let (mut out, mut mean, mut var) =
                        (vec![0.0; z.len()], vec![0.0; channels], vec![0.0; channels]);
                    batch_norm_train(
                        &z, channels, &gamma, &beta, 1e-5, added, relu, &mut out, &mut mean,
                        &mut var,
                    );
                    let residual = added.map_or(vec![0.0; z.len()], wide);
                    let bound = if plane == 1 { 2e-3 } else { 2e-5 };
                    close(
                        &out,
                        &plain(
                            &wide(&z),
                            channels,
                            &wide(&gamma),
                            &wide(&beta),
                            None,
                            &residual,
                            relu,
                        ),
                        bound,
                        "train",
                    );
                    batch_norm_eval(
                        &z, channels, &gamma, &beta, &mean, &var, 1e-5, added, relu, &mut out,
                    );
                    let expected = plain(
                        &wide(&z),
                        channels,
                        &wide(&gamma),
                        &wide(&beta),
                        Some((&mean, &var)),
                        &residual,
                        relu,
                    );
                    close(&out, &expected, bound, "eval");
                }
            }
        }
    }

    #[test]
    fn backward_equals_finite_differences() {
        let (channels, plane) = (3, 21);
        let z = values(channels * plane, 1);
        let residual = values(z.len(), 2);
        let gradient = values(z.len(), 5);
        let (gamma, beta) = (values(channels, 3), values(channels, 4));
        for relu in [false, true] {
            for train in [true, false] {
                let (mut out, mut mean, mut var) =
                    (vec![0.0; z.len()], vec![0.0; channels], vec![0.0; channels]);
                batch_norm_train(
                    &z,
                    channels,
                    &gamma,
                    &beta,
                    1e-5,
                    Some(&residual),
                    relu,
                    &mut out,
                    &mut mean,
                    &mut var,
                );
                let (mut grad_z, mut grad_out) = (z.clone(), gradient.clone());
                let (mut grad_gamma, mut grad_beta) = (vec![0.0; channels], vec![0.0; channels]);
                let statistics = if train {
                    batch_norm_train_backward(
                        &mut grad_z,
                        channels,
                        &gamma,
                        &mean,
                        &var,
                        1e-5,
                        &out,
                        relu,
                        &mut grad_out,
                        &mut grad_gamma,
                        &mut grad_beta,
                    );
                    None
                } else {
                    batch_norm_eval_backward(
                        channels,
                        &gamma,
                        &var,
                        1e-5,
                        &out,
                        relu,
                        &mut grad_out,
                        &mut grad_z,
                    );
                    Some((&mean[..], &var[..]))
                };
                // `f` is the loss with one value moved; the difference quotient is central.
                let loss = |z: &[f64], gamma: &[f64], beta: &[f64], residual: &[f64]| {
                    plain(z, channels, gamma, beta, statistics, residual, relu)
                        .iter()
                        .zip(&gradient)
                        .map(|(out, grad)| out * f64::from(*grad))
                        .sum::<f64>()
                };
                let quotient = |index: usize, which: usize| {
                    let at = |step: f64| {
                        let mut all = [wide(&z), wide(&gamma), wide(&beta), wide(&residual)];
                        all[which][index] += step;
                        loss(&all[0], &all[1], &all[2], &all[3])
                    };
                    (at(1e-6) - at(-1e-6)) / 2e-6
                };
                let every = |which: usize, length: usize| {
                    (0..length)
                        .map(|index| quotient(index, which))
                        .collect::<Vec<_>>()
                };
                close(&grad_z, &every(0, z.len()), 2e-5, "grad_z");
                close(&grad_out, &every(3, z.len()), 2e-5, "grad residual");
                if train {
                    close(&grad_gamma, &every(1, channels), 2e-5, "grad_gamma");
                    close(&grad_beta, &every(2, channels), 2e-5, "grad_beta");
                }
            }
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let pool = |threads| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .expect("a small pool")
        };
        let (channels, plane) = (37, 3001);
        let (z, gamma) = (values(channels * plane, 1), values(channels, 3));
        let all = |threads| {
            pool(threads).install(|| {
                let (mut out, mut mean, mut var) =
                    (vec![0.0; z.len()], vec![0.0; channels], vec![0.0; channels]);
                batch_norm_train(
                    &z, channels, &gamma, &gamma, 1e-5, None, true, &mut out, &mut mean, &mut var,
                );
                let (mut grad_z, mut grad_out) = (z.clone(), values(z.len(), 5));
                let (mut grad_gamma, mut grad_beta) = (vec![0.0; channels], vec![0.0; channels]);
                batch_norm_train_backward(
                    &mut grad_z,
                    channels,
                    &gamma,
                    &mean,
                    &var,
                    1e-5,
                    &out,
                    true,
                    &mut grad_out,
                    &mut grad_gamma,
                    &mut grad_beta,
                );
                [out, grad_z, grad_out, grad_gamma, grad_beta]
                    .concat()
                    .iter()
                    .map(|value| value.to_bits())
                    .collect::<Vec<_>>()
            })
        };
        assert!(all(1) == all(2));
    }
}
