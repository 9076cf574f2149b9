//! Where the object is, and its parts, in input pixels.

use serde::{Deserialize, Serialize};

use crate::data::Placement;

/// A part of an object, such as a bird's beak, in input pixels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShownPart {
    /// Name.
    pub name: String,
    /// Distance from the left edge.
    pub x: f64,
    /// Distance from the upper edge.
    pub y: f64,
}

/// A rectangle in pixels, `left ≤ x < right` and `top ≤ y < bottom`; pixel `i` covers `i..i + 1`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct BoundingBox {
    /// Left edge.
    pub left: f64,
    /// Top edge.
    pub top: f64,
    /// Right edge.
    pub right: f64,
    /// Bottom edge.
    pub bottom: f64,
}

impl BoundingBox {
    /// Whether the centre of pixel (column, row) lies inside: the pointing game's hit.
    pub fn contains_pixel(&self, column: usize, row: usize) -> bool {
        let (x, y) = (column as f64 + 0.5, row as f64 + 0.5);
        self.left <= x && x < self.right && self.top <= y && y < self.bottom
    }

    /// Its area, in pixels.
    pub fn area(&self) -> f64 {
        (self.right - self.left).max(0.0) * (self.bottom - self.top).max(0.0)
    }

    /// A box of the picture in input coordinates, cut at the input's edges; its area is 0 if the crop lost it.
    pub fn placed(&self, place: &Placement) -> Self {
        let (left, top) = place.point(self.left, self.top);
        let (right, bottom) = place.point(self.right, self.bottom);
        let (width, height) = (place.size.0 as f64, place.size.1 as f64);
        Self {
            left: left.clamp(0.0, width),
            top: top.clamp(0.0, height),
            right: right.clamp(0.0, width),
            bottom: bottom.clamp(0.0, height),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Normalisation, Preprocess};

    #[test]
    fn a_box_follows_resize_and_crop() {
        // 300×200 to 150×100, cut to the centre 100×100: 25 columns lost on each side.
        let place = Preprocess::new(Some(100), Normalisation::imagenet()).placement(300, 200);
        let whole = BoundingBox { left: 100.0, top: 20.0, right: 220.0, bottom: 180.0 };
        let placed = whole.placed(&place);
        assert_eq!(placed, BoundingBox { left: 25.0, top: 10.0, right: 85.0, bottom: 90.0 });
        assert!(placed.contains_pixel(25, 10) && !placed.contains_pixel(24, 10) && !placed.contains_pixel(85, 50));
        assert_eq!(placed.area(), 60.0 * 80.0);
        let lost = BoundingBox { left: 0.0, top: 0.0, right: 40.0, bottom: 200.0 };
        assert_eq!(lost.placed(&place).area(), 0.0);
    }
}
