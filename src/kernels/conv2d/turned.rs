//! Grad-weight of dense convolutions by products of turned maps: for each tap `G Xᵀ`, summed over
//! positions and images.
//!
//! Dot products load both factors of every product from the caches. Here a vector holds [`LANES`]
//! pairs of a tap and an input channel, and each gradient multiplies all of them. To this end what
//! [`LANES`] pairs read at some positions is turned at a time, and stays in the first-level cache.
//! What is summed in which order depends on the shape alone.

use super::Conv2dShape;
use super::tiles::Kernels;
use super::transforms::{Block, Products};
use crate::layout::{Order, copy_images};
use crate::scratch::{self, Shared};
use crate::simd::{LANES, prefetch};
use rayon::prelude::*;
use std::ops::Range;

/// Values of a channel that are turned together, at most: with as many gradients of [`LANES`]
/// channels, the first-level cache.
const DEPTH: usize = 256;
/// The turned gradients of a task's output channels take one part of the second-level cache in so many.
const SHARE: usize = 4;
/// Output channels that are worth a task where there would be fewer than [`TASKS`].
const FEW: usize = 128;
/// Tasks of a call, and floats of all parts' sums together.
const TASKS: usize = 8;
const PARTIALS: usize = 1 << 21;
/// Values of a channel that are worth a task, twice as many worth the turning.
const LEAST: usize = 128;

/// Images from which on pairs that do not fill whole vectors of channels are worth their gathering
/// (AMD EPYC, Zen 3, ResNet-50's stem).
const TOGETHER: usize = 4;

/// Whether [`weight_gradient`] takes the shape and is faster than dot products.
pub(super) fn pays(shape: &Conv2dShape) -> bool {
    // Pairs that do not fill whole vectors of channels are gathered.
    let gathered = match Order::of(shape.batch) {
        Order::Channels => shape.batch >= TOGETHER,
        Order::Positions => shape.in_channels > LANES,
    };
    (shape.in_channels.is_multiple_of(LANES) || gathered)
        && shape.in_channels * shape.kernel * shape.kernel >= LANES
        && shape.out_channels > 0
        && shape.out_channels.is_multiple_of(LANES)
        && shape.batch <= 2 * DEPTH
        && shape.out_height() * shape.out_width() * shape.batch >= 2 * LEAST
}

/// Maps of `batch` images.
struct Map<'a> {
    values: &'a [f32],
    order: Order,
    channels: usize,
    positions: usize,
    batch: usize,
}

