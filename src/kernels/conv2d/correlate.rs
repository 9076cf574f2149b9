//! Forward and grad-input, dense and sparse: panels through tiles.

use super::geometry::{Direction, Problem, RowBlock, Segment, Tiling, Wish};
use super::pack::pack_weights;
use super::panel::{panel_of, room};
use super::pattern::{Index, Pattern};
use super::tiles::{Ahead, DenseTile, Entry, Kernels, SparseTile};
use crate::norm::AtRest;
use crate::scratch::{self, Shared};
use crate::simd::{LANES, fence};
use rayon::prelude::*;

/// Floats of what a tile reads of a panel that stay in the first-level cache while all tiles read them.
pub(super) const COLUMN: usize = 6 * 1024;
/// Floats of a source that stays in the caches while it is read again and again.
const NEAR: usize = 160 * 1024;
/// Floats of a destination of sparse products beyond which it is written past the caches: it would
/// have left them before it is read.
pub(super) const PAST_CACHES: usize = 1 << 21;
/// Vectors of a position that are read in place together at most.
const MOST: usize = 8;
/// Work items a call should have, so that a few threads stay busy to the end.
const ITEMS: usize = 8;
/// The same where rows are cut into strips: fewer rows leave a strip's values nearer.
const STRIP_ITEMS: usize = 14;

/// Floats of a panel that leave room for weights in the second-level cache.
fn panel_budget(kernels: &Kernels) -> usize {
    kernels.cache * 7 / 16
}

/// Floats of source rows that are read in place together.
pub(super) fn rows_budget(kernels: &Kernels) -> usize {
    kernels.cache * 5 / 8
}

fn wish(kernels: &Kernels, problem: &Problem, sparse: bool) -> Wish {
    let budget = panel_budget(kernels);
    let single = problem.destination_height * problem.destination_width == 1;
    Wish {
        channels: problem.source_channels,
        budget: if sparse { budget * 5 / 4 } else { budget },
        position_width: if sparse { 2 } else { 8 },
        vectors: if sparse { 8 } else { 3 },
        vectors_max: if single {
            24
        } else if sparse {
            32
        } else {
            9
        },
        row_halo: false,
        values: usize::MAX,
    }
}

/// Visits (row block, batch block, range of `parts`) in parallel, with the panel packed, or the source in its place.
fn for_each_item(
    kernels: &Kernels,
    problem: &Problem,
    tiling: &Tiling,
    source: &[f32],
    parts: usize,
    body: impl Fn(&RowBlock, usize, (usize, usize), &[f32]) + Sync,
) {
    let batch_blocks = tiling.batch_blocks(problem);
    let panels = batch_blocks * tiling.row_blocks.len();
    let splits = ITEMS.div_ceil(panels).min(parts);
    (0..panels * splits).into_par_iter().with_max_len(1).for_each(|item| {
        let (panel, split) = (item / splits, item % splits);
        let (rows, batch_block) =
            (&tiling.row_blocks[panel % tiling.row_blocks.len()], panel / tiling.row_blocks.len());
        let range = (parts * split / splits, parts * (split + 1) / splits);
        let channels = problem.source_channels;
        scratch::with(room(tiling, rows, channels), |panel| {
            let panel = panel_of(kernels, problem, tiling, rows, batch_block, (0, channels), source, panel);
            body(rows, batch_block, range, panel);
        });
    });
}

