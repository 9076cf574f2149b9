//! What follows from the round records: adjusted p-values, drift, floor, calls, verdicts (DESIGN 1.6).

mod calls;
mod drift;
mod sanity;

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{Error, Result, undefined};
use crate::explain::split_maps;
use crate::nn::Compute;
use crate::progress::{Event, Observer};
use crate::run::{Checkpoints, rounds};
use crate::stats::descriptive::known_mean;
use crate::stats::multiplicity::adjust;
use crate::stats::similarity::Measure;

use self::drift::{Network, compare, significant};
use self::sanity::sanity_summary;
use crate::plan::Plan;
use crate::records::Store;
use crate::records::{
    Adjusted, Drift, FORMAT, Floor, FloorPair, RoundId, RoundSummary, SanitySummary, StudyRecord, TcavRecord, round_ids,
};

/// Runs `plan` in the folder `out` on the CPU, going on from the last finished round, and derives the study.
///
/// # Errors
/// As [`crate::run::rounds`] and [`derive`].
pub fn run(plan: &Plan, out: &Path, observer: &dyn Observer) -> Result<StudyRecord> {
    conduct(plan, None, out, &Compute::Cpu, observer)
}

/// [`run`] on a device. A run is of one device from its first round to its last.
///
/// # Errors
/// As [`run`], when the folder's run was begun elsewhere, or the device fails.
pub fn run_on(plan: &Plan, out: &Path, compute: &Compute, observer: &dyn Observer) -> Result<StudyRecord> {
    conduct(plan, None, out, compute, observer)
}

/// [`run`] with trained networks from `checkpoints`: nothing is trained.
///
/// # Errors
/// As [`run`], and when a checkpoint is not the ticket that its round's mask makes.
pub fn explain_checkpoints(
    plan: &Plan,
    checkpoints: Checkpoints<'_>,
    out: &Path,
    observer: &dyn Observer,
) -> Result<StudyRecord> {
    conduct(plan, Some(checkpoints), out, &Compute::Cpu, observer)
}

fn conduct(
    plan: &Plan,
    checkpoints: Option<Checkpoints<'_>>,
    out: &Path,
    compute: &Compute,
    observer: &dyn Observer,
) -> Result<StudyRecord> {
    let store = rounds(plan, checkpoints, out, compute, observer)?;
    if observer.notice(&Event::Phase("deriving drift, floor and verdict")).is_break() {
        return Err(Error::Interrupted);
    }
    let study = derive(plan, &store)?;
    store.write_study(&study)?;
    Ok(study)
}

/// Derives the study from the finished rounds of a run folder.
///
/// # Errors
/// When a round is missing or a statistic is undefined.
pub fn derive(plan: &Plan, store: &Store) -> Result<StudyRecord> {
    let stage = plan.explain.stages[0];
    let manifest = store.manifest()?;
    let mut networks: BTreeMap<RoundId, Network> = BTreeMap::new();
    let mut counts = None;
    for id in round_ids(plan) {
        let record = store
            .round(&id)?
            .ok_or_else(|| Error::format(store.root(), format!("{} round {} is missing", id.arm, id.round)))?;
        let maps = store
            .maps(&id)?
            .remove(stage.name())
            .ok_or_else(|| Error::format(store.root(), format!("holds no maps at {stage}")))?;
        let cam = record.grad_cam.iter().find(|cam| cam.stage == stage);
        let cam = cam.ok_or_else(|| Error::format(store.root(), format!("records no Grad-CAM at {stage}")))?;
        let correct = cam.predicted.iter().zip(&manifest.cam_images).map(|(&p, shown)| p == shown.class).collect();
        let maps = split_maps(&maps)?;
        // Networks are compared image by image.
        let found = [record.test_correct.len(), cam.predicted.len(), maps.len()];
        let expected = *counts.get_or_insert([found[0], manifest.cam_images.len(), manifest.cam_images.len()]);
        if found != expected {
            let what = format!(
                "{} round {} of replicate {} records {found:?} answers, predictions and maps, expected {expected:?}",
                id.arm, id.round, id.replicate
            );
            return Err(Error::format(store.root(), what));
        }
        networks.insert(id, Network { maps, correct, record });
    }
    let adjusted = adjusted_p_values(plan, &networks)?;
    let pairs = floor_pairs(plan, &networks, &adjusted)?;
    let dense = |replicate| id_of("lottery", replicate, 0);
    let mut rounds = Vec::new();
    let mut drifts: BTreeMap<RoundId, Vec<Option<f64>>> = BTreeMap::new();
    for (id, network) in &networks {
        let reference = dense(id.replicate);
        let compared = compare(plan, &networks[&reference], network, &adjusted[&reference], &adjusted[id])?;
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
            measures_in_floors: BTreeMap::new(),
            localisation: network.record.localisation.iter().find(|of| of.stage == Some(stage)).cloned(),
            drift: compared.drift,
            adjusted: adjusted[id].clone(),
            significant,
        });
        drifts.insert(id.clone(), compared.per_image);
    }
    let floor = floor_of(&pairs);
    for summary in &mut rounds {
        summary.drift_in_floors = ratio(summary.drift.spearman, floor.spearman);
        summary.measures_in_floors = (summary.drift.measures.iter())
            .filter_map(|(&measure, drift)| {
                let floor = floor.measures.get(&measure).copied();
                Some((measure, ratio(drift.both_right, floor)?))
            })
            .collect();
    }
    let calls = calls::round_calls(plan, &networks_by_round(plan), &rounds, &drifts, &pairs, |id| {
        networks[id].record.test_correct.as_bytes().to_vec()
    })?;
    let votes = (0..plan.replicates)
        .map(|replicate| {
            (1..=plan.prune.rounds)
                .map(|round| {
                    let (id, dense) = (id_of("lottery", replicate, round), dense(replicate));
                    let correct =
                        (networks[&id].record.test_correct.as_bytes(), networks[&dense].record.test_correct.as_bytes());
                    calls::replicate_call(plan, &id, correct, &drifts[&id], &pairs)
                })
                .collect()
        })
        .collect::<Result<Vec<Vec<_>>>>()?;
    let sanity: Vec<SanitySummary> = (0..plan.replicates)
        .filter_map(|replicate| store.sanity(replicate).transpose())
        .map(|record| Ok(sanity_summary(plan, &record?, &pairs)))
        .collect::<Result<_>>()?;
    let mut warnings = warnings(plan, &manifest.warnings, &networks);
    warnings.extend(
        sanity
            .iter()
            .filter(|check| check.destroyed != Some(true))
            .map(|check| {
                format!(
                    "sanity check, replicate {}: with random weights in every layer the maps are not shown to move beyond the noise floor, so they may \
                     say little about what the network has learned (Adebayo et al. 2018)",
                    check.replicate
                )
            }),
    );
    let (hypothesis_a, hypothesis_b, association) = calls::verdicts(plan, &votes, &rounds);
    Ok(StudyRecord { format: FORMAT, floor, rounds, calls, hypothesis_a, hypothesis_b, association, sanity, warnings })
}

