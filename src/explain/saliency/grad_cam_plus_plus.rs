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

/// `ReLU(Σ_m w_m A_m)`, `w_m = Σ_ij α_m,ij ReLU(g_m,ij)`, `α = g² / (2 g² + g³ Σ_ij A_m,ij)`, and 0 where `g` is.
fn grad_cam_plus_plus(activation: &Tensor, gradient: &Tensor) -> Result<Maps> {
    let (count, channels, height, width) = gradient.dims4()?;
    let plane = height * width;
    let sums = activation.sum((2, 3))?.flatten_all()?.to_vec1::<f32>()?;
    let values = gradient.flatten_all()?.to_vec1::<f32>()?;
    let weight = |(gradients, &sum): (&[f32], &f32)| -> f32 {
        // A gradient that is not positive adds nothing, whatever its α.
        let positive = gradients.iter().filter(|g| **g > 0.0).map(|&g| f64::from(g));
        positive.map(|g| g.powi(3) / (2.0 * g * g + f64::from(sum) * g.powi(3) + EPSILON)).sum::<f64>() as f32
    };
    let weights: Vec<f32> = values.chunks_exact(plane).zip(&sums).map(weight).collect();
    let weights = Tensor::from_vec(weights, (count, channels, 1, 1), gradient.device())?;
    Maps::rectified(&activation.broadcast_mul(&weights)?.sum(1)?)
}
