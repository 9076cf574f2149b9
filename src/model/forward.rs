//! What a checkpoint's names and shapes do not tell of how its network computes: strides, pools, dilation.

use serde::{Deserialize, Serialize};

use super::architecture::{Architecture, Block, Stem};

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

impl Forward {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
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

impl Architecture {
    /// What a checkpoint's names and shapes told, and what was assumed because they do not tell it, for a record.
    pub fn assumptions(&self) -> Assumptions {
        let kernel = match self.stem {
            Stem::Small => 3,
            Stem::Large => 7,
        };
        Assumptions {
            block: self.block,
            blocks: self.blocks,
            stem_kernel: kernel,
            stem_stride: self.stem_stride(),
            stem_pool: self.stem_pool(),
            bottleneck_stride: (self.block == Block::Bottleneck).then_some(self.forward.bottleneck_stride),
            dilation: 1,
        }
    }

    /// The same in one line, for people.
    pub fn assumed(&self) -> String {
        let Assumptions { blocks, stem_kernel, stem_stride, stem_pool, bottleneck_stride, .. } = self.assumptions();
        let block = match bottleneck_stride {
            None => "basic blocks",
            Some(BottleneckStride::First) => "bottleneck blocks with the stride in the first, 1×1, convolution",
            Some(BottleneckStride::Second) => "bottleneck blocks with the stride in the second, 3×3, convolution",
        };
        let pool = if stem_pool { "a max pool" } else { "no pool" };
        format!(
            "{block} {}, a {stem_kernel}×{stem_kernel} stem of stride {stem_stride}, {pool}, no dilation",
            blocks.map(|count| count.to_string()).join("-")
        )
    }
}
