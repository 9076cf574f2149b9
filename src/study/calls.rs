//! Calls per round and verdicts per study, from intervals over replicates and images (DESIGN 1.6).

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::stats::association::{Coefficient, ReplicateAssociation, replicate_association};
use crate::stats::bootstrap::{Method, Options, grouped};
use crate::stats::floor::{Candidate, FloorPair, floor_ratio};
use crate::stats::intervals::paired_accuracy_difference;
use crate::stats::verdict::{self, Answer, Preserved, non_inferior, study_verdict, within_limit};
use crate::stats::{Interval, StatsError};

use super::Pair;
use crate::plan::Plan;
use crate::records::{Association, Call, Outcome, RoundCall, RoundId, RoundSummary, Verdict};

/// Calls for every arm and round, over all replicates.
pub(super) fn round_calls(
    plan: &Plan,
    keys: &[(String, usize)],
    rounds: &[RoundSummary],
    drifts: &BTreeMap<RoundId, Vec<Option<f64>>>,
    pairs: &[Pair],
    correct: impl Fn(&RoundId) -> Vec<u8>,
) -> Result<Vec<RoundCall>> {
    let dense: Vec<Vec<u8>> = (0..plan.replicates).map(|replicate| correct(&id("lottery", replicate, 0))).collect();
    let floor = floor_of(pairs);
    keys.iter()
        .map(|(arm, round)| {
            let summaries: Vec<&RoundSummary> =
                rounds.iter().filter(|summary| summary.id.arm == *arm && summary.id.round == *round).collect();
            let of = |value: fn(&RoundSummary) -> f64| {
                summaries.iter().map(|summary| value(summary)).sum::<f64>() / summaries.len() as f64
            };
            let mut call = RoundCall {
                arm: arm.clone(),
                round: *round,
                density: of(|summary| summary.density),
                test_accuracy: of(|summary| summary.test_accuracy),
                accuracy_difference: 0.0,
                accuracy_interval: None,
                drift_in_floors: None,
                drift_interval: None,
                call: Call::Dense,
                reason: "the dense network itself".into(),
            };
            if *round == 0 {
                return Ok(call);
            }
            let ids: Vec<RoundId> = (0..plan.replicates).map(|replicate| id(arm, replicate, *round)).collect();
            let here: Vec<Vec<u8>> = ids.iter().map(&correct).collect();
            let difference = |replicates: &[usize], images: &[usize]| {
                let sum: i64 = replicates
                    .iter()
                    .flat_map(|&replicate| {
                        let (a, b) = (&here[replicate], &dense[replicate]);
                        images.iter().map(move |&image| i64::from(a[image]) - i64::from(b[image]))
                    })
                    .sum();
                Some(sum as f64 / (replicates.len() * images.len()) as f64)
            };
            let every = |count: usize| (0..count).collect::<Vec<usize>>();
            let stream = format!("calls/{arm}/{round}");
            call.accuracy_difference = difference(&every(plan.replicates), &every(dense[0].len())).unwrap_or(0.0);
            // Replicates and images are resampled, the same images for all networks: they were tested on the same.
            let options = Options {
                resamples: plan.statistics.bootstrap,
                confidence: plan.verdict.confidence,
                method: Method::Percentile,
            };
            call.accuracy_interval = grouped(
                &[plan.replicates, dense[0].len()],
                |groups| difference(&groups[0], &groups[1]),
                options,
                plan.seed,
                &format!("{stream}/accuracy"),
            )
            .ok()
            .map(|result| Interval { low: result.interval.low, high: result.interval.high });
            let candidates: Vec<Candidate<'_>> =
                ids.iter().map(|id| Candidate { replicate: id.replicate, drift: &drifts[id] }).collect();
            // Undefined (no image that counts, a floor of zero) leaves the drift without a value: the call says so.
            if let Ok(result) = floor_ratio(
                &candidates,
                &floor,
                plan.verdict.confidence,
                plan.statistics.bootstrap,
                plan.seed,
                &format!("{stream}/drift"),
            ) {
                call.drift_in_floors = Some(result.ratio);
                call.drift_interval = Some(Interval { low: result.interval.low, high: result.interval.high });
            }
            let interval = |range: Option<Interval>| range.map(|range| Interval { low: range.low, high: range.high });
            let (made, reason) = decide(plan, interval(call.accuracy_interval), interval(call.drift_interval))?;
            (call.call, call.reason) = (recorded(made), reason);
            Ok(call)
        })
        .collect()
}

fn id(arm: &str, replicate: usize, round: usize) -> RoundId {
    RoundId { arm: arm.into(), replicate, round }
}

