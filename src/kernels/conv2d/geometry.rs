//! How destination positions, kernel taps and packed source values line up.
//!
//! Forward and grad-input are one operation: every destination value is a sum over taps and source
//! channels. A piece of the source ("panel") is packed as `[channel][row][column][batch block]`; a
//! run of destination values ("segment") then reads, for each tap, one run of the panel at a fixed
//! distance `relative[tap]` from the segment's base.
//!
//! Long: one arithmetic of positions, whose parts assume each other.

use super::Conv2dShape;
use crate::layout::Order;
use crate::simd::LANES;
use std::ops::Range;

/// Which way the taps connect the two maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// destination = output, source = input
    Forward,
    /// destination = input, source = output
    Backward,
}

/// A convolution seen from its destination.
#[derive(Clone, Copy, Debug)]
pub(super) struct Problem {
    pub direction: Direction,
    pub order: Order,
    pub batch: usize,
    pub source_channels: usize,
    pub source_height: usize,
    pub source_width: usize,
    pub destination_channels: usize,
    pub destination_height: usize,
    pub destination_width: usize,
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
    /// columns of zeros on each side, where not as many as rows
    pub column_padding: usize,
}

impl Problem {
    pub(super) fn new(shape: &Conv2dShape, direction: Direction) -> Self {
        let (mut shape, order) = (*shape, Order::of(shape.batch));
        // A pointwise convolution sees no positions: the whole plane of a channel is one long batch.
        if order == Order::Channels && shape.kernel == 1 && shape.stride == 1 && shape.padding == 0 {
            shape.batch *= shape.in_height * shape.in_width;
            (shape.in_height, shape.in_width) = (1, 1);
        }
        let input = (shape.in_channels, shape.in_height, shape.in_width);
        let output = (shape.out_channels, shape.out_height(), shape.out_width());
        let (source, destination) = match direction {
            Direction::Forward => (input, output),
            Direction::Backward => (output, input),
        };
        Self {
            direction,
            order,
            batch: shape.batch,
            source_channels: source.0,
            source_height: source.1,
            source_width: source.2,
            destination_channels: destination.0,
            destination_height: destination.1,
            destination_width: destination.2,
            kernel: shape.kernel,
            stride: shape.stride,
            padding: shape.padding,
            column_padding: shape.padding,
        }
    }

    /// Leaves the rows `rows` of the destination, and gives the rows of the source that they meet,
    /// which are the source then. Forward alone.
    pub(super) fn take_rows(&mut self, rows: &Range<usize>) -> Range<usize> {
        let top = rows.start * self.stride;
        let first = top.saturating_sub(self.padding).min(self.source_height);
        let end = (rows.end * self.stride + self.kernel).saturating_sub(self.stride + self.padding);
        let met = first..end.clamp(first, self.source_height);
        (self.source_height, self.destination_height) = (met.len(), rows.len());
        self.padding = self.padding.saturating_sub(top);
        met
    }

    /// Floats between neighbouring positions of the source.
    pub(super) fn source_position(&self) -> usize {
        self.order.position_stride(self.source_channels, self.batch)
    }
    /// Floats between channels of the source.
    pub(super) fn source_channel(&self) -> usize {
        self.order.channel_stride(self.source_height * self.source_width, self.batch)
    }
    /// Floats between neighbouring positions of the destination.
    pub(super) fn destination_position(&self) -> usize {
        self.order.position_stride(self.destination_channels, self.batch)
    }
    /// Floats between channels of the destination.
    pub(super) fn destination_channel(&self) -> usize {
        self.order.channel_stride(self.destination_height * self.destination_width, self.batch)
    }

    /// The problem as its columns see it.
    fn across(&self) -> Self {
        Self { padding: self.column_padding, ..*self }
    }

    /// The source coordinate that `tap` joins to `destination`, possibly outside the map.
    pub(super) fn source(&self, destination: usize, tap: usize) -> Option<isize> {
        let (destination, tap) = (destination as isize, tap as isize);
        let (stride, padding) = (self.stride as isize, self.padding as isize);
        match self.direction {
            Direction::Forward => Some(destination * stride + tap - padding),
            Direction::Backward => {
                let distance = destination + padding - tap;
                (distance.rem_euclid(stride) == 0).then(|| distance.div_euclid(stride))
            }
        }
    }
}

