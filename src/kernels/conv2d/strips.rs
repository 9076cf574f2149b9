//! Lanes for minimal filtering: what takes the images' place in its vectors.
//!
//! Maps that lie by position bring whole vectors of images. Maps that lie by channel, those of small and odd batches, are cut into strips of
//! whole tiles across, and the strips of all images are what a vector holds: so 8 images of 56 columns are 32 strips of 14. A strip
//! reads what its outputs meet beyond it, so it is padded with its neighbours, and with zeros at the map's ends alone.

use super::geometry::Problem;
use super::transforms::{Block, POINTS, SIDE, STEP};
use crate::layout::Order;
use crate::scratch::Shared;
use crate::simd::LANES;

/// How images, or strips of them, become lanes: strip after strip, of each all images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Strips {
    order: Order,
    images: usize,
    /// strips of a map
    count: usize,
    /// columns of a strip of the destination, whole tiles where there are several strips
    pub width: usize,
    /// strips of all images, filled up to whole vectors
    pub lanes: usize,
}

impl Strips {
    /// The cut of maps of `width` columns that leaves the fewest lanes empty, and of those the one with the fewest strips that fills `most`
    /// lanes.
    pub(super) fn new(order: Order, images: usize, width: usize, most: usize) -> Self {
        if order == Order::Positions {
            return Self { order, images, count: 1, width, lanes: images };
        }
        let tiles = width.div_ceil(STEP);
        let cut = |across: usize| {
            let count = tiles.div_ceil(across);
            let lanes = (images * count).next_multiple_of(LANES);
            Self { order, images, count, width: if count == 1 { width } else { across * STEP }, lanes }
        };
        let cost = |strips: &Self| (strips.lanes * strips.width.div_ceil(STEP), strips.lanes < most, strips.lanes);
        (1..=tiles).map(cut).min_by_key(cost).expect("a map has columns")
    }

    /// Tiles of a row of tiles, in vectors' lanes.
    pub(super) fn tiles(&self) -> usize {
        self.lanes * self.width.div_ceil(STEP)
    }

    /// The strips among `length` lanes from `start` on: strip, its first image, the place of its images among the lanes, and their number.
    fn stretches(&self, start: usize, length: usize) -> impl Iterator<Item = (usize, usize, usize, usize)> + Clone {
        let (images, end) = (self.images, (start + length).min(self.images * self.count));
        (start / images..self.count).map_while(move |strip| {
            let (first, last) = (start.max(strip * images), end.min((strip + 1) * images));
            (first < last).then(|| (strip, first - strip * images, first - start, last - first))
        })
    }
}

