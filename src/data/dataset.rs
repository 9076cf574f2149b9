//! The data set: images that stay small in memory, or in their files, and become normalised
//! `(N, C, H, W)` tensors batch by batch.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{Device, Tensor};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::data::pictures::{Augmentation, Crop, PictureStore, shifted};
use crate::data::{Labels, Normalisation, Origin, Preprocess};
use crate::error::{Error, Result};

/// Where the bytes are.
#[derive(Debug)]
enum Pixels {
    /// All images, `(N, C, H, W)`.
    Bytes(Vec<u8>),
    /// Files, decoded when asked for.
    Pictures(PictureStore),
}

/// Images of one shape with two labellings: `labels`, what the network learns, and `fine`, the
/// classes as given (digits, species), which also serve as concepts.
#[derive(Debug, Clone)]
pub struct Dataset {
    name: String,
    shape: (usize, usize, usize),
    pixels: Arc<Pixels>,
    augmentation: Option<Augmentation>,
    normalisation: Normalisation,
    tables: Vec<[f32; 256]>,
    labels: Labels,
    fine: Labels,
    origins: Vec<Origin>,
}

impl Dataset {
    /// Byte images `(N, C, H, W)` in memory, with the classes as given and each image's official part.
    ///
    /// # Errors
    /// If the number of pixels, labels or origins does not fit the shape `(C, H, W)`, or the
    /// normalisation its channels.
    pub fn new(
        name: &str,
        shape: (usize, usize, usize),
        pixels: Vec<u8>,
        normalisation: Normalisation,
        fine: Labels,
        origins: Vec<Origin>,
    ) -> Result<Self> {
        let (count, size) = (fine.values.len(), shape.0 * shape.1 * shape.2);
        if size == 0 || pixels.len() != count * size || origins.len() != count {
            return Err(Error::input(format!(
                "data set {name}: {} pixels and {} origins do not make {count} images of shape {shape:?}",
                pixels.len(),
                origins.len()
            )));
        }
        Self::assemble(name, shape, Pixels::Bytes(pixels), normalisation, fine, origins)
    }

    /// Picture files (PNG, JPEG), decoded in parallel when asked for and prepared as `preprocess`
    /// says, which must have a size. Decoded pictures are kept, up to `cache_bytes`.
    ///
    /// # Errors
    /// Names every file that is missing or empty; and as [`Dataset::new`].
    pub fn from_pictures(
        name: &str,
        paths: Vec<PathBuf>,
        preprocess: Preprocess,
        cache_bytes: usize,
        fine: Labels,
        origins: Vec<Origin>,
    ) -> Result<Self> {
        if paths.len() != fine.values.len() || origins.len() != paths.len() {
            return Err(Error::input(format!(
                "data set {name}: {} labels and {} origins for {} pictures",
                fine.values.len(),
                origins.len(),
                paths.len()
            )));
        }
        let normalisation = preprocess.normalisation.clone();
        let side = preprocess.crop.unwrap_or(0);
        let store = PictureStore::new(name, paths, preprocess, cache_bytes)?;
        let shape = (normalisation.channels(), side, side);
        Self::assemble(name, shape, Pixels::Pictures(store), normalisation, fine, origins)
    }

    fn assemble(
        name: &str,
        shape: (usize, usize, usize),
        pixels: Pixels,
        normalisation: Normalisation,
        fine: Labels,
        origins: Vec<Origin>,
    ) -> Result<Self> {
        if normalisation.channels() != shape.0 {
            return Err(Error::input(format!(
                "data set {name}: mean and std are for {} channels, images have {}",
                normalisation.channels(),
                shape.0
            )));
        }
        Ok(Self {
            name: name.to_string(),
            shape,
            pixels: Arc::new(pixels),
            augmentation: None,
            tables: normalisation.tables(),
            normalisation,
            labels: fine.clone(),
            fine,
            origins,
        })
    }

