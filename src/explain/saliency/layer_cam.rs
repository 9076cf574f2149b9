//! LayerCAM (Jiang et al. 2021, "LayerCAM: Exploring Hierarchical Class Activation Maps for Localization").

use candle_core::Tensor;

use crate::error::Result;

use super::{Map, Maps, Method};

/// Positive gradient times activation at every position.
pub(super) const LAYER_CAM: Method = Method {
    name: "layer-cam",
    title: "LayerCAM",
    source: "Jiang et al. 2021",
    settings: &[],
    map: Map::AtStage(layer_cam),
};

/// `ReLU(Σ_m ReLU(g_m) A_m)`.
fn layer_cam(activation: &Tensor, gradient: &Tensor) -> Result<Maps> {
    Maps::summed(activation, gradient, |a, g| a * g.max(0.0))
}
