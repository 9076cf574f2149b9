//! What the sanity check of the maps says, from its records.

use crate::plan::Plan;
use crate::records::{Interval, SanityRecord, SanitySummary};
use crate::stats::floor::{Candidate, FloorPair, floor_ratio};
use crate::stats::verdict::{Answer, within_limit};

use super::Pair;

/// Whether randomising destroyed the maps: drift beyond the floor, by an interval over images. The question is about this network beside these
/// dense ones, so they are taken as given: all pairs count as of the same two replicates, whose variation does not enter.
pub(super) fn sanity_summary(plan: &Plan, record: &SanityRecord, pairs: &[Pair]) -> SanitySummary {
    let floor: Vec<FloorPair<'_>> = pairs
        .iter()
        .map(|pair| FloorPair { replicates: (0, 1), drift: &pair.per_image[..record.images.min(pair.per_image.len())] })
        .collect();
    let ratio = floor_ratio(
        &[Candidate { replicate: record.replicate, drift: &record.random_drift }],
        &floor,
        plan.verdict.confidence,
        plan.statistics.bootstrap,
        plan.seed,
        &format!("sanity/{}", record.replicate),
    );
    let ratio = ratio.ok();
    SanitySummary {
        replicate: record.replicate,
        drift_in_floors: ratio.map(|ratio| ratio.ratio),
        interval: ratio.map(|ratio| Interval { low: ratio.interval.low, high: ratio.interval.high }),
        destroyed: ratio.and_then(|ratio| match within_limit(ratio.interval, 1.0) {
            Ok(Answer::No) => Some(true),
            Ok(Answer::Yes) => Some(false),
            Ok(Answer::Straddles) | Err(_) => None,
        }),
    }
}
