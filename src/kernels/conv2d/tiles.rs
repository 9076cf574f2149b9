//! The innermost loops, written once over [`Simd`] and compiled for every instruction set.
//!
//! Long: all loops that are compiled for each instruction set by one macro, with the table of them.

use super::geometry::{Fresh, Segment};
use super::transforms::{self, Block, OUTPUTS, POINTS, Products, SIDE, STEP, Taps, WEIGHTS_AHEAD};
use crate::norm::AtRest;
use crate::simd::{LANES, LINE, Path, Portable, Simd, prefetch, prefetch_far};
use std::ptr;

/// A tile of `MR` destination channels × some vectors.
pub(super) struct DenseTile<'a> {
    /// packed weights of the channel tile: `[group][source channel][MR]`
    pub weight: *const f32,
    /// the segment's base in the panel, moved to the tile's first vector
    pub panel: *const f32,
    /// valid tap groups
    pub ranges: &'a [(usize, usize)],
    /// per tap group: distance in the panel, in floats
    pub group_offset: &'a [isize],
    /// per tap group: its place among the packed groups
    pub group_rank: &'a [usize],
    pub channels: usize,
    pub channel_stride: usize,
    /// the segment's first value of the tile's first channel in the destination
    pub destination: *mut f32,
    /// floats between two channels of the destination
    pub plane: usize,
    /// channels of the tile that exist
    pub rows: usize,
    /// per vector: offset in the destination, lanes
    pub stores: &'a [(usize, usize)],
    pub accumulate: bool,
    /// whether all rows exist and all lanes of neighbouring vectors are stored; sums that are added
    /// to begin with what is there
    pub whole: bool,
}

/// What the next tile reads first: main memory is asked for it, piece by piece, while this one is computed.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    panel: *const f32,
    fresh: Fresh,
}

impl Ahead {
    pub(super) fn new(panel: &[f32], fresh: Option<Fresh>) -> Option<Self> {
        fresh.map(|fresh| Self { panel: panel.as_ptr(), fresh })
    }

    /// The nth of `all` pieces.
    #[inline(always)]
    fn ask(&self, nth: usize, all: usize) {
        let Fresh { panel, length, rows, distance } = self.fresh;
        let lines = length / LANES;
        let (first, end) = (lines * nth / all, lines * (nth + 1) / all);
        let at = self.panel.wrapping_offset(panel).wrapping_add(first * LANES);
        for row in 0..rows {
            prefetch_far(at.wrapping_sub(row * distance), (end - first) * LANES);
        }
    }
}

/// A kept weight and its distance in the panel, in floats.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub weight: f32,
    pub offset: i32,
}

/// Some vectors of all destination channels of a range, with compressed weights.
pub(super) struct SparseTile<'a> {
    pub panel: *const f32,
    pub ranges: &'a [(usize, usize)],
    /// start of each `(channel, group)` in `entries`; `groups + 1` a channel, overlapping by none
    pub starts: &'a [u32],
    /// tap groups of a channel
    pub groups: usize,
    pub entries: &'a [Entry],
    pub channel_range: (usize, usize),
    pub destination: *mut f32,
    pub plane: usize,
    pub stores: &'a [(usize, usize)],
    /// floats between the two positions of a pair, in the panel and in the destination
    pub pair: (isize, usize),
    pub accumulate: bool,
    /// whether whole vectors are written past the caches, which takes a
    /// [`fence`](crate::simd::fence) after the last tile
    pub past_caches: bool,
    /// what sums of whole vectors meet before they are written, and where the destination lies in all maps
    pub norm: Option<(&'a AtRest<'a>, usize)>,
    pub ahead: Option<Ahead>,
}

/// A kept weight's place among all that are kept, and its distance in the panel, in floats.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kept {
    pub place: u32,
    pub offset: i32,
}

