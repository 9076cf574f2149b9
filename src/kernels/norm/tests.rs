use super::*;

fn values(length: usize, seed: u32) -> Vec<f32> {
    (0..length as u32)
        .map(|index| {
            ((index.wrapping_mul(2_654_435_761) ^ seed.wrapping_mul(40_503)) >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn shape(channels: usize, batch: usize) -> NormShape {
    NormShape { channels, batch }
}

/// The channel of the value at `index`.
fn channel_of(index: usize, length: usize, shape: NormShape) -> usize {
    match Order::of(shape.batch) {
        Order::Channels => index / (length / shape.channels),
        Order::Positions => index / shape.batch % shape.channels,
    }
}

/// Forward in `f64`: out and the loss Σ out·grad.
fn plain(
    z: &[f64],
    shape: NormShape,
    gamma: &[f64],
    beta: &[f64],
    statistics: Option<(&[f32], &[f32])>,
    residual: &[f64],
    relu: bool,
) -> Vec<f64> {
    let channel_of = |index| channel_of(index, z.len(), shape);
    let plane = (z.len() / shape.channels) as f64;
    let (mut means, mut vars) = (vec![0.0; shape.channels], vec![0.0; shape.channels]);
    for (index, z) in z.iter().enumerate() {
        means[channel_of(index)] += z / plane;
    }
    for (index, z) in z.iter().enumerate() {
        vars[channel_of(index)] += (z - means[channel_of(index)]).powi(2) / plane;
    }
    if let Some((mean, var)) = statistics {
        (means, vars) = (wide(mean), wide(var));
    }
    (z.iter().zip(residual).enumerate())
        .map(|(index, (z, residual))| {
            let channel = channel_of(index);
            let value =
                (z - means[channel]) / (vars[channel] + 1e-5).sqrt() * gamma[channel] + beta[channel] + residual;
            if relu { value.max(0.0) } else { value }
        })
        .collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

fn close(left: &[f32], right: &[f64], bound: f64, what: &str) {
    assert_eq!(left.len(), right.len());
    for (index, (left, right)) in left.iter().zip(right).enumerate() {
        assert!((f64::from(*left) - right).abs() < bound, "{what}[{index}]: {left} against {right}");
    }
}

#[test]
fn forward_equals_the_formula() {
    // Odd batches and batches of whole vectors lie differently; some maps take several pieces.
    for (channels, positions, batch) in [
        (1, 1, 1),
        (3, 1, 7),
        (5, 9, 7),
        (2, 100, 50),
        (17, 13, 10),
        (3, 4, 64),
        (1, 9, 80),
        (37, 200, 64),
        (16, 49, 128),
    ] {
        let (plane, shape) = (positions * batch, shape(channels, batch));
        // A mean far from zero shows cancellation.
        let z: Vec<f32> = values(channels * plane, 1).iter().map(|z| z * 0.5 + 20.0).collect();
        let residual = values(z.len(), 2);
        let (gamma, beta) = (values(channels, 3), values(channels, 4));
        for relu in [false, true] {
            for added in [None, Some(&residual[..])] {
                let (mut out, mut mean, mut var) = (vec![0.0; z.len()], vec![0.0; channels], vec![0.0; channels]);
                batch_norm_train(&z, shape, &gamma, &beta, 1e-5, added, relu, &mut out, &mut mean, &mut var);
                let residual = added.map_or(vec![0.0; z.len()], wide);
                let bound = if plane == 1 { 2e-3 } else { 2e-5 };
                close(
                    &out,
                    &plain(&wide(&z), shape, &wide(&gamma), &wide(&beta), None, &residual, relu),
                    bound,
                    "train",
                );
                batch_norm_eval(&z, shape, &gamma, &beta, &mean, &var, 1e-5, added, relu, &mut out);
                let expected =
                    plain(&wide(&z), shape, &wide(&gamma), &wide(&beta), Some((&mean, &var)), &residual, relu);
                close(&out, &expected, bound, "eval");
                let mut values = z.clone();
                AtRest::new(&gamma, &beta, &mean, &var, 1e-5, added, relu).apply(&mut values, batch);
                assert_eq!(values, out, "in place");
            }
        }
    }
}

/// The one pass over a channel centres it by its first values: here those are a hundred deviations away from the rest.
#[test]
fn moments_hold_where_the_first_values_are_unlike_the_rest() {
    for (positions, batch) in [(49, 64), (300, 7)] {
        let shape = shape(2, batch);
        let mut z = values(2 * positions * batch, 1);
        for (index, z) in z.iter_mut().enumerate() {
            let first = match Order::of(batch) {
                Order::Channels => index % (positions * batch) < 64,
                Order::Positions => index < 2 * batch,
            };
            *z += if first { 100.0 } else { 0.0 };
        }
        let (mut out, mut mean, mut var) = (vec![0.0; z.len()], vec![0.0; 2], vec![0.0; 2]);
        batch_norm_train(&z, shape, &[1.0; 2], &[0.0; 2], 1e-5, None, false, &mut out, &mut mean, &mut var);
        let residual = vec![0.0; z.len()];
        close(&out, &plain(&wide(&z), shape, &[1.0; 2], &[0.0; 2], None, &residual, false), 5e-5, "out");
    }
}

/// What becomes of z and of the gradient, and the gradients of γ and β.
fn backward(
    z: &[f32],
    shape: NormShape,
    gamma: &[f32],
    [mean, var]: [&[f32]; 2],
    relu: Relu<'_>,
    gradient: &[f32],
) -> [Vec<f32>; 4] {
    let (mut z, mut grad) = (z.to_vec(), gradient.to_vec());
    let [mut of_gamma, mut of_beta] = [(); 2].map(|()| vec![0.0; gamma.len()]);
    batch_norm_train_backward(&mut z, shape, gamma, mean, var, 1e-5, relu, &mut grad, &mut of_gamma, &mut of_beta);
    [z, grad, of_gamma, of_beta]
}

fn bits(values: Vec<f32>) -> Vec<u32> {
    values.into_iter().map(f32::to_bits).collect()
}

#[test]
fn backward_equals_finite_differences() {
    for (positions, batch) in [(3, 7), (2, 64)] {
        gradients_equal_finite_differences(positions, batch);
    }
}

fn gradients_equal_finite_differences(positions: usize, batch: usize) {
    let (channels, plane) = (3, positions * batch);
    let shape = shape(channels, batch);
    let z = values(channels * plane, 1);
    let residual = values(z.len(), 2);
    let gradient = values(z.len(), 5);
    let (gamma, beta) = (values(channels, 3), values(channels, 4));
    for relu in [false, true] {
        for train in [true, false] {
            let (mut out, mut mean, mut var) = (vec![0.0; z.len()], vec![0.0; channels], vec![0.0; channels]);
            batch_norm_train(&z, shape, &gamma, &beta, 1e-5, Some(&residual), relu, &mut out, &mut mean, &mut var);
            let relu_of = if relu { Relu::Out(&out) } else { Relu::None };
            let [mut grad_z, mut grad_out, grad_gamma, grad_beta] =
                backward(&z, shape, &gamma, [&mean, &var], relu_of, &gradient);
            let statistics = (!train).then_some((&mean[..], &var[..]));
            if !train {
                grad_out.copy_from_slice(&gradient);
                batch_norm_eval_backward(shape, &gamma, &var, 1e-5, &out, relu, &mut grad_out, &mut grad_z);
            }
            // `f` is the loss with one value moved; the difference quotient is central.
            let loss = |z: &[f64], gamma: &[f64], beta: &[f64], residual: &[f64]| {
                plain(z, shape, gamma, beta, statistics, residual, relu)
                    .iter()
                    .zip(&gradient)
                    .map(|(out, grad)| out * f64::from(*grad))
                    .sum::<f64>()
            };
            let quotient = |index: usize, which: usize| {
                let at = |step: f64| {
                    let mut all = [wide(&z), wide(&gamma), wide(&beta), wide(&residual)];
                    all[which][index] += step;
                    loss(&all[0], &all[1], &all[2], &all[3])
                };
                (at(1e-6) - at(-1e-6)) / 2e-6
            };
            let every =
                |which: usize, length: usize| (0..length).map(|index| quotient(index, which)).collect::<Vec<_>>();
            close(&grad_z, &every(0, z.len()), 2e-5, "grad_z");
            close(&grad_out, &every(3, z.len()), 2e-5, "grad residual");
            if train {
                close(&grad_gamma, &every(1, channels), 2e-5, "grad_gamma");
                close(&grad_beta, &every(2, channels), 2e-5, "grad_beta");
            }
        }
    }
}

/// What the norm's own ReLU let through is what its output says, to the last bit, also where the
/// output is exactly zero.
#[test]
fn a_mask_by_the_norm_itself_is_the_one_by_its_output() {
    for (channels, positions, batch) in [(3, 9, 7), (2, 100, 50), (37, 20, 64), (16, 49, 128)] {
        let shape = shape(channels, batch);
        let z = values(channels * positions * batch, 1);
        let (mut gamma, beta) =
            (values(channels, 3), values(channels, 4).iter().map(|beta| beta.max(0.0)).collect::<Vec<_>>());
        gamma[1] = 0.0;
        let (mut out, mut mean, mut var) = (vec![0.0; z.len()], vec![0.0; channels], vec![0.0; channels]);
        batch_norm_train(&z, shape, &gamma, &beta, 1e-5, None, true, &mut out, &mut mean, &mut var);
        let back = |relu: Relu<'_>| {
            let [z, _, gamma, beta] = backward(&z, shape, &gamma, [&mean, &var], relu, &values(z.len(), 5));
            bits([z, gamma, beta].concat())
        };
        let own = back(Relu::Own(&beta));
        assert!(own == back(Relu::Out(&out)), "{channels} {positions} {batch}");
        assert!(own != back(Relu::None), "{channels} {positions} {batch}");
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    for (positions, batch) in [(3001, 1), (47, 64)] {
        threads_give_the_same_bits(37, positions, batch);
    }
}

fn threads_give_the_same_bits(channels: usize, positions: usize, batch: usize) {
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a small pool");
    let (plane, shape) = (positions * batch, shape(channels, batch));
    let (z, gamma) = (values(channels * plane, 1), values(channels, 3));
    let all = |threads| {
        pool(threads).install(|| {
            let (mut out, mut mean, mut var) = (vec![0.0; z.len()], vec![0.0; channels], vec![0.0; channels]);
            batch_norm_train(&z, shape, &gamma, &gamma, 1e-5, None, true, &mut out, &mut mean, &mut var);
            let mut found = out.clone();
            for relu in [Relu::Out(&out), Relu::Own(&gamma)] {
                found.extend(backward(&z, shape, &gamma, [&mean, &var], relu, &values(z.len(), 5)).concat());
            }
            bits(found)
        })
    };
    assert!(all(1) == all(2));
}
