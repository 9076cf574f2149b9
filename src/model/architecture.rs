//! What a residual network is made of, and reading that off a checkpoint's names and shapes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

use super::forward::Forward;

/// Kind of residual block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Block {
    /// Two 3×3 convolutions (ResNet-18, 34).
    Basic,
    /// 1×1, 3×3, 1×1 with expansion 4 (ResNet-50); where its stride is, [`BottleneckStride`] says.
    Bottleneck,
}

impl Block {
    /// Output channels per unit of width.
    pub fn expansion(self) -> usize {
        match self {
            Block::Basic => 1,
            Block::Bottleneck => 4,
        }
    }
}

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

/// The stages at which a network can be cut (DESIGN 1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// First group of blocks.
    Layer1,
    /// Second group of blocks.
    Layer2,
    /// Third group of blocks, the default.
    Layer3,
    /// Last group of blocks.
    Layer4,
}

impl Stage {
    /// All stages in order.
    pub const ALL: [Stage; 4] = [Stage::Layer1, Stage::Layer2, Stage::Layer3, Stage::Layer4];

    /// torchvision's name of the stage.
    pub fn name(self) -> &'static str {
        ["layer1", "layer2", "layer3", "layer4"][self.index()]
    }

    /// 0 for `layer1`.
    pub fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Stage {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Stage::ALL
            .into_iter()
            .find(|stage| stage.name() == name)
            .ok_or_else(|| Error::input(format!("stage `{name}` does not exist: layer1, layer2, layer3 or layer4")))
    }
}

/// A residual network up to its weights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// Kind of block.
    pub block: Block,
    /// Blocks in each stage.
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
    #[serde(default, skip_serializing_if = "Forward::is_default")]
    pub forward: Forward,
}

/// Largest count of anything that is accepted from outside; real networks stay far below.
const LIMIT: usize = 1 << 16;

impl Architecture {
    /// ResNet of a known depth: 18, 34 or 50.
    ///
    /// # Errors
    /// For any other depth, or a zero extent.
    pub fn resnet(depth: usize, width: usize, stem: Stem, channels: usize, classes: usize) -> Result<Self> {
        let (block, blocks) = match depth {
            18 => (Block::Basic, [2, 2, 2, 2]),
            34 => (Block::Basic, [3, 4, 6, 3]),
            50 => (Block::Bottleneck, [3, 4, 6, 3]),
            _ => {
                return Err(Error::config("model.depth", format!("{depth} is not one of 18, 34, 50")));
            }
        };
        for (field, value) in [("model.width", width), ("channels", channels), ("classes", classes)] {
            if value == 0 || value > LIMIT {
                return Err(Error::config(field, format!("{value} is not between 1 and {LIMIT}")));
            }
        }
        Ok(Self { block, blocks, width, stem, channels, classes, forward: Forward::default() })
    }

    /// Reads the architecture off names and shapes in torchvision's convention.
    ///
    /// # Errors
    /// `origin` and the tensor that does not fit are named.
    pub fn infer<'a>(origin: &str, tensors: impl Fn(&str) -> Option<&'a [usize]>) -> Result<Self> {
        let at = |name: &str| format!("{origin}:{name}");
        let need = |name: &str, rank: usize| {
            let dims = tensors(name).ok_or_else(|| Error::tensor(at(name), "is missing"))?;
            if dims.len() != rank || dims.iter().any(|&extent| extent == 0 || extent > LIMIT) {
                return Err(Error::tensor(at(name), format!("has shape {dims:?}, expected {rank} dimensions")));
            }
            Ok(dims)
        };
        let conv1 = need("conv1.weight", 4)?;
        let stem = match conv1[2..] {
            [3, 3] => Stem::Small,
            [7, 7] => Stem::Large,
            _ => {
                let what = format!("has a {}×{} kernel; 3×3 and 7×7 stems are known", conv1[2], conv1[3]);
                return Err(Error::tensor(at("conv1.weight"), what));
            }
        };
        let block = if tensors("layer1.0.conv3.weight").is_some() { Block::Bottleneck } else { Block::Basic };
        let mut blocks = [0; 4];
        for (stage, count) in Stage::ALL.iter().zip(&mut blocks) {
            while *count < LIMIT && tensors(&format!("{stage}.{count}.conv1.weight")).is_some() {
                *count += 1;
            }
            if *count == 0 {
                return Err(Error::tensor(at(&format!("{stage}.0.conv1.weight")), "is missing"));
            }
        }
        let classes = need("fc.weight", 2)?[0];
        let forward = Forward::default();
        Ok(Self { block, blocks, width: conv1[0], stem, channels: conv1[1], classes, forward })
    }

    /// Stride of the first convolution.
    pub fn stem_stride(&self) -> usize {
        self.forward.stem_stride.unwrap_or(match self.stem {
            Stem::Small => 1,
            Stem::Large => 2,
        })
    }

    /// Whether a max pool follows it.
    pub fn stem_pool(&self) -> bool {
        self.forward.stem_pool.unwrap_or(self.stem == Stem::Large)
    }

    /// `ResNet-18` and the like; the block counts where they are of no known depth.
    pub fn name(&self) -> String {
        match (self.block, self.blocks) {
            (Block::Basic, [2, 2, 2, 2]) => "ResNet-18".into(),
            (Block::Basic, [3, 4, 6, 3]) => "ResNet-34".into(),
            (Block::Bottleneck, [3, 4, 6, 3]) => "ResNet-50".into(),
            (block, blocks) => format!("ResNet {block:?} {blocks:?}"),
        }
    }
}
