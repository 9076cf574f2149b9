//! ResNet-18/34/50 (He et al. 2016; torchvision's variant and names), of any width.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::nn::Initialisation;

use super::super::Model;
use super::super::builder::{Builder, Label, Spec};
use super::super::forward::{Assumptions, Block, BottleneckStride, Forward};
use super::{Family, Tensors, Wish, any};

/// Its line in the table.
pub(super) const FAMILY: Family = Family {
    names: &["resnet18", "resnet34", "resnet50"],
    build,
    claims: |names| {
        names.contains("layer1.0.conv1.weight") || (names.contains("conv1.weight") && any(names, "layer1.0."))
    },
    infer,
};

/// The first layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stem {
    /// 3×3 convolution, stride 1, no pooling: for small images.
    #[serde(rename = "3x3")]
    Small,
    /// 7×7 convolution, stride 2, then 3×3 max pooling, stride 2: torchvision's.
    #[serde(rename = "7x7")]
    Large,
}

/// What a residual network is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResNet {
    /// Kind of block.
    pub block: Block,
    /// Blocks in each of the four stages.
    pub blocks: [usize; 4],
    /// Channels of the stem; stage i has `width · 2^i · expansion`.
    pub width: usize,
    /// First layers.
    pub stem: Stem,
    /// Channels of the images.
    pub channels: usize,
    /// Number of classes K.
    pub classes: usize,
    /// What names and shapes do not tell.
    pub forward: Forward,
}

/// The ResNet of a known depth: 18, 34 or 50.
///
/// # Errors
/// For any other depth.
pub fn resnet(depth: usize, width: usize, stem: Stem, channels: usize, classes: usize) -> Result<Model> {
    let (block, blocks) = match depth {
        18 => (Block::Basic, [2, 2, 2, 2]),
        34 => (Block::Basic, [3, 4, 6, 3]),
        50 => (Block::Bottleneck, [3, 4, 6, 3]),
        _ => return Err(Error::input(format!("ResNet-{depth} is not one of 18, 34, 50"))),
    };
    Ok(ResNet { block, blocks, width, stem, channels, classes, forward: Forward::default() }.model())
}

fn build(name: &str, wish: &Wish) -> Result<Model> {
    let depth = name.trim_start_matches("resnet").parse().unwrap_or(0);
    let (width, stem) = (wish.width(64)?, wish.stem.unwrap_or(Stem::Large));
    resnet(depth, width, stem, wish.images.channels, wish.classes)
}

fn infer(tensors: &Tensors<'_>) -> Result<Model> {
    let (width, channels, kernel) = tensors.convolution("conv1.weight")?;
    let stem = match kernel {
        3 => Stem::Small,
        7 => Stem::Large,
        _ => {
            let what = format!("has a {kernel}×{kernel} kernel; 3×3 and 7×7 stems are known");
            return Err(tensors.fault("conv1.weight", what));
        }
    };
    let block = if tensors.has("layer1.0.conv3.weight") { Block::Bottleneck } else { Block::Basic };
    if block == Block::Basic && tensors.forward.bottleneck_stride == BottleneckStride::First {
        let what = format!("{}: has basic blocks, which no bottleneck stride is for: leave that out", tensors.origin);
        return Err(Error::input(what));
    }
    let mut blocks = [0; 4];
    for (stage, count) in blocks.iter_mut().enumerate() {
        let name = |count: usize| format!("layer{}.{count}.conv1.weight", stage + 1);
        while tensors.has(&name(*count)) {
            *count += 1;
        }
        if *count == 0 {
            return Err(tensors.fault(&name(0), "is missing"));
        }
    }
    let (classes, _) = tensors.linear("fc.weight")?;
    Ok(ResNet { block, blocks, width, stem, channels, classes, forward: tensors.forward }.model())
}

impl ResNet {
    /// `ResNet-18` and the like; the block counts where they are of no known depth.
    pub fn name(&self) -> String {
        match (self.block, self.blocks) {
            (Block::Basic, [2, 2, 2, 2]) => "ResNet-18".into(),
            (Block::Basic, [3, 4, 6, 3]) => "ResNet-34".into(),
            (Block::Bottleneck, [3, 4, 6, 3]) => "ResNet-50".into(),
            (block, blocks) => format!("ResNet {block:?} {blocks:?}"),
        }
    }

