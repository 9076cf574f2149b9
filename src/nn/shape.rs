//! The shape of one image or activation.

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
}
