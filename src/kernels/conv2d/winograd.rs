//! Dense 3×3 convolutions of stride 1 by minimal filtering, F(4×4, 3×3) (Winograd 1980; Lavin and
//! Gray, CVPR 2016): a tile of 4×4 outputs takes 36 multiplications for each pair of channels in
//! place of 144.
//!
//! Transforms work on whole vectors: of images where maps lie by position, else of their
//! [strips](super::strips), which are gathered before and whose outputs are put to their places
//! after. Positions and points are a line more than their length apart, since powers of two would
//! meet in the same few sets of the cache. A tile's 36 points are then 36 products of matrices.
//! What is summed in which order depends on the shape alone.

mod product;

use super::Conv2dShape;
use super::geometry::{Direction, Problem};
use super::strips::{Map, Strips};
use super::tiles::Kernels;
use super::transforms::{Block, OUTPUTS, PAIRS, POINTS, Products, SIDE, STEP, Taps};
use super::units::{Unit, Units};
use crate::layout::Order;
use crate::scratch;
use crate::simd::{LANES, prefetch};
pub(super) use product::product;
use rayon::prelude::*;

/// Floats of a pair of rows of points, of source and gradient, that leave room for their sums in
/// the second-level cache.
const ROOM: usize = 96 * 1024;
/// What moving a pair of channels' points to main memory and back costs, in multiplications
/// (measured, AMD EPYC, Zen 4).
const MOVED: usize = 2500;
/// Channels from which on what a tile reads of one image after the other lies so far apart that it
/// meets in few sets of the cache.
const APART: usize = 128;
/// Parts into which a call is cut at most, unless a product's threads want more; and floats of all
/// parts' sums of a weight's gradient together.
const PARTS: usize = 12;
const PARTIALS: usize = 1 << 21;

/// Whether this algorithm takes the shape and saves multiplications: tiles at a map's end reach
/// beyond it, while direct products skip what lies outside.
pub(super) fn pays(shape: &Conv2dShape) -> bool {
    // Fewer images and channels leave the cutting of maps into strips too much of the time.
    let small = shape.batch < 2 || shape.batch * shape.in_channels.min(shape.out_channels) < 128;
    takes(shape) && !(Order::of(shape.batch) == Order::Channels && small) && filtered(shape) < direct(shape)
}

/// The same for the weight's gradient, whose sums at the points are moved through main memory where they are many.
pub(super) fn gradient_pays(shape: &Conv2dShape) -> bool {
    let many = Order::of(shape.batch) == Order::Channels && shape.in_channels * shape.out_channels > 1 << 14;
    pays(shape) && filtered(shape) + if many { MOVED } else { 0 } < direct(shape)
}

fn takes(shape: &Conv2dShape) -> bool {
    let whole = |channels: usize| channels > 0 && channels.is_multiple_of(LANES);
    (shape.kernel, shape.stride) == (3, 1)
        && shape.padding <= 2
        && whole(shape.in_channels)
        && whole(shape.out_channels)
}

/// Multiplications for each pair of channels, and a quarter more for the transforms.
fn filtered(shape: &Conv2dShape) -> usize {
    let strips = Strips::new(Order::of(shape.batch), shape.batch, shape.out_width(), STEP);
    shape.out_height().div_ceil(STEP) * strips.tiles() * POINTS * 5 / 4
}

/// Multiplications of direct products for each pair of channels.
fn direct(shape: &Conv2dShape) -> usize {
    let products = |out: usize, length: usize| {
        let inside = |at: &usize| (shape.padding..shape.padding + length).contains(at);
        (0..out).map(|first| (first..first + 3).filter(inside).count()).sum::<usize>()
    };
    products(shape.out_height(), shape.in_height) * products(shape.out_width(), shape.in_width) * shape.batch
}

/// Which section's rows of the source are held, and which ones: row y in the slot y mod [`SIDE`].
type Held = [Option<(usize, usize)>; SIDE];

/// Calls `load` for each of the source's rows from `first` on that a unit reads and that is not held
/// yet, and holds it.
fn hold(map: &Map, first: isize, unit: &Unit, held: &mut Held, mut load: impl FnMut(usize)) {
    for y in 0..SIDE {
        let Some((y, _)) = map.at((first, 0), y, 0) else { continue };
        let row = Some((unit.section, y));
        if held[y % SIDE] != row {
            load(y);
            held[y % SIDE] = row;
        }
    }
}

