//! Average pooling to a given size: windows that cover the map, as PyTorch's `AdaptiveAvgPool2d`.

use std::ops::Range;

use super::lines_per_task;
use crate::layout::Order;
use rayon::prelude::*;

/// Geometry of an adaptive average pool over maps in [`Order::of`] the batch. Output row `r` is the
/// mean over input rows `⌊r·H/H'⌋ .. ⌈(r+1)·H/H'⌉`, columns alike; windows overlap where the sizes
/// do not divide, and repeat where the output is larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdaptiveShape {
    /// N
    pub batch: usize,
    /// C
    pub channels: usize,
    /// H of the input
    pub in_height: usize,
    /// W of the input
    pub in_width: usize,
    /// H of the output
    pub out_height: usize,
    /// W of the output
    pub out_width: usize,
}

impl AdaptiveShape {
    fn input_len(&self) -> usize {
        self.channels * self.in_height * self.in_width * self.batch
    }
    fn output_len(&self) -> usize {
        self.channels * self.out_height * self.out_width * self.batch
    }
    /// As [`super::PoolShape`]'s: no channels are told apart where all of them lie together.
    fn folded(mut self) -> Self {
        if Order::of(self.batch) == Order::Positions {
            (self.channels, self.batch) = (1, self.channels * self.batch);
        }
        self
    }
    fn rows(&self, out_row: usize) -> Range<usize> {
        window(out_row, self.in_height, self.out_height)
    }
    fn columns(&self, out_col: usize) -> Range<usize> {
        window(out_col, self.in_width, self.out_width)
    }
}

fn window(place: usize, from: usize, to: usize) -> Range<usize> {
    place * from / to..((place + 1) * from).div_ceil(to)
}

/// The mean of each window.
pub fn adaptive_average_pool(shape: &AdaptiveShape, input: &[f32], output: &mut [f32]) {
    assert_eq!(input.len(), shape.input_len(), "adaptive_average_pool: input length");
    assert_eq!(output.len(), shape.output_len(), "adaptive_average_pool: output length");
    let shape = &shape.folded();
    let batch = shape.batch;
    let line = shape.out_width * batch;
    if input.is_empty() || output.is_empty() {
        return output.fill(0.0);
    }
    output.par_chunks_mut(line).enumerate().with_min_len(lines_per_task(line)).for_each(|(nth, output)| {
        let (channel, out_row) = (nth / shape.out_height, nth % shape.out_height);
        for (out_col, means) in output.chunks_exact_mut(batch).enumerate() {
            means.fill(0.0);
            for row in shape.rows(out_row) {
                for col in shape.columns(out_col) {
                    let at = ((channel * shape.in_height + row) * shape.in_width + col) * batch;
                    means.iter_mut().zip(&input[at..at + batch]).for_each(|(sum, value)| *sum += value);
                }
            }
            let scale = 1.0 / (shape.rows(out_row).len() * shape.columns(out_col).len()) as f32;
            means.iter_mut().for_each(|mean| *mean *= scale);
        }
    });
}

