//! What the sanity check of the maps says, from its records.

use crate::error::Result;
use crate::plan::Plan;
use crate::records::{Explanations, RoundId, SanityRecord, SanitySummary};
use crate::stats::similarity::Measure;
use crate::stats::verdict::explanations_answer;

use super::drift::map_drift;
use super::networks::Networks;
use super::ratio::{over_floor, twin_ids};

/// Whether randomising destroyed the maps of the deciding view.
///
/// # Errors
/// As [`summary_of`].
pub(super) fn summary(plan: &Plan, networks: &Networks, record: &SanityRecord) -> Result<SanitySummary> {
    summary_of(plan, networks, record.replicate, networks.first_view(), &record.random_drift)
}

/// Whether randomising destroyed the maps of one view, whose drift is `random`: they end further
/// from the parent's than retraining goes, by an interval over images. The question is about this
/// network beside these dense ones, so they are taken as given.
///
/// # Errors
/// When a map is not finite.
pub(super) fn summary_of(
    plan: &Plan,
    networks: &Networks,
    replicate: usize,
    view: &str,
    random: &[Option<f64>],
) -> Result<SanitySummary> {
    let parent = RoundId::parent(replicate);
    let own: Vec<RoundId> =
        twin_ids(plan, networks).into_iter().filter(|(of, _)| *of == parent).map(|(_, twin)| twin).collect();
    let others = match own.is_empty() {
        false => own,
        true => networks
            .replicates
            .iter()
            .filter(|&&other| other != replicate)
            .map(|&other| RoundId::parent(other))
            .collect(),
    };
    let of = &networks.get(&parent)?.views[view];
    let mut floor = Vec::new();
    for other in &others {
        floor.push(map_drift(Measure::Spearman, of, &networks.get(other)?.views[view])?);
    }
    let found = over_floor(random, &floor, &plan.verdict).ok();
    let destroyed = found.and_then(|(_, interval)| match explanations_answer(interval, 1.0) {
        Ok(Explanations::Changed) => Some(true),
        Ok(Explanations::Kept) => Some(false),
        Ok(Explanations::Undecided) | Err(_) => None,
    });
    Ok(SanitySummary {
        replicate,
        ratio: found.map(|(ratio, _)| ratio),
        interval: found.map(|(_, interval)| interval),
        destroyed,
    })
}
