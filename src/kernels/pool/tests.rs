use super::*;
use proptest::prelude::*;

/// Values with many ties, so that the rule for equal maxima shows.
fn values(length: usize, seed: u64, levels: u64) -> Vec<f32> {
    let mut state = seed | 1;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) % levels) as f32 - 2.0
        })
        .collect()
}

proptest! {
    #[test]
    fn max_pool_and_its_gradient_equal_the_plain_loops(
        (batch, channels, in_height, in_width) in
            (prop_oneof![1usize..40, Just(64)], 1usize..5, 1usize..16, 1usize..16),
        (kernel, stride, padding) in (1usize..4, 1usize..4, 0usize..2),
        seed in 0u64..1000,
    ) {
        let padding = padding.min(kernel - 1);
        prop_assume!(in_height.min(in_width) + 2 * padding >= kernel);
        let shape = PoolShape { batch, channels, in_height, in_width, kernel, stride, padding };
        let input = values(shape.input_len(), seed, 5);
        let gradient = values(shape.output_len(), seed + 1, 1 << 20);
        let (mut output, mut argmax) = (vec![f32::NAN; shape.output_len()], vec![99; shape.output_len()]);
        max_pool(&shape, &input, &mut output, &mut argmax);
        let mut largest = vec![f32::NAN; output.len()];
        max_pool_rows(&shape, 0..shape.out_height(), 0, &input, &mut largest);
        prop_assert_eq!(&largest, &output);
        if Order::of(batch) == Order::Positions {
            let (line, row) = (output.len() / shape.out_height(), input.len() / in_height);
            for (nth, expected) in output.chunks(line).enumerate() {
                let first = (nth * stride).saturating_sub(padding).saturating_sub(1);
                let last = (nth * stride + kernel - padding).min(in_height);
                let mut largest = vec![f32::NAN; line];
                max_pool_rows(&shape, nth..nth + 1, first, &input[first * row..last * row], &mut largest);
                prop_assert_eq!(&largest, expected);
            }
        }
        let mut grad_input = vec![f32::NAN; shape.input_len()];
        max_pool_backward(&shape, &argmax, &gradient, &mut grad_input);
        let mut expected_gradient = vec![0.0f32; shape.input_len()];
        let order = Order::of(batch);
        let place = |channel: usize, position: usize, positions: usize| {
            position * order.position_stride(channels, batch) + channel * order.channel_stride(positions, batch)
        };
        for channel in 0..channels {
            for out_row in 0..shape.out_height() {
                for out_col in 0..shape.out_width() {
                    for n in 0..batch {
                        let mut best = (f32::NEG_INFINITY, 0, 0);
                        for offset in 0..kernel * kernel {
                            let row = (out_row * stride + offset / kernel).wrapping_sub(padding);
                            let col = (out_col * stride + offset % kernel).wrapping_sub(padding);
                            if row < in_height && col < in_width {
                                let at = place(channel, row * in_width + col, in_height * in_width) + n;
                                if input[at] > best.0 {
                                    best = (input[at], offset, at);
                                }
                            }
                        }
                        let positions = shape.out_height() * shape.out_width();
                        let index = place(channel, out_row * shape.out_width() + out_col, positions) + n;
                        prop_assert_eq!((output[index], usize::from(argmax[index])), (best.0, best.1));
                        expected_gradient[best.2] += gradient[index];
                    }
                }
            }
        }
        prop_assert_eq!(grad_input, expected_gradient);
    }
}

#[test]
fn not_a_number_wins_its_window() {
    let shape = PoolShape { batch: 1, channels: 1, in_height: 1, in_width: 3, kernel: 1, stride: 1, padding: 0 };
    let (mut output, mut argmax) = (vec![0.0; 3], vec![0; 3]);
    max_pool(&shape, &[1.0, f32::NAN, 2.0], &mut output, &mut argmax);
    assert!(output[1].is_nan());
    let shape = PoolShape { batch: 1, channels: 1, in_height: 2, in_width: 2, kernel: 2, stride: 1, padding: 0 };
    max_pool(&shape, &[1.0, f32::NAN, 2.0, 3.0], &mut output[..1], &mut argmax[..1]);
    assert!(output[0].is_nan() && argmax[0] == 1);
}

#[test]
fn global_average_is_the_mean_and_its_gradient_spreads_evenly() {
    for (channels, positions, batch) in [(3, 4, 5), (2, 1, 33), (1, 49, 16), (5, 9, 64)] {
        let input = values(channels * positions * batch, 3, 1000);
        let order = Order::of(batch);
        let place = |channel: usize, position: usize| {
            position * order.position_stride(channels, batch) + channel * order.channel_stride(positions, batch)
        };
        let mut output = vec![f32::NAN; channels * batch];
        global_average_pool(channels, positions, batch, &input, &mut output);
        for (index, mean) in output.iter().enumerate() {
            let (channel, n) = (index / batch, index % batch);
            let sum: f64 = (0..positions).map(|position| f64::from(input[place(channel, position) + n])).sum();
            assert!((f64::from(*mean) - sum / positions as f64).abs() < 1e-3);
        }
        let mut gradient = vec![f32::NAN; input.len()];
        global_average_pool_backward(channels, positions, batch, &output, &mut gradient);
        for (index, output) in output.iter().enumerate() {
            for position in 0..positions {
                let value = gradient[place(index / batch, position) + index % batch];
                assert!((value - output / positions as f32).abs() < 1e-3);
            }
        }
    }
}
