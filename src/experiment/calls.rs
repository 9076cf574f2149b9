//! Calls per round and verdicts per study, from intervals over replicates and images (DESIGN 1.6).

use std::collections::BTreeMap;

use crate::error::Result;
use crate::stats::association::{Coefficient, replicate_association};
use crate::stats::bootstrap::{Method, Options, grouped};
use crate::stats::floor::{Candidate, FloorPair, floor_ratio};

use super::config::Plan;
use super::records::{
    Association, Call, Outcome, Range, RoundCall, RoundId, RoundSummary, Verdict,
};
use super::study::Pair;

/// Calls for every arm and round, over all replicates.
pub(super) fn round_calls(
    plan: &Plan,
    keys: &[(String, usize)],
    rounds: &[RoundSummary],
    drifts: &BTreeMap<RoundId, Vec<Option<f64>>>,
    pairs: &[Pair],
    correct: impl Fn(&RoundId) -> Vec<u8>,
) -> Result<Vec<RoundCall>> {
    let dense: Vec<Vec<u8>> = (0..plan.replicates)
        .map(|replicate| correct(&id("lottery", replicate, 0)))
        .collect();
    let floor: Vec<FloorPair<'_>> = pairs
        .iter()
        .map(|pair| FloorPair {
            replicates: (pair.record.first, pair.record.second),
            drift: &pair.per_image,
        })
        .collect();
    keys.iter()
        .map(|(arm, round)| {
            let summaries: Vec<&RoundSummary> = rounds
                .iter()
                .filter(|summary| summary.id.arm == *arm && summary.id.round == *round)
                .collect();
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
            let ids: Vec<RoundId> = (0..plan.replicates)
                .map(|replicate| id(arm, replicate, *round))
                .collect();
            let here: Vec<Vec<u8>> = ids.iter().map(&correct).collect();
            let difference = |replicates: &[usize], images: &[usize]| {
                let sum: i64 = replicates
                    .iter()
                    .flat_map(|&replicate| {
                        let (a, b) = (&here[replicate], &dense[replicate]);
                        images
                            .iter()
                            .map(move |&image| i64::from(a[image]) - i64::from(b[image]))
                    })
                    .sum();
                Some(sum as f64 / (replicates.len() * images.len()) as f64)
            };
            let every = |count: usize| (0..count).collect::<Vec<usize>>();
            let stream = format!("calls/{arm}/{round}");
            call.accuracy_difference =
                difference(&every(plan.replicates), &every(dense[0].len())).unwrap_or(0.0);
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
            .map(|result| Range {
                low: result.interval.low,
                high: result.interval.high,
            });
            let candidates: Vec<Candidate<'_>> = ids
                .iter()
                .map(|id| Candidate {
                    replicate: id.replicate,
                    drift: &drifts[id],
                })
                .collect();
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
                call.drift_interval = Some(Range {
                    low: result.interval.low,
                    high: result.interval.high,
                });
            }
            decide(plan, &mut call);
            Ok(call)
        })
        .collect()
}

fn id(arm: &str, replicate: usize, round: usize) -> RoundId {
    RoundId {
        arm: arm.into(),
        replicate,
        round,
    }
}

/// `Some(true)`: the bound holds over the whole interval; `Some(false)`: it fails over the whole interval.
fn decided(interval: Option<Range>, at_most: f64) -> Option<bool> {
    let interval = interval?;
    if interval.high <= at_most {
        Some(true)
    } else if interval.low > at_most {
        Some(false)
    } else {
        None
    }
}

