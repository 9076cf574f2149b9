//! What can be computed again from the stored networks of a run, beside what its records say.

use std::sync::Arc;

use crate::data::Subset;
use crate::error::Result;
use crate::kernels::vector_path;
use crate::nn::Weights;
use crate::plan::{Arm, Plan, Rewind};
use crate::progress::{Event, Observer};
use crate::prune::Mask;
use crate::records::{Line, RoundId, RoundRecord, Store, round_ids};
use crate::train::evaluate;

use super::explanations::Explainer;
use super::setup::Setup;

/// Share of sampled images that another machine may classify otherwise: its sums round differently.
const OTHER_ANSWERS: f64 = 0.03;
/// Largest difference of maps from another machine, over their largest value.
const OTHER_MAPS: f32 = 1e-3;

/// What [`recompute`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recomputed {
    /// Networks looked at.
    pub networks: usize,
    /// Test images that each classified again.
    pub answers: usize,
    /// Maps of each that were made again, for each stage and method.
    pub maps: usize,
    /// Whether this machine computes as the one of the run does, so that numbers must be equal, not close.
    pub exact: bool,
    /// What does not agree, a line each.
    pub faults: Vec<String>,
}

/// Computes again, for every finished round: that pruned weights are zero, that masks are nested,
/// or the controls' are what they must be, and have the counts and densities recorded; the answers
/// on the first test images; the first maps at each stage; and θ_k where that is the state before
/// any step.
///
/// # Errors
/// [`crate::error::Error::Interrupted`], when the data or a file cannot be read, or
/// [`crate::error::Error::Damaged`] where a file is not the one that its record lists.
pub fn recompute(plan: &Plan, store: &Store, observer: &dyn Observer) -> Result<Recomputed> {
    let setup = Setup::new(plan)?;
    let manifest = store.manifest()?;
    if manifest.data != setup.identity()? {
        let what = format!("the data at hand are not those of the run ({} is)", manifest.data);
        return Err(crate::error::Error::format(store.root(), what));
    }
    let batch = setup.evaluation_batch()?;
    let first_test = &setup.splits.test[..setup.splits.test.len().min(batch)];
    let mut check = Check {
        plan,
        setup: &setup,
        store,
        explainer: Explainer::new(plan, &setup)?,
        batch,
        first_test,
        exact: true,
        found: Recomputed { exact: true, answers: first_test.len(), ..Recomputed::default() },
    };
    for id in round_ids(plan) {
        if let Some(record) = store.round(&id)? {
            observer.tell(&Event::Phase("computing networks' answers and maps again"))?;
            let by = store.computed(&id)?;
            let device = setup.model.compute.description();
            check.exact = by.is_some_and(|by| by.vectors == vector_path() && by.device == device);
            check.found.exact &= check.exact;
            check.round(&id, &record)?;
        }
    }
    Ok(check.found)
}

struct Check<'a> {
    plan: &'a Plan,
    setup: &'a Setup,
    store: &'a Store,
    explainer: Explainer<'a>,
    batch: usize,
    first_test: &'a [usize],
    /// Whether the round was computed as this machine computes.
    exact: bool,
    found: Recomputed,
}

