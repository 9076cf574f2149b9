//! Local drift between checkpoints from outside: their Grad-CAM maps of the same images, one target class for each image.

use crate::data::ImageSource;
use crate::error::{Error, Result};
use crate::model::{Checkpoint, Stage};
use crate::nn::predicted_class;
use crate::stats::similarity::{Measure, Similarity};

use super::cut::Targets;
use super::saliency::grad_cam;
use super::stream::explain_in_batches;

/// Raw maps of one checkpoint on a source's images.
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
        let mut all = Self { size: [0, 0], maps: Vec::new(), predicted: Vec::new() };
        for explained in explain_in_batches(checkpoint, source, stage, targets, batch)? {
            let explained = explained?;
            let raw = grad_cam(&explained.activation, &explained.gradient)?.raw;
            let (count, height, width) = raw.dims3()?;
            all.size = [height, width];
            all.maps.extend(raw.flatten_from(1)?.to_vec2::<f32>()?);
            all.predicted.extend(explained.logits.to_vec2::<f32>()?.iter().map(|row| predicted_class(row)));
            progress(count);
        }
        Ok(all)
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
        let [height, width] = self.size;
        let pairs = self.maps.iter().zip(&other.maps);
        pairs
            .map(|(a, b)| {
                measure
                    .drift(a, b, height, width)
                    .map(Similarity::value)
                    .map_err(|error| Error::statistics("drift", error.to_string()))
            })
            .collect()
    }
}
