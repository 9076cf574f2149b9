//! Grad-weight of dense convolutions by products of turned maps, where these lie by channel: for each tap `G Xᵀ`, summed over positions and
//! images.
//!
//! Dot products load both factors of every product from the caches. Here a vector holds [`LANES`] input channels, and each gradient multiplies
//! all of them. To this end [`LANES`] channels of some positions are turned at a time, and stay in the first-level cache.
//! What is summed in which order depends on the shape alone.

use super::Conv2dShape;
use super::tiles::Kernels;
use super::transforms::{Block, Products};
use crate::layout::Order;
use crate::scratch::{self, Shared};
use crate::simd::LANES;
use rayon::prelude::*;
use std::ops::Range;

/// Values of a channel that are turned together, at most: with as many gradients of [`LANES`] channels, the first-level cache.
const DEPTH: usize = 256;
/// Output channels of a task: their turned gradients take a quarter of the second-level cache.
const OUTPUTS: usize = 128;
/// Tasks of a call, and floats of all parts' sums together.
const TASKS: usize = 12;
const PARTIALS: usize = 1 << 21;
/// Values of a channel that are worth a task, twice as many worth the turning.
const LEAST: usize = 128;

/// Whether [`weight_gradient`] takes the shape and is faster than dot products.
pub(super) fn pays(kernels: &Kernels, shape: &Conv2dShape) -> bool {
    kernels.rearranged && takes(shape)
}

pub(super) fn takes(shape: &Conv2dShape) -> bool {
    let whole = |channels: usize| channels > 0 && channels.is_multiple_of(LANES);
    Order::of(shape.batch) == Order::Channels
        && whole(shape.in_channels)
        && whole(shape.out_channels)
        && shape.batch <= 2 * DEPTH
        && shape.out_height() * shape.out_width() * shape.batch >= 2 * LEAST
}

/// Maps by channel, `(C, positions, N)`.
struct Map<'a> {
    values: &'a [f32],
    positions: usize,
    batch: usize,
}

impl Map<'_> {
    /// Writes `(value, channel)` of the nth [`LANES`] channels at `positions`, zeros for none and up to `to`'s end; `gathered` has the length
    /// of `to`. `run`: the positions, where one follows the other.
    fn turn(
        &self,
        kernels: &Kernels,
        nth: usize,
        positions: impl Iterator<Item = Option<usize>>,
        run: Option<Range<usize>>,
        gathered: &mut [f32],
        to: &mut [f32],
    ) {
        let (first, batch) = (nth * LANES, self.batch);
        let (plane, length) = (self.positions * batch, to.len() / LANES);
        if let Some(run) = run.filter(|run| run.start * batch + length <= plane) {
            let from = &self.values[first * plane + run.start * batch..][..(LANES - 1) * plane + length];
            square(kernels, from, plane, length, to);
            return to[run.len() * batch * LANES..].fill(0.0);
        }
        let mut filled = 0;
        for position in positions {
            for (lane, row) in gathered.chunks_exact_mut(length).enumerate() {
                let to = &mut row[filled..filled + batch];
                match position {
                    Some(position) => {
                        to.copy_from_slice(&self.values[(first + lane) * plane + position * batch..][..batch])
                    }
                    None => to.fill(0.0),
                }
            }
            filled += batch;
        }
        gathered.chunks_exact_mut(length).for_each(|row| row[filled..].fill(0.0));
        square(kernels, gathered, length, length, to);
    }
}

/// [`LANES`] rows of `length` floats, `stride` apart, turned.
fn square(kernels: &Kernels, from: &[f32], stride: usize, length: usize, to: &mut [f32]) {
    assert!(length.is_multiple_of(LANES) && (LANES - 1) * stride + length <= from.len(), "conv2d grad_weight: rows");
    assert_eq!(to.len(), length * LANES, "conv2d grad_weight: turned rows");
    // SAFETY: as asserted.
    unsafe { (kernels.turn)(from.as_ptr(), Block { rows: LANES, length, stride }, to.as_mut_ptr()) };
}

