//! Batch normalisation in the kernels' order, fused with the residual add and the ReLU that follow it.
//!
//! Ioffe & Szegedy 2015; variances are biased (divided by `H·W·N`).
//!
//! Long: the same passes for both orders of maps, forward and backward.

mod at_rest;
mod sums;

pub use at_rest::AtRest;

use crate::layout::Order;
use crate::simd::{LANES, versions};
use rayon::prelude::*;
use std::ops::Range;
use std::slice;
use sums::{centred_sums, masked_sums, sum};

/// Values a task should have.
const TASK: usize = 1 << 15;

/// Channels and batch of maps, which lie in [`Order::of`] the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NormShape {
    /// C
    pub channels: usize,
    /// N
    pub batch: usize,
}

/// How maps are cut into pieces for the threads; it depends on the shape alone.
#[derive(Clone, Copy, Debug)]
struct Pieces {
    /// values of a channel that lie together
    length: usize,
    /// channels of a piece, stretch after stretch
    channels: usize,
    /// floats of a piece; the last may be shorter
    size: usize,
    /// values of a channel in all pieces
    plane: usize,
}

impl Pieces {
    fn new(shape: NormShape, floats: usize, name: &str) -> Self {
        let NormShape { channels, batch } = shape;
        assert!(channels > 0 && floats.is_multiple_of(channels * batch.max(1)), "{name}: length is no multiple of C·N");
        let plane = floats / channels;
        match Order::of(batch) {
            Order::Channels => Self { length: plane, channels: 1, size: plane, plane },
            Order::Positions => {
                let position = channels * batch;
                Self { length: batch, channels, size: (TASK / position).max(1) * position, plane }
            }
        }
    }
    /// The channels of the piece `nth`, in a slice with one value a channel.
    fn of<'a>(&self, per_channel: &'a [f32], nth: usize) -> &'a [f32] {
        if self.channels == 1 && per_channel.len() > 1 { &per_channel[nth..=nth] } else { per_channel }
    }
    /// Whether each of several channels is a piece.
    fn by_channel(&self, shape: NormShape) -> bool {
        self.channels == 1 && shape.channels > 1
    }
    /// Pieces of a task.
    fn together(&self) -> usize {
        TASK.div_ceil(self.size.max(1))
    }
    /// Adds the pieces' sums up, in their order: for every channel.
    fn total(&self, pieces: &[Vec<[f64; 2]>], channels: usize) -> Vec<[f64; 2]> {
        let mut total = vec![[0.0; 2]; channels];
        for sums in pieces {
            for (total, sum) in total.iter_mut().zip(sums) {
                *total = [total[0] + sum[0], total[1] + sum[1]];
            }
        }
        total
    }
}

/// `(z − centre)·scale + shift`.
#[inline(always)]
fn normalised(z: f32, [centre, scale, shift]: [f32; 3]) -> f32 {
    (z - centre) * scale + shift
}

/// A comparison with NaN is false, so NaN stays (as in PyTorch's ReLU).
#[inline(always)]
fn rectified(value: f32, relu: bool) -> f32 {
    if relu && value <= 0.0 { 0.0 } else { value }
}

/// The gradient where the norm itself is positive (or NaN), as its ReLU let through the one value; else zero.
#[inline(always)]
fn let_through(z: f32, terms: [f32; 3], grad: f32) -> f32 {
    if normalised(z, terms) <= 0.0 { 0.0 } else { grad }
}

/// The terms of each row of a piece: its channels' in turn.
#[inline(always)]
fn each_row<const TERMS: usize>(terms: [&[f32]; TERMS]) -> impl Iterator<Item = [f32; TERMS]> {
    (0..terms[0].len()).cycle().map(move |channel| terms.map(|values| values[channel]))
}

versions! {
    /// `out = relu((z − centre)·scale + shift + residual)` for a piece, with one value of each term a channel.
    fn apply(z: &[f32], length: usize, terms: [&[f32]; 3], residual: Option<&[f32]>, relu: bool, out: &mut [f32]) {
        let rows = out.chunks_mut(length).zip(z.chunks(length)).zip(each_row(terms));
        match residual {
            None => {
                for ((out, z), terms) in rows {
                    for (out, z) in out.iter_mut().zip(z) {
                        *out = rectified(normalised(*z, terms), relu);
                    }
                }
            }
            Some(residual) => {
                for (((out, z), terms), residual) in rows.zip(residual.chunks(length)) {
                    for ((out, z), residual) in out.iter_mut().zip(z).zip(residual) {
                        *out = rectified(normalised(*z, terms) + residual, relu);
                    }
                }
            }
        }
    }
}

