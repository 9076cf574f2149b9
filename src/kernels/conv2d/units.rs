//! How minimal filtering cuts a batch of maps into units of work.

use super::strips::{self, Strips};
use super::transforms::{POINTS, STEP};
use crate::layout::Order;
use crate::simd::LANES;
use std::ops::Range;

/// Lanes that are transformed together, by products at least.
const LEAST: usize = strips::FILLED;
/// Images of maps by position that a product transforms together at most: values that lie together
/// are read and written the fastest.
const MOST: usize = 8 * LANES;
/// Floats of their points, of source and destination.
const HELD: usize = 5 << 18;
/// Units of a product for each thread, so that all stay busy to the end.
const PIECES: usize = 2;

/// Units that a product should have.
pub(super) fn wanted() -> usize {
    PIECES * rayon::current_num_threads()
}

/// Tiles of a map, and how many of a row and of how many lanes make a unit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Units {
    /// Lanes that are transformed together, whole vectors.
    pub together: usize,
    /// Tiles of a row that a unit has at most.
    pub across: usize,
    lanes: usize,
    rows: usize,
    columns: usize,
}

/// A row of tiles, or a part of it, for some lanes.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    /// The same for all units that differ in the row alone; they follow each other.
    pub section: usize,
    pub row: usize,
    pub columns: Range<usize>,
    /// First lane and number of lanes.
    pub lanes: (usize, usize),
}

impl Units {
    /// Those of a product of `channels` channels, of source and destination together, whose
    /// destination has `(rows, columns)` of tiles. They depend on the number of threads; what a sum
    /// adds in which order does not.
    pub(super) fn of_product(strips: &Strips, channels: usize, (rows, columns): (usize, usize)) -> Self {
        let mut units = Self::of_gradient(strips, (rows, columns));
        if strips.order == Order::Channels {
            return units;
        }
        let wanted = wanted();
        let fits = |together: &usize| {
            POINTS * channels * together <= HELD && rows * columns * strips.lanes.div_ceil(*together) >= wanted
        };
        let most = (LEAST..=MOST).rev().step_by(LEAST).find(fits).unwrap_or(LEAST);
        units.together = strips.lanes.div_ceil(strips.lanes.div_ceil(most)).next_multiple_of(LANES);
        units.across = columns.div_ceil(wanted.div_ceil(rows * units.blocks()).min(columns));
        units
    }

    /// Those of a weight's gradient: whole rows.
    pub(super) fn of_gradient(strips: &Strips, (rows, columns): (usize, usize)) -> Self {
        Self { together: LEAST, across: columns, lanes: strips.lanes, rows, columns }
    }

    fn blocks(&self) -> usize {
        self.lanes.div_ceil(self.together)
    }

    fn groups(&self) -> usize {
        self.columns.div_ceil(self.across)
    }

    pub(super) fn count(&self) -> usize {
        self.rows * self.groups() * self.blocks()
    }

    /// Columns of a map that the tiles of a unit cover at most, of `width`, with `more` beyond them.
    pub(super) fn width(&self, width: usize, more: usize) -> usize {
        width.min(STEP * self.across + more)
    }

    pub(super) fn nth(&self, nth: usize) -> Unit {
        let (section, row) = (nth / self.rows, nth % self.rows);
        let (block, group) = (section / self.groups(), section % self.groups());
        let (start, first) = (block * self.together, group * self.across);
        Unit {
            section,
            row,
            columns: first..self.columns.min(first + self.across),
            lanes: (start, self.together.min(self.lanes - start)),
        }
    }
}

impl Unit {
    /// Columns of a map of `width`, from `lead` before the first tile to `more` after the last one.
    pub(super) fn met(&self, width: usize, lead: usize, more: usize) -> Range<usize> {
        (STEP * self.columns.start).saturating_sub(lead)..width.min(STEP * self.columns.end + more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_cover_each_tile_of_each_lane_once() {
        for (order, batch, width) in [
            (Order::Positions, 64, 28),
            (Order::Positions, 80, 7),
            (Order::Positions, 512, 4),
            (Order::Channels, 9, 30),
        ] {
            let strips = Strips::new(order, batch, width, STEP);
            let (rows, columns) = (width.div_ceil(STEP), strips.width.div_ceil(STEP));
            let of_product = |channels| Units::of_product(&strips, channels, (rows, columns));
            for units in [of_product(32), of_product(1024), Units::of_gradient(&strips, (rows, columns))] {
                let mut seen = vec![0; rows * columns * strips.lanes];
                let mut last = 0;
                for unit in (0..units.count()).map(|nth| units.nth(nth)) {
                    let (start, length) = unit.lanes;
                    assert!(length <= units.together && length.is_multiple_of(LANES), "{unit:?}");
                    assert!(unit.columns.len() <= units.across && unit.section >= last, "{unit:?}");
                    last = unit.section;
                    for column in unit.columns {
                        for lane in start..start + length {
                            seen[(unit.row * columns + column) * strips.lanes + lane] += 1;
                        }
                    }
                }
                assert!(seen.iter().all(|&times| times == 1), "{order:?} {batch} {width}");
            }
        }
    }
}
