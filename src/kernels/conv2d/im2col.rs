//! Dense products of maps that lie by channel, from panels of what their values read (im2col).
//!
//! Values that follow each other among a channel's positions and images are taken [`LANES`] at a
//! time, a strip. What the strips of a tile read is gathered as `(taps · source channels, strips,
//! LANES)`, so that tiles read it from end to end and the first-level cache holds it while all of
//! them do. Outputs go to the maps from sums beside the panel, or where they lie as strips do are
//! summed there.
//! Neighbours in a strided gradient have different taps, so values that lie `stride` apart are
//! taken together there.

use super::correlate::COLUMN;
use super::geometry::{Direction, Problem};
use super::pack::pack_weights;
use super::tiles::{DenseTile, Kernels};
use crate::layout::{Order, copy_images};
use crate::scratch::{self, Shared};
use crate::simd::{LANES, prefetch};
use rayon::prelude::*;
use std::ops::Range;

/// Strips that a tile takes at most. The sums of one alone are so few that they wait for each other
/// on processors that multiply and add two vectors at a time.
const WIDEST: usize = 3;
/// Steps of the sum that a panel holds at most, and no more than [`COLUMN`] lets a tile read.
const DEPTH: usize = 256;
/// Floats of a panel with the sums of its strips, and strips of a panel, at least.
const ROOM: usize = 1 << 16;
const STRIPS: usize = 4;
/// Tiles whose weights stay in the second-level cache while all strips read them.
const TILES: usize = 24;
/// Panels that a call should have, and by what their number divides, so that a few threads stay busy to the end.
const ITEMS: usize = 8;
const SHARED_BY: usize = 4;
/// Channels between those that are gathered and those that main memory is asked for.
const AHEAD: usize = 6;

/// Whether [`product`] takes the problem and is faster than tiles of the maps as they lie.
pub(super) fn pays(problem: &Problem) -> bool {
    // Few channels on either side take less time than the gathering.
    problem.order == Order::Channels
        && problem.source_channels.min(problem.destination_channels) >= LANES
        && problem.destination_height * problem.destination_width * problem.batch >= ITEMS * LANES
}

/// Strips that a tile takes at most.
fn widest(kernels: &Kernels) -> usize {
    kernels.dense.len().min(WIDEST)
}

/// Positions of the destination that have the same taps.
struct Class {
    /// row and column of the first one
    first: (usize, usize),
    /// number of rows and columns
    size: (usize, usize),
    /// rows, and columns, from one to the next
    step: usize,
    taps: Vec<usize>,
}

impl Class {
    fn all(problem: &Problem) -> impl Iterator<Item = Self> {
        let (height, width) = (problem.destination_height, problem.destination_width);
        let step = if problem.direction == Direction::Forward { 1 } else { problem.stride };
        let firsts = (0..step.min(height)).flat_map(move |row| (0..step.min(width)).map(move |column| (row, column)));
        firsts.map(move |first| {
            let meets = |destination, tap| problem.source(destination, tap).is_some();
            let met = |&tap: &usize| meets(first.0, tap / problem.kernel) && meets(first.1, tap % problem.kernel);
            let taps = (0..problem.kernel * problem.kernel).filter(met).collect();
            let size = ((height - first.0).div_ceil(step), (width - first.1).div_ceil(step));
            Self { first, size, step, taps }
        })
    }

    /// Row and column of the nth position.
    fn position(&self, nth: usize) -> (usize, usize) {
        (self.first.0 + nth / self.size.1 * self.step, self.first.1 + nth % self.size.1 * self.step)
    }

    /// What `tap` joins to the nth position, if it lies inside the source.
    fn read(&self, problem: &Problem, nth: usize, tap: usize) -> Option<usize> {
        let (row, column) = self.position(nth);
        let inside = |at: Option<isize>, length: usize| usize::try_from(at?).ok().filter(|&at| at < length);
        let row = inside(problem.source(row, tap / problem.kernel), problem.source_height)?;
        let column = inside(problem.source(column, tap % problem.kernel), problem.source_width)?;
        Some(row * problem.source_width + column)
    }
}

/// Values that lie together in a channel, and where; zeros where nowhere.
struct Run {
    first: Option<usize>,
    length: usize,
}

