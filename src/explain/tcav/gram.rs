//! Inner products of activations: the Gram matrix `A Aᵀ` and the cross products `G Aᵀ`, in f64.
//!
//! A CAV lies in the span of its samples, so these two small matrices are all that TCAV needs of activations with up to
//! a million features. The product of two f32 is exact in f64; only the sums round. Every sum runs over the features in
//! the same order, whatever the thread count, the tile or the block an image came in.

use std::ops::Range;

use nalgebra::{DMatrix, DMatrixView, Dyn, MatrixView};
use rayon::prelude::*;

use crate::nn::{Accelerator, Compute};

/// Images per tile of the product: two tiles of one feature chunk fit into the second-level cache.
const TILE: usize = 128;
/// Features per partial sum; also the unit of parallel work.
const CHUNK: usize = 1024;
/// Partial sums alive at once: bounds memory to 64 × `TILE`² × 8 bytes = 8 MiB per tile.
const GROUP: usize = 64;
/// Both sides of a tile are padded with zeros to this multiple. It keeps every product on
/// nalgebra's blocked path, so that a sum does not depend on the tile's size; its other path (a
/// side of 5 or less) reads row-major views out of bounds (0.34.2).
const PAD: usize = 8;

/// What can be wrong with a matrix of activations or gradients.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GramError {
    /// The values do not fill whole rows.
    #[error("{values} values do not fill rows of {features} features")]
    Shape {
        /// Number of values given.
        values: usize,
        /// Features per row.
        features: usize,
    },
    /// Two matrices have different feature counts.
    #[error("rows of {left} features cannot be multiplied with rows of {right} features")]
    Features {
        /// Features of the left rows.
        left: usize,
        /// Features of the right rows.
        right: usize,
    },
    /// A block of a stream has another number of images than announced.
    #[error("{what} block {block}: {found} images, expected {expected}")]
    Block {
        /// `activation` or `gradient`.
        what: &'static str,
        /// Index of the block.
        block: usize,
        /// Images announced.
        expected: usize,
        /// Images delivered.
        found: usize,
    },
    /// An activation or gradient is NaN or infinite.
    #[error("{what} of image {index}: not finite")]
    NotFinite {
        /// `activation` or `gradient`.
        what: &'static str,
        /// Row of the first offending image.
        index: usize,
    },
    /// The device failed.
    #[error("{0}")]
    Device(String),
    /// What does not fit into memory cannot be kept in a file.
    #[error("{0}")]
    Kept(String),
}

/// A borrowed `(images, features)` matrix of f32, one image after the other: flattened activations or class gradients.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    values: &'a [f32],
    features: usize,
}

impl<'a> Rows<'a> {
    /// Views `values` as rows of `features` values.
    ///
    /// # Errors
    /// `features` is zero or does not divide the number of values.
    pub fn new(values: &'a [f32], features: usize) -> Result<Self, GramError> {
        if features == 0 || !values.len().is_multiple_of(features) {
            return Err(GramError::Shape { values: values.len(), features });
        }
        Ok(Self { values, features })
    }

    /// Number of rows.
    pub fn images(&self) -> usize {
        self.values.len() / self.features
    }

    /// The features `columns` of the images `rows` in f64, both padded with zeros to a multiple of [`PAD`].
    fn widen(&self, rows: Range<usize>, columns: Range<usize>) -> Vec<f64> {
        let width = columns.len().next_multiple_of(PAD);
        let mut wide = vec![0.0; rows.len().next_multiple_of(PAD) * width];
        for (target, row) in wide.chunks_exact_mut(width).zip(rows) {
            let start = row * self.features;
            let source = &self.values[start + columns.start..start + columns.end];
            for (wide, &narrow) in target.iter_mut().zip(source) {
                *wide = f64::from(narrow);
            }
        }
        wide
    }
}

/// The product of two tiles, zero rows of the padding included: `(left, features) · (right, features)ᵀ`.
fn multiply(left: &[f64], right: &[f64], features: usize) -> DMatrix<f64> {
    let (height, width) = (left.len() / features, right.len() / features);
    // A view with row stride `features` is the row-major matrix; the right one, read by column, is already transposed.
    assert!(height.min(width).min(features) >= PAD);
    let left = MatrixView::<f64, Dyn, Dyn, Dyn, Dyn>::from_slice_with_strides_generic(
        left,
        Dyn(height),
        Dyn(features),
        Dyn(features),
        Dyn(1),
    );
    let right = DMatrixView::from_slice(right, features, width);
    let mut product = DMatrix::zeros(height, width);
    product.gemm(1.0, &left, &right, 0.0);
    product
}

/// `left[rows] · right[columns]ᵀ`, padded; `right` is `None` for a tile on the diagonal, which is widened once.
fn tile(left: Rows<'_>, rows: &Range<usize>, right: Option<Rows<'_>>, columns: &Range<usize>) -> DMatrix<f64> {
    let features = left.features;
    let partial = |chunk: usize| {
        let range = chunk * CHUNK..((chunk + 1) * CHUNK).min(features);
        let width = range.len().next_multiple_of(PAD);
        let a = left.widen(rows.clone(), range.clone());
        let b = right.map(|right| right.widen(columns.clone(), range));
        multiply(&a, b.as_ref().unwrap_or(&a), width)
    };
    let chunks = features.div_ceil(CHUNK);
    let mut sum = DMatrix::zeros(rows.len().next_multiple_of(PAD), columns.len().next_multiple_of(PAD));
    for first in (0..chunks).step_by(GROUP) {
        let partials: Vec<DMatrix<f64>> = (first..(first + GROUP).min(chunks)).into_par_iter().map(partial).collect();
        // Added in the order of the chunks, whichever thread finished first.
        for partial in &partials {
            sum += partial;
        }
    }
    sum
}