/// `destination (+)= weight ⋆ source` with all weights.
pub(super) fn dense(
    kernels: &Kernels,
    problem: &Problem,
    weight: &[f32],
    source: &[f32],
    destination: &mut [f32],
    accumulate: bool,
) {
    let tiling = direct(kernels, problem, false).unwrap_or_else(|| Tiling::new(problem, wish(kernels, problem, false)));
    let (channels, outputs) = (problem.source_channels, problem.destination_channels);
    let (mr, taps) = (kernels.mr, problem.kernel * problem.kernel);
    let used: Vec<usize> = (0..taps).filter(|&group| tiling.group_used[group]).collect();
    let group_rank: Vec<usize> = (0..taps).map(|group| used.partition_point(|&used| used < group)).collect();
    let tiles = outputs.div_ceil(mr);
    let tile_len = used.len() * channels * mr;
    let plane = problem.destination_channel();
    let target = Shared::new(destination);
    let taps: Vec<usize> = used.iter().map(|&group| tiling.group_tap[group]).collect();
    let pack = |tile: usize, packed: &mut [f32]| pack_weights(problem, &taps, weight, (tile * mr, mr), packed);
    // Tiles of one (row block, batch block), whose packed weights lie one after the other.
    let product = |range: (usize, usize), packed: &[f32], rows: &RowBlock, batch_block: usize, panel: &[f32]| {
        let stores = tiling.stores(problem, batch_block);
        let part = |tile: usize, segment: &Segment, (first, count): (usize, usize)| {
            let start = tile * mr * plane + segment.destination + batch_block * tiling.block;
            // SAFETY: the tiling keeps panel reads inside `panel` (with its slack) and stores inside this
            // item's own part of the destination: no two items share a (channel tile, row, batch value).
            unsafe {
                (kernels.dense[count - 1])(&DenseTile {
                    weight: packed[(tile - range.0) * tile_len..][..tile_len].as_ptr(),
                    panel: panel.as_ptr().wrapping_offset(segment.panel).wrapping_add(first * LANES),
                    ranges: &rows.ranges[segment.ranges.0..segment.ranges.1],
                    group_offset: &tiling.group_offset,
                    group_rank: &group_rank,
                    channels,
                    channel_stride: rows.channel_stride,
                    destination: target.pointer().wrapping_add(start),
                    plane,
                    rows: mr.min(outputs - tile * mr),
                    stores: &stores[first..first + count],
                    accumulate,
                    whole: tiling.direct && !accumulate && (tile + 1) * mr <= outputs,
                });
            }
        };
        let columns = |body: &mut dyn FnMut(&Segment, (usize, usize))| {
            for segment in &rows.segments {
                for_tiles(tiling.vectors, kernels.dense.len(), |first, count| body(segment, (first, count)));
            }
        };
        // A source in place lies far away: what a tile reads of it is read once, and what all tiles
        // write there lies together.
        if tiling.direct && used.len() * channels * kernels.dense.len() * LANES <= COLUMN {
            columns(&mut |segment, vectors| (range.0..range.1).for_each(|tile| part(tile, segment, vectors)));
        } else {
            (range.0..range.1).for_each(|tile| columns(&mut |segment, vectors| part(tile, segment, vectors)));
        }
    };
    // A source that stays in the cache is read again for each tile, whose weights then never leave the cache.
    if tiling.direct && source.len() <= NEAR && tiles >= ITEMS {
        let batch_blocks = tiling.batch_blocks(problem);
        return (0..tiles).into_par_iter().with_max_len(1).for_each(|tile| {
            scratch::with(tile_len, |packed| {
                pack(tile, packed);
                for rows in &tiling.row_blocks {
                    for batch_block in 0..batch_blocks {
                        let held = (0, channels);
                        let panel = panel_of(kernels, problem, &tiling, rows, batch_block, held, source, &mut []);
                        product((tile, tile + 1), packed, rows, batch_block, panel);
                    }
                }
            });
        });
    }
    scratch::with(tiles * tile_len, |packed| {
        if tile_len > 0 {
            packed.par_chunks_mut(tile_len).enumerate().for_each(|(tile, packed)| pack(tile, packed));
        }
        let packed = &*packed;
        for_each_item(kernels, problem, &tiling, source, tiles, |rows, batch_block, range, panel| {
            product(range, &packed[range.0 * tile_len..range.1 * tile_len], rows, batch_block, panel);
        });
    });
}

/// Splits `vectors` into nearly equal tiles of at most `widest`.
fn for_tiles(vectors: usize, widest: usize, mut body: impl FnMut(usize, usize)) {
    let tiles = vectors.div_ceil(widest);
    for tile in 0..tiles {
        let (first, end) = (vectors * tile / tiles, vectors * (tile + 1) / tiles);
        body(first, end - first);
    }
}

/// `destination (+)= weight ⋆ source` with the weights that a pattern keeps; or, in maps by position, `norm` of it.
pub(super) fn sparse(
    kernels: &Kernels,
    problem: &Problem,
    (pattern, kept): (&Pattern, &[f32]),
    source: &[f32],
    destination: &mut [f32],
    accumulate: bool,
    norm: Option<&AtRest<'_>>,
) {
    // A pair keeps enough sums going at once where a position alone does not.
    let pairs = problem.batch <= kernels.sparse_pair.len() * LANES;
    let tiling =
        in_place(kernels, problem, pairs).unwrap_or_else(|| Tiling::new(problem, wish(kernels, problem, true)));
    let index = match problem.direction {
        Direction::Forward => &pattern.by_output,
        Direction::Backward => &pattern.by_input,
    };
    let outputs = problem.destination_channels;
    let plane = problem.destination_channel();
    let groups = problem.kernel * problem.kernel;
    let starts = starts(index, &tiling, outputs, groups);
    let past_caches = !accumulate && destination.len() > PAST_CACHES;
    let target = Shared::new(destination);
    let total = starts[outputs * groups] as usize;
    // The channel stride differs between row blocks only if their heights do: entries are gathered per distinct stride.
    let mut strides: Vec<usize> = tiling.row_blocks.iter().map(|rows| rows.channel_stride).collect();
    strides.sort_unstable();
    strides.dedup();
    scratch::with(2 * total * strides.len(), |entries| {
        let entries = entry_slice(entries);
        for (stride, entries) in strides.iter().zip(entries.chunks_exact_mut(total.max(1))) {
            let kept_at = |place: usize| match problem.direction {
                Direction::Forward => place,
                Direction::Backward => index.position[place] as usize,
            };
            let entry = |place: usize, offset| Entry { weight: kept[kept_at(place)], offset };
            gather(index, &tiling, &starts, groups, *stride, entry, entries);
        }
        let entries = &*entries;
        for_each_item(kernels, problem, &tiling, source, outputs, |rows, batch_block, range, panel| {
            let stores = tiling.stores(problem, batch_block);
            let nth = strides.partition_point(|&stride| stride < rows.channel_stride);
            for (at, segment) in rows.segments.iter().enumerate() {
                let ahead = Ahead::new(panel, tiling.ahead(problem, rows, at + 1));
                let table = if segment.pair { kernels.sparse_pair } else { kernels.sparse };
                let start = segment.destination + batch_block * tiling.block;
                for_tiles(tiling.vectors, table.len(), |first, count| {
                    // SAFETY: as in `dense`; a norm's maps lie as the destination does.
                    unsafe {
                        (table[count - 1])(&SparseTile {
                            panel: panel.as_ptr().wrapping_offset(segment.panel).wrapping_add(first * LANES),
                            ranges: &rows.ranges[segment.ranges.0..segment.ranges.1],
                            starts: &starts,
                            groups,
                            entries: &entries[nth * total..(nth + 1) * total],
                            channel_range: range,
                            destination: target.pointer().wrapping_add(start),
                            plane,
                            stores: &stores[first..first + count],
                            pair: (tiling.pair_step, problem.destination_position()),
                            accumulate,
                            past_caches,
                            norm: norm.map(|norm| (norm, start)),
                            ahead: ahead.filter(|_| first == 0),
                        });
                    }
                });
            }
            if past_caches {
                fence();
            }
        });
    });
}

