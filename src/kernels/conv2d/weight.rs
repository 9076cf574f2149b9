//! Grad-weight, dense and sparse: dot products of gradient rows and panel rows.
//!
//! The reduction over positions and batch is cut into a number of chunks that depends on the shape alone; chunks are
//! added in order.

use super::geometry::{Direction, Problem, RowBlock, Tiling, Wish};
use super::panel::{panel_of, room};
use super::pattern::Pattern;
use super::tiles::{DotTile, Kernels, Run};
use crate::scratch::{self, Shared};
use crate::simd::{LANES, prefetch};
use rayon::prelude::*;

const BUDGET: usize = 128 * 1024;
/// Kept weights of an output channel and tap up to which its gradient is read in place too, not
/// packed, as it is used so seldom.
const SELDOM: usize = 2;
/// Most vectors of a position that are read in place together.
const DIRECT_MOST: usize = 4;
/// Input channels of a panel at most.
const CHANNELS: usize = 128;
/// Of one position that sparse products read in place: half of the second-level cache, so that the
/// index of an output channel is cut into few pieces.
const CHANNELS_DIRECT: usize = 1024;
/// Values of a gradient row per panel: four rows stay in the first-level cache. Sparse products take one row at a time.
const VALUES: usize = 1536;
/// Output channels between those whose gradients are packed and those that main memory is asked for.
const AHEAD: usize = 2;
/// Tasks of a call, reduction chunks included.
const TASKS: usize = 12;
/// Floats of all partial sums together.
const PARTIALS: usize = 1 << 19;

/// How a call is cut into tasks: output ranges × input channel blocks × reduction chunks.
struct Division {
    output_splits: usize,
    channel_blocks: usize,
    chunks: usize,
    panels: usize,
}

impl Division {
    fn new(problem: &Problem, tiling: &Tiling, output_tiles: usize, partial: usize, channels: usize) -> Self {
        let channel_blocks = problem.source_channels.div_ceil(channels).max(1);
        let panels = tiling.batch_blocks(problem) * tiling.row_blocks.len();
        let chunks = panels.min(TASKS.div_ceil(channel_blocks)).min((PARTIALS / partial.max(1)).max(1));
        let output_splits = TASKS.div_ceil(channel_blocks * chunks).min(output_tiles).max(1);
        Self { output_splits, channel_blocks, chunks, panels }
    }

    /// Runs `body(output range, channel range, chunk, panel range)` for every task.
    fn run(
        &self,
        outputs: usize,
        channels: usize,
        body: impl Fn((usize, usize), (usize, usize), usize, std::ops::Range<usize>) + Sync,
    ) {
        let share = |all: usize, parts: usize, part: usize| (all * part / parts, all * (part + 1) / parts);
        (0..self.output_splits * self.channel_blocks * self.chunks).into_par_iter().with_max_len(1).for_each(|task| {
            let (chunk, rest) = (task % self.chunks, task / self.chunks);
            let (block, split) = (rest % self.channel_blocks, rest / self.channel_blocks);
            let panels = share(self.panels, self.chunks, chunk);
            body(
                share(outputs, self.output_splits, split),
                share(channels, self.channel_blocks, block),
                chunk,
                panels.0..panels.1,
            );
        });
    }
}

/// `values`: floats of a gradient row that a panel may take. A panel gets as many destination rows
/// as the kernel has, where they fit, since its first and last source rows are packed again for its
/// neighbours. `most`: channels of a panel at most.
fn wish(problem: &Problem, row_halo: bool, position_width: usize, values: usize, most: usize) -> Wish {
    let rows = problem.kernel.min(problem.destination_height);
    let positions = if problem.destination_width <= position_width { problem.destination_width } else { 1 };
    Wish {
        channels: problem.source_channels.div_ceil(problem.source_channels.div_ceil(most).max(1)),
        budget: BUDGET,
        position_width,
        vectors: 4,
        vectors_max: (values / LANES / rows / positions).max(1),
        row_halo,
        values,
    }
}

/// Input channels of a panel: as many as leave it room for the destination rows that give a
/// gradient row its values, since each dot product ends in a sum across lanes.
fn panel_channels(problem: &Problem) -> usize {
    if problem.kernel == 1 {
        return (BUDGET / VALUES / LANES * LANES).min(CHANNELS);
    }
    let row = problem.destination_width * problem.batch;
    let rows = VALUES.div_ceil(row.max(1)).clamp(1, problem.destination_height);
    let channel = ((rows - 1) * problem.stride + problem.kernel) * problem.source_width * problem.batch;
    (BUDGET / channel.max(1)).clamp(LANES, CHANNELS)
}

