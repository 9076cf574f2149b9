//! The library's only voice: it reports [`Event`]s to an [`Observer`] and never prints.

use std::ops::ControlFlow;

use crate::error::{Error, Result};

/// Something that happened during long work.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A run was opened: how many rounds it holds over all replicates and arms, and how many were found finished.
    RunStarted {
        /// Rounds of the whole run.
        rounds: usize,
        /// Rounds whose records were already there.
        finished: usize,
    },
    /// A round begins.
    RoundStarted {
        /// Name of the arm.
        arm: String,
        /// Index of the replicate.
        replicate: usize,
        /// Round, 0 is the dense network.
        round: usize,
        /// Share of prunable weights that are kept.
        density: f64,
        /// Optimiser steps that the round will take.
        steps: u64,
    },
    /// An optimiser step was taken.
    StepDone {
        /// Epoch of the step.
        epoch: u64,
        /// Steps taken in all.
        step: u64,
        /// Mean loss of the batch, in nats.
        loss: f64,
    },
    /// A part of a round begins (`"evaluating"`, `"Grad-CAM"`, `"TCAV"`).
    Phase(&'static str),
    /// So many of the parts of a long calculation are done.
    Part {
        /// Parts done.
        done: usize,
        /// All parts.
        of: usize,
    },
    /// A round was recorded.
    RoundDone {
        /// Name of the arm.
        arm: String,
        /// Index of the replicate.
        replicate: usize,
        /// Round, 0 is the dense network.
        round: usize,
        /// Share of test images classified correctly.
        test_accuracy: f64,
        /// Whether it was read from disk, not computed.
        resumed: bool,
    },
    /// Nothing more comes of a replicate.
    ReplicateDone {
        /// Index of the replicate.
        replicate: usize,
    },
    /// A warning that the reader of the result should see.
    Warning(String),
}

/// Receives events; answering [`ControlFlow::Break`] interrupts the work at the next safe point.
pub trait Observer: Sync {
    /// Called for each event, in order. Where replicates are made side by side, each reports from a
    /// thread of its own, in its order.
    fn notice(&self, event: &Event) -> ControlFlow<()>;

    /// [`Observer::notice`] for work that ends where it is interrupted.
    ///
    /// # Errors
    /// [`Error::Interrupted`] when the observer breaks.
    fn tell(&self, event: &Event) -> Result<()> {
        match self.notice(event) {
            ControlFlow::Break(()) => Err(Error::Interrupted),
            ControlFlow::Continue(()) => Ok(()),
        }
    }
}

/// An observer that hears nothing.
pub struct Silent;

impl Observer for Silent {
    fn notice(&self, _: &Event) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}
