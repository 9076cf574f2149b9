//! Where a network computes: on the CPU's kernels, or on an opened device.

use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::kernels::device::{DeviceWeights, Engine, Precision};

use super::layout::Weights;

/// Where a network computes.
#[derive(Clone, Debug, Default)]
pub enum Compute {
    /// On this machine's processor; bit-equal for any number of threads.
    #[default]
    Cpu,
    /// On a device; repeatable on one device with one driver and one cuDNN, and equal to the CPU up to rounding.
    Device(Arc<Accelerator>),
}

/// An opened device: one engine that trains, and one that evaluates and explains, which never rounds its maps.
#[derive(Debug)]
pub struct Accelerator {
    training: Engine,
    exact: Engine,
    /// The weights that were used last, on the device. While this holds the `Arc`, nothing can
    /// change what it points to.
    resident: Mutex<Option<Resident>>,
}

struct Resident {
    weights: Arc<Weights>,
    on_device: Arc<DeviceWeights>,
}

impl std::fmt::Debug for Resident {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("weights on a device")
    }
}

impl Compute {
    /// Opens `cpu`, `cuda` (the first device) or `cuda:N`.
    ///
    /// # Errors
    /// The name is unknown, or what is missing for it is named.
    pub fn open(name: &str, precision: Precision) -> Result<Self> {
        let ordinal = match name.split_once(':') {
            _ if name == "cpu" => return Ok(Compute::Cpu),
            None if name == "cuda" => 0,
            Some(("cuda", number)) => number
                .parse()
                .map_err(|_| Error::input(format!("`{number}` is no device number, expected cuda:0, cuda:1, …")))?,
            _ => return Err(Error::input("expected cpu, cuda or cuda:N")),
        };
        let training = Engine::open(ordinal, precision)?;
        let exact = training.with_precision(if precision == Precision::Bf16 { Precision::Tf32 } else { precision })?;
        Ok(Compute::Device(Arc::new(Accelerator { training, exact, resident: Mutex::default() })))
    }

    /// `cpu`, or the device with its driver, libraries and precision.
    pub fn description(&self) -> String {
        match self {
            Compute::Cpu => "cpu".into(),
            Compute::Device(device) => device.training.description(),
        }
    }

    /// The device, unless it is the CPU.
    pub fn device(&self) -> Option<&Arc<Accelerator>> {
        match self {
            Compute::Cpu => None,
            Compute::Device(device) => Some(device),
        }
    }
}

impl Accelerator {
    /// The engine that trains.
    pub fn training(&self) -> &Engine {
        &self.training
    }

    /// The engine that evaluates and explains.
    pub fn exact(&self) -> &Engine {
        &self.exact
    }

    /// `weights` on the device; copied there unless they were the last ones.
    pub(super) fn resident(&self, weights: &Arc<Weights>) -> Result<Arc<DeviceWeights>> {
        let mut last = self.resident.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = &*last
            && Arc::ptr_eq(&last.weights, weights)
        {
            return Ok(last.on_device.clone());
        }
        let on_device = Arc::new(self.exact.load(&weights.parameters, &weights.buffers)?);
        *last = Some(Resident { weights: weights.clone(), on_device: on_device.clone() });
        Ok(on_device)
    }
}