/// The call of an accuracy interval (this − dense) and a drift interval in floor units.
fn decide(plan: &Plan, accuracy: Option<Interval>, drift: Option<Interval>) -> Result<(verdict::Call, String)> {
    let margins = &plan.verdict;
    let limit = 1.0 + margins.drift_margin;
    let undefined = |error: StatsError| Error::statistics("call", error.to_string());
    let accuracy =
        accuracy.ok_or_else(|| Error::statistics("call", "the interval of the accuracy difference is undefined"))?;
    let matching = non_inferior(accuracy, margins.accuracy_margin).map_err(undefined)?;
    let preserved = match drift {
        Some(drift) => Preserved::Answer(within_limit(drift, limit).map_err(undefined)?),
        None => Preserved::NoDrift,
    };
    let word = |answer, yes, no| match answer {
        Answer::Yes => yes,
        Answer::No => no,
        Answer::Straddles => "undecided",
    };
    let preserved_word = match preserved {
        Preserved::Answer(answer) => word(answer, "preserved", "moved"),
        Preserved::NoFloor | Preserved::NoDrift => "undefined",
    };
    let drift = drift.map_or("undefined".into(), |drift| format!("{:.2} to {:.2}", drift.low, drift.high));
    let reason = format!(
        "accuracy {}: {:+.2} to {:+.2} points against a margin of -{:.2}; explanations {preserved_word}: drift {drift} \
         floor units against a limit of {limit:.2}",
        word(matching, "matches", "is lost"),
        100.0 * accuracy.low,
        100.0 * accuracy.high,
        100.0 * margins.accuracy_margin,
    );
    Ok((verdict::call(matching, preserved), reason))
}

fn recorded(call: verdict::Call) -> Call {
    match call {
        verdict::Call::A => Call::A,
        verdict::Call::B => Call::B,
        verdict::Call::DriftedWinner => Call::DriftedWinner,
        verdict::Call::FaithfulLoser => Call::FaithfulLoser,
        verdict::Call::Inconclusive(_) => Call::Inconclusive,
    }
}

/// The call of each network of one replicate by itself: the paired accuracy interval is over its images, the drift interval over
/// images and the floor's replicates. These are the votes that the study's verdicts count.
pub(super) fn replicate_call(
    plan: &Plan,
    id: &RoundId,
    correct: (&[u8], &[u8]),
    drift: &[Option<f64>],
    pairs: &[Pair],
) -> Result<verdict::Call> {
    let (here, dense) = correct;
    let only = |a: &[u8], b: &[u8]| a.iter().zip(b).filter(|(a, b)| a > b).count();
    let accuracy =
        paired_accuracy_difference(only(here, dense), only(dense, here), dense.len(), plan.verdict.confidence)
            .map_err(|error| Error::statistics("call", error.to_string()))?;
    let drift = floor_ratio(
        &[Candidate { replicate: id.replicate, drift }],
        &floor_of(pairs),
        plan.verdict.confidence,
        plan.statistics.bootstrap,
        plan.seed,
        &format!("calls/{}/{}/{}", id.arm, id.round, id.replicate),
    );
    Ok(decide(plan, Some(accuracy), drift.ok().map(|ratio| ratio.interval))?.0)
}

fn floor_of(pairs: &[Pair]) -> Vec<FloorPair<'_>> {
    pairs
        .iter()
        .map(|pair| FloorPair { replicates: (pair.record.first, pair.record.second), drift: &pair.per_image })
        .collect()
}

/// The study's verdicts from the lottery arm's calls, `calls[replicate][round − 1]`, by the rule of [`crate::stats::verdict`].
pub(super) fn verdicts(
    plan: &Plan,
    calls: &[Vec<verdict::Call>],
    rounds: &[RoundSummary],
) -> (Verdict, Verdict, Option<Association>) {
    let association = association(plan, rounds);
    let study = study_verdict(calls, association.as_ref(), plan.statistics.alpha);
    let of = |hypothesis: &verdict::HypothesisVerdict| Verdict {
        outcome: match hypothesis.verdict {
            verdict::Verdict::Supported => Outcome::Supported,
            verdict::Verdict::Refuted => Outcome::Refuted,
            verdict::Verdict::Inconclusive => Outcome::Inconclusive,
        },
        reason: hypothesis.reason.clone(),
    };
    let association = association.map(|found| Association {
        within: found.within,
        common_trend: found.common_trend,
        p_value: found.test.p_value,
        smallest_p: found.test.smallest_p,
    });
    (of(&study.a), of(&study.b), association)
}

/// Rank correlation of drift with accuracy loss over the rounds, beyond the trend that all replicates share.
fn association(plan: &Plan, rounds: &[RoundSummary]) -> Option<ReplicateAssociation> {
    let (mut drifts, mut losses) = (Vec::new(), Vec::new());
    for replicate in 0..plan.replicates {
        let own: Vec<&RoundSummary> =
            rounds.iter().filter(|summary| summary.id.arm == "lottery" && summary.id.replicate == replicate).collect();
        let dense = own.iter().find(|summary| summary.id.round == 0)?.test_accuracy;
        let pruned = || own.iter().filter(|summary| summary.id.round > 0);
        drifts.push(pruned().map(|summary| summary.drift.spearman).collect::<Option<Vec<f64>>>()?);
        losses.push(pruned().map(|summary| dense - summary.test_accuracy).collect::<Vec<f64>>());
    }
    // Undefined where a replicate's drift or loss never varies: then there is no association to speak of.
    replicate_association(
        &drifts,
        &losses,
        Coefficient::Spearman,
        plan.statistics.permutations,
        plan.seed,
        "calls/association",
    )
    .ok()
}