/// A position's gradients of some destination channels, times what their kept weights read there.
pub(super) struct KeptTile<'a> {
    pub panel: *const f32,
    pub ranges: &'a [(usize, usize)],
    /// start of each `(channel, group)` in `kept`; `groups + 1` a channel, overlapping by none
    pub starts: &'a [u32],
    /// tap groups of a channel
    pub groups: usize,
    pub kept: &'a [Kept],
    pub channel_range: (usize, usize),
    /// the position's gradient of the first channel of all
    pub gradient: *const f32,
    /// floats between two channels of the gradient
    pub plane: usize,
    /// a vector of sums for each kept weight of the range, added to
    pub sums: *mut f32,
    pub ahead: Option<Ahead>,
}

/// Vectors of a gradient row and of a panel that meet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// offset in a gradient row
    pub gradient: usize,
    /// offset in the panel
    pub panel: isize,
    /// number of vectors
    pub vectors: usize,
}

/// Dot products of `MO` gradient rows with some panel rows, summed over runs.
pub(super) struct DotTile<'a> {
    /// gradient rows: `MO` rows of `gradient_stride` floats, each run at its own offset
    pub gradient: *const f32,
    pub gradient_stride: usize,
    pub panel: *const f32,
    /// per column: distance in the panel, in floats
    pub columns: &'a [isize],
    /// stretches of values that meet
    pub runs: &'a [Run],
    /// sums out, `[MO][columns]`, added to
    pub sums: &'a mut [f32],
}

/// # Safety
/// `to` is valid for `lanes` floats, and the machine has the instruction set.
#[inline(always)]
unsafe fn put<S: Simd>(to: *mut f32, lanes: usize, value: S::Vector, accumulate: bool) {
    // SAFETY: the caller's promise; partial vectors go through a local array.
    unsafe {
        if lanes == LANES {
            S::store(to, if accumulate { S::add(S::load(to), value) } else { value });
        } else {
            let mut local = [0.0f32; LANES];
            S::store(local.as_mut_ptr(), value);
            for (lane, value) in local.iter().enumerate().take(lanes) {
                *to.add(lane) = if accumulate { *to.add(lane) + value } else { *value };
            }
        }
    }
}

/// # Safety
/// The pointers and offsets of `tile` stay inside their buffers, and the machine has the instruction set.
#[inline(always)]
unsafe fn dense<S: Simd, const MR: usize, const NR: usize>(tile: &DenseTile) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[S::zero(); NR]; MR];
        if tile.whole && tile.accumulate {
            let destination = tile.destination.wrapping_add(tile.stores.get_unchecked(0).0);
            for (row, sums) in sums.iter_mut().enumerate() {
                for (column, sum) in sums.iter_mut().enumerate() {
                    *sum = S::load(destination.wrapping_add(row * tile.plane + column * LANES));
                }
            }
        }
        for &(start, end) in tile.ranges {
            for group in start..end {
                let mut panel = tile.panel.wrapping_offset(*tile.group_offset.get_unchecked(group));
                let mut weight = tile.weight.add(*tile.group_rank.get_unchecked(group) * tile.channels * MR);
                for _ in 0..tile.channels {
                    // One vector's products leave no time for it.
                    if NR > 1 {
                        prefetch(weight.wrapping_add(WEIGHTS_AHEAD * MR), 1);
                    }
                    let mut values = [S::zero(); NR];
                    for (column, value) in values.iter_mut().enumerate() {
                        *value = S::load(panel.add(column * LANES));
                    }
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let factor = S::broadcast(*weight.add(row));
                        for (sum, value) in sums.iter_mut().zip(values) {
                            *sum = S::multiply_add(factor, value, *sum);
                        }
                    }
                    weight = weight.add(MR);
                    panel = panel.wrapping_add(tile.channel_stride);
                }
            }
        }
        if tile.whole {
            let destination = tile.destination.wrapping_add(tile.stores.get_unchecked(0).0);
            for (row, sums) in sums.iter().enumerate() {
                for (column, &sum) in sums.iter().enumerate() {
                    S::store(destination.wrapping_add(row * tile.plane + column * LANES), sum);
                }
            }
            return;
        }
        // Sums that a loop of unknown length indexes would live in memory, and be written there after every product.
        let mut done = [[[0.0f32; LANES]; NR]; MR];
        for (done, sums) in done.iter_mut().zip(sums) {
            for (done, sum) in done.iter_mut().zip(sums) {
                S::store(done.as_mut_ptr(), sum);
            }
        }
        for (row, done) in done.iter().enumerate().take(tile.rows) {
            for (column, done) in done.iter().enumerate() {
                let (offset, lanes) = *tile.stores.get_unchecked(column);
                let to = tile.destination.wrapping_add(row * tile.plane + offset);
                put::<S>(to, lanes, S::load(done.as_ptr()), tile.accumulate);
            }
        }
    }
}

