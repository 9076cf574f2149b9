//! The drift gate: has a pruned network moved further than retraining moves it?
//!
//! [`Asked::of`] explains checkpoints, [`judge`] holds candidates against a reference and the
//! *floor*, the same dense network trained with other seeds or data orders. Each of pixels,
//! concepts and accuracy is *kept*, *changed* or *undecided*, by an interval and by what retrained
//! networks themselves differ by ([`crate::stats::reach`]): a candidate that is one more retrained
//! network is refused in no more than 5 % of cases, over all that is required, where the floor has
//! two networks or more.

mod accuracy;
mod concepts;
mod explained;
mod pixels;
mod ratio;
pub mod recorded;
mod rules;

pub use explained::{Answers, Asked, ClassEffect, Dense, Explained, layer_distances};
pub use rules::Rules;

use std::collections::BTreeMap;

use crate::error::Result;
use crate::records::gate::{CandidateDrift, DRIFT_SCHEMA_VERSION, DriftReport, Gate, Kind, NamedDrift, OnUndecided};
use crate::stats::descriptive::known_mean;
use crate::stats::verdict::Explanations;

use explained::most_moved;
use pixels::FloorDrift;
use rules::LEVEL;

/// Holds each candidate against the dense networks. Layers are left empty: see [`layer_distances`].
///
/// # Errors
/// When networks do not speak of the same images, stage and concepts, a floor network is given
/// twice, a map is not finite, or something is required that cannot be answered.
pub fn judge(dense: &Dense, candidates: &[Explained], rules: &Rules) -> Result<DriftReport> {
    dense.check()?;
    candidates.iter().try_for_each(|candidate| dense.check_fits(candidate))?;
    let required = rules.required(dense)?;
    let floor = FloorDrift::new(dense)?;
    let candidates = candidates.iter().map(|candidate| one(dense, &floor, candidate, rules, required.as_deref()));
    Ok(DriftReport {
        schema_version: DRIFT_SCHEMA_VERSION,
        reference: dense.reference.name.clone(),
        stage: dense.stage,
        images: dense.reference.maps.len(),
        floor: dense.floor.iter().map(|floor| floor.name.clone()).collect(),
        floor_counted: (!dense.floor.is_empty()).then(|| floor.counted()),
        density: dense.reference.density,
        accuracy: accuracy::share_right(dense, &dense.reference),
        assumed: dense.reference.assumed,
        candidates: candidates.collect::<Result<_>>()?,
    })
}

fn one(
    dense: &Dense,
    floor: &FloorDrift,
    candidate: &Explained,
    rules: &Rules,
    required: Option<&[Kind]>,
) -> Result<CandidateDrift> {
    // What is not required trips nothing and takes no share of the level.
    let level = LEVEL / required.map_or(1, <[Kind]>::len).max(1) as f64;
    let pixels = pixels::pixels(dense, floor, candidate, rules, level)?;
    let mut answers = vec![pixels.answer];
    if !dense.reference.effects.is_empty() && !dense.floor.is_empty() {
        answers.push(concepts::concepts(dense, candidate, rules, level));
    }
    answers.extend(accuracy::accuracy(dense, candidate, rules, level)?);
    let gate = required.map(|required| {
        let trips = |kind: &Kind| {
            let answer = answers.iter().find(|answer| answer.kind == *kind);
            // What cannot be measured cannot be shown to be small.
            answer.is_none_or(|answer| match answer.answer {
                Explanations::Changed => true,
                Explanations::Undecided => !answer.measured || rules.on_undecided == OnUndecided::Fail,
                Explanations::Kept => false,
            })
        };
        let tripped_by: Vec<Kind> = required.iter().copied().filter(trips).collect();
        Gate {
            required: required.to_vec(),
            on_undecided: rules.on_undecided,
            needed: rules.needed(dense.reference.maps.len()),
            tripped: !tripped_by.is_empty(),
            tripped_by,
        }
    });
    Ok(CandidateDrift {
        name: candidate.name.clone(),
        answers,
        measures: pixels.measures,
        counted: pixels.counted,
        misclassified: pixels.misclassified,
        degenerate: pixels.degenerate,
        density: candidate.density,
        accuracy: accuracy::share_right(dense, candidate),
        assumed: candidate.assumed,
        images: moved_images(dense, &pixels.by_image),
        classes: moved_classes(&dense.targets, &pixels.by_image),
        concepts: concepts::moved(dense, candidate),
        layers: Vec::new(),
        gate,
    })
}

fn moved_images(dense: &Dense, drift: &[Option<f64>]) -> Vec<NamedDrift> {
    let named = dense.images.iter().zip(drift);
    most_moved(named.filter_map(|(name, drift)| Some(NamedDrift { name: name.clone(), drift: (*drift)? })).collect())
}

fn moved_classes(targets: &[usize], drift: &[Option<f64>]) -> Vec<NamedDrift> {
    let mut classes: BTreeMap<usize, Vec<Option<f64>>> = BTreeMap::new();
    for (class, drift) in targets.iter().zip(drift) {
        classes.entry(*class).or_default().push(*drift);
    }
    let mean = |(class, drift): (&usize, &Vec<Option<f64>>)| {
        Some(NamedDrift { name: class.to_string(), drift: known_mean(drift)? })
    };
    most_moved(classes.iter().filter_map(mean).collect())
}
