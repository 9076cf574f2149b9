//! Dense 3×3 convolutions of stride 1 by minimal filtering, F(4×4, 3×3) (Winograd 1980; Lavin and Gray, CVPR 2016): a tile of 4×4
//! outputs takes 36 multiplications for each pair of channels in place of 144.
//!
//! Maps lie by position, so that transforms work on whole vectors of the batch. Positions and points are a line more than their length
//! apart, since powers of two would meet in the same few sets of the cache. A tile's 36 points are then 36 products of matrices.
//! What is summed in which order depends on the shape alone.

use super::Conv2dShape;
use super::correlate::weight_at;
use super::geometry::{Direction, Problem};
use super::tiles::Kernels;
use super::transforms::{Block, OUTPUTS, PAIRS, POINTS, Products, SIDE, STEP, Taps};
use crate::layout::Order;
use crate::scratch::{self, Shared};
use crate::simd::{LANES, prefetch};
use rayon::prelude::*;
use std::ptr;

/// Images that are transformed together.
const IMAGES: usize = 2 * LANES;
/// Floats of a pair of rows of points, of source and gradient, that leave room for their sums in the second-level cache.
const ROOM: usize = 96 * 1024;
/// Parts into which a call is cut at most, and floats of all parts' sums of a weight's gradient together.
const PARTS: usize = 12;
const PARTIALS: usize = 1 << 21;

/// Whether this algorithm takes the shape and saves multiplications: tiles at a map's end reach beyond it, while direct products skip
/// what lies outside.
pub(super) fn pays(shape: &Conv2dShape) -> bool {
    let whole = |channels: usize| channels > 0 && channels.is_multiple_of(LANES);
    if Order::of(shape.batch) != Order::Positions
        || (shape.kernel, shape.stride) != (3, 1)
        || shape.padding > 2
        || !whole(shape.in_channels)
        || !whole(shape.out_channels)
    {
        return false;
    }
    let products = |out: usize, length: usize| {
        let inside = |at: &usize| (shape.padding..shape.padding + length).contains(at);
        (0..out).map(|first| (first..first + 3).filter(inside).count()).sum::<usize>()
    };
    let (height, width) = (shape.out_height(), shape.out_width());
    let direct = products(height, shape.in_height) * products(width, shape.in_width);
    let tiles = height.div_ceil(STEP) * width.div_ceil(STEP);
    // A quarter more for the transforms.
    tiles * POINTS * 5 / 4 < direct
}

/// Maps of one side of the convolution, cut into tiles of 4×4 positions.
#[derive(Clone, Copy)]
struct Map {
    height: usize,
    width: usize,
}

impl Map {
    /// The position `first + offset`, if it lies inside.
    fn at(self, first: (isize, isize), y: usize, x: usize) -> Option<(usize, usize)> {
        let (y, x) = (usize::try_from(first.0 + y as isize).ok()?, usize::try_from(first.1 + x as isize).ok()?);
        (y < self.height && x < self.width).then_some((y, x))
    }

    /// Calls `load` for each row of a tile row's source that is not held yet, and holds it: row y in the slot y mod [`SIDE`].
    fn hold(self, first: isize, block: usize, held: &mut [Option<(usize, usize)>; SIDE], mut load: impl FnMut(usize)) {
        for y in 0..SIDE {
            let Some((y, _)) = self.at((first, 0), y, 0) else { continue };
            if held[y % SIDE].replace((block, y)) != Some((block, y)) {
                load(y);
            }
        }
    }

    /// Calls `visit` for each position of row `y`, with a pointer to its `channels` blocks of `length` images from `start` on, `batch`
    /// apart, and its part of `to`.
    fn visit_row<'a>(
        self,
        values: &'a [f32],
        block: Block,
        start: usize,
        y: usize,
        to: impl Iterator<Item = &'a mut [f32]>,
        visit: impl Fn(*const f32, &mut [f32]),
    ) {
        for (x, to) in to.enumerate().take(self.width) {
            let values = &values[(y * self.width + x) * block.rows * block.stride + start..];
            assert!((block.rows - 1) * block.stride + block.length <= values.len(), "conv2d: a block of a map");
            assert!(block.rows * block.length <= to.len(), "conv2d: room for a block");
            visit(values.as_ptr(), to);
        }
    }

    /// Pointers to the square of positions from `first` on, row after row; `outside` stands for positions beyond the map.
    fn pointers<const N: usize>(
        self,
        first: (isize, isize),
        outside: *const f32,
        inside: impl Fn(usize, usize) -> *const f32,
    ) -> [*const f32; N] {
        let side = if N == POINTS { SIDE } else { STEP };
        std::array::from_fn(|nth| self.at(first, nth / side, nth % side).map_or(outside, |(y, x)| inside(y, x)))
    }
}