    /// Lays the network out.
    pub fn model(&self) -> Model {
        let mut builder = Builder::default();
        let width = self.width;
        let Assumptions { stem_kernel: kernel, stem_stride, stem_pool, .. } = self.assumptions();
        let window = (kernel, stem_stride, kernel / 2);
        builder.part("stem");
        builder.convolution(&Spec {
            name: "conv1",
            norm: Some("bn1"),
            bias: false,
            channels: (self.channels, width),
            window,
        });
        builder.stage("relu");
        if stem_pool {
            builder.max_pool(3, 2, 1);
            builder.stage("maxpool");
        }
        let mut channels = width;
        for stage in 0..4 {
            let planes = width << stage;
            for block in 0..self.blocks[stage] {
                let stride = if block == 0 && stage > 0 { 2 } else { 1 };
                let name = format!("layer{}.{block}", stage + 1);
                builder.part(&name);
                self.add_block(&mut builder, &name, channels, planes, stride);
                builder.stage(&name);
                channels = planes * self.block.expansion();
            }
            builder.stage(&format!("layer{}", stage + 1));
        }
        builder.part("fc");
        builder.global_average_pool();
        builder.stage("avgpool");
        builder.linear("fc", channels, self.classes, false);
        let model = builder.finish(Label {
            name: self.name(),
            channels: self.channels,
            classes: self.classes,
            head: "fc",
            default_stage: "layer3".into(),
            initialisation: Initialisation::Torchvision,
        });
        Model { assumptions: Some(self.assumptions()), ..model }
    }

    /// What names and shapes tell of how it computes, and what is assumed because they do not.
    pub fn assumptions(&self) -> Assumptions {
        let small = self.stem == Stem::Small;
        Assumptions {
            block: self.block,
            blocks: self.blocks,
            stem_kernel: if small { 3 } else { 7 },
            stem_stride: self.forward.stem_stride.unwrap_or(if small { 1 } else { 2 }),
            stem_pool: self.forward.stem_pool.unwrap_or(!small),
            bottleneck_stride: (self.block == Block::Bottleneck).then_some(self.forward.bottleneck_stride),
            dilation: 1,
        }
    }

    fn add_block(&self, builder: &mut Builder, name: &str, in_channels: usize, planes: usize, stride: usize) {
        let block = self.block;
        let input = builder.slot();
        let out_channels = planes * block.expansion();
        let lay = |builder: &mut Builder, part: usize, channels, window| {
            let (name, norm) = (format!("{name}.conv{part}"), format!("{name}.bn{part}"));
            builder.lay(&Spec { name: &name, norm: Some(&norm), bias: false, channels, window })
        };
        let (before_last, last) = match block {
            Block::Basic => {
                let first = lay(builder, 1, (in_channels, planes), (3, stride, 1));
                let slot = builder.convolve(first, input, None, true);
                (slot, lay(builder, 2, (planes, planes), (3, 1, 1)))
            }
            Block::Bottleneck => {
                let (one, two) = match self.forward.bottleneck_stride {
                    BottleneckStride::First => (stride, 1),
                    BottleneckStride::Second => (1, stride),
                };
                let first = lay(builder, 1, (in_channels, planes), (1, one, 0));
                let slot = builder.convolve(first, input, None, true);
                let second = lay(builder, 2, (planes, planes), (3, two, 1));
                let slot = builder.convolve(second, slot, None, true);
                (slot, lay(builder, 3, (planes, out_channels), (1, 1, 0)))
            }
        };
        // Parameters stand in torchvision's order; execution needs the projection before the sum.
        let mut residual = input;
        if stride != 1 || in_channels != out_channels {
            let (c, n) = (format!("{name}.downsample.0"), format!("{name}.downsample.1"));
            let (channels, window) = ((in_channels, out_channels), (1, stride, 0));
            let laid = builder.lay(&Spec { name: &c, norm: Some(&n), bias: false, channels, window });
            residual = builder.convolve(laid, input, None, false);
        }
        builder.convolve(last, before_last, Some(residual), true);
    }
}
