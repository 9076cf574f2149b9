//! Drift between two networks: maps image by image, concepts by the profile of their effects.

use crate::error::Result;
use crate::model::Stage;
use crate::records::{Adjusted, Drift, MeasureDrift, TcavRecord};
use crate::stats::correlation::spearman_coefficient;
use crate::stats::descriptive::known_mean;
use crate::stats::representation::linear_cka;
use crate::stats::similarity::Measure;

use super::networks::{MapSet, Network};

/// Drift of each image's map by `measure`; absent where either map has no pattern.
///
/// # Errors
/// When a map is not finite or the sizes differ.
pub(super) fn map_drift(measure: Measure, a: &MapSet, b: &MapSet) -> Result<Vec<Option<f64>>> {
    crate::explain::map_drift(measure, a.size, &a.maps, &b.maps)
}

/// A network's effects at one stage, one for each class × concept; absent where nothing varies.
pub(super) fn effects(network: &Network, stage: Stage) -> Vec<Option<f64>> {
    profile(network, stage, |record| record.effect_standardised)
}

fn profile(network: &Network, stage: Stage, value: fn(&TcavRecord) -> Option<f64>) -> Vec<Option<f64>> {
    network.record.tcav.iter().filter(|record| record.stage == stage).map(value).collect()
}

/// Root mean square difference over the entries that both profiles have.
pub(super) fn profile_drift(a: &[Option<f64>], b: &[Option<f64>]) -> Option<f64> {
    let (a, b) = both(a, b);
    let squares: f64 = a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum();
    (!a.is_empty()).then(|| (squares / a.len() as f64).sqrt())
}

fn both(a: &[Option<f64>], b: &[Option<f64>]) -> (Vec<f64>, Vec<f64>) {
    a.iter().zip(b).filter_map(|(a, b)| Some(((*a)?, (*b)?))).unzip()
}

/// 1 − debiased linear CKA of two networks at one stage; absent where either's representation is not recorded.
pub(super) fn representation_drift(a: &Network, b: &Network, stage: Stage) -> Option<f64> {
    let (a, b) = (a.representations.get(stage.name())?, b.representations.get(stage.name())?);
    linear_cka(a, b).ok().map(|cka| 1.0 - cka)
}

/// Whether a record's effect is significant and may be interpreted.
pub(super) fn significant(alpha: f64, record: &TcavRecord, adjusted: &Adjusted) -> bool {
    record.decodable && adjusted.effect_p <= alpha
}

/// Decodable concepts of one stage whose effect is significant after adjustment.
pub(super) fn count_significant(alpha: f64, network: &Network, stage: Stage) -> usize {
    let records = network.record.tcav.iter().zip(&network.adjusted);
    records.filter(|(record, p)| record.stage == stage && significant(alpha, record, p)).count()
}

/// Concepts of one stage whose effect's significance or sign differs between two networks, as `class/concept`.
pub(super) fn flipped(alpha: f64, a: &Network, b: &Network, stage: Stage) -> Vec<String> {
    let sign = |record: &TcavRecord, p: &Adjusted| match significant(alpha, record, p) {
        true => record.effect.partial_cmp(&0.0),
        false => None,
    };
    let pairs = a.record.tcav.iter().zip(&a.adjusted).zip(b.record.tcav.iter().zip(&b.adjusted));
    pairs
        .filter(|((a, _), _)| a.stage == stage)
        .filter(|((a, pa), (b, pb))| sign(a, pa) != sign(b, pb))
        .map(|((a, _), _)| format!("{}/{}", a.class, a.concept))
        .collect()
}

/// Drift of `other` from `reference` by everything that is measured, in the view and at the stage that decide.
///
/// # Errors
/// When a map is not finite.
pub(super) fn compare(alpha: f64, view: &str, stage: Stage, reference: &Network, other: &Network) -> Result<Drift> {
    let mut drift = Drift::default();
    for measure in Measure::ALL {
        let all = map_drift(measure, &reference.views[view], &other.views[view])?;
        // The explained class is the true one, so where both are right both explain their prediction.
        let right = reference.correct.iter().zip(&other.correct).map(|(a, b)| *a && *b);
        let both_right: Vec<Option<f64>> =
            all.iter().zip(right).map(|(drift, right)| drift.filter(|_| right)).collect();
        let degenerate = all.iter().filter(|drift| drift.is_none()).count();
        if measure == Measure::Spearman {
            (drift.images, drift.degenerate) = (both_right.iter().flatten().count(), degenerate);
        }
        let found = MeasureDrift { both_right: known_mean(&both_right), all: known_mean(&all), degenerate };
        drift.pixels.insert(measure, found);
    }
    let (effects_a, effects_b) = (effects(reference, stage), effects(other, stage));
    drift.concepts = profile_drift(&effects_a, &effects_b);
    let (known_a, known_b) = both(&effects_a, &effects_b);
    drift.representation = representation_drift(reference, other, stage);
    drift.concept_ranks = spearman_coefficient(&known_a, &known_b).ok().map(|rho| 1.0 - rho);
    let scores = |network| profile(network, stage, |record| Some(record.score));
    drift.scores = profile_drift(&scores(reference), &scores(other));
    drift.flipped = flipped(alpha, reference, other, stage);
    Ok(drift)
}
