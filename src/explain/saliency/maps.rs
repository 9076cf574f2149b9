//! Maps at a stage: which of them say something, and how they are brought to the image's size.

use candle_core::Tensor;

use crate::error::Result;

/// Raw maps of a batch of images.
pub struct Maps {
    /// `(N, h, w)`, at the resolution of the stage or the input.
    pub raw: Tensor,
    /// For each image, whether its map says nothing: such a map is never scored.
    pub degenerate: Vec<bool>,
}

impl Maps {
    /// `ReLU(maps)` of `(N, h, w)`; a map that is zero everywhere says nothing.
    ///
    /// # Errors
    /// When they are not of that shape.
    pub fn rectified(maps: &Tensor) -> Result<Self> {
        let raw = maps.relu()?;
        let degenerate = raw.flatten_from(1)?.max(1)?.to_vec1::<f32>()?.iter().map(|&top| top <= 0.0).collect();
        Ok(Self { raw, degenerate })
    }

    /// Maps `(N, H, W)` of attributions `(N, C, H, W)`: the sum of the magnitudes over the channels.
    ///
    /// # Errors
    /// When they are not of that shape.
    pub fn of_attributions(attributions: &Tensor) -> Result<Self> {
        Self::rectified(&attributions.abs()?.sum(1)?)
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