/// All weights' gradients, overwriting `grad_weight`.
pub(super) fn weight_gradient(
    kernels: &Kernels,
    shape: &Conv2dShape,
    source: &[f32],
    grad_output: &[f32],
    grad_weight: &mut [f32],
) {
    let (batch, inputs, outputs, taps) =
        (shape.batch, shape.in_channels, shape.out_channels, shape.kernel * shape.kernel);
    let positions = shape.out_height() * shape.out_width();
    let from = Map { values: source, positions: shape.in_height * shape.in_width, batch };
    let gradient = Map { values: grad_output, positions, batch };
    let most = (DEPTH / batch).clamp(1, positions);
    let depth = (most * batch).next_multiple_of(LANES);
    let (input_strips, output_strips) = (inputs / LANES, outputs / LANES);
    let all = taps * outputs * inputs;
    let splits = output_strips.div_ceil(OUTPUTS / LANES);
    let parts = TASKS.div_ceil(splits).min(positions).min(positions * batch / LEAST).min(PARTIALS / all).max(1);
    let share = |all: usize, parts: usize, nth: usize| all * nth / parts..all * (nth + 1) / parts;
    let rows_of = |split: usize| share(output_strips, splits, split);
    scratch::with(parts * all, |partials| {
        let target = Shared::new(partials);
        (0..parts * splits).into_par_iter().with_max_len(1).for_each(|task| {
            let (part, strips) = (task / splits, rows_of(task % splits));
            let rows = strips.len() * LANES;
            // SAFETY: `(part, output strips)` are this task's alone.
            let sums = unsafe {
                let start = part * all + strips.start * LANES * taps * inputs;
                std::slice::from_raw_parts_mut(target.pointer().add(start), rows * taps * inputs)
            };
            scratch::with((rows + 2 * LANES) * depth, |room| {
                let (factors, room) = room.split_at_mut(rows * depth);
                let (panel, gathered) = room.split_at_mut(LANES * depth);
                let range = share(positions, parts, part);
                let pieces = range.len().div_ceil(most);
                for piece in 0..pieces {
                    let Range { start, end } = share(range.len(), pieces, piece);
                    let met = range.start + start..range.start + end;
                    let depth = (met.len() * batch).next_multiple_of(LANES);
                    let (panel, gathered) = (&mut panel[..LANES * depth], &mut gathered[..LANES * depth]);
                    for (nth, factors) in strips.clone().zip(factors.chunks_exact_mut(LANES * depth)) {
                        gradient.turn(kernels, nth, met.clone().map(Some), Some(met.clone()), gathered, factors);
                    }
                    let mut sums = sums.chunks_exact_mut(rows * LANES);
                    for tap in 0..taps {
                        let run = (shape.kernel, shape.stride, shape.padding) == (1, 1, 0);
                        for nth in 0..input_strips {
                            let sums = sums.next().expect("sums of every tap and strip");
                            let (positions, run) = (read(shape, tap, met.clone()), run.then(|| met.clone()));
                            from.turn(kernels, nth, positions, run, gathered, panel);
                            // SAFETY: `factors` and `panel` hold `depth` steps of the sum, `sums` all products of the strip.
                            unsafe {
                                (kernels.products)(&Products {
                                    points: 1,
                                    depth,
                                    rows,
                                    vectors: 1,
                                    weight: factors.as_ptr(),
                                    weight_strides: [0, LANES * depth, LANES],
                                    panel: panel.as_ptr(),
                                    panel_stride: 0,
                                    sums: sums.as_mut_ptr(),
                                    sums_stride: 0,
                                    accumulate: piece > 0,
                                });
                            }
                        }
                    }
                }
            });
        });
        let partials = &*partials;
        grad_weight.par_chunks_exact_mut(LANES * inputs * taps).enumerate().for_each(|(strip, grad_weight)| {
            let split = (0..splits).find(|&split| rows_of(split).contains(&strip)).expect("every strip has its task");
            let Range { start, end } = rows_of(split);
            let (rows, start, inside) = ((end - start) * LANES, start * LANES * taps * inputs, (strip - start) * LANES);
            for (row, grad_weight) in grad_weight.chunks_exact_mut(inputs * taps).enumerate() {
                for nth in 0..taps * input_strips {
                    let mut sum = [0.0f32; LANES];
                    for part in partials.chunks_exact(all) {
                        let values = &part[start + (nth * rows + inside + row) * LANES..][..LANES];
                        sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
                    }
                    let to = &mut grad_weight[nth % input_strips * LANES * taps + nth / input_strips..];
                    to.iter_mut().step_by(taps).zip(sum).for_each(|(to, sum)| *to = sum);
                }
            }
        });
    });
}

/// The source's positions that `tap` reads for some of the output's, none outside.
fn read(shape: &Conv2dShape, tap: usize, met: Range<usize>) -> impl Iterator<Item = Option<usize>> {
    let (width, tap_row, tap_column) = (shape.out_width(), tap / shape.kernel, tap % shape.kernel);
    let Conv2dShape { stride, padding, in_height, in_width, .. } = *shape;
    met.map(move |position| {
        let row = (position / width * stride + tap_row).checked_sub(padding).filter(|&row| row < in_height)?;
        let column =
            (position % width * stride + tap_column).checked_sub(padding).filter(|&column| column < in_width)?;
        Some(row * in_width + column)
    })
}
