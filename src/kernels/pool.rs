//! Max pooling and average pooling in the kernels' order, with their backward passes.

mod adaptive;

pub use adaptive::{AdaptiveShape, adaptive_average_pool, adaptive_average_pool_backward};

use crate::layout::Order;
use crate::simd::versions;
use rayon::prelude::*;
use std::ops::Range;

/// Values a task should have at least.
const TASK: usize = 1 << 14;

fn lines_per_task(line: usize) -> usize {
    TASK.div_ceil(line.max(1))
}

/// Geometry of a max pool over maps in [`Order::of`] the batch; windows may overlap, padding counts as −∞.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolShape {
    /// N
    pub batch: usize,
    /// C
    pub channels: usize,
    /// H of the input
    pub in_height: usize,
    /// W of the input
    pub in_width: usize,
    /// side of the square window, at most 15
    pub kernel: usize,
    /// step of the window in both directions
    pub stride: usize,
    /// rows and columns of −∞ on each side, less than `kernel`
    pub padding: usize,
}

impl PoolShape {
    /// H of the output.
    #[must_use]
    pub fn out_height(&self) -> usize {
        (self.in_height + 2 * self.padding - self.kernel) / self.stride + 1
    }
    /// W of the output.
    #[must_use]
    pub fn out_width(&self) -> usize {
        (self.in_width + 2 * self.padding - self.kernel) / self.stride + 1
    }
    fn input_len(&self) -> usize {
        self.channels * self.in_height * self.in_width * self.batch
    }
    fn output_len(&self) -> usize {
        self.channels * self.out_height() * self.out_width() * self.batch
    }
    /// The positions of the input inside an output position's window, with their offsets `kh·kernel + kw`.
    #[inline(always)]
    fn window(&self, out_row: usize, out_col: usize) -> impl Iterator<Item = (u8, usize)> {
        let (shape, row, col) = (*self, out_row * self.stride, out_col * self.stride);
        (0..self.kernel * self.kernel).filter_map(move |offset| {
            let row = (row + offset / shape.kernel).wrapping_sub(shape.padding);
            let col = (col + offset % shape.kernel).wrapping_sub(shape.padding);
            (row < shape.in_height && col < shape.in_width).then(|| (offset as u8, row * shape.in_width + col))
        })
    }
    /// The same pool over maps `(C', H, W, N')` whose positions hold what lies together: no
    /// channels are told apart where all of them do.
    fn folded(mut self) -> Self {
        if Order::of(self.batch) == Order::Positions {
            (self.channels, self.batch) = (1, self.channels * self.batch);
        }
        self
    }
    fn check(&self) {
        assert!(self.kernel <= 15, "pool: kernel above 15 does not fit the argmax byte");
        assert!(self.padding < self.kernel, "pool: padding must be below kernel");
    }
}

/// Max pool; `argmax` gets the winner's offset `kh·kernel + kw` in its window (the first maximum wins, as in PyTorch).
pub fn max_pool(shape: &PoolShape, input: &[f32], output: &mut [f32], argmax: &mut [u8]) {
    shape.check();
    assert_eq!(input.len(), shape.input_len(), "max_pool: input length");
    assert_eq!(output.len(), shape.output_len(), "max_pool: output length");
    assert_eq!(argmax.len(), shape.output_len(), "max_pool: argmax length");
    let shape = &shape.folded();
    let (line, map) = (shape.out_width() * shape.batch, shape.in_height * shape.in_width * shape.batch);
    if output.is_empty() {
        return;
    }
    output
        .par_chunks_mut(line)
        .zip(argmax.par_chunks_mut(line))
        .enumerate()
        .with_min_len(lines_per_task(line))
        .for_each(|(nth, (output, argmax))| {
            let (channel, row) = (nth / shape.out_height(), nth % shape.out_height());
            pool_row(shape, row, &input[channel * map..(channel + 1) * map], output, argmax)
        });
}