/// Adds one kept weight's products.
///
/// # Safety
/// As [`dense`].
#[inline(always)]
unsafe fn add_entry<S: Simd, const NR: usize, const POSITIONS: usize>(
    tile: &SparseTile,
    entry: &Entry,
    sums: &mut [[S::Vector; NR]; POSITIONS],
) {
    // SAFETY: the caller's promise.
    unsafe {
        let panel = tile.panel.wrapping_offset(entry.offset as isize);
        let factor = S::broadcast(entry.weight);
        for (position, sums) in sums.iter_mut().enumerate() {
            let panel = panel.wrapping_offset(position as isize * tile.pair.0);
            for (column, sum) in sums.iter_mut().enumerate() {
                *sum = S::multiply_add(factor, S::load(panel.add(column * LANES)), *sum);
            }
        }
    }
}

/// The terms of a batch norm for a channel.
struct ChannelNorm<S: Simd> {
    centre: S::Vector,
    scale: S::Vector,
    shift: S::Vector,
    /// where the tile's destination lies in what is added; null for nothing
    residual: *const f32,
    relu: bool,
}

impl<S: Simd> ChannelNorm<S> {
    /// # Safety
    /// `norm` has the channel, and adds nothing or maps that reach to `start`; the machine has the instruction set.
    #[inline(always)]
    unsafe fn new(norm: &AtRest<'_>, start: usize, channel: usize) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            Self {
                centre: S::broadcast(*norm.centre.get_unchecked(channel)),
                scale: S::broadcast(*norm.scale.get_unchecked(channel)),
                shift: S::broadcast(*norm.shift.get_unchecked(channel)),
                residual: norm.residual.map_or(ptr::null(), |residual| residual.as_ptr().wrapping_add(start)),
                relu: norm.relu,
            }
        }
    }

    /// Of a vector of sums, `offset` floats into the tile's destination: the arithmetic of [`AtRest::apply`].
    ///
    /// # Safety
    /// What is added has a vector there; the machine has the instruction set.
    #[inline(always)]
    unsafe fn of(&self, sums: S::Vector, offset: usize) -> S::Vector {
        // SAFETY: the caller's promise.
        unsafe {
            let mut value = S::add(S::multiply(S::subtract(sums, self.centre), self.scale), self.shift);
            if !self.residual.is_null() {
                value = S::add(value, S::load(self.residual.wrapping_add(offset)));
            }
            if self.relu { S::rectify(value) } else { value }
        }
    }
}

/// How many channels ahead main memory is asked for what is added to sums: their products take as long as it does.
const AHEAD: usize = 8;

