//! What training, evaluation and explanation read: labelled images by index.

use candle_core::{Device, Tensor};

use crate::error::Result;

use super::Dataset;

/// Labelled images of one shape.
pub trait Images: Sync {
    /// Number of images.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `(C, H, W)` of every image.
    fn shape(&self) -> (usize, usize, usize);

    /// Class of an image.
    fn label(&self, index: usize) -> usize;

    /// Writes the images `indices`, normalised, as `(N, C, H, W)`. `epoch` is given in training, so
    /// that augmentation is a function of (image, epoch); without it the image is as evaluated.
    ///
    /// # Errors
    /// When an image cannot be read.
    fn read(&self, indices: &[usize], epoch: Option<u64>, target: &mut [f32]) -> Result<()>;

    /// The images `indices` as a tensor `(N, C, H, W)`, as evaluated.
    ///
    /// # Errors
    /// When an image cannot be read.
    fn tensor(&self, indices: &[usize]) -> Result<Tensor> {
        let (channels, height, width) = self.shape();
        let mut pixels = vec![0.0; indices.len() * channels * height * width];
        self.read(indices, None, &mut pixels)?;
        Ok(Tensor::from_vec(pixels, (indices.len(), channels, height, width), &Device::Cpu)?)
    }
}

impl Images for Dataset {
    fn len(&self) -> usize {
        Dataset::len(self)
    }

    fn shape(&self) -> (usize, usize, usize) {
        Dataset::shape(self)
    }

    fn label(&self, index: usize) -> usize {
        self.labels().values()[index] as usize
    }

    fn read(&self, indices: &[usize], epoch: Option<u64>, target: &mut [f32]) -> Result<()> {
        match epoch {
            None => self.write_nchw(indices, target),
            Some(epoch) => self.write_training(indices, epoch, target),
        }
    }
}

/// Some images of a larger set, renumbered from 0.
pub struct Subset<'a> {
    images: &'a dyn Images,
    indices: &'a [usize],
}

impl<'a> Subset<'a> {
    /// The images `indices` of `images`, in that order.
    pub fn new(images: &'a dyn Images, indices: &'a [usize]) -> Self {
        Self { images, indices }
    }
}

impl Images for Subset<'_> {
    fn len(&self) -> usize {
        self.indices.len()
    }

    fn shape(&self) -> (usize, usize, usize) {
        self.images.shape()
    }

    fn label(&self, index: usize) -> usize {
        self.images.label(self.indices[index])
    }

    fn read(&self, indices: &[usize], epoch: Option<u64>, target: &mut [f32]) -> Result<()> {
        let inner: Vec<usize> = indices.iter().map(|&index| self.indices[index]).collect();
        self.images.read(&inner, epoch, target)
    }
}
