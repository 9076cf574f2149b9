//! The exact binomial test. Probabilities are added up by their ratios, from the mode outward, so no special function
//! limits its accuracy.

use super::{Result, StatsError};

/// Exact one-sided binomial test: `P(X >= successes)` in `trials` of the given `probability`.
///
/// # Errors
/// No trials, more successes than trials, probability outside (0, 1).
pub fn binomial_test_greater(successes: usize, trials: usize, probability: f64) -> Result<f64> {
    let weights = binomial_weights(successes, trials, probability)?;
    let total: f64 = weights.iter().sum();
    Ok((weights[successes..].iter().sum::<f64>() / total).min(1.0))
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