    /// The same pictures (shared, not copied), varied in training.
    ///
    /// # Errors
    /// If parts are asked for and the images are not picture files, the smallest area is not in (0,
    /// 1], or the padding is larger than the images.
    pub fn with_augmentation(mut self, augmentation: Augmentation) -> Result<Self> {
        match augmentation.crop {
            Crop::Part { .. } if !matches!(*self.pixels, Pixels::Pictures(_)) => {
                let what = format!("{} is not made of picture files, so no part of one can be stretched", self.name);
                return Err(Error::input(what));
            }
            Crop::Part { min_area } if !(min_area > 0.0 && min_area <= 1.0) => {
                return Err(Error::input(format!("smallest part of a training image: {min_area} is not in (0, 1]")));
            }
            Crop::Shift { padding } if padding > self.shape.1.min(self.shape.2) => {
                return Err(Error::input(format!(
                    "shift of training images: {padding} pixels are more than they have"
                )));
            }
            _ => {}
        }
        self.augmentation = Some(augmentation);
        Ok(self)
    }

    /// Some images only, in the order asked for, with their classes as given; these are also what is learned.
    pub(crate) fn select(&self, indices: &[usize], fine: Labels) -> Self {
        let pixels = match &*self.pixels {
            Pixels::Bytes(pixels) => {
                Pixels::Bytes(indices.iter().flat_map(|&i| self.stored(pixels, i)).copied().collect())
            }
            Pixels::Pictures(store) => Pixels::Pictures(store.select(indices)),
        };
        let origins = indices.iter().map(|&i| self.origins[i]).collect();
        Self { pixels: Arc::new(pixels), labels: fine.clone(), fine, origins, ..self.clone() }
    }

    /// The same images with other labels to learn.
    ///
    /// # Errors
    /// If there is not one label for each image.
    pub fn with_labels(mut self, labels: Labels) -> Result<Self> {
        if labels.values.len() != self.len() {
            return Err(Error::input(format!(
                "data set {}: {} labels for {} images",
                self.name,
                labels.values.len(),
                self.len()
            )));
        }
        self.labels = labels;
        Ok(self)
    }

    /// The data set's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many images there are.
    pub fn len(&self) -> usize {
        self.origins.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.origins.is_empty()
    }

    /// `(C, H, W)` of every image.
    pub fn shape(&self) -> (usize, usize, usize) {
        self.shape
    }

    /// What the network learns.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// The classes as given.
    pub fn fine(&self) -> &Labels {
        &self.fine
    }

    /// Each image's official part.
    pub fn origins(&self) -> &[Origin] {
        &self.origins
    }

    /// How pixels are normalised.
    pub fn normalisation(&self) -> &Normalisation {
        &self.normalisation
    }

    /// The bytes `(C, H, W)` of one image as evaluated, not normalised: for showing it.
    ///
    /// # Errors
    /// If its picture file cannot be read.
    pub fn bytes(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        match &*self.pixels {
            Pixels::Bytes(pixels) => Ok(Cow::Borrowed(self.stored(pixels, index))),
            Pixels::Pictures(store) => store.evaluated(index).map(Cow::Owned),
        }
    }