/// Per tap group: the segments where it is valid. A packed gradient row holds segment after
/// segment; one that is read in place (not `packed`) has them where they are.
fn runs(tiling: &Tiling, rows: &RowBlock, groups: usize, packed: bool) -> Vec<Vec<Run>> {
    let mut runs: Vec<Vec<Run>> = vec![Vec::new(); groups];
    for (nth, segment) in rows.segments.iter().enumerate() {
        let gradient = if packed { nth * tiling.vectors * LANES } else { segment.destination };
        for &(start, end) in &rows.ranges[segment.ranges.0..segment.ranges.1] {
            for runs in &mut runs[start..end] {
                match runs.last_mut() {
                    Some(last)
                        if last.gradient + last.vectors * LANES == gradient
                            && last.panel + (last.vectors * LANES) as isize == segment.panel =>
                    {
                        last.vectors += tiling.vectors;
                    }
                    _ => runs.push(Run { gradient, panel: segment.panel, vectors: tiling.vectors }),
                }
            }
        }
    }
    runs
}

/// Reads the source in place, as many rows at a time as give a gradient row its values.
fn direct(problem: &Problem, values: usize) -> Option<Tiling> {
    let row = problem.destination_width * problem.batch.min(DIRECT_MOST * LANES);
    Tiling::direct(problem, DIRECT_MOST, (values / row.max(1)).max(1), false)
}

/// Packs one output channel's gradient of a (row block, batch block), segment after segment, padded
/// with zeros. `gradient` begins with it, and the next channels' follow `plane` floats apart.
fn pack_gradient(
    kernels: &Kernels,
    rows: &RowBlock,
    stores: &[(usize, usize)],
    (gradient, plane): (&[f32], usize),
    batch_start: usize,
    to: &mut [f32],
) {
    let furthest = stores.iter().filter(|store| store.1 > 0).map(|store| store.0 + store.1).max().unwrap_or(0);
    let last = rows.segments.iter().map(|segment| segment.destination).max().unwrap_or(0);
    assert!(batch_start + last + furthest <= gradient.len(), "conv2d grad_weight: gradient row");
    assert!(rows.segments.len() * stores.len() * LANES <= to.len(), "conv2d grad_weight: packed gradient row");
    // In maps by channel it lies together, and main memory is asked for that of a channel soon to come.
    let span = last + furthest - rows.segments.first().map_or(0, |segment| segment.destination);
    if span <= to.len() {
        let next = gradient.as_ptr().wrapping_add(AHEAD * plane + batch_start + last + furthest - span);
        prefetch(next, span);
    }
    // SAFETY: the assertions bound every read and write; a store without lanes reads nothing.
    unsafe { (kernels.collect)(gradient.as_ptr().add(batch_start), &rows.segments, stores, to.as_mut_ptr()) };
}

