//! A run: every arm, replicate and round, each an idempotent step that returns at once when its record is there.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::data::{Images, Subset};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::nn::optimizer::OptimizerState;
use crate::nn::{Compute, Weights};
use crate::progress::{Event, Observer};
use crate::prune::Mask;
use crate::train::{EditGradient, Keep, Training, evaluate};

use super::explanations::Explainer;
use super::keeping::Keeping;
use super::lanes::{lanes, side_by_side};
use super::looks::Looks;
use super::setup::Setup;
use crate::plan::{Arm, Plan, Rewind};
use crate::records::Store;
use crate::records::{DivergedRecord, FORMAT, Line, Look, RoundId, RoundRecord, Seconds, round_ids};

/// Where trained networks come from if they are not trained here.
pub type Checkpoints<'a> = &'a (dyn Fn(&RoundId, &Model) -> Result<Weights> + Sync);

/// How a plan is run, beside what it says.
#[derive(Clone)]
pub struct Options<'a> {
    /// Where to compute.
    pub compute: Compute,
    /// Where trained networks come from if they are not trained here: then the records hold no
    /// losses. Masks are drawn as in a run, from the final weights of the round before.
    pub checkpoints: Option<Checkpoints<'a>>,
    /// Whether rounds that another version, kind of machine or device has computed may stand beside
    /// those computed now. The study warns of it.
    pub allow_mixed: bool,
    /// Least time between two states of a training that are kept, at ends of epochs, in case the
    /// program dies. On a device none is.
    pub keep_every: Duration,
    /// Run folders from which finished networks are taken over: each must be the very network that the plan asks for.
    pub take_over: Vec<PathBuf>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            compute: Compute::Cpu,
            checkpoints: None,
            allow_mixed: false,
            keep_every: Duration::from_secs(5),
            take_over: Vec::new(),
        }
    }
}

/// Makes every network of `plan` that the folder `out` does not hold yet: prunes, trains,
/// evaluates, explains, records. What is damaged there is set aside first, and made again.
///
/// # Errors
/// [`Error::Interrupted`] when the observer breaks: what is finished stays. Otherwise what is at
/// fault is named: the plan's field, the folder, another device than the run began on, a checkpoint
/// that is not the ticket that its round's mask makes.
pub fn rounds(plan: &Plan, out: &Path, options: &Options<'_>, observer: &dyn Observer) -> Result<Store> {
    let mut setup = Setup::new(plan)?;
    setup.model = setup.model.on(&options.compute);
    let mut store = Store::open(out, plan)?;
    let _lock = store.lock()?;
    let (shape, pixels) = setup.cam_pixels()?;
    store.begin(&setup.manifest(plan)?, (&shape, &pixels), options.allow_mixed)?;
    for note in store.mend(plan)? {
        observer.tell(&Event::Warning(note))?;
    }
    let ids = round_ids(plan);
    for from in &options.take_over {
        take_over(&store, &Store::existing(from)?, &ids, observer)?;
    }
    let finished = ids.iter().map(|id| store.round(id)).collect::<Result<Vec<_>>>()?;
    let finished = finished.iter().flatten().count();
    observer.tell(&Event::RunStarted { rounds: ids.len(), finished })?;
    let explainer = Explainer::new(plan, &setup)?;
    let replicates: Vec<usize> = plan.own_replicates().collect();
    side_by_side(&replicates, lanes(plan, &setup)?, observer, |replicate, observer| {
        let explainer = &explainer;
        Run { plan, setup: &setup, store: &store, explainer, options, observer }.replicate(replicate)
    })?;
    Ok(store)
}

/// Takes over what is not here yet. A network that is damaged there is left, and made here.
fn take_over(store: &Store, from: &Store, ids: &[RoundId], observer: &dyn Observer) -> Result<()> {
    for id in ids {
        if store.round(id)?.is_some() || store.diverged(id)?.is_some() {
            continue;
        }
        match store.take_over(from, id) {
            Err(fault @ Error::Damaged { .. }) => observer.tell(&Event::Warning(fault.to_string()))?,
            taken => drop(taken?),
        }
    }
    Ok(())
}

struct Run<'a> {
    plan: &'a Plan,
    setup: &'a Setup,
    store: &'a Store,
    explainer: &'a Explainer<'a>,
    options: &'a Options<'a>,
    observer: &'a dyn Observer,
}