versions! {
    /// `z = (grad − mean_grad − (z − centre)·slope)·scale` for a piece, with one value a channel.
    /// What the norm's own ReLU does not let through of `grad` counts as zero; `own` are the norm's
    /// centre and scale.
    fn spread(z: &mut [f32], length: usize, own: [&[f32]; 2], relu: Relu<'_>, terms: [&[f32]; 3], grad: &[f32]) {
        let rows = z.chunks_mut(length).zip(grad.chunks(length));
        match relu {
            Relu::Own(shift) => {
                let terms = each_row([own[0], own[1], shift]).zip(each_row(terms));
                for ((z, grad), (own, [mean_grad, slope, scale])) in rows.zip(terms) {
                    for (z, grad) in z.iter_mut().zip(grad) {
                        *z = (let_through(*z, own, *grad) - mean_grad - (*z - own[0]) * slope) * scale;
                    }
                }
            }
            Relu::None | Relu::Out(_) => {
                for ((z, grad), ([centre], [mean_grad, slope, scale])) in rows.zip(each_row([own[0]]).zip(each_row(terms))) {
                    for (z, grad) in z.iter_mut().zip(grad) {
                        *z = (grad - mean_grad - (*z - centre) * slope) * scale;
                    }
                }
            }
        }
    }
}

versions! {
    fn masked_scale(out: &[f32], length: usize, relu: bool, scale: &[f32], grad_out: &mut [f32], grad_z: &mut [f32]) {
        if relu {
            for (grad, out) in grad_out.iter_mut().zip(out) {
                *grad = if *out <= 0.0 { 0.0 } else { *grad };
            }
        }
        for ((grad_z, grad), [scale]) in grad_z.chunks_mut(length).zip(grad_out.chunks(length)).zip(each_row([scale])) {
            for (grad_z, grad) in grad_z.iter_mut().zip(grad) {
                *grad_z = grad * scale;
            }
        }
    }
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
    shape: NormShape,
    gamma: &[f32],
    beta: &[f32],
    eps: f32,
    residual: Option<&[f32]>,
    relu: bool,
    out: &mut [f32],
    mean: &mut [f32],
    var: &mut [f32],
) {
    let pieces = Pieces::new(shape, z.len(), "batch_norm_train: z");
    check(z, shape.channels, [gamma, beta, mean, var], residual, out);
    if z.is_empty() {
        return;
    }
    if pieces.by_channel(shape) {
        // A channel is a batch norm of its own, whose values are near when they are read again.
        let maps = out.par_chunks_mut(pieces.size).zip(z.par_chunks(pieces.size));
        let channels = maps.zip(mean.par_iter_mut().zip(var)).enumerate().with_min_len(pieces.together());
        channels.for_each(|(nth, ((out, z), (mean, var)))| {
            let [gamma, beta] = [gamma, beta].map(|term| pieces.of(term, nth));
            let residual = residual.map(|residual| &residual[nth * pieces.size..][..z.len()]);
            let (mean, var) = (slice::from_mut(mean), slice::from_mut(var));
            batch_norm_train(z, NormShape { channels: 1, ..shape }, gamma, beta, eps, residual, relu, out, mean, var);
        });
        return;
    }
    moments(z, shape, &pieces, mean, var);
    batch_norm_eval(z, shape, gamma, beta, mean, var, eps, residual, relu, out);
}

/// Mean and biased variance of every channel, in one pass around a first guess of the mean. Maps by
/// channel have a single one here.
fn moments(z: &[f32], shape: NormShape, pieces: &Pieces, mean: &mut [f32], var: &mut [f32]) {
    // The mean of the first values: those lie as far from the mean as they like, but then they are
    // part of the variance, so what the subtraction below loses stays bounded.
    let count = match Order::of(shape.batch) {
        Order::Channels => pieces.plane.min(4 * LANES),
        Order::Positions => shape.batch,
    };
    for (channel, guess) in mean.iter_mut().enumerate() {
        *guess = (sum(&z[channel * shape.batch..][..count]) / count as f64) as f32;
    }
    let guess = &*mean;
    let sums: Vec<_> = (z.par_chunks(pieces.size).enumerate())
        .with_min_len(pieces.together())
        .map(|(nth, z)| centred_sums(z, pieces.length, pieces.of(guess, nth)))
        .collect();
    let count = pieces.plane as f64;
    for ((mean, var), [sum, square]) in mean.iter_mut().zip(var).zip(pieces.total(&sums, shape.channels)) {
        let distance = sum / count;
        *mean = (f64::from(*mean) + distance) as f32;
        *var = (square / count - distance * distance).max(0.0) as f32;
    }
}

