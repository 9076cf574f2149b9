//! ResNet-18/34/50 (He et al. 2016; torchvision's variant) as a [`Network`], and its cuts.

use std::ops::Range;
use std::sync::Arc;

use crate::nn::{BufferKind, Compute, Convolution, Layer, LayoutBuilder, Network, Norm, ParameterKind};

use super::architecture::{Architecture, Block, Stage, Stem};
use super::forward::BottleneckStride;

/// A residual network: the architecture, its layers, and where each stage ends.
#[derive(Clone, Debug)]
pub struct ResNet {
    /// What it is made of.
    pub architecture: Architecture,
    /// Layers and layout.
    pub network: Arc<Network>,
    /// Slot that holds the output of each stage.
    stage_slots: [usize; 4],
}

impl ResNet {
    /// Lays the network out.
    pub fn new(architecture: Architecture) -> Self {
        let mut builder = Builder::default();
        let width = architecture.width;
        let (kernel, padding) = match architecture.stem {
            Stem::Small => (3, 1),
            Stem::Large => (7, 3),
        };
        let geometry = (kernel, architecture.stem_stride(), padding);
        builder.convolution("conv1", "bn1", architecture.channels, width, geometry, 0, None, true);
        if architecture.stem_pool() {
            let source = builder.layers.len();
            builder.layers.push(Layer::MaxPool { kernel: 3, stride: 2, padding: 1, source });
        }
        let mut channels = width;
        let mut stage_slots = [0; 4];
        for stage in Stage::ALL {
            let planes = width << stage.index();
            for block in 0..architecture.blocks[stage.index()] {
                let stride = if block == 0 && stage != Stage::Layer1 { 2 } else { 1 };
                let name = format!("{stage}.{block}");
                builder.block(
                    architecture.block,
                    architecture.forward.bottleneck_stride,
                    &name,
                    channels,
                    planes,
                    stride,
                );
                channels = planes * architecture.block.expansion();
            }
            stage_slots[stage.index()] = builder.layers.len();
        }
        let source = builder.layers.len();
        builder.layers.push(Layer::GlobalAveragePool { source });
        let classes = architecture.classes;
        let weight = builder.layout.parameter("fc.weight".into(), ParameterKind::LinearWeight, &[classes, channels]);
        let bias = builder.layout.parameter("fc.bias".into(), ParameterKind::LinearBias, &[classes]);
        builder.layers.push(Layer::Linear {
            weight,
            bias,
            in_features: channels,
            out_features: classes,
            source: source + 1,
        });
        let network = Arc::new(Network::new(builder.layout.finish(), builder.layers));
        Self { architecture, network, stage_slots }
    }

    /// The same network, computing elsewhere.
    pub fn on(&self, compute: &Compute) -> Self {
        let network = Network { compute: compute.clone(), ..Network::clone(&self.network) };
        Self { network: Arc::new(network), ..self.clone() }
    }

    /// Φ of DESIGN 1.2: the layers up to and including `stage`.
    pub fn features(&self, stage: Stage) -> Range<usize> {
        0..self.stage_slots[stage.index()]
    }

    /// h of DESIGN 1.2: the layers after `stage`.
    pub fn head(&self, stage: Stage) -> Range<usize> {
        self.stage_slots[stage.index()]..self.network.layers.len()
    }
}

#[derive(Default)]
struct Builder {
    layout: LayoutBuilder,
    layers: Vec<Layer>,
}

impl Builder {
    /// Adds convolution + batch norm (+ residual) (+ ReLU); returns the slot of its output.
    #[expect(clippy::too_many_arguments, reason = "private; the arguments are one table row each")]
    fn convolution(
        &mut self,
        name: &str,
        norm_name: &str,
        in_channels: usize,
        out_channels: usize,
        (kernel, stride, padding): (usize, usize, usize),
        source: usize,
        residual: Option<usize>,
        relu: bool,
    ) -> usize {
        let shape = [out_channels, in_channels, kernel, kernel];
        let weight = self.layout.parameter(format!("{name}.weight"), ParameterKind::ConvolutionWeight, &shape);
        let c = [out_channels];
        let norm = Norm {
            scale: self.layout.parameter(format!("{norm_name}.weight"), ParameterKind::NormScale, &c),
            shift: self.layout.parameter(format!("{norm_name}.bias"), ParameterKind::NormShift, &c),
            mean: self.layout.buffer(format!("{norm_name}.running_mean"), BufferKind::RunningMean, &c),
            variance: self.layout.buffer(format!("{norm_name}.running_var"), BufferKind::RunningVariance, &c),
        };
        let convolution = Convolution { weight, in_channels, out_channels, kernel, stride, padding };
        self.layers.push(Layer::Convolution { convolution, norm: Some(norm), residual, relu, source });
        self.layers.len()
    }

    fn block(
        &mut self,
        block: Block,
        position: BottleneckStride,
        name: &str,
        in_channels: usize,
        planes: usize,
        stride: usize,
    ) {
        let input = self.layers.len();
        let out_channels = planes * block.expansion();
        let conv = |index: usize| (format!("{name}.conv{index}"), format!("{name}.bn{index}"));
        let before_last = match block {
            Block::Basic => {
                let (c, n) = conv(1);
                self.convolution(&c, &n, in_channels, planes, (3, stride, 1), input, None, true)
            }
            Block::Bottleneck => {
                let (c, n) = conv(1);
                let (first, second) = match position {
                    BottleneckStride::First => (stride, 1),
                    BottleneckStride::Second => (1, stride),
                };
                let slot = self.convolution(&c, &n, in_channels, planes, (1, first, 0), input, None, true);
                let (c, n) = conv(2);
                self.convolution(&c, &n, planes, planes, (3, second, 1), slot, None, true)
            }
        };
        let needs_projection = stride != 1 || in_channels != out_channels;
        let (c, n) = conv(if block == Block::Basic { 2 } else { 3 });
        let geometry = if block == Block::Basic { (3, 1, 1) } else { (1, 1, 0) };
        self.convolution(&c, &n, planes, out_channels, geometry, before_last, Some(input), true);
        if needs_projection {
            let (c, n) = (format!("{name}.downsample.0"), format!("{name}.downsample.1"));
            self.convolution(&c, &n, in_channels, out_channels, (1, stride, 0), input, None, false);
            // Parameters stand in torchvision's order; execution needs the projection before the sum.
            let last = self.layers.len() - 1;
            self.layers.swap(last - 1, last);
            if let Layer::Convolution { residual, .. } = &mut self.layers[last] {
                *residual = Some(last);
            }
        }
    }
}