/// `destination (+)= weight ⋆ source`.
pub(super) fn product(
    kernels: &Kernels,
    problem: &Problem,
    weight: &[f32],
    source: &[f32],
    destination: &mut [f32],
    accumulate: bool,
) {
    let (batch, channels, outputs) = (problem.batch, problem.source_channels, problem.destination_channels);
    let from = Map { height: problem.source_height, width: problem.source_width };
    let to = Map { height: problem.destination_height, width: problem.destination_width };
    assert_eq!(source.len(), from.height * from.width * channels * batch, "conv2d: source length");
    assert_eq!(destination.len(), to.height * to.width * outputs * batch, "conv2d: destination length");
    // Rows and columns by which a tile's piece of the source starts before its outputs.
    let lead = match problem.direction {
        Direction::Forward => problem.padding,
        Direction::Backward => 2 - problem.padding,
    } as isize;
    let (tile_rows, tile_columns) = (to.height.div_ceil(STEP), to.width.div_ceil(STEP));
    let blocks = batch.div_ceil(IMAGES);
    let part = POINTS * channels * LANES;
    let units = tile_rows * blocks;
    let parts = units.min(PARTS);
    let position = IMAGES * channels + LANES;
    let row_len = from.width * position;
    let (panel_stride, sums_stride) = (position, IMAGES * outputs + LANES);
    let target = Shared::new(destination);
    scratch::with(outputs / LANES * part + position, |room| {
        let (packed, zeros) = room.split_at_mut(outputs / LANES * part);
        zeros.fill(0.0);
        packed
            .par_chunks_mut(part)
            .enumerate()
            .for_each(|(nth, packed)| pack_weights(kernels, problem, weight, nth, packed));
        let (packed, zeros) = (&*packed, &*zeros);
        (0..parts).into_par_iter().with_max_len(1).for_each(|nth| {
            scratch::with(SIDE * row_len + POINTS * (panel_stride + sums_stride), |room| {
                let (near, room) = room.split_at_mut(SIDE * row_len);
                let (panel, sums) = room.split_at_mut(POINTS * panel_stride);
                let mut held = [None; SIDE];
                for unit in units * nth / parts..units * (nth + 1) / parts {
                    let (block, row) = (unit / tile_rows, unit % tile_rows);
                    let start = block * IMAGES;
                    let length = IMAGES.min(batch - start);
                    let taken = Block { rows: channels, length, stride: batch };
                    from.hold((STEP * row) as isize - lead, block, &mut held, |y| {
                        let to = near[y % SIDE * row_len..][..row_len].chunks_exact_mut(position);
                        from.visit_row(source, taken, start, y, to, |from, to| {
                            // SAFETY: `visit_row` gives blocks inside the map, and room for them one after the other.
                            unsafe { (kernels.copy)(from, batch, to.as_mut_ptr(), length, length, length, channels) };
                        });
                    });
                    let products = Products {
                        points: POINTS,
                        depth: channels,
                        rows: outputs,
                        vectors: length / LANES,
                        weight: packed.as_ptr(),
                        weight_strides: [channels * LANES, part, LANES],
                        panel: panel.as_ptr(),
                        panel_stride,
                        sums: sums.as_mut_ptr(),
                        sums_stride,
                        accumulate: false,
                    };
                    for column in 0..tile_columns {
                        let first = ((STEP * row) as isize, (STEP * column) as isize);
                        let pieces =
                            from.pointers::<POINTS>((first.0 - lead, first.1 - lead), zeros.as_ptr(), |y, x| {
                                near[y % SIDE * row_len + x * position..].as_ptr()
                            });
                        let places = to.pointers::<OUTPUTS>(first, ptr::null(), |y, x| {
                            target.pointer().wrapping_add((y * to.width + x) * outputs * batch + start).cast_const()
                        });
                        // Stores wait for lines that are not in the cache; they come while products are computed.
                        for place in places.iter().filter(|place| !place.is_null()) {
                            (0..outputs).for_each(|output| prefetch(place.wrapping_add(output * batch), length));
                        }
                        let line = Block { rows: 1, length: length * channels, stride: 0 };
                        let block = Block { rows: outputs, length, stride: batch };
                        // SAFETY: pieces are positions in `near`, or zeros; places are positions inside the map, whose blocks of
                        // `length ≤ batch − start` images repeat for each channel, `batch` apart; a tile's outputs belong to this
                        // unit alone. Batches and channels are whole vectors; `packed`, `panel` and `sums` have the lengths that
                        // `products` says.
                        unsafe {
                            (kernels.source)(&pieces, line, panel.as_mut_ptr(), panel_stride);
                            (kernels.products)(&products);
                            let places = places.map(<*const f32>::cast_mut);
                            (kernels.output)(products.sums, sums_stride, &places, block, accumulate);
                        }
                    }
                }
            });
        });
    });
}