impl Run<'_> {
    /// Every line of one replicate, and the sanity check; a network that diverges ends the
    /// replicate, and the next one goes on.
    fn replicate(&self, replicate: usize) -> Result<()> {
        for line in Line::of(self.plan) {
            for round in line.rounds(self.plan) {
                let id = line.id(replicate, round);
                if self.store.diverged(&id)?.is_some() {
                    // A kill between the mark and this leaves the state of its training.
                    return self.store.clear_training(&id);
                }
            }
            match self.line(line, replicate) {
                Ok(None) => {}
                Ok(Some(diverged)) => {
                    let RoundId { arm, round, .. } = &diverged.id;
                    let what = format!(
                        "training diverged in replicate {replicate}, {arm} round {round}, at step {} (learning rate {}): the \
                         replicate ends here, and the study will give no verdict",
                        diverged.step, diverged.learning_rate
                    );
                    self.store.check_basis(self.plan, &diverged.id)?;
                    self.store.write_diverged(&diverged)?;
                    self.store.clear_training(&diverged.id)?;
                    return self.observer.tell(&Event::Warning(what));
                }
                Err(error) => return Err(error),
            }
        }
        self.sanity(replicate)
    }

    /// All rounds of one line in one replicate, or the one that diverged.
    fn line(&self, line: Line, replicate: usize) -> Result<Option<DivergedRecord>> {
        for round in line.rounds(self.plan) {
            let id = line.id(replicate, round);
            if let Some(fault) = self.store.outdated(&id)? {
                for note in self.store.set_round_aside(&id, &fault)? {
                    self.observer.tell(&Event::Warning(note))?;
                }
            }
            if let Some(record) = self.store.round(&id)? {
                self.done(&record, true)?;
                continue;
            }
            let record = match self.round(line, id.clone()) {
                Err(Error::Diverged { step, learning_rate, .. }) => {
                    return Ok(Some(DivergedRecord { format: FORMAT, id, step, learning_rate }));
                }
                other => other?,
            };
            self.done(&record, false)?;
        }
        Ok(None)
    }

    fn done(&self, record: &RoundRecord, resumed: bool) -> Result<()> {
        let RoundId { arm, replicate, round } = record.id.clone();
        self.observer.tell(&Event::RoundDone { arm, replicate, round, test_accuracy: record.test_accuracy, resumed })
    }

    /// The sanity check of the replicate's dense network, once; it is of the method as defined, so
    /// where the maps are something else there is none.
    fn sanity(&self, replicate: usize) -> Result<()> {
        // Of an arm in a sweep, the unit of its dense network has it.
        let elsewhere = self.plan.part.is_some_and(|part| part.arm.is_some());
        if elsewhere || self.store.sanity(replicate)?.is_some() {
            return Ok(());
        }
        if !self.plan.as_published.maps_as_defined(self.plan.explain.saliency[0]) {
            return Ok(());
        }
        self.observer.tell(&Event::Phase("randomising layers"))?;
        let dense = RoundId::parent(replicate);
        let weights = self.store.weights(&dense, &self.setup.model)?;
        self.store.write_sanity(&self.explainer.sanity(&weights, replicate)?)
    }

    /// mask from the final weights of the round before → rewind → train → evaluate → explain → record.
    fn round(&self, line: Line, id: RoundId) -> Result<RoundRecord> {
        let started = Instant::now();
        let (plan, setup) = (self.plan, self.setup);
        let replicate_seed = plan.seed + id.replicate as u64;
        let mask = self.mask(line, &id, replicate_seed)?;
        let (weights, epoch_loss, looks) = match self.options.checkpoints {
            None => self.train(line, &id, &mask, replicate_seed)?,
            Some(checkpoint) => {
                let weights = checkpoint(&id, &setup.model)?;
                if !mask.holds(&weights) {
                    let what = format!("the checkpoint of {} round {} has weights that were pruned", id.arm, id.round);
                    return Err(Error::input(what));
                }
                (weights, Vec::new(), Vec::new())
            }
        };
        let train_seconds = started.elapsed().as_secs_f64();
        let started = Instant::now();
        self.observer.tell(&Event::Phase("evaluating"))?;
        let test = Subset::new(&setup.data, &setup.splits.test);
        let validation = Subset::new(&setup.data, &setup.splits.validation);
        let batch = setup.evaluation_batch()?;
        let test_correct = evaluate(&setup.model, &weights, &test, batch)?;
        let validation_correct = evaluate(&setup.model, &weights, &validation, batch)?;
        let weights = Arc::new(weights);
        let explained = self.explainer.explain(&weights, id == RoundId::parent(id.replicate), self.observer)?;
        let (kept, prunable) = mask.counts(&plan.prune.exclude);
        let record = RoundRecord {
            format: FORMAT,
            id,
            weights: weights.digest(),
            density: kept as f64 / prunable as f64,
            kept,
            total: prunable,
            layers: mask.layer_densities(&plan.prune.exclude),
            epoch_loss,
            looks,
            validation_accuracy: share(&validation_correct),
            test_accuracy: share(&test_correct),
            class_accuracy: self.class_accuracy(&test_correct),
            test_correct: test_correct.iter().map(|&right| if right { '1' } else { '0' }).collect(),
            grad_cam: explained.grad_cam,
            input_maps: explained.input_maps,
            representations: explained.representations,
            tcav: explained.tcav,
            cavs: explained.cavs,
            faithfulness: explained.faithfulness,
            calibration: explained.calibration,
            localisation: explained.localisation,
            seconds: Seconds { train: train_seconds, explain: started.elapsed().as_secs_f64() },
        };
        self.store.check_basis(plan, &record.id)?;
        self.store.finish_round(&record, &weights, &mask, &explained.maps)?;
        self.store.clear_training(&record.id)?;
        Ok(record)
    }

    /// Share of the test images of each class that are classified correctly; 0 for a class without any.
    fn class_accuracy(&self, correct: &[bool]) -> Vec<f64> {
        let setup = self.setup;
        let of = |class| {
            let own: Vec<bool> = (setup.splits.test.iter().zip(correct))
                .filter(|&(&image, _)| setup.data.label(image) == class)
                .map(|(_, &right)| right)
                .collect();
            share(&own)
        };
        (0..setup.data.labels().classes()).map(of).collect()
    }

    /// rewind → train; returns the trained weights, the mean loss of each epoch, and the looks on the way.
    fn train(&self, line: Line, id: &RoundId, mask: &Mask, replicate_seed: u64) -> Result<Trained> {
        let (plan, setup) = (self.plan, self.setup);
        let network = &setup.model.network;
        // A twin differs from its parent, and a retrained ticket from the ticket, in the order and
        // the variations of its images alone.
        let order_seed = match line {
            Line::Twin(_) | Line::Arm(Arm::Retrained) => Setup::derived_seed(plan, id.replicate, &line.name()),
            Line::Arm(_) => replicate_seed,
        };
        let varied = setup.training_images(order_seed)?;
        let images = Subset::new(&varied, &setup.splits.train);
        let config = plan.train_config();
        let training = Training { model: &setup.model, images: &images, config: &config, seed: order_seed };
        let total = config.total_steps(images.len());
        let rewind = Rewind::parse(&plan.prune.rewind)?.step(config.steps_per_epoch(images.len()));
        if rewind >= total {
            let what = format!("`{}` is step {rewind} of only {total} training steps", plan.prune.rewind);
            return Err(Error::config("prune.rewind", what));
        }
        let parent = line == Line::Arm(Arm::Lottery) && id.round == 0;
        let from = if parent || line == Line::Arm(Arm::Reinit) { 0 } else { rewind };
        self.observer.tell(&Event::RoundStarted {
            arm: id.arm.clone(),
            replicate: id.replicate,
            round: id.round,
            density: mask.density(&plan.prune.exclude),
            steps: total - from,
        })?;
        let mut weights = match line {
            _ if parent => setup.initial(replicate_seed),
            Line::Arm(Arm::Reinit) => network.initialise(Setup::derived_seed(plan, id.replicate, "reinit")),
            _ => self.store.rewind_state(id.replicate, &setup.model)?,
        };
        if parent && rewind == 0 {
            self.store.write_rewind_state(id.replicate, &weights)?;
        }
        let published = &plan.as_published;
        if id.round > 0 && line != Line::Arm(Arm::Reinit) && published.rewinds_in_part() {
            published.undo_rewind(id.round, &mut weights, &self.final_weights(&before(id))?);
        }
        let validation = Subset::new(&setup.data, &setup.splits.validation);
        let theta_k = RefCell::new(None);
        let batch = setup.evaluation_batch()?;
        let mut best = published.best_epoch(config.steps_per_epoch(images.len()));
        let mut edit_gradient = |weights: &Weights, gradient: &mut [f32]| published.edit_gradient(weights, gradient);
        let edit_gradient = published.freeze_below_epsilon.then_some(&mut edit_gradient as EditGradient<'_>);
        let (steps_per_epoch, sees_epochs) = (config.steps_per_epoch(images.len()), best.is_some());
        let looks = Looks {
            every: plan.train.look_every,
            model: &setup.model,
            images: &validation,
            batch,
            seen: Ok(Vec::new()).into(),
        };
        let sees = |step: u64| {
            (parent && step == rewind) || (sees_epochs && step.is_multiple_of(steps_per_epoch)) || looks.due(step)
        };
        let observer = self.observer;
        let mut keeping = Keeping::new(self.store, id, self.options.keep_every, &theta_k, &looks);
        // The best epoch so far is no part of what is kept.
        let kept = if sees_epochs { None } else { keeping.kept(&weights, observer)? };
        let mut see = |step, weights: &Weights, optimizer: &OptimizerState, losses: &[(f64, u64)]| {
            keeping.see(step, weights, optimizer, losses)
        };
        let keep = (!sees_epochs).then_some((kept, &mut see as Keep<'_>));
        let after_step = |step, weights: &Weights| {
            if parent && step == rewind {
                *theta_k.borrow_mut() = Some(weights.clone());
            }
            if let Some(best) = &mut best {
                best.see(step, weights, || Ok(share(&evaluate(&setup.model, weights, &validation, batch)?)));
            }
            looks.see(step, weights);
        };
        let summary =
            training.run_with(&mut weights, mask, from, total, observer, edit_gradient, &sees, after_step, keep)?;
        keeping.store_theta_k()?;
        if let Some(best) = best {
            self.store.write_last_weights(id, &weights)?;
            weights = best.weights()?;
        }
        Ok((weights, summary.epoch_loss, looks.finish()?))
    }

    /// Weights at the end of a round's training; those of its record, but for `as_published.explain_best_validation`.
    fn final_weights(&self, id: &RoundId) -> Result<Weights> {
        match self.plan.as_published.explain_best_validation {
            true => self.store.last_weights(id, &self.setup.model),
            false => self.store.weights(id, &self.setup.model),
        }
    }

    fn mask(&self, line: Line, id: &RoundId, replicate_seed: u64) -> Result<Mask> {
        let layout = &self.setup.model.network.layout;
        if id.round == 0 {
            return Ok(Mask::dense_of(layout.clone(), self.plan.as_published.prunable()));
        }
        let of = |round| Line::Arm(Arm::Lottery).id(id.replicate, round);
        match line {
            Line::Twin(_) => Ok(Mask::dense_of(layout.clone(), self.plan.as_published.prunable())),
            Line::Arm(Arm::Lottery) => {
                let before = of(id.round - 1);
                let weights = self.final_weights(&before)?;
                let mask = self.store.mask(&before, layout)?;
                self.plan.as_published.prune(&self.plan.prune, id.round, &weights, &mask)
            }
            Line::Arm(Arm::RandomMask) => {
                let ticket = self.store.mask(&of(id.round), layout)?;
                Ok(ticket.shuffled(replicate_seed))
            }
            Line::Arm(Arm::Reinit | Arm::Retrained) => self.store.mask(&of(id.round), layout),
        }
    }
}

/// Weights, the mean loss of each epoch, looks at the validation images.
type Trained = (Weights, Vec<f64>, Vec<Look>);

/// The network that was trained before this one in its arm; the dense one before the first.
fn before(id: &RoundId) -> RoundId {
    let arm = if id.round == 1 { Arm::Lottery.name().into() } else { id.arm.clone() };
    RoundId { arm, replicate: id.replicate, round: id.round - 1 }
}

fn share(correct: &[bool]) -> f64 {
    correct.iter().filter(|&&right| right).count() as f64 / correct.len().max(1) as f64
}
