//! SmoothGrad (Smilkov et al. 2017, "SmoothGrad: removing noise by adding noise").

use candle_core::Tensor;
use rand_distr::{Distribution, StandardNormal};

use crate::error::{Error, Result};
use crate::seed::stream;

use super::{Input, Map, Method, Settings};

/// Mean gradient over noisy copies of the image.
pub(super) const SMOOTH_GRAD: Method = Method {
    name: "smooth-grad",
    title: "SmoothGrad",
    source: "Smilkov et al. 2017",
    settings: &["steps", "noise", "seed"],
    map: Map::OnInput(smooth_grad),
};

/// Mean of `∂logit/∂x` at `steps` copies of each image with normal noise, whose standard deviation
/// is the share `noise` of the image's range of values. The draws of an image depend on the seed
/// and its number alone, not on the batch.
fn smooth_grad(input: &Input<'_>) -> Result<Tensor> {
    let Settings { steps, noise, seed } = input.settings;
    let images = input.images.flatten_from(1)?.to_vec2::<f32>()?;
    let spread = |image: &Vec<f32>| {
        let (low, high) = image.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), &v| (l.min(v), h.max(v)));
        noise * (high - low)
    };
    let spreads: Vec<f32> = images.iter().map(spread).collect();
    if let Some(at) = spreads.iter().position(|spread| !spread.is_finite()) {
        let image = input.numbers.start + at;
        return Err(Error::input(format!(
            "smooth-grad: noise of {noise} of the range of image {image} is no finite number"
        )));
    }
    let mut draws: Vec<_> =
        input.numbers.clone().map(|image| stream(seed, "saliency/smooth-grad", image as u64)).collect();
    input.mean_gradient((0..steps).map(|_| {
        let mut noisy = Vec::with_capacity(images.iter().map(Vec::len).sum());
        for ((image, draws), spread) in images.iter().zip(&mut draws).zip(&spreads) {
            noisy.extend(image.iter().map(|value| {
                let draw: f32 = StandardNormal.sample(draws);
                value + spread * draw
            }));
        }
        Ok((Tensor::from_vec(noisy, input.images.shape(), input.images.device())?, 1.0 / steps as f64))
    }))
}