/// Arms and rounds beyond the dense network, in order.
fn networks_by_round(plan: &Plan) -> Vec<(String, usize)> {
    let mut keys: Vec<(String, usize)> = round_ids(plan).into_iter().map(|id| (id.arm, id.round)).collect();
    keys.sort();
    keys.dedup();
    keys
}

fn id_of(arm: &str, replicate: usize, round: usize) -> RoundId {
    RoundId { arm: arm.into(), replicate, round }
}

fn ratio(value: Option<f64>, floor: Option<f64>) -> Option<f64> {
    match (value, floor) {
        (Some(value), Some(floor)) if floor > 0.0 => Some(value / floor),
        _ => None,
    }
}

/// Adjusts over round × stage × class × concept within each replicate and arm; each statistic's family apart. The dense network
/// belongs to the family of every arm of its replicate; its own values are those of the lottery arm's.
fn adjusted_p_values(plan: &Plan, networks: &BTreeMap<RoundId, Network>) -> Result<BTreeMap<RoundId, Vec<Adjusted>>> {
    let mut families: BTreeMap<(String, usize), Vec<&RoundId>> = BTreeMap::new();
    for id in networks.keys() {
        families.entry((id.arm.clone(), id.replicate)).or_default().push(id);
    }
    let mut result = BTreeMap::new();
    for ids in families.values() {
        let all = |value: fn(&TcavRecord) -> f64| {
            let p: Vec<f64> = ids.iter().flat_map(|id| networks[*id].record.tcav.iter().map(value)).collect();
            adjust(&p, plan.statistics.adjustment).map_err(undefined("adjusted p-values"))
        };
        let (effects, scores) = (all(|record| record.effect_p)?, all(|record| record.score_p)?);
        let mut values = effects.into_iter().zip(scores);
        for id in ids {
            let count = networks[*id].record.tcav.len();
            let own: Vec<Adjusted> =
                values.by_ref().take(count).map(|(effect_p, score_p)| Adjusted { effect_p, score_p }).collect();
            result.insert((*id).clone(), own);
        }
    }
    Ok(result)
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
            let compared = compare(plan, &networks[&a], &networks[&b], &adjusted[&a], &adjusted[&b])?;
            let record = FloorPair { first, second, drift: compared.drift };
            pairs.push(Pair { record, per_image: compared.per_image });
        }
    }
    Ok(pairs)
}

fn floor_of(pairs: &[Pair]) -> Floor {
    let mean_of = |value: fn(&Drift) -> Option<f64>| {
        known_mean(&pairs.iter().map(|pair| value(&pair.record.drift)).collect::<Vec<_>>())
    };
    Floor {
        spearman: mean_of(|drift| drift.spearman),
        iou: mean_of(|drift| drift.iou),
        profile: mean_of(|drift| drift.profile),
        measures: (Measure::ALL.into_iter())
            .filter_map(|measure| {
                let of: Vec<Option<f64>> =
                    pairs.iter().map(|pair| pair.record.drift.measures[&measure].both_right).collect();
                Some((measure, known_mean(&of)?))
            })
            .collect(),
        pairs: pairs.iter().map(|pair| pair.record.clone()).collect(),
    }
}

fn warnings(plan: &Plan, power: &[String], networks: &BTreeMap<RoundId, Network>) -> Vec<String> {
    let mut warnings = power.to_vec();
    let chance_like = networks.values().filter(|network| network.record.test_accuracy < 0.6).count();
    if chance_like > 0 {
        warnings.push(format!("{chance_like} networks classify fewer than 60 % of the test images correctly"));
    }
    if plan.replicates < 3 {
        warnings.push("two replicates give one pair for the noise floor: its own uncertainty is barely known".into());
    }
    warnings
}