/// All weights' gradients, overwriting `grad_weight`.
pub(super) fn dense(
    kernels: &Kernels,
    problem: &Problem,
    source: &[f32],
    grad_output: &[f32],
    grad_weight: &mut [f32],
) {
    debug_assert_eq!(problem.direction, Direction::Forward);
    let (channels, outputs, groups) =
        (problem.source_channels, problem.destination_channels, problem.kernel * problem.kernel);
    let (mo, widest) = (kernels.mo, kernels.dot.len());
    // With few channels, tiles mix taps, which needs every tap valid everywhere.
    let mixed = channels < widest && problem.destination_width > 1;
    let most = panel_channels(problem);
    let tiling = if mixed { None } else { direct(problem, VALUES) }
        .unwrap_or_else(|| Tiling::new(problem, wish(problem, mixed, if mixed { 1 } else { 8 }, VALUES, most)));
    let mixed = mixed && tiling.flat;
    let runs: Vec<_> = tiling.row_blocks.iter().map(|rows| runs(&tiling, rows, groups, true)).collect();
    let plane = problem.destination_channel();
    let length = grad_weight.len();
    let tiles = outputs.div_ceil(mo);
    let division = Division::new(problem, &tiling, tiles, length, if tiling.direct { CHANNELS } else { most });
    with_partials(division.chunks, grad_weight, |partials| {
        let target = Shared::new(partials);
        division.run(tiles, channels, |tile_range, (first_channel, end_channel), chunk, panels| {
            let count = end_channel - first_channel;
            let longest = tiling.row_blocks.iter().map(|rows| room(&tiling, rows, count)).max().unwrap_or(0);
            let row_values = |rows: &RowBlock| rows.segments.len() * tiling.vectors * LANES;
            let widest_row = tiling.row_blocks.iter().map(row_values).max().unwrap_or(0);
            let mut columns = Vec::with_capacity(count * groups);
            let mut sums = vec![0.0; mo * widest];
            scratch::with(longest + mo * widest_row, |buffer| {
                let (panel, gradient) = buffer.split_at_mut(longest);
                for nth in panels {
                    let (row_block, batch_block) = (nth % tiling.row_blocks.len(), nth / tiling.row_blocks.len());
                    let rows = &tiling.row_blocks[row_block];
                    let stores = tiling.stores(problem, batch_block);
                    let stride = row_values(rows);
                    let batch_start = batch_block * tiling.block;
                    let held = (first_channel, count);
                    let panel = panel_of(kernels, problem, &tiling, rows, batch_block, held, source, panel);
                    // (run list, columns): one list of all (channel, tap) pairs, or one list a tap.
                    columns.clear();
                    for group in 0..groups {
                        for channel in 0..count {
                            let distance = tiling.group_offset[group] + (channel * rows.channel_stride) as isize;
                            columns.push((distance, (first_channel + channel) * groups + tiling.group_tap[group]));
                        }
                    }
                    let distances: Vec<isize> = columns.iter().map(|column| column.0).collect();
                    let part = if mixed { count * groups } else { count };
                    for tile in tile_range.0..tile_range.1 {
                        for row in 0..mo {
                            let gradient = &mut gradient[row * stride..(row + 1) * stride];
                            match tile * mo + row {
                                output if output < outputs => {
                                    let from = &grad_output[output * plane..];
                                    pack_gradient(kernels, rows, &stores, (from, plane), batch_start, gradient);
                                }
                                _ => gradient.fill(0.0),
                            }
                        }
                        for (group, (columns, distances)) in
                            columns.chunks(part).zip(distances.chunks(part)).enumerate()
                        {
                            let runs = &runs[row_block][group];
                            if runs.is_empty() {
                                continue;
                            }
                            let parts = columns.len().div_ceil(widest);
                            for nth in 0..parts {
                                let (from, to) = (columns.len() * nth / parts, columns.len() * (nth + 1) / parts);
                                let width = to - from;
                                sums[..mo * width].fill(0.0);
                                // SAFETY: runs and columns stay inside the panel and the packed
                                // gradient by construction.
                                unsafe {
                                    (kernels.dot[width - 1])(&mut DotTile {
                                        gradient: gradient.as_ptr(),
                                        gradient_stride: stride,
                                        panel: panel.as_ptr(),
                                        columns: &distances[from..to],
                                        runs,
                                        sums: &mut sums[..mo * width],
                                    });
                                }
                                for row in 0..mo.min(outputs - tile * mo) {
                                    for (column, &(_, place)) in columns[from..to].iter().enumerate() {
                                        let at = chunk * length + (tile * mo + row) * channels * groups + place;
                                        assert!(at < (chunk + 1) * length);
                                        // SAFETY: in bounds as asserted; tasks differ in chunk, output or channel.
                                        unsafe { *target.pointer().add(at) += sums[row * width + column] };
                                    }
                                }
                            }
                        }
                    }
                }
            });
        });
    });
}

/// Gives `body` zeroed partial sums, `chunks` of them, and adds them in order into `total`.
fn with_partials(chunks: usize, total: &mut [f32], body: impl FnOnce(&mut [f32])) {
    const PIECE: usize = 1 << 14;
    if chunks == 1 {
        total.par_chunks_mut(PIECE).for_each(|total| total.fill(0.0));
        return body(total);
    }
    let length = total.len();
    scratch::with(chunks * length, |partials| {
        partials.par_chunks_mut(PIECE).for_each(|partial| partial.fill(0.0));
        body(partials);
        let partials = &*partials;
        total.par_chunks_mut(PIECE).enumerate().for_each(|(piece, total)| {
            let start = piece * PIECE;
            total.copy_from_slice(&partials[start..start + total.len()]);
            for chunk in 1..chunks {
                let partial = &partials[chunk * length + start..][..total.len()];
                total.iter_mut().zip(partial).for_each(|(total, partial)| *total += partial);
            }
        });
    });
}

