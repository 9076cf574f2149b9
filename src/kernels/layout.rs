//! Where the values of a batch of maps lie inside the kernels, and conversion from and to the
//! public API's `(N, C, H, W)`.

use crate::simd::LANES;
use rayon::prelude::*;

/// Side of the squares that are turned in registers or the first-level cache.
const TILE: usize = 16;
/// Least batch that is kept by position: two vectors. With one, sparse products of large maps are
/// slower than by channel.
const POSITIONS_BATCH: usize = 2 * LANES;

/// Order of the kernels' activations; the batch is innermost in both, so that a vector holds one value of 16 images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// `(C, H, W, N)`: runs along a row make whole vectors of odd or small batches.
    Channels,
    /// `(H, W, C, N)`: all that a position needs lies together, so that products read it in place.
    Positions,
}

impl Order {
    /// The order that every kernel uses for a batch of this size.
    #[must_use]
    pub fn of(batch: usize) -> Self {
        if batch >= POSITIONS_BATCH && batch.is_multiple_of(LANES) { Self::Positions } else { Self::Channels }
    }

    /// Floats between two neighbouring positions of a channel.
    pub(crate) fn position_stride(self, channels: usize, batch: usize) -> usize {
        match self {
            Self::Channels => batch,
            Self::Positions => channels * batch,
        }
    }

    /// Floats between two channels of a position, where maps have `positions = H·W`.
    pub(crate) fn channel_stride(self, positions: usize, batch: usize) -> usize {
        match self {
            Self::Channels => positions * batch,
            Self::Positions => batch,
        }
    }
}

/// Images to evaluate `batch` images with: as many, or up to a seventh more, images of zeros, where
/// their maps then lie by position, which is faster. No image's result depends on another's.
#[must_use]
pub fn filled(batch: usize) -> usize {
    let whole = batch.next_multiple_of(LANES);
    if whole >= POSITIONS_BATCH && whole <= batch + batch / 7 { whole } else { batch }
}

/// Copies what is often the few images of a position, for which a call of the standard library's
/// function takes longer than the copy.
#[inline(always)]
pub(crate) fn copy_images(from: &[f32], to: &mut [f32]) {
    match (<&[f32; 8]>::try_from(from), <&mut [f32; 8]>::try_from(&mut *to)) {
        (Ok(from), Ok(to)) => *to = *from,
        _ => to.copy_from_slice(from),
    }
}

/// `(N, C, H, W)` with `positions = H·W` into the kernels' order.
pub fn to_kernels(batch: usize, channels: usize, positions: usize, input: &[f32], output: &mut [f32]) {
    assert_eq!(input.len(), batch * channels * positions, "layout: input length");
    if Order::of(batch) == Order::Channels || channels == 1 || positions == 1 {
        return transpose(batch, channels * positions, input, output);
    }
    assert_eq!(output.len(), input.len(), "layout: output length");
    // A row of the image is `positions` values of one channel of one image.
    output.par_chunks_mut(TILE * channels * batch).enumerate().for_each(|(nth, output)| {
        let first = nth * TILE;
        let count = TILE.min(positions - first);
        for channel in 0..channels {
            let from = &input[channel * positions + first..];
            turn(batch, count, from, channels * positions, &mut output[channel * batch..], channels * batch);
        }
    });
}

/// The kernels' order back into `(N, C, H, W)`.
pub fn from_kernels(batch: usize, channels: usize, positions: usize, input: &[f32], output: &mut [f32]) {
    assert_eq!(input.len(), batch * channels * positions, "layout: input length");
    if Order::of(batch) == Order::Channels || channels == 1 || positions == 1 {
        return transpose(channels * positions, batch, input, output);
    }
    assert_eq!(output.len(), input.len(), "layout: output length");
    output.par_chunks_mut(TILE * channels * positions).enumerate().for_each(|(nth, output)| {
        let first = nth * TILE;
        let count = TILE.min(batch - first);
        for channel in 0..channels {
            let from = &input[channel * batch + first..];
            turn(positions, count, from, channels * batch, &mut output[channel * positions..], channels * positions);
        }
    });
}

/// Maps of `channels` × `positions` into one column `(C·H·W, N)`, columns fastest: PyTorch's
/// `flatten` in the kernels' order.
pub fn flatten(batch: usize, channels: usize, positions: usize, input: &[f32], output: &mut [f32]) {
    turn_lines(batch, channels, positions, input, output);
}

/// The way back from [`flatten`].
pub fn unflatten(batch: usize, channels: usize, positions: usize, input: &[f32], output: &mut [f32]) {
    turn_lines(batch, positions, channels, input, output);
}

/// Lines of `batch` values that lie `(inner, outer)` into `(outer, inner)`; as they are where maps lie by channel.
fn turn_lines(batch: usize, outer: usize, inner: usize, input: &[f32], output: &mut [f32]) {
    assert_eq!(input.len(), batch * outer * inner, "flatten: input length");
    assert_eq!(output.len(), input.len(), "flatten: output length");
    if Order::of(batch) == Order::Channels {
        return output.copy_from_slice(input);
    }
    output.par_chunks_mut(batch * inner).enumerate().for_each(|(nth, output)| {
        for (at, to) in output.chunks_exact_mut(batch).enumerate() {
            to.copy_from_slice(&input[(at * outer + nth) * batch..][..batch]);
        }
    });
}

