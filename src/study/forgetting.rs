//! Within one network, at one density: do images that it forgets drift more than those it keeps?

use crate::error::{Result, undefined};
use crate::plan::{Arm, Plan};
use crate::records::{ForgettingRecord, Line, Manifest, RoundId};
use crate::stats::forgetting::{Images, forgetting};
use crate::stats::multiplicity::{Adjustment, adjust};
use crate::stats::similarity::Measure;

use super::drift::map_drift;
use super::networks::{Network, Networks};

/// Every density of the lottery arm, and the twins as control.
///
/// # Errors
/// When a map is not finite.
pub(super) fn records(plan: &Plan, manifest: &Manifest, networks: &Networks) -> Result<Vec<ForgettingRecord>> {
    let lottery = Line::Arm(Arm::Lottery);
    let mut groups: Vec<Vec<RoundId>> = Vec::new();
    let twins: Vec<RoundId> = networks
        .replicates
        .iter()
        .flat_map(|&replicate| (1..=plan.floor.twins).map(move |order| Line::Twin(order).id(replicate, 0)))
        .collect();
    if !twins.is_empty() {
        groups.push(twins);
    }
    for round in 1..=plan.prune.rounds {
        groups.push(networks.replicates.iter().map(|&replicate| lottery.id(replicate, round)).collect());
    }
    let classes: Vec<usize> = manifest.cam_images.iter().map(|shown| shown.class).collect();
    let mut records = Vec::new();
    for ids in groups {
        let mut images = Vec::new();
        for id in &ids {
            images.push(images_of(networks, networks.parent(id.replicate)?, networks.get(id)?)?);
        }
        let test = |networks: &[Images], name: &str| {
            forgetting(networks, &classes, plan.statistics.permutations, plan.seed, name).ok()
        };
        let round = ids[0].round;
        let name = if ids[0].is_twin() { "forgetting/twins".to_owned() } else { format!("forgetting/{round}") };
        let density =
            ids.iter().map(|id| networks.get(id).map(|network| network.record.density)).sum::<Result<f64>>()?;
        records.push(ForgettingRecord {
            round,
            density: density / ids.len() as f64,
            all: test(&images, &name),
            p_adjusted: None,
            networks: (ids.iter().zip(&images))
                .map(|(id, own)| {
                    (id.clone(), test(std::slice::from_ref(own), &format!("{name}/{}/{}", id.arm, id.replicate)))
                })
                .collect(),
        });
    }
    let tested: Vec<usize> =
        (0..records.len()).filter(|&at| records[at].round > 0 && records[at].all.is_some()).collect();
    let p: Vec<f64> = tested.iter().filter_map(|&at| records[at].all.map(|found| found.p_value)).collect();
    if !p.is_empty() {
        let adjusted = adjust(&p, Adjustment::Holm).map_err(undefined("forgetting"))?;
        for (at, p) in tested.into_iter().zip(adjusted) {
            records[at].p_adjusted = Some(p);
        }
    }
    Ok(records)
}

/// Of the images that the parent classifies right and whose maps both have a pattern: whether the
/// network forgot them, and how far the map moved from the parent's.
fn images_of(networks: &Networks, parent: &Network, network: &Network) -> Result<Images> {
    let view = networks.first_view();
    let drift = map_drift(Measure::Spearman, &parent.views[view], &network.views[view])?;
    let right = parent.correct.iter().zip(&network.correct);
    Ok(drift
        .into_iter()
        .zip(right)
        .map(|(drift, (&before, &now))| drift.filter(|_| before).map(|d| (!now, d)))
        .collect())
}
