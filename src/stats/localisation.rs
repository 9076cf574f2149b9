//! Whether a map looks at the object: energy inside its box, and the pointing game.

use super::similarity::Degenerate;
use super::{Result, StatsError, check};
use serde::{Deserialize, Serialize};

/// A box of pixels: `left <= x < right`, `top <= y < bottom`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PixelBox {
    /// First column.
    pub left: usize,
    /// First row.
    pub top: usize,
    /// Column after the last.
    pub right: usize,
    /// Row after the last.
    pub bottom: usize,
}

impl PixelBox {
    fn contains(&self, x: usize, y: usize, tolerance: usize) -> bool {
        x + tolerance >= self.left
            && x < self.right + tolerance
            && y + tolerance >= self.top
            && y < self.bottom + tolerance
    }
}

/// A share in `[0, 1]`, or that the map has no positive pixel.
pub type Localisation = std::result::Result<f64, Degenerate>;

/// Share of the map's positive evidence inside the box (Wang et al. 2020, Score-CAM), for a map at the box's
/// resolution. `Err(Degenerate)` inside if no pixel is positive.
///
/// # Errors
/// A length other than `height · width`, a value that is not finite, or a box that is empty or not inside the map.
pub fn energy_in_box<T: Copy + Into<f64>>(
    map: &[T],
    height: usize,
    width: usize,
    target: PixelBox,
) -> Result<Localisation> {
    let map = checked(map, height, width, target)?;
    let (mut inside, mut total) = (0.0, 0.0);
    for (index, value) in map.iter().map(|v| v.max(0.0)).enumerate() {
        total += value;
        if target.contains(index % width, index / width, 0) {
            inside += value;
        }
    }
    Ok(if total > 0.0 { Ok((inside / total).min(1.0)) } else { Err(Degenerate::First) })
}

/// The pointing game (Zhang et al. 2016): 1 if the map's maximum lies within `tolerance` pixels of
/// the box, else 0; if several pixels tie for the maximum, the share of them that does.
/// `Err(Degenerate)` inside if no pixel is positive or all are equal.
///
/// # Errors
/// As [`energy_in_box`].
pub fn pointing_game<T: Copy + Into<f64>>(
    map: &[T],
    height: usize,
    width: usize,
    target: PixelBox,
    tolerance: usize,
) -> Result<Localisation> {
    let map = checked(map, height, width, target)?;
    let peaks = peaks(&map);
    let hits = peaks.iter().filter(|&&i| target.contains(i % width, i / width, tolerance)).count();
    Ok(if peaks.is_empty() { Err(Degenerate::First) } else { Ok(hits as f64 / peaks.len() as f64) })
}

/// Pixels that share the maximum; none if no pixel is positive or all are equal.
fn peaks(map: &[f64]) -> Vec<usize> {
    let maximum = map.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let peaks: Vec<usize> = (0..map.len()).filter(|&i| map[i] == maximum).collect();
    if maximum <= 0.0 || peaks.len() == map.len() { Vec::new() } else { peaks }
}

/// Where a map's maximum lies among named points of the object, such as the parts of a bird.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PointHit {
    /// The share of the pixels tied for the maximum (nearly always one) whose centre lies within reach of a point.
    pub share: f64,
    /// The point nearest to the first of these pixels.
    pub nearest: usize,
}

fn distance(index: usize, width: usize, point: (f64, f64)) -> f64 {
    let (x, y) = ((index % width) as f64 + 0.5, (index / width) as f64 + 0.5);
    (x - point.0).abs().max((y - point.1).abs())
}