/// For the few images of a stretch, for which a call of the standard library's function takes longer than the copy.
#[inline(always)]
fn copy(from: &[f32], to: &mut [f32]) {
    match (<&[f32; 8]>::try_from(from), <&mut [f32; 8]>::try_from(&mut *to)) {
        (Ok(from), Ok(to)) => *to = *from,
        _ => to.copy_from_slice(from),
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
    /// columns of a strip's first position before its first output
    lead: usize,
    /// positions of a row
    pub width: usize,
}

impl Map {
    /// What is summed, of which tiles read `lead` rows and columns before their outputs, and the columns of these that their positions still have
    /// to be moved by.
    pub(super) fn source(strips: Strips, problem: &Problem, lead: usize) -> (Self, usize) {
        let (channels, height, columns) = (problem.source_channels, problem.source_height, problem.source_width);
        match strips.order {
            Order::Positions => (Self { strips, channels, height, columns, lead: 0, width: columns }, lead),
            Order::Channels => {
                let width = strips.width.next_multiple_of(STEP) + 2;
                (Self { strips, channels, height, columns, lead, width }, 0)
            }
        }
    }

    /// The outputs, or their gradient.
    pub(super) fn destination(strips: Strips, problem: &Problem) -> Self {
        let (channels, height, columns) =
            (problem.destination_channels, problem.destination_height, problem.destination_width);
        Self { strips, channels, height, columns, lead: 0, width: strips.width }
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

    /// Floats of a row of maps by channel that [`Map::gather`] writes at most, positions `position` floats apart.
    pub(super) fn gathered(&self, position: usize) -> usize {
        if self.strips.order == Order::Channels { self.width * position } else { 0 }
    }

    /// Puts the blocks of `length` lanes from `start` on of row `y` of maps by channel together, `(position, channel, lane)`, positions `position`
    /// floats apart.
    pub(super) fn gather(
        &self,
        values: &[f32],
        (start, length): (usize, usize),
        y: usize,
        position: usize,
        to: &mut [f32],
    ) {
        let images = self.strips.images;
        let stretches: Vec<_> = self.strips.stretches(start, length).collect();
        let filled = stretches.last().map_or(0, |&(_, _, at, count)| at + count);
        for channel in 0..self.channels {
            let row = &values[(channel * self.height + y) * self.columns * images..][..self.columns * images];
            for &(strip, image, at, count) in &stretches {
                for x in 0..self.width {
                    let to = &mut to[x * position + channel * length + at..][..count];
                    match (strip * self.strips.width + x).checked_sub(self.lead).filter(|&at| at < self.columns) {
                        Some(column) => copy(&row[column * images + image..][..count], to),
                        None => to.fill(0.0),
                    }
                }
            }
            if filled < length {
                for x in 0..self.width {
                    to[x * position + channel * length..][filled..length].fill(0.0);
                }
            }
        }
    }

    /// Calls `visit` for each position of row `y`, with its block of `length` lanes of every channel from `start` on, and its part of `to`. Maps by
    /// channel are gathered in `room` first.
    pub(super) fn visit_row<'a>(
        &self,
        values: &[f32],
        (start, length): (usize, usize),
        y: usize,
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
        for (x, to) in to.enumerate().take(self.width) {
            let values = &values[x * position..];
            assert!((rows - 1) * stride + length <= values.len(), "conv2d: a block of a map");
            assert!(rows * length <= to.len(), "conv2d: room for a block");
            visit(values.as_ptr(), Block { rows, length, stride }, to);
        }
    }

    /// Pointers to the square of positions from `first` on, row after row; `outside` stands for positions beyond the map.
    pub(super) fn pointers<const N: usize>(
        &self,
        first: (isize, isize),
        outside: *const f32,
        inside: impl Fn(usize, usize) -> *const f32,
    ) -> [*const f32; N] {
        let side = if N == POINTS { SIDE } else { STEP };
        std::array::from_fn(|nth| self.at(first, nth / side, nth % side).map_or(outside, |(y, x)| inside(y, x)))
    }

    /// Puts the outputs of the tile at `first`, `(position, channel, lane)`, to their places in maps by channel.
    ///
    /// # Safety
    /// `target` has [`Map::len`] floats, and nothing else writes these lanes of the tile's rows and columns meanwhile.
    pub(super) unsafe fn put(
        &self,
        tile: &[f32],
        (start, length): (usize, usize),
        first: (usize, usize),
        accumulate: bool,
        target: Shared<f32>,
    ) {
        let images = self.strips.images;
        for channel in 0..self.channels {
            for y in 0..STEP.min(self.height - first.0) {
                let row = (channel * self.height + first.0 + y) * self.columns;
                for (strip, image, at, count) in self.strips.stretches(start, length) {
                    let left = strip * self.strips.width + first.1;
                    for x in 0..STEP.min(self.columns.saturating_sub(left)) {
                        let from = &tile[((STEP * y + x) * self.channels + channel) * length + at..][..count];
                        // SAFETY: a channel, row and column inside the map, and images up to its last one; the rest is the caller's promise.
                        let to = unsafe {
                            let to = target.pointer().add((row + left + x) * images + image);
                            std::slice::from_raw_parts_mut(to, count)
                        };
                        if accumulate {
                            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
                        } else {
                            copy(from, to);
                        }
                    }
                }
            }
        }
    }
}
