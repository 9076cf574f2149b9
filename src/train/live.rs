//! What the steps of a training change.

use std::borrow::Cow;

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
    /// Goes on from `whole` weights and the state of their `optimizer`.
    pub(super) fn new(
        whole: &'a mut Weights,
        patterns: Option<&'a Patterns>,
        mut optimizer: Optimizer,
        mask: Option<&'a [u8]>,
    ) -> Self {
        let Some(patterns) = patterns else {
            return Self { whole, packed: None, mask: mask.map(Cow::from), optimizer };
        };
        optimizer.rearrange(|values| patterns.pack_values(values));
        let mask = mask.map(|mask| patterns.pack_values(mask)).filter(|mask| mask.contains(&0));
        let packed = patterns.pack(whole);
        Self { whole, packed: Some((patterns, packed)), mask: mask.map(Cow::from), optimizer }
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
        let all = |packed: &Vec<f32>| {
            // Nothing is remembered of what is pruned; and some optimisers have one moment.
            let mut values = vec![0.0; if packed.is_empty() { 0 } else { self.whole.parameters.len() }];
            if !packed.is_empty() {
                patterns.unpack_values(packed, &mut values);
            }
            values
        };
        Cow::Owned(OptimizerState { first: all(&state.first), second: all(&state.second), steps: state.steps })
    }
}
