//! The weight's gradient by minimal filtering.
//!
//! Both maps are turned to `(N, C)` at each position, so that images are what products sum over.
//! Where the sums at all points are few, tasks take tiles and have sums of their own. Many sums
//! would leave the caches from one tile to the next: then the points of many tiles are written
//! first, and tasks take blocks of channels, whose sums stay while all these tiles are added.

use super::PARTS;
use super::rows::{Place, Side, Turned};
use crate::conv2d::geometry::{Direction, Problem};
use crate::conv2d::strips::{Map, Strips};
use crate::conv2d::tiles::Kernels;
use crate::conv2d::transforms::{OUTPUTS, PAIRS, POINTS, Products, SIDE, STEP, Taps};
use crate::conv2d::units::{Unit, Units};
use crate::scratch::{self, Shared};
use crate::simd::LANES;
use rayon::prelude::*;
use std::slice;

/// Floats of the sums of all parts together.
const PARTIALS: usize = 1 << 21;
/// Floats of a pair of rows of points, of source and gradient, that leave room for their sums in
/// the second-level cache.
const ROOM: usize = 96 * 1024;
/// Floats of the points, of source and gradient, that are written before blocks of channels read them.
const HELD: usize = 5 << 20;

/// All weights' gradients, overwriting `grad_weight`.
pub(in crate::conv2d) fn weight_gradient(
    kernels: &Kernels,
    problem: &Problem,
    source: &[f32],
    grad_output: &[f32],
    grad_weight: &mut [f32],
) {
    debug_assert_eq!(problem.direction, Direction::Forward);
    let gradient = Gradient::new(kernels, problem, source, grad_output);
    let parts = gradient.cut.count().min(PARTS);
    let most = (PARTIALS / gradient.points()).max(1);
    if parts <= most { gradient.by_parts(parts, grad_weight) } else { gradient.by_blocks(grad_weight) }
}

struct Gradient<'a> {
    kernels: &'a Kernels,
    problem: &'a Problem,
    source: Side<'a>,
    gradient: Side<'a>,
    column_lead: usize,
    cut: Units,
    /// floats of the points that are written before blocks read them
    held: usize,
}

impl<'a> Gradient<'a> {
    fn new(kernels: &'a Kernels, problem: &'a Problem, source: &'a [f32], grad_output: &'a [f32]) -> Self {
        let strips = Strips::new(problem.order, problem.batch, problem.destination_width, STEP);
        let (from, column_lead) = Map::source(strips, problem, problem.padding);
        let written = Map::destination(strips, problem);
        let tiles = (problem.destination_height.div_ceil(STEP), written.width.div_ceil(STEP));
        let cut = Units::of_gradient(&strips, tiles);
        let source = Side::new(from, source, problem.source_channels, SIDE, cut.together);
        let gradient = Side::new(written, grad_output, problem.destination_channels, STEP, cut.together);
        Self { kernels, problem, source, gradient, column_lead, cut, held: HELD }
    }

    /// Sums of all channels at all points.
    fn points(&self) -> usize {
        POINTS * self.source.channels * self.gradient.channels
    }

    /// Writes a pair of rows of points of the source at a tile of a unit whose rows are turned.
    ///
    /// # Safety
    /// `place` has room for them, and nothing else writes there meanwhile.
    unsafe fn source_points(&self, turned: &Turned, unit: &Unit, column: usize, pair: usize, place: Place) {
        let top = (STEP * unit.row) as isize - self.problem.padding as isize;
        let pieces = turned.square::<POINTS>((top, (STEP * column) as isize - self.column_lead as isize));
        place.fill(&self.source, unit.lanes.1, |first, length, to| {
            let pieces = pieces.map(|piece| piece.wrapping_add(first));
            // SAFETY: turned positions hold all strips; the rest is the caller's promise.
            unsafe { (self.kernels.source_rows)(&pieces, length, pair, to, place.distance) };
        });
    }

    /// The same of the gradient.
    ///
    /// # Safety
    /// As [`Gradient::source_points`].
    unsafe fn gradient_points(&self, turned: &Turned, unit: &Unit, column: usize, pair: usize, place: Place) {
        let pieces = turned.square::<OUTPUTS>(((STEP * unit.row) as isize, (STEP * column) as isize));
        place.fill(&self.gradient, unit.lanes.1, |first, length, to| {
            let pieces = pieces.map(|piece| piece.wrapping_add(first));
            // SAFETY: as above.
            unsafe { (self.kernels.gradient_rows)(&pieces, length, pair, to, place.distance) };
        });
    }

