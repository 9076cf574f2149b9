//! Strips of maps, which take the images' place in vectors where there are few images.
//!
//! Maps that lie by position bring whole vectors of images. Maps that lie by channel, those of
//! small and odd batches, are cut into strips of columns, and the strips of all images are what a
//! vector holds: so 8 images of 56 columns are 32 strips of 14. A strip reads what its outputs meet
//! beyond it, so it is padded with its neighbours, and with zeros at the map's ends alone.

use super::geometry::{Direction, Problem};
use super::transforms::{Block, POINTS, SIDE, STEP};
use crate::layout::Order;
use crate::scratch::{self, Shared};
use crate::simd::{LANES, prefetch};
use rayon::prelude::*;
use std::ops::Range;

/// Lanes that strips should fill.
pub(super) const FILLED: usize = 2 * LANES;
/// Columns of a short row.
const SHORT: usize = 8;
/// Floats of both maps of a band of rows: few enough for the caches, so many that weights are seldom packed again.
const BAND: usize = 1 << 21;
/// Channels between those that are gathered and those that main memory is asked for.
const AHEAD: usize = 4;

/// How images, or strips of them, become lanes: strip after strip, of each all images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Strips {
    pub order: Order,
    images: usize,
    /// strips of a map
    count: usize,
    /// columns of a strip of the destination, whole units where there are several strips
    pub width: usize,
    /// strips of all images, filled up to whole vectors
    pub lanes: usize,
}

impl Strips {
    /// The cut of maps of `width` columns, in units of `unit` columns, that leaves the fewest lanes
    /// empty, and of those the one with the fewest strips that fills [`FILLED`] lanes.
    pub(super) fn new(order: Order, images: usize, width: usize, unit: usize) -> Self {
        if order == Order::Positions {
            return Self { order, images, count: 1, width, lanes: images };
        }
        let units = width.div_ceil(unit);
        let cut = |across: usize| {
            let count = units.div_ceil(across);
            let lanes = (images * count).next_multiple_of(LANES);
            Self { order, images, count, width: if count == 1 { width } else { across * unit }, lanes }
        };
        let cost = |strips: &Self| (strips.lanes * strips.width.div_ceil(unit), strips.lanes < FILLED, strips.lanes);
        (1..=units).map(cut).min_by_key(cost).expect("a map has columns")
    }

    /// Tiles of a row of tiles, in vectors' lanes.
    pub(super) fn tiles(&self) -> usize {
        self.lanes * self.width.div_ceil(STEP)
    }

    /// The strips among `length` lanes from `start` on: strip, its first image, the place of its
    /// images among the lanes, and their number.
    fn stretches(&self, start: usize, length: usize) -> impl Iterator<Item = (usize, usize, usize, usize)> + Clone {
        let (images, end) = (self.images, (start + length).min(self.images * self.count));
        (start / images..self.count).map_while(move |strip| {
            let (first, last) = (start.max(strip * images), end.min((strip + 1) * images));
            (first < last).then(|| (strip, first - strip * images, first - start, last - first))
        })
    }
}

/// One of the two maps of a convolution as rows of positions, each of `(C, lanes)`.
#[derive(Clone, Copy)]
pub(super) struct Map {
    strips: Strips,
    channels: usize,
    height: usize,
    /// columns of the map
    columns: usize,
    /// columns between two strips
    advance: usize,
    /// columns of a strip's first position before its first output
    lead: usize,
    /// positions of a row
    pub width: usize,
}

impl Map {
    /// What minimal filtering sums, whose tiles read `lead` rows and columns before their outputs;
    /// and by how many columns a tile's first position still lies before its first output.
    pub(super) fn source(strips: Strips, problem: &Problem, lead: usize) -> (Self, usize) {
        let (channels, height, columns) = (problem.source_channels, problem.source_height, problem.source_width);
        let advance = strips.width;
        match strips.order {
            Order::Positions => (Self { strips, channels, height, columns, advance, lead: 0, width: columns }, lead),
            Order::Channels => {
                let width = strips.width.next_multiple_of(STEP) + 2;
                (Self { strips, channels, height, columns, advance, lead, width }, 0)
            }
        }
    }

    /// The outputs, or their gradient.
    pub(super) fn destination(strips: Strips, problem: &Problem) -> Self {
        let (channels, height, columns) =
            (problem.destination_channels, problem.destination_height, problem.destination_width);
        Self { strips, channels, height, columns, advance: strips.width, lead: 0, width: strips.width }
    }

    pub(super) fn order(&self) -> Order {
        self.strips.order
    }

    /// Number of its values.
    pub(super) fn len(&self) -> usize {
        self.channels * self.height * self.columns * self.strips.images
    }

    /// The position `first + offset`, if it lies inside.
    pub(super) fn at(&self, first: (isize, isize), y: usize, x: usize) -> Option<(usize, usize)> {
        let (y, x) = (usize::try_from(first.0 + y as isize).ok()?, usize::try_from(first.1 + x as isize).ok()?);
        (y < self.height && x < self.width).then_some((y, x))
    }

