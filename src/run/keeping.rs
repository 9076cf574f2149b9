//! When the state of a training is kept, so that a program that dies loses an epoch at most.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::nn::Weights;
use crate::nn::optimizer::OptimizerState;
use crate::progress::{Event, Observer};
use crate::records::{FORMAT, RoundId, Store, TrainingRecord};
use crate::train::Kept;

use super::looks::Looks;

/// Keeping a state may take this share of the time since the last one.
const SHARE: u32 = 100;

/// Keeps the states of one training.
pub(super) struct Keeping<'a> {
    pub(super) store: &'a Store,
    pub(super) id: &'a RoundId,
    /// Least time between two states.
    pub(super) every: Duration,
    /// θ_k, once it is known and until it is stored: a training that goes on behind step k does not meet it again.
    pub(super) theta_k: &'a RefCell<Option<Weights>>,
    pub(super) looks: &'a Looks<'a>,
    last: Instant,
    took: Duration,
}

impl<'a> Keeping<'a> {
    pub(super) fn new(
        store: &'a Store,
        id: &'a RoundId,
        every: Duration,
        theta_k: &'a RefCell<Option<Weights>>,
        looks: &'a Looks<'a>,
    ) -> Self {
        Self { store, id, every, theta_k, looks, last: Instant::now(), took: Duration::ZERO }
    }

    /// The state that an earlier process has kept.
    pub(super) fn kept(&self, weights: &Weights, observer: &dyn Observer) -> Result<Option<Kept>> {
        match self.store.training(self.id, weights.layout()) {
            Ok(Some((record, weights, optimizer))) => {
                observer.tell(&Event::Phase("going on from the last epoch that was kept"))?;
                *self.looks.seen.borrow_mut() = Ok(record.looks);
                Ok(Some(Kept { step: record.step, weights, optimizer, losses: record.losses }))
            }
            Ok(None) => Ok(None),
            Err(fault @ Error::Damaged { .. }) => {
                let note = self.store.set_training_aside(self.id, &fault)?;
                observer.tell(&Event::Warning(note))?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Keeps the state after an epoch, if the last one is old enough. Whether it does changes no result.
    pub(super) fn see(
        &mut self,
        step: u64,
        weights: &Weights,
        optimizer: &OptimizerState,
        losses: &[(f64, u64)],
    ) -> Result<()> {
        // Zero is always.
        if !self.every.is_zero() && self.last.elapsed() < self.every.max(SHARE * self.took) {
            return Ok(());
        }
        let Some(looks) = self.looks.so_far() else { return Ok(()) };
        let started = Instant::now();
        self.store_theta_k()?;
        let record = TrainingRecord {
            format: FORMAT,
            id: self.id.clone(),
            step,
            optimizer_steps: optimizer.steps,
            losses: losses.to_vec(),
            looks,
        };
        self.store.write_training(&record, weights, optimizer)?;
        (self.last, self.took) = (Instant::now(), started.elapsed());
        Ok(())
    }

    /// Stores θ_k, if it is known and not stored yet.
    pub(super) fn store_theta_k(&self) -> Result<()> {
        match self.theta_k.borrow_mut().take() {
            Some(theta_k) => self.store.write_rewind_state(self.id.replicate, &theta_k),
            None => Ok(()),
        }
    }
}
