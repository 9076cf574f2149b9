//! What follows from the round records: adjusted p-values, drift, floor, calls, verdicts (DESIGN 1.6).

use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::stats::correlation::spearman_coefficient;
use crate::stats::multiplicity::adjust;
use crate::stats::similarity::{Measure, Similarity};

use super::config::Plan;
use super::records::{
    Adjusted, Drift, FORMAT, Floor, FloorPair, RoundId, RoundRecord, RoundSummary, StudyRecord,
    TcavRecord,
};
use super::rounds::round_ids;
use super::store::Store;

/// A network's record and its raw maps at the stage that drift is measured at.
struct Network {
    record: RoundRecord,
    /// One map for each fixed image.
    maps: Vec<Vec<f64>>,
    /// Whether each of these images is classified correctly.
    correct: Vec<bool>,
}

/// Derives the study from the finished rounds of a run folder.
///
/// # Errors
/// When a round is missing or a statistic is undefined.
pub fn derive(plan: &Plan, store: &Store) -> Result<StudyRecord> {
    let stage = plan.explain.stages[0];
    let manifest = store.manifest()?;
    let mut networks: BTreeMap<RoundId, Network> = BTreeMap::new();
    for id in round_ids(plan) {
        let record = store.round(&id)?.ok_or_else(|| {
            Error::format(
                store.root(),
                format!("{} round {} is missing", id.arm, id.round),
            )
        })?;
        let maps = store
            .maps(&id)?
            .remove(stage.name())
            .ok_or_else(|| Error::format(store.root(), format!("holds no maps at {stage}")))?;
        let cam = record.grad_cam.iter().find(|cam| cam.stage == stage);
        let cam = cam.ok_or_else(|| {
            Error::format(store.root(), format!("records no Grad-CAM at {stage}"))
        })?;
        let correct = cam
            .predicted
            .iter()
            .zip(&manifest.cam_images)
            .map(|(&p, shown)| p == shown.class)
            .collect();
        networks.insert(
            id,
            Network {
                maps: split_maps(&maps)?,
                correct,
                record,
            },
        );
    }
    let adjusted = adjusted_p_values(plan, &networks)?;
    let pairs = floor_pairs(plan, &networks, &adjusted)?;
    let dense = |replicate| id_of("lottery", replicate, 0);
    let mut rounds = Vec::new();
    let mut drifts: BTreeMap<RoundId, Vec<Option<f64>>> = BTreeMap::new();
    for (id, network) in &networks {
        let reference = dense(id.replicate);
        let compared = compare(
            plan,
            &networks[&reference],
            network,
            &adjusted[&reference],
            &adjusted[id],
        )?;
        let significant = network
            .record
            .tcav
            .iter()
            .zip(&adjusted[id])
            .filter(|(record, p)| record.stage == stage && significant(plan, record, p))
            .count();
        rounds.push(RoundSummary {
            id: id.clone(),
            density: network.record.density,
            test_accuracy: network.record.test_accuracy,
            drift_in_floors: None,
            drift: compared.drift,
            adjusted: adjusted[id].clone(),
            significant,
        });
        drifts.insert(id.clone(), compared.per_image);
    }
    let floor = floor_of(&pairs);
    for summary in &mut rounds {
        summary.drift_in_floors = ratio(summary.drift.spearman, floor.spearman);
    }
    let calls = super::calls::round_calls(
        plan,
        &networks_by_round(plan),
        &rounds,
        &drifts,
        &pairs,
        |id| networks[id].record.test_correct.as_bytes().to_vec(),
    )?;
    let votes = (0..plan.replicates)
        .map(|replicate| {
            (1..=plan.prune.rounds)
                .map(|round| {
                    let (id, dense) = (id_of("lottery", replicate, round), dense(replicate));
                    let correct = (
                        networks[&id].record.test_correct.as_bytes(),
                        networks[&dense].record.test_correct.as_bytes(),
                    );
                    super::calls::replicate_call(plan, &id, correct, &drifts[&id], &pairs)
                })
                .collect()
        })
        .collect::<Result<Vec<Vec<_>>>>()?;
    let (hypothesis_a, hypothesis_b, association) = super::calls::verdicts(plan, &votes, &rounds);
    Ok(StudyRecord {
        format: FORMAT,
        floor,
        rounds,
        calls,
        hypothesis_a,
        hypothesis_b,
        association,
        warnings: warnings(plan, &manifest.warnings, &networks),
    })
}

