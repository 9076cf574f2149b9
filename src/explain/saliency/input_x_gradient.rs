//! Input × gradient (Shrikumar et al. 2016, "Not Just a Black Box").

use candle_core::Tensor;

use crate::error::Result;

use super::{Input, Map, Method};

/// `x ∂logit/∂x`.
pub(super) const INPUT_X_GRADIENT: Method = Method {
    name: "input-x-gradient",
    title: "input × gradient",
    source: "Shrikumar et al. 2016",
    settings: &[],
    map: Map::OnInput(input_x_gradient),
};

fn input_x_gradient(input: &Input<'_>) -> Result<Tensor> {
    Ok((input.images * input.gradient_at(input.images)?)?)
}
