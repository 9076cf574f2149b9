//! Tests of counts: binomial, McNemar, Fisher. The exact ones add up probabilities by their ratios, from the mode outward,
//! so no special function limits their accuracy.

use super::special::chi_squared_upper;
use super::{Result, StatsError, TestResult};

/// Two outcomes are equally likely if their probabilities agree to this: rounding must not split a tie (as in R).
const RELATIVE_TIE: f64 = 1.0 + 1e-7;

/// Exact two-sided binomial test of `successes` in `trials` against `probability`: the probability of every outcome no
/// likelier than the observed one; equals `scipy.stats.binomtest`.
///
/// # Errors
/// No trials, more successes than trials, probability outside (0, 1).
pub fn binomial_test(successes: usize, trials: usize, probability: f64) -> Result<f64> {
    let weights = binomial_weights(successes, trials, probability)?;
    Ok(no_likelier(&weights, successes))
}

/// Exact one-sided binomial test: `P(X >= successes)`. Used for a CAV's held-out accuracy against chance.
///
/// # Errors
/// As [`binomial_test`].
pub fn binomial_test_greater(successes: usize, trials: usize, probability: f64) -> Result<f64> {
    let weights = binomial_weights(successes, trials, probability)?;
    let total: f64 = weights.iter().sum();
    Ok((weights[successes..].iter().sum::<f64>() / total).min(1.0))
}

/// Exact McNemar test of the discordant counts (McNemar 1947): a two-sided binomial test against one half, the smaller
/// tail doubled; equals statsmodels' `mcnemar(exact=True)`. The statistic is the smaller count. No discordant pair gives
/// p = 1.
pub fn mcnemar_exact(first_only: usize, second_only: usize) -> TestResult {
    let (fewer, total) = (first_only.min(second_only), first_only + second_only);
    let p_value = match binomial_weights(fewer, total, 0.5) {
        Ok(w) => (2.0 * w[..=fewer].iter().sum::<f64>() / w.iter().sum::<f64>()).min(1.0),
        Err(_) => 1.0,
    };
    TestResult { statistic: fewer as f64, p_value }
}

/// McNemar's χ² with the continuity correction of Edwards (1948); equals statsmodels' `mcnemar(exact=False)`.
///
/// # Errors
/// No discordant pair.
pub fn mcnemar_chi_squared(first_only: usize, second_only: usize) -> Result<TestResult> {
    let total = first_only + second_only;
    if total == 0 {
        return Err(StatsError::TooFew { what: "discordant pairs", needed: 1, got: 0 });
    }
    let statistic = (first_only.abs_diff(second_only) as f64 - 1.0).powi(2) / total as f64;
    Ok(TestResult { statistic, p_value: chi_squared_upper(statistic, 1.0) })
}

/// Fisher's exact test of a 2 × 2 table, two-sided: the probability, margins fixed, of every table no likelier than the
/// observed one (Fisher 1935); equals `scipy.stats.fisher_exact`. An empty row or column gives 1.
pub fn fisher_exact(table: [[usize; 2]; 2]) -> f64 {
    let [[a, b], [c, d]] = table;
    let (row, other, column) = (a + b, c + d, a + c);
    let first = column.saturating_sub(other);
    let last = row.min(column);
    let ratio = |x: usize| (row - x) as f64 / (x + 1) as f64 * ((column - x) as f64 / (other + x + 1 - column) as f64);
    let weights = weights_from_ratios(first, last, (row + 1) * (column + 1) / (row + other + 2), ratio);
    no_likelier(&weights, a - first)
}

fn binomial_weights(successes: usize, trials: usize, probability: f64) -> Result<Vec<f64>> {
    super::check_open_unit("probability", probability)?;
    if trials == 0 {
        return Err(StatsError::TooFew { what: "trials", needed: 1, got: 0 });
    }
    if successes > trials {
        return Err(StatsError::OutOfRange { what: "successes", value: successes as f64, range: "[0, trials]" });
    }
    let odds = probability / (1.0 - probability);
    let mode = ((trials + 1) as f64 * probability) as usize;
    Ok(weights_from_ratios(0, trials, mode, |k| (trials - k) as f64 / (k + 1) as f64 * odds))
}

/// Weights of the outcomes `first..=last`, 1 at `mode`, where `ratio(k)` is weight `k + 1` over weight `k`.
fn weights_from_ratios(first: usize, last: usize, mode: usize, ratio: impl Fn(usize) -> f64) -> Vec<f64> {
    let mode = mode.clamp(first, last);
    let mut weights = vec![1.0; last - first + 1];
    for k in mode..last {
        weights[k + 1 - first] = weights[k - first] * ratio(k);
    }
    for k in (first..mode).rev() {
        weights[k - first] = weights[k + 1 - first] / ratio(k);
    }
    weights
}

fn no_likelier(weights: &[f64], observed: usize) -> f64 {
    let limit = weights[observed] * RELATIVE_TIE;
    let extreme: f64 = weights.iter().filter(|w| **w <= limit).sum();
    (extreme / weights.iter().sum::<f64>()).min(1.0)
}