/// Arms and rounds beyond the dense network, in order.
fn networks_by_round(plan: &Plan) -> Vec<(String, usize)> {
    let mut keys: Vec<(String, usize)> = round_ids(plan)
        .into_iter()
        .map(|id| (id.arm, id.round))
        .collect();
    keys.sort();
    keys.dedup();
    keys
}

fn id_of(arm: &str, replicate: usize, round: usize) -> RoundId {
    RoundId {
        arm: arm.into(),
        replicate,
        round,
    }
}

fn ratio(value: Option<f64>, floor: Option<f64>) -> Option<f64> {
    match (value, floor) {
        (Some(value), Some(floor)) if floor > 0.0 => Some(value / floor),
        _ => None,
    }
}

/// Whether a record's effect is significant and may be interpreted.
fn significant(plan: &Plan, record: &TcavRecord, adjusted: &Adjusted) -> bool {
    record.decodable && adjusted.effect_p <= plan.statistics.alpha
}

/// Adjusts over round × stage × class × concept within each replicate and arm; each statistic's family apart. The dense network
/// belongs to the family of every arm of its replicate; its own values are those of the lottery arm's.
fn adjusted_p_values(
    plan: &Plan,
    networks: &BTreeMap<RoundId, Network>,
) -> Result<BTreeMap<RoundId, Vec<Adjusted>>> {
    let mut families: BTreeMap<(String, usize), Vec<&RoundId>> = BTreeMap::new();
    for id in networks.keys() {
        families
            .entry((id.arm.clone(), id.replicate))
            .or_default()
            .push(id);
    }
    let mut result = BTreeMap::new();
    for ids in families.values() {
        let all = |value: fn(&TcavRecord) -> f64| {
            let p: Vec<f64> = ids
                .iter()
                .flat_map(|id| networks[*id].record.tcav.iter().map(value))
                .collect();
            adjust(&p, plan.statistics.adjustment).map_err(undefined("adjusted p-values"))
        };
        let (effects, scores) = (
            all(|record| record.effect_p)?,
            all(|record| record.score_p)?,
        );
        let mut values = effects.into_iter().zip(scores);
        for id in ids {
            let count = networks[*id].record.tcav.len();
            let own: Vec<Adjusted> = values
                .by_ref()
                .take(count)
                .map(|(effect_p, score_p)| Adjusted { effect_p, score_p })
                .collect();
            result.insert((*id).clone(), own);
        }
    }
    Ok(result)
}

/// Two networks compared.
struct Compared {
    drift: Drift,
    /// Spearman drift of each image that counts.
    per_image: Vec<Option<f64>>,
}

fn compare(
    plan: &Plan,
    reference: &Network,
    other: &Network,
    reference_p: &[Adjusted],
    other_p: &[Adjusted],
) -> Result<Compared> {
    let stage = plan.explain.stages[0];
    let cam = |network: &Network| {
        network
            .record
            .grad_cam
            .iter()
            .find(|cam| cam.stage == stage)
            .cloned()
    };
    let cam = cam(reference)
        .ok_or_else(|| Error::input(format!("a round record holds no Grad-CAM at {stage}")))?;
    let [height, width] = cam.size;
    let (mut right, mut all, mut overlap) = (Vec::new(), Vec::new(), Vec::new());
    let mut degenerate = 0;
    for image in 0..reference.maps.len() {
        let (a, b) = (&reference.maps[image], &other.maps[image]);
        let measure = |measure: Measure| {
            measure
                .drift(a, b, height, width)
                .map(Similarity::value)
                .map_err(undefined("drift"))
        };
        let value = measure(Measure::Spearman)?;
        degenerate += usize::from(value.is_none());
        all.push(value);
        // The explained class is the true one, so a prediction that equals it in both means both are right.
        let both_right = reference.correct[image] && other.correct[image];
        right.push(value.filter(|_| both_right));
        overlap.push(measure(Measure::Iou20)?.filter(|_| both_right));
    }
    let profile = |network: &Network, value: fn(&TcavRecord) -> Option<f64>| -> Vec<Option<f64>> {
        network
            .record
            .tcav
            .iter()
            .filter(|record| record.stage == stage)
            .map(value)
            .collect()
    };
    let effect: fn(&TcavRecord) -> Option<f64> = |record| record.effect_standardised;
    let score: fn(&TcavRecord) -> Option<f64> = |record| Some(record.score);
    let both = |value: fn(&TcavRecord) -> Option<f64>| -> (Vec<f64>, Vec<f64>) {
        let pairs = profile(reference, value)
            .into_iter()
            .zip(profile(other, value));
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
                if significant(plan, record, p) {
                    record.effect.partial_cmp(&0.0)
                } else {
                    None
                }
            };
            sign(a, pa) != sign(b, pb)
        })
        .map(|((a, _), _)| format!("{}/{}", a.class, a.concept))
        .collect();
    let drift = Drift {
        spearman: mean(&right),
        iou: mean(&overlap),
        spearman_all: mean(&all),
        images: right.iter().flatten().count(),
        degenerate,
        profile: root_mean_square(&effects_a, &effects_b),
        profile_rank: spearman_coefficient(&effects_a, &effects_b)
            .ok()
            .map(|rho| 1.0 - rho),
        score_profile: root_mean_square(&scores_a, &scores_b),
        flipped,
    };
    Ok(Compared {
        drift,
        per_image: right,
    })
}

