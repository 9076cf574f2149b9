//! Correlation coefficients and their tests: Pearson, Spearman.

use super::descriptive::{ranks_and_ties, require_variation};
use super::special::{beta_regularised, student_t_two_sided};
use super::{Result, StatsError, TestResult, check};

/// Pearson's correlation and its test: under the null `r` follows a beta distribution on (-1, 1) (Fisher 1915); equals
/// `scipy.stats.pearsonr`. Two pairs give ±1 with p = 1.
///
/// # Errors
/// Fewer than two pairs, different lengths, a value that is not finite, constant input.
pub fn pearson(x: &[f64], y: &[f64]) -> Result<TestResult> {
    check_pairs(x, y, 2)?;
    let r = pearson_coefficient(x, y)?;
    if x.len() == 2 {
        return Ok(TestResult { statistic: r.round(), p_value: 1.0 });
    }
    let complement = (1.0 - r.abs()) * (1.0 + r.abs());
    let p_value = beta_regularised(x.len() as f64 / 2.0 - 1.0, 0.5, complement, r * r);
    Ok(TestResult { statistic: r, p_value })
}

/// Pearson's correlation alone.
///
/// # Errors
/// As [`pearson`].
pub fn pearson_coefficient(x: &[f64], y: &[f64]) -> Result<f64> {
    check_pairs(x, y, 2)?;
    require_variation("x", x)?;
    require_variation("y", y)?;
    let centred = |v: &[f64]| -> Vec<f64> {
        let mean = super::descriptive::mean_unchecked(v);
        let d: Vec<f64> = v.iter().map(|a| a - mean).collect();
        // Scaled by the largest deviation first, so that squares neither overflow nor vanish.
        let scale = d.iter().fold(0.0f64, |m, a| m.max(a.abs()));
        d.iter().map(|a| a / scale).collect()
    };
    let (x, y) = (centred(x), centred(y));
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(p, q)| p * q).sum::<f64>();
    let r = dot(&x, &y) / dot(&x, &x).sqrt() / dot(&y, &y).sqrt();
    // Values so close that their mean rounds onto all of them: no deviation is left to correlate.
    if r.is_nan() { Err(StatsError::ZeroVariance { what: "x or y" }) } else { Ok(r.clamp(-1.0, 1.0)) }
}

/// Spearman's rank correlation (average ranks) with the t approximation of its p-value; equals `scipy.stats.spearmanr`.
///
/// # Errors
/// Fewer than three pairs (the p-value has no degrees of freedom), different lengths, a value that
/// is not finite, constant input.
pub fn spearman(x: &[f64], y: &[f64]) -> Result<TestResult> {
    check_pairs(x, y, 3)?;
    let r = spearman_coefficient(x, y)?;
    let freedom = (x.len() - 2) as f64;
    let complement = (1.0 + r) * (1.0 - r);
    let p_value = if complement <= 0.0 { 0.0 } else { student_t_two_sided(r * (freedom / complement).sqrt(), freedom) };
    Ok(TestResult { statistic: r, p_value })
}

/// Spearman's rank correlation alone.
///
/// # Errors
/// As [`spearman`], but two pairs are enough.
pub fn spearman_coefficient(x: &[f64], y: &[f64]) -> Result<f64> {
    check_pairs(x, y, 2)?;
    require_variation("x", x)?;
    require_variation("y", y)?;
    Ok(rank_correlation(&ranks_and_ties(x).0, &ranks_and_ties(y).0))
}

/// Pearson's correlation of two sets of average ranks of one length, neither constant. Doubled
/// ranks around their doubled mean are whole numbers, so the sums are exact, and perfect agreement
/// gives exactly 1.
pub(crate) fn rank_correlation(x: &[f64], y: &[f64]) -> f64 {
    let middle = x.len() as f64 + 1.0;
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (a, b) in x.iter().zip(y) {
        let (a, b) = (2.0 * a - middle, 2.0 * b - middle);
        xx += a * a;
        yy += b * b;
        xy += a * b;
    }
    let r: f64 = if xx == yy { xy / xx } else { xy / xx.sqrt() / yy.sqrt() };
    r.clamp(-1.0, 1.0)
}

fn check_pairs(x: &[f64], y: &[f64], needed: usize) -> Result<()> {
    if x.len() != y.len() {
        return Err(StatsError::LengthMismatch { what: "x and y", left: x.len(), right: y.len() });
    }
    check("x", x, needed)?;
    check("y", y, needed)
}