impl Map<'_> {
    /// Where the images of a channel at a position begin.
    fn at(&self, channel: usize, position: usize) -> usize {
        channel * self.order.channel_stride(self.positions, self.batch)
            + position * self.order.position_stride(self.channels, self.batch)
    }

    /// Writes `(value, row)` of [`LANES`] channels from `first` on at some positions, zeros for none
    /// and up to `to`'s end. Nothing and false where a channel's values lie apart, or the maps end
    /// before a whole vector of them.
    fn turn_in_place(&self, kernels: &Kernels, first: usize, positions: &[Option<usize>], to: &mut [f32]) -> bool {
        if self.order == Order::Positions {
            let mut ahead = positions.iter().skip(1).copied().flatten();
            for (position, to) in positions.iter().zip(to.chunks_exact_mut(self.batch * LANES)) {
                if let Some(next) = ahead.next() {
                    prefetch(self.values.as_ptr().wrapping_add(self.at(first, next)), LANES * self.batch);
                }
                match position {
                    Some(position) => {
                        square(kernels, &self.values[self.at(first, *position)..], self.batch, self.batch, to);
                    }
                    None => to.fill(0.0),
                }
            }
            return true;
        }
        let Some(&Some(start)) = positions.first() else { return false };
        if !positions.iter().zip(start..).all(|(position, next)| *position == Some(next)) {
            return false;
        }
        let (length, last) = (to.len() / LANES, first + LANES - 1);
        let from = self.values.get(self.at(first, start)..self.at(last, start) + length);
        if let Some(from) = from {
            square(kernels, from, self.positions * self.batch, length, to);
            to[positions.len() * self.batch * LANES..].fill(0.0);
        }
        from.is_some()
    }

    /// The same of any rows, each a channel at some positions, by way of `gathered`, as long as `to`.
    fn turn<'b>(
        &self,
        kernels: &Kernels,
        rows: impl Fn(usize) -> Option<(usize, &'b [Option<usize>])>,
        gathered: &mut [f32],
        to: &mut [f32],
    ) {
        let length = to.len() / LANES;
        for (nth, row) in gathered.chunks_exact_mut(length).enumerate() {
            let (channel, positions) = rows(nth).unwrap_or((0, &[]));
            let (filled, empty) = row.split_at_mut(positions.len() * self.batch);
            for (to, position) in filled.chunks_exact_mut(self.batch).zip(positions) {
                match position {
                    Some(position) => {
                        let from = &self.values[self.at(channel, *position)..][..self.batch];
                        prefetch(self.values.as_ptr().wrapping_add(self.at(channel + LANES, *position)), self.batch);
                        copy_images(from, to);
                    }
                    None => to.fill(0.0),
                }
            }
            empty.fill(0.0);
        }
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
    let order = Order::of(batch);
    let from = Map { values: source, order, channels: inputs, positions: shape.in_height * shape.in_width, batch };
    let gradient = Map { values: grad_output, order, channels: outputs, positions, batch };
    let most = (DEPTH / batch).clamp(1, positions);
    let depth = (most * batch).next_multiple_of(LANES);
    let (pair_strips, output_strips) = ((taps * inputs).div_ceil(LANES), outputs / LANES);
    let all = pair_strips * LANES * outputs;
    let most_parts = TASKS.min(positions).min(positions * batch / LEAST).min(PARTIALS / all).max(1);
    let least_splits = outputs.div_ceil(kernels.cache / (SHARE * DEPTH));
    let splits = TASKS.div_ceil(most_parts).min(outputs.div_ceil(FEW)).max(least_splits);
    let parts = TASKS.div_ceil(splits).min(most_parts);
    let share = |all: usize, parts: usize, nth: usize| all * nth / parts..all * (nth + 1) / parts;
    let rows_of = |split: usize| share(output_strips, splits, split);
    scratch::with(parts * all, |partials| {
        let target = Shared::new(partials);
        (0..parts * splits).into_par_iter().with_max_len(1).for_each(|task| {
            let (part, strips) = (task / splits, rows_of(task % splits));
            let rows = strips.len() * LANES;
            // SAFETY: `(part, output strips)` are this task's alone.
            let sums = unsafe {
                let start = part * all + strips.start * LANES * pair_strips * LANES;
                std::slice::from_raw_parts_mut(target.pointer().add(start), rows * pair_strips * LANES)
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
                    let written: Vec<Option<usize>> = met.clone().map(Some).collect();
                    for (nth, factors) in strips.clone().zip(factors.chunks_exact_mut(LANES * depth)) {
                        if !gradient.turn_in_place(kernels, nth * LANES, &written, factors) {
                            gradient.turn(kernels, |lane| Some((nth * LANES + lane, &written)), gathered, factors);
                        }
                    }
                    let read: Vec<_> = (0..taps).map(|tap| read(shape, tap, met.clone())).collect();
                    for (nth, sums) in sums.chunks_exact_mut(rows * LANES).enumerate() {
                        let pair = |lane| {
                            let (tap, channel) = ((nth * LANES + lane) / inputs, (nth * LANES + lane) % inputs);
                            read.get(tap).map(|positions: &Vec<_>| (channel, positions.as_slice()))
                        };
                        let (tap, channel) = (nth * LANES / inputs, nth * LANES % inputs);
                        let one_tap = channel + LANES <= inputs;
                        if !(one_tap && from.turn_in_place(kernels, channel, &read[tap], panel)) {
                            from.turn(kernels, pair, gathered, panel);
                        }
                        // SAFETY: `factors` and `panel` hold `depth` steps of the sum, `sums` all
                        // products of the strip.
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
            });
        });
        let partials = &*partials;
        grad_weight.par_chunks_exact_mut(LANES * inputs * taps).enumerate().for_each(|(strip, grad_weight)| {
            let split = (0..splits).find(|&split| rows_of(split).contains(&strip)).expect("every strip has its task");
            let Range { start, end } = rows_of(split);
            let (rows, inside) = ((end - start) * LANES, (strip - start) * LANES);
            let start = start * LANES * pair_strips * LANES;
            for nth in 0..pair_strips {
                for (row, grad_weight) in grad_weight.chunks_exact_mut(inputs * taps).enumerate() {
                    let mut sum = [0.0f32; LANES];
                    for part in partials.chunks_exact(all) {
                        let values = &part[start + (nth * rows + inside + row) * LANES..][..LANES];
                        sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
                    }
                    let sums = &sum[..LANES.min(taps * inputs - nth * LANES)];
                    if taps == 1 {
                        grad_weight[nth * LANES..][..sums.len()].copy_from_slice(sums);
                        continue;
                    }
                    let (mut tap, mut channel) = (nth * LANES / inputs, nth * LANES % inputs);
                    for &sum in sums {
                        grad_weight[channel * taps + tap] = sum;
                        channel += 1;
                        if channel == inputs {
                            (tap, channel) = (tap + 1, 0);
                        }
                    }
                }
            }
        });
    });
}

/// The source's positions that `tap` reads for some of the output's, none outside.
fn read(shape: &Conv2dShape, tap: usize, met: Range<usize>) -> Vec<Option<usize>> {
    let (width, tap_row, tap_column) = (shape.out_width(), tap / shape.kernel, tap % shape.kernel);
    let Conv2dShape { stride, padding, in_height, in_width, .. } = *shape;
    let read = |position: usize| {
        let row = (position / width * stride + tap_row).checked_sub(padding).filter(|&row| row < in_height)?;
        let column =
            (position % width * stride + tap_column).checked_sub(padding).filter(|&column| column < in_width)?;
        Some(row * in_width + column)
    };
    met.map(read).collect()
}