/// `POSITIONS` is 1, or 2 for a pair.
///
/// # Safety
/// As [`dense`].
#[inline(always)]
unsafe fn sparse<S: Simd, const NR: usize, const POSITIONS: usize>(tile: &SparseTile) {
    // SAFETY: the caller's promise.
    unsafe {
        // A few sums alone would wait for each other: every other entry then goes into a second set.
        let two_sets = POSITIONS * NR <= S::FEW;
        let all = tile.channel_range.1 - tile.channel_range.0;
        for (nth, channel) in (tile.channel_range.0..tile.channel_range.1).enumerate() {
            if let Some(ahead) = &tile.ahead {
                ahead.ask(nth, all);
            }
            let (mut sums, mut second) = ([[S::zero(); NR]; POSITIONS], [[S::zero(); NR]; POSITIONS]);
            if let Some((AtRest { residual: Some(residual), .. }, start)) = tile.norm {
                let first = start + (channel + AHEAD) * tile.plane + tile.stores.get_unchecked(0).0;
                for position in 0..POSITIONS {
                    prefetch(residual.as_ptr().wrapping_add(first + position * tile.pair.1), NR * LANES);
                }
            }
            for &(start, end) in tile.ranges {
                let from = *tile.starts.get_unchecked(channel * tile.groups + start) as usize;
                let to = *tile.starts.get_unchecked(channel * tile.groups + end) as usize;
                let mut entries = tile.entries.get_unchecked(from..to);
                if two_sets {
                    while let [one, other, rest @ ..] = entries {
                        add_entry::<S, NR, POSITIONS>(tile, one, &mut sums);
                        add_entry::<S, NR, POSITIONS>(tile, other, &mut second);
                        entries = rest;
                    }
                }
                for entry in entries {
                    add_entry::<S, NR, POSITIONS>(tile, entry, &mut sums);
                }
            }
            let norm = tile.norm.map(|(norm, start)| ChannelNorm::<S>::new(norm, start, channel));
            for position in 0..POSITIONS {
                for column in 0..NR {
                    let (offset, lanes) = *tile.stores.get_unchecked(column);
                    let offset = channel * tile.plane + position * tile.pair.1 + offset;
                    let sum = sums[position][column];
                    let sum = if two_sets { S::add(sum, second[position][column]) } else { sum };
                    let sum = match &norm {
                        Some(norm) => norm.of(sum, offset),
                        None => sum,
                    };
                    let to = tile.destination.wrapping_add(offset);
                    if tile.past_caches && lanes == LANES && to.addr().is_multiple_of(LINE) {
                        S::stream(to, sum);
                    } else {
                        put::<S>(to, lanes, sum, tile.accumulate);
                    }
                }
            }
        }
    }
}

/// # Safety
/// As [`dense`].
#[inline(always)]
unsafe fn dot<S: Simd, const MO: usize, const MC: usize>(tile: &mut DotTile) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[S::zero(); MC]; MO];
        let mut columns = [0isize; MC];
        columns.copy_from_slice(tile.columns.get_unchecked(..MC));
        for run in tile.runs {
            let gradient = tile.gradient.add(run.gradient);
            let panel = tile.panel.wrapping_offset(run.panel);
            for vector in 0..run.vectors {
                let mut factors = [S::zero(); MO];
                for (row, factor) in factors.iter_mut().enumerate() {
                    *factor = S::load(gradient.add(row * tile.gradient_stride + vector * LANES));
                }
                for column in 0..MC {
                    let value = S::load(panel.wrapping_offset(columns[column]).wrapping_add(vector * LANES));
                    for row in 0..MO {
                        sums[row][column] = S::multiply_add(factors[row], value, sums[row][column]);
                    }
                }
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            for (column, &sum) in sums.iter().enumerate() {
                *tile.sums.get_unchecked_mut(row * MC + column) += S::sum(sum);
            }
        }
    }
}

