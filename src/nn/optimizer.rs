//! Optimisers with masks: one pass over the flat parameters, in which a masked weight and its state stay exactly zero.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::kernels::optim;

/// Which optimiser, with its constants.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum OptimizerKind {
    /// Stochastic gradient descent with (heavy-ball) momentum, PyTorch's form.
    Sgd {
        /// Momentum factor.
        momentum: f32,
    },
    /// Adam (Kingma & Ba 2015); weight decay is added to the gradient.
    Adam {
        /// Decay of the first moment.
        beta1: f32,
        /// Decay of the second moment.
        beta2: f32,
        /// Denominator's ε.
        epsilon: f32,
    },
    /// AdamW (Loshchilov & Hutter 2019): decoupled weight decay.
    AdamW {
        /// Decay of the first moment.
        beta1: f32,
        /// Decay of the second moment.
        beta2: f32,
        /// Denominator's ε.
        epsilon: f32,
    },
}

/// An optimiser and its state.
pub struct Optimizer {
    kind: OptimizerKind,
    weight_decay: f32,
    state: OptimizerState,
}

/// What an optimiser remembers from step to step.
#[derive(Clone, Debug, PartialEq)]
pub struct OptimizerState {
    /// Momentum, or first moments; one for each parameter.
    pub first: Vec<f32>,
    /// Second moments; empty without.
    pub second: Vec<f32>,
    /// Steps taken.
    pub steps: u64,
}

impl OptimizerState {
    /// The same with `values` of what is remembered of each scalar, as when the scalars lie in another order.
    #[must_use]
    pub fn rearranged(&self, values: impl Fn(&[f32]) -> Vec<f32>) -> Self {
        let all = |values_now: &[f32]| if values_now.is_empty() { Vec::new() } else { values(values_now) };
        Self { first: all(&self.first), second: all(&self.second), steps: self.steps }
    }
}

impl Optimizer {
    /// A fresh optimiser for `parameters` scalars.
    pub fn new(kind: OptimizerKind, weight_decay: f32, parameters: usize) -> Self {
        let second = match kind {
            OptimizerKind::Sgd { .. } => Vec::new(),
            OptimizerKind::Adam { .. } | OptimizerKind::AdamW { .. } => vec![0.0; parameters],
        };
        let state = OptimizerState { first: vec![0.0; parameters], second, steps: 0 };
        Self { kind, weight_decay, state }
    }

    /// What it remembers.
    pub fn state(&self) -> &OptimizerState {
        &self.state
    }

    /// Goes on from a state of the same kind and network.
    ///
    /// # Errors
    /// When the state is of another kind or size.
    pub fn resume(&mut self, state: OptimizerState) -> Result<()> {
        if (state.first.len(), state.second.len()) != (self.state.first.len(), self.state.second.len()) {
            return Err(Error::input("an optimiser's state is of another optimiser or network"));
        }
        self.state = state;
        Ok(())
    }

    /// One step: `weights` and the optimiser's state become exactly 0 where `mask` is 0.
    pub fn step(&mut self, weights: &mut [f32], gradient: &[f32], mask: Option<&[u8]>, learning_rate: f32) {
        let state = &mut self.state;
        state.steps += 1;
        match self.kind {
            OptimizerKind::Sgd { momentum } => optim::sgd_step(
                weights,
                gradient,
                mask,
                &mut state.first,
                learning_rate,
                momentum,
                self.weight_decay,
                state.steps == 1,
            ),
            OptimizerKind::Adam { beta1, beta2, epsilon } | OptimizerKind::AdamW { beta1, beta2, epsilon } => {
                optim::adam_step(
                    weights,
                    gradient,
                    mask,
                    &mut state.first,
                    &mut state.second,
                    learning_rate,
                    beta1,
                    beta2,
                    epsilon,
                    self.weight_decay,
                    matches!(self.kind, OptimizerKind::AdamW { .. }),
                    state.steps,
                );
            }
        }
    }
}
