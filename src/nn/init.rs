//! Initial values, as torchvision sets them.

use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::seed;

use super::layout::{BufferKind, ParameterKind, TensorSpec, Weights};
use super::network::Network;

impl Network {
    /// Fresh weights for a seed: convolutions Kaiming normal, fan-out, gain √2 (He et al. 2015, eq. 10 with fan-out);
    /// linear layers uniform in ±1/√fan_in (PyTorch's default); batch norm γ = 1, β = 0, mean 0, variance 1. Each tensor
    /// draws from a stream of its own, so its values do not depend on the other tensors.
    pub fn initialise(&self, seed: u64) -> Weights {
        let mut weights = Weights::zeros(self.layout.clone());
        for index in 0..self.layout.parameters.len() {
            let spec = &self.layout.parameters[index];
            initialise_parameter(spec, &self.layout.parameters, seed, &mut weights.parameters[spec.range.clone()]);
        }
        for spec in &self.layout.buffers {
            let value = match spec.kind {
                BufferKind::RunningMean => 0.0,
                BufferKind::RunningVariance => 1.0,
            };
            weights.buffers[spec.range.clone()].fill(value);
        }
        weights
    }
}

/// Draws the initial values of one parameter (see [`Network::initialise`]); also used for a new head on old weights.
pub fn initialise_parameter(
    spec: &TensorSpec<ParameterKind>,
    all: &[TensorSpec<ParameterKind>],
    seed: u64,
    values: &mut [f32],
) {
    let mut stream = seed::stream(seed, &format!("init/{}", spec.name), 0);
    match spec.kind {
        ParameterKind::ConvolutionWeight => {
            let fan_out = spec.shape[0] * spec.shape[2] * spec.shape[3];
            let deviation = (2.0 / fan_out as f64).sqrt();
            values.fill_with(|| {
                let normal: f64 = StandardNormal.sample(&mut stream);
                (deviation * normal) as f32
            });
        }
        ParameterKind::LinearWeight => fill_uniform(values, spec.shape[1], &mut stream),
        ParameterKind::LinearBias => {
            // A bias shares the fan-in of the weight of its layer.
            let weight = spec.name.trim_end_matches("bias").to_owned() + "weight";
            let fan_in = all.iter().find(|other| other.name == weight).map_or(1, |other| other.shape[1]);
            fill_uniform(values, fan_in, &mut stream);
        }
        ParameterKind::NormScale => values.fill(1.0),
        ParameterKind::NormShift => values.fill(0.0),
    }
}

fn fill_uniform(values: &mut [f32], fan_in: usize, stream: &mut seed::Stream) {
    let bound = 1.0 / (fan_in as f32).sqrt();
    values.fill_with(|| stream.random_range(-bound..=bound));
}