/// Rows `rows` of a max pool without its winners, for what is never run backward. `input` holds
/// what their windows meet: its rows from `first` on, of maps by position, or all of it, of any
/// maps, for all rows.
pub fn max_pool_rows(shape: &PoolShape, rows: Range<usize>, first: usize, input: &[f32], output: &mut [f32]) {
    shape.check();
    let all = rows == (0..shape.out_height());
    let shape = &shape.folded();
    let (line, row) = (shape.out_width() * shape.batch, shape.in_width * shape.batch);
    assert!(rows.end <= shape.out_height() && (shape.channels == 1 || all && first == 0), "max_pool_rows: rows");
    assert_eq!(output.len(), shape.channels * rows.len() * line, "max_pool_rows: output length");
    if output.is_empty() {
        return;
    }
    let map = input.len() / shape.channels;
    assert!(map.is_multiple_of(row) && (shape.channels == 1 || map == shape.in_height * row), "max_pool_rows: input");
    let met = (rows.start * shape.stride).saturating_sub(shape.padding)
        ..((rows.end - 1) * shape.stride + shape.kernel).saturating_sub(shape.padding).min(shape.in_height);
    assert!(first <= met.start && met.end * row <= first * row + map, "max_pool_rows: rows of the input");
    output.par_chunks_mut(line).enumerate().with_min_len(lines_per_task(line)).for_each(|(nth, output)| {
        let (channel, nth) = (nth / rows.len(), nth % rows.len());
        largest_row(shape, rows.start + nth, first, &input[channel * map..(channel + 1) * map], output);
    });
}

versions! {
    /// [`pool_row`] without winners, of rows of the input from `first` on.
    fn largest_row(shape: &PoolShape, row: usize, first: usize, input: &[f32], output: &mut [f32]) {
        let batch = shape.batch;
        for (col, best) in output.chunks_exact_mut(batch).enumerate() {
            let mut fresh = true;
            for (_, from) in shape.window(row, col) {
                let values = &input[(from - first * shape.in_width) * batch..][..batch];
                if std::mem::take(&mut fresh) {
                    best.copy_from_slice(values);
                    continue;
                }
                for (best, &value) in best.iter_mut().zip(values) {
                    *best = if value > *best || value.is_nan() { value } else { *best };
                }
            }
        }
    }
}

versions! {
    fn pool_row(shape: &PoolShape, row: usize, input: &[f32], output: &mut [f32], argmax: &mut [u8]) {
        let batch = shape.batch;
        for (col, (best, winner)) in output.chunks_exact_mut(batch).zip(argmax.chunks_exact_mut(batch)).enumerate() {
            let mut first = true;
            for (offset, from) in shape.window(row, col) {
                let values = &input[from * batch..(from + 1) * batch];
                if std::mem::take(&mut first) {
                    best.copy_from_slice(values);
                    winner.fill(offset);
                    continue;
                }
                for ((best, winner), &value) in best.iter_mut().zip(winner.iter_mut()).zip(values) {
                    let wins = value > *best || value.is_nan();
                    *best = if wins { value } else { *best };
                    *winner = if wins { offset } else { *winner };
                }
            }
        }
    }
}

versions! {
    /// One row of the input's gradient, from every output row whose windows reach it.
    fn unpool_row(shape: &PoolShape, row: usize, argmax: &[u8], grad_output: &[f32], grad_input: &mut [f32]) {
        let (batch, width) = (shape.batch, shape.in_width);
        grad_input.fill(0.0);
        let first = (row + shape.padding + 1).saturating_sub(shape.kernel).div_ceil(shape.stride);
        let last = ((row + shape.padding) / shape.stride).min(shape.out_height() - 1);
        for out_row in first..=last {
            for out_col in 0..shape.out_width() {
                let position = (out_row * shape.out_width() + out_col) * batch;
                let (grad, winner) = (&grad_output[position..][..batch], &argmax[position..][..batch]);
                for (offset, to) in shape.window(out_row, out_col).filter(|&(_, to)| to / width == row) {
                    let to = &mut grad_input[to % width * batch..][..batch];
                    for ((to, &grad), &winner) in to.iter_mut().zip(grad).zip(winner) {
                        *to += if winner == offset { grad } else { 0.0 };
                    }
                }
            }
        }
    }
}

