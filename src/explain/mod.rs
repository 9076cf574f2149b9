//! Explanations of a frozen network: saliency maps and TCAV, from the activations and gradients at a cut.

mod checkpoint_drift;
mod cut;
pub mod faithfulness;
pub mod saliency;
pub mod sanity;
mod stream;
pub mod tcav;

pub use checkpoint_drift::{CheckpointMaps, map_drift};
pub use cut::{Cut, LogitGradient, Targets};
pub use saliency::{Maps, grad_cam, normalise, split_maps, upsample, upsample_map};
pub use stream::{
    AttributedBatch, ExplainedBatch, activation_batch, activation_shape, attribute_in_batches, explain_batch,
    explain_in_batches, logits_in_batches,
};