/// Gradient of [`adaptive_average_pool`]; `grad_input` is overwritten.
pub fn adaptive_average_pool_backward(shape: &AdaptiveShape, grad_output: &[f32], grad_input: &mut [f32]) {
    assert_eq!(grad_output.len(), shape.output_len(), "adaptive_average_pool_backward: grad_output length");
    assert_eq!(grad_input.len(), shape.input_len(), "adaptive_average_pool_backward: grad_input length");
    let shape = &shape.folded();
    let batch = shape.batch;
    let line = shape.in_width * batch;
    if grad_input.is_empty() || grad_output.is_empty() {
        return grad_input.fill(0.0);
    }
    grad_input.par_chunks_mut(line).enumerate().with_min_len(lines_per_task(line)).for_each(|(nth, grad_input)| {
        let (channel, row) = (nth / shape.in_height, nth % shape.in_height);
        grad_input.fill(0.0);
        for out_row in (0..shape.out_height).filter(|&out_row| shape.rows(out_row).contains(&row)) {
            for out_col in 0..shape.out_width {
                let at = ((channel * shape.out_height + out_row) * shape.out_width + out_col) * batch;
                let grad = &grad_output[at..at + batch];
                let columns = shape.columns(out_col);
                let scale = 1.0 / (shape.rows(out_row).len() * columns.len()) as f32;
                for to in grad_input[columns.start * batch..columns.end * batch].chunks_exact_mut(batch) {
                    to.iter_mut().zip(grad).for_each(|(to, grad)| *to += grad * scale);
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{from_kernels, to_kernels};

    /// Runs it on `(N, C, H, W)`.
    fn pooled(shape: &AdaptiveShape, images: &[f32]) -> Vec<f32> {
        let mut inner = vec![0.0; shape.input_len()];
        to_kernels(shape.batch, shape.channels, shape.in_height * shape.in_width, images, &mut inner);
        let (mut output, mut outer) = (vec![f32::NAN; shape.output_len()], vec![f32::NAN; shape.output_len()]);
        adaptive_average_pool(shape, &inner, &mut output);
        from_kernels(shape.batch, shape.channels, shape.out_height * shape.out_width, &output, &mut outer);
        outer
    }

    #[test]
    fn values_are_pytorchs() {
        // torch.nn.AdaptiveAvgPool2d((3, 2))(torch.arange(20.).reshape(1, 1, 4, 5))
        let shape = AdaptiveShape { batch: 1, channels: 1, in_height: 4, in_width: 5, out_height: 3, out_width: 2 };
        let images: Vec<f32> = (0..20).map(|value| value as f32).collect();
        assert_eq!(pooled(&shape, &images), [3.5, 5.5, 8.5, 10.5, 13.5, 15.5]);
        // A map that is smaller than the grid is repeated.
        let shape = AdaptiveShape { batch: 1, channels: 1, in_height: 1, in_width: 2, out_height: 2, out_width: 4 };
        assert_eq!(pooled(&shape, &[1.0, 2.0]), [1.0, 1.0, 2.0, 2.0, 1.0, 1.0, 2.0, 2.0]);
    }

    #[test]
    fn the_backward_pass_is_the_transpose_in_both_orders() {
        // ⟨pool(x), g⟩ = ⟨x, pool'(g)⟩ for one-hot x would take every input; random x and g, and
        // exact small sums, do as well.
        for (batch, channels, height, width, to) in [
            (3, 2, 9, 5, (7, 7)),
            (64, 3, 4, 4, (7, 7)),
            (128, 2, 14, 14, (7, 7)),
            (2, 1, 7, 7, (7, 7)),
            (5, 2, 3, 8, (1, 1)),
        ] {
            let shape = AdaptiveShape {
                batch,
                channels,
                in_height: height,
                in_width: width,
                out_height: to.0,
                out_width: to.1,
            };
            let images: Vec<f32> = (0..shape.input_len()).map(|at| ((at * 31 + 7) % 17) as f32 - 8.0).collect();
            let grads: Vec<f32> = (0..shape.output_len()).map(|at| ((at * 29 + 3) % 13) as f32 - 6.0).collect();
            let mut inner = vec![0.0; shape.output_len()];
            to_kernels(batch, channels, to.0 * to.1, &grads, &mut inner);
            let (mut grad, mut outer) = (vec![f32::NAN; shape.input_len()], vec![f32::NAN; shape.input_len()]);
            adaptive_average_pool_backward(&shape, &inner, &mut grad);
            from_kernels(batch, channels, height * width, &grad, &mut outer);
            let dot =
                |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum() };
            let (left, right) = (dot(&pooled(&shape, &images), &grads), dot(&images, &outer));
            assert!((left - right).abs() < 1e-3 * left.abs().max(1.0), "{shape:?}: {left} {right}");
        }
    }
}