    /// Floats of room that [`Map::visit_row`] needs, of blocks of `block` floats.
    pub(super) fn room(&self, block: usize) -> usize {
        if self.strips.order == Order::Channels { self.width * block } else { 0 }
    }

    /// Puts the blocks of `length` lanes from `start` on of row `y` of maps by channel together,
    /// `(position, channel, lane)`, positions `position` floats apart.
    pub(super) fn gather(
        &self,
        values: &[f32],
        (start, length): (usize, usize),
        y: usize,
        position: usize,
        to: &mut [f32],
    ) {
        let images = self.strips.images;
        // What is copied and what is zero lies alike in every channel: first float, images and columns.
        let (mut copied, mut zero, mut filled) = (Vec::new(), Vec::new(), 0);
        for (strip, image, at, count) in self.strips.stretches(start, length) {
            let first = strip * self.advance;
            let inside = |columns: usize| columns.saturating_sub(first).min(self.width);
            let (left, right) = (inside(self.lead), inside(self.lead + self.columns));
            let from = Blocks { at: (first + left).saturating_sub(self.lead) * images + image, step: images };
            copied.push((from, left * position + at, count, right - left));
            zero.extend([(at, count, left), (right * position + at, count, self.width - right)]);
            filled = at + count;
        }
        zero.push((filled, length - filled, self.width));
        zero.retain(|&(_, count, columns)| count * columns > 0);
        for channel in 0..self.channels {
            let row = &values[(channel * self.height + y) * self.columns * images..][..self.columns * images];
            if channel + AHEAD < self.channels {
                prefetch(row.as_ptr().wrapping_add(AHEAD * self.height * self.columns * images), row.len());
            }
            let to = &mut to[channel * length..];
            for &(blocks, at, count, columns) in &copied {
                blocks.each(row, count, columns, |x, from| {
                    to[at + x * position..][..from.len()].copy_from_slice(from);
                });
            }
            for &(at, count, columns) in &zero {
                (0..columns).for_each(|x| to[at + x * position..][..count].fill(0.0));
            }
        }
    }

    /// Calls `visit` for the positions `columns` of row `y`, with the block of `length` lanes of
    /// every channel from `start` on, and a part of `to` each. Maps by channel are gathered in
    /// `room` first.
    pub(super) fn visit_row<'a>(
        &self,
        values: &[f32],
        (start, length): (usize, usize),
        (y, columns): (usize, Range<usize>),
        room: &mut [f32],
        to: impl Iterator<Item = &'a mut [f32]>,
        visit: impl Fn(*const f32, Block, &mut [f32]),
    ) {
        let rows = self.channels;
        let (values, stride, position) = match self.strips.order {
            Order::Positions => {
                let position = rows * self.strips.images;
                (&values[y * self.width * position + start..], self.strips.images, position)
            }
            Order::Channels => {
                self.gather(values, (start, length), y, rows * length, room);
                (&*room, length, rows * length)
            }
        };
        for (x, to) in columns.zip(to) {
            let values = &values[x * position..];
            assert!((rows - 1) * stride + length <= values.len(), "conv2d: a block of a map");
            assert!(rows * length <= to.len(), "conv2d: room for a block");
            visit(values.as_ptr(), Block { rows, length, stride }, to);
        }
    }

    /// Pointers to the square of positions from `first` on, row after row; `outside` stands for
    /// positions beyond the map.
    pub(super) fn pointers<const N: usize>(
        &self,
        first: (isize, isize),
        outside: *const f32,
        inside: impl Fn(usize, usize) -> *const f32,
    ) -> [*const f32; N] {
        let side = if N == POINTS { SIDE } else { STEP };
        std::array::from_fn(|nth| self.at(first, nth / side, nth % side).map_or(outside, |(y, x)| inside(y, x)))
    }

    /// Puts the outputs of a tile of `rows` by `columns` positions at `first`, `(position, channel,
    /// lane)` of some channels, to their places in maps by channel.
    ///
    /// # Safety
    /// `target` has [`Map::len`] floats, and nothing else writes these lanes of the tile's rows and columns meanwhile.
    #[expect(clippy::too_many_arguments, reason = "a piece of a map, and where it goes")]
    pub(super) unsafe fn put(
        &self,
        tile: &[f32],
        (rows, columns): (usize, usize),
        (start, length): (usize, usize),
        first: (usize, usize),
        (first_channel, channels): (usize, usize),
        accumulate: bool,
        target: Shared<f32>,
    ) {
        let images = self.strips.images;
        let (side, stretches) = (columns, self.strips.stretches(start, length));
        for channel in 0..channels {
            for y in 0..rows.min(self.height - first.0) {
                let row = ((first_channel + channel) * self.height + first.0 + y) * self.columns;
                for (strip, image, at, count) in stretches.clone() {
                    let left = strip * self.advance + first.1;
                    let columns = columns.min(self.columns.saturating_sub(left));
                    let from = Blocks { at: (side * y * channels + channel) * length + at, step: channels * length };
                    from.each(tile, count, columns, |x, from| {
                        // SAFETY: a channel, row and column inside the map, and images up to its
                        // last one; the rest is the caller's promise.
                        let to = unsafe {
                            let to = target.pointer().add((row + left + x) * images + image);
                            std::slice::from_raw_parts_mut(to, from.len())
                        };
                        if accumulate {
                            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
                        } else {
                            to.copy_from_slice(from);
                        }
                    });
                }
            }
        }
    }
}