/// Drift of two dense replicates, with its images.
pub(super) struct Pair {
    pub(super) record: FloorPair,
    pub(super) per_image: Vec<Option<f64>>,
}

fn floor_pairs(
    plan: &Plan,
    networks: &BTreeMap<RoundId, Network>,
    adjusted: &BTreeMap<RoundId, Vec<Adjusted>>,
) -> Result<Vec<Pair>> {
    let mut pairs = Vec::new();
    for first in 0..plan.replicates {
        for second in first + 1..plan.replicates {
            let (a, b) = (id_of("lottery", first, 0), id_of("lottery", second, 0));
            let compared = compare(
                plan,
                &networks[&a],
                &networks[&b],
                &adjusted[&a],
                &adjusted[&b],
            )?;
            let record = FloorPair {
                first,
                second,
                drift: compared.drift,
            };
            pairs.push(Pair {
                record,
                per_image: compared.per_image,
            });
        }
    }
    Ok(pairs)
}

fn floor_of(pairs: &[Pair]) -> Floor {
    let mean_of = |value: fn(&Drift) -> Option<f64>| {
        mean(
            &pairs
                .iter()
                .map(|pair| value(&pair.record.drift))
                .collect::<Vec<_>>(),
        )
    };
    Floor {
        spearman: mean_of(|drift| drift.spearman),
        iou: mean_of(|drift| drift.iou),
        profile: mean_of(|drift| drift.profile),
        pairs: pairs.iter().map(|pair| pair.record.clone()).collect(),
    }
}

fn mean(values: &[Option<f64>]) -> Option<f64> {
    let known: Vec<f64> = values.iter().flatten().copied().collect();
    (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
}

fn root_mean_square(a: &[f64], b: &[f64]) -> Option<f64> {
    let squares: f64 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
    (!a.is_empty()).then(|| (squares / a.len() as f64).sqrt())
}

fn warnings(
    plan: &Plan,
    power: &[String],
    networks: &BTreeMap<RoundId, Network>,
) -> Vec<String> {
    let mut warnings = power.to_vec();
    let chance_like = networks
        .values()
        .filter(|network| network.record.test_accuracy < 0.6)
        .count();
    if chance_like > 0 {
        warnings.push(format!(
            "{chance_like} networks classify fewer than 60 % of the test images correctly"
        ));
    }
    if plan.replicates < 3 {
        warnings.push(
            "two replicates give one pair for the noise floor: its own uncertainty is barely known"
                .into(),
        );
    }
    warnings
}

fn undefined(statistic: &'static str) -> impl Fn(crate::stats::StatsError) -> Error {
    move |error| Error::statistics(statistic, error.to_string())
}

fn split_maps(maps: &Tensor) -> Result<Vec<Vec<f64>>> {
    let rows = maps.flatten_from(1)?.to_vec2::<f32>()?;
    Ok(rows
        .into_iter()
        .map(|row| row.into_iter().map(f64::from).collect())
        .collect())
}
