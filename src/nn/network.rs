//! The network as data: layers on slots, and what is derived from it (shapes, sparse patterns).

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::kernels::conv2d::{self, Algorithm, Conv2dShape, Pattern};

use super::init::{self, Initialisation};
use super::layer::{Inside, Layer, split};
use super::layout::{Layout, Weights};
use super::patterns::Patterns;
use super::shape::Shape3;

/// A network: its layers and the layout of its weights.
#[derive(Clone, Debug)]
pub struct Network {
    /// Names, shapes and places of parameters and buffers.
    pub layout: Arc<Layout>,
    /// Layers in order of execution.
    pub layers: Vec<Layer>,
    /// ε of every batch norm.
    pub norm_epsilon: f32,
    /// Weight of a new batch in the running statistics.
    pub norm_momentum: f32,
    /// How fresh weights are drawn.
    pub initialisation: Initialisation,
}

impl Network {
    /// A network with PyTorch's batch-norm constants (ε = 1e-5, momentum 0.1).
    pub fn new(layout: Layout, layers: Vec<Layer>) -> Self {
        Self {
            layout: Arc::new(layout),
            layers,
            norm_epsilon: 1e-5,
            norm_momentum: 0.1,
            initialisation: Initialisation::default(),
        }
    }

    /// Fresh weights for a seed, drawn as [`Network::initialisation`] says. Each tensor draws from
    /// a stream of its own, so its values do not depend on the other tensors.
    pub fn initialise(&self, seed: u64) -> Weights {
        init::draw(&self.layout, self.initialisation, seed)
    }

    /// The same network with layer `index` in two at `point`; slots behind it move by one. `None`
    /// where nothing of the layer follows the point.
    pub fn split(&self, index: usize, point: Inside) -> Option<Self> {
        Some(Self { layers: split(&self.layers, index, point)?, ..self.clone() })
    }

    /// Whether the layers from `slot` on read that slot and later ones alone, so that the network can be cut there.
    pub fn can_be_cut(&self, slot: usize) -> bool {
        self.layers[slot..].iter().all(|layer| layer.source() >= slot && layer.residual().is_none_or(|at| at >= slot))
    }

    /// The section that holds every layer.
    pub fn whole(&self) -> Range<usize> {
        0..self.layers.len()
    }

    /// Shapes of the slots `section.start ..= section.end` for an input of the section's first slot.
    ///
    /// # Errors
    /// When channels do not fit or a map would be empty.
    pub fn shapes(&self, section: Range<usize>, input: Shape3) -> Result<Vec<Shape3>> {
        let mut shapes = vec![input];
        for index in section.clone() {
            let layer = &self.layers[index];
            let from = shapes[layer.source() - section.start];
            let shape = match layer {
                Layer::Convolution { convolution: c, .. } => {
                    expect_channels(from, c.in_channels)?;
                    Shape3 {
                        channels: c.out_channels,
                        height: window_count(from.height, c.kernel, c.stride, c.padding)?,
                        width: window_count(from.width, c.kernel, c.stride, c.padding)?,
                    }
                }
                Layer::MaxPool { kernel, stride, padding, .. } => Shape3 {
                    channels: from.channels,
                    height: window_count(from.height, *kernel, *stride, *padding)?,
                    width: window_count(from.width, *kernel, *stride, *padding)?,
                },
                Layer::Activation { .. } | Layer::Dropout { .. } => from,
                Layer::GlobalAveragePool { .. } => Shape3 { height: 1, width: 1, ..from },
                Layer::AdaptiveAveragePool { height, width, .. } => Shape3 { height: *height, width: *width, ..from },
                Layer::Flatten { .. } => Shape3 { channels: from.len(), height: 1, width: 1 },
                Layer::Linear { in_features, out_features, .. } => {
                    if from.len() != *in_features {
                        let what = "the images' size or channels do not fit the network";
                        let counts = format!("its linear layer takes {in_features} values, not {}", from.len());
                        return Err(Error::input(format!("{what}: {counts}")));
                    }
                    Shape3 { channels: *out_features, height: 1, width: 1 }
                }
            };
            if let Some(residual) = layer.residual()
                && shapes[residual - section.start] != shape
            {
                return Err(Error::input(format!("residual of layer {index} does not fit its output")));
            }
            shapes.push(shape);
        }
        Ok(shapes)
    }

    /// Images that may pass at a time so that the largest map of the batch takes no more than
    /// `bytes`; between 1 and `most`.
    ///
    /// # Errors
    /// When `input` does not fit the network.
    pub fn images_within(&self, input: Shape3, bytes: usize, most: usize) -> Result<usize> {
        let largest = self.shapes(self.whole(), input)?.iter().map(Shape3::len).max().unwrap_or(1);
        Ok((bytes / (4 * largest.max(1))).clamp(1, most.max(1)))
    }

    /// The slot that a layer's product reads in a section of these `shapes`, and how often each of its values counts.
    ///
    /// Once in its own source as a rule. Where a map of one position is spread over a grid and
    /// flattened, as the last map of torchvision's VGG is at 32 pixels, a linear layer can read it
    /// before that, with the sum of each run of weights (see [`crate::kernels::repeat`]).
    pub(super) fn operand(&self, layer: usize, section: &Range<usize>, shapes: &[Shape3]) -> (usize, usize) {
        let writer = |slot: usize| (slot > section.start).then(|| &self.layers[slot - 1]);
        let source = self.layers[layer].source();
        if matches!(self.layers[layer], Layer::Linear { .. })
            && let Some(Layer::Flatten { source: grid }) = writer(source)
            && let Some(Layer::AdaptiveAveragePool { source: point, height, width }) = writer(*grid)
            && let Shape3 { height: 1, width: 1, .. } = shapes[point - section.start]
        {
            return (*point, height * width);
        }
        (source, 1)
    }