/// The values `range` of positions, each of `batch` images, that lie where `place` says.
fn runs(batch: usize, range: &Range<usize>, place: impl Fn(usize) -> Option<usize>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut value = range.start;
    while value < range.end {
        let (nth, image) = (value / batch, value % batch);
        let length = (batch - image).min(range.end - value);
        let first = place(nth).map(|position| position * batch + image);
        match runs.last_mut() {
            Some(last) if last.first.map(|first| first + last.length) == first => last.length += length,
            _ => runs.push(Run { first, length }),
        }
        value += length;
    }
    runs
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
    let (outputs, mr) = (problem.destination_channels, kernels.mr);
    let plane = problem.destination_height * problem.destination_width * problem.batch;
    assert_eq!(destination.len(), outputs * plane, "conv2d: destination length");
    let target = Shared::new(destination);
    let tiles = outputs.div_ceil(mr);
    let pointwise = (problem.kernel, problem.stride, problem.padding) == (1, 1, 0);
    let widest = widest(kernels);
    // Values that a tile takes.
    let unit = widest * LANES;
    let most_steps = DEPTH.min(COLUMN / unit);
    for class in Class::all(problem) {
        let depth = class.taps.len() * problem.source_channels;
        if depth == 0 && accumulate {
            continue;
        }
        let (values, held) = (class.size.0 * class.size.1 * problem.batch, depth.min(most_steps));
        let units = values.div_ceil(unit);
        let most = (ROOM / (unit * (held + outputs))).max(STRIPS.div_ceil(widest));
        let items = units.div_ceil(most).next_multiple_of(SHARED_BY).max(ITEMS).min(units);
        scratch::with(tiles * depth * mr, |packed| {
            packed.par_chunks_exact_mut((depth * mr).max(1)).enumerate().for_each(|(tile, packed)| {
                pack_weights(problem, &class.taps, weight, (tile * mr, mr), packed);
            });
            let packed = &*packed;
            (0..items).into_par_iter().with_max_len(1).for_each(|item| {
                let range = units * item / items * unit..values.min(units * (item + 1) / items * unit);
                let width = range.len().next_multiple_of(LANES);
                // Whole vectors that lie as they are read are summed in their places.
                let in_place = pointwise && range.len() == width && outputs.is_multiple_of(mr);
                scratch::with(width * (held + 1 + if in_place { 0 } else { tiles * mr }), |room| {
                    let (panel, room) = room.split_at_mut(width * held);
                    let (row, sums) = room.split_at_mut(width);
                    if depth == 0 {
                        sums.fill(0.0);
                    }
                    let read = |&tap| runs(problem.batch, &range, |nth| class.read(problem, nth, tap));
                    let read: Vec<Vec<Run>> = class.taps.iter().map(read).collect();
                    for first in (0..depth).step_by(most_steps) {
                        let steps = first..depth.min(first + most_steps);
                        let panel = &mut panel[..width * steps.len()];
                        gather(kernels, problem, &read, steps.clone(), source, row, panel);
                        let add = accumulate && in_place || first > 0;
                        let (to, row) = if in_place {
                            (target.pointer().wrapping_add(range.start), plane)
                        } else {
                            (sums.as_mut_ptr(), width)
                        };
                        // SAFETY: `to` is the values of every channel that are this item's alone, or room for them.
                        unsafe { add_products(kernels, packed, depth, steps, panel, (to, row), add) };
                    }
                    if in_place {
                        return;
                    }
                    let place = |nth| Some(class.position(nth)).map(|(y, x)| y * problem.destination_width + x);
                    let written = runs(problem.batch, &range, place);
                    for (output, sums) in sums.chunks_exact(width).take(outputs).enumerate() {
                        // SAFETY: a channel of the destination, and values that are this class's and item's alone.
                        unsafe { put(sums, &written, target.pointer().add(output * plane), plane, accumulate) };
                    }
                });
            });
        });
    }
}

