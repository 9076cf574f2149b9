//! Maps at a stage: which of them say something, and how they are brought to the image's size.

use candle_core::Tensor;
use rayon::prelude::*;

use crate::error::{Error, Result};

/// Raw maps of a batch of images.
pub struct Maps {
    /// `(N, h, w)`, at the resolution of the stage or the input.
    pub raw: Tensor,
    /// For each image, whether its map says nothing: such a map is never scored.
    pub degenerate: Vec<bool>,
}

impl Maps {
    /// `ReLU(Σ_m w_m A_m)` of an activation `(N, C, h, w)` and a gradient like it,
    /// `w_m = weight(A_m, g_m)` of all values of a channel.
    pub(super) fn weighted(
        activation: &Tensor,
        gradient: &Tensor,
        weight: impl Fn(&[f32], &[f32]) -> f32 + Sync,
    ) -> Result<Self> {
        Self::over_channels(activation, gradient, |activation, gradient, map| {
            let weight = weight(activation, gradient);
            map.iter_mut().zip(activation).for_each(|(sum, value)| *sum += weight * value);
        })
    }

    /// `ReLU(Σ_m term(A_m, g_m))` at each position.
    pub(super) fn summed(
        activation: &Tensor,
        gradient: &Tensor,
        term: impl Fn(f32, f32) -> f32 + Sync,
    ) -> Result<Self> {
        Self::over_channels(activation, gradient, |activation, gradient, map| {
            map.iter_mut().zip(activation).zip(gradient).for_each(|((sum, &a), &g)| *sum += term(a, g));
        })
    }

    /// Maps `(N, H, W)` of attributions `(N, C, H, W)`: the sum of the magnitudes over the channels.
    ///
    /// # Errors
    /// When they are not of that shape.
    pub fn of_attributions(attributions: &Tensor) -> Result<Self> {
        Self::summed(attributions, attributions, |value, _| value.abs())
    }

    /// `add` is called for each channel in turn, with its values and the sum so far. A map that is
    /// zero everywhere says nothing.
    fn over_channels(
        activation: &Tensor,
        gradient: &Tensor,
        add: impl Fn(&[f32], &[f32], &mut [f32]) + Sync,
    ) -> Result<Self> {
        let (count, channels, height, width) = activation.dims4()?;
        if gradient.dims() != activation.dims() {
            let (one, other) = (activation.dims(), gradient.dims());
            return Err(Error::input(format!("an activation of shape {one:?} has no gradient of shape {other:?}")));
        }
        let plane = height * width;
        let activations = activation.flatten_all()?.to_vec1::<f32>()?;
        let gradients = gradient.flatten_all()?.to_vec1::<f32>()?;
        let mut raw = vec![0.0; count * plane];
        let image = (channels * plane).max(1);
        let mut degenerate = vec![true; count];
        let images = activations.par_chunks(image).zip(gradients.par_chunks(image));
        raw.par_chunks_mut(plane.max(1)).zip(&mut degenerate).zip(images).for_each(|((map, nothing), (a, g))| {
            a.chunks_exact(plane).zip(g.chunks_exact(plane)).for_each(|(a, g)| add(a, g, map));
            // What is no number stays so.
            map.iter_mut().filter(|value| **value <= 0.0).for_each(|value| *value = 0.0);
            *nothing = map.iter().all(|&value| value <= 0.0);
        });
        Ok(Self { raw: Tensor::from_vec(raw, (count, height, width), activation.device())?, degenerate })
    }

    /// These maps, of images that `name` knows by their place among them.
    ///
    /// # Errors
    /// The image is named whose map is not finite: its sums went beyond what f32 holds.
    pub fn finite(self, name: impl Fn(usize) -> String) -> Result<Self> {
        let values = self.raw.flatten_all()?.to_vec1::<f32>()?;
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(self),
            Some(at) => {
                let image = name(at / (values.len() / self.degenerate.len()));
                Err(Error::input(format!("{image}: its map holds {}, more than a number in f32", values[at])))
            }
        }
    }

    /// Maps `(N, h, w)` with values of either sign as they are; a map without differences says nothing.
    ///
    /// # Errors
    /// When they are not of that shape.
    pub fn signed(raw: Tensor) -> Result<Self> {
        let rows = raw.flatten_from(1)?.to_vec2::<f32>()?;
        let degenerate = rows.iter().map(|map| map.iter().all(|value| *value == map[0])).collect();
        Ok(Self { raw, degenerate })
    }
}

/// Bilinear resampling of maps `(N, h, w)` to `(N, height, width)`, half-pixel centres (`align_corners = false`), edges
/// clamped: what PyTorch's `interpolate(mode="bilinear")` computes.
///
/// # Errors
/// Only when a tensor cannot be made.
pub fn upsample(maps: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let (count, from_height, from_width) = maps.dims3()?;
    let source = maps.flatten_all()?.to_vec1::<f32>()?;
    let mut target = Vec::with_capacity(count * height * width);
    for map in source.chunks_exact(from_height * from_width) {
        let map: Vec<f64> = map.iter().copied().map(f64::from).collect();
        let map = upsample_map(&map, (from_height, from_width), (height, width));
        target.extend(map.into_iter().map(|value| value as f32));
    }
    Ok(Tensor::from_vec(target, (count, height, width), maps.device())?)
}

/// [`upsample`] for one map of `from.0 · from.1` values, row by row.
///
/// # Panics
/// If the map has another size.
pub fn upsample_map(map: &[f64], from: (usize, usize), to: (usize, usize)) -> Vec<f64> {
    assert_eq!(map.len(), from.0 * from.1, "a map of another size");
    let columns = interpolation(from.1, to.1);
    let mut target = Vec::with_capacity(to.0 * to.1);
    for (top, bottom, down) in interpolation(from.0, to.0) {
        for &(left, right, along) in &columns {
            let mix = |row: usize| map[row * from.1 + left] * (1.0 - along) + map[row * from.1 + right] * along;
            target.push(mix(top) * (1.0 - down) + mix(bottom) * down);
        }
    }
    target
}

/// For each target position: the two source positions and the weight of the second.
fn interpolation(from: usize, to: usize) -> Vec<(usize, usize, f64)> {
    let scale = from as f64 / to as f64;
    (0..to)
        .map(|position| {
            let centre = ((position as f64 + 0.5) * scale - 0.5).max(0.0);
            let low = (centre as usize).min(from - 1);
            (low, (low + 1).min(from - 1), centre - low as f64)
        })
        .collect()
}

/// Divides each map of `(N, h, w)` by its maximum; an all-zero map stays zero.
///
/// # Errors
/// Only when a tensor cannot be made.
pub fn normalise(maps: &Tensor) -> Result<Tensor> {
    let (_, height, width) = maps.dims3()?;
    let mut values = maps.flatten_all()?.to_vec1::<f32>()?;
    for map in values.chunks_exact_mut(height * width) {
        let top = map.iter().copied().fold(0.0, f32::max);
        if top > 0.0 {
            map.iter_mut().for_each(|value| *value /= top);
        }
    }
    Ok(Tensor::from_vec(values, maps.dims(), maps.device())?)
}

/// Raw maps `(N, h, w)` as one row of `h · w` values for each image.
///
/// # Errors
/// When they are not of that shape.
pub fn split_maps(maps: &Tensor) -> Result<Vec<Vec<f64>>> {
    let rows = maps.flatten_from(1)?.to_vec2::<f32>()?;
    Ok(rows.into_iter().map(|row| row.into_iter().map(f64::from).collect()).collect())
}
