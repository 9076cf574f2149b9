//! From bytes to the values that a network was trained on.

use crate::error::{Error, Result};

/// Per-channel normalisation of pixels in `[0, 1]`: `(x / 255 - mean) / std`.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalisation {
    mean: Vec<f32>,
    std: Vec<f32>,
}

impl Normalisation {
    /// One mean and one standard deviation per channel, in units of the full pixel range.
    ///
    /// # Errors
    /// If the two differ in length, are empty, or a value is not finite, or a standard deviation is not positive.
    pub fn new(mean: &[f32], std: &[f32]) -> Result<Self> {
        if mean.is_empty() || mean.len() != std.len() {
            return Err(Error::input(format!(
                "mean and std: one value for each channel, got {} and {}",
                mean.len(),
                std.len()
            )));
        }
        if let Some(bad) = mean.iter().find(|m| !m.is_finite()) {
            return Err(Error::input(format!("mean: {bad} is not finite")));
        }
        if let Some(bad) = std.iter().find(|s| !(s.is_finite() && **s > 0.0)) {
            return Err(Error::input(format!("std: {bad} is not a positive number")));
        }
        Ok(Self { mean: mean.to_vec(), std: std.to_vec() })
    }

    /// MNIST digits: mean 0.1307, standard deviation 0.3081, one channel.
    pub fn mnist() -> Self {
        Self { mean: vec![0.1307], std: vec![0.3081] }
    }

    /// Fashion-MNIST: mean 0.2860, standard deviation 0.3530, one channel.
    pub fn fashion_mnist() -> Self {
        Self { mean: vec![0.2860], std: vec![0.3530] }
    }

    /// ImageNet, as torchvision's pretrained models expect it, three channels.
    pub fn imagenet() -> Self {
        Self { mean: vec![0.485, 0.456, 0.406], std: vec![0.229, 0.224, 0.225] }
    }

    /// How many channels it is for.
    pub fn channels(&self) -> usize {
        self.mean.len()
    }

    /// The mean of each channel.
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// The standard deviation of each channel.
    pub fn std(&self) -> &[f32] {
        &self.std
    }

    /// The normalised value of a byte pixel of `channel`.
    pub fn apply(&self, channel: usize, pixel: u8) -> f32 {
        (f32::from(pixel) / 255.0 - self.mean[channel]) / self.std[channel]
    }

    /// Normalised values of all 256 bytes, channel after channel: bytes become floats by table.
    pub(super) fn tables(&self) -> Vec<[f32; 256]> {
        (0..self.channels()).map(|c| std::array::from_fn(|byte| self.apply(c, byte as u8))).collect()
    }
}
