//! Packing a piece of the source into scratch.

use super::geometry::{Problem, RowBlock, Tiling};
use super::tiles::Kernels;
use crate::simd::{LANES, prefetch};

/// Channels between those that are packed and those that main memory is asked for.
const AHEAD: usize = 6;

/// Packs channels `first..first + count` of one (row block, batch block) of `source` into `panel`.
#[expect(clippy::too_many_arguments, reason = "what to pack, from where, in which order, to where")]
fn pack(
    kernels: &Kernels,
    problem: &Problem,
    tiling: &Tiling,
    rows: &RowBlock,
    batch_block: usize,
    (first, count): (usize, usize),
    source: &[f32],
    panel: &mut [f32],
) {
    let batch_start = batch_block * tiling.block;
    let length = tiling.block.min(problem.batch - batch_start);
    let (pitch, columns) = (tiling.pitch, &tiling.columns.lines);
    let line = columns.len() * pitch;
    assert!(panel.len() >= panel_len(rows, count), "conv2d: panel length");
    for channel in 0..count {
        let packed = &mut panel[channel * rows.channel_stride..(channel + 1) * rows.channel_stride];
        for (row, to) in rows.rows.lines.iter().zip(packed.chunks_exact_mut(line)) {
            let Some(row) = row else {
                to.fill(0.0);
                continue;
            };
            let start = (first + channel) * problem.source_channel() + batch_start;
            for run in &tiling.column_runs {
                let to = &mut to[run.line * pitch..(run.line + run.count) * pitch];
                let Some(column) = run.column else {
                    to.fill(0.0);
                    continue;
                };
                let from = start + (row * problem.source_width + column) * problem.source_position();
                let step = run.step * problem.source_position();
                assert!(from + (run.count - 1) * step + length <= source.len());
                let (from, to) = (source[from..].as_ptr(), to.as_mut_ptr());
                if channel + AHEAD < count {
                    prefetch(from.wrapping_add(AHEAD * problem.source_channel()), (run.count - 1) * step + length);
                }
                // Blocks that touch on both sides are one long block.
                let together = length == pitch && step == pitch;
                let (blocks, length) = if together { (1, run.count * pitch) } else { (run.count, length) };
                let padded = if together { length } else { pitch };
                // SAFETY: the assertion covers the last block read; blocks of `to` are `pitch ≥ length` apart.
                unsafe { (kernels.copy)(from, step, to, pitch, length, padded, blocks) };
            }
        }
        packed[rows.rows.lines.len() * line..].fill(0.0);
    }
    let end = count * rows.channel_stride;
    panel[end..panel_len(rows, count)].fill(0.0);
}

/// What tiles read of channels `first..first + count` of one (row block, batch block): the source
/// itself where the tiling reads in place, else `room`, packed.
#[expect(clippy::too_many_arguments, reason = "as pack")]
pub(super) fn panel_of<'a>(
    kernels: &Kernels,
    problem: &Problem,
    tiling: &Tiling,
    rows: &RowBlock,
    batch_block: usize,
    (first, count): (usize, usize),
    source: &'a [f32],
    room: &'a mut [f32],
) -> &'a [f32] {
    if tiling.direct {
        return &source[first * rows.channel_stride + batch_block * tiling.block..];
    }
    pack(kernels, problem, tiling, rows, batch_block, (first, count), source, room);
    room
}

/// Floats of room that [`panel_of`] needs.
pub(super) fn room(tiling: &Tiling, rows: &RowBlock, channels: usize) -> usize {
    if tiling.direct { 0 } else { panel_len(rows, channels) }
}

/// Floats of a panel of `channels` channels, with what vectors may read past its end.
fn panel_len(rows: &RowBlock, channels: usize) -> usize {
    channels * rows.channel_stride + (rows.panel_len - rows.channel_stride) + LANES
}