/// # Safety
/// As [`dense`]; `sums` has a vector for each kept weight of the channels.
#[inline(always)]
unsafe fn kept_sums<S: Simd, const NR: usize>(tile: &KeptTile) {
    // SAFETY: the caller's promise.
    unsafe {
        let first = *tile.starts.get_unchecked(tile.channel_range.0 * tile.groups) as usize;
        let all = tile.channel_range.1 - tile.channel_range.0;
        for (nth, channel) in (tile.channel_range.0..tile.channel_range.1).enumerate() {
            if let Some(ahead) = &tile.ahead {
                ahead.ask(nth, all);
            }
            let starts = tile.starts.get_unchecked(channel * tile.groups..=(channel + 1) * tile.groups);
            if starts[0] == starts[tile.groups] {
                continue;
            }
            let gradient = tile.gradient.wrapping_add(channel * tile.plane);
            let mut factors = [S::zero(); NR];
            for (column, factor) in factors.iter_mut().enumerate() {
                *factor = S::load(gradient.add(column * LANES));
            }
            for &(start, end) in tile.ranges {
                for place in *starts.get_unchecked(start) as usize..*starts.get_unchecked(end) as usize {
                    let panel = tile.panel.wrapping_offset(tile.kept.get_unchecked(place).offset as isize);
                    let to = tile.sums.add((place - first) * LANES);
                    // Two sums, so that products wait less for each other.
                    let mut sums = [S::load(to), S::zero()];
                    for (column, &factor) in factors.iter().enumerate() {
                        let value = S::load(panel.add(column * LANES));
                        sums[column % 2] = S::multiply_add(factor, value, sums[column % 2]);
                    }
                    S::store(to, S::add(sums[0], sums[1]));
                }
            }
        }
    }
}

/// Collects one channel's runs, each of `stores.len()` vectors, into consecutive vectors padded with zeros.
///
/// # Safety
/// Every run and store lies inside `from`, `to` holds `segments·stores` vectors, and the machine
/// has the instruction set.
#[inline(always)]
unsafe fn collect<S: Simd>(from: *const f32, segments: &[Segment], stores: &[(usize, usize)], mut to: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe {
        for segment in segments {
            let from = from.add(segment.destination);
            for &(offset, lanes) in stores {
                if lanes == LANES {
                    S::store(to, S::load(from.add(offset)));
                } else {
                    for lane in 0..LANES {
                        *to.add(lane) = if lane < lanes { *from.add(offset + lane) } else { 0.0 };
                    }
                }
                to = to.add(LANES);
            }
        }
    }
}

/// Copies `blocks` blocks of `length` floats from `from`, `from_stride` apart, to `to`, `to_stride`
/// apart, and zeros each block's padding up to `padded`.
///
/// # Safety
/// The blocks lie inside their buffers, and the machine has the instruction set.
#[inline(always)]
unsafe fn copy<S: Simd>(
    from: *const f32,
    from_stride: usize,
    to: *mut f32,
    to_stride: usize,
    length: usize,
    padded: usize,
    blocks: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        for block in 0..blocks {
            let (from, to) = (from.add(block * from_stride), to.add(block * to_stride));
            let mut at = 0;
            while at + LANES <= length {
                S::store(to.add(at), S::load(from.add(at)));
                at += LANES;
            }
            while at < length {
                *to.add(at) = *from.add(at);
                at += 1;
            }
            while at < padded {
                *to.add(at) = 0.0;
                at += 1;
            }
        }
    }
}

type SourceFn = unsafe fn(&[*const f32; POINTS], Block, *mut f32, usize);
type SourceRowsFn = unsafe fn(&[*const f32; POINTS], usize, usize, *mut f32, usize);
type GradientRowsFn = unsafe fn(&[*const f32; OUTPUTS], usize, usize, *mut f32, usize);
type OutputFn = unsafe fn(*const f32, usize, &[*mut f32; OUTPUTS], Block, bool);
type ProductsFn = unsafe fn(&Products);
type KernelPointsFn = unsafe fn(&Taps, *mut f32, usize);
type KernelGradientsFn = unsafe fn(*const f32, usize, usize, usize, &mut Taps);
type TurnFn = unsafe fn(*const f32, Block, *mut f32);
type DenseFn = unsafe fn(&DenseTile);
type SparseFn = unsafe fn(&SparseTile);
type DotFn = unsafe fn(&mut DotTile);
type KeptFn = unsafe fn(&KeptTile);
type CollectFn = unsafe fn(*const f32, &[Segment], &[(usize, usize)], *mut f32);
type CopyFn = unsafe fn(*const f32, usize, *mut f32, usize, usize, usize, usize);

