//! Records in, conclusions out: drift beyond retraining, answers by density, ranges of the
//! hypotheses, onsets, forgetting.
//!
//! Nothing here trains or explains; [`run`] and its kin call [`crate::run`] first and then derive.

mod accuracy;
mod densities;
mod drift;
mod floor;
mod forgetting;
pub mod gate;
mod methods;
mod networks;
mod onsets;
mod ranges;
mod ratio;
mod sanity;
mod sweep;

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::progress::{Event, Observer};
use crate::records::{Computed, FORMAT, NetworkSummary, Store, StudyRecord, round_ids};
use crate::run::{Checkpoints, Options, rounds};

use self::networks::Networks;

pub use self::sweep::put_together;

/// Runs `plan` in the folder `out` on the CPU, going on from the last finished round, and derives the study.
///
/// # Errors
/// As [`crate::run::rounds`] and [`derive()`].
pub fn run(plan: &Plan, out: &Path, observer: &dyn Observer) -> Result<StudyRecord> {
    run_with(plan, out, &Options::default(), observer)
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
    run_with(plan, out, &Options { checkpoints: Some(checkpoints), ..Options::default() }, observer)
}

/// [`run`] with options: on a device, or going on with what another machine began.
///
/// # Errors
/// As [`run`], when the folder's run was begun elsewhere, or the device fails.
pub fn run_with(plan: &Plan, out: &Path, options: &Options<'_>, observer: &dyn Observer) -> Result<StudyRecord> {
    if plan.part.is_some() {
        return Err(Error::config("part", "is for units of a sweep: a part of a plan has no study"));
    }
    let store = rounds(plan, out, options, observer)?;
    observer.tell(&Event::Phase("deriving drift, floor and verdict"))?;
    let study = derive(plan, &store)?;
    store.write_study(&study)?;
    Ok(study)
}

/// Derives the study from the finished rounds of a run folder.
///
/// # Errors
/// When a round is missing, or rounds do not belong together.
pub fn derive(plan: &Plan, store: &Store) -> Result<StudyRecord> {
    let (alpha, stage) = (plan.statistics.alpha, plan.explain.stages[0]);
    let manifest = store.manifest()?;
    let networks = Networks::read(plan, store, &manifest)?;
    let not_learned = accuracy::not_learned(plan, &manifest, &networks)?;
    let floor = floor::floor(plan, &networks)?;
    let densities = densities::densities(plan, &networks, &floor.seeds)?;
    let answer = ranges::answer(plan, &densities, &not_learned, &networks.diverged);
    let mut summaries = Vec::new();
    for (id, network) in &networks.all {
        let parent = networks.parent(id.replicate)?;
        summaries.push(NetworkSummary {
            id: id.clone(),
            density: network.record.density,
            test_accuracy: network.record.test_accuracy,
            drift: drift::compare(alpha, networks.first_view(), stage, parent, network)?,
            adjusted: network.adjusted.clone(),
            significant: drift::count_significant(alpha, network, stage),
            chance_p: (id.round == 0).then(|| accuracy::chance_p(&manifest, network)).transpose()?,
        });
    }
    let mut randomised = Vec::new();
    for &replicate in &networks.replicates {
        randomised.extend(store.sanity(replicate)?);
    }
    let sanity =
        randomised.iter().map(|record| sanity::summary(plan, &networks, record)).collect::<Result<Vec<_>>>()?;
    let mut warnings = manifest.warnings.clone();
    if plan.floor.twins == 0 {
        warnings.push(
            "the plan has no twins (floor.twins = 0): ratios compare with dense networks of other seeds, a wider floor"
                .into(),
        );
    }
    warnings.extend(mixed(plan, store)?);
    let not_destroyed: Vec<String> = (sanity.iter())
        .filter(|check| check.destroyed != Some(true))
        .map(|check| check.replicate.to_string())
        .collect();
    if !not_destroyed.is_empty() {
        warnings.push(format!(
            "sanity check, replicate {}: with random weights in every layer the maps are not shown to move further than \
             retraining moves them, so they may say little about what the network has learned (Adebayo et al. 2018)",
            not_destroyed.join(", ")
        ));
    }
    Ok(StudyRecord {
        format: FORMAT,
        answer: answer.sentence,
        hypothesis_a: answer.a,
        hypothesis_b: answer.b,
        alone: answer.alone,
        views: answer.views,
        onsets: onsets::onsets(plan, &densities)?,
        forgetting: forgetting::records(plan, &manifest, &networks)?,
        densities,
        floor,
        methods: methods::methods(plan, &networks, &randomised)?,
        networks: summaries,
        sanity,
        warnings,
    })
}

/// A warning where the rounds are not all of one version, kind of machine and device.
fn mixed(plan: &Plan, store: &Store) -> Result<Option<String>> {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for id in round_ids(plan) {
        if let Some(Computed { version, vectors, device }) = store.computed(&id)? {
            *kinds.entry(format!("version {version} with {vectors} vectors on {device}")).or_default() += 1;
        }
    }
    let list: Vec<String> = kinds.iter().map(|(kind, count)| format!("{count} by {kind}")).collect();
    Ok((kinds.len() > 1).then(|| {
        format!("the networks are not of one computation (--allow-mixed): {}; sums round differently", list.join(", "))
    }))
}