/// Blocks of floats, the first at `at`, then `step` apart.
#[derive(Clone, Copy)]
struct Blocks {
    at: usize,
    step: usize,
}

impl Blocks {
    /// Calls `each` with the number of every block and its `length` floats.
    #[inline(always)]
    fn each(self, values: &[f32], length: usize, count: usize, each: impl FnMut(usize, &[f32])) {
        // The few images of a position are moved by instructions, not by a call, where their number is known.
        match length {
            8 => self.each_of::<8>(values, length, count, each),
            LANES => self.each_of::<LANES>(values, length, count, each),
            _ => self.each_of::<0>(values, length, count, each),
        }
    }

    /// `LENGTH` is the length, or 0 for any.
    #[inline(always)]
    fn each_of<const LENGTH: usize>(
        self,
        values: &[f32],
        length: usize,
        count: usize,
        mut each: impl FnMut(usize, &[f32]),
    ) {
        let length = if LENGTH == 0 { length } else { LENGTH };
        (0..count).for_each(|nth| each(nth, &values[self.at + nth * self.step..][..length]));
    }
}

/// Whether direct products of a batch by channel are faster by strips: neighbours of a strided
/// gradient have other taps, so its vectors hold one position's images alone, and the ends of short
/// rows leave theirs half empty (which `sparse` products, whose index takes as long as they do,
/// hardly notice).
pub(super) fn pays(problem: &Problem, sparse: bool) -> bool {
    let width = problem.destination_width;
    let strided = problem.direction == Direction::Backward && problem.stride > 1 && width > problem.stride;
    problem.order == Order::Channels
        && problem.batch > 1
        && problem.batch * width >= 2 * LANES
        && (strided || !sparse && (2..=SHORT).contains(&width))
}

/// Computes a product that [`pays`] on strips, a band of rows at a time: `direct` is given them as a batch by position.
pub(super) fn product(
    problem: &Problem,
    source: &[f32],
    destination: &mut [f32],
    accumulate: bool,
    direct: impl Fn(&Problem, &[f32], &mut [f32]),
) {
    let (stride, padding) = (problem.stride, problem.padding);
    let unit = if problem.direction == Direction::Forward { 1 } else { stride };
    let strips = Strips::new(problem.order, problem.batch, problem.destination_width, unit);
    // Source lines between two pieces of `length` lines of the destination, those that are read
    // before them, and all that are read.
    let reads = |length: usize| match problem.direction {
        Direction::Forward => (length * stride, padding, (length - 1) * stride + problem.kernel),
        Direction::Backward => {
            let before = (problem.kernel - 1).saturating_sub(padding) / stride;
            (length / stride, before, before + (length - 1 + padding) / stride + 1)
        }
    };
    let (advance, lead, width) = reads(strips.width);
    // What is left of the padding where strips bring their own.
    let within = match problem.direction {
        Direction::Forward => 0,
        Direction::Backward => padding + lead * stride,
    };
    let (channels, height, columns) = (problem.source_channels, problem.source_height, problem.source_width);
    let from = Map { strips, channels, height, columns, advance, lead, width };
    let to = Map::destination(strips, problem);
    assert_eq!(source.len(), from.len(), "conv2d: source length");
    assert_eq!(destination.len(), to.len(), "conv2d: destination length");
    let (position, to_position) = (channels * strips.lanes, problem.destination_channels * strips.lanes);
    let (row, to_row) = (from.width * position, to.width * to_position);
    let most = (BAND / (reads(unit).0 * row / unit + to_row) / unit).max(1) * unit;
    let lanes = (0, strips.lanes);
    let target = Shared::new(destination);
    for first in (0..problem.destination_height).step_by(most) {
        let rows = most.min(problem.destination_height - first);
        let start = first / unit * reads(unit).0;
        let taken = reads(rows).2;
        let band = Problem {
            order: Order::Positions,
            batch: strips.lanes,
            source_height: taken,
            source_width: from.width,
            destination_height: rows,
            destination_width: to.width,
            padding: within,
            column_padding: within,
            ..*problem
        };
        scratch::with(taken * row, |gathered| {
            gathered.par_chunks_mut(row).enumerate().for_each(|(y, row)| {
                match (start + y).checked_sub(lead).filter(|&y| y < height) {
                    Some(y) => from.gather(source, lanes, y, position, row),
                    None => row.fill(0.0),
                }
            });
            scratch::with(rows * to_row, |outputs| {
                direct(&band, gathered, outputs);
                outputs.par_chunks(to_row).enumerate().for_each(|(y, row)| {
                    // SAFETY: each row is put by its own task.
                    unsafe { to.put(row, (1, to.width), lanes, (first + y, 0), (0, to.channels), accumulate, target) };
                });
            });
        });
    }
}