/// Transposes a `(rows, cols)` matrix into `(cols, rows)`.
pub fn transpose(rows: usize, cols: usize, input: &[f32], output: &mut [f32]) {
    assert_eq!(input.len(), rows * cols, "transpose: input length");
    assert_eq!(output.len(), rows * cols, "transpose: output length");
    if output.is_empty() {
        return;
    }
    output.par_chunks_mut(TILE * rows).enumerate().for_each(|(nth, output)| {
        let first = nth * TILE;
        turn(rows, TILE.min(cols - first), &input[first..], cols, output, rows);
    });
}

/// [`transpose`] on one thread into rows of `output` that are `stride ≥ rows` apart; what lies between stays.
pub(crate) fn transpose_into(rows: usize, cols: usize, input: &[f32], output: &mut [f32], stride: usize) {
    for first in (0..cols).step_by(TILE) {
        turn(rows, TILE.min(cols - first), &input[first..], cols, &mut output[first * stride..], stride);
    }
}

/// `count ≤ TILE` neighbouring columns of `rows` rows, `stride` apart, into rows of `output`, `output_stride` apart.
fn turn(rows: usize, count: usize, input: &[f32], stride: usize, output: &mut [f32], output_stride: usize) {
    for row_start in (0..rows).step_by(TILE) {
        let height = TILE.min(rows - row_start);
        let mut tile = [[0.0f32; TILE]; TILE];
        for (row, tile) in tile.iter_mut().enumerate().take(height) {
            tile[..count].copy_from_slice(&input[(row_start + row) * stride..][..count]);
        }
        for (col, output) in output.chunks_mut(output_stride).enumerate().take(count) {
            for (row, output) in output[row_start..row_start + height].iter_mut().enumerate() {
                *output = tile[row][col];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposing_moves_every_value_and_twice_is_the_identity() {
        for (rows, cols) in [(1, 1), (3, 40), (128, 49), (17, 16), (70, 1)] {
            let input: Vec<f32> = (0..rows * cols).map(|value| value as f32).collect();
            let (mut output, mut back) = (vec![f32::NAN; input.len()], vec![f32::NAN; input.len()]);
            transpose(rows, cols, &input, &mut output);
            for row in 0..rows {
                for col in 0..cols {
                    assert_eq!(output[col * rows + row], input[row * cols + col]);
                }
            }
            transpose(cols, rows, &output, &mut back);
            assert_eq!(back, input);
        }
    }

    #[test]
    fn batches_are_filled_up_where_that_costs_little() {
        let filled: Vec<usize> = [0, 1, 16, 27, 28, 55, 56, 64, 65, 70, 71, 104, 128, 1000].map(super::filled).into();
        assert_eq!(filled, [0, 1, 16, 27, 32, 55, 64, 64, 65, 80, 80, 112, 128, 1008]);
    }

    #[test]
    fn a_flat_map_has_pytorchs_order_and_comes_back() {
        for (batch, channels, positions) in [(3, 2, 5), (32, 3, 49), (80, 17, 20), (128, 1, 9)] {
            let len = batch * channels * positions;
            let images: Vec<f32> = (0..len).map(|value| value as f32).collect();
            let (mut maps, mut flat, mut column, mut back) =
                (vec![0.0; len], vec![0.0; len], vec![0.0; len], vec![0.0; len]);
            to_kernels(batch, channels, positions, &images, &mut maps);
            flatten(batch, channels, positions, &maps, &mut flat);
            // A flat image is one row of (N, C·H·W), which is a map of C·H·W channels and one position.
            to_kernels(batch, channels * positions, 1, &images, &mut column);
            assert_eq!(flat, column);
            unflatten(batch, channels, positions, &flat, &mut back);
            assert_eq!(back, maps);
        }
    }

    #[test]
    fn every_value_goes_where_the_order_says_and_comes_back() {
        for (batch, channels, positions) in [(3, 2, 5), (32, 3, 49), (80, 17, 20), (128, 1, 9), (64, 40, 1)] {
            let input: Vec<f32> = (0..batch * channels * positions).map(|value| value as f32).collect();
            let (mut inner, mut back) = (vec![f32::NAN; input.len()], vec![f32::NAN; input.len()]);
            to_kernels(batch, channels, positions, &input, &mut inner);
            let order = Order::of(batch);
            let (by_position, by_channel) =
                (order.position_stride(channels, batch), order.channel_stride(positions, batch));
            for image in 0..batch {
                for channel in 0..channels {
                    for position in 0..positions {
                        let at = position * by_position + channel * by_channel + image;
                        assert_eq!(inner[at], input[(image * channels + channel) * positions + position]);
                    }
                }
            }
            from_kernels(batch, channels, positions, &inner, &mut back);
            assert_eq!(back, input);
        }
    }
}
