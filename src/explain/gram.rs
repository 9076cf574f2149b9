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
/// Both sides of a tile are padded with zeros to this multiple. It keeps every product on nalgebra's blocked path, so that a sum
/// does not depend on the tile's size; its other path (a side of 5 or less) reads row-major views out of bounds (0.34.2).
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
    #[error("activation block {block}: {found} images, expected {expected}")]
    Block {
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

    /// Values per row.
    pub fn features(&self) -> usize {
        self.features
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
    debug_assert!(height.min(width).min(features) >= PAD);
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

/// [`gram`] where `compute` says. A device multiplies f32 exactly and sums in f64, feature after feature: the bits do not depend on blocks,
/// but on whether it was the CPU or a device.
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

/// The products `G Aᵀ` of `left` rows `(m, features)`, such as class gradients, with `right` rows `(n, features)`: `(m, n)`.
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

/// What TCAV needs of the activations of one (checkpoint, stage).
#[derive(Debug, Clone, PartialEq)]
pub struct Products {
    /// Gram matrix of all images, `(images, images)`.
    pub gram: DMatrix<f64>,
    /// Per class: its gradients times all activations, `(class images, images)`.
    pub cross: Vec<DMatrix<f64>>,
}

/// [`gram`] and [`cross`] of activations that come in blocks of images, in bounded memory.
///
/// `load(i)` returns the activations of block `i`, `(images[i], features)`, read from a store or computed anew; blocks are numbered in
/// the order of the images. At most `resident_bytes` of activations (at least one block) are kept, and one block passes by.
/// If all fit, every block is loaded once; otherwise each pass keeps the next blocks that fit and loads all later ones again. The result
/// has the same bits for every partition into blocks and every budget.
///
/// # Errors
/// What `load` returns; a block with another number of images than announced; gradients with another feature count; a value
/// that is not finite.
pub fn products_in_blocks<E: From<GramError>>(
    images: &[usize],
    features: usize,
    resident_bytes: usize,
    gradients: &[Rows<'_>],
    load: impl FnMut(usize) -> Result<Vec<f32>, E>,
) -> Result<Products, E> {
    products_in_blocks_on(&Compute::Cpu, images, features, resident_bytes, gradients, load)
}

/// [`products_in_blocks`] where `compute` says.
///
/// # Errors
/// As there, or the device fails.
pub fn products_in_blocks_on<E: From<GramError>>(
    compute: &Compute,
    images: &[usize],
    features: usize,
    resident_bytes: usize,
    gradients: &[Rows<'_>],
    mut load: impl FnMut(usize) -> Result<Vec<f32>, E>,
) -> Result<Products, E> {
    let starts: Vec<usize> = images
        .iter()
        .scan(0, |next, &count| {
            *next += count;
            Some(*next - count)
        })
        .collect();
    let total = images.iter().sum();
    let mut gram_of_all = DMatrix::zeros(total, total);
    let mut cross_of_all: Vec<_> =
        gradients.iter().map(|gradients| DMatrix::zeros(gradients.images(), total)).collect();
    let mut first = 0;
    while first < images.len() {
        let mut resident: Vec<Vec<f32>> = Vec::new();
        let (mut bytes, mut open) = (0, true);
        for block in first..images.len() {
            let values = load(block)?;
            let rows = Rows::new(&values, features)?;
            if rows.images() != images[block] {
                return Err(E::from(GramError::Block { block, expected: images[block], found: rows.images() }));
            }
            let shift = |error| shift_index(error, starts[block]);
            if first == 0 {
                for (gradients, all) in gradients.iter().zip(&mut cross_of_all) {
                    let product = cross_on(compute, *gradients, rows).map_err(shift)?;
                    all.columns_mut(starts[block], images[block]).copy_from(&product);
                }
            }
            for (offset, other) in resident.iter().enumerate() {
                let product = cross_on(compute, Rows::new(other, features)?, rows).map_err(shift)?;
                let (row, column) = (starts[first + offset], starts[block]);
                gram_of_all.view_mut((row, column), product.shape()).copy_from(&product);
                gram_of_all.view_mut((column, row), (product.ncols(), product.nrows())).tr_copy_from(&product);
            }
            let size = size_of_val(values.as_slice());
            open &= resident.is_empty() || bytes + size <= resident_bytes;
            if open {
                let product = gram_on(compute, rows).map_err(shift)?;
                gram_of_all.view_mut((starts[block], starts[block]), product.shape()).copy_from(&product);
                bytes += size;
                resident.push(values);
            }
        }
        first += resident.len();
    }
    Ok(Products { gram: gram_of_all, cross: cross_of_all })
}

/// Counts the index of an offending activation from the first image of all instead of the first of its block.
fn shift_index(error: GramError, start: usize) -> GramError {
    match error {
        GramError::NotFinite { what: "activation", index } => {
            GramError::NotFinite { what: "activation", index: index + start }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;

    fn values(images: usize, features: usize, index: u64) -> Vec<f32> {
        let mut stream = crate::seed::stream(1, "gram test", index);
        (0..images * features).map(|_| stream.random::<f32>() * 2.0 - 0.5).collect()
    }

    /// The definition, summed exactly enough: one long f64 sum per pair.
    fn reference(left: Rows<'_>, right: Rows<'_>) -> DMatrix<f64> {
        let d = left.features;
        DMatrix::from_fn(left.images(), right.images(), |i, j| {
            (0..d).map(|k| f64::from(left.values[i * d + k]) * f64::from(right.values[j * d + k])).sum()
        })
    }

    #[test]
    fn products_match_the_definition_at_every_edge_of_tile_and_chunk() {
        for (n, m, d) in
            [(1, 1, 1), (2, 3, 5), (7, 9, 6), (64, 65, CHUNK), (70, 3, CHUNK + 1), (130, 66, 3 * CHUNK - 7)]
        {
            let (a, g) = (values(n, d, 0), values(m, d, 1));
            let (a, g) = (Rows::new(&a, d).unwrap(), Rows::new(&g, d).unwrap());
            let k = gram(a).unwrap();
            let close = |x: &DMatrix<f64>, y: &DMatrix<f64>| {
                let error = (x - y).amax() / y.amax().max(1.0);
                assert!(error < 1e-13, "{n} {m} {d}: {error}");
            };
            close(&k, &reference(a, a));
            assert_eq!(k, k.transpose());
            close(&cross(g, a).unwrap(), &reference(g, a));
        }
    }

    #[test]
    fn bits_do_not_depend_on_threads_blocks_or_budget() {
        let (n, m, d) = (75, 10, CHUNK * 2 + 100);
        let (a, g) = (values(n, d, 2), values(m, d, 3));
        let (rows, gradients) = (Rows::new(&a, d).unwrap(), Rows::new(&g, d).unwrap());
        let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let expected = pool(1).install(|| (gram(rows).unwrap(), cross(gradients, rows).unwrap()));
        let four = pool(4).install(|| (gram(rows).unwrap(), cross(gradients, rows).unwrap()));
        assert_eq!(expected, four);
        for blocks in [vec![75], vec![30, 30, 15], vec![1, 2, 64, 3, 5], vec![1; 75]] {
            for budget in [0, 20 * d * 4, 40 * d * 4, usize::MAX] {
                let mut loads = vec![0; blocks.len()];
                let found = products_in_blocks::<GramError>(&blocks, d, budget, &[gradients], |i| {
                    loads[i] += 1;
                    let start: usize = blocks[..i].iter().sum();
                    Ok(a[start * d..(start + blocks[i]) * d].to_vec())
                })
                .unwrap();
                assert_eq!(found.gram, expected.0, "{blocks:?} {budget}");
                assert_eq!(found.cross, std::slice::from_ref(&expected.1));
                if budget == usize::MAX {
                    assert!(loads.iter().all(|&count| count == 1));
                }
            }
        }
    }

    #[test]
    fn wrong_shapes_and_values_are_named() {
        assert!(Rows::new(&[0.0; 5], 2).is_err());
        assert!(Rows::new(&[], 0).is_err());
        let (mut a, g) = (values(20, 9, 4), values(2, 9, 5));
        let three = values(3, 8, 6);
        assert_eq!(
            cross(Rows::new(&g, 9).unwrap(), Rows::new(&three, 8).unwrap()),
            Err(GramError::Features { left: 9, right: 8 })
        );
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            a[12 * 9 + 4] = bad;
            let expected = GramError::NotFinite { what: "activation", index: 12 };
            let (rows, gradients) = (Rows::new(&a, 9).unwrap(), Rows::new(&g, 9).unwrap());
            assert_eq!(gram(rows), Err(expected.clone()));
            assert_eq!(cross(gradients, rows), Err(expected.clone()));
            let streamed = products_in_blocks(&[8, 12], 9, 0, &[gradients], |i| {
                Ok(if i == 0 { a[..72].to_vec() } else { a[72..].to_vec() })
            });
            assert_eq!(streamed, Err(expected));
        }
        let short = products_in_blocks(&[3], 9, 0, &[], |_| Ok(vec![0.0; 18]));
        assert_eq!(short, Err(GramError::Block { block: 0, expected: 3, found: 2 }));
        assert_eq!(gram(Rows::new(&[f32::MAX; 18], 9).unwrap()).unwrap()[(0, 1)], 9.0 * f64::from(f32::MAX).powi(2));
    }
}