/// γ/√(σ² + ε) for every channel.
fn scales(gamma: &[f32], var: &[f32], eps: f32) -> Vec<f32> {
    gamma.iter().zip(var).map(|(gamma, var)| gamma / (var + eps).sqrt()).collect()
}

/// As [`batch_norm_train`] with given statistics. [`AtRest`] is the same in the place of z.
#[expect(clippy::too_many_arguments, reason = "the terms of one formula")]
pub fn batch_norm_eval(
    z: &[f32],
    shape: NormShape,
    gamma: &[f32],
    beta: &[f32],
    running_mean: &[f32],
    running_var: &[f32],
    eps: f32,
    residual: Option<&[f32]>,
    relu: bool,
    out: &mut [f32],
) {
    let pieces = Pieces::new(shape, z.len(), "batch_norm: z");
    check(z, shape.channels, [gamma, beta, running_mean, running_var], residual, out);
    if z.is_empty() {
        return;
    }
    let scale = scales(gamma, running_var, eps);
    out.par_chunks_mut(pieces.size).enumerate().with_min_len(pieces.together()).for_each(|(nth, out)| {
        let range = nth * pieces.size..nth * pieces.size + out.len();
        let terms = [pieces.of(running_mean, nth), pieces.of(&scale, nth), pieces.of(beta, nth)];
        let residual = residual.map(|residual| &residual[range.clone()]);
        apply(&z[range], pieces.length, terms, residual, relu, out);
    });
}

