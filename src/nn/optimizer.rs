//! Optimisers with masks: one pass over the flat parameters, or over the kept ones where these are few, in which a masked weight and its state stay
//! exactly zero.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::kernels::optim::{self, Which};

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

/// Share of the weights below which the kept ones alone are visited; more lie too close together for that to save reading.
const FEW: f64 = 0.06;

/// An optimiser, its mask and its state.
pub struct Optimizer<'a> {
    kind: OptimizerKind,
    weight_decay: f32,
    mask: Option<&'a [u8]>,
    /// Places of the kept weights, where they are few.
    kept: Option<Vec<u32>>,
    /// Whether a step has cleared what is masked.
    cleared: bool,
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

impl<'a> Optimizer<'a> {
    /// A fresh optimiser for `parameters` scalars, of which those where `mask` is 0 become and stay exactly 0.
    pub fn new(kind: OptimizerKind, weight_decay: f32, parameters: usize, mask: Option<&'a [u8]>) -> Self {
        let second = match kind {
            OptimizerKind::Sgd { .. } => Vec::new(),
            OptimizerKind::Adam { .. } | OptimizerKind::AdamW { .. } => vec![0.0; parameters],
        };
        let state = OptimizerState { first: vec![0.0; parameters], second, steps: 0 };
        Self { kind, weight_decay, mask, kept: mask.and_then(few), cleared: false, state }
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
        (self.state, self.cleared) = (state, false);
        Ok(())
    }

    /// One step. Where the mask is 0, `weights` and the optimiser's state become exactly 0; later steps take it that they still are.
    pub fn step(&mut self, weights: &mut [f32], gradient: &[f32], learning_rate: f32) {
        let which = match (self.mask, &self.kept) {
            (None, _) => Which::All,
            (Some(_), Some(kept)) if self.cleared => Which::Kept(kept),
            (Some(mask), _) => Which::Masked(mask),
        };
        self.cleared = true;
        let state = &mut self.state;
        state.steps += 1;
        match self.kind {
            OptimizerKind::Sgd { momentum } => optim::sgd_step(
                weights,
                gradient,
                which,
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
                    which,
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

/// The places that a mask keeps, where they are few.
fn few(mask: &[u8]) -> Option<Vec<u32>> {
    let kept = mask.iter().filter(|&&bit| bit != 0).count();
    let few = (kept as f64) < FEW * mask.len() as f64 && u32::try_from(mask.len()).is_ok();
    few.then(|| (0..).zip(mask).filter(|(_, bit)| **bit != 0).map(|(place, _)| place).collect())
}