impl Check<'_> {
    fn round(&mut self, id: &RoundId, record: &RoundRecord) -> Result<()> {
        let weights = self.store.weights(id, &self.setup.model)?;
        let mask = self.store.mask(id, &self.setup.model.network.layout)?;
        let exclude = &self.plan.prune.exclude;
        let (kept, total) = mask.counts(exclude);
        let right = record.test_correct.bytes().filter(|&byte| byte == b'1').count();
        let share = right as f64 / record.test_correct.len().max(1) as f64;
        let mask_fault = self.mask_fault(id, &mask)?;
        let mut agree = vec![
            (weights.digest() == record.weights, "the weights are not those that are recorded"),
            (mask.holds(&weights), "pruned weights are not zero"),
            ((kept, total) == (record.kept, record.total), "the mask keeps another number than is recorded"),
            (record.density == kept as f64 / total as f64, "the density is not that of the mask"),
            (mask.layer_densities(exclude) == record.layers, "the layers' densities are not those of the mask"),
            (share == record.test_accuracy, "the test accuracy is not the share of right answers"),
            (mask_fault.is_none(), mask_fault.unwrap_or_default()),
            (self.theta_k(id)?, "θ_k is not the state before the first step"),
            (self.answers(record, &weights)?, "the network does not give the answers that are recorded"),
        ];
        agree.push((self.maps(id, &Arc::new(weights))?, "the network's maps are not those that are stored"));
        self.found.networks += 1;
        let RoundId { arm, replicate, round } = id;
        let faults = agree.iter().filter(|(fine, _)| !fine);
        self.found.faults.extend(faults.map(|(_, what)| format!("replicate {replicate}, {arm} round {round}: {what}")));
        Ok(())
    }

    /// What is wrong with a mask beside the ticket's, or the one before.
    fn mask_fault(&self, id: &RoundId, mask: &Mask) -> Result<Option<&'static str>> {
        let layout = &self.setup.model.network.layout;
        let lottery = |round| Line::Arm(Arm::Lottery).id(id.replicate, round);
        if id.round == 0 {
            let dense = mask.bits().iter().all(|&bit| bit == 1);
            return Ok((!dense).then_some("a dense network has pruned weights"));
        }
        let nested = |outer: &Mask| mask.bits().iter().zip(outer.bits()).all(|(now, before)| now <= before);
        let of_lottery = |round| self.store.mask(&lottery(round), layout);
        let fault = match id.arm.as_str() {
            "random_mask" => of_lottery(id.round)?.layer_densities(&[]) != mask.layer_densities(&[]),
            "reinit" | "retrained" => of_lottery(id.round)?.bits() != mask.bits(),
            _ => !nested(&of_lottery(id.round - 1)?),
        };
        Ok(fault.then_some(match id.arm.as_str() {
            "random_mask" | "reinit" | "retrained" => "the mask is not derived from the ticket's",
            _ => "the mask is not nested in the one before",
        }))
    }

    /// Whether θ_k is the initial state, where the plan says so.
    fn theta_k(&self, id: &RoundId) -> Result<bool> {
        let config = self.plan.train_config();
        let rewind =
            Rewind::parse(&self.plan.prune.rewind)?.step(config.steps_per_epoch(self.setup.splits.train.len()));
        if *id != RoundId::parent(id.replicate) || rewind > 0 || !self.store.has_rewind_state(id.replicate) {
            return Ok(true);
        }
        let theta_k = self.store.rewind_state(id.replicate, &self.setup.model)?;
        Ok(theta_k == self.setup.initial(self.plan.seed + id.replicate as u64))
    }

    fn answers(&self, record: &RoundRecord, weights: &Weights) -> Result<bool> {
        let images = Subset::new(&self.setup.data, self.first_test);
        let again = evaluate(&self.setup.model, weights, &images, self.batch)?;
        if record.test_correct.len() != self.setup.splits.test.len() {
            return Ok(false);
        }
        let recorded = record.test_correct.bytes().map(|byte| byte == b'1');
        let other = again.iter().zip(recorded).filter(|(now, then)| **now != *then).count();
        Ok(other as f64 <= if self.exact { 0.0 } else { OTHER_ANSWERS * again.len() as f64 })
    }

    fn maps(&mut self, id: &RoundId, weights: &Arc<Weights>) -> Result<bool> {
        let stored = self.store.maps(id)?;
        for &stage in &self.plan.explain.stages {
            for (record, maps) in self.explainer.first_maps(weights, stage)? {
                let key = crate::records::maps_key(stage, record.method, self.plan.explain.saliency[0]);
                let Some(stored) = stored.get(&key) else { return Ok(false) };
                let again: Vec<f32> = maps.flatten_all()?.to_vec1()?;
                let stored: Vec<f32> = stored.flatten_all()?.to_vec1()?;
                let Some(stored) = stored.get(..again.len()) else { return Ok(false) };
                let largest = again.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
                let bound = if self.exact { 0.0 } else { OTHER_MAPS * largest };
                if again.iter().zip(stored).any(|(now, then)| (now - then).abs() > bound) {
                    return Ok(false);
                }
                self.found.maps = maps.dims()[0];
            }
        }
        Ok(true)
    }
}