/// One axis of a packed panel.
#[derive(Debug)]
pub(super) struct Axis {
    /// panel index → source coordinate; `None` is a line of zeros
    pub lines: Vec<Option<usize>>,
    /// per destination coordinate of the block: panel index that a tap with `relative == 0` would read
    pub base: Vec<isize>,
    /// per destination coordinate: the taps that read inside the panel, as a range of positions in `taps`
    pub valid: Vec<(usize, usize)>,
    /// kernel taps, ordered so that the valid ones of each destination are neighbours
    pub taps: Vec<usize>,
    /// per position in `taps`: distance in panel lines
    pub relative: Vec<isize>,
}

impl Axis {
    /// `halo`: lines of zeros stand for coordinates outside the source, so every tap is valid.
    /// `runs`: all destinations are read as one run from the first one's base, so lines are grouped
    /// by stride phase. `whole`, without the others: line and coordinate are the same.
    pub(super) fn new(
        problem: &Problem,
        destinations: Range<usize>,
        length: usize,
        halo: bool,
        runs: bool,
        whole: bool,
    ) -> Self {
        let (kernel, stride) = (problem.kernel, problem.stride);
        let mut taps: Vec<usize> = (0..kernel).collect();
        if problem.direction == Direction::Backward {
            taps.sort_by_key(|tap| (tap % stride, tap / stride));
        }
        let inside = |coordinate: isize| coordinate >= 0 && (coordinate as usize) < length;
        let phase = |coordinate: isize| match problem.direction {
            Direction::Forward if runs => (coordinate + problem.padding as isize).rem_euclid(stride as isize),
            _ => 0,
        };
        let coordinates: Vec<isize> = if whole {
            (0..length as isize).collect()
        } else {
            let mut met: Vec<isize> = destinations
                .clone()
                .flat_map(|destination| taps.iter().filter_map(move |&tap| problem.source(destination, tap)))
                .filter(|&coordinate| halo || inside(coordinate))
                .collect();
            met.sort_by_key(|&coordinate| (phase(coordinate), coordinate));
            met.dedup();
            met
        };
        let find = |coordinate: isize| {
            if whole {
                return inside(coordinate).then_some(coordinate);
            }
            coordinates
                .binary_search_by_key(&(phase(coordinate), coordinate), |&at| (phase(at), at))
                .map(|at| at as isize)
                .ok()
        };
        let first = destinations.start;
        let relative: Vec<isize> = taps
            .iter()
            .map(|&tap| match problem.direction {
                Direction::Forward if runs => {
                    let line = |tap| problem.source(first, tap).and_then(find).unwrap_or(0);
                    line(tap) - line(0)
                }
                Direction::Forward => tap as isize,
                Direction::Backward => -((tap / stride) as isize),
            })
            .collect();
        let (mut base, mut valid) = (Vec::new(), Vec::new());
        for destination in destinations {
            let line = |position: usize| {
                problem
                    .source(destination, taps[position])
                    .and_then(|coordinate| find(coordinate).map(|line| line - relative[position]))
            };
            let start = (0..kernel).find(|&position| line(position).is_some());
            let end = (0..kernel).rfind(|&position| line(position).is_some());
            let (start, end) = (start.unwrap_or(0), end.map_or(0, |end| end + 1));
            base.push(if start < end { line(start).unwrap_or(0) } else { 0 });
            valid.push((start, end));
        }
        let lines =
            coordinates.into_iter().map(|coordinate| inside(coordinate).then_some(coordinate as usize)).collect();
        Self { lines, base, valid, taps, relative }
    }
}

/// Neighbouring panel columns that are copied together.
#[derive(Clone, Copy, Debug)]
pub(super) struct ColumnRun {
    /// first panel column
    pub line: usize,
    /// number of columns
    pub count: usize,
    /// first source column; `None` is zeros
    pub column: Option<usize>,
    /// source columns between two panel columns
    pub step: usize,
}

