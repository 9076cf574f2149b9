//! How alike two maps are: Spearman, Pearson, SSIM, overlap of the top pixels, Jensen–Shannon.
//!
//! Maps are row-major slices of `f32` or `f64`, `height × width`, at stage resolution (7 × 7 is
//! usual). A map without a pattern (constant, or without positive evidence where evidence is what
//! is compared) is [`Degenerate`], never a number: whoever averages must count such pairs apart.
//! All measures are symmetric and unchanged by a positive rescaling of either map.

use super::correlation::{pearson_coefficient, rank_correlation};
use super::descriptive::{is_constant, ranks_and_ties};
use super::{Result, StatsError, check};
use serde::{Deserialize, Serialize};

/// Which of two maps has no pattern to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Degenerate {
    /// The first.
    First,
    /// The second.
    Second,
    /// Both.
    Both,
}

/// A similarity, or why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Similarity {
    /// The value of the measure.
    Value(f64),
    /// At least one map has no pattern.
    Degenerate(Degenerate),
}

impl Similarity {
    /// The value, if there is one.
    pub fn value(self) -> Option<f64> {
        match self {
            Similarity::Value(value) => Some(value),
            Similarity::Degenerate(_) => None,
        }
    }

    fn map(self, f: impl FnOnce(f64) -> f64) -> Self {
        match self {
            Similarity::Value(value) => Similarity::Value(f(value)),
            degenerate => degenerate,
        }
    }
}

/// A measure of how alike two maps are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// [`spearman`], the default.
    #[default]
    Spearman,
    /// [`pearson`].
    Pearson,
    /// [`ssim`].
    Ssim,
    /// [`top_overlap`] of the highest 10 % of the pixels.
    Iou10,
    /// [`top_overlap`] of the highest 20 % of the pixels.
    Iou20,
    /// [`jensen_shannon`]: a distance, not a similarity.
    JensenShannon,
}

impl Measure {
    /// Every measure, in the order of reports.
    pub const ALL: [Measure; 6] = [
        Measure::Spearman, // decides where a plan names no other
        Measure::Pearson,
        Measure::Ssim,
        Measure::Iou10,
        Measure::Iou20,
        Measure::JensenShannon,
    ];

    /// Its name in records, JSON, CSV and on the command line.
    pub fn key(self) -> &'static str {
        self.descriptor()[0]
    }

    /// Its name for people.
    pub fn title(self) -> &'static str {
        self.descriptor()[1]
    }

    /// Its definition as a drift, in a line.
    pub fn definition(self) -> &'static str {
        self.descriptor()[2]
    }

    /// Key, title and definition: what every table and figure reads.
    fn descriptor(self) -> [&'static str; 3] {
        match self {
            Measure::Spearman => ["spearman", "Map ranks", "1 − Spearman's ρ of the raw maps"],
            Measure::Pearson => ["pearson", "Map correlation", "1 − Pearson's correlation of the raw maps"],
            Measure::Ssim => {
                ["ssim", "Map structure", "1 − structural similarity (SSIM) of the maps, each over its largest value"]
            }
            Measure::Iou10 => {
                ["iou10", "Map top tenth", "1 − overlap (IoU) of the 10 % of positions with the highest values"]
            }
            Measure::Iou20 => {
                ["iou20", "Map top fifth", "1 − overlap (IoU) of the 20 % of positions with the highest values"]
            }
            Measure::JensenShannon => {
                ["jensen_shannon", "Map divergence", "Jensen–Shannon divergence (base 2) of the maps as distributions"]
            }
        }
    }

    /// The measure of two maps of `height × width`, as its function defines it.
    ///
    /// # Errors
    /// Lengths other than `height · width`, an empty map, or a value that is not finite.
    pub fn compare<T: Copy + Into<f64>>(
        self,
        first: &[T],
        second: &[T],
        height: usize,
        width: usize,
    ) -> Result<Similarity> {
        match self {
            Measure::Spearman => shaped(first, height, width).and_then(|()| spearman(first, second)),
            Measure::Pearson => shaped(first, height, width).and_then(|()| pearson(first, second)),
            Measure::Ssim => ssim(first, second, height, width),
            Measure::Iou10 => shaped(first, height, width).and_then(|()| top_overlap(first, second, 0.1)),
            Measure::Iou20 => shaped(first, height, width).and_then(|()| top_overlap(first, second, 0.2)),
            Measure::JensenShannon => shaped(first, height, width).and_then(|()| jensen_shannon(first, second)),
        }
    }

    /// Drift: 0 for equal maps, larger the further apart. `1 - similarity`, or the distance itself for Jensen–Shannon.
    ///
    /// # Errors
    /// As [`Measure::compare`].
    pub fn drift<T: Copy + Into<f64>>(
        self,
        first: &[T],
        second: &[T],
        height: usize,
        width: usize,
    ) -> Result<Similarity> {
        let similarity = self.compare(first, second, height, width)?;
        Ok(if self == Measure::JensenShannon { similarity } else { similarity.map(|s| 1.0 - s) })
    }
}