    fn stored<'a>(&self, pixels: &'a [u8], index: usize) -> &'a [u8] {
        let size = self.image_size();
        &pixels[index * size..(index + 1) * size]
    }

    /// The file of one image, if images are picture files.
    pub fn path(&self, index: usize) -> Option<&Path> {
        match &*self.pixels {
            Pixels::Bytes(_) => None,
            Pixels::Pictures(store) => Some(store.path(index)),
        }
    }

    /// How picture files are prepared, if images are picture files; with a picture's own size it
    /// gives a [`crate::data::Placement`].
    pub fn preprocess(&self) -> Option<&Preprocess> {
        match &*self.pixels {
            Pixels::Bytes(_) => None,
            Pixels::Pictures(store) => Some(store.preprocess()),
        }
    }

    fn image_size(&self) -> usize {
        self.shape.0 * self.shape.1 * self.shape.2
    }

    /// Writes the normalised images into `out`, as `(N, C, H, W)`, as evaluated.
    ///
    /// # Errors
    /// If `out` does not have room for exactly these images, an index is out of range, or a picture
    /// file cannot be read.
    pub fn write_nchw(&self, indices: &[usize], out: &mut [f32]) -> Result<()> {
        self.write(indices, None, out)
    }

    /// Writes the normalised images into `out`, as `(N, C, H, W)`, as trained on in `epoch`: varied by the data set's
    /// [`Augmentation`], if it has one, else as evaluated.
    ///
    /// # Errors
    /// As [`Dataset::write_nchw`].
    pub fn write_training(&self, indices: &[usize], epoch: u64, out: &mut [f32]) -> Result<()> {
        self.write(indices, self.augmentation.as_ref().map(|a| (a, epoch)), out)
    }

    fn write(&self, indices: &[usize], varied: Option<(&Augmentation, u64)>, out: &mut [f32]) -> Result<()> {
        let size = self.image_size();
        if out.len() != indices.len() * size {
            return Err(Error::input(format!(
                "data set {}: a batch of {} images needs {} values, got {}",
                self.name,
                indices.len(),
                indices.len() * size,
                out.len()
            )));
        }
        if let Some(bad) = indices.iter().find(|&&i| i >= self.len()) {
            return Err(Error::input(format!(
                "data set {}: image {bad} is out of range: there are {}",
                self.name,
                self.len()
            )));
        }
        match &*self.pixels {
            Pixels::Bytes(pixels) => {
                for (&index, image) in indices.iter().zip(out.chunks_exact_mut(size)) {
                    let stored = self.stored(pixels, index);
                    match varied {
                        None => self.normalise(stored, image),
                        Some((how, epoch)) => self.normalise(&shifted(stored, self.shape, how, epoch, index), image),
                    }
                }
                Ok(())
            }
            Pixels::Pictures(store) => {
                let one = |(&index, image): (&usize, &mut [f32])| -> Result<()> {
                    let bytes = match varied {
                        None => store.evaluated(index)?,
                        Some((augmentation, epoch)) => store.augmented(index, epoch, augmentation)?,
                    };
                    self.normalise(&bytes, image);
                    Ok(())
                };
                // The first broken picture in the order asked for is the one reported, whichever thread met it.
                let all: Vec<Result<()>> = indices.par_iter().zip(out.par_chunks_exact_mut(size)).map(one).collect();
                all.into_iter().collect()
            }
        }
    }

    fn normalise(&self, bytes: &[u8], image: &mut [f32]) {
        let plane = self.shape.1 * self.shape.2;
        let planes = bytes.chunks_exact(plane).zip(image.chunks_exact_mut(plane));
        for ((bytes, floats), table) in planes.zip(&self.tables) {
            for (&byte, float) in bytes.iter().zip(floats) {
                *float = table[byte as usize];
            }
        }
    }

    /// The normalised images as a tensor `(N, C, H, W)` of f32.
    ///
    /// # Errors
    /// As [`Dataset::write_nchw`], or if the device cannot hold the tensor.
    pub fn batch(&self, indices: &[usize], device: &Device) -> Result<Tensor> {
        let mut values = vec![0.0; indices.len() * self.image_size()];
        self.write_nchw(indices, &mut values)?;
        let (c, h, w) = self.shape;
        Ok(Tensor::from_vec(values, (indices.len(), c, h, w), device)?)
    }

    /// SHA-256 of one image's content (its bytes, or its file's): equal for equal pictures, wherever they stand.
    pub fn content(&self, index: usize) -> [u8; 32] {
        match &*self.pixels {
            Pixels::Bytes(pixels) => Sha256::digest(self.stored(pixels, index)).into(),
            Pixels::Pictures(store) => store.content(index),
        }
    }

    /// SHA-256, in hex, over shape, contents, labels and official parts of all images.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(format!("{:?} {:?} {:?}", self.shape, self.fine.names, self.labels.names));
        for index in 0..self.len() {
            hash.update(self.content(index));
            hash.update(self.fine.values[index].to_le_bytes());
            hash.update(self.labels.values[index].to_le_bytes());
            hash.update([self.origins[index] as u8]);
        }
        crate::digest::hex(hash)
    }
}