/// The points of the nth [`LANES`] destination channels' kernels, `(point, source channel, destination channel)`.
fn pack_weights(kernels: &Kernels, problem: &Problem, weight: &[f32], nth: usize, packed: &mut [f32]) {
    let channels = problem.source_channels;
    assert_eq!(packed.len(), POINTS * channels * LANES, "conv2d: packed weights");
    let mut taps: Taps = [[0.0; LANES]; 9];
    for channel in 0..channels {
        for (tap, values) in taps.iter_mut().enumerate() {
            // The gradient of the input meets the kernel turned by half a turn.
            let tap = if problem.direction == Direction::Forward { tap } else { 8 - tap };
            for (lane, value) in values.iter_mut().enumerate() {
                *value = weight[weight_at(problem, nth * LANES + lane, channel) + tap];
            }
        }
        // SAFETY: point p of the channel lies at (p·channels + channel)·LANES.
        unsafe {
            let to = packed.as_mut_ptr().add(channel * LANES);
            (kernels.kernel_points)(&taps, to, channels * LANES);
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
    let (batch, channels, outputs) = (problem.batch, problem.source_channels, problem.destination_channels);
    let from = Map { height: problem.source_height, width: problem.source_width };
    let to = Map { height: problem.destination_height, width: problem.destination_width };
    assert_eq!(source.len(), from.height * from.width * channels * batch, "conv2d: source length");
    assert_eq!(grad_output.len(), to.height * to.width * outputs * batch, "conv2d: gradient length");
    let (tile_rows, tile_columns) = (to.height.div_ceil(STEP), to.width.div_ceil(STEP));
    let units = tile_rows * batch.div_ceil(IMAGES);
    let points = POINTS * channels * outputs;
    let parts = units.min(PARTS).min((PARTIALS / points).max(1));
    // Where the sums are large, each pair of rows of points is a task of its own: it turns the maps again, but there are more tasks.
    let splits = if parts < units.min(PARTS) { PAIRS } else { 1 };
    let together = (ROOM / (2 * SIDE * (channels + outputs) * IMAGES)).clamp(1, tile_columns);
    let lead = problem.padding as isize;
    let depth = together * IMAGES;
    // Floats of a turned position, of a row of them, of a point.
    let (position, gradient_position) = (IMAGES * channels + LANES, IMAGES * outputs + LANES);
    let (row_len, gradient_row) = (from.width * position, to.width * gradient_position);
    let (panel_stride, factors_stride) = (depth * channels + LANES, depth * outputs + LANES);
    // Six rows of the source, turned: row y in the slot y mod 6; four rows of the gradient.
    let longest = IMAGES * channels.max(outputs);
    let lengths = [SIDE * row_len, STEP * gradient_row, 2 * SIDE * panel_stride, 2 * SIDE * factors_stride, longest];
    scratch::with(parts * points, |partials| {
        partials.par_chunks_mut(points / splits).enumerate().for_each(|(nth, sums)| {
            let (part, pairs) = (nth / splits, if splits == 1 { 0..PAIRS } else { nth % splits..nth % splits + 1 });
            scratch::with(lengths.iter().sum(), |room| {
                let (turned, room) = room.split_at_mut(lengths[0]);
                let (gradient, room) = room.split_at_mut(lengths[1]);
                let (panel, room) = room.split_at_mut(lengths[2]);
                let (factors, zeros) = room.split_at_mut(lengths[3]);
                zeros.fill(0.0);
                let mut held = [None; SIDE];
                let range = units * part / parts..units * (part + 1) / parts;
                for unit in range.clone() {
                    let (block, row) = (unit / tile_rows, unit % tile_rows);
                    let start = block * IMAGES;
                    let length = IMAGES.min(batch - start);
                    let turn = |map: Map, values: &[f32], channels: usize, y: usize, to: &mut [f32]| {
                        let block = Block { rows: channels, length, stride: batch };
                        let to = to.chunks_exact_mut(IMAGES * channels + LANES);
                        map.visit_row(values, block, start, y, to, |from, to| {
                            // SAFETY: `visit_row` gives a block inside the map, and room for it.
                            unsafe { (kernels.turn)(from, block, to.as_mut_ptr()) };
                        });
                    };
                    from.hold((STEP * row) as isize - lead, block, &mut held, |y| {
                        turn(from, source, channels, y, &mut turned[y % SIDE * row_len..][..row_len]);
                    });
                    for y in STEP * row..to.height.min(STEP * (row + 1)) {
                        turn(to, grad_output, outputs, y, &mut gradient[y % STEP * gradient_row..][..gradient_row]);
                    }
                    for group in (0..tile_columns).step_by(together) {
                        let tiles = together.min(tile_columns - group);
                        for pair in pairs.clone() {
                            for nth in 0..tiles {
                                let first = ((STEP * row) as isize, (STEP * (group + nth)) as isize);
                                let pieces = from.pointers::<POINTS>(
                                    (first.0 - lead, first.1 - lead),
                                    zeros.as_ptr(),
                                    |y, x| turned[y % SIDE * row_len + x * position..].as_ptr(),
                                );
                                let places = to.pointers::<OUTPUTS>(first, zeros.as_ptr(), |y, x| {
                                    gradient[y % STEP * gradient_row + x * gradient_position..].as_ptr()
                                });
                                // SAFETY: turned positions hold `length·channels` floats, `panel` and `factors` `depth` times as
                                // many channels at each point.
                                unsafe {
                                    let to = panel.as_mut_ptr().add(nth * length * channels);
                                    (kernels.source_rows)(&pieces, length * channels, pair, to, panel_stride);
                                    let to = factors.as_mut_ptr().add(nth * length * outputs);
                                    (kernels.gradient_rows)(&places, length * outputs, pair, to, factors_stride);
                                }
                            }
                            let of_pair = 2 * SIDE * outputs * channels;
                            // SAFETY: `tiles·length ≤ depth` steps of the sum at each of the pair's points; the part's sums are
                            // its own.
                            unsafe {
                                (kernels.products)(&Products {
                                    points: 2 * SIDE,
                                    depth: tiles * length,
                                    rows: outputs,
                                    vectors: channels / LANES,
                                    weight: factors.as_ptr(),
                                    weight_strides: [factors_stride, LANES, outputs],
                                    panel: panel.as_ptr(),
                                    panel_stride,
                                    sums: sums[(pair - pairs.start) * of_pair..][..of_pair].as_mut_ptr(),
                                    sums_stride: outputs * channels,
                                    accumulate: unit > range.start || group > 0,
                                });
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
                // SAFETY: point p of part q of these sums lies at q·points + (p·outputs + output)·channels + nth·LANES.
                unsafe {
                    let from = partials.as_ptr().add(output * channels + nth * LANES);
                    (kernels.kernel_gradients)(from, outputs * channels, parts, points, &mut taps);
                }
                for (lane, grad_weight) in grad_weight.chunks_exact_mut(9).enumerate() {
                    grad_weight.iter_mut().zip(&taps).for_each(|(to, tap)| *to = tap[lane]);
                }
            }
        });
    });
}
