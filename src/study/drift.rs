//! Drift of one network's explanations from another's: maps image by image, concepts by their profile (DESIGN 1.6).

use std::collections::BTreeMap;

use crate::error::{Error, Result, undefined};
use crate::stats::correlation::spearman_coefficient;
use crate::stats::descriptive::known_mean;
use crate::stats::similarity::{Measure, Similarity};

use crate::plan::Plan;
use crate::records::{Adjusted, Drift, MeasureDrift, RoundRecord, TcavRecord};

/// A network's record and its raw maps at the stage that drift is measured at.
pub(super) struct Network {
    pub(super) record: RoundRecord,
    /// One map for each fixed image.
    pub(super) maps: Vec<Vec<f64>>,
    /// Whether each of these images is classified correctly.
    pub(super) correct: Vec<bool>,
}

/// Whether a record's effect is significant and may be interpreted.
pub(super) fn significant(plan: &Plan, record: &TcavRecord, adjusted: &Adjusted) -> bool {
    record.decodable && adjusted.effect_p <= plan.statistics.alpha
}

/// Two networks compared.
pub(super) struct Compared {
    pub(super) drift: Drift,
    /// Spearman drift of each image that counts.
    pub(super) per_image: Vec<Option<f64>>,
}

/// Drift of `other` from `reference`.
///
/// # Errors
/// When a map is not finite.
pub(super) fn compare(
    plan: &Plan,
    reference: &Network,
    other: &Network,
    reference_p: &[Adjusted],
    other_p: &[Adjusted],
) -> Result<Compared> {
    let stage = plan.explain.stages[0];
    let cam = |network: &Network| network.record.grad_cam.iter().find(|cam| cam.stage == stage).cloned();
    let cam = cam(reference).ok_or_else(|| Error::input(format!("a round record holds no Grad-CAM at {stage}")))?;
    let [height, width] = cam.size;
    let mut right = Vec::new();
    let mut measures = BTreeMap::new();
    for measure in Measure::ALL {
        let all = (reference.maps.iter().zip(&other.maps))
            .map(|(a, b)| measure.drift(a, b, height, width).map(Similarity::value).map_err(undefined("drift")))
            .collect::<Result<Vec<Option<f64>>>>()?;
        // The explained class is the true one, so a prediction that equals it in both means both are right.
        let counts = reference.correct.iter().zip(&other.correct);
        let both_right: Vec<Option<f64>> =
            (all.iter().zip(counts)).map(|(drift, (a, b))| drift.filter(|_| *a && *b)).collect();
        let found = MeasureDrift {
            both_right: known_mean(&both_right),
            all: known_mean(&all),
            degenerate: all.iter().filter(|drift| drift.is_none()).count(),
        };
        measures.insert(measure, found);
        if measure == Measure::Spearman {
            right = both_right;
        }
    }
    let (spearman, overlap) = (measures[&Measure::Spearman], measures[&Measure::Iou20]);
    let profile = |network: &Network, value: fn(&TcavRecord) -> Option<f64>| -> Vec<Option<f64>> {
        network.record.tcav.iter().filter(|record| record.stage == stage).map(value).collect()
    };
    let effect: fn(&TcavRecord) -> Option<f64> = |record| record.effect_standardised;
    let score: fn(&TcavRecord) -> Option<f64> = |record| Some(record.score);
    let both = |value: fn(&TcavRecord) -> Option<f64>| -> (Vec<f64>, Vec<f64>) {
        let pairs = profile(reference, value).into_iter().zip(profile(other, value));
        pairs.filter_map(|(a, b)| Some((a?, b?))).unzip()
    };
    let (effects_a, effects_b) = both(effect);
    let (scores_a, scores_b) = both(score);
    let flipped = reference
        .record
        .tcav
        .iter()
        .zip(reference_p)
        .zip(other.record.tcav.iter().zip(other_p))
        .filter(|((a, _), _)| a.stage == stage)
        .filter(|((a, pa), (b, pb))| {
            let sign = |record: &TcavRecord, p| {
                if significant(plan, record, p) { record.effect.partial_cmp(&0.0) } else { None }
            };
            sign(a, pa) != sign(b, pb)
        })
        .map(|((a, _), _)| format!("{}/{}", a.class, a.concept))
        .collect();
    let drift = Drift {
        spearman: spearman.both_right,
        iou: overlap.both_right,
        spearman_all: spearman.all,
        images: right.iter().flatten().count(),
        degenerate: spearman.degenerate,
        profile: root_mean_square(&effects_a, &effects_b),
        profile_rank: spearman_coefficient(&effects_a, &effects_b).ok().map(|rho| 1.0 - rho),
        score_profile: root_mean_square(&scores_a, &scores_b),
        flipped,
        measures,
    };
    Ok(Compared { drift, per_image: right })
}

fn root_mean_square(a: &[f64], b: &[f64]) -> Option<f64> {
    let squares: f64 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
    (!a.is_empty()).then(|| (squares / a.len() as f64).sqrt())
}
