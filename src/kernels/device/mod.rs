//! A GPU as a second place to compute: a network's operations ([`Program`]) run on it forward and
//! backward, it trains, and it multiplies rows. Everything else of the crate asks for it through
//! this module, which is the same in every build: without the feature `cuda`, [`Engine::open`] is
//! an error and nothing else can be reached.
//!
//! Convolutions are cuDNN's; the rest is `cuda/kernels.cu`, compiled when a device is opened.
//! Driver, cuDNN and NVRTC are loaded at run time, so one program runs with and without them.
//!
//! Values go in and come out as `f32` in `(N, C, H, W)`; how they lie on the device is the engine's
//! business: planar for [`Precision::F32`], channels innermost for the others, whose products run
//! on tensor cores.

mod program;

#[cfg(not(feature = "cuda"))]
mod absent;
#[cfg(feature = "cuda")]
mod cuda;

#[cfg(not(feature = "cuda"))]
pub use absent::{DeviceTape, DeviceWeights, Engine, Trainer};
#[cfg(feature = "cuda")]
pub use cuda::{DeviceTape, DeviceWeights, Engine, Trainer};
pub use program::{NormPlaces, Operation, Pass, Program, Rule, Wanted};

use serde::{Deserialize, Serialize};

/// Gradients back on the host, as far as they were wanted: of the flat parameters, and of a
/// section's input `(N, C, H, W)`.
pub type HostGradients = (Option<Vec<f32>>, Option<Vec<f32>>);

/// How a device computes the products of a network; sums of batch norm, losses, the linear layer
/// and optimiser steps are exact in every case (f32, with f64 sums).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// f32 throughout.
    #[default]
    F32,
    /// f32 in memory; convolutions round their factors to TF32 (10 bits).
    Tf32,
    /// Training keeps maps in bfloat16 and convolves them with f32 sums; weights, statistics and
    /// steps stay f32. Evaluating and explaining run as [`Precision::Tf32`].
    Bf16,
}

/// Whose clock a timing is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The device's: what the host takes to ask for the work does not count.
    Device,
    /// The host's: from asking to done.
    Host,
}

impl Precision {
    /// The name in plans.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Tf32 => "tf32",
            Precision::Bf16 => "bf16",
        }
    }
}
