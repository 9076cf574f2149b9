//! Initial values.

use std::sync::Arc;

use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::seed;

use super::layout::{BufferKind, Layout, ParameterKind, TensorSpec, Weights};

/// How fresh weights are drawn. Batch norm is β = 0, mean 0, variance 1 in all of them, and γ = 1
/// but for [`Initialisation::OpenLth`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Initialisation {
    /// torchvision's residual networks: convolutions Kaiming normal, fan-out, gain √2 (He et al.
    /// 2015, eq. 10 with fan-out); linear layers and biases uniform in ±1/√fan_in (PyTorch's
    /// default).
    #[default]
    Torchvision,
    /// torchvision's VGG: convolutions as above, linear weights normal with deviation 0.01, biases 0.
    Vgg,
    /// Glorot normal, biases 0: LeNet and Conv-k in Frankle & Carbin 2019.
    Glorot,
    /// open_lth's CIFAR networks: all weights Kaiming normal, fan-in; γ uniform in 0 to 1; biases as PyTorch's default.
    OpenLth,
}

/// Fresh weights of a layout for a seed; each tensor draws from a stream of its own.
pub(super) fn draw(layout: &Arc<Layout>, initialisation: Initialisation, seed: u64) -> Weights {
    let mut weights = Weights::zeros(layout.clone());
    for spec in &layout.parameters {
        let values = &mut weights.parameters[spec.range.clone()];
        initialise_parameter(initialisation, spec, &layout.parameters, seed, values);
    }
    for spec in &layout.buffers {
        let value = match spec.kind {
            BufferKind::RunningMean => 0.0,
            BufferKind::RunningVariance => 1.0,
        };
        weights.buffers[spec.range.clone()].fill(value);
    }
    weights
}

/// Draws the initial values of one parameter.
fn initialise_parameter(
    initialisation: Initialisation,
    spec: &TensorSpec<ParameterKind>,
    all: &[TensorSpec<ParameterKind>],
    seed: u64,
    values: &mut [f32],
) {
    use Initialisation::{Glorot, OpenLth, Torchvision, Vgg};
    let mut stream = seed::stream(seed, &format!("init/{}", spec.name), 0);
    match spec.kind {
        ParameterKind::ConvolutionWeight | ParameterKind::LinearWeight => {
            let (fan_out, fan_in) = fans(&spec.shape);
            match (initialisation, spec.kind) {
                (Torchvision | Vgg, ParameterKind::ConvolutionWeight) => {
                    fill_normal(values, (2.0 / fan_out as f64).sqrt(), &mut stream);
                }
                (Torchvision, _) => fill_uniform(values, fan_in, &mut stream),
                (Vgg, _) => fill_normal(values, 0.01, &mut stream),
                (Glorot, _) => fill_normal(values, (2.0 / (fan_in + fan_out) as f64).sqrt(), &mut stream),
                (OpenLth, _) => fill_normal(values, (2.0 / fan_in as f64).sqrt(), &mut stream),
            }
        }
        ParameterKind::ConvolutionBias | ParameterKind::LinearBias => match initialisation {
            Vgg | Glorot => values.fill(0.0),
            Torchvision | OpenLth => {
                // A bias shares the fan-in of the weight of its layer.
                let weight = spec.name.trim_end_matches("bias").to_owned() + "weight";
                let fan_in = all.iter().find(|other| other.name == weight).map_or(1, |other| fans(&other.shape).1);
                fill_uniform(values, fan_in, &mut stream);
            }
        },
        ParameterKind::NormScale if initialisation == OpenLth => values.fill_with(|| stream.random()),
        ParameterKind::NormScale => values.fill(1.0),
        ParameterKind::NormShift => values.fill(0.0),
    }
}

/// Outputs and inputs that one weight `(O, I, …)` has a part in.
fn fans(shape: &[usize]) -> (usize, usize) {
    let taps: usize = shape[2..].iter().product();
    (shape[0] * taps, shape[1] * taps)
}

fn fill_normal(values: &mut [f32], deviation: f64, stream: &mut seed::Stream) {
    values.fill_with(|| {
        let normal: f64 = StandardNormal.sample(stream);
        (deviation * normal) as f32
    });
}

fn fill_uniform(values: &mut [f32], fan_in: usize, stream: &mut seed::Stream) {
    let bound = 1.0 / (fan_in as f32).sqrt();
    values.fill_with(|| stream.random_range(-bound..=bound));
}
