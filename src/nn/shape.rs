//! The shape of one image or activation.

use crate::kernels::pool::{AdaptiveShape, PoolShape};

/// Channels, height and width of one image or activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape3 {
    /// Channels.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl From<(usize, usize, usize)> for Shape3 {
    fn from((channels, height, width): (usize, usize, usize)) -> Self {
        Self { channels, height, width }
    }
}

impl Shape3 {
    /// Scalars per image.
    pub fn len(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A max pool of a batch of it.
    pub(super) fn max_pool(self, batch: usize, kernel: usize, stride: usize, padding: usize) -> PoolShape {
        let Self { channels, height: in_height, width: in_width } = self;
        PoolShape { batch, channels, in_height, in_width, kernel, stride, padding }
    }

    /// Average pooling of a batch of it to the grid of `to`.
    pub(super) fn adaptive(self, to: Self, batch: usize) -> AdaptiveShape {
        let Self { channels, height: in_height, width: in_width } = self;
        AdaptiveShape { batch, channels, in_height, in_width, out_height: to.height, out_width: to.width }
    }
}