fn column_runs(lines: &[Option<usize>]) -> Vec<ColumnRun> {
    let mut runs = Vec::new();
    let mut line = 0;
    while line < lines.len() {
        let column = lines[line];
        let step = match (column, lines.get(line + 1)) {
            (Some(column), Some(Some(next))) if *next > column => next - column,
            _ => 1,
        };
        let expected = |count: usize| column.map(|column| column + count * step);
        let count = (1..).take_while(|&count| lines.get(line + count) == Some(&expected(count))).count() + 1;
        runs.push(ColumnRun { line, count, column, step });
        line += count;
    }
    runs
}

/// A run of destination values that share their valid taps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    /// where a tap with distance 0 reads in the panel, in floats
    pub panel: isize,
    /// where the run starts in the destination plane of a channel, in floats, before the batch offset
    pub destination: usize,
    /// the valid taps: a range of [`RowBlock::ranges`]
    pub ranges: (usize, usize),
    /// whether the position to the right belongs to it too
    pub pair: bool,
}

/// What a segment reads of a source in place that neither the one before it in its row nor the one above it does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fresh {
    /// where its last row begins in the panel, in floats
    pub panel: isize,
    /// floats of a row
    pub length: usize,
    pub rows: usize,
    /// floats from a row to the next one
    pub distance: usize,
}

/// Some destination rows and what they read.
#[derive(Debug)]
pub(super) struct RowBlock {
    pub rows: Axis,
    pub segments: Vec<Segment>,
    /// ranges of tap groups
    pub ranges: Vec<(usize, usize)>,
    /// floats between two channels of the panel
    pub channel_stride: usize,
    /// floats of the panel that vectors may touch
    pub panel_len: usize,
}

/// Floats of a source from which on main memory is asked for what is read next. Twice the
/// second-level cache (AMD EPYC, Zen 4).
const FAR: usize = 1 << 19;

/// The tiling of a problem: shared by all threads of a call.
#[derive(Debug)]
pub(super) struct Tiling {
    /// whole rows are one segment (else every position is)
    pub flat: bool,
    /// values of the batch in a block
    pub block: usize,
    /// floats between two columns of a panel
    pub pitch: usize,
    /// the source itself is the panel: nothing is packed
    pub direct: bool,
    /// vectors in a segment, or in each position of a pair
    pub vectors: usize,
    /// floats of the panel between the positions of a pair
    pub pair_step: isize,
    pub columns: Axis,
    pub column_runs: Vec<ColumnRun>,
    pub row_blocks: Vec<RowBlock>,
    /// per tap group: kernel tap `row·k + column`
    pub group_tap: Vec<usize>,
    /// per tap group: distance in the panel, in floats, per row block the same
    pub group_offset: Vec<isize>,
    /// per tap group: whether any segment needs it
    pub group_used: Vec<bool>,
}

/// What a kernel wants from its tiling.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    /// source channels that a panel holds
    pub channels: usize,
    /// floats that a panel should not exceed
    pub budget: usize,
    /// destination width up to which positions are tiled one by one (skipping the taps that fall outside)
    pub position_width: usize,
    /// vectors that a segment should have at least
    pub vectors: usize,
    /// vectors that a segment need not exceed
    pub vectors_max: usize,
    /// rows of zeros, so that every tap is valid
    pub row_halo: bool,
    /// destination values per channel and block that are enough
    pub values: usize,
}

impl Tiling {
    /// Reads the source in place, position by position (two by two with `pairs`, where both have
    /// the same taps), at most `most` vectors of the batch and `rows` destination rows at a time:
    /// what packing copies is saved, and the borders need no zeros. `None` where a position's
    /// values do not lie together.
    pub(super) fn direct(problem: &Problem, most: usize, rows: usize, pairs: bool) -> Option<Self> {
        let source_len = problem.source_channels * problem.source_height * problem.source_width * problem.batch;
        if problem.order != Order::Positions || i32::try_from(source_len).is_err() {
            return None;
        }
        let vectors = problem.batch / LANES;
        let vectors = (1..=most.min(vectors)).rev().find(|&count| vectors.is_multiple_of(count))?;
        let columns =
            Axis::new(&problem.across(), 0..problem.destination_width, problem.source_width, false, false, true);
        let pitch = problem.source_position();
        let mut tiling = Self::assemble(problem, false, true, vectors * LANES, pitch, vectors, rows, columns, false);
        // Taps that meet neighbouring destinations in the backward direction lie `stride` apart: no pairs there.
        if pairs && (problem.direction == Direction::Forward || problem.stride == 1) {
            tiling.pair_up(problem);
        }
        Some(tiling)
    }

