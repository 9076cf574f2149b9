//! Rank tests of location: Mann–Whitney and Wilcoxon's signed rank.

use super::descriptive::ranks_and_ties;
use super::special::normal_upper;
use super::{Result, StatsError, TestResult, check};

/// Mann–Whitney U of the first sample, normal approximation with tie and continuity corrections (Mann & Whitney 1947;
/// Hollander & Wolfe 1999, §4.1); equals `scipy.stats.mannwhitneyu(first, second, method="asymptotic")`.
///
/// If all values are equal the p-value is 1: the data say nothing against the null.
///
/// # Errors
/// An empty sample, or a value that is not finite.
pub fn mann_whitney(first: &[f64], second: &[f64]) -> Result<TestResult> {
    check("first sample", first, 1)?;
    check("second sample", second, 1)?;
    let pooled: Vec<f64> = first.iter().chain(second).copied().collect();
    let (ranks, ties) = ranks_and_ties(&pooled);
    let (m, n) = (first.len() as f64, second.len() as f64);
    let total = m + n;
    let u = ranks[..first.len()].iter().sum::<f64>() - m * (m + 1.0) / 2.0;
    let tie_term = tie_sum(&ties) / (total * (total - 1.0));
    let deviation = (m * n / 12.0 * ((total + 1.0) - tie_term)).max(0.0).sqrt();
    let numerator = u.max(m * n - u) - m * n / 2.0 - 0.5;
    // With all values tied the numerator is -1/2 over zero: certainty that U is no further out than its mean.
    let p_value = if ties.len() == 1 { 1.0 } else { (2.0 * normal_upper(numerator / deviation)).min(1.0) };
    Ok(TestResult { statistic: u, p_value })
}

/// Wilcoxon's signed rank test of paired samples (Wilcoxon 1945), zero differences dropped, no continuity correction;
/// equals `scipy.stats.wilcoxon(first, second)` for at most 25 pairs and its `method="asymptotic"` above, which is where
/// the reference values of `fixtures/oracle/stats.json` change over (SciPy's own default changes over at 50). The statistic
/// is the smaller rank sum.
///
/// The null distribution is exact for at most 25 pairs without ties or zeros, exact over all sign flips for at most 13
/// pairs with them, and the tie-corrected normal approximation otherwise.
///
/// # Errors
/// No pairs, different lengths, a value that is not finite, or more than 13 pairs whose differences are all zero.
pub fn wilcoxon_signed_rank(first: &[f64], second: &[f64]) -> Result<TestResult> {
    check("first sample", first, 1)?;
    check("second sample", second, 1)?;
    if first.len() != second.len() {
        return Err(StatsError::LengthMismatch { what: "paired samples", left: first.len(), right: second.len() });
    }
    let differences: Vec<f64> = first.iter().zip(second).map(|(a, b)| a - b).filter(|d| *d != 0.0).collect();
    let magnitudes: Vec<f64> = differences.iter().map(|d| d.abs()).collect();
    let (ranks, ties) = ranks_and_ties(&magnitudes);
    let positive: f64 = ranks.iter().zip(&differences).filter(|(_, d)| **d > 0.0).map(|(r, _)| r).sum();
    let count = differences.len() as f64;
    let negative = count * (count + 1.0) / 2.0 - positive;
    let tied = differences.len() < first.len() || ties.len() < differences.len();
    let p_value = if first.len() <= if tied { 13 } else { 25 } {
        sign_flip_p(&ranks, positive)
    } else if differences.is_empty() {
        return Err(StatsError::ZeroVariance { what: "differences" });
    } else {
        let squared = (count * (count + 1.0) * (2.0 * count + 1.0) - tie_sum(&ties) / 2.0) / 24.0;
        2.0 * normal_upper((positive - count * (count + 1.0) / 4.0).abs() / squared.sqrt())
    };
    Ok(TestResult { statistic: positive.min(negative), p_value: p_value.min(1.0) })
}

/// `Σ t³ - t` over groups of ties.
fn tie_sum(ties: &[usize]) -> f64 {
    ties.iter().map(|&t| (t as f64).powi(3) - t as f64).sum()
}

/// Twice the smaller tail of the positive rank sum over all sign flips, by counting subsets. Average ranks are halves, so
/// the count runs over doubled ranks; at most 2²⁵ subsets, which `f64` counts exactly.
fn sign_flip_p(ranks: &[f64], positive: f64) -> f64 {
    let doubled: Vec<usize> = ranks.iter().map(|r| (2.0 * r) as usize).collect();
    let mut subsets = vec![0.0f64; doubled.iter().sum::<usize>() + 1];
    subsets[0] = 1.0;
    for &rank in &doubled {
        for sum in (rank..subsets.len()).rev() {
            subsets[sum] += subsets[sum - rank];
        }
    }
    let observed = (2.0 * positive) as usize;
    let total: f64 = subsets.iter().sum();
    let at_most: f64 = subsets[..=observed].iter().sum();
    let at_least: f64 = subsets[observed..].iter().sum();
    (2.0 * at_most.min(at_least) / total).min(1.0)
}
