//! The definition of the convolution as plain loops.

use super::Conv2dShape;
use rayon::prelude::*;

/// Calls `visit(output position, input position)` for every pair that the tap `(kernel_row, kernel_col)` joins.
fn pairs(shape: &Conv2dShape, kernel_row: usize, kernel_col: usize, mut visit: impl FnMut(usize, usize)) {
    for out_row in 0..shape.out_height() {
        let row = (out_row * shape.stride + kernel_row).wrapping_sub(shape.padding);
        if row >= shape.in_height {
            continue;
        }
        for out_col in 0..shape.out_width() {
            let col = (out_col * shape.stride + kernel_col).wrapping_sub(shape.padding);
            if col < shape.in_width {
                visit(out_row * shape.out_width() + out_col, row * shape.in_width + col);
            }
        }
    }
}

fn kept(mask: Option<&[u8]>, index: usize) -> bool {
    mask.is_none_or(|mask| mask[index] != 0)
}

pub(super) fn forward(shape: &Conv2dShape, weight: &[f32], mask: Option<&[u8]>, input: &[f32], output: &mut [f32]) {
    let (batch, kernel) = (shape.batch, shape.kernel);
    let (plane, map) = (shape.out_height() * shape.out_width() * batch, shape.in_height * shape.in_width * batch);
    output.par_chunks_mut(plane.max(1)).enumerate().for_each(|(out_channel, output)| {
        output.fill(0.0);
        for (in_channel, input) in input.chunks_exact(map).enumerate() {
            for tap in 0..kernel * kernel {
                let index = (out_channel * shape.in_channels + in_channel) * kernel * kernel + tap;
                if !kept(mask, index) {
                    continue;
                }
                pairs(shape, tap / kernel, tap % kernel, |to, from| {
                    let (to, from) = (&mut output[to * batch..][..batch], &input[from * batch..][..batch]);
                    to.iter_mut().zip(from).for_each(|(to, from)| *to += weight[index] * from);
                });
            }
        }
    });
}

pub(super) fn grad_input(
    shape: &Conv2dShape,
    weight: &[f32],
    mask: Option<&[u8]>,
    grad_output: &[f32],
    grad_input: &mut [f32],
    accumulate: bool,
) {
    let (batch, kernel) = (shape.batch, shape.kernel);
    let (plane, map) = (shape.out_height() * shape.out_width() * batch, shape.in_height * shape.in_width * batch);
    grad_input.par_chunks_mut(map.max(1)).enumerate().for_each(|(in_channel, grad_input)| {
        if !accumulate {
            grad_input.fill(0.0);
        }
        for (out_channel, grad_output) in grad_output.chunks_exact(plane).enumerate() {
            for tap in 0..kernel * kernel {
                let index = (out_channel * shape.in_channels + in_channel) * kernel * kernel + tap;
                if !kept(mask, index) {
                    continue;
                }
                pairs(shape, tap / kernel, tap % kernel, |from, to| {
                    let (to, from) = (&mut grad_input[to * batch..][..batch], &grad_output[from * batch..][..batch]);
                    to.iter_mut().zip(from).for_each(|(to, from)| *to += weight[index] * from);
                });
            }
        }
    });
}

pub(super) fn grad_weight(
    shape: &Conv2dShape,
    mask: Option<&[u8]>,
    input: &[f32],
    grad_output: &[f32],
    grad_weight: &mut [f32],
) {
    let (batch, kernel) = (shape.batch, shape.kernel);
    let (plane, map) = (shape.out_height() * shape.out_width() * batch, shape.in_height * shape.in_width * batch);
    grad_weight.par_iter_mut().enumerate().for_each(|(index, gradient)| {
        *gradient = 0.0;
        if !kept(mask, index) {
            return;
        }
        let (tap, channels) = (index % (kernel * kernel), index / (kernel * kernel));
        let input = &input[channels % shape.in_channels * map..][..map];
        let grad_output = &grad_output[channels / shape.in_channels * plane..][..plane];
        let mut sum = 0.0f64;
        pairs(shape, tap / kernel, tap % kernel, |left, right| {
            let (left, right) = (&grad_output[left * batch..][..batch], &input[right * batch..][..batch]);
            sum += left.iter().zip(right).map(|(left, right)| f64::from(left * right)).sum::<f64>();
        });
        *gradient = sum as f32;
    });
}
