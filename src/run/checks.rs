//! Checks of the maps themselves: faithfulness of each network's, and whether they depend on the weights at all.

use std::sync::Arc;

use candle_core::Tensor;

use crate::data::Images;
use crate::error::{Error, Result};
use crate::explain::faithfulness::{Faithfulness, Judged, faithfulness, shuffled_map};
use crate::explain::saliency::{Method, Settings};
use crate::explain::sanity::{Randomisation, against_random, randomise_layers};
use crate::model::Stage;
use crate::nn::Weights;

use super::setup::Setup;
use crate::plan::Plan;
use crate::records::{FORMAT, FaithfulnessRecord, SanityLayer, SanityRecord, input_maps_key, maps_key};
use crate::stats::descriptive::known_mean;

/// Images of the sanity check; it runs about twenty networks on them.
const SANITY_IMAGES: usize = 64;
/// Images of deletion and insertion; each is classified about forty times.
const FAITHFULNESS_IMAGES: usize = 32;

/// Deletion and insertion by the maps `(N, h, w)` of one network, and by their control, about `batch` images at a time.
pub(super) fn faithfulness_of(
    plan: &Plan,
    setup: &Setup,
    weights: &Arc<Weights>,
    (stage, method): (Stage, Option<Method>),
    maps: &Tensor,
    batch: usize,
) -> Result<FaithfulnessRecord> {
    let (_, height, width) = maps.dims3()?;
    let rows = maps.flatten_from(1)?.to_vec2::<f32>()?;
    let shape = setup.data.shape();
    let black: Vec<f32> = (0..shape.0).map(|channel| setup.data.normalisation().apply(channel, 0)).collect();
    let mut degenerate = 0;
    let mut shown: Vec<(Vec<f32>, [Vec<f64>; 2], usize)> = Vec::new();
    for (&index, row) in setup.cam_images.iter().zip(&rows).take(FAITHFULNESS_IMAGES) {
        let map: Vec<f64> = row.iter().copied().map(f64::from).collect();
        if map.iter().all(|&value| value <= 0.0) {
            degenerate += 1;
            continue;
        }
        let pixels = setup.data.tensor(&[index])?.flatten_all()?.to_vec1()?;
        let by_chance = shuffled_map(&map, plan.seed, index as u64);
        shown.push((pixels, [map, by_chance], setup.data.label(index)));
    }
    let judge = |which: usize| {
        let judged: Vec<Judged<'_>> = (shown.iter())
            .map(|(pixels, maps, class)| Judged { pixels, map: &maps[which], map_size: (height, width), class: *class })
            .collect();
        faithfulness(&setup.model, weights, shape, &black, &judged, batch)
    };
    let (by_map, by_chance) = (judge(0)?, judge(1)?);
    let of = |all: &[Faithfulness], value: fn(&Faithfulness) -> f64| {
        known_mean(&all.iter().map(|one| Some(value(one))).collect::<Vec<_>>())
    };
    Ok(FaithfulnessRecord {
        stage,
        method,
        images: by_map.len(),
        degenerate,
        deletion: of(&by_map, |one| one.deletion),
        insertion: of(&by_map, |one| one.insertion),
        random_deletion: of(&by_chance, |one| one.deletion),
        random_insertion: of(&by_chance, |one| one.insertion),
    })
}

/// Randomised layers of one dense network.
pub(super) fn sanity(plan: &Plan, setup: &Setup, weights: &Weights, replicate: usize) -> Result<SanityRecord> {
    let stage = plan.explain.stages[0];
    let most = setup.images_within(SANITY_IMAGES)?;
    let images = &setup.cam_images[..setup.cam_images.len().min(most)];
    let labels: Vec<usize> = images.iter().map(|&index| setup.data.label(index)).collect();
    let seed = Setup::derived_seed(plan, replicate, "sanity");
    let tensor = setup.data.tensor(images)?;
    let layers = randomise_layers(&setup.model, weights, (plan.explain.saliency[0], stage), &tensor, &labels, seed)?;
    // The cascade's last layer: everything is random.
    let last = layers
        .iter()
        .rfind(|layer| layer.randomisation == Randomisation::Cascading)
        .ok_or_else(|| Error::input("sanity check: the network has no layer"))?;
    let further = &plan.explain.saliency[1..];
    let settings = Settings { seed: plan.seed, ..Settings::default() };
    let drifts = match further {
        [] => Vec::new(),
        _ => against_random(&setup.model, weights, (further, stage), &tensor, &labels, settings, seed)?,
    };
    let deciding = plan.explain.saliency[0];
    let view = |method: Method| match method.is_on_input() {
        true => input_maps_key(method),
        false => maps_key(stage, method, deciding),
    };
    let further = further.iter().map(|&method| view(method)).zip(drifts).collect();
    let random_drift = last.similarity.iter().map(|similarity| similarity.map(|rho| 1.0 - rho)).collect();
    Ok(SanityRecord {
        format: FORMAT,
        replicate,
        stage,
        images: images.len(),
        random_drift,
        further,
        layers: layers
            .into_iter()
            .map(|layer| SanityLayer {
                randomisation: layer.randomisation,
                layer: layer.layer,
                similarity: known_mean(&layer.similarity),
                degenerate: layer.similarity.iter().filter(|s| s.is_none()).count(),
            })
            .collect(),
    })
}
