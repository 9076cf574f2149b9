//! Explanations of a frozen network: Grad-CAM maps and TCAV, from the activations and gradients at a cut.

pub mod cav;
mod cut;
mod grad_cam;
pub mod gram;
pub mod held_out;
mod logistic;
pub mod tcav;

pub use cut::{Cut, LogitGradient, Targets};
pub use grad_cam::{GradCam, grad_cam, normalise, upsample};