fn decide(plan: &Plan, call: &mut RoundCall) {
    let margins = &plan.verdict;
    // Loss = dense − this, so that both questions read "at most".
    let loss = call.accuracy_interval.map(|range| Range {
        low: -range.high,
        high: -range.low,
    });
    let matching = decided(loss, margins.accuracy_margin);
    let limit = 1.0 + margins.drift_margin;
    let preserved = decided(call.drift_interval, limit);
    call.call = match (matching, preserved) {
        (Some(true), Some(true)) => Call::A,
        (Some(false), Some(false)) => Call::B,
        (Some(true), Some(false)) => Call::DriftedWinner,
        (Some(false), Some(true)) => Call::FaithfulLoser,
        _ => Call::Inconclusive,
    };
    let say = |range: Option<Range>, scale: f64, unit: &str| match range {
        Some(range) => format!(
            "[{:.2}, {:.2}]{unit}",
            range.low * scale,
            range.high * scale
        ),
        None => "undefined".into(),
    };
    let word = |answer: Option<bool>, yes: &str, no: &str| match answer {
        Some(true) => yes.to_owned(),
        Some(false) => no.to_owned(),
        None => "undecided".to_owned(),
    };
    call.reason = format!(
        "accuracy {}: difference {} against a margin of −{:.2} points; explanations {}: drift {} against {limit:.2} floor units",
        word(matching, "matches dense", "is below dense"),
        say(call.accuracy_interval, 100.0, " points"),
        100.0 * margins.accuracy_margin,
        word(preserved, "preserved", "moved"),
        say(call.drift_interval, 1.0, ""),
    );
}

/// The study's verdicts from the lottery arm's calls.
///
/// Both hypotheses are claims about the lottery rounds as a whole. A holds where matching and preserved go together, B where losing
/// and drifting do. A is supported when some rounds are called A and none is a drifted winner; refuted when
/// drifted winners are found and no round is called A. B likewise with B and faithful losers. Anything else is inconclusive.
pub(super) fn verdicts(
    plan: &Plan,
    calls: &[RoundCall],
    rounds: &[RoundSummary],
) -> (Verdict, Verdict, Option<Association>) {
    let lottery: Vec<&RoundCall> = calls
        .iter()
        .filter(|call| call.arm == "lottery" && call.round > 0)
        .collect();
    let named = |kind: Call| -> Vec<String> {
        lottery
            .iter()
            .filter(|call| call.call == kind)
            .map(|call| call.round.to_string())
            .collect()
    };
    let judge = |for_it: Call, against: Call, what: &str, contrary: &str| {
        let (yes, no) = (named(for_it), named(against));
        let outcome = match (yes.is_empty(), no.is_empty()) {
            (false, true) => Outcome::Supported,
            (true, false) => Outcome::Refuted,
            _ => Outcome::Inconclusive,
        };
        let list = |rounds: &[String]| {
            if rounds.is_empty() {
                "none".into()
            } else {
                rounds.join(", ")
            }
        };
        let undecided = named(Call::Inconclusive).len();
        let reason = format!(
            "{what} in rounds {}; {contrary} in rounds {}; {undecided} of {} rounds undecided",
            list(&yes),
            list(&no),
            lottery.len()
        );
        Verdict { outcome, reason }
    };
    let a = judge(
        Call::A,
        Call::DriftedWinner,
        "accuracy matched and explanations preserved",
        "accuracy matched although explanations moved",
    );
    let b = judge(
        Call::B,
        Call::FaithfulLoser,
        "accuracy lost and explanations moved",
        "accuracy lost although explanations were preserved",
    );
    (a, b, association(plan, rounds))
}

/// Rank correlation of drift with accuracy loss over the rounds, beyond the trend that all replicates share.
fn association(plan: &Plan, rounds: &[RoundSummary]) -> Option<Association> {
    let (mut drifts, mut losses) = (Vec::new(), Vec::new());
    for replicate in 0..plan.replicates {
        let own: Vec<&RoundSummary> = rounds
            .iter()
            .filter(|summary| summary.id.arm == "lottery" && summary.id.replicate == replicate)
            .collect();
        let dense = own
            .iter()
            .find(|summary| summary.id.round == 0)?
            .test_accuracy;
        let pruned = || own.iter().filter(|summary| summary.id.round > 0);
        drifts.push(
            pruned()
                .map(|summary| summary.drift.spearman)
                .collect::<Option<Vec<f64>>>()?,
        );
        losses.push(
            pruned()
                .map(|summary| dense - summary.test_accuracy)
                .collect::<Vec<f64>>(),
        );
    }
    // Undefined where a replicate's drift or loss never varies: then there is no association to speak of.
    let test = replicate_association(
        &drifts,
        &losses,
        Coefficient::Spearman,
        plan.statistics.permutations,
        plan.seed,
        "calls/association",
    )
    .ok()?;
    Some(Association {
        within: test.within,
        common_trend: test.common_trend,
        p_value: test.test.p_value,
        smallest_p: test.test.smallest_p,
    })
}
