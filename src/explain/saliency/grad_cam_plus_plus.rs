//! Grad-CAM++ (Chattopadhay et al. 2018, "Grad-CAM++: Generalized Gradient-based Visual Explanations", equation 19).

use candle_core::Tensor;

use crate::error::Result;

use super::{Map, Maps, Method};

/// Channels weighted by their positive gradients, so that several objects count alike.
pub(super) const GRAD_CAM_PLUS_PLUS: Method = Method {
    name: "grad-cam-plus-plus",
    title: "Grad-CAM++",
    source: "Chattopadhay et al. 2018",
    settings: &[],
    map: Map::AtStage(grad_cam_plus_plus),
};

/// Keeps the quotient finite, as pytorch-grad-cam does; it shows where gradients are as small.
const EPSILON: f64 = 1e-6;

/// `ReLU(Σ_m w_m A_m)`, `w_m = Σ_ij α_m,ij ReLU(g_m,ij)`, `α = g² / (2 g² + g³ Σ_ij A_m,ij + ε)`.
fn grad_cam_plus_plus(activation: &Tensor, gradient: &Tensor) -> Result<Maps> {
    Maps::weighted(activation, gradient, |activation, gradient| {
        let sum: f64 = activation.iter().map(|&a| f64::from(a)).sum();
        // A gradient that is not positive adds nothing, whatever its α.
        let positive = gradient.iter().filter(|g| **g > 0.0).map(|&g| f64::from(g));
        positive.map(|g| g.powi(3) / (2.0 * g * g + sum * g.powi(3) + EPSILON)).sum::<f64>() as f32
    })
}