    /// Distances in the factors: from [`LANES`] output channels to the next, and from a step of the sum to the next.
    fn factor_strides(&self, depth: usize) -> [usize; 2] {
        let strip = self.gradient.strip;
        [if strip == self.gradient.channels { LANES } else { depth * LANES }, strip]
    }

    /// Tasks take some tiles each, and their sums are added up.
    fn by_parts(&self, parts: usize, grad_weight: &mut [f32]) {
        let Self { kernels, problem, source, gradient, cut, .. } = self;
        let (channels, outputs) = (source.channels, gradient.channels);
        let together = (ROOM / (2 * SIDE * (channels + outputs) * cut.together)).clamp(1, cut.across);
        let depth = together * cut.together;
        let (panel_stride, factors_stride) = (source.point(depth), gradient.point(depth));
        let lengths = [source, gradient].map(|side| Turned::lengths(side, cut.together).iter().sum());
        let (points, units) = (self.points(), cut.count());
        scratch::with(parts * points, |partials| {
            partials.par_chunks_mut(points).enumerate().for_each(|(part, sums)| {
                let [in_source, in_gradient]: [usize; 2] = lengths;
                let panels = 2 * SIDE * (panel_stride + factors_stride);
                scratch::with(panels + in_source + in_gradient, |room| {
                    let (panel, room) = room.split_at_mut(2 * SIDE * panel_stride);
                    let (factors, room) = room.split_at_mut(2 * SIDE * factors_stride);
                    let (room, gradient_room) = room.split_at_mut(in_source);
                    let mut from = Turned::new(kernels, source, cut.together, room);
                    let mut written = Turned::new(kernels, gradient, cut.together, gradient_room);
                    let range = units * part / parts..units * (part + 1) / parts;
                    for nth in range.clone() {
                        let unit = cut.nth(nth);
                        from.take_source(&unit, problem.padding);
                        written.take_gradient(&unit, problem.destination_height);
                        for group in (0..cut.across).step_by(together) {
                            let tiles = together.min(cut.across - group);
                            let depth = tiles * unit.lanes.1;
                            for (pair, sums) in sums.chunks_exact_mut(2 * SIDE * outputs * channels).enumerate() {
                                for tile in 0..tiles {
                                    let at = tile * unit.lanes.1;
                                    let to = (panel.as_mut_ptr(), factors.as_mut_ptr());
                                    let place = Place { to: to.0, distance: panel_stride, depth, at };
                                    let factors = Place { to: to.1, distance: factors_stride, depth, at };
                                    // SAFETY: `panel` and `factors` have room for `together` tiles.
                                    unsafe {
                                        self.source_points(&from, &unit, group + tile, pair, place);
                                        self.gradient_points(&written, &unit, group + tile, pair, factors);
                                    }
                                }
                                let [next, step] = self.factor_strides(depth);
                                for first in (0..channels).step_by(source.strip) {
                                    // SAFETY: steps of the sum at each of the pair's points; the
                                    // part's sums are its own.
                                    unsafe {
                                        (kernels.products)(&Products {
                                            points: 2 * SIDE,
                                            depth,
                                            rows: outputs,
                                            vectors: source.strip / LANES,
                                            weight: factors.as_ptr(),
                                            weight_strides: [factors_stride, next, step],
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
            grad_weight.par_chunks_exact_mut(channels * 9).enumerate().for_each(|(output, grad_weight)| {
                for (nth, grad_weight) in grad_weight.chunks_exact_mut(9 * LANES).enumerate() {
                    let (first, within) = (nth * LANES / source.strip * source.strip, nth * LANES % source.strip);
                    let from = &partials[first * outputs + output * source.strip + within..];
                    // SAFETY: of point p of part q of these sums at q·points + p·outputs·channels, strip after strip.
                    unsafe { self.finish(from.as_ptr(), outputs * channels, (parts, points), grad_weight) };
                }
            });
        });
    }

    /// The points of some units are written, then tasks take blocks of channels; and again until
    /// all units are.
    fn by_blocks(&self, grad_weight: &mut [f32]) {
        let Self { source, gradient, cut, .. } = self;
        let (units, of_unit) = (cut.count(), cut.across * cut.together);
        let most = (self.held / (POINTS * (source.channels + gradient.channels) * of_unit)).max(1);
        let (chunks, largest) = (units.div_ceil(most), most.min(units) * of_unit);
        let block = source.block() * gradient.block();
        let (across, down) = (source.channels.div_ceil(source.block()), gradient.channels.div_ceil(gradient.block()));
        let kept = if chunks > 1 { across * down * POINTS * block } else { 0 };
        let lengths = [kept, POINTS * source.point(largest), POINTS * gradient.point(largest)];
        let target = Shared::new(grad_weight);
        scratch::with(lengths.iter().sum(), |room| {
            let (sums, room) = room.split_at_mut(lengths[0]);
            let (panel, factors) = room.split_at_mut(lengths[1]);
            let sums = Shared::new(sums);
            for chunk in 0..chunks {
                let range = units * chunk / chunks..units * (chunk + 1) / chunks;
                let mut depth = 0;
                let taken: Vec<(Unit, usize)> = range
                    .map(|nth| {
                        let unit = cut.nth(nth);
                        depth += cut.across * unit.lanes.1;
                        (unit.clone(), depth - cut.across * unit.lanes.1)
                    })
                    .collect();
                self.write(&taken, depth, Shared::new(panel), Shared::new(factors));
                let (panel, factors) = (&*panel, &*factors);
                (0..across * down).into_par_iter().with_max_len(1).for_each(|nth| {
                    let first = (nth % across * source.block(), nth / across * gradient.block());
                    let add = |sums: &mut [f32]| {
                        self.add_block(first, depth, panel, factors, sums, chunk > 0);
                        if chunk + 1 == chunks {
                            self.finish_block(first, sums, target);
                        }
                    };
                    if chunks == 1 {
                        scratch::with(POINTS * block, add);
                    } else {
                        // SAFETY: each block has its own sums.
                        add(unsafe {
                            slice::from_raw_parts_mut(sums.pointer().add(nth * POINTS * block), POINTS * block)
                        });
                    }
                });
            }
        });
    }

    /// Writes the points of both maps at all tiles of some units, each with its first of `depth` steps of the sum.
    fn write(&self, taken: &[(Unit, usize)], depth: usize, panel: Shared<f32>, factors: Shared<f32>) {
        let Self { kernels, problem, source, gradient, cut, .. } = self;
        let parts = taken.len().min(PARTS);
        (0..2 * parts).into_par_iter().with_max_len(1).for_each(|task| {
            let (part, of_source) = (task / 2, task % 2 == 0);
            let (side, to) = if of_source { (source, panel) } else { (gradient, factors) };
            scratch::with(Turned::lengths(side, cut.together).iter().sum(), |room| {
                let mut turned = Turned::new(kernels, side, cut.together, room);
                for (unit, start) in &taken[taken.len() * part / parts..taken.len() * (part + 1) / parts] {
                    if of_source {
                        turned.take_source(unit, problem.padding);
                    } else {
                        turned.take_gradient(unit, problem.destination_height);
                    }
                    for (pair, tile) in (0..PAIRS).flat_map(|pair| (0..cut.across).map(move |tile| (pair, tile))) {
                        let distance = side.point(depth);
                        let to = to.pointer().wrapping_add(2 * SIDE * pair * distance);
                        let place = Place { to, distance, depth, at: start + tile * unit.lanes.1 };
                        // SAFETY: the maps' points have room for all steps of the sum; units differ in steps.
                        unsafe {
                            if of_source {
                                self.source_points(&turned, unit, tile, pair, place);
                            } else {
                                self.gradient_points(&turned, unit, tile, pair, place);
                            }
                        }
                    }
                }
            });
        });
    }

    /// Channels of the block that begins at `first`, of source and gradient.
    fn block_at(&self, first: (usize, usize)) -> (usize, usize) {
        let Self { source, gradient, .. } = self;
        (source.block().min(source.channels - first.0), gradient.block().min(gradient.channels - first.1))
    }

    /// Adds the products of a block of channels, or overwrites what was there: `(point, strip,
    /// output channel, channel of the strip)`.
    fn add_block(
        &self,
        first: (usize, usize),
        depth: usize,
        panel: &[f32],
        factors: &[f32],
        sums: &mut [f32],
        accumulate: bool,
    ) {
        let Self { kernels, source, gradient, .. } = self;
        let (channels, rows) = self.block_at(first);
        let [next, step] = self.factor_strides(depth);
        // Strip after strip of a point, whose factors are near then.
        for (point, sums) in sums.chunks_exact_mut(source.block() * gradient.block()).enumerate() {
            let factors = &factors[point * gradient.point(depth) + first.1 * depth..][..rows * depth];
            for (strip, sums) in
                (first.0..first.0 + channels).step_by(source.strip).zip(sums.chunks_mut(rows * source.strip))
            {
                let panel = &panel[point * source.point(depth) + strip * depth..][..source.strip * depth];
                // SAFETY: the lengths are those of the slices.
                unsafe {
                    (kernels.products)(&Products {
                        points: 1,
                        depth,
                        rows,
                        vectors: source.strip / LANES,
                        weight: factors.as_ptr(),
                        weight_strides: [0, next, step],
                        panel: panel.as_ptr(),
                        panel_stride: 0,
                        sums: sums.as_mut_ptr(),
                        sums_stride: 0,
                        accumulate,
                    });
                }
            }
        }
    }

    /// Writes the weights' gradients of a block from its sums.
    fn finish_block(&self, first: (usize, usize), sums: &[f32], target: Shared<f32>) {
        let (channels, rows) = self.block_at(first);
        let (all, strip) = (self.source.channels, self.source.strip);
        let distance = self.source.block() * self.gradient.block();
        for row in 0..rows {
            for channel in (0..channels).step_by(LANES) {
                let from = &sums[channel / strip * strip * rows + row * strip + channel % strip..];
                // SAFETY: sums of the block at all points, `distance` apart; a vector of channels of
                // an output channel, which belong to this block.
                unsafe {
                    let at = ((first.1 + row) * all + first.0 + channel) * 9;
                    let to = slice::from_raw_parts_mut(target.pointer().add(at), 9 * LANES);
                    self.finish(from.as_ptr(), distance, (1, 0), to);
                }
            }
        }
    }

    /// Writes the gradients of the kernels that join an output channel to [`LANES`] others, from
    /// their sums at points `distance` apart, of `parts` parts.
    ///
    /// # Safety
    /// `from` is valid for a vector at every point of every part.
    unsafe fn finish(
        &self,
        from: *const f32,
        distance: usize,
        (parts, part_distance): (usize, usize),
        grad_weight: &mut [f32],
    ) {
        let mut taps: Taps = [[0.0; LANES]; 9];
        // SAFETY: the caller's promise.
        unsafe { (self.kernels.kernel_gradients)(from, distance, parts, part_distance, &mut taps) };
        for (lane, grad_weight) in grad_weight.chunks_exact_mut(9).enumerate() {
            grad_weight.iter_mut().zip(&taps).for_each(|(to, tap)| *to = tap[lane]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conv2d::Conv2dShape;
    use crate::conv2d::tiles::kernels;
    use crate::simd::Path;

    /// Of several units and blocks, whole and not, in maps by channel and by position.
    #[test]
    fn blocks_of_channels_give_the_sums_of_parts() {
        let values = |length: usize, step: usize| -> Vec<f32> {
            (0..length).map(|at| (at * step % 37) as f32 / 37.0 - 0.5).collect()
        };
        for (batch, in_channels, out_channels, side) in [(8, 144, 80, 9), (12, 48, 144, 6), (48, 144, 160, 5)] {
            let (in_height, in_width) = (side, side + 1);
            let shape =
                Conv2dShape { batch, in_channels, out_channels, in_height, in_width, kernel: 3, stride: 1, padding: 1 };
            let (source, grad_output) = (values(shape.input_len(), 5), values(shape.output_len(), 11));
            let problem = Problem::new(&shape, Direction::Forward);
            for path in Path::available() {
                let mut gradient = Gradient::new(kernels(path), &problem, &source, &grad_output);
                let mut expected = vec![0.0; shape.weight_len()];
                gradient.by_parts(1, &mut expected);
                // All tiles at once, and a unit at a time.
                for held in [HELD, 0] {
                    gradient.held = held;
                    let mut got = vec![f32::NAN; expected.len()];
                    gradient.by_blocks(&mut got);
                    for (nth, (got, expected)) in got.iter().zip(&expected).enumerate() {
                        assert!(
                            (got - expected).abs() < 1e-4,
                            "{nth} of {shape:?}, {path:?}: {got} against {expected}"
                        );
                    }
                }
            }
        }
    }
}
