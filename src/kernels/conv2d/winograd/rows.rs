//! What a weight's gradient is made of: rows of both maps, turned to `(N, C)` at each position, and
//! the points of their tiles.

use super::{APART, Held, hold};
use crate::conv2d::strips::Map;
use crate::conv2d::tiles::Kernels;
use crate::conv2d::transforms::{Block, SIDE, STEP};
use crate::conv2d::units::Unit;
use crate::layout::Order;
use crate::simd::{LANES, prefetch};

/// Channels of a block, on either side: its sums stay in the second-level cache.
const BLOCK: usize = 4 * LANES;

/// One of the two maps that meet.
pub(super) struct Side<'a> {
    map: Map,
    values: &'a [f32],
    pub channels: usize,
    /// channels that lie together for all images, and then the next ones
    pub strip: usize,
    /// rows that a tile meets
    rows: usize,
    /// floats of a turned position
    position: usize,
}

impl<'a> Side<'a> {
    pub(super) fn new(map: Map, values: &'a [f32], channels: usize, rows: usize, lanes: usize) -> Self {
        assert_eq!(values.len(), map.len(), "conv2d grad_weight: length of a map");
        let strip = if channels >= APART { LANES } else { channels };
        Self { map, values, channels, strip, rows, position: lanes * channels + LANES }
    }

    /// Floats from a point to the next one, each with `depth` steps of the sum.
    pub(super) fn point(&self, depth: usize) -> usize {
        depth * self.channels + LANES
    }

    /// Channels of a block.
    pub(super) fn block(&self) -> usize {
        if self.strip == LANES { BLOCK } else { self.channels }
    }
}

/// Rows of a map, turned: row y in the slot y mod [`Side::rows`].
pub(super) struct Turned<'a> {
    kernels: &'a Kernels,
    side: &'a Side<'a>,
    rows: &'a mut [f32],
    zeros: &'a mut [f32],
    room: &'a mut [f32],
    held: Held,
}

impl<'a> Turned<'a> {
    /// Floats of its parts, for units of at most `lanes` lanes.
    pub(super) fn lengths(side: &Side, lanes: usize) -> [usize; 3] {
        let position = lanes * side.channels;
        [side.rows * side.map.width * side.position, position, side.map.room(position)]
    }

    /// `room` has the length that [`Turned::lengths`] add up to.
    pub(super) fn new(kernels: &'a Kernels, side: &'a Side<'a>, lanes: usize, room: &'a mut [f32]) -> Self {
        let [rows, zeros, _] = Self::lengths(side, lanes);
        let (rows, room) = room.split_at_mut(rows);
        let (zeros, room) = room.split_at_mut(zeros);
        zeros.fill(0.0);
        Self { kernels, side, rows, zeros, room, held: [None; SIDE] }
    }

    fn row(&mut self, unit: &Unit, y: usize) {
        let Side { map, position, strip, .. } = *self.side;
        let in_place = map.order() == Order::Positions;
        let row = map.width * position;
        let to = self.rows[y % self.side.rows * row..][..row].chunks_exact_mut(position);
        map.visit_row(self.side.values, unit.lanes, (y, 0..map.width), self.room, to, |from, block, to| {
            let Block { rows, length, stride } = block;
            if in_place {
                // These lanes of a position are no run of memory that the processor would read
                // ahead in, so the next position's are asked for.
                let next = from.wrapping_add(rows * stride);
                (0..rows).for_each(|row| prefetch(next.wrapping_add(row * stride), length));
            }
            for first in (0..rows).step_by(strip) {
                let block = Block { rows: strip, ..block };
                // SAFETY: `visit_row` gives a block, and room for it, of which this is a strip of channels.
                unsafe { (self.kernels.turn)(from.add(first * stride), block, to.as_mut_ptr().add(first * length)) };
            }
        });
    }

    /// Turns the rows of the source that a unit meets and that are not held yet.
    pub(super) fn take_source(&mut self, unit: &Unit, padding: usize) {
        let mut held = self.held;
        let top = (STEP * unit.row) as isize - padding as isize;
        hold(&self.side.map, top, unit, &mut held, |y| self.row(unit, y));
        self.held = held;
    }

    /// Turns the rows of the gradient that a unit meets.
    pub(super) fn take_gradient(&mut self, unit: &Unit, height: usize) {
        (STEP * unit.row..height.min(STEP * (unit.row + 1))).for_each(|y| self.row(unit, y));
    }

    /// The turned positions of the square from `first` on.
    pub(super) fn square<const N: usize>(&self, first: (isize, isize)) -> [*const f32; N] {
        let Side { map, position, rows, .. } = self.side;
        map.pointers(first, self.zeros.as_ptr(), |y, x| {
            self.rows[y % rows * map.width * position + x * position..].as_ptr()
        })
    }
}

/// Where a pair of rows of points of a tile goes: points `distance` floats apart, each with `depth`
/// steps of the sum, of which the tile's begin at `at`.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub to: *mut f32,
    pub distance: usize,
    pub depth: usize,
    pub at: usize,
}

impl Place {
    /// Writes the points of a tile, a strip of channels at a time: `write` is given the distance of
    /// the strip in a turned position, its length, and where its first point goes.
    pub(super) fn fill(self, side: &Side, length: usize, write: impl Fn(usize, usize, *mut f32)) {
        for first in (0..side.channels).step_by(side.strip) {
            let to = self.to.wrapping_add(first * self.depth + self.at * side.strip);
            write(first * length, length * side.strip, to);
        }
    }
}
