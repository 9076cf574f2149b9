//! HiResCAM (Draelos & Carin 2020, "Use HiResCAM instead of Grad-CAM for faithful explanations").

use candle_core::Tensor;

use crate::error::Result;

use super::{Map, Maps, Method};

/// Gradient times activation at every position.
pub(super) const HIRES_CAM: Method = Method {
    name: "hires-cam",
    title: "HiResCAM",
    source: "Draelos & Carin 2020",
    settings: &[],
    map: Map::AtStage(hires_cam),
};

/// `ReLU(Σ_m g_m A_m)`.
fn hires_cam(activation: &Tensor, gradient: &Tensor) -> Result<Maps> {
    Maps::summed(activation, gradient, |a, g| a * g)
}
