//! Whether Grad-CAM looks at the object: box energy, the pointing game, and hits of parts, with intervals over images.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::explain::upsample_map;
use crate::model::Stage;
use crate::stats::bootstrap::{Options, one_sample};
use crate::stats::localisation::{energy_in_box, point_chance, point_hit, pointing_game};

use crate::error::undefined;
use crate::plan::Plan;
use crate::records::{Interval, LocalisationRecord, PartHits, ShownImage};
use crate::stats::descriptive::known_mean;

/// Whether the raw maps `(h · w)` of the shown images look at their objects, upsampled to the input
/// `(height, width)`, as boxes are in input pixels. `None` where no image has a box.
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
    let interval = |values: &[Option<f64>], name: &str| -> Option<Interval> {
        let known: Vec<f64> = values.iter().flatten().copied().collect();
        let options = Options { resamples: plan.statistics.bootstrap, confidence: plan.verdict.confidence };
        let mean = |values: &[f64]| Some(values.iter().sum::<f64>() / values.len() as f64);
        let found = one_sample(&known, mean, options, plan.seed, &format!("localisation/{stage}/{name}")).ok()?;
        Some(Interval { low: found.interval.low, high: found.interval.high })
    };
    let images = pointing.iter().flatten().count();
    Ok(Some(LocalisationRecord {
        stage,
        method: None,
        energy_in_box: known_mean(&energy),
        energy_interval: interval(&energy, "energy"),
        pointing_game: known_mean(&pointing),
        pointing_interval: interval(&pointing, "pointing"),
        chance: covered / boxed as f64,
        images,
        degenerate: boxed - images,
        parts: (with_parts > 0).then(|| PartHits {
            rate: known_mean(&parts),
            interval: interval(&parts, "parts"),
            chance: near / with_parts as f64,
            images: parts.iter().flatten().count(),
            nearest,
        }),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::ShownPart;
    use crate::stats::localisation::PixelBox;

    /// Maps of 2×2 on an input of 4×4: half-pixel centres make the row 1, 0 into 1, ¾, ¼, 0.
    #[test]
    fn each_map_is_judged_by_its_own_box_and_parts() {
        let plan = Plan::preset("quick", &[]).unwrap();
        let shown = |bounding_box, parts: &[(&str, f64, f64)]| ShownImage {
            index: 0,
            class: 0,
            fine: String::new(),
            bounding_box,
            parts: parts.iter().map(|&(name, x, y)| ShownPart { name: name.into(), x, y }).collect(),
        };
        let left = PixelBox { left: 0, top: 0, right: 2, bottom: 4 };
        let corner = PixelBox { left: 2, top: 2, right: 4, bottom: 4 };
        let images = [
            shown(None, &[("beak", 0.5, 0.5)]),
            shown(Some(left), &[("beak", 0.5, 0.5)]),
            shown(Some(corner), &[("tail", 3.5, 3.5)]),
            shown(Some(corner), &[]),
        ];
        let side = vec![1.0, 0.0, 1.0, 0.0];
        let maps = [side.clone(), side.clone(), side, vec![0.0; 4]];
        let of =
            |images: &[ShownImage]| localisation(&plan, Stage::new("layer3"), &maps, [2, 2], images, (4, 4)).unwrap();
        let found = of(&images).unwrap();
        // Columns 0 and 1 hold 1.75 of 2 in each row, columns 2 and 3 the rest; the last map is empty.
        assert!((found.energy_in_box.unwrap() - (0.875 + 0.0625) / 2.0).abs() < 1e-12, "{found:?}");
        assert_eq!(found.pointing_game, Some(0.5));
        assert!((found.chance - (0.5 + 0.25 + 0.25) / 3.0).abs() < 1e-12, "{found:?}");
        assert_eq!((found.images, found.degenerate), (2, 1));
        let range = found.energy_interval.unwrap();
        assert!(range.low <= 0.0625 && range.high >= 0.875, "{range:?}");
        // A cell of the map is two pixels: of the four tied pixels of column 0 three lie so near
        // the first bird's beak, none the other's tail; 9 of 16 pixels lie so near a corner.
        let parts = found.parts.unwrap();
        assert_eq!((parts.rate, parts.images), (Some(0.375), 2));
        assert_eq!(parts.chance, 9.0 / 16.0);
        assert_eq!(parts.nearest, BTreeMap::from([("beak".to_owned(), 1), ("tail".to_owned(), 1)]));
        assert_eq!(of(&images[..1]), None, "no box, nothing to say");
    }
}
