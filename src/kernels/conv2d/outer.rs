//! Grad-weight of linear layers and of convolutions on maps of a few positions: outer products over the batch.

use super::Conv2dShape;
use super::correlate;
use super::geometry::{Direction, Problem};
use super::tiles::Kernels;
use crate::layout::{Order, transpose};
use crate::scratch;
use crate::simd::LANES;
use rayon::prelude::*;

/// Most positions of an output whose gradients are multiplied position by position.
const POSITIONS: usize = 4;

/// Whether [`weight_gradient`] computes a weight gradient faster than dot products: on maps of few
/// positions these are short, and to add up the lanes of each takes as long as the products.
pub(super) fn pays(shape: &Conv2dShape) -> bool {
    let linear = shape.kernel == 1 && shape.padding == 0 && shape.in_height * shape.in_width == 1;
    let small = Order::of(shape.batch) == Order::Positions && shape.out_height() * shape.out_width() <= POSITIONS;
    (linear || small) && shape.in_channels >= 4 * LANES && shape.out_channels * shape.in_channels >= 1 << 14
}

/// All weights' gradients, overwriting `grad_weight`: for each tap the sum of `G Xᵀ` over the
/// output's positions and what the tap reads at them. Such a product is a forward pass over the
/// batch in the place of the channels.
pub(super) fn weight_gradient(
    kernels: &Kernels,
    shape: &Conv2dShape,
    source: &[f32],
    grad_output: &[f32],
    grad_weight: &mut [f32],
) {
    let (batch, inputs, outputs, taps) =
        (shape.batch, shape.in_channels, shape.out_channels, shape.kernel * shape.kernel);
    let turned = Conv2dShape {
        batch: inputs,
        in_channels: batch,
        out_channels: outputs,
        in_height: 1,
        in_width: 1,
        kernel: 1,
        stride: 1,
        padding: 0,
    };
    let problem = Problem::new(&turned, Direction::Forward);
    scratch::with(source.len(), |by_image| {
        for (from, to) in source.chunks_exact(inputs * batch).zip(by_image.chunks_exact_mut(inputs * batch)) {
            transpose(inputs, batch, from, to);
        }
        let by_image = &*by_image;
        let sum = |pairs: &[(usize, usize)], sum: &mut [f32]| {
            for (nth, (to, from)) in pairs.iter().enumerate() {
                let gradient = &grad_output[to * outputs * batch..][..outputs * batch];
                let images = &by_image[from * inputs * batch..][..inputs * batch];
                correlate::dense(kernels, &problem, gradient, images, sum, nth > 0);
            }
        };
        let used: Vec<(usize, Vec<(usize, usize)>)> =
            (0..taps).map(|tap| (tap, pairs(shape, tap))).filter(|(_, pairs)| !pairs.is_empty()).collect();
        if let (1, [(_, pairs)]) = (taps, &used[..]) {
            return sum(pairs, grad_weight);
        }
        scratch::with(used.len() * outputs * inputs, |sums| {
            let parts = sums.par_chunks_exact_mut(outputs * inputs).zip(&used).with_max_len(1);
            parts.for_each(|(part, (_, pairs))| sum(pairs, part));
            let sums = &*sums;
            grad_weight.par_chunks_exact_mut(inputs * taps).enumerate().for_each(|(output, row)| {
                row.fill(0.0);
                for (part, (tap, _)) in sums.chunks_exact(outputs * inputs).zip(&used) {
                    let values = &part[output * inputs..][..inputs];
                    row.iter_mut().skip(*tap).step_by(taps).zip(values).for_each(|(to, value)| *to = *value);
                }
            });
        });
    });
}

/// The output's positions at which `tap` reads inside the input, each with the position that it reads.
fn pairs(shape: &Conv2dShape, tap: usize) -> Vec<(usize, usize)> {
    let inside = |out: usize, tap: usize, extent: usize| {
        (out * shape.stride + tap).checked_sub(shape.padding).filter(|&at| at < extent)
    };
    let columns = |row: usize, from_row: usize| {
        (0..shape.out_width()).filter_map(move |column| {
            let from = inside(column, tap % shape.kernel, shape.in_width)?;
            Some((row * shape.out_width() + column, from_row * shape.in_width + from))
        })
    };
    (0..shape.out_height())
        .filter_map(|row| Some((row, inside(row, tap / shape.kernel, shape.in_height)?)))
        .flat_map(|(row, from_row)| columns(row, from_row))
        .collect()
}
