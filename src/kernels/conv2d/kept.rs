//! Gradients of kept weights on maps that lie by position. As sparse products do, each position's
//! channels are met by the values that their kept weights read, which lie near each other; every
//! kept weight has a vector of sums.
//!
//! The positions are cut into chunks that depend on the shape and the number of kept weights alone;
//! chunks are added in order.

use super::Conv2dShape;
use super::correlate::{gather, starts};
use super::geometry::{Direction, Problem, Tiling};
use super::panel::panel_of;
use super::pattern::Pattern;
use super::tiles::{Ahead, Kept, KeptTile, Kernels};
use crate::layout::Order;
use crate::scratch::{self, Shared};
use crate::simd::LANES;
use rayon::prelude::*;

/// Chunks of positions, or tasks where there are fewer chunks.
const TASKS: usize = 12;
/// Kept weights whose sums stay in the caches together.
const TOGETHER: usize = 2048;
/// Floats of all chunks' sums together.
const PARTIALS: usize = 1 << 21;
/// Gradients that a task should write.
const WRITTEN: usize = 1 << 13;

/// Whether this algorithm takes the shape: where maps lie by channel a position's values lie apart,
/// and with one position each sum would have one term.
pub(super) fn takes(shape: &Conv2dShape) -> bool {
    Order::of(shape.batch) == Order::Positions
        && shape.out_height() * shape.out_width() > 1
        && i32::try_from(shape.input_len()).is_ok()
}

/// The kept weights' gradients of a shape that [`takes`] says yes to.
pub(super) fn weight_gradient(
    kernels: &Kernels,
    problem: &Problem,
    pattern: &Pattern,
    source: &[f32],
    grad_output: &[f32],
    grad_kept: &mut [f32],
) {
    debug_assert_eq!(problem.direction, Direction::Forward);
    let tiling = Tiling::direct(problem, kernels.kept_sums.len(), 1, false).expect("such maps are read in place");
    let (channels, outputs, groups) =
        (problem.source_channels, problem.destination_channels, problem.kernel * problem.kernel);
    let (index, plane) = (&pattern.by_output, problem.destination_channel());
    let starts = starts(index, &tiling, outputs, groups);
    let mut kept = vec![Kept::default(); starts[outputs * groups] as usize];
    let stride = tiling.row_blocks[0].channel_stride;
    gather(index, &tiling, &starts, groups, stride, |place, offset| Kept { place: place as u32, offset }, &mut kept);

    // Where the kept weights of each output begin.
    let heads: Vec<usize> = starts.iter().step_by(groups).map(|&start| start as usize).collect();
    let panels = tiling.batch_blocks(problem) * tiling.row_blocks.len();
    let chunks = panels.min(TASKS).min((PARTIALS / kept.len().max(1)).max(1));
    // The outputs are cut where each part has about as many kept weights.
    let parts = TASKS.div_ceil(chunks).max(kept.len().div_ceil(TOGETHER)).min(outputs);
    let bounds: Vec<usize> =
        (0..=parts).map(|part| heads.partition_point(|&head| head < kept.len() * part / parts)).collect();
    scratch::with(chunks * kept.len(), |partials| {
        let target = Shared::new(partials);
        (0..chunks * parts).into_par_iter().with_max_len(1).for_each(|task| {
            let (chunk, part) = (task / parts, task % parts);
            let channel_range = (bounds[part], bounds[part + 1]);
            let range = heads[channel_range.0]..heads[channel_range.1];
            scratch::with(range.len() * LANES, |sums| {
                sums.fill(0.0);
                for nth in panels * chunk / chunks..panels * (chunk + 1) / chunks {
                    let (row_block, batch_block) = (nth % tiling.row_blocks.len(), nth / tiling.row_blocks.len());
                    let rows = &tiling.row_blocks[row_block];
                    let panel = panel_of(kernels, problem, &tiling, rows, batch_block, (0, channels), source, &mut []);
                    for (at, segment) in rows.segments.iter().enumerate() {
                        let ahead = Ahead::new(panel, tiling.ahead(problem, rows, at + 1));
                        let gradient = &grad_output[segment.destination + batch_block * tiling.block..];
                        assert!(
                            (outputs - 1) * plane + tiling.vectors * LANES <= gradient.len(),
                            "conv2d grad_weight: gradient"
                        );
                        // SAFETY: the tiling keeps reads of the panel inside the source, the
                        // assertion those of the gradient; `sums` has a vector for each kept weight
                        // of the range.
                        unsafe {
                            (kernels.kept_sums[tiling.vectors - 1])(&KeptTile {
                                panel: panel.as_ptr().wrapping_offset(segment.panel),
                                ranges: &rows.ranges[segment.ranges.0..segment.ranges.1],
                                starts: &starts,
                                groups,
                                kept: &kept,
                                channel_range,
                                gradient: gradient.as_ptr(),
                                plane,
                                sums: sums.as_mut_ptr(),
                                ahead,
                            });
                        }
                    }
                }
                for (place, sums) in range.clone().zip(sums.as_chunks::<LANES>().0) {
                    // SAFETY: `place < kept.len()`; tasks differ in chunk or in place.
                    unsafe { *target.pointer().add(chunk * kept.len() + place) = sums.iter().sum() };
                }
            });
        });
        let partials = &*partials;
        let least = (WRITTEN * outputs).div_ceil(pattern.kept().max(1));
        pattern.by_outputs(grad_kept).into_par_iter().enumerate().with_min_len(least).for_each(
            |(output, grad_kept)| {
                // Weights that meet no value of the map have no sums.
                grad_kept.fill(0.0);
                let first = index.starts[output * groups];
                for place in heads[output]..heads[output + 1] {
                    let total = (0..chunks).map(|chunk| partials[chunk * kept.len() + place]).sum();
                    grad_kept[(kept[place].place - first) as usize] = total;
                }
            },
        );
    });
}