/// The kept weights' gradients where `kept` does not take the shape.
pub(super) fn sparse(
    kernels: &Kernels,
    problem: &Problem,
    pattern: &Pattern,
    source: &[f32],
    grad_output: &[f32],
    grad_kept: &mut [f32],
) {
    let (channels, outputs, groups) =
        (problem.source_channels, problem.destination_channels, problem.kernel * problem.kernel);
    let kept = pattern.kept();
    if kept == 0 {
        return;
    }
    let widest = kernels.dot_one.len();
    // Few kept weights a tap: tiles mix taps, which needs every tap valid everywhere.
    let mixed = problem.destination_width > 2 && kept < 4 * outputs * groups;
    let tiling = direct(problem, VALUES)
        .unwrap_or_else(|| Tiling::new(problem, wish(problem, mixed, if mixed { 2 } else { 8 }, 4 * VALUES, CHANNELS)));
    let mixed = mixed && tiling.flat;
    let packed = !tiling.direct || kept > SELDOM * outputs * groups;
    let runs: Vec<_> = tiling.row_blocks.iter().map(|rows| runs(&tiling, rows, groups, packed)).collect();
    let plane = problem.destination_channel();
    let single = tiling.direct && problem.source_height * problem.source_width == 1;
    let most = if single { CHANNELS_DIRECT } else { CHANNELS };
    let division = Division::new(problem, &tiling, outputs, kept, most);
    let index = &pattern.by_output;
    with_partials(division.chunks, grad_kept, |partials| {
        let target = Shared::new(partials);
        division.run(outputs, channels, |output_range, (first_channel, end_channel), chunk, panels| {
            let count = end_channel - first_channel;
            let longest = tiling.row_blocks.iter().map(|rows| room(&tiling, rows, count)).max().unwrap_or(0);
            let row_values = |rows: &RowBlock| {
                if packed { rows.segments.len() * tiling.vectors * LANES } else { 0 }
            };
            let widest_row = tiling.row_blocks.iter().map(row_values).max().unwrap_or(0);
            let mut sums = vec![0.0; widest];
            let (mut distances, mut places, mut parts) = (Vec::new(), Vec::new(), Vec::new());
            scratch::with(longest + widest_row, |buffer| {
                let (panel, gradient) = buffer.split_at_mut(longest);
                for nth in panels {
                    let (row_block, batch_block) = (nth % tiling.row_blocks.len(), nth / tiling.row_blocks.len());
                    let rows = &tiling.row_blocks[row_block];
                    let stores = tiling.stores(problem, batch_block);
                    let batch_start = batch_block * tiling.block;
                    let held = (first_channel, count);
                    let panel = panel_of(kernels, problem, &tiling, rows, batch_block, held, source, panel);
                    for output in output_range.0..output_range.1 {
                        distances.clear();
                        places.clear();
                        parts.clear();
                        for group in 0..groups {
                            let runs = &runs[row_block][group];
                            let cell = output * groups + tiling.group_tap[group];
                            let (start, end) = (index.starts[cell] as usize, index.starts[cell + 1] as usize);
                            let start = index.begin((start, end), first_channel, channels);
                            if !runs.is_empty() {
                                for place in start..end {
                                    let channel = index.channel[place] as usize;
                                    if channel >= end_channel {
                                        break;
                                    }
                                    let distance = ((channel - first_channel) * rows.channel_stride) as isize;
                                    distances.push(tiling.group_offset[group] + distance);
                                    places.push(place);
                                }
                            }
                            if !mixed || group + 1 == groups {
                                parts.push((group, distances.len()));
                            }
                        }
                        if distances.is_empty() {
                            continue;
                        }
                        let from = &grad_output[output * plane..];
                        let gradient: &[f32] = if packed {
                            pack_gradient(kernels, rows, &stores, (from, plane), batch_start, gradient);
                            gradient
                        } else {
                            &from[batch_start..]
                        };
                        let mut start = 0;
                        for &(group, end) in &parts {
                            let tiles = (end - start).div_ceil(widest);
                            for tile in 0..tiles {
                                let from = start + (end - start) * tile / tiles;
                                let to = start + (end - start) * (tile + 1) / tiles;
                                let sums = &mut sums[..to - from];
                                sums.fill(0.0);
                                // SAFETY: as in `dense`.
                                unsafe {
                                    (kernels.dot_one[to - from - 1])(&mut DotTile {
                                        gradient: gradient.as_ptr(),
                                        gradient_stride: 0,
                                        panel: panel.as_ptr(),
                                        columns: &distances[from..to],
                                        runs: &runs[row_block][group],
                                        sums,
                                    });
                                }
                                for (&place, sum) in places[from..to].iter().zip(&*sums) {
                                    assert!(place < kept);
                                    // SAFETY: in bounds; tasks differ in chunk, output or channel, so in place.
                                    unsafe { *target.pointer().add(chunk * kept + place) += sum };
                                }
                            }
                            start = end;
                        }
                    }
                }
            });
        });
    });
}