/// What is known of the ReLU after a batch norm, where gradients pass it.
#[derive(Clone, Copy, Debug)]
pub enum Relu<'a> {
    /// There is none.
    None,
    /// It let through what the norm, with this `beta`, itself says: nothing was added in between.
    Own(&'a [f32]),
    /// It let through what is positive in these maps, its output.
    Out(&'a [f32]),
}

impl<'a> Relu<'a> {
    /// For the piece `nth`, which are the floats `range` of the maps.
    fn of(self, pieces: &Pieces, nth: usize, range: Range<usize>) -> Self {
        match self {
            Relu::None => Relu::None,
            Relu::Own(beta) => Relu::Own(pieces.of(beta, nth)),
            Relu::Out(out) => Relu::Out(&out[range]),
        }
    }
}

/// Gradient of [`batch_norm_train`].
///
/// `z` comes in as the batch norm's input and goes out as its gradient; `grad_out` comes in as the
/// gradient of `out`. With [`Relu::Out`] it goes out masked by `out > 0`, which is the gradient of
/// the residual.
#[expect(clippy::too_many_arguments, reason = "the terms of one formula")]
pub fn batch_norm_train_backward(
    z: &mut [f32],
    shape: NormShape,
    gamma: &[f32],
    mean: &[f32],
    var: &[f32],
    eps: f32,
    relu: Relu<'_>,
    grad_out: &mut [f32],
    grad_gamma: &mut [f32],
    grad_beta: &mut [f32],
) {
    let pieces = Pieces::new(shape, z.len(), "batch_norm_train_backward: z");
    let channels = shape.channels;
    let (beta, out) = match relu {
        Relu::None => (channels, z.len()),
        Relu::Own(beta) => (beta.len(), z.len()),
        Relu::Out(out) => (channels, out.len()),
    };
    for (length, expected, name) in [
        (gamma.len(), channels, "gamma"),
        (beta, channels, "beta"),
        (mean.len(), channels, "mean"),
        (var.len(), channels, "var"),
        (grad_gamma.len(), channels, "grad_gamma"),
        (grad_beta.len(), channels, "grad_beta"),
        (out, z.len(), "out"),
        (grad_out.len(), z.len(), "grad_out"),
    ] {
        assert_eq!(length, expected, "batch_norm_train_backward: {name} length");
    }
    if z.is_empty() {
        return;
    }
    if pieces.by_channel(shape) {
        let maps = z.par_chunks_mut(pieces.size).zip(grad_out.par_chunks_mut(pieces.size));
        let channels = maps.zip(grad_gamma.par_iter_mut().zip(grad_beta)).enumerate();
        channels.with_min_len(pieces.together()).for_each(|(nth, ((z, grad_out), (grad_gamma, grad_beta)))| {
            let relu = relu.of(&pieces, nth, nth * pieces.size..nth * pieces.size + z.len());
            let [gamma, mean, var] = [gamma, mean, var].map(|term| pieces.of(term, nth));
            let (grad_gamma, grad_beta) = (slice::from_mut(grad_gamma), slice::from_mut(grad_beta));
            let one = NormShape { channels: 1, ..shape };
            batch_norm_train_backward(z, one, gamma, mean, var, eps, relu, grad_out, grad_gamma, grad_beta);
        });
        return;
    }
    let forward = scales(gamma, var, eps);
    let own = |nth| [mean, &forward].map(|term| pieces.of(term, nth));
    let input = &*z;
    let sums: Vec<_> = (grad_out.par_chunks_mut(pieces.size).enumerate())
        .with_min_len(pieces.together())
        .map(|(nth, grad)| {
            let range = nth * pieces.size..nth * pieces.size + grad.len();
            masked_sums(&input[range.clone()], pieces.length, own(nth), relu.of(&pieces, nth, range), grad)
        })
        .collect();
    let mut terms: [Vec<f32>; 3] = Default::default();
    for (channel, [sum, product]) in pieces.total(&sums, channels).into_iter().enumerate() {
        let inverse = 1.0 / (f64::from(var[channel]) + f64::from(eps)).sqrt();
        grad_beta[channel] = sum as f32;
        grad_gamma[channel] = (product * inverse) as f32;
        terms[0].push((sum / pieces.plane as f64) as f32);
        terms[1].push((product * inverse * inverse / pieces.plane as f64) as f32);
        terms[2].push(gamma[channel] * inverse as f32);
    }
    let grad_out = &*grad_out;
    z.par_chunks_mut(pieces.size).enumerate().with_min_len(pieces.together()).for_each(|(nth, z)| {
        let range = nth * pieces.size..nth * pieces.size + z.len();
        let terms = [0, 1, 2].map(|term: usize| pieces.of(&terms[term], nth));
        spread(z, pieces.length, own(nth), relu.of(&pieces, nth, range.clone()), terms, &grad_out[range]);
    });
}

/// Gradient of [`batch_norm_eval`], whose statistics are constants. `grad_z` is written; `grad_out`
/// is masked by `out > 0` (with `relu`) in place.
#[expect(clippy::too_many_arguments, reason = "the terms of one formula")]
pub fn batch_norm_eval_backward(
    shape: NormShape,
    gamma: &[f32],
    running_var: &[f32],
    eps: f32,
    out: &[f32],
    relu: bool,
    grad_out: &mut [f32],
    grad_z: &mut [f32],
) {
    let pieces = Pieces::new(shape, grad_out.len(), "batch_norm_eval_backward: grad_out");
    assert_eq!(gamma.len(), shape.channels, "batch_norm_eval_backward: gamma length");
    assert_eq!(running_var.len(), shape.channels, "batch_norm_eval_backward: running_var length");
    assert_eq!(grad_z.len(), grad_out.len(), "batch_norm_eval_backward: grad_z length");
    if relu {
        assert_eq!(out.len(), grad_out.len(), "batch_norm_eval_backward: out length");
    }
    if grad_out.is_empty() {
        return;
    }
    let scale = scales(gamma, running_var, eps);
    grad_out
        .par_chunks_mut(pieces.size)
        .zip(grad_z.par_chunks_mut(pieces.size))
        .enumerate()
        .with_min_len(pieces.together())
        .for_each(|(nth, (grad_out, grad_z))| {
            let out = if relu { &out[nth * pieces.size..][..grad_out.len()] } else { &[] };
            masked_scale(out, pieces.length, relu, pieces.of(&scale, nth), grad_out, grad_z);
        });
}

#[cfg(test)]
mod tests;
