//! Do the pixels that a map marks carry the prediction? Deletion and insertion (Petsiuk, Das &
//! Saenko 2018, "RISE", §4.2), with ties kept together so that the order of equal pixels, most of a
//! sparse map, decides nothing.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use rand::seq::SliceRandom;

use crate::error::Result;
use crate::model::Model;
use crate::nn::Weights;

use super::Cut;
use super::saliency::upsample_map;

/// Points of a curve beyond its start; ties can make them fewer.
const STEPS: usize = 10;

/// Areas under the curves of one image, in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Faithfulness {
    /// Probability of the class as the highest pixels are blackened first; low is faithful.
    pub deletion: f64,
    /// Probability of the class as the highest pixels are restored first on black; high is faithful.
    pub insertion: f64,
}

/// An image and the map that is judged by it.
pub struct Judged<'a> {
    /// Normalised pixels `(C · H · W)`.
    pub pixels: &'a [f32],
    /// Raw map `(h · w)`.
    pub map: &'a [f64],
    /// `(h, w)`.
    pub map_size: (usize, usize),
    /// The class explained.
    pub class: usize,
}

/// Judges maps, each beside its own image. `shape` is `(C, H, W)`, `black` the normalised value of
/// black in each channel. Pixels are ordered by the upsampled map; `batch` images pass the network
/// at a time.
///
/// # Errors
/// When the images do not fit the network.
pub fn faithfulness(
    model: &Model,
    weights: &Arc<Weights>,
    shape: (usize, usize, usize),
    black: &[f32],
    judged: &[Judged<'_>],
    batch: usize,
) -> Result<Vec<Faithfulness>> {
    let cut = Cut::before(model, weights.clone());
    let (channels, height, width) = shape;
    let (length, batch) = (channels * height * width, batch.max(1));
    let logits = |images: &[f32]| -> Result<Vec<Vec<f32>>> {
        let images = Tensor::from_slice(images, (images.len() / length, channels, height, width), &Device::Cpu)?;
        Ok(cut.logits(&images)?.to_vec2()?)
    };
    // Versions of several images together make whole batches.
    let (mut waiting, mut rows, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    for one in judged {
        shares.push(push_versions(one, shape, black, &mut waiting));
        let whole = waiting.len() / length / batch * batch * length;
        for images in waiting[..whole].chunks(batch * length) {
            rows.extend(logits(images)?);
        }
        waiting.drain(..whole);
    }
    if !waiting.is_empty() {
        rows.extend(logits(&waiting)?);
    }
    let mut rows = rows.iter();
    let found = judged.iter().zip(&shares).map(|(one, shares)| {
        let mut curve =
            || -> Vec<f64> { rows.by_ref().take(shares.len()).map(|row| probability(row, one.class)).collect() };
        let (deletion, insertion) = (curve(), curve());
        Faithfulness { deletion: area(shares, &deletion), insertion: area(shares, &insertion) }
    });
    Ok(found.collect())
}

/// Appends the image with ever more of its highest pixels black, then black with ever more of them
/// restored; returns the share of pixels at each point.
fn push_versions(
    judged: &Judged<'_>,
    (channels, height, width): (usize, usize, usize),
    black: &[f32],
    versions: &mut Vec<f32>,
) -> Vec<f64> {
    let plane = height * width;
    let map = upsample_map(judged.map, judged.map_size, (height, width));
    let (order, cuts) = steps(&map);
    for insert in [false, true] {
        for &cut in &cuts {
            let mut first = vec![false; plane];
            order[..cut].iter().for_each(|&pixel| first[pixel] = true);
            for (channel, &dark) in black.iter().enumerate().take(channels) {
                let pixels = &judged.pixels[channel * plane..(channel + 1) * plane];
                versions.extend(pixels.iter().zip(&first).map(|(&value, &first)| match first == insert {
                    true => value,
                    false => dark,
                }));
            }
        }
    }
    cuts.iter().map(|&cut| cut as f64 / plane as f64).collect()
}

/// The control: the same map with its cells in random order, which keeps the size and the
/// smoothness of what is removed.
pub fn shuffled_map(map: &[f64], seed: u64, index: u64) -> Vec<f64> {
    let mut map = map.to_vec();
    map.shuffle(&mut crate::seed::stream(seed, "faithfulness/random", index));
    map
}

/// Pixels from the highest down, and after how many of them the curve is taken: about every tenth
/// of all, never between equals.
fn steps(map: &[f64]) -> (Vec<usize>, Vec<usize>) {
    let mut order: Vec<usize> = (0..map.len()).collect();
    order.sort_by(|&a, &b| map[b].total_cmp(&map[a]));
    let mut cuts = vec![0];
    for end in 1..=order.len() {
        let last_of_equals = end == order.len() || map[order[end]] != map[order[end - 1]];
        let last_cut = cuts[cuts.len() - 1];
        let far_enough = (end - last_cut) * STEPS >= map.len() || end == order.len();
        if last_of_equals && far_enough {
            cuts.push(end);
        }
    }
    (order, cuts)
}

/// Softmax probability.
fn probability(logits: &[f32], class: usize) -> f64 {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let power = |logit: f32| f64::from(logit - top).exp();
    power(logits[class]) / logits.iter().map(|&logit| power(logit)).sum::<f64>()
}

/// Trapezoids: over a step of tied pixels the curve is taken as straight, which is its mean over
/// their orders where each counts alike.
fn area(shares: &[f64], values: &[f64]) -> f64 {
    let pairs = shares.windows(2).zip(values.windows(2));
    pairs.map(|(share, value)| (share[1] - share[0]) * (value[0] + value[1]) / 2.0).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn equal_pixels_go_together_wherever_they_stand() {
        let mut map = vec![0.0; 100];
        (0..15).for_each(|i| map[i] = 15.0 - i as f64);
        let (_, cuts) = steps(&map);
        assert_eq!(cuts, [0, 10, 100], "85 zeros are one step");
        assert_eq!(steps(&[1.0; 9]).1, [0, 9]);
        assert_eq!(area(&[0.0, 0.1, 1.0], &[1.0, 0.0, 0.0]), 0.05);
        assert!((probability(&[1.0, 1.0], 0) - 0.5).abs() < 1e-15);
    }

    proptest! {
        #[test]
        fn what_is_removed_at_a_step_is_a_level_set(values in prop::collection::vec(0u8..6, 1..80)) {
            let map: Vec<f64> = values.iter().map(|&v| f64::from(v)).collect();
            let (order, cuts) = steps(&map);
            prop_assert_eq!(cuts[cuts.len() - 1], map.len());
            for &cut in &cuts[1..cuts.len() - 1] {
                let lowest_in = order[..cut].iter().map(|&i| values[i]).min().unwrap();
                let highest_out = order[cut..].iter().map(|&i| values[i]).max().unwrap();
                prop_assert!(lowest_in > highest_out);
            }
        }
    }
}
