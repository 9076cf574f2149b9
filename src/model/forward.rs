//! What the names and shapes of a residual network do not tell of how it computes: strides, pools, dilation.

use std::fmt;

use serde::{Deserialize, Serialize};

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

/// Which convolution of a bottleneck block has the stride.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BottleneckStride {
    /// The first, 1×1: the original paper's and Caffe's.
    First,
    /// The second, 3×3: torchvision's.
    #[default]
    Second,
}

/// What names and shapes do not tell of how a network computes. The default is torchvision's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forward {
    /// Stride of the first convolution, if it is not the stem's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stem_stride: Option<usize>,
    /// Whether the 3×3 max pool of stride 2 follows it, if that is not the stem's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stem_pool: Option<bool>,
    /// Where a bottleneck has its stride.
    #[serde(default)]
    pub bottleneck_stride: BottleneckStride,
}

/// How a network computes, as read off a checkpoint or assumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assumptions {
    /// Kind of block.
    pub block: Block,
    /// Blocks in each stage.
    pub blocks: [usize; 4],
    /// Side of the first convolution's kernel.
    pub stem_kernel: usize,
    /// Its stride.
    pub stem_stride: usize,
    /// Whether a max pool follows it.
    pub stem_pool: bool,
    /// Where a bottleneck has its stride; absent for basic blocks.
    pub bottleneck_stride: Option<BottleneckStride>,
    /// Dilation of every convolution.
    pub dilation: usize,
}

impl fmt::Display for Assumptions {
    /// In one line, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Assumptions { blocks, stem_kernel, stem_stride, stem_pool, bottleneck_stride, .. } = self;
        let block = match bottleneck_stride {
            None => "basic blocks",
            Some(BottleneckStride::First) => "bottleneck blocks with the stride in the first, 1×1, convolution",
            Some(BottleneckStride::Second) => "bottleneck blocks with the stride in the second, 3×3, convolution",
        };
        let pool = if *stem_pool { "a max pool" } else { "no pool" };
        let blocks = blocks.map(|count| count.to_string()).join("-");
        write!(f, "{block} {blocks}, a {stem_kernel}×{stem_kernel} stem of stride {stem_stride}, {pool}, no dilation")
    }
}
