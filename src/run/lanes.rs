//! Replicates side by side. The steps of a small network are too short for many threads to share,
//! so each replicate has some of the threads to itself. As kernels give the same bits for any
//! number of threads, so does a run.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::explanations::ACTIVATION_BYTES;
use super::setup::Setup;
use crate::error::{Error, Result};
use crate::nn::Shape3;
use crate::plan::Plan;
use crate::progress::{Event, Observer};

/// Bytes that the networks made side by side may take together, by [`network_bytes`].
const TOGETHER_BYTES: usize = 2 << 30;
/// Share of a small network's time that more threads do not shorten (`quick`, one thread and two).
const UNSHARED: f64 = 0.2;

/// How many replicates of a plan are made side by side: as many as end the run first. One on a
/// device, whose memory and time are one network's.
pub(super) fn lanes(plan: &Plan, setup: &Setup) -> Result<usize> {
    if setup.model.compute.device().is_some() {
        return Ok(1);
    }
    let (replicates, threads) = (plan.own_replicates().len(), rayon::current_num_threads());
    let most = (TOGETHER_BYTES / network_bytes(plan, setup)?.max(1)).min(threads).min(replicates).max(1);
    Ok(fastest(replicates, threads, most))
}

/// The number of lanes, up to `most`, after which all replicates are made first; the larger of two that are as fast.
fn fastest(replicates: usize, threads: usize, most: usize) -> usize {
    // Of a replicate among so many side by side, in parts of its time on one thread.
    let time = |lanes: usize| UNSHARED + (1.0 - UNSHARED) / (threads / lanes) as f64;
    let ends_after = |lanes: usize| {
        let rest = replicates % lanes;
        (replicates / lanes) as f64 * time(lanes) + if rest > 0 { time(rest) } else { 0.0 }
    };
    (1..=most).rev().min_by(|&one, &other| ends_after(one).total_cmp(&ends_after(other))).unwrap_or(1)
}

/// Bytes that making one network takes, at most about: the maps of a training step with their
/// gradients, and the activations that TCAV keeps.
pub(super) fn network_bytes(plan: &Plan, setup: &Setup) -> Result<usize> {
    let shape: Shape3 = setup.data.shape().into();
    let network = &setup.model.network;
    let maps: usize = network.shapes(network.whole(), shape)?.iter().map(Shape3::len).sum();
    let images = plan.train.batch_size.max(setup.evaluation_batch()?);
    let rows = setup.concept_rows(&setup.concepts)?.count;
    let mut activations = 0;
    for &stage in &plan.explain.stages {
        let features = setup.model.activation_shape(stage, shape)?.len();
        activations = activations.max(features.saturating_mul(4 * rows));
    }
    Ok(maps.saturating_mul(8).saturating_mul(images).saturating_add(activations.min(2 * ACTIVATION_BYTES)))
}

/// The pools of threads in which `lanes` replicates are made side by side: as many threads as there
/// are here, shared out.
pub(super) fn pools(lanes: usize) -> Result<Vec<ThreadPool>> {
    let threads = rayon::current_num_threads();
    let pool = |lane| {
        let own = threads / lanes + usize::from(lane < threads % lanes);
        let pool = ThreadPoolBuilder::new().num_threads(own.max(1)).build();
        pool.map_err(|error| Error::input(format!("threads cannot be started: {error}")))
    };
    (0..lanes).map(pool).collect()
}

/// Calls `make` for every replicate, `lanes` of them side by side; those left over at the end share
/// all threads. Ends at the first error, as soon as the others notice.
pub(super) fn side_by_side(
    replicates: &[usize],
    lanes: usize,
    observer: &dyn Observer,
    make: impl Fn(usize, &dyn Observer) -> Result<()> + Sync,
) -> Result<()> {
    let (full, rest) = replicates.split_at(replicates.len() - replicates.len() % lanes);
    let make = |replicate, observer: &dyn Observer| {
        make(replicate, observer)?;
        observer.tell(&Event::ReplicateDone { replicate })
    };
    for (replicates, lanes) in [(full, lanes), (rest, rest.len())] {
        if lanes < 2 {
            replicates.iter().try_for_each(|&replicate| make(replicate, observer))?;
            continue;
        }
        let (next, stopped) = (AtomicUsize::new(0), AtomicBool::new(false));
        let observer = Stoppable { observer, stopped: &stopped };
        let lane = || {
            while let Some(&replicate) = replicates.get(next.fetch_add(1, Ordering::Relaxed)) {
                make(replicate, &observer).inspect_err(|_| stopped.store(true, Ordering::Relaxed))?;
            }
            Ok(())
        };
        let pools = pools(lanes)?;
        let ends: Vec<Result<()>> = std::thread::scope(|scope| {
            let running: Vec<_> = pools.iter().map(|pool| scope.spawn(|| pool.install(lane))).collect();
            let ends = running.into_iter().map(|lane| lane.join());
            ends.map(|end| end.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        });
        // What was at fault comes before what was stopped because of it.
        let (interrupted, faults): (Vec<_>, Vec<_>) =
            ends.into_iter().filter_map(Result::err).partition(|error| matches!(error, Error::Interrupted));
        if let Some(error) = faults.into_iter().chain(interrupted).next() {
            return Err(error);
        }
    }
    Ok(())
}

/// Breaks in every lane once one has ended with an error, which a break is too.
struct Stoppable<'a> {
    observer: &'a dyn Observer,
    stopped: &'a AtomicBool,
}

impl Observer for Stoppable<'_> {
    fn notice(&self, event: &Event) -> ControlFlow<()> {
        if self.stopped.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { self.observer.notice(event) }
    }
}

#[cfg(test)]
mod tests;
