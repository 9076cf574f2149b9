//! What is kept of a network's activations at a stage: their U-centred Gram matrix, from which any
//! two networks' CKA follows.

use candle_core::{Device, Tensor};

use crate::error::{Result, undefined};
use crate::explain::tcav::gram::{Rows, gram_on};
use crate::model::Stage;
use crate::nn::Compute;
use crate::records::RepresentationRecord;
use crate::stats::StatsError;
use crate::stats::representation::{LEAST_IMAGES, centred};

/// Images that count: the Gram matrix grows with their square.
const IMAGES: usize = 256;
/// Activations that are kept until the Gram matrix is made.
const BYTES: usize = 1 << 30;

/// Activations of the first images at one stage.
pub(super) struct Activations {
    stage: Stage,
    features: usize,
    images: usize,
    values: Vec<f32>,
}

impl Activations {
    /// Of at most so many images.
    pub(super) fn new(stage: Stage, features: usize, images: usize) -> Self {
        let fit = (BYTES / (size_of::<f32>() * features.max(1))).max(LEAST_IMAGES);
        Self { stage, features, images: images.min(IMAGES).min(fit), values: Vec::new() }
    }

    /// Images that are still wanted.
    pub(super) fn missing(&self) -> usize {
        self.images - self.values.len() / self.features.max(1)
    }

    /// Adds the next images' activations `(N, …)`, as far as they are wanted.
    pub(super) fn add(&mut self, activation: &Tensor) -> Result<()> {
        let count = self.missing().min(activation.dim(0)?);
        if count > 0 {
            self.values.extend(activation.narrow(0, 0, count)?.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(())
    }

    /// The record and `(n (n − 1) / 2)` values; none where the activations are too few or all alike.
    pub(super) fn centred(&self, compute: &Compute) -> Result<Option<(RepresentationRecord, Tensor)>> {
        let gram = gram_on(compute, Rows::new(&self.values, self.features)?)?;
        let values: Vec<f32> = match centred(gram.as_slice(), gram.nrows()) {
            Ok(values) => values.into_iter().map(|value| value as f32).collect(),
            Err(StatsError::TooFew { .. } | StatsError::ZeroVariance { .. }) => return Ok(None),
            Err(error) => return Err(undefined("representation")(error)),
        };
        let count = values.len();
        let record = RepresentationRecord { stage: self.stage, images: gram.nrows() };
        Ok(Some((record, Tensor::from_vec(values, count, &Device::Cpu)?)))
    }
}
