//! What a forward pass of a [`super::Network`] leaves for the backward pass.
//!
//! Activations are kept in the kernels' order ([`crate::kernels::layout::Order`]), batch innermost.

use std::ops::Range;

use super::shape::Shape3;
use super::workspace::{Buffer, Workspace};

/// How batch norm and dropout behave and what a forward pass keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Batch statistics; running statistics are updated; dropout draws; everything is kept for
    /// [`super::Network::backward`].
    Train(Draws),
    /// Running statistics, which are constants; outputs are kept for [`super::Network::backward`].
    EvalTape,
    /// Running statistics; every slot is freed after its last use.
    Eval,
}

/// What dropout's draws are a function of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Draws {
    /// Seed of the training.
    pub seed: u64,
    /// Optimiser step.
    pub step: u64,
}

impl Mode {
    /// Training outside a run: one pass with the draws of step 0.
    pub const TRAIN: Self = Mode::Train(Draws { seed: 0, step: 0 });

    /// Whether it is training.
    pub fn trains(self) -> bool {
        matches!(self, Mode::Train(_))
    }
}

/// What layer keeps between forward and backward, beside its output.
pub(super) enum Saved {
    Nothing,
    /// Input of the batch norm and the batch's mean and biased variance.
    Norm {
        z: Buffer,
        mean: Vec<f32>,
        variance: Vec<f32>,
    },
    /// Offset of the maximum in each window.
    MaxPool(Vec<u8>),
    /// Which values dropout keeps.
    Kept(Vec<bool>),
    /// Sums of the weights whose inputs are the same; empty where none are.
    Folded(Vec<f32>),
}

/// The result of a forward pass over a section.
pub struct Tape {
    pub(super) section: Range<usize>,
    pub(super) batch: usize,
    pub(super) shapes: Vec<Shape3>,
    pub(super) slots: Vec<Option<Buffer>>,
    pub(super) saved: Vec<Saved>,
}

impl Tape {
    /// Shape of the output, per image.
    pub fn output_shape(&self) -> Shape3 {
        self.shapes[self.shapes.len() - 1]
    }

    /// The output, in the kernels' order (logits: `(K, N)`).
    pub fn output(&self) -> &[f32] {
        self.slots.last().and_then(Option::as_deref).unwrap_or(&[])
    }

    /// Gives every buffer back.
    pub fn recycle(self, workspace: &mut Workspace) {
        for slot in self.slots.into_iter().flatten() {
            workspace.give(slot);
        }
        for saved in self.saved {
            if let Saved::Norm { z, .. } = saved {
                workspace.give(z);
            }
        }
    }
}

/// Gradients that a backward pass should produce.
pub struct Gradients<'a> {
    /// Flat gradient of the parameters, in the layout of the weights, overwritten for every
    /// parameter of the section; `None`: not wanted.
    pub parameters: Option<&'a mut [f32]>,
    /// Whether the gradient of the section's input is wanted.
    pub input: bool,
}