/// Whether the map's maximum lies within `reach` pixels, along either axis, of one of `points` (x,
/// y): the pointing game with points for boxes. `None` if the map has no maximum, as for
/// [`pointing_game`].
///
/// # Errors
/// A length other than `height · width`, a value that is not finite, or no point.
pub fn point_hit<T: Copy + Into<f64>>(
    map: &[T],
    height: usize,
    width: usize,
    points: &[(f64, f64)],
    reach: f64,
) -> Result<Option<PointHit>> {
    let map = checked(map, height, width, PixelBox { left: 0, top: 0, right: width, bottom: height })?;
    let nearest = |index: usize| {
        let distances = points.iter().map(|&point| distance(index, width, point));
        distances.enumerate().min_by(|(_, a), (_, b)| a.total_cmp(b))
    };
    let peaks = peaks(&map);
    let Some(&first) = peaks.first() else { return Ok(None) };
    let (place, _) = nearest(first).ok_or(StatsError::TooFew { what: "points", needed: 1, got: 0 })?;
    let hits = peaks.iter().filter(|&&index| nearest(index).is_some_and(|(_, distance)| distance <= reach)).count();
    Ok(Some(PointHit { share: hits as f64 / peaks.len() as f64, nearest: place }))
}

/// The share of the pixels that lie within `reach` of one of `points`: what [`point_hit`] gives a
/// maximum placed blindly.
pub fn point_chance(height: usize, width: usize, points: &[(f64, f64)], reach: f64) -> f64 {
    let near = |&index: &usize| points.iter().any(|&point| distance(index, width, point) <= reach);
    (0..height * width).filter(near).count() as f64 / (height * width) as f64
}

fn checked<T: Copy + Into<f64>>(map: &[T], height: usize, width: usize, target: PixelBox) -> Result<Vec<f64>> {
    if map.len() != height * width {
        return Err(StatsError::LengthMismatch {
            what: "map and height × width",
            left: map.len(),
            right: height * width,
        });
    }
    let map: Vec<f64> = map.iter().map(|&v| v.into()).collect();
    check("map", &map, 1)?;
    if target.left >= target.right || target.top >= target.bottom || target.right > width || target.bottom > height {
        return Err(StatsError::Undefined { what: "box: empty or not inside the map" });
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: PixelBox = PixelBox { left: 1, top: 0, right: 3, bottom: 1 };

    #[test]
    fn points_are_hit_within_reach() {
        // The maximum is the pixel (column 2, row 0), centre (2.5, 0.5).
        let map = [0.0, 0.0, 3.0, 1.0, 0.0, 1.0];
        let points = [(0.5, 1.5), (2.5, 1.5)];
        assert_eq!(point_hit(&map, 2, 3, &points, 1.0).unwrap(), Some(PointHit { share: 1.0, nearest: 1 }));
        assert_eq!(point_hit(&map, 2, 3, &points, 0.9).unwrap(), Some(PointHit { share: 0.0, nearest: 1 }));
        let tied = [2.0, 0.0, 2.0, 0.0, 0.0, 0.0];
        assert_eq!(point_hit(&tied, 2, 3, &points[1..], 1.0).unwrap().map(|hit| hit.share), Some(0.5));
        assert_eq!(point_hit(&[0.0f32; 6], 2, 3, &points, 1.0).unwrap(), None);
        assert!(point_hit(&map, 2, 3, &[], 1.0).is_err());
        // Within 1 of (2.5, 1.5): the last two columns of both rows.
        assert_eq!(point_chance(2, 3, &points[1..], 1.0), 4.0 / 6.0);
    }

    #[test]
    fn known_values() {
        let map = [1.0, 2.0, 0.0, -5.0, 0.0, 1.0];
        assert_eq!(energy_in_box(&map, 2, 3, TARGET).unwrap(), Ok(0.5));
        assert_eq!(pointing_game(&map, 2, 3, TARGET, 0).unwrap(), Ok(1.0));
        let tied = [2.0, 2.0, 0.0, 0.0, 0.0, 0.0];
        assert_eq!(pointing_game(&tied, 2, 3, TARGET, 0).unwrap(), Ok(0.5));
        assert_eq!(pointing_game(&tied, 2, 3, TARGET, 1).unwrap(), Ok(1.0));
        assert_eq!(energy_in_box(&[0.0f32; 6], 2, 3, TARGET).unwrap(), Err(Degenerate::First));
        assert_eq!(pointing_game(&[1.0f32; 6], 2, 3, TARGET, 0).unwrap(), Err(Degenerate::First));
        assert!(energy_in_box(&map, 2, 3, PixelBox { right: 4, ..TARGET }).is_err());
        assert!(energy_in_box(&map, 3, 3, TARGET).is_err());
    }
}
