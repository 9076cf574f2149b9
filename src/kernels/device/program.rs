//! What a device is told to run: a section of a network as plain data, without names.

use std::ops::Range;

use crate::conv2d::Conv2dShape;
use crate::error::{Error, Result};
use crate::pool::PoolShape;

/// Where a batch norm's values stand in the flat parameters (scale, shift) and buffers (mean, variance).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NormPlaces {
    /// γ, in the parameters.
    pub scale: Range<usize>,
    /// β, in the parameters.
    pub shift: Range<usize>,
    /// Running mean, in the buffers.
    pub mean: Range<usize>,
    /// Running variance, in the buffers.
    pub variance: Range<usize>,
}

/// One layer. Operation `i` reads slots up to `i` and writes slot `i + 1`; slot 0 is the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `relu?(norm?(convolution(source)) + residual?)`.
    Convolution {
        /// Geometry, with the batch.
        shape: Conv2dShape,
        /// The weight `(O, I, k, k)` in the parameters.
        weight: Range<usize>,
        /// Batch norm after it.
        norm: Option<NormPlaces>,
        /// Slot that is added after the norm.
        residual: Option<usize>,
        /// Whether a ReLU closes the layer.
        relu: bool,
        /// Slot that is read.
        source: usize,
    },
    /// Max pooling.
    MaxPool {
        /// Geometry, with the batch.
        shape: PoolShape,
        /// Slot that is read.
        source: usize,
    },
    /// Mean over all positions; its slot is always f32.
    GlobalAveragePool {
        /// Slot that is read.
        source: usize,
    },
    /// `W x + b`, in f32.
    Linear {
        /// The weight `(O, I)` in the parameters.
        weight: Range<usize>,
        /// The bias `(O)` in the parameters.
        bias: Range<usize>,
        /// Slot that is read: f32, so with bfloat16 maps it must be a [`Operation::GlobalAveragePool`]'s.
        source: usize,
    },
}

impl Operation {
    /// Slot that is read.
    pub fn source(&self) -> usize {
        match self {
            Operation::Convolution { source, .. }
            | Operation::MaxPool { source, .. }
            | Operation::GlobalAveragePool { source }
            | Operation::Linear { source, .. } => *source,
        }
    }

    /// Slot that is added.
    pub fn residual(&self) -> Option<usize> {
        match self {
            Operation::Convolution { residual, .. } => *residual,
            _ => None,
        }
    }
}

/// How batch norm behaves and what a forward pass keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Batch statistics; everything is kept for the backward pass.
    Train {
        /// Whether the running statistics on the device take the batch's over.
        update: bool,
    },
    /// Running statistics; outputs are kept for the backward pass.
    Tape,
    /// Running statistics; nothing is kept.
    Evaluate,
}

/// Which gradients a backward pass computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Of the parameters.
    pub parameters: bool,
    /// Of the section's input.
    pub input: bool,
}

/// An optimiser's rule, with PyTorch's semantics (see [`crate::optim`]).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// Stochastic gradient descent.
    Sgd {
        /// Momentum factor.
        momentum: f32,
    },
    /// Adam, or AdamW.
    Adam {
        /// Decay of the first moment.
        beta1: f32,
        /// Decay of the second moment.
        beta2: f32,
        /// Denominator's ε.
        epsilon: f32,
        /// Whether weight decay is decoupled (AdamW).
        decoupled: bool,
    },
}

/// A section of a network for one batch size.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    /// Images.
    pub batch: usize,
    /// `(C, H, W)` of each slot, the input's first.
    pub slots: Vec<[usize; 3]>,
    /// The layers.
    pub operations: Vec<Operation>,
    /// ε of every batch norm.
    pub norm_epsilon: f32,
    /// Weight of a new batch in the running statistics.
    pub norm_momentum: f32,
    /// Number of flat parameters of the whole network.
    pub parameters: usize,
    /// Number of flat buffers of the whole network.
    pub buffers: usize,
}

/// The device's kernels count values in 32 bits.
const MOST_VALUES: usize = 1 << 31;

impl Program {
    /// Values of a slot.
    pub fn len(&self, slot: usize) -> usize {
        self.batch * self.slots[slot].iter().product::<usize>()
    }

    /// Whether nothing is computed.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty() || self.batch == 0
    }

    /// Values of the last slot.
    pub fn output_len(&self) -> usize {
        self.len(self.slots.len() - 1)
    }

    /// Checks everything that the device's kernels take on trust.
    ///
    /// # Errors
    /// The operation is named whose slots, ranges or sizes do not fit.
    pub fn check(&self) -> Result<()> {
        if self.is_empty() || self.slots.len() != self.operations.len() + 1 {
            return Err(Error::input("a device program without images or layers"));
        }
        if (0..self.slots.len()).any(|slot| self.len(slot) == 0 || self.len(slot) >= MOST_VALUES) {
            let what = format!("a map of {} images has no value, or 2^31 or more: pass fewer at a time", self.batch);
            return Err(Error::input(what));
        }
        for (index, operation) in self.operations.iter().enumerate() {
            if !self.fits(index, operation) {
                return Err(Error::input(format!("layer {index} does not fit its device program: {operation:?}")));
            }
        }
        Ok(())
    }

    fn fits(&self, index: usize, operation: &Operation) -> bool {
        let earlier = |slot: usize| slot <= index;
        if !earlier(operation.source()) || !operation.residual().is_none_or(earlier) {
            return false;
        }
        let ([c, h, w], to) = (self.slots[operation.source()], self.slots[index + 1]);
        let within = |range: &Range<usize>, len: usize, all: usize| range.len() == len && range.end <= all;
        match operation {
            Operation::Convolution { shape, weight, norm, residual, .. } => {
                shape.batch == self.batch
                    && [shape.in_channels, shape.in_height, shape.in_width] == [c, h, w]
                    && shape.kernel > 0
                    && shape.stride > 0
                    && [shape.out_channels, shape.out_height(), shape.out_width()] == to
                    && within(weight, shape.weight_len(), self.parameters)
                    && residual.is_none_or(|slot| self.slots[slot] == to)
                    && norm.as_ref().is_none_or(|norm| {
                        within(&norm.scale, to[0], self.parameters)
                            && within(&norm.shift, to[0], self.parameters)
                            && within(&norm.mean, to[0], self.buffers)
                            && within(&norm.variance, to[0], self.buffers)
                    })
            }
            Operation::MaxPool { shape, .. } => {
                shape.batch == self.batch
                    && [shape.channels, shape.in_height, shape.in_width] == [c, h, w]
                    && (1..=15).contains(&shape.kernel)
                    && shape.stride > 0
                    && shape.padding < shape.kernel
                    && [shape.channels, shape.out_height(), shape.out_width()] == to
            }
            Operation::GlobalAveragePool { .. } => to == [c, 1, 1],
            Operation::Linear { weight, bias, .. } => {
                [h, w] == [1, 1]
                    && to[1..] == [1, 1]
                    && within(weight, c * to[0], self.parameters)
                    && within(bias, to[0], self.parameters)
            }
        }
    }

    /// Whether a layer after `index` reads `slot`.
    #[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "only a device frees slots"))]
    pub(super) fn needed_after(&self, index: usize, slot: usize) -> bool {
        self.operations[index + 1..].iter().any(|later| later.source() == slot || later.residual() == Some(slot))
    }
}
