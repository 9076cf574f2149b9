//! Whether Grad-CAM looks at the object: box energy, the pointing game, and hits of parts, with intervals over images.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::explain::upsample_map;
use crate::model::Stage;
use crate::stats::bootstrap::{Method, Options, one_sample};
use crate::stats::localisation::{energy_in_box, point_chance, point_hit, pointing_game};

use super::config::Plan;
use super::drift::{mean, undefined};
use super::records::{LocalisationRecord, PartHits, Range, ShownImage};

/// Whether the raw maps `(h · w)` of the shown images look at their objects, upsampled to the input `(height, width)`, as boxes are in
/// input pixels. `None` where no image has a box.
///
/// # Errors
/// When a map is not finite or a box does not fit the input.
pub(super) fn localisation(
    plan: &Plan,
    stage: Stage,
    maps: &[Vec<f64>],
    map_size: [usize; 2],
    shown: &[ShownImage],
    input: (usize, usize),
) -> Result<Option<LocalisationRecord>> {
    let (height, width) = input;
    let (mut energy, mut pointing, mut parts, mut covered) = (vec![], vec![], vec![], 0.0);
    let mut nearest: BTreeMap<String, usize> = BTreeMap::new();
    let (mut near, mut with_parts, mut boxed) = (0.0, 0usize, 0usize);
    let reach = height as f64 / map_size[0] as f64;
    for (map, image) in maps.iter().zip(shown) {
        let Some(target) = image.bounding_box else { continue };
        boxed += 1;
        let map = upsample_map(map, (map_size[0], map_size[1]), input);
        energy.push(energy_in_box(&map, height, width, target).map_err(undefined("energy"))?.ok());
        pointing.push(pointing_game(&map, height, width, target, 0).map_err(undefined("pointing"))?.ok());
        let area = (target.right - target.left) * (target.bottom - target.top);
        covered += area as f64 / (height * width) as f64;
        if image.parts.is_empty() {
            continue;
        }
        with_parts += 1;
        let points: Vec<(f64, f64)> = image.parts.iter().map(|part| (part.x, part.y)).collect();
        near += point_chance(height, width, &points, reach);
        let hit = point_hit(&map, height, width, &points, reach).map_err(undefined("part hits"))?;
        if let Some(hit) = hit {
            *nearest.entry(image.parts[hit.nearest].name.clone()).or_default() += 1;
        }
        parts.push(hit.map(|hit| hit.share));
    }
    if boxed == 0 {
        return Ok(None);
    }
    let interval = |values: &[Option<f64>], name: &str| -> Option<Range> {
        let known: Vec<f64> = values.iter().flatten().copied().collect();
        let options = Options {
            resamples: plan.statistics.bootstrap,
            confidence: plan.verdict.confidence,
            method: Method::Percentile,
        };
        let mean = |values: &[f64]| Some(values.iter().sum::<f64>() / values.len() as f64);
        let found = one_sample(&known, mean, options, plan.seed, &format!("localisation/{stage}/{name}")).ok()?;
        Some(Range { low: found.interval.low, high: found.interval.high })
    };
    let images = pointing.iter().flatten().count();
    Ok(Some(LocalisationRecord {
        stage: Some(stage),
        energy_in_box: mean(&energy),
        energy_interval: interval(&energy, "energy"),
        pointing_game: mean(&pointing),
        pointing_interval: interval(&pointing, "pointing"),
        chance: covered / boxed as f64,
        images,
        degenerate: boxed - images,
        parts: (with_parts > 0).then(|| PartHits {
            rate: mean(&parts),
            interval: interval(&parts, "parts"),
            chance: near / with_parts as f64,
            images: parts.iter().flatten().count(),
            nearest,
        }),
    }))
}
