//! The device of a build without the feature `cuda`: it cannot be opened, and so nothing else can be called.

use super::{Clock, HostGradients, Pass, Precision, Program, Rule, Wanted};
use crate::error::{Error, Result};

#[derive(Clone, Copy, Debug)]
enum Never {}

/// An opened device.
#[derive(Clone, Debug)]
pub struct Engine(Never);
/// A network's flat parameters and buffers on a device.
pub struct DeviceWeights(Never);
/// The result of a forward pass on a device.
pub struct DeviceTape(Never);
/// A training run on a device.
pub struct Trainer(Never);

impl Engine {
    /// Opens a device.
    ///
    /// # Errors
    /// Always: this build has no device.
    pub fn open(_: usize, _: Precision) -> Result<Self> {
        Err(Error::input("this program was built without CUDA (cargo feature `cuda`)"))
    }

    /// Another engine on the same device.
    ///
    /// # Errors
    /// None.
    pub fn with_precision(&self, _: Precision) -> Result<Self> {
        match self.0 {}
    }

    /// The device's name.
    pub fn name(&self) -> &str {
        match self.0 {}
    }

    /// Device, driver, libraries and precision, in one line.
    pub fn description(&self) -> String {
        match self.0 {}
    }

    /// How it computes.
    pub fn precision(&self) -> Precision {
        match self.0 {}
    }

    /// Copies flat weights to the device.
    ///
    /// # Errors
    /// None.
    pub fn load(&self, _: &[f32], _: &[f32]) -> Result<DeviceWeights> {
        match self.0 {}
    }

    /// Runs a program on images `(N, C, H, W)`.
    ///
    /// # Errors
    /// None.
    pub fn forward(&self, _: &Program, _: Pass, _: &DeviceWeights, _: &[f32]) -> Result<DeviceTape> {
        match self.0 {}
    }

    /// The output of a tape, `(N, C, H, W)`.
    ///
    /// # Errors
    /// None.
    pub fn output(&self, _: &Program, _: &DeviceTape) -> Result<Vec<f32>> {
        match self.0 {}
    }

    /// Runs a tape backward; the gradients of parameters and input.
    ///
    /// # Errors
    /// None.
    pub fn backward(
        &self,
        _: &Program,
        _: DeviceTape,
        _: &DeviceWeights,
        _: &[f32],
        _: Wanted,
    ) -> Result<HostGradients> {
        match self.0 {}
    }

    /// Seconds of the forward and of the backward pass.
    ///
    /// # Errors
    /// None.
    #[expect(clippy::too_many_arguments, reason = "as with a device")]
    pub fn time(
        &self,
        _: &Program,
        _: Pass,
        _: Option<Wanted>,
        _: &DeviceWeights,
        _: &[f32],
        _: usize,
        _: Clock,
    ) -> Result<(Vec<f64>, Vec<f64>)> {
        match self.0 {}
    }

    /// Starts a training run.
    ///
    /// # Errors
    /// None.
    pub fn trainer(&self, _: Program, _: &[f32], _: &[f32], _: Option<&[u8]>, _: Rule, _: f32) -> Result<Trainer> {
        match self.0 {}
    }

    /// Inner products of rows, `(m, n)` row by row.
    ///
    /// # Errors
    /// None.
    pub fn row_products(&self, _: &[f32], _: Option<&[f32]>, _: usize) -> Result<Vec<f64>> {
        match self.0 {}
    }
}

impl Trainer {
    /// Forward and backward pass on a batch.
    ///
    /// # Errors
    /// None.
    pub fn gradient_of(&mut self, _: &[f32], _: &[u32]) -> Result<()> {
        match self.0 {}
    }

    /// The optimiser's step.
    ///
    /// # Errors
    /// None.
    pub fn update(&mut self, _: f32) -> Result<()> {
        match self.0 {}
    }

    /// The loss of the oldest step that was not yet asked for.
    ///
    /// # Errors
    /// None.
    pub fn loss(&mut self) -> Result<Option<f64>> {
        match self.0 {}
    }

    /// The gradient of the last batch.
    ///
    /// # Errors
    /// None.
    pub fn gradient(&self) -> Result<Vec<f32>> {
        match self.0 {}
    }

    /// Replaces the gradient of the last batch.
    ///
    /// # Errors
    /// None.
    pub fn set_gradient(&mut self, _: &[f32]) -> Result<()> {
        match self.0 {}
    }

    /// Copies parameters and buffers to the host.
    ///
    /// # Errors
    /// None.
    pub fn read(&self, _: &mut [f32], _: &mut [f32]) -> Result<()> {
        match self.0 {}
    }
}
