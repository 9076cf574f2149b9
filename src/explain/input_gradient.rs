//! Maps of a network that has none of its own: the gradient of a class logit with respect to the pixels (Simonyan, Vedaldi &
//! Zisserman 2014, "Deep Inside Convolutional Networks", §3), here the sum of its magnitudes over an image's channels.

use std::sync::Arc;

use candle_core::Tensor;

use crate::error::Result;
use crate::model::Model;
use crate::nn::Weights;

use super::{Cut, GradCam};

/// A cut before the first layer: the activation is the image.
pub fn input_cut(model: &Model, weights: Arc<Weights>) -> Cut {
    Cut::after(model.network.clone(), weights, 0)
}

/// `Σ_c |∂logit/∂x_c|` from the gradient `(N, C, H, W)` at [`input_cut`]: maps `(N, H, W)`.
///
/// # Errors
/// When the gradient is not of that shape.
pub fn input_gradient(gradient: &Tensor) -> Result<GradCam> {
    let raw = gradient.abs()?.sum(1)?;
    let degenerate = raw.flatten_from(1)?.max(1)?.to_vec1::<f32>()?.iter().map(|&top| top <= 0.0).collect();
    Ok(GradCam { raw, degenerate })
}