/// The row ranges of the tiles of `images` rows.
fn tiles(images: usize) -> Vec<Range<usize>> {
    (0..images).step_by(TILE).map(|start| start..(start + TILE).min(images)).collect()
}

/// The Gram matrix `A Aᵀ` of `(images, features)` activations: `(images, images)`, exactly symmetric.
///
/// # Errors
/// An activation is not finite.
pub fn gram(activations: Rows<'_>) -> Result<DMatrix<f64>, GramError> {
    let images = activations.images();
    let tiles = tiles(images);
    let pairs: Vec<_> = (0..tiles.len()).flat_map(|i| (i..tiles.len()).map(move |j| (i, j))).collect();
    let products: Vec<DMatrix<f64>> = pairs
        .par_iter()
        .map(|&(i, j)| {
            let right = (i != j).then_some(activations);
            tile(activations, &tiles[i], right, &tiles[j])
        })
        .collect();
    let mut gram = DMatrix::zeros(images, images);
    for (&(i, j), product) in pairs.iter().zip(&products) {
        for (column, image) in tiles[j].clone().enumerate() {
            for (row, other) in tiles[i].clone().enumerate() {
                // The upper triangle decides, so that rounding cannot make the matrix unsymmetric.
                if other <= image {
                    gram[(other, image)] = product[(row, column)];
                    gram[(image, other)] = product[(row, column)];
                }
            }
        }
    }
    // A NaN or an infinity in a row shows in its squared norm; squares of f32 cannot overflow f64.
    match (0..images).find(|&i| !gram[(i, i)].is_finite()) {
        Some(index) => Err(GramError::NotFinite { what: "activation", index }),
        None => Ok(gram),
    }
}

/// [`gram`] where `compute` says. A device multiplies f32 exactly and sums in f64, feature after
/// feature: the bits do not depend on blocks, but on whether it was the CPU or a device.
///
/// # Errors
/// As [`gram`], or the device fails.
pub fn gram_on(compute: &Compute, activations: Rows<'_>) -> Result<DMatrix<f64>, GramError> {
    let Some(device) = compute.device() else { return gram(activations) };
    let images = activations.images();
    let products = device_products(device, activations, None)?;
    match (0..images).find(|&image| !products[(image, image)].is_finite()) {
        Some(index) => Err(GramError::NotFinite { what: "activation", index }),
        None => Ok(products),
    }
}

fn device_products(device: &Accelerator, left: Rows<'_>, right: Option<Rows<'_>>) -> Result<DMatrix<f64>, GramError> {
    let (m, n) = (left.images(), right.unwrap_or(left).images());
    if m == 0 || n == 0 {
        return Ok(DMatrix::zeros(m, n));
    }
    let products = device.exact().row_products(left.values, right.map(|right| right.values), left.features);
    Ok(DMatrix::from_row_slice(m, n, &products.map_err(|error| GramError::Device(error.to_string()))?))
}

/// The products `G Aᵀ` of `left` rows `(m, features)`, such as class gradients, with `right` rows
/// `(n, features)`: `(m, n)`.
///
/// # Errors
/// The feature counts differ, or a value is not finite (named as a gradient if it is in `left`).
pub fn cross(left: Rows<'_>, right: Rows<'_>) -> Result<DMatrix<f64>, GramError> {
    cross_on(&Compute::Cpu, left, right)
}

/// [`cross`] where `compute` says.
///
/// # Errors
/// As [`cross`], or the device fails.
pub fn cross_on(compute: &Compute, left: Rows<'_>, right: Rows<'_>) -> Result<DMatrix<f64>, GramError> {
    if left.features != right.features {
        return Err(GramError::Features { left: left.features, right: right.features });
    }
    let cross = match compute.device() {
        Some(device) => device_products(device, left, Some(right))?,
        None => cross_here(left, right),
    };
    if cross.iter().all(|value| value.is_finite()) {
        return Ok(cross);
    }
    let bad = |rows: Rows<'_>| rows.values.iter().position(|value| !value.is_finite()).map(|flat| flat / rows.features);
    let (what, index) = match bad(left) {
        Some(index) => ("gradient", index),
        None => ("activation", bad(right).unwrap_or(0)),
    };
    Err(GramError::NotFinite { what, index })
}

fn cross_here(left: Rows<'_>, right: Rows<'_>) -> DMatrix<f64> {
    let (rows, columns) = (tiles(left.images()), tiles(right.images()));
    let pairs: Vec<_> = rows.iter().flat_map(|i| columns.iter().map(move |j| (i, j))).collect();
    let products: Vec<DMatrix<f64>> = pairs.par_iter().map(|&(i, j)| tile(left, i, Some(right), j)).collect();
    let mut cross = DMatrix::zeros(left.images(), right.images());
    for (&(i, j), product) in pairs.iter().zip(&products) {
        cross.view_mut((i.start, j.start), (i.len(), j.len())).copy_from(&product.view((0, 0), (i.len(), j.len())));
    }
    cross
}

#[cfg(test)]
mod tests;