/// The compiled loops of one instruction set.
pub(super) struct Kernels {
    /// floats of the second-level cache of a machine whose best set this is. A constant: how work
    /// is cut decides in which order is summed, and machines with the same set agree on that
    pub cache: usize,
    /// destination channels of a dense tile
    pub mr: usize,
    /// dense tiles by number of vectors − 1
    pub dense: &'static [DenseFn],
    /// sparse tiles by number of vectors − 1
    pub sparse: &'static [SparseFn],
    /// sparse tiles of a pair of positions, by number of vectors of each − 1
    pub sparse_pair: &'static [SparseFn],
    /// gradient rows of a dot tile
    pub mo: usize,
    /// dot tiles by number of columns − 1
    pub dot: &'static [DotFn],
    /// dot tiles of one gradient row, by number of columns − 1
    pub dot_one: &'static [DotFn],
    /// kept weights' gradients at a position, by number of vectors − 1
    pub kept_sums: &'static [KeptFn],
    pub collect: CollectFn,
    pub copy: CopyFn,
    /// [`transforms`]' loops
    pub source: SourceFn,
    pub source_rows: SourceRowsFn,
    pub gradient_rows: GradientRowsFn,
    pub output: OutputFn,
    pub products: ProductsFn,
    pub turn: TurnFn,
    pub kernel_points: KernelPointsFn,
    pub kernel_gradients: KernelGradientsFn,
}