/// Gradient of [`max_pool`]: each output's gradient goes to its winner. `grad_input` is overwritten.
pub fn max_pool_backward(shape: &PoolShape, argmax: &[u8], grad_output: &[f32], grad_input: &mut [f32]) {
    shape.check();
    assert_eq!(argmax.len(), shape.output_len(), "max_pool_backward: argmax length");
    assert_eq!(grad_output.len(), shape.output_len(), "max_pool_backward: grad_output length");
    assert_eq!(grad_input.len(), shape.input_len(), "max_pool_backward: grad_input length");
    let shape = &shape.folded();
    let (plane, line) = (shape.out_height() * shape.out_width() * shape.batch, shape.in_width * shape.batch);
    if grad_input.is_empty() || plane == 0 {
        return grad_input.fill(0.0);
    }
    grad_input.par_chunks_mut(line).enumerate().with_min_len(lines_per_task(line)).for_each(|(nth, grad_input)| {
        let (channel, row) = (nth / shape.in_height, nth % shape.in_height);
        let range = channel * plane..(channel + 1) * plane;
        unpool_row(shape, row, &argmax[range.clone()], &grad_output[range], grad_input);
    });
}

/// Mean over the `positions = H·W` of each map: to `(C, N)`.
pub fn global_average_pool(channels: usize, positions: usize, batch: usize, input: &[f32], output: &mut [f32]) {
    assert_eq!(input.len(), channels * positions * batch, "global_average_pool: input length");
    assert_eq!(output.len(), channels * batch, "global_average_pool: output length");
    let scale = 1.0 / positions as f32;
    let order = Order::of(batch);
    let (by_position, by_channel) = (order.position_stride(channels, batch), order.channel_stride(positions, batch));
    if batch == 0 {
        return;
    }
    let together = lines_per_task(positions * batch);
    output.par_chunks_mut(batch).enumerate().with_min_len(together).for_each(|(channel, sums)| {
        sums.fill(0.0);
        for position in 0..positions {
            for (sum, value) in sums.iter_mut().zip(&input[position * by_position + channel * by_channel..]) {
                *sum += value;
            }
        }
        for sum in sums {
            *sum *= scale;
        }
    });
}

/// Gradient of [`global_average_pool`], from `(C, N)`. `grad_input` is overwritten.
pub fn global_average_pool_backward(
    channels: usize,
    positions: usize,
    batch: usize,
    grad_output: &[f32],
    grad_input: &mut [f32],
) {
    assert_eq!(grad_output.len(), channels * batch, "global_average_pool_backward: grad_output length");
    assert_eq!(grad_input.len(), channels * positions * batch, "global_average_pool_backward: grad_input length");
    let scale = 1.0 / positions as f32;
    if positions * batch == 0 {
        return;
    }
    // A stretch of the gradient: a channel's maps, or a position's channels.
    let order = Order::of(batch);
    let (stretch, line) = match order {
        Order::Channels => (positions * batch, batch),
        Order::Positions => (channels * batch, channels * batch),
    };
    grad_input.par_chunks_mut(stretch).enumerate().with_min_len(lines_per_task(stretch)).for_each(|(nth, to)| {
        let grad = match order {
            Order::Channels => &grad_output[nth * batch..][..batch],
            Order::Positions => grad_output,
        };
        for to in to.chunks_exact_mut(line) {
            for (to, grad) in to.iter_mut().zip(grad) {
                *to = grad * scale;
            }
        }
    });
}

#[cfg(test)]
mod tests;
