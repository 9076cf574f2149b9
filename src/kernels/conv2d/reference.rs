//! The definition of the convolution as plain loops.

use super::Conv2dShape;
use crate::layout::Order;
use rayon::prelude::*;

/// Where the values of one channel and position start: (floats between positions, floats between channels).
fn strides(channels: usize, positions: usize, batch: usize) -> (usize, usize) {
    let order = Order::of(batch);
    (order.position_stride(channels, batch), order.channel_stride(positions, batch))
}

/// Reads the batch at (channel, position) of maps.
#[derive(Clone, Copy)]
struct Maps<'a> {
    values: &'a [f32],
    by_position: usize,
    by_channel: usize,
    batch: usize,
}

impl<'a> Maps<'a> {
    fn input(shape: &Conv2dShape, values: &'a [f32]) -> Self {
        let (by_position, by_channel) = strides(shape.in_channels, shape.in_height * shape.in_width, shape.batch);
        Self { values, by_position, by_channel, batch: shape.batch }
    }
    fn output(shape: &Conv2dShape, values: &'a [f32]) -> Self {
        let (by_position, by_channel) =
            strides(shape.out_channels, shape.out_height() * shape.out_width(), shape.batch);
        Self { values, by_position, by_channel, batch: shape.batch }
    }
    fn at(&self, channel: usize, position: usize) -> &'a [f32] {
        &self.values[channel * self.by_channel + position * self.by_position..][..self.batch]
    }
}

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

/// Adds `weight · from` to the batch at `to`.
fn add(to: &mut [f32], weight: f32, from: &[f32]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += weight * from);
}

/// Puts maps that were summed channel by channel, `(channel, position, n)`, where the order has them.
fn place(sums: &[Vec<f32>], strides: (usize, usize), batch: usize, to: &mut [f32], accumulate: bool) {
    for (channel, sums) in sums.iter().enumerate() {
        for (position, sums) in sums.chunks_exact(batch).enumerate() {
            let to = &mut to[position * strides.0 + channel * strides.1..][..batch];
            for (to, sum) in to.iter_mut().zip(sums) {
                *to = if accumulate { *to + sum } else { *sum };
            }
        }
    }
}

pub(super) fn forward(shape: &Conv2dShape, weight: &[f32], mask: Option<&[u8]>, input: &[f32], output: &mut [f32]) {
    let (batch, taps, positions) = (shape.batch, shape.kernel * shape.kernel, shape.out_height() * shape.out_width());
    let input = Maps::input(shape, input);
    let sums: Vec<Vec<f32>> = (0..shape.out_channels)
        .into_par_iter()
        .map(|out_channel| {
            let mut sums = vec![0.0; positions * batch];
            for in_channel in 0..shape.in_channels {
                for tap in 0..taps {
                    let index = (out_channel * shape.in_channels + in_channel) * taps + tap;
                    if kept(mask, index) {
                        pairs(shape, tap / shape.kernel, tap % shape.kernel, |to, from| {
                            add(&mut sums[to * batch..][..batch], weight[index], input.at(in_channel, from));
                        });
                    }
                }
            }
            sums
        })
        .collect();
    place(&sums, strides(shape.out_channels, positions, batch), batch, output, false);
}

pub(super) fn grad_input(
    shape: &Conv2dShape,
    weight: &[f32],
    mask: Option<&[u8]>,
    grad_output: &[f32],
    grad_input: &mut [f32],
    accumulate: bool,
) {
    let (batch, taps, positions) = (shape.batch, shape.kernel * shape.kernel, shape.in_height * shape.in_width);
    let grad_output = Maps::output(shape, grad_output);
    let sums: Vec<Vec<f32>> = (0..shape.in_channels)
        .into_par_iter()
        .map(|in_channel| {
            let mut sums = vec![0.0; positions * batch];
            for out_channel in 0..shape.out_channels {
                for tap in 0..taps {
                    let index = (out_channel * shape.in_channels + in_channel) * taps + tap;
                    if kept(mask, index) {
                        pairs(shape, tap / shape.kernel, tap % shape.kernel, |from, to| {
                            add(&mut sums[to * batch..][..batch], weight[index], grad_output.at(out_channel, from));
                        });
                    }
                }
            }
            sums
        })
        .collect();
    place(&sums, strides(shape.in_channels, positions, batch), batch, grad_input, accumulate);
}

pub(super) fn grad_weight(
    shape: &Conv2dShape,
    mask: Option<&[u8]>,
    input: &[f32],
    grad_output: &[f32],
    grad_weight: &mut [f32],
) {
    let taps = shape.kernel * shape.kernel;
    let (input, grad_output) = (Maps::input(shape, input), Maps::output(shape, grad_output));
    grad_weight.par_iter_mut().enumerate().for_each(|(index, gradient)| {
        *gradient = 0.0;
        if !kept(mask, index) {
            return;
        }
        let (tap, channels) = (index % taps, index / taps);
        let (in_channel, out_channel) = (channels % shape.in_channels, channels / shape.in_channels);
        let mut sum = 0.0f64;
        pairs(shape, tap / shape.kernel, tap % shape.kernel, |left, right| {
            let (left, right) = (grad_output.at(out_channel, left), input.at(in_channel, right));
            sum += left.iter().zip(right).map(|(left, right)| f64::from(left * right)).sum::<f64>();
        });
        *gradient = sum as f32;
    });
}
