//! What follows a product without batch norm: a bias for each channel, a sum, ReLU; and the gradient of the bias.

use crate::layout::Order;
use rayon::prelude::*;

/// Values a task should have at least.
const TASK: usize = 1 << 14;

/// `values = relu?(values + bias? + residual?)`, with one bias for each of `channels`; maps lie in
/// [`Order::of`] the batch.
pub fn finish(
    channels: usize,
    batch: usize,
    bias: Option<&[f32]>,
    residual: Option<&[f32]>,
    relu: bool,
    values: &mut [f32],
) {
    assert_eq!(bias.map_or(channels, <[f32]>::len), channels, "bias: one for each channel");
    assert_eq!(residual.map_or(values.len(), <[f32]>::len), values.len(), "bias: residual length");
    if values.is_empty() {
        return;
    }
    let channel_of = channel_of(channels, batch, values.len());
    let lines = TASK.div_ceil(batch);
    values.par_chunks_mut(lines * batch).enumerate().for_each(|(nth, values)| {
        let start = nth * lines;
        if let Some(bias) = bias {
            for (line, values) in values.chunks_exact_mut(batch).enumerate() {
                let bias = bias[channel_of(start + line)];
                values.iter_mut().for_each(|value| *value += bias);
            }
        }
        if let Some(residual) = residual {
            let residual = &residual[start * batch..][..values.len()];
            values.iter_mut().zip(residual).for_each(|(value, add)| *value += add);
        }
        if relu {
            values.iter_mut().for_each(|value| *value = value.max(0.0));
        }
    });
}

/// Gradient of the bias: the sum of each channel's gradient over positions and images.
pub fn gradient(batch: usize, grad: &[f32], grad_bias: &mut [f32]) {
    let channels = grad_bias.len();
    if grad.is_empty() {
        return grad_bias.fill(0.0);
    }
    let positions = grad.len() / (channels * batch);
    let order = Order::of(batch);
    let (by_position, by_channel) = (order.position_stride(channels, batch), order.channel_stride(positions, batch));
    grad_bias.par_iter_mut().enumerate().with_min_len(TASK.div_ceil(positions * batch)).for_each(|(channel, sum)| {
        // One sum for each image keeps them short, so that little is lost by rounding.
        let mut sums = vec![0.0_f32; batch];
        for position in 0..positions {
            let line = &grad[position * by_position + channel * by_channel..][..batch];
            sums.iter_mut().zip(line).for_each(|(sum, grad)| *sum += grad);
        }
        *sum = sums.iter().map(|&sum| f64::from(sum)).sum::<f64>() as f32;
    });
}

/// The channel of the nth line of `batch` values.
fn channel_of(channels: usize, batch: usize, len: usize) -> impl Fn(usize) -> usize + Sync {
    let positions = len / (channels * batch);
    let order = Order::of(batch);
    move |line| match order {
        Order::Channels => line / positions,
        Order::Positions => line % channels,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::to_kernels;

    #[test]
    fn each_channel_gets_its_bias_and_its_sum_in_both_orders() {
        for (batch, channels, positions) in [(3, 2, 5), (64, 3, 9), (128, 40, 1), (1, 1, 1), (80, 17, 400)] {
            let len = batch * channels * positions;
            // Small whole numbers, so that every sum is exact.
            let images: Vec<f32> = (0..len).map(|value| (value * 7 % 23) as f32 - 11.0).collect();
            let residual: Vec<f32> = (0..len).map(|value| (value * 5 % 19) as f32 - 9.0).collect();
            let bias: Vec<f32> = (0..channels).map(|channel| channel as f32 - 1.0).collect();
            let order = |values: &[f32]| {
                let mut inner = vec![0.0; len];
                to_kernels(batch, channels, positions, values, &mut inner);
                inner
            };
            let channel = |at: usize| at / positions % channels;
            let mut found = order(&images);
            finish(channels, batch, Some(&bias), Some(&order(&residual)), true, &mut found);
            let expected: Vec<f32> =
                (0..len).map(|at| (images[at] + bias[channel(at)] + residual[at]).max(0.0)).collect();
            assert_eq!(found, order(&expected), "{batch} {channels} {positions}");
            let mut sums = vec![f32::NAN; channels];
            gradient(batch, &order(&images), &mut sums);
            let expected: Vec<f32> = (0..channels)
                .map(|wanted| (0..len).filter(|&at| channel(at) == wanted).map(|at| images[at]).sum())
                .collect();
            assert_eq!(sums, expected, "{batch} {channels} {positions}");
        }
    }
}