    /// Geometry of a layer that multiplies (a linear layer is a 1×1 convolution on a 1×1 map).
    pub(crate) fn geometry(&self, layer: usize, from: Shape3, batch: usize) -> Option<(usize, Conv2dShape)> {
        match &self.layers[layer] {
            Layer::Convolution { convolution: c, .. } => Some((
                c.weight,
                Conv2dShape {
                    batch,
                    in_channels: c.in_channels,
                    out_channels: c.out_channels,
                    in_height: from.height,
                    in_width: from.width,
                    kernel: c.kernel,
                    stride: c.stride,
                    padding: c.padding,
                },
            )),
            Layer::Linear { weight, in_features, out_features, .. } => Some((
                *weight,
                Conv2dShape {
                    batch,
                    in_channels: *in_features,
                    out_channels: *out_features,
                    in_height: 1,
                    in_width: 1,
                    kernel: 1,
                    stride: 1,
                    padding: 0,
                },
            )),
            Layer::Activation { .. }
            | Layer::MaxPool { .. }
            | Layer::GlobalAveragePool { .. }
            | Layer::AdaptiveAveragePool { .. }
            | Layer::Flatten { .. }
            | Layer::Dropout { .. } => None,
        }
    }

    /// Sparse patterns for a mask over the flat parameters, each layer's kernel chosen by its
    /// density and shape from a measured crossover; `sparse_below` is the density to use instead
    /// (0: always dense; above 1: always sparse). Weights that are summed before they multiply
    /// (`operand`) need none. The result is the same up to rounding.
    ///
    /// # Errors
    /// When `input` does not fit the network.
    pub fn patterns(&self, mask: &[u8], input: Shape3, batch: usize, sparse_below: Option<f64>) -> Result<Patterns> {
        let shapes = self.shapes(self.whole(), input)?;
        let of = |index: usize| {
            let (weight, shape) = self.geometry(index, shapes[self.layers[index].source()], batch)?;
            if self.operand(index, &self.whole(), &shapes).1 > 1 {
                return None;
            }
            let mask = &mask[self.layout.parameters[weight].range.clone()];
            let kept = mask.iter().filter(|&&bit| bit != 0).count();
            if kept == mask.len() {
                return None;
            }
            let density = kept as f64 / mask.len() as f64;
            let algorithm = match sparse_below {
                None => conv2d::choose(&shape, density),
                Some(limit) if density < limit => Algorithm::Sparse,
                Some(_) => Algorithm::Dense,
            };
            let pattern = || Pattern::new(mask, shape.out_channels, shape.in_channels, shape.kernel);
            (algorithm == Algorithm::Sparse).then(|| (weight, pattern()))
        };
        Ok(Patterns::new(&self.layout, (0..self.layers.len()).filter_map(of)))
    }
}

/// Share of zeros among the prunable weights from which a network at rest is worth an index of the
/// others: 85 %, and a little less, as tools that prune 85 % round in either direction.
const MOSTLY_ZEROS: f64 = 0.849;

impl Network {
    /// Sparse patterns of weights that are no longer trained: of each layer with few weights that
    /// are not zero, where the network as a whole is at least 85 % zeros; `None` elsewhere. Results
    /// are those of dense products up to rounding.
    pub fn patterns_at_rest(&self, weights: &Weights) -> Option<Patterns> {
        // Its weight, output and input channels, kernel, and the density below which it is sparse.
        let shape = |layer: &Layer| match layer {
            Layer::Convolution { convolution: c, .. } => {
                let crossover = conv2d::crossover_at_rest(c.in_channels, c.kernel, c.stride);
                Some((c.weight, c.out_channels, c.in_channels, c.kernel, crossover))
            }
            Layer::Linear { weight, in_features, out_features, .. } => {
                Some((*weight, *out_features, *in_features, 1, conv2d::ALWAYS_SPARSE))
            }
            _ => None,
        };
        let nonzero = |layer: &Layer| {
            let (weight, ..) = shape(layer)?;
            Some(weights.parameter(weight).iter().filter(|&&value| value != 0.0).count())
        };
        let kept: Vec<Option<usize>> = self.layers.par_iter().map(nonzero).collect();
        let all = self.layout.parameters.iter().filter(|spec| spec.kind.prunable()).map(|spec| spec.range.len());
        if kept.iter().flatten().sum::<usize>() as f64 > (1.0 - MOSTLY_ZEROS) * all.sum::<usize>() as f64 {
            return None;
        }
        let pattern = |(layer, kept): (&Layer, Option<usize>)| {
            let (weight, outputs, inputs, kernel, crossover) = shape(layer)?;
            let values = weights.parameter(weight);
            if kept? as f64 >= crossover * values.len() as f64 {
                return None;
            }
            let mask: Vec<u8> = values.iter().map(|&value| u8::from(value != 0.0)).collect();
            Some((weight, Pattern::new(&mask, outputs, inputs, kernel)))
        };
        let patterns: Vec<_> = self.layers.par_iter().zip(kept).filter_map(pattern).collect();
        Some(Patterns::new(&self.layout, patterns))
    }
}

fn expect_channels(from: Shape3, channels: usize) -> Result<()> {
    if from.channels == channels {
        return Ok(());
    }
    Err(Error::input(format!("images have {} channels, the network takes {channels}", from.channels)))
}

fn window_count(extent: usize, kernel: usize, stride: usize, padding: usize) -> Result<usize> {
    (extent + 2 * padding)
        .checked_sub(kernel)
        .map(|room| room / stride + 1)
        .ok_or_else(|| Error::input(format!("a map of extent {extent} is smaller than a {kernel}×{kernel} window")))
}
