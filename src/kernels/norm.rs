//! Batch normalisation in the batch-innermost layout, fused with the residual add and the ReLU that follow it.
//!
//! A channel's plane of `H·W·N` values is contiguous. Ioffe & Szegedy 2015; variances are biased (divided by `H·W·N`).

fn plane(length: usize, channels: usize, name: &str) -> usize {
    assert!(
        channels > 0 && length.is_multiple_of(channels),
        "{name}: length is not a multiple of channels"
    );
    length / channels
}

/// `out = relu(gamma·(z − mean)/√(var + eps) + beta + residual)` with the batch's own statistics, which are written to
/// `mean` and `var` (biased). Without `relu` the outer function is the identity.
#[expect(clippy::too_many_arguments, reason = "the terms of one formula")]
pub fn batch_norm_train(
    z: &[f32],
    channels: usize,
    gamma: &[f32],
    beta: &[f32],
    eps: f32,
    residual: Option<&[f32]>,
    relu: bool,
    out: &mut [f32],
    mean: &mut [f32],
    var: &mut [f32],
) {
    let plane = plane(z.len(), channels, "batch_norm_train: z");
    assert_eq!(mean.len(), channels, "batch_norm_train: mean length");
    assert_eq!(var.len(), channels, "batch_norm_train: var length");
    for channel in 0..channels {
        let z = &z[channel * plane..(channel + 1) * plane];
        let centre = z.iter().map(|&z| f64::from(z)).sum::<f64>() / plane as f64;
        mean[channel] = centre as f32;
        var[channel] = (z
            .iter()
            .map(|&z| (f64::from(z) - centre).powi(2))
            .sum::<f64>()
            / plane as f64) as f32;
    }
    batch_norm_eval(
        z, channels, gamma, beta, mean, var, eps, residual, relu, out,
    );
}

/// As [`batch_norm_train`] with given statistics.
#[expect(clippy::too_many_arguments, reason = "the terms of one formula")]
pub fn batch_norm_eval(
    z: &[f32],
    channels: usize,
    gamma: &[f32],
    beta: &[f32],
    running_mean: &[f32],
    running_var: &[f32],
    eps: f32,
    residual: Option<&[f32]>,
    relu: bool,
    out: &mut [f32],
) {
    let plane = plane(z.len(), channels, "batch_norm: z");
    for (values, name) in [
        (gamma, "gamma"),
        (beta, "beta"),
        (running_mean, "running_mean"),
        (running_var, "running_var"),
    ] {
        assert_eq!(values.len(), channels, "batch_norm: {name} length");
    }
    assert_eq!(out.len(), z.len(), "batch_norm: out length");
    if let Some(residual) = residual {
        assert_eq!(residual.len(), z.len(), "batch_norm: residual length");
    }
    for channel in 0..channels {
        let scale = gamma[channel] / (running_var[channel] + eps).sqrt();
        for index in channel * plane..(channel + 1) * plane {
            let mut value = (z[index] - running_mean[channel]) * scale + beta[channel];
            if let Some(residual) = residual {
                value += residual[index];
            }
            out[index] = if relu && value <= 0.0 { 0.0 } else { value };
        }
    }
}

/// Gradient of [`batch_norm_train`].
///
/// `z` comes in as the batch norm's input and goes out as its gradient; `grad_out` comes in as the gradient of `out` and
/// goes out masked by `out > 0` (with `relu`), which is the gradient of the residual.
#[expect(clippy::too_many_arguments, reason = "the terms of one formula")]
pub fn batch_norm_train_backward(
    z: &mut [f32],
    channels: usize,
    gamma: &[f32],
    mean: &[f32],
    var: &[f32],
    eps: f32,
    out: &[f32],
    relu: bool,
    grad_out: &mut [f32],
    grad_gamma: &mut [f32],
    grad_beta: &mut [f32],
) {
    let plane = plane(z.len(), channels, "batch_norm_train_backward: z");
    for (length, name) in [
        (gamma.len(), "gamma"),
        (mean.len(), "mean"),
        (var.len(), "var"),
        (grad_gamma.len(), "grad_gamma"),
        (grad_beta.len(), "grad_beta"),
    ] {
        assert_eq!(length, channels, "batch_norm_train_backward: {name} length");
    }
    assert_eq!(
        grad_out.len(),
        z.len(),
        "batch_norm_train_backward: grad_out length"
    );
    if relu {
        assert_eq!(out.len(), z.len(), "batch_norm_train_backward: out length");
    }
    for channel in 0..channels {
        let inverse = 1.0 / (var[channel] + eps).sqrt();
        let (mut sum, mut product) = (0.0f64, 0.0f64);
        for index in channel * plane..(channel + 1) * plane {
            if relu && out[index] <= 0.0 {
                grad_out[index] = 0.0;
            }
            sum += f64::from(grad_out[index]);
            product += f64::from(grad_out[index]) * f64::from((z[index] - mean[channel]) * inverse);
        }
        grad_beta[channel] = sum as f32;
        grad_gamma[channel] = product as f32;
        let (mean_grad, mean_product) =
            ((sum / plane as f64) as f32, (product / plane as f64) as f32);
        for index in channel * plane..(channel + 1) * plane {
            let normalised = (z[index] - mean[channel]) * inverse;
            z[index] = gamma[channel]
                * inverse
                * (grad_out[index] - mean_grad - normalised * mean_product);
        }
    }
}

/// Gradient of [`batch_norm_eval`], whose statistics are constants. `grad_z` is written; `grad_out` is masked by `out > 0`
/// (with `relu`) in place.
#[expect(clippy::too_many_arguments, reason = "the terms of one formula")]
pub fn batch_norm_eval_backward(
    channels: usize,
    gamma: &[f32],
    running_var: &[f32],
    eps: f32,
    out: &[f32],
    relu: bool,
    grad_out: &mut [f32],
    grad_z: &mut [f32],
) {
    let plane = plane(
        grad_out.len(),
        channels,
        "batch_norm_eval_backward: grad_out",
    );
    assert_eq!(
        gamma.len(),
        channels,
        "batch_norm_eval_backward: gamma length"
    );
    assert_eq!(
        running_var.len(),
        channels,
        "batch_norm_eval_backward: running_var length"
    );
    assert_eq!(
        grad_z.len(),
        grad_out.len(),
        "batch_norm_eval_backward: grad_z length"
    );
    if relu {
        assert_eq!(
            out.len(),
            grad_out.len(),
            "batch_norm_eval_backward: out length"
        );
    }
    for channel in 0..channels {
        let scale = gamma[channel] / (running_var[channel] + eps).sqrt();
        for index in channel * plane..(channel + 1) * plane {
            if relu && out[index] <= 0.0 {
                grad_out[index] = 0.0;
            }
            grad_z[index] = grad_out[index] * scale;
        }
    }
}
