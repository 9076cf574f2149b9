//! One layer as data.

/// A square convolution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Convolution {
    /// Index of the weight parameter `(O, I, k, k)`.
    pub weight: usize,
    /// Index of the bias parameter `(O)`.
    pub bias: Option<usize>,
    /// Input channels.
    pub in_channels: usize,
    /// Output channels.
    pub out_channels: usize,
    /// Kernel extent.
    pub kernel: usize,
    /// Stride.
    pub stride: usize,
    /// Zero padding on each side.
    pub padding: usize,
}

/// Batch normalisation: indices of its parameters and buffers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Norm {
    /// Parameter γ.
    pub scale: usize,
    /// Parameter β.
    pub shift: usize,
    /// Buffer: running mean.
    pub mean: usize,
    /// Buffer: running variance.
    pub variance: usize,
}

/// One layer. Layer `i` writes slot `i + 1`; `source` and `residual` name slots up to `i`.
#[derive(Clone, Debug, PartialEq)]
pub enum Layer {
    /// `relu?(norm?(convolution(source)) + residual?)`: convolution and all that follows it up to the next, fused.
    Convolution {
        /// The convolution.
        convolution: Convolution,
        /// Batch norm after it.
        norm: Option<Norm>,
        /// Slot that is added after the norm.
        residual: Option<usize>,
        /// Whether a ReLU closes the layer.
        relu: bool,
        /// Slot that is read.
        source: usize,
    },
    /// `relu?(norm?(source) + residual?)`: what follows a product, alone; stands where a network is
    /// cut inside a fused layer.
    Activation {
        /// Batch norm.
        norm: Option<Norm>,
        /// Slot that is added after the norm.
        residual: Option<usize>,
        /// Whether a ReLU closes the layer.
        relu: bool,
        /// Slot that is read.
        source: usize,
    },
    /// Max pooling.
    MaxPool {
        /// Window extent.
        kernel: usize,
        /// Stride.
        stride: usize,
        /// Padding with −∞.
        padding: usize,
        /// Slot that is read.
        source: usize,
    },
    /// Mean over all positions: `(C, H, W)` to `(C, 1, 1)`.
    GlobalAveragePool {
        /// Slot that is read.
        source: usize,
    },
    /// Means over a grid of windows that cover the map, as PyTorch's `AdaptiveAvgPool2d`:
    /// `(C, H, W)` to `(C, height, width)`.
    AdaptiveAveragePool {
        /// Rows of the output.
        height: usize,
        /// Columns of the output.
        width: usize,
        /// Slot that is read.
        source: usize,
    },
    /// `(C, H, W)` to `(C·H·W, 1, 1)`, columns fastest, as PyTorch's `flatten`.
    Flatten {
        /// Slot that is read.
        source: usize,
    },
    /// In training, each value is 0 with this probability and else divided by what is left of 1;
    /// otherwise nothing changes.
    Dropout {
        /// Probability of 0.
        probability: f32,
        /// Slot that is read.
        source: usize,
    },
    /// `relu?(W x + b)` on a `(C, 1, 1)` slot.
    Linear {
        /// Index of the weight `(O, I)`.
        weight: usize,
        /// Index of the bias `(O)`.
        bias: usize,
        /// Inputs.
        in_features: usize,
        /// Outputs.
        out_features: usize,
        /// Whether a ReLU closes the layer.
        relu: bool,
        /// Slot that is read.
        source: usize,
    },
}

impl Layer {
    pub(crate) fn source(&self) -> usize {
        match self {
            Layer::Convolution { source, .. }
            | Layer::Activation { source, .. }
            | Layer::MaxPool { source, .. }
            | Layer::GlobalAveragePool { source }
            | Layer::AdaptiveAveragePool { source, .. }
            | Layer::Flatten { source }
            | Layer::Dropout { source, .. }
            | Layer::Linear { source, .. } => *source,
        }
    }

    pub(crate) fn residual(&self) -> Option<usize> {
        match self {
            Layer::Convolution { residual, .. } | Layer::Activation { residual, .. } => *residual,
            _ => None,
        }
    }

    pub(super) fn norm(&self) -> Option<&Norm> {
        match self {
            Layer::Convolution { norm, .. } | Layer::Activation { norm, .. } => norm.as_ref(),
            _ => None,
        }
    }

    /// The slots that are read.
    fn reads(&mut self) -> impl Iterator<Item = &mut usize> {
        let (source, residual) = match self {
            Layer::Convolution { source, residual, .. } | Layer::Activation { source, residual, .. } => {
                (source, residual.as_mut())
            }
            Layer::MaxPool { source, .. }
            | Layer::GlobalAveragePool { source }
            | Layer::AdaptiveAveragePool { source, .. }
            | Layer::Flatten { source }
            | Layer::Dropout { source, .. }
            | Layer::Linear { source, .. } => (source, None),
        };
        std::iter::once(source).chain(residual)
    }
}

/// A point inside a fused layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inside {
    /// After the product and its bias.
    Product,
    /// After the batch norm.
    Norm,
}

/// `layers` with layer `index` in two at `point`; what it wrote stands one slot later. `None` where
/// nothing of it follows the point.
pub(super) fn split(layers: &[Layer], index: usize, point: Inside) -> Option<Vec<Layer>> {
    let source = index + 1;
    let (first, second) = match layers[index].clone() {
        Layer::Convolution { convolution, norm, residual, relu, source: from } => {
            let (before, after) = match point {
                Inside::Product => (None, norm),
                Inside::Norm => (norm, None),
            };
            if after.is_none() && residual.is_none() && !relu {
                return None;
            }
            let first = Layer::Convolution { convolution, norm: before, residual: None, relu: false, source: from };
            (first, Layer::Activation { norm: after, residual, relu, source })
        }
        Layer::Linear { weight, bias, in_features, out_features, relu: true, source: from } => (
            Layer::Linear { weight, bias, in_features, out_features, relu: false, source: from },
            Layer::Activation { norm: None, residual: None, relu: true, source },
        ),
        _ => return None,
    };
    let mut split = layers[..index].to_vec();
    split.extend([first, second]);
    for layer in &layers[index + 1..] {
        let mut later = layer.clone();
        later.reads().filter(|slot| **slot > index).for_each(|slot| *slot += 1);
        split.push(later);
    }
    Some(split)
}
