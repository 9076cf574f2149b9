//! Looks at the validation images during a training: how fast a network learns is read off them.

use std::cell::RefCell;

use crate::data::Images;
use crate::error::Result;
use crate::model::Model;
use crate::nn::Weights;
use crate::records::Look;
use crate::train::loss_and_accuracy;

/// The looks of one training.
pub(super) struct Looks<'a> {
    /// Steps between two looks (`train.look_every`); none where absent.
    pub(super) every: Option<u64>,
    pub(super) model: &'a Model,
    /// Validation images.
    pub(super) images: &'a dyn Images,
    /// Images evaluated at a time.
    pub(super) batch: usize,
    /// What was seen, or why it could not be seen.
    pub(super) seen: RefCell<Result<Vec<Look>>>,
}

impl Looks<'_> {
    /// Whether to look after `step` steps.
    pub(super) fn due(&self, step: u64) -> bool {
        self.every.is_some_and(|every| step.is_multiple_of(every))
    }

    /// After `step` steps: looks, if it is time to.
    pub(super) fn see(&self, step: u64, weights: &Weights) {
        let mut seen = self.seen.borrow_mut();
        if let Ok(looks) = &mut *seen
            && self.due(step)
        {
            match loss_and_accuracy(self.model, weights, self.images, self.batch) {
                Ok((loss, accuracy)) => looks.push(Look { step, loss, accuracy }),
                Err(error) => *seen = Err(error),
            }
        }
    }

    /// What was seen so far; absent where a look failed, which [`Looks::finish`] tells.
    pub(super) fn so_far(&self) -> Option<Vec<Look>> {
        self.seen.borrow().as_ref().ok().cloned()
    }

    /// All that was seen.
    ///
    /// # Errors
    /// When the images could not be read or do not fit the network.
    pub(super) fn finish(self) -> Result<Vec<Look>> {
        self.seen.into_inner()
    }
}
