//! The gradient itself (Simonyan, Vedaldi & Zisserman 2014, "Deep Inside Convolutional Networks", §3), with its sign.

use candle_core::Tensor;

use crate::error::Result;

use super::{Input, Map, Method};

/// `∂logit/∂x`.
pub(super) const GRADIENT: Method = Method {
    name: "gradient",
    title: "gradient",
    source: "Simonyan et al. 2014",
    settings: &[],
    map: Map::OnInput(gradient),
};

fn gradient(input: &Input<'_>) -> Result<Tensor> {
    input.gradient_at(input.images)
}
