//! Grad-CAM (Selvaraju et al. 2017, equations 1 and 2).

use candle_core::Tensor;

use crate::error::Result;

use super::{Map, Maps, Method};

/// Channels weighted by their mean gradient.
pub const GRAD_CAM: Method = Method {
    name: "grad-cam",
    title: "Grad-CAM",
    source: "Selvaraju et al. 2017",
    settings: &[],
    map: Map::AtStage(grad_cam),
};

/// `ReLU(Σ_m w_m A_m)`, `w_m = mean_ij ∂logit/∂A_m,ij`, from an activation `(N, C, h, w)` and the
/// gradient of a class logit with respect to it.
///
/// # Errors
/// When the shapes differ.
pub fn grad_cam(activation: &Tensor, gradient: &Tensor) -> Result<Maps> {
    Maps::weighted(activation, gradient, |_, g| {
        (g.iter().map(|&value| f64::from(value)).sum::<f64>() / g.len() as f64) as f32
    })
}