/// Spearman's rank correlation of the pixels, average ranks: in `[-1, 1]`. Constant maps are degenerate.
///
/// # Errors
/// Different lengths, an empty map, or a value that is not finite.
pub fn spearman<T: Copy + Into<f64>>(first: &[T], second: &[T]) -> Result<Similarity> {
    let (first, second) = pair(first, second)?;
    Ok(match degenerate(&first, &second, is_constant) {
        Some(which) => Similarity::Degenerate(which),
        None => Similarity::Value(rank_correlation(&ranks_and_ties(&first).0, &ranks_and_ties(&second).0)),
    })
}

/// Pearson's correlation of the pixels: in `[-1, 1]`. Constant maps are degenerate.
///
/// # Errors
/// As [`spearman`].
pub fn pearson<T: Copy + Into<f64>>(first: &[T], second: &[T]) -> Result<Similarity> {
    let (first, second) = pair(first, second)?;
    match degenerate(&first, &second, is_constant) {
        Some(which) => Ok(Similarity::Degenerate(which)),
        None => pearson_coefficient(&first, &second).map(Similarity::Value),
    }
}

/// Mean structural similarity (Wang, Bovik, Sheikh & Simoncelli 2004, IEEE TIP 13:600, equations 13
/// and 17), in `[-1, 1]`.
///
/// Each map is divided by its largest magnitude first: the scale of a Grad-CAM map is the scale of
/// the gradients, which is no part of where the network looks. So the dynamic range is `L = 1` and
/// `C₁ = 0.01²`, `C₂ = 0.03²`. The Gaussian window has the paper's radius of 5 and σ = 1.5 for maps
/// from 11 pixels up; below, the radius is `(shorter side - 1) / 2` and σ = max(0.3 · radius, 0.8).
/// Windows are cut at the border and their weights renormalised, so that every pixel of a small map
/// has its window. Constant maps are degenerate.
///
/// # Errors
/// Lengths other than `height · width`, an empty map, or a value that is not finite.
pub fn ssim<T: Copy + Into<f64>>(first: &[T], second: &[T], height: usize, width: usize) -> Result<Similarity> {
    const C1: f64 = 0.01 * 0.01;
    const C2: f64 = 0.03 * 0.03;
    shaped(first, height, width)?;
    let (first, second) = pair(first, second)?;
    if let Some(which) = degenerate(&first, &second, is_constant) {
        return Ok(Similarity::Degenerate(which));
    }
    let (first, second) = (scaled_to_one(&first), scaled_to_one(&second));
    let radius = ((height.min(width) - 1) / 2).clamp(1, 5);
    let sigma = (0.3 * radius as f64).max(0.8);
    let weight = |distance: usize| (-((distance * distance) as f64) / (2.0 * sigma * sigma)).exp();
    let window: Vec<f64> = (0..=radius).map(weight).collect();
    let reach = |centre: usize, side: usize| centre.saturating_sub(radius)..(centre + radius + 1).min(side);
    let mut total = 0.0;
    for y in 0..height {
        for x in 0..width {
            let (mut mass, mut a, mut b, mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
            for v in reach(y, height) {
                for u in reach(x, width) {
                    let w = window[v.abs_diff(y)] * window[u.abs_diff(x)];
                    let (p, q) = (first[v * width + u], second[v * width + u]);
                    mass += w;
                    a += w * p;
                    b += w * q;
                    aa += w * p * p;
                    bb += w * q * q;
                    ab += w * p * q;
                }
            }
            let (a, b) = (a / mass, b / mass);
            let (variance_a, variance_b, covariance) = (aa / mass - a * a, bb / mass - b * b, ab / mass - a * b);
            total += (2.0 * a * b + C1) * (2.0 * covariance + C2)
                / ((a * a + b * b + C1) * (variance_a.max(0.0) + variance_b.max(0.0) + C2));
        }
    }
    Ok(Similarity::Value((total / (height * width) as f64).clamp(-1.0, 1.0)))
}

/// Overlap (intersection over union) of the highest `fraction` of the pixels of each map, in `[0, 1]`.
///
/// Exactly `k = fraction · pixels` pixels belong, as a real number: pixels above the k-th value
/// belong whole, and pixels that tie with it share what is left equally. Only pixels with positive
/// evidence can belong, so a mostly-zero map has a smaller region instead of one filled up with
/// arbitrary zeros. The overlap is `Σ min / Σ max` of the memberships (Ružička 1958; the Jaccard
/// index for whole ones). A map that is constant or has no positive pixel is degenerate.
///
/// # Errors
/// As [`spearman`], or `fraction` outside (0, 1).
pub fn top_overlap<T: Copy + Into<f64>>(first: &[T], second: &[T], fraction: f64) -> Result<Similarity> {
    super::check_open_unit("fraction", fraction)?;
    let (first, second) = pair(first, second)?;
    if let Some(which) = degenerate(&first, &second, no_evidence) {
        return Ok(Similarity::Degenerate(which));
    }
    let (a, b) = (membership(&first, fraction), membership(&second, fraction));
    let (common, union) = a.iter().zip(&b).fold((0.0, 0.0), |(low, high), (p, q)| (low + p.min(*q), high + p.max(*q)));
    Ok(Similarity::Value(common / union))
}

/// Jensen–Shannon divergence, base 2, of the positive parts of the maps scaled to sum 1 (Lin 1991):
/// 0 for proportional maps, 1 for disjoint ones. A map that is constant or has no positive pixel is
/// degenerate.
///
/// # Errors
/// As [`spearman`].
pub fn jensen_shannon<T: Copy + Into<f64>>(first: &[T], second: &[T]) -> Result<Similarity> {
    let (first, second) = pair(first, second)?;
    if let Some(which) = degenerate(&first, &second, no_evidence) {
        return Ok(Similarity::Degenerate(which));
    }
    let (p, q) = (distribution(&first), distribution(&second));
    let term = |a: f64, middle: f64| {
        if a > 0.0 { 0.5 * a * (a / middle).log2() } else { 0.0 }
    };
    let sum: f64 = p
        .iter()
        .zip(&q)
        .map(|(&a, &b)| {
            let middle = 0.5 * (a + b);
            term(a, middle) + term(b, middle)
        })
        .sum();
    Ok(Similarity::Value(sum.clamp(0.0, 1.0)))
}

/// Shares of the top region, as [`top_overlap`] defines it.
fn membership(map: &[f64], fraction: f64) -> Vec<f64> {
    let size = fraction * map.len() as f64;
    let mut positive: Vec<f64> = map.iter().copied().filter(|v| *v > 0.0).collect();
    if positive.len() as f64 <= size {
        return map.iter().map(|v| f64::from(u8::from(*v > 0.0))).collect();
    }
    positive.sort_unstable_by(|a, b| b.total_cmp(a));
    // The last pixel to belong at all; `size` may be below one.
    let threshold = positive[(size.ceil() as usize).max(1) - 1];
    let above = positive.iter().filter(|v| **v > threshold).count() as f64;
    let tied = positive.iter().filter(|v| **v == threshold).count() as f64;
    let shared = (size - above) / tied;
    map.iter()
        .map(|&v| {
            if v > threshold {
                1.0
            } else if v == threshold {
                shared
            } else {
                0.0
            }
        })
        .collect()
}

fn distribution(map: &[f64]) -> Vec<f64> {
    // Scaled first, so that the sum of large values cannot overflow.
    let scaled: Vec<f64> = scaled_to_one(map).iter().map(|v| v.max(0.0)).collect();
    let sum: f64 = scaled.iter().sum();
    scaled.iter().map(|v| v / sum).collect()
}

fn scaled_to_one(map: &[f64]) -> Vec<f64> {
    let largest = map.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    map.iter().map(|v| v / largest).collect()
}

fn no_evidence(map: &[f64]) -> bool {
    is_constant(map) || map.iter().all(|v| *v <= 0.0)
}

fn degenerate(first: &[f64], second: &[f64], test: impl Fn(&[f64]) -> bool) -> Option<Degenerate> {
    match (test(first), test(second)) {
        (true, true) => Some(Degenerate::Both),
        (true, false) => Some(Degenerate::First),
        (false, true) => Some(Degenerate::Second),
        (false, false) => None,
    }
}

/// Both maps as checked `f64`.
fn pair<T: Copy + Into<f64>>(first: &[T], second: &[T]) -> Result<(Vec<f64>, Vec<f64>)> {
    if first.len() != second.len() {
        return Err(StatsError::LengthMismatch { what: "maps", left: first.len(), right: second.len() });
    }
    let convert = |map: &[T]| map.iter().map(|&v| v.into()).collect::<Vec<f64>>();
    let (first, second) = (convert(first), convert(second));
    check("first map", &first, 1)?;
    check("second map", &second, 1)?;
    Ok((first, second))
}

fn shaped<T>(map: &[T], height: usize, width: usize) -> Result<()> {
    if map.len() != height * width {
        return Err(StatsError::LengthMismatch {
            what: "map and height × width",
            left: map.len(),
            right: height * width,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
