//! Grad-weight of linear layers: one outer product over the batch.

use super::Conv2dShape;
use super::correlate;
use super::geometry::{Direction, Problem};
use super::tiles::Kernels;
use crate::kernels::layout::transpose;
use crate::kernels::scratch;
use crate::kernels::simd::LANES;

/// Whether [`weight_gradient`] computes a weight gradient faster than dot products: on maps of one position these are as short as the batch, and
/// to add up the lanes of each takes longer than the products.
pub(super) fn pays(shape: &Conv2dShape) -> bool {
    let single = shape.kernel == 1 && shape.padding == 0 && shape.in_height * shape.in_width == 1;
    single && shape.in_channels >= 4 * LANES && shape.weight_len() >= 1 << 14
}

/// All weights' gradients of a layer on maps of one position, overwriting `grad_weight`: `G Xᵀ`, which is a forward pass over the batch in
/// the place of the channels.
pub(super) fn weight_gradient(
    kernels: &Kernels,
    shape: &Conv2dShape,
    source: &[f32],
    grad_output: &[f32],
    grad_weight: &mut [f32],
) {
    let turned = Conv2dShape { batch: shape.in_channels, in_channels: shape.batch, ..*shape };
    scratch::with(source.len(), |by_image| {
        transpose(shape.in_channels, shape.batch, source, by_image);
        correlate::dense(
            kernels,
            &Problem::new(&turned, Direction::Forward),
            grad_output,
            by_image,
            grad_weight,
            false,
        );
    });
}
