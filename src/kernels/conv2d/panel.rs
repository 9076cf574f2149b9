//! Packing a piece of the source into scratch.

use super::geometry::{Problem, RowBlock, Tiling};
use super::tiles::Kernels;
use crate::kernels::simd::LANES;

/// Packs channels `first..first + count` of one (row block, batch block) of `source` into `panel`.
#[expect(
    clippy::too_many_arguments,
    reason = "what to pack, from where, in which order, to where"
)]
pub(super) fn pack(
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
    assert!(
        panel.len() >= panel_len(rows, count),
        "conv2d: panel length"
    );
    for channel in 0..count {
        let packed = &mut panel[channel * rows.channel_stride..(channel + 1) * rows.channel_stride];
        for (row, to) in rows.rows.lines.iter().zip(packed.chunks_exact_mut(line)) {
            let Some(row) = row else {
                to.fill(0.0);
                continue;
            };
            let plane = ((first + channel) * problem.source_height + row) * problem.source_width;
            let mut at = 0;
            while at < columns.len() {
                let Some(column) = columns[at] else {
                    to[at * pitch..(at + 1) * pitch].fill(0.0);
                    at += 1;
                    continue;
                };
                let mut run = 1;
                let step = match columns.get(at + 1) {
                    Some(Some(next)) if *next > column => next - column,
                    _ => 1,
                };
                while at + run < columns.len() && columns[at + run] == Some(column + run * step) {
                    run += 1;
                }
                let from = (plane + column) * problem.batch + batch_start;
                let last = from + (run - 1) * step * problem.batch + length;
                assert!(last <= source.len() && (at + run) * pitch <= to.len());
                let (from, to) = (source[from..].as_ptr(), to[at * pitch..].as_mut_ptr());
                // SAFETY: the assertion covers the last block, and blocks of `to` are `pitch` apart with `length ≤ pitch`.
                unsafe {
                    (kernels.copy)(from, step * problem.batch, to, pitch, length, pitch, run)
                };
                at += run;
            }
        }
        packed[rows.rows.lines.len() * line..].fill(0.0);
    }
    let end = count * rows.channel_stride;
    panel[end..panel_len(rows, count)].fill(0.0);
}

/// Floats of a panel of `channels` channels, with what vectors may read past its end.
pub(super) fn panel_len(rows: &RowBlock, channels: usize) -> usize {
    channels * rows.channel_stride + (rows.panel_len - rows.channel_stride) + LANES
}
