//! Layers, their parameters, and the network that runs them forward and backward on the [`crate::kernels`].
//!
//! A [`Network`] is a list of [`Layer`]s in static single assignment: layer `i` reads earlier slots and writes slot
//! `i + 1`; slot 0 is the input. Its trainable parameters live in one flat vector and its buffers in another
//! ([`Weights`]), both described by a [`Layout`] of torchvision names, so that masks, rewinding and optimiser steps are
//! single passes over slices.

mod at_rest;
mod backward;
mod compute;
mod device;
mod forward;
pub mod init;
mod layer;
mod layout;
mod network;
mod op;
pub mod optimizer;
mod patterns;
pub mod schedule;
mod shape;
mod tape;
mod workspace;

pub use compute::{Accelerator, Compute};
pub use init::Initialisation;
pub use layer::{Convolution, Inside, Layer, Norm};
pub use layout::{BufferKind, Layout, LayoutBuilder, ParameterKind, TensorSpec, Weights};
pub use network::Network;
pub use op::Fixed;
pub use patterns::Patterns;
pub use shape::Shape3;
pub use tape::{Draws, Gradients, Mode, Tape};
pub use workspace::{Buffer, Workspace};

/// The class a row of logits predicts: the largest; the first of equals.
pub fn predicted_class(logits: &[f32]) -> usize {
    logits.iter().enumerate().fold(0, |best, (index, value)| if *value > logits[best] { index } else { best })
}
