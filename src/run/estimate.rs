//! What a plan will take, from a few steps of training and one network explained.

use std::sync::Arc;
use std::time::Instant;

use crate::data::{Images, Subset};
use crate::error::Result;
use crate::nn::Compute;
use crate::plan::{Arm, Plan, Rewind};
use crate::progress::{Observer, Silent};
use crate::prune::Mask;
use crate::records::Line;
use crate::train::{Training, evaluate};

use super::explanations::Explainer;
use super::lanes::{lanes, network_bytes, pools};
use super::setup::Setup;

/// Steps that are timed, after one that is not.
const TIMED: u64 = 3;
/// Bytes of the record of a round beside those of its tensors.
const RECORD_BYTES: u64 = 64 << 10;

/// What a run of a plan takes: the time is that of dense networks, and sparse ones take less.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Networks.
    pub networks: u64,
    /// Optimiser steps of all of them.
    pub steps: u64,
    /// Seconds of training.
    pub train_seconds: f64,
    /// Seconds of evaluating and explaining.
    pub explain_seconds: f64,
    /// Bytes of the run folder.
    pub disk_bytes: u64,
    /// Bytes of memory that replicates made side by side take beside those of one.
    pub beside_bytes: u64,
}

/// Estimates what `plan` takes; nothing is written. Takes as long as a few steps and one network's
/// explanations; the memory that it needs is what a run of one replicate needs.
///
/// # Errors
/// As [`super::rounds`], and [`crate::error::Error::Interrupted`].
pub fn estimate(plan: &Plan, compute: &Compute, observer: &dyn Observer) -> Result<Estimate> {
    let mut setup = Setup::new(plan)?;
    setup.model = setup.model.on(compute);
    let config = plan.train_config();
    let total = config.total_steps(setup.splits.train.len());
    let rewind = Rewind::parse(&plan.prune.rewind)?.step(config.steps_per_epoch(setup.splits.train.len()));
    let (mut networks, mut steps) = (0, 0);
    // The unit of an arm takes the others over.
    let own_arm = plan.part.and_then(|part| part.arm);
    let own = |line: Line, round: usize| own_arm.is_none_or(|arm| line == Line::Arm(arm) && round > 0);
    for line in Line::of(plan) {
        for round in line.rounds(plan).into_iter().filter(|&round| own(line, round)) {
            let from_start = line == Line::Arm(Arm::Reinit) || (line == Line::Arm(Arm::Lottery) && round == 0);
            networks += 1;
            steps += if from_start { total } else { total.saturating_sub(rewind) };
        }
    }
    let replicates = plan.own_replicates().len() as u64;
    let (networks, steps) = (networks * replicates, steps * replicates);
    let side_by_side = lanes(plan, &setup)?;
    let one = match side_by_side {
        1 => one_network(plan, &setup, observer)?,
        // Those left over at the end have more threads, and less company.
        lanes => pools(lanes)?[lanes - 1].install(|| one_network(plan, &setup, observer))?,
    };
    let beside = (side_by_side - 1) as u64;
    let layout = &setup.model.network.layout;
    let scalars = layout.parameter_count() + layout.buffer_count();
    Ok(Estimate {
        networks,
        steps,
        train_seconds: steps as f64 * one.step_seconds / side_by_side as f64,
        explain_seconds: networks as f64 * one.explain_seconds / side_by_side as f64,
        disk_bytes: networks * one.disk_bytes + replicates * 4 * scalars as u64,
        beside_bytes: beside * network_bytes(plan, &setup)? as u64,
    })
}

/// What one network takes.
struct One {
    step_seconds: f64,
    explain_seconds: f64,
    disk_bytes: u64,
}

/// Trains a network for a few steps, and explains it.
fn one_network(plan: &Plan, setup: &Setup, observer: &dyn Observer) -> Result<One> {
    let images = Subset::new(&setup.data, &setup.splits.train);
    let config = plan.train_config();
    let mut weights = setup.initial(plan.seed);
    let mask = Mask::dense_of(setup.model.network.layout.clone(), plan.as_published.prunable());
    let training = Training { model: &setup.model, images: &images, config: &config, seed: plan.seed };
    let timed = TIMED.min(config.total_steps(images.len()).saturating_sub(1));
    let mut started = Instant::now();
    training.run(&mut weights, &mask, 0, timed + 1, observer, |step, _| {
        if step == 1 {
            started = Instant::now();
        }
    })?;
    let step_seconds = started.elapsed().as_secs_f64() / timed.max(1) as f64;
    let started = Instant::now();
    let batch = setup.evaluation_batch()?;
    let some = &setup.splits.test[..setup.splits.test.len().min(batch)];
    evaluate(&setup.model, &weights, &Subset::new(&setup.data, some), batch)?;
    let evaluated = (setup.splits.test.len() + setup.splits.validation.len()) as f64 / some.len().max(1) as f64;
    let evaluate_seconds = started.elapsed().as_secs_f64() * evaluated;
    let started = Instant::now();
    let scalars = weights.parameters.len() + weights.buffers.len();
    let explained = Explainer::new(plan, setup)?.explain(&Arc::new(weights), false, &Silent)?;
    let explain_seconds = evaluate_seconds + started.elapsed().as_secs_f64();
    let maps: usize = explained.maps.values().map(candle_core::Tensor::elem_count).sum();
    let disk_bytes = (4 * (scalars + maps) + mask.bits().len()) as u64 + RECORD_BYTES;
    Ok(One { step_seconds, explain_seconds, disk_bytes })
}
