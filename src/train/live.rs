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
        let mask = mask.map(|mask| patterns.map_or(Cow::from(mask), |patterns| patterns.pack_values(mask).into()));
        let parameters = packed.as_ref().map_or(whole.parameters.len(), |(_, packed)| packed.parameters.len());
        Self { whole, packed, mask: mask.filter(|mask| mask.contains(&0)), optimizer: optimizer(parameters) }
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
        self.packed.as_mut().map_or(&mut *self.whole, |(_, packed)| packed)
    }

    /// The optimiser's step.
    pub(super) fn step(&mut self, gradient: &[f32], learning_rate: f32) {
        let weights = self.packed.as_mut().map_or(&mut *self.whole, |(_, packed)| packed);
        self.optimizer.step(&mut weights.parameters, gradient, self.mask.as_deref(), learning_rate);
    }

    /// All weights as they are now.
    pub(super) fn whole(&mut self) -> &Weights {
        if let Some((patterns, packed)) = &self.packed {
            patterns.unpack(packed, self.whole);
        }
        self.whole
    }

    /// All weights as they are now, and what the optimiser remembers of each.
    pub(super) fn state(&mut self) -> (&Weights, Cow<'_, OptimizerState>) {
        self.whole();
        let (whole, state) = (&*self.whole, self.optimizer.state());
        let Some((patterns, _)) = &self.packed else { return (whole, Cow::Borrowed(state)) };
        let state = state.rearranged(|packed| {
            // Nothing is remembered of what is pruned.
            let mut values = vec![0.0; whole.parameters.len()];
            patterns.unpack_values(packed, &mut values);
            values
        });
        (whole, Cow::Owned(state))
    }
}
