//! Do maps depend on what the network has learned? Randomisation of layers after Adebayo et al.
//! 2018, "Sanity Checks for Saliency Maps", §3: a method whose maps survive new random weights
//! explains the image, not the network.

use std::sync::Arc;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::{Model, Stage};
use crate::nn::Weights;
use crate::stats::similarity::{Similarity, spearman};

use super::saliency::{Input, Method, Settings};
use super::{Cut, Maps, Targets};

/// Which layers are randomised together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Randomisation {
    /// From the output down to and including the layer.
    Cascading,
    /// The layer alone.
    Independent,
}

/// Maps of a network with random layers beside the original's.
#[derive(Clone, Debug, PartialEq)]
pub struct RandomisedLayer {
    /// Which layers are random.
    pub randomisation: Randomisation,
    /// The part of the network: a block (`layer3.1`), a layer (`fc`, `features.0`), or `stem`.
    pub layer: String,
    /// Spearman correlation with the original's map, for each image; `None` where either map is degenerate.
    pub similarity: Vec<Option<f64>>,
}

/// Randomises a network part by part, from the output to the input, cascading and independently,
/// and compares its maps by `method` (the gradient of the pixels where the stage is no map) with
/// the original's: `images` `(N, C, H, W)`, each for its own class in `labels`, at `stage`. The
/// random values are [`crate::nn::Network::initialise`]'s of `seed`, batch-norm statistics
/// included.
///
/// # Errors
/// When images do not fit the network, or the method works on the input.
pub fn randomise_layers(
    model: &Model,
    weights: &Weights,
    (method, stage): (Method, Stage),
    images: &Tensor,
    labels: &[usize],
    seed: u64,
) -> Result<Vec<RandomisedLayer>> {
    let maps = |weights: Weights| -> Result<Vec<Vec<f32>>> {
        let (weights, has_map) = (Arc::new(weights), model.has_map(stage));
        let cut = if has_map { Cut::new(model, weights, stage)? } else { Cut::before(model, weights) };
        let activation = cut.activation(images)?;
        let gradient = cut.gradient(&activation, Targets::PerImage(labels))?.gradient;
        let maps = match has_map {
            true => method.at_stage(&activation, &gradient)?,
            false => Maps::of_attributions(&gradient)?,
        };
        Ok(maps.raw.flatten_from(1)?.to_vec2()?)
    };
    let original = maps(weights.clone())?;
    let fresh = model.network.initialise(seed);
    let mut found = Vec::new();
    for randomisation in [Randomisation::Cascading, Randomisation::Independent] {
        let mut current = weights.clone();
        for part in model.parts().iter().rev() {
            if randomisation == Randomisation::Independent {
                current = weights.clone();
            }
            model.copy_part(part, &fresh, &mut current);
            let random = maps(current.clone())?;
            let similarity = original.iter().zip(&random).map(|(a, b)| similarity(a, b)).collect::<Result<_>>()?;
            found.push(RandomisedLayer { randomisation, layer: part.name.clone(), similarity });
        }
    }
    Ok(found)
}

/// Maps of a network beside those of the network with random weights in every layer, as
/// [`randomise_layers`] ends its cascade: for each method and image `1 − ρ`; `None` where either
/// map is degenerate. Methods at a stage share one gradient pass; `settings` are those of methods
/// on the input.
///
/// # Errors
/// When images do not fit the network.
pub fn against_random(
    model: &Model,
    weights: &Weights,
    (methods, stage): (&[Method], Stage),
    images: &Tensor,
    labels: &[usize],
    settings: Settings,
    seed: u64,
) -> Result<Vec<Vec<Option<f64>>>> {
    let maps = |weights: Weights| -> Result<Vec<Vec<Vec<f32>>>> {
        let weights = Arc::new(weights);
        let whole = Cut::before(model, weights.clone());
        let cut = if model.has_map(stage) { Cut::new(model, weights, stage)? } else { whole.clone() };
        let activation = cut.activation(images)?;
        let at_stage = cut.gradient(&activation, Targets::PerImage(labels))?.gradient;
        let gradient = |at: &Tensor| Ok(whole.gradient(at, Targets::PerImage(labels))?.gradient);
        let input = Input { images, numbers: 0..labels.len(), settings, gradient: &gradient };
        let one = |method: &Method| {
            let maps = match (method.is_on_input(), model.has_map(stage)) {
                (true, _) => Maps::of_attributions(&method.on_input(&input)?)?,
                (false, true) => method.at_stage(&activation, &at_stage)?,
                (false, false) => Maps::of_attributions(&at_stage)?,
            };
            Ok(maps.raw.flatten_from(1)?.to_vec2()?)
        };
        methods.iter().map(one).collect()
    };
    let (original, random) = (maps(weights.clone())?, maps(model.network.initialise(seed))?);
    let drifts = original.iter().zip(&random).map(|(original, random)| {
        let similarities = original.iter().zip(random).map(|(a, b)| similarity(a, b));
        similarities.map(|similarity| Ok(similarity?.map(|rho| 1.0 - rho))).collect()
    });
    drifts.collect()
}

/// Spearman correlation of a map with one of a random network.
fn similarity(original: &[f32], random: &[f32]) -> Result<Option<f64>> {
    // A random network can overflow; such a map has no pattern.
    if random.iter().any(|value| !value.is_finite()) {
        return Ok(None);
    }
    spearman(original, random)
        .map(Similarity::value)
        .map_err(|error| Error::statistics("sanity check", error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::saliency::GRAD_CAM;
    use crate::model::{Stem, resnet};
    use rand_distr::{Distribution, StandardNormal};

    #[test]
    fn each_block_once_and_the_cascade_ends_in_the_random_network() {
        let model = resnet(18, 4, Stem::Small, 1, 3).unwrap();
        let weights = model.network.initialise(1);
        let mut draws = crate::seed::stream(2, "images", 0);
        let pixels: Vec<f32> = (0..6 * 256).map(|_| StandardNormal.sample(&mut draws)).collect();
        let images = Tensor::from_vec(pixels, (6, 1, 16, 16), &candle_core::Device::Cpu).unwrap();
        let labels = [0, 1, 2, 0, 1, 2];
        let run = |seed| {
            randomise_layers(&model, &weights, (GRAD_CAM, Stage::new("layer2")), &images, &labels, seed).unwrap()
        };
        let found = run(5);
        let names: Vec<&str> = found.iter().map(|layer| layer.layer.as_str()).collect();
        assert_eq!(names[..3], ["fc", "layer4.1", "layer4.0"], "from the output down");
        assert_eq!((names.len(), names[9], names[19]), (20, "stem", "stem"));
        assert_eq!(found[0].similarity, found[10].similarity, "the first of the cascade is fc alone");
        for (cascade, alone) in found[1..10].iter().zip(&found[11..]) {
            assert_eq!(cascade.layer, alone.layer);
            assert_ne!(cascade.similarity, alone.similarity, "{} alone, the others put back", alone.layer);
        }
        let mean = |layer: &RandomisedLayer| {
            let known: Vec<f64> = layer.similarity.iter().flatten().copied().collect();
            known.iter().sum::<f64>() / known.len() as f64
        };
        assert!(mean(&found[9]) < 0.9, "{}", mean(&found[9]));
        // With its own weights as the random ones, nothing changes: only the blocks named were written.
        assert!(run(1).iter().all(|layer| layer.similarity.iter().flatten().all(|s| *s > 1.0 - 1e-12)));
    }
}
