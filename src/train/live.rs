//! What the steps of a training change.

use std::borrow::Cow;

use crate::error::Result;
use crate::nn::optimizer::{Optimizer, OptimizerState};
use crate::nn::{Patterns, Weights};

/// Weights and the state of their optimiser; of a pruned network packed, without what its patterns leave out.
pub(super) struct Live<'a> {
    whole: &'a mut Weights,
    packed: Option<(&'a Patterns, Weights)>,
    /// Of what the patterns keep; `None` where that is not masked.
    mask: Option<Cow<'a, [u8]>>,
    optimizer: Optimizer,
}

impl<'a> Live<'a> {
    /// Begins with `whole` weights and a fresh `optimizer`, made for as many scalars as it is asked for.
    pub(super) fn new(
        whole: &'a mut Weights,
        patterns: Option<&'a Patterns>,
        mask: Option<&'a [u8]>,
        optimizer: impl FnOnce(usize) -> Optimizer,
    ) -> Self {
        let packed = patterns.map(|patterns| (patterns, patterns.pack(whole)));
        let mask = match patterns {
            Some(patterns) => mask.map(|mask| Cow::from(patterns.pack_values(mask))),
            None => mask.map(Cow::from),
        };
        let optimizer = optimizer(packed.as_ref().map_or(&*whole, |(_, packed)| packed).parameters.len());
        Self { whole, packed, mask: mask.filter(|mask| mask.contains(&0)), optimizer }
    }

    /// Goes on from the state of a training of the same weights.
    ///
    /// # Errors
    /// When the state is of another optimiser or network.
    pub(super) fn resume(&mut self, weights: Weights, state: OptimizerState) -> Result<()> {
        let scalars = self.whole.parameters.len();
        let of_all = |values: &[f32]| values.is_empty() || values.len() == scalars;
        let state = match &mut self.packed {
            Some((patterns, packed)) if of_all(&state.first) && of_all(&state.second) => {
                *packed = patterns.pack(&weights);
                state.rearranged(|values| patterns.pack_values(values))
            }
            _ => state,
        };
        *self.whole = weights;
        self.optimizer.resume(state)
    }

    /// The patterns by which the weights are packed.
    pub(super) fn patterns(&self) -> Option<&'a Patterns> {
        self.packed.as_ref().map(|(patterns, _)| *patterns)
    }

    pub(super) fn weights(&self) -> &Weights {
        self.packed.as_ref().map_or(&*self.whole, |(_, packed)| packed)
    }

    pub(super) fn weights_mut(&mut self) -> &mut Weights {
        match &mut self.packed {
            Some((_, packed)) => packed,
            None => self.whole,
        }
    }

    /// The optimiser's step.
    pub(super) fn step(&mut self, gradient: &[f32], learning_rate: f32) {
        let weights = match &mut self.packed {
            Some((_, packed)) => packed,
            None => &mut *self.whole,
        };
        self.optimizer.step(&mut weights.parameters, gradient, self.mask.as_deref(), learning_rate);
    }

    /// All weights as they are now.
    pub(super) fn whole(&mut self) -> &Weights {
        if let Some((patterns, packed)) = &self.packed {
            patterns.unpack(packed, self.whole);
        }
        self.whole
    }

    /// What the optimiser remembers of all weights.
    pub(super) fn state(&self) -> Cow<'_, OptimizerState> {
        let state = self.optimizer.state();
        let Some((patterns, _)) = &self.packed else { return Cow::Borrowed(state) };
        Cow::Owned(state.rearranged(|packed| {
            // Nothing is remembered of what is pruned.
            let mut values = vec![0.0; self.whole.parameters.len()];
            patterns.unpack_values(packed, &mut values);
            values
        }))
    }
}