/// Steps of the sum for all strips, `(tile's strips, step, strip, LANES)`; `row` has room for one
/// step of them.
fn gather(
    kernels: &Kernels,
    problem: &Problem,
    read: &[Vec<Run>],
    steps: Range<usize>,
    source: &[f32],
    row: &mut [f32],
    panel: &mut [f32],
) {
    let plane = problem.source_height * problem.source_width * problem.batch;
    let (channels, strip) = (problem.source_channels, steps.len() * LANES);
    for (nth, step) in steps.enumerate() {
        let (runs, channel) = (&read[step / channels], step % channels);
        let values = &source[channel * plane..][..plane];
        if channel + AHEAD < channels {
            for Run { first, length } in runs {
                first.iter().for_each(|first| prefetch(values.as_ptr().wrapping_add(first + AHEAD * plane), *length));
            }
        }
        let row = match runs[..] {
            [Run { first: Some(first), length }] if length == row.len() => &values[first..][..length],
            _ => {
                let mut filled = 0;
                for run in runs {
                    let to = &mut row[filled..filled + run.length];
                    match run.first {
                        Some(first) => copy_images(&values[first..][..run.length], to),
                        None => to.fill(0.0),
                    }
                    filled += run.length;
                }
                row[filled..].fill(0.0);
                &*row
            }
        };
        for (first, count) in groups(kernels, row.len() / LANES) {
            let to = panel[first * strip + nth * count * LANES..].as_chunks_mut::<LANES>().0;
            let from = row[first * LANES..].as_chunks::<LANES>().0;
            to.iter_mut().zip(from).take(count).for_each(|(to, from)| *to = *from);
        }
    }
}

/// Adds `steps`, of `depth` in all, to the sums of all tiles and strips, whose rows of strips lie
/// `row` floats apart; or overwrites what was there.
///
/// # Safety
/// `sums` has as many rows as the tiles have, each of a vector for every strip.
unsafe fn add_products(
    kernels: &Kernels,
    packed: &[f32],
    depth: usize,
    steps: Range<usize>,
    panel: &[f32],
    (sums, row): (*mut f32, usize),
    add: bool,
) {
    let mr = kernels.mr;
    let tiles = packed.len() / (depth * mr);
    let stores: [_; WIDEST] = std::array::from_fn(|nth| (nth * LANES, LANES));
    for group in (0..tiles).step_by(TILES) {
        for (first, count) in groups(kernels, panel.len() / (steps.len() * LANES)) {
            let panel = &panel[first * steps.len() * LANES..][..count * steps.len() * LANES];
            for tile in group..tiles.min(group + TILES) {
                let weight = &packed[(tile * depth + steps.start) * mr..][..steps.len() * mr];
                // SAFETY: `weight` and `panel` hold the steps; the rest is the caller's promise.
                unsafe {
                    (kernels.dense[count - 1])(&DenseTile {
                        weight: weight.as_ptr(),
                        panel: panel.as_ptr(),
                        ranges: &[(0, 1)],
                        group_offset: &[0],
                        group_rank: &[0],
                        channels: steps.len(),
                        channel_stride: count * LANES,
                        destination: sums.wrapping_add(tile * mr * row + first * LANES),
                        plane: row,
                        rows: mr,
                        stores: &stores[..count],
                        accumulate: add,
                        whole: true,
                    });
                }
            }
        }
    }
}

/// The strips of each tile: first and number.
fn groups(kernels: &Kernels, strips: usize) -> impl Iterator<Item = (usize, usize)> {
    let widest = widest(kernels);
    (0..strips).step_by(widest).map(move |first| (first, widest.min(strips - first)))
}

/// # Safety
/// `to` is valid for `plane` floats, and nothing else writes those of `runs` meanwhile.
unsafe fn put(mut sums: &[f32], runs: &[Run], to: *mut f32, plane: usize, accumulate: bool) {
    for run in runs {
        let first = run.first.expect("a position of the destination");
        assert!(first + run.length <= plane, "conv2d: a run of the destination");
        let (now, rest) = sums.split_at(run.length);
        // SAFETY: as asserted; the rest is the caller's promise.
        let to = unsafe { std::slice::from_raw_parts_mut(to.add(first), run.length) };
        if accumulate {
            to.iter_mut().zip(now).for_each(|(to, sum)| *to += sum);
        } else {
            copy_images(now, to);
        }
        sums = rest;
    }
}
