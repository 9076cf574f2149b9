//! Explanations of a frozen network: Grad-CAM maps and TCAV, from the activations and gradients at a cut.

pub mod cav;
mod checkpoint_drift;
pub mod concept_test;
mod copies;
mod cut;
pub mod faithfulness;
pub mod geometry;
mod grad_cam;
pub mod gram;
pub mod held_out;
mod input_gradient;
mod logistic;
pub mod sanity;
mod stream;
pub mod tcav;

pub use checkpoint_drift::CheckpointMaps;
pub use cut::{Cut, LogitGradient, Targets};
pub use grad_cam::{GradCam, grad_cam, normalise, split_maps, upsample, upsample_map};
pub use input_gradient::{input_cut, input_gradient};
pub use stream::{
    ExplainedBatch, activation_batch, activation_shape, explain_batch, explain_in_batches, logits_in_batches,
};
