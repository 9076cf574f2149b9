//! XGrad-CAM (Fu et al. 2020, "Axiom-based Grad-CAM: Towards Accurate Visualization and Explanation of CNNs").

use candle_core::Tensor;

use crate::error::Result;

use super::{Map, Maps, Method};

/// Channels weighted by their gradient, each position counted by its share of the activation.
pub(super) const XGRAD_CAM: Method = Method {
    name: "xgrad-cam",
    title: "XGrad-CAM",
    source: "Fu et al. 2020",
    settings: &[],
    map: Map::AtStage(xgrad_cam),
};

/// Keeps the weight of a channel without activation finite, as pytorch-grad-cam does.
const EPSILON: f64 = 1e-7;

/// `ReLU(Σ_m w_m A_m)`, `w_m = Σ_ij g_m,ij A_m,ij / (Σ_ij A_m,ij + ε)`.
fn xgrad_cam(activation: &Tensor, gradient: &Tensor) -> Result<Maps> {
    Maps::weighted(activation, gradient, |a, g| {
        let total = a.iter().map(|&value| f64::from(value)).sum::<f64>() + EPSILON;
        (a.iter().zip(g).map(|(&a, &g)| f64::from(a) * f64::from(g)).sum::<f64>() / total) as f32
    })
}