    pub(super) fn new(problem: &Problem, wish: Wish) -> Self {
        let (batch, width, height) = (problem.batch, problem.destination_width, problem.destination_height);
        let flat_possible = problem.direction == Direction::Forward || problem.stride == 1;
        let flat = flat_possible && width > 1 && (width > wish.position_width || batch < 2 * LANES);
        // Small odd batches run together along the row; others are padded to whole vectors.
        let contiguous = flat && !batch.is_multiple_of(LANES) && batch < 2 * LANES;
        let columns = Axis::new(&problem.across(), 0..width, problem.source_width, flat, flat, false);
        let rows_for = |rows: usize| {
            Axis::new(problem, 0..rows.min(height), problem.source_height, wish.row_halo, false, false).lines.len()
        };
        let line = columns.lines.len() * wish.channels;
        let whole = batch.next_multiple_of(LANES);
        let (block, pitch) = if contiguous {
            (batch, batch)
        } else {
            let columns_in_segment = if flat { width } else { 1 };
            let least = wish.vectors.div_ceil(columns_in_segment) * LANES;
            let most = (wish.vectors_max / columns_in_segment).max(1) * LANES;
            let fitting = wish.budget / (line * rows_for(height)).max(1) / LANES * LANES;
            let block = fitting.clamp(least, most.max(least)).min(whole);
            let block = whole.div_ceil(whole.div_ceil(block)).next_multiple_of(LANES);
            (block.min(batch), block)
        };
        let mut rows = height;
        while rows > 1 && (rows_for(rows) * line * pitch > wish.budget || (rows - 1) * width * pitch >= wish.values) {
            rows -= 1;
        }
        let rows = height.div_ceil(height.div_ceil(rows));
        let vectors = (if flat { width * pitch } else { pitch }).div_ceil(LANES);
        Self::assemble(problem, flat, false, block, pitch, vectors, rows, columns, wish.row_halo)
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of a tiling, private")]
    fn assemble(
        problem: &Problem,
        flat: bool,
        direct: bool,
        block: usize,
        pitch: usize,
        vectors: usize,
        rows: usize,
        columns: Axis,
        row_halo: bool,
    ) -> Self {
        let height = problem.destination_height;
        let line_stride = columns.lines.len() * pitch;
        let row_blocks: Vec<RowBlock> = (0..height)
            .step_by(rows)
            .map(|first| {
                let range = first..(first + rows).min(height);
                let axis = Axis::new(problem, range, problem.source_height, row_halo, false, direct);
                let mut block = Self::row_block(axis, first, &columns, problem, flat, pitch, vectors);
                if direct {
                    block.channel_stride = problem.source_channel();
                }
                block
            })
            .collect();
        let rows = &row_blocks[0].rows;
        let groups = || (0..problem.kernel).flat_map(|row| (0..problem.kernel).map(move |column| (row, column)));
        let group_tap = groups().map(|(row, column)| rows.taps[row] * problem.kernel + columns.taps[column]).collect();
        let group_offset = groups()
            .map(|(row, column)| rows.relative[row] * line_stride as isize + columns.relative[column] * pitch as isize)
            .collect();
        let mut group_used = vec![false; problem.kernel * problem.kernel];
        for &(start, end) in row_blocks.iter().flat_map(|block| &block.ranges) {
            group_used[start..end].fill(true);
        }
        Self {
            flat,
            direct,
            block,
            pitch,
            vectors,
            pair_step: 0,
            column_runs: column_runs(&columns.lines),
            columns,
            row_blocks,
            group_tap,
            group_offset,
            group_used,
        }
    }

    /// Makes one segment of two neighbouring positions of a row that have the same taps.
    fn pair_up(&mut self, problem: &Problem) {
        let columns = &self.columns;
        let step = match problem.direction {
            Direction::Forward => problem.stride as isize,
            Direction::Backward => 1,
        };
        self.pair_step = step * self.pitch as isize;
        for rows in &mut self.row_blocks {
            let mut paired = Vec::with_capacity(rows.segments.len());
            for row in rows.segments.chunks(problem.destination_width) {
                let mut column = 0;
                while column < row.len() {
                    let next = column + 1;
                    let pair = next < row.len()
                        && columns.valid[next] == columns.valid[column]
                        && columns.base[next] == columns.base[column] + step;
                    paired.push(Segment { pair, ..row[column] });
                    column += 1 + usize::from(pair);
                }
            }
            rows.segments = paired;
        }
    }

    /// Puts the segments of each row block in the order of strips of `columns` columns: down all
    /// rows of a strip, then on to the next.
    pub(super) fn in_strips(&mut self, problem: &Problem, columns: usize) {
        let column =
            |segment: &Segment| segment.destination / problem.destination_position() % problem.destination_width;
        for rows in &mut self.row_blocks {
            rows.segments.sort_by_key(|segment| column(segment) / columns);
        }
    }

    /// What the nth segment of `rows` reads first. Nothing where there is no such segment, the
    /// source stays in the caches or is packed, or a position's values do not lie together.
    pub(super) fn ahead(&self, problem: &Problem, rows: &RowBlock, nth: usize) -> Option<Fresh> {
        let source_len = problem.source_height * problem.source_width * problem.source_position();
        let far = self.direct && self.block == problem.batch && source_len >= FAR;
        rows.segments.get(nth).filter(|_| far).and_then(|segment| self.fresh(problem, rows, segment))
    }

    fn fresh(&self, problem: &Problem, rows: &RowBlock, segment: &Segment) -> Option<Fresh> {
        let ranges = &rows.ranges[segment.ranges.0..segment.ranges.1];
        // In one direction the last tap meets the last position, in the other the first does.
        let last = self.group_offset[ranges.first()?.0].max(self.group_offset[ranges.last()?.1 - 1]);
        let step = match problem.direction {
            Direction::Forward => problem.stride.min(problem.kernel),
            Direction::Backward => 1,
        };
        let more = if segment.pair { self.pair_step } else { 0 };
        Some(Fresh {
            panel: segment.panel + last - ((step - 1) * self.pitch) as isize,
            length: step * self.pitch + more as usize,
            rows: step,
            distance: self.columns.lines.len() * self.pitch,
        })
    }

    fn row_block(
        rows: Axis,
        first: usize,
        columns: &Axis,
        problem: &Problem,
        flat: bool,
        pitch: usize,
        vectors: usize,
    ) -> RowBlock {
        let kernel = problem.kernel;
        let line_stride = columns.lines.len() * pitch;
        let width = if flat { 1 } else { problem.destination_width };
        let (mut segments, mut ranges) = (Vec::with_capacity(rows.base.len() * width), Vec::new());
        for row in 0..rows.base.len() {
            for column in 0..width {
                let start = ranges.len();
                let (left, right) = columns.valid[column];
                for tap_row in rows.valid[row].0..rows.valid[row].1 {
                    let (from, to) = (tap_row * kernel + left, tap_row * kernel + right);
                    match ranges[start..].last_mut() {
                        Some((_, end)) if *end == from => *end = to,
                        _ if from < to => ranges.push((from, to)),
                        _ => {}
                    }
                }
                segments.push(Segment {
                    panel: rows.base[row] * line_stride as isize + columns.base[column] * pitch as isize,
                    destination: ((first + row) * problem.destination_width + column) * problem.destination_position(),
                    ranges: (start, ranges.len()),
                    pair: false,
                });
            }
        }
        // An odd number of cache lines between channels spreads them over the cache's sets.
        let lines = (rows.lines.len() * line_stride).div_ceil(LANES);
        let channel_stride = (lines | 1) * LANES;
        // The last vector of a contiguous row may read past it.
        let slack = (vectors * LANES).saturating_sub(if flat { problem.destination_width * pitch } else { pitch });
        RowBlock { rows, segments, ranges, channel_stride, panel_len: channel_stride + slack.next_multiple_of(LANES) }
    }

    /// First batch index of every batch block.
    pub(super) fn batch_blocks(&self, problem: &Problem) -> usize {
        problem.batch.div_ceil(self.block)
    }

    /// Where a segment's vectors go in the destination, relative to the segment and the block's
    /// first batch value: offset and number of lanes.
    pub(super) fn stores(&self, problem: &Problem, block: usize) -> Vec<(usize, usize)> {
        let width = if self.flat { problem.destination_width } else { 1 };
        let size = self.block.min(problem.batch - block * self.block);
        (0..self.vectors)
            .map(|vector| {
                let at = vector * LANES;
                if !self.flat {
                    (at, size.saturating_sub(at).min(LANES))
                } else if self.pitch.is_multiple_of(LANES) {
                    let within = at % self.pitch;
                    let position = at / self.pitch * problem.destination_position();
                    (position + within, size.saturating_sub(within).min(LANES))
                } else {
                    (at, (width * self.pitch - at).min(LANES))
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// The positions of the source, row after row, that a segment reads.
    fn read(tiling: &Tiling, rows: &RowBlock, segment: &Segment) -> BTreeSet<isize> {
        let pitch = tiling.pitch as isize;
        let ranges = &rows.ranges[segment.ranges.0..segment.ranges.1];
        let pairs = if segment.pair { vec![0, tiling.pair_step] } else { vec![0] };
        let groups = ranges.iter().flat_map(|&(start, end)| start..end);
        groups
            .flat_map(|group| pairs.iter().map(move |pair| (segment.panel + tiling.group_offset[group] + pair) / pitch))
            .collect()
    }

    proptest! {
        #[test]
        fn fresh_is_what_neither_the_segment_before_nor_the_one_above_reads(
            (kernel, stride) in prop_oneof![Just((3, 1)), Just((1, 1)), Just((7, 1)), Just((2, 2)), Just((3, 2)), Just((7, 2))],
            (height, width) in (24usize..30, 24usize..30),
            backward in any::<bool>(),
            pairs in any::<bool>(),
        ) {
            let shape = Conv2dShape {
                batch: 32, in_channels: 2, out_channels: 3, in_height: height, in_width: width, kernel, stride, padding: kernel / 2,
            };
            let backward = backward && stride == 1;
            let problem = Problem::new(&shape, if backward { Direction::Backward } else { Direction::Forward });
            let tiling = Tiling::direct(&problem, 8, problem.destination_height, pairs).unwrap();
            let rows = &tiling.row_blocks[0];
            let at = |segment: &Segment| {
                let position = segment.destination / problem.destination_position();
                (position / problem.destination_width, position % problem.destination_width)
            };
            let mut compared = 0;
            for (nth, segment) in rows.segments.iter().enumerate().skip(1) {
                let (row, column) = at(segment);
                let before = &rows.segments[nth - 1];
                let above = rows.segments.iter().find(|above| row > 0 && at(above) == (row - 1, column));
                // Where a kernel reaches beyond the map, what it meets is not all new.
                let inside = |at: usize, length: usize| at * stride >= kernel && (at + 2) * stride + kernel <= length + kernel / 2;
                let inside = inside(row, problem.source_height) && inside(column, problem.source_width);
                let (Some(above), true) = (above.filter(|above| above.pair == segment.pair), inside) else { continue };
                let mut expected = read(&tiling, rows, segment);
                for seen in [before, above] {
                    read(&tiling, rows, seen).iter().for_each(|position| { expected.remove(position); });
                }
                let fresh = tiling.fresh(&problem, rows, segment).unwrap();
                let got: BTreeSet<isize> = (0..fresh.rows)
                    .flat_map(|up| (0..fresh.length / tiling.pitch).map(move |step| (up, step)))
                    .map(|(up, step)| (fresh.panel - (up * fresh.distance) as isize) / tiling.pitch as isize + step as isize)
                    .collect();
                prop_assert_eq!(&got, &expected, "segment {} of {:?}", nth, problem);
                compared += 1;
            }
            prop_assert!(compared > 0);
        }
    }
}