macro_rules! compile {
    ($name:ident, $module:ident, $simd:ty, $cache:literal, $mr:literal, [$($nr:literal)*], [$($sr:literal)*], [$($sp:literal)*], $mo:literal, [$($mc:literal)*], [$($one:literal)*], $widest:literal, $tall:literal $(, $feature:literal)?) => {
        mod $module {
            use super::*;
            $(#[target_feature(enable = $feature)])?
            pub(super) unsafe fn dense<const NR: usize>(tile: &DenseTile) {
                // SAFETY: the caller's promise, which includes the instruction set.
                unsafe { super::dense::<$simd, $mr, NR>(tile) }
            }
            $(#[target_feature(enable = $feature)])?
            pub(super) unsafe fn sparse<const NR: usize, const POSITIONS: usize>(tile: &SparseTile) {
                // SAFETY: as above.
                unsafe { super::sparse::<$simd, NR, POSITIONS>(tile) }
            }
            $(#[target_feature(enable = $feature)])?
            pub(super) unsafe fn dot<const MO: usize, const MC: usize>(tile: &mut DotTile) {
                // SAFETY: as above.
                unsafe { super::dot::<$simd, MO, MC>(tile) }
            }
            $(#[target_feature(enable = $feature)])?
            pub(super) unsafe fn kept_sums<const NR: usize>(tile: &KeptTile) {
                // SAFETY: as above.
                unsafe { super::kept_sums::<$simd, NR>(tile) }
            }
            $(#[target_feature(enable = $feature)])?
            pub(super) unsafe fn collect(from: *const f32, segments: &[Segment], stores: &[(usize, usize)], to: *mut f32) {
                // SAFETY: as above.
                unsafe { super::collect::<$simd>(from, segments, stores, to) }
            }
            $(#[target_feature(enable = $feature)])?
            pub(super) unsafe fn copy(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize, length: usize, padded: usize, blocks: usize) {
                // SAFETY: as above.
                unsafe { super::copy::<$simd>(from, from_stride, to, to_stride, length, padded, blocks) }
            }
            $(#[target_feature(enable = $feature)])?
            pub(super) unsafe fn source(from: &[*const f32; POINTS], block: Block, to: *mut f32, distance: usize) {
                // SAFETY: as above.
                unsafe { transforms::source::<$simd>(from, block, to, distance) }
            }
            $(#[target_feature(enable = $feature)])?
            pub(super) unsafe fn source_rows(from: &[*const f32; POINTS], length: usize, pair: usize, to: *mut f32, distance: usize) {
                // SAFETY: as above.
                unsafe { transforms::rows::<$simd, POINTS, SIDE>(from, length, pair, to, distance) }
            }
            $(#[target_feature(enable = $feature)])?
            pub(super) unsafe fn gradient_rows(from: &[*const f32; OUTPUTS], length: usize, pair: usize, to: *mut f32, distance: usize) {
                // SAFETY: as above.
                unsafe { transforms::rows::<$simd, OUTPUTS, STEP>(from, length, pair, to, distance) }
            }
            $(#[target_feature(enable = $feature)])?
            pub(super) unsafe fn output(from: *const f32, distance: usize, to: &[*mut f32; OUTPUTS], block: Block, accumulate: bool) {
                // SAFETY: as above.
                unsafe { transforms::output::<$simd>(from, distance, to, block, accumulate) }
            }
            $(#[target_feature(enable = $feature)])?
            pub(super) unsafe fn products(part: &Products) {
                // SAFETY: as above.
                unsafe { transforms::products::<$simd, $widest, $tall>(part) }
            }
            $(#[target_feature(enable = $feature)])?
            pub(super) unsafe fn turn(from: *const f32, block: Block, to: *mut f32) {
                // SAFETY: as above.
                unsafe { transforms::turn::<$simd>(from, block, to) }
            }
            $(#[target_feature(enable = $feature)])?
            pub(super) unsafe fn kernel_points(taps: &Taps, to: *mut f32, distance: usize) {
                // SAFETY: as above.
                unsafe { transforms::kernel_points::<$simd>(taps, to, distance) }
            }
            $(#[target_feature(enable = $feature)])?
            pub(super) unsafe fn kernel_gradients(from: *const f32, distance: usize, parts: usize, part_distance: usize, taps: &mut Taps) {
                // SAFETY: as above.
                unsafe { transforms::kernel_gradients::<$simd>(from, distance, parts, part_distance, taps) }
            }
        }
        static $name: Kernels = Kernels {
            cache: $cache * 1024 / size_of::<f32>(),
            mr: $mr,
            dense: &[$($module::dense::<$nr>),*],
            sparse: &[$($module::sparse::<$sr, 1>),*],
            sparse_pair: &[$($module::sparse::<$sp, 2>),*],
            mo: $mo,
            dot: &[$($module::dot::<$mo, $mc>),*],
            dot_one: &[$($module::dot::<1, $one>),*],
            kept_sums: &[$($module::kept_sums::<$sr>),*],
            collect: $module::collect,
            copy: $module::copy,
            source: $module::source,
            source_rows: $module::source_rows,
            gradient_rows: $module::gradient_rows,
            output: $module::output,
            products: $module::products,
            turn: $module::turn,
            kernel_points: $module::kernel_points,
            kernel_gradients: $module::kernel_gradients,
        };
    };
}

#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512};
#[cfg(target_arch = "x86_64")]
compile!(AVX512, avx512, Avx512, 1024, 8, [1 2 3], [1 2 3 4 5 6 7 8], [1 2 3 4], 4, [1 2 3 4 5 6], [1 2 3 4 5 6 7 8], 3, 16, "avx512f,avx512vl,avx512dq");
#[cfg(target_arch = "x86_64")]
compile!(AVX2, avx2, Avx2, 512, 6, [1], [1 2 3 4], [1 2], 3, [1 2], [1 2 3 4], 1, 6, "avx2,fma");
compile!(PORTABLE, portable, Portable, 512, 4, [1], [1 2], [1], 2, [1], [1 2], 1, 4);

pub(super) fn kernels(path: Path) -> &'static Kernels {
    match path {
        #[cfg(target_arch = "x86_64")]
        Path::Avx512 => &AVX512,
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 => &AVX2,
        Path::Portable => &PORTABLE,
    }
}
