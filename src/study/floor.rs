//! The noise floor: drift between dense networks, twins and other seeds.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::plan::Plan;
use crate::records::{Drift, Floor, FloorPair, Levels, RoundId};
use crate::stats::descriptive::known_mean;
use crate::stats::similarity::Measure;

use super::drift::compare;
use super::networks::Networks;
use super::ratio::{comparators, twin_ids};

/// Every twin beside its parent, and every two parents.
///
/// # Errors
/// When a map is not finite.
pub(super) fn floor(plan: &Plan, networks: &Networks) -> Result<Floor> {
    let mut seeds = Vec::new();
    for (place, &first) in networks.replicates.iter().enumerate() {
        for &second in &networks.replicates[place + 1..] {
            seeds.push((RoundId::parent(first), RoundId::parent(second)));
        }
    }
    let pairs = |ids: Vec<(RoundId, RoundId)>| -> Result<Vec<FloorPair>> {
        let view = networks.first_view();
        let pair = |(first, second): (RoundId, RoundId)| {
            let (a, b) = (networks.get(&first)?, networks.get(&second)?);
            let drift = compare(plan.statistics.alpha, view, plan.explain.stages[0], a, b)?;
            Ok(FloorPair { first, second, drift })
        };
        ids.into_iter().map(pair).collect()
    };
    let (twins, seeds) = (pairs(twin_ids(plan, networks))?, pairs(seeds)?);
    Ok(Floor {
        comparators: comparators(plan),
        twins: levels(&twins),
        seeds: levels(&seeds),
        pairs: twins.into_iter().chain(seeds).collect(),
    })
}

fn levels(pairs: &[FloorPair]) -> Levels {
    let mean = |value: &dyn Fn(&Drift) -> Option<f64>| {
        known_mean(&pairs.iter().map(|pair| value(&pair.drift)).collect::<Vec<_>>())
    };
    let pixels: BTreeMap<Measure, f64> = (Measure::ALL.into_iter())
        .filter_map(|measure| {
            Some((measure, mean(&|drift| drift.pixels.get(&measure).and_then(|found| found.both_right))?))
        })
        .collect();
    Levels { pixels, concepts: mean(&|drift| drift.concepts), representation: mean(&|drift| drift.representation) }
}
