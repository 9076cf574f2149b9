//! Explanations of a frozen network: Grad-CAM maps and TCAV, from the activations and gradients at a cut.

pub mod cav;
mod cut;
pub mod gram;
pub mod held_out;
mod logistic;
pub mod tcav;
mod grad_cam;
mod stream;

pub use cut::{Cut, LogitGradient, Targets};
pub use grad_cam::{GradCam, grad_cam, normalise, upsample};
pub use stream::{ExplainedBatch, activation_shape, activations_in_batches, explain_in_batches, logits_in_batches};
