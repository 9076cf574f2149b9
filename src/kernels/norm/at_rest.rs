//! Batch normalisation with given statistics, in the place of its input: of whole maps, or of what
//! a product is about to write.

use super::{NormShape, Pieces, each_row, normalised, rectified, scales};
use crate::simd::versions;
use rayon::prelude::*;

versions! {
    /// `values = relu((values − centre)·scale + shift + residual)` for rows of `length`, with one
    /// value of each term a channel.
    fn in_place(values: &mut [f32], length: usize, terms: [&[f32]; 3], residual: Option<&[f32]>, relu: bool) {
        let rows = values.chunks_mut(length).zip(each_row(terms));
        match residual {
            None => {
                for (values, terms) in rows {
                    for value in values {
                        *value = rectified(normalised(*value, terms), relu);
                    }
                }
            }
            Some(residual) => {
                for ((values, terms), residual) in rows.zip(residual.chunks(length)) {
                    for (value, residual) in values.iter_mut().zip(residual) {
                        *value = rectified(normalised(*value, terms) + residual, relu);
                    }
                }
            }
        }
    }
}

/// `relu(gamma·(z − mean)/√(var + eps) + beta + residual)` with statistics that are constants, and
/// terms for each channel.
#[derive(Debug)]
pub struct AtRest<'a> {
    pub(crate) centre: &'a [f32],
    pub(crate) scale: Vec<f32>,
    pub(crate) shift: &'a [f32],
    pub(crate) residual: Option<&'a [f32]>,
    pub(crate) relu: bool,
}

impl<'a> AtRest<'a> {
    /// Without `relu` the outer function is the identity; `residual` lies as z does.
    #[must_use]
    pub fn new(
        gamma: &[f32],
        beta: &'a [f32],
        running_mean: &'a [f32],
        running_var: &[f32],
        eps: f32,
        residual: Option<&'a [f32]>,
        relu: bool,
    ) -> Self {
        for (values, name) in [(beta, "beta"), (running_mean, "mean"), (running_var, "var")] {
            assert_eq!(values.len(), gamma.len(), "batch_norm: {name} length");
        }
        Self { centre: running_mean, scale: scales(gamma, running_var, eps), shift: beta, residual, relu }
    }

    /// Of whole maps of `batch` images.
    pub fn apply(&self, z: &mut [f32], batch: usize) {
        let pieces = Pieces::new(NormShape { channels: self.scale.len(), batch }, z.len(), "batch_norm: z");
        self.check(self.scale.len(), z.len());
        if z.is_empty() {
            return;
        }
        z.par_chunks_mut(pieces.size).enumerate().with_min_len(pieces.together()).for_each(|(nth, z)| {
            let terms = [self.centre, &self.scale, self.shift].map(|term| pieces.of(term, nth));
            let residual = self.residual.map(|residual| &residual[nth * pieces.size..][..z.len()]);
            in_place(z, pieces.length, terms, residual, self.relu);
        });
    }

    /// Asserts that it is one of maps of `channels` channels and `length` values.
    pub(crate) fn check(&self, channels: usize, length: usize) {
        assert_eq!(self.scale.len(), channels, "batch_norm: channels");
        assert_eq!(self.residual.map_or(length, <[f32]>::len), length, "batch_norm: residual length");
    }
}