/// Reading in place, as many rows at a time as leave the source in the second-level cache, and
/// `ITEMS` pieces where it can.
fn direct(kernels: &Kernels, problem: &Problem, pairs: bool) -> Option<Tiling> {
    let row = problem.source_channels * problem.source_width * problem.batch.min(MOST * LANES);
    let fitting = (rows_budget(kernels) / row.max(1)).saturating_sub(problem.kernel - 1).max(1);
    Tiling::direct(problem, MOST, fitting.min(problem.destination_height.div_ceil(ITEMS)), pairs)
}

/// The same for sparse products, which read what a position's taps meet once for each channel.
/// Where the rows that a row meets do not fit into the second-level cache, strips of them do.
fn in_place(kernels: &Kernels, problem: &Problem, pairs: bool) -> Option<Tiling> {
    let budget = rows_budget(kernels);
    let column = problem.source_channels * problem.batch.min(MOST * LANES) * problem.kernel;
    let width = problem.destination_width;
    let met = |columns: usize| match problem.direction {
        Direction::Forward => (columns - 1) * problem.stride + problem.kernel,
        Direction::Backward => (columns + problem.kernel - 2) / problem.stride + 1,
    };
    if problem.kernel == 1 || problem.source_width * column <= budget {
        return direct(kernels, problem, pairs);
    }
    let strip = (2..width).rev().find(|&columns| met(columns) * column <= budget).unwrap_or(2);
    let rows = problem.destination_height.div_ceil(STRIP_ITEMS);
    let mut tiling = Tiling::direct(problem, MOST, rows, pairs)?;
    tiling.in_strips(problem, width.div_ceil(width.div_ceil(strip)));
    Some(tiling)
}

/// Scratch seen as entries.
fn entry_slice(floats: &mut [f32]) -> &mut [Entry] {
    // SAFETY: an `Entry` is two 4-byte fields of alignment 4 without padding (`repr(C)`), any bits are valid for both.
    unsafe { std::slice::from_raw_parts_mut(floats.as_mut_ptr().cast(), floats.len() / 2) }
}

/// Start of each (row channel, tap group) among the gathered entries.
pub(super) fn starts(index: &Index, tiling: &Tiling, rows: usize, groups: usize) -> Vec<u32> {
    let mut starts = Vec::with_capacity(rows * groups + 1);
    let mut at = 0;
    for row in 0..rows {
        for group in 0..groups {
            starts.push(at);
            if tiling.group_used[group] {
                let cell = row * groups + tiling.group_tap[group];
                at += index.starts[cell + 1] - index.starts[cell];
            }
        }
    }
    starts.push(at);
    starts
}

/// Writes what `make` gives for each kept weight, from its place in the index and its distance in
/// the panel in floats, in the order of `starts`.
pub(super) fn gather<T: Send>(
    index: &Index,
    tiling: &Tiling,
    starts: &[u32],
    groups: usize,
    channel_stride: usize,
    make: impl Fn(usize, i32) -> T + Sync,
    entries: &mut [T],
) {
    let rows = (starts.len() - 1) / groups;
    let target = Shared::new(entries);
    let length = entries.len();
    (0..rows).into_par_iter().with_min_len((4096 * rows).div_ceil(length.max(1))).for_each(|row| {
        for group in 0..groups {
            let (start, end) = (starts[row * groups + group] as usize, starts[row * groups + group + 1] as usize);
            assert!(end <= length && start <= end);
            let from = index.starts[row * groups + tiling.group_tap[group]] as usize;
            let offset = tiling.group_offset[group];
            for step in 0..end - start {
                let distance = offset + index.channel[from + step] as isize * channel_stride as isize;
                // SAFETY: `start + step < end ≤ length`, and each row writes its own range.
                unsafe { *target.pointer().add(start + step) = make(from + step, distance as i32) };
            }
        }
    });
}
