//! Residual networks with torchvision's parameter names, and checkpoints of them.

mod architecture;
mod checkpoint;
mod forward;
mod names;
mod pickle;
mod pruned;
mod pytorch;
mod resnet;

pub use architecture::{Architecture, Block, Stage, Stem};
pub use checkpoint::{
    Checkpoint, TensorFile, checkpoint_of, checkpoint_with, load_checkpoint, load_into, load_trunk, save_weights,
};
pub use forward::{Assumptions, BottleneckStride, Forward};
pub use resnet::ResNet;
