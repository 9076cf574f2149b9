//! Dense weights in the order in which tiles read them.

use super::geometry::{Direction, Problem};
use crate::layout::transpose_into;
use crate::simd::prefetch;

/// Source channels between those whose weights are packed and those that main memory is asked for.
const AHEAD: usize = 8;

/// The other channel's and the row channel's place in the dense weight `(O, I, k, k)`.
pub(super) fn weight_at(problem: &Problem, destination: usize, source: usize) -> usize {
    let taps = problem.kernel * problem.kernel;
    match problem.direction {
        Direction::Forward => (destination * problem.source_channels + source) * taps,
        Direction::Backward => (source * problem.destination_channels + destination) * taps,
    }
}

/// Asks for the weights of `rows` destination channels from `first` on and a source channel that
/// are packed a while later.
#[inline(always)]
pub(super) fn ask(problem: &Problem, weight: &[f32], (first, rows): (usize, usize), channel: usize) {
    let at = |row: usize| weight.as_ptr().wrapping_add(weight_at(problem, first + row, channel + AHEAD));
    match problem.direction {
        Direction::Forward => (0..rows).for_each(|row| prefetch(at(row), 1)),
        Direction::Backward => prefetch(at(0), rows * problem.kernel * problem.kernel),
    }
}

/// Packs the weights of `rows` destination channels from `first` on as
/// `[tap][source channel][row]`, each line of the weight tensor read once from end to end; rows
/// beyond the last channel are zeros.
pub(super) fn pack_weights(
    problem: &Problem,
    taps: &[usize],
    weight: &[f32],
    (first, rows): (usize, usize),
    packed: &mut [f32],
) {
    /// Source channels whose packed weights stay in the first-level cache while all rows are written.
    const TOGETHER: usize = 64;
    let (channels, all) = (problem.source_channels, problem.kernel * problem.kernel);
    let given = rows.min(problem.destination_channels - first);
    if given < rows {
        packed.fill(0.0);
    }
    if all == 1 {
        return match problem.direction {
            Direction::Forward => {
                let lines = &weight[weight_at(problem, first, 0)..][..given * channels];
                transpose_into(given, channels, lines, packed, rows);
            }
            Direction::Backward => {
                for (channel, packed) in packed.chunks_exact_mut(rows).enumerate() {
                    packed[..given].copy_from_slice(&weight[weight_at(problem, first, channel)..][..given]);
                }
            }
        };
    }
    match rows {
        8 if all == 9 && given == rows => return pack_kernels::<8>(problem, taps, weight, first, packed),
        6 if all == 9 && given == rows => return pack_kernels::<6>(problem, taps, weight, first, packed),
        4 if all == 9 && given == rows => return pack_kernels::<4>(problem, taps, weight, first, packed),
        _ => {}
    }
    let mut put = |row: usize, channel: usize, values: &[f32]| {
        for (rank, &tap) in taps.iter().enumerate() {
            packed[(rank * channels + channel) * rows + row] = values[tap];
        }
    };
    match problem.direction {
        Direction::Forward => {
            for start in (0..channels).step_by(TOGETHER) {
                let end = channels.min(start + TOGETHER);
                for row in 0..given {
                    let line = &weight[weight_at(problem, first + row, start)..][..(end - start) * all];
                    line.chunks_exact(all).zip(start..).for_each(|(values, channel)| put(row, channel, values));
                }
            }
        }
        Direction::Backward => {
            for channel in 0..channels {
                let line = &weight[weight_at(problem, first, channel)..][..given * all];
                line.chunks_exact(all).enumerate().for_each(|(row, values)| put(row, channel, values));
            }
        }
    }
}

/// [`pack_weights`] of 3×3 kernels for `ROWS` channels that all exist.
fn pack_kernels<const ROWS: usize>(
    problem: &Problem,
    taps: &[usize],
    weight: &[f32],
    first: usize,
    packed: &mut [f32],
) {
    let channels = problem.source_channels;
    let kernels = weight.as_chunks::<9>().0;
    let packed = packed.as_chunks_mut::<ROWS>().0;
    for channel in 0..channels {
        ask(problem, weight, (first, ROWS), channel);
        let kernels: [&[f32; 9]; ROWS] =
            std::array::from_fn(|row| &kernels[weight_at(problem, first + row, channel) / 9]);
        for (rank, &tap) in taps.iter().enumerate() {
            packed[rank * channels + channel] = kernels.map(|kernel| kernel[tap]);
        }
    }
}