/// All weights' gradients, overwriting `grad_weight`.
///
/// Both maps are turned to `(N, C)` at each position, so that images are what products sum over.
pub(super) fn weight_gradient(
    kernels: &Kernels,
    problem: &Problem,
    source: &[f32],
    grad_output: &[f32],
    grad_weight: &mut [f32],
) {
    debug_assert_eq!(problem.direction, Direction::Forward);
    let (channels, outputs) = (problem.source_channels, problem.destination_channels);
    let strips = Strips::new(problem.order, problem.batch, problem.destination_width, STEP);
    let (from, column_lead) = Map::source(strips, problem, problem.padding);
    let written = Map::destination(strips, problem);
    assert_eq!(source.len(), from.len(), "conv2d: source length");
    assert_eq!(grad_output.len(), written.len(), "conv2d: gradient length");
    let tiles = (problem.destination_height.div_ceil(STEP), written.width.div_ceil(STEP));
    let cut = Units::of_gradient(&strips, tiles);
    let (units, in_place) = (cut.count(), problem.order == Order::Positions);
    let points = POINTS * channels * outputs;
    let parts = units.min(PARTS).min((PARTIALS / points).max(1));
    // Where the sums are large, each pair of rows of points is a task of its own: it turns the maps
    // again, but there are more tasks.
    let splits = if parts < units.min(PARTS) { PAIRS } else { 1 };
    let together = (ROOM / (2 * SIDE * (channels + outputs) * cut.together)).clamp(1, cut.across);
    // Channels that lie together for all images, and then the next ones.
    let strip_of = |channels: usize| if channels >= APART { LANES } else { channels };
    let (strip, gradient_strip) = (strip_of(channels), strip_of(outputs));
    let depth = together * cut.together;
    // Floats of a turned position, of a row of them, of a point.
    let (position, gradient_position) = (cut.together * channels + LANES, cut.together * outputs + LANES);
    let (row_len, gradient_row) = (from.width * position, written.width * gradient_position);
    let (panel_stride, factors_stride) = (depth * channels + LANES, depth * outputs + LANES);
    // Six rows of the source, turned: row y in the slot y mod 6; four rows of the gradient.
    let longest = cut.together * channels.max(outputs);
    let gathered = from.room(cut.together * channels).max(written.room(cut.together * outputs));
    let lengths =
        [SIDE * row_len, STEP * gradient_row, 2 * SIDE * panel_stride, 2 * SIDE * factors_stride, longest, gathered];
    scratch::with(parts * points, |partials| {
        partials.par_chunks_mut(points / splits).enumerate().for_each(|(nth, sums)| {
            let (part, pairs) = (nth / splits, if splits == 1 { 0..PAIRS } else { nth % splits..nth % splits + 1 });
            scratch::with(lengths.iter().sum(), |room| {
                let (turned, room) = room.split_at_mut(lengths[0]);
                let (gradient, room) = room.split_at_mut(lengths[1]);
                let (panel, room) = room.split_at_mut(lengths[2]);
                let (factors, room) = room.split_at_mut(lengths[3]);
                let (zeros, room) = room.split_at_mut(lengths[4]);
                zeros.fill(0.0);
                let mut held = [None; SIDE];
                let range = units * part / parts..units * (part + 1) / parts;
                for nth in range.clone() {
                    let unit = cut.nth(nth);
                    let (row, length) = (unit.row, unit.lanes.1);
                    let top = (STEP * row) as isize - problem.padding as isize;
                    let mut turn = |map: Map, values: &[f32], position, y, to: &mut [f32]| {
                        let to = to.chunks_exact_mut(position);
                        map.visit_row(values, unit.lanes, (y, 0..map.width), room, to, |from, block, to| {
                            let Block { rows, length, stride } = block;
                            if in_place {
                                // These lanes of a position are no run of memory that the processor
                                // would read ahead in, so the next position's are asked for.
                                let next = from.wrapping_add(rows * stride);
                                (0..rows).for_each(|row| prefetch(next.wrapping_add(row * stride), length));
                            }
                            let strip = strip_of(rows);
                            for first in (0..rows).step_by(strip) {
                                let block = Block { rows: strip, ..block };
                                // SAFETY: `visit_row` gives a block, and room for it, of which this
                                // is a strip of channels.
                                unsafe {
                                    let to = to.as_mut_ptr().add(first * length);
                                    (kernels.turn)(from.add(first * stride), block, to);
                                }
                            }
                        });
                    };
                    hold(&from, top, &unit, &mut held, |y| {
                        let to = &mut turned[y % SIDE * row_len..][..row_len];
                        turn(from, source, position, y, to);
                    });
                    for y in STEP * row..problem.destination_height.min(STEP * (row + 1)) {
                        let to = &mut gradient[y % STEP * gradient_row..][..gradient_row];
                        turn(written, grad_output, gradient_position, y, to);
                    }
                    for group in (0..cut.across).step_by(together) {
                        let tiles = together.min(cut.across - group);
                        for pair in pairs.clone() {
                            for tile in 0..tiles {
                                let first = ((STEP * row) as isize, (STEP * (group + tile)) as isize);
                                let pieces = from.pointers::<POINTS>(
                                    (top, first.1 - column_lead as isize),
                                    zeros.as_ptr(),
                                    |y, x| turned[y % SIDE * row_len + x * position..].as_ptr(),
                                );
                                let places = written.pointers::<OUTPUTS>(first, zeros.as_ptr(), |y, x| {
                                    gradient[y % STEP * gradient_row + x * gradient_position..].as_ptr()
                                });
                                // SAFETY: turned positions hold `length·channels` floats, `panel`
                                // and `factors` `depth` times as many channels at each point.
                                unsafe {
                                    for first in (0..channels).step_by(strip) {
                                        let to = panel.as_mut_ptr().add((first * tiles + tile * strip) * length);
                                        let pieces = pieces.map(|piece| piece.wrapping_add(first * length));
                                        (kernels.source_rows)(&pieces, length * strip, pair, to, panel_stride);
                                    }
                                    for first in (0..outputs).step_by(gradient_strip) {
                                        let to =
                                            factors.as_mut_ptr().add((first * tiles + tile * gradient_strip) * length);
                                        let places = places.map(|place| place.wrapping_add(first * length));
                                        let length = length * gradient_strip;
                                        (kernels.gradient_rows)(&places, length, pair, to, factors_stride);
                                    }
                                }
                            }
                            let depth = tiles * length;
                            let of_pair = 2 * SIDE * outputs * channels;
                            let sums = &mut sums[(pair - pairs.start) * of_pair..][..of_pair];
                            let next = if gradient_strip == outputs { LANES } else { depth * LANES };
                            for first in (0..channels).step_by(strip) {
                                // SAFETY: steps of the sum at each of the pair's points; the part's sums are its own.
                                unsafe {
                                    (kernels.products)(&Products {
                                        points: 2 * SIDE,
                                        depth,
                                        rows: outputs,
                                        vectors: strip / LANES,
                                        weight: factors.as_ptr(),
                                        weight_strides: [factors_stride, next, gradient_strip],
                                        panel: panel.as_ptr().add(first * depth),
                                        panel_stride,
                                        sums: sums[first * outputs..].as_mut_ptr(),
                                        sums_stride: outputs * channels,
                                        accumulate: nth > range.start || group > 0,
                                    });
                                }
                            }
                        }
                    }
                }
            });
        });
        let partials = &*partials;
        grad_weight.par_chunks_mut(channels * 9).enumerate().for_each(|(output, grad_weight)| {
            let mut taps: Taps = [[0.0; LANES]; 9];
            for (nth, grad_weight) in grad_weight.chunks_exact_mut(9 * LANES).enumerate() {
                let (first, within) = (nth * LANES / strip * strip, nth * LANES % strip);
                // SAFETY: of point p of part q of these sums at q·points + p·outputs·channels, strip after strip.
                unsafe {
                    let from = partials.as_ptr().add(first * outputs + output * strip + within);
                    (kernels.kernel_gradients)(from, outputs * channels, parts, points, &mut taps);
                }
                for (lane, grad_weight) in grad_weight.chunks_exact_mut(9).enumerate() {
                    grad_weight.iter_mut().zip(&taps).for_each(|(to, tap)| *to = tap[lane]);
                }
            }
        });
    });
}
