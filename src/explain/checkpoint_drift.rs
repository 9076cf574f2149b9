//! Local drift between checkpoints from outside: their Grad-CAM maps of the same images, one target
//! class for each image.

use rayon::prelude::*;

use crate::data::ImageSource;
use crate::error::{Error, Result, undefined};
use crate::model::{Checkpoint, Stage};
use crate::nn::predicted_class;
use crate::stats::similarity::{Measure, Similarity};

use super::cut::Targets;
use super::saliency::grad_cam;
use super::stream::{ExplainedBatch, explain_in_batches};

/// Raw maps of one checkpoint on a source's images.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckpointMaps {
    /// Height and width of a map.
    pub size: [usize; 2],
    /// One raw map for each image.
    pub maps: Vec<Vec<f32>>,
    /// The class predicted for each image.
    pub predicted: Vec<usize>,
}

impl CheckpointMaps {
    /// Explains the logit of `targets` at `stage`, `batch` images at a time; `progress` hears how many were done.
    ///
    /// # Errors
    /// When the images or targets do not fit the network.
    pub fn new(
        checkpoint: &Checkpoint,
        source: &ImageSource,
        stage: Stage,
        targets: Targets<'_>,
        batch: usize,
        mut progress: impl FnMut(usize),
    ) -> Result<Self> {
        let mut all = Self::none();
        for explained in explain_in_batches(checkpoint, source, stage, targets, batch)? {
            let explained = explained?;
            all.add(&explained)?;
            progress(explained.images.len());
        }
        Ok(all)
    }

    /// Of no image yet.
    pub(super) fn none() -> Self {
        Self { size: [0, 0], maps: Vec::new(), predicted: Vec::new() }
    }

    /// Adds the Grad-CAM maps of a batch.
    pub(super) fn add(&mut self, explained: &ExplainedBatch) -> Result<()> {
        let raw = grad_cam(&explained.activation, &explained.gradient)?.raw;
        let (_, height, width) = raw.dims3()?;
        self.size = [height, width];
        self.maps.extend(raw.flatten_from(1)?.to_vec2::<f32>()?);
        self.predicted.extend(explained.logits.to_vec2::<f32>()?.iter().map(|row| predicted_class(row)));
        Ok(())
    }

    /// Drift of each image by `measure`; `None` where a map says nothing.
    ///
    /// # Errors
    /// When the maps differ in size: the networks have other shapes at this stage.
    pub fn drift(&self, other: &Self, measure: Measure) -> Result<Vec<Option<f64>>> {
        if self.size != other.size || self.maps.len() != other.maps.len() {
            return Err(Error::input(format!(
                "maps of {:?} and {:?} cannot be compared: the networks differ in resolution at this stage",
                self.size, other.size
            )));
        }
        map_drift(measure, self.size, &self.maps, &other.maps)
    }
}

/// Drift of each image's map by `measure`, maps of `[height, width]`; `None` where either says nothing.
///
/// # Errors
/// When a map is not finite or not of this size.
pub fn map_drift<T: Copy + Into<f64> + Sync>(
    measure: Measure,
    [height, width]: [usize; 2],
    first: &[Vec<T>],
    second: &[Vec<T>],
) -> Result<Vec<Option<f64>>> {
    let drift = |(a, b): (&Vec<T>, &Vec<T>)| {
        measure.drift(a, b, height, width).map(Similarity::value).map_err(undefined("drift of maps"))
    };
    // Collected first, so that the error is that of the first image that has one.
    first.par_iter().zip(second).map(drift).collect::<Vec<_>>().into_iter().collect()
}
