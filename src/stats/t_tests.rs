//! t-tests. For TCAV scores they are **legacy**: the scores share one concept set, so they are not independent and the
//! test does not hold its level. They are kept to compare with published work.

use super::descriptive::{is_constant, mean_unchecked, require_variation, sum_of_squares};
use super::special::{student_t_critical, student_t_two_sided};
use super::{Interval, Result, StatsError, TestResult, check, check_open_unit};
use serde::Serialize;

/// A t-test with its degrees of freedom and the confidence interval of the difference of means.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TTest {
    /// The t statistic.
    pub statistic: f64,
    /// Two-sided p-value.
    pub p_value: f64,
    /// Degrees of freedom (fractional for Welch's test).
    pub degrees_of_freedom: f64,
    /// Mean of the first sample minus the mean of the second (or minus the hypothesised mean).
    pub difference: f64,
    /// Interval of the difference at the confidence asked for.
    pub interval: Interval,
}

impl TTest {
    /// The statistic and its p-value alone.
    pub fn result(&self) -> TestResult {
        TestResult { statistic: self.statistic, p_value: self.p_value }
    }

    fn new(difference: f64, standard_error: f64, degrees_of_freedom: f64, confidence: f64) -> Self {
        let statistic = difference / standard_error;
        let reach = student_t_critical(1.0 - confidence, degrees_of_freedom) * standard_error;
        TTest {
            statistic,
            p_value: student_t_two_sided(statistic, degrees_of_freedom),
            degrees_of_freedom,
            difference,
            interval: Interval { low: difference - reach, high: difference + reach },
        }
    }
}

/// Welch's t-test for unequal variances, with Satterthwaite's degrees of freedom (Welch 1947); equals
/// `scipy.stats.ttest_ind(first, second, equal_var=False)` and its `confidence_interval(confidence)`.
///
/// # Errors
/// Fewer than two values in a sample, a value that is not finite, both samples constant, confidence outside (0, 1).
pub fn welch_t(first: &[f64], second: &[f64], confidence: f64) -> Result<TTest> {
    check("first sample", first, 2)?;
    check("second sample", second, 2)?;
    check_open_unit("confidence", confidence)?;
    if is_constant(first) && is_constant(second) {
        return Err(StatsError::ZeroVariance { what: "both samples" });
    }
    let squared_error = |v: &[f64]| sum_of_squares(v) / (v.len() - 1) as f64 / v.len() as f64;
    let (a, b) = (squared_error(first), squared_error(second));
    let freedom = (a + b).powi(2) / (a * a / (first.len() - 1) as f64 + b * b / (second.len() - 1) as f64);
    Ok(TTest::new(mean_unchecked(first) - mean_unchecked(second), (a + b).sqrt(), freedom, confidence))
}

/// One-sample t-test against `hypothesised_mean`; equals `scipy.stats.ttest_1samp`. Against one
/// half it is the customary test of TCAV scores without a random baseline.
///
/// # Errors
/// Fewer than two values, a value that is not finite, constant values, confidence outside (0, 1).
pub fn one_sample_t(values: &[f64], hypothesised_mean: f64, confidence: f64) -> Result<TTest> {
    check("values", values, 2)?;
    check("hypothesised mean", &[hypothesised_mean], 1)?;
    check_open_unit("confidence", confidence)?;
    require_variation("values", values)?;
    let n = values.len() as f64;
    let error = (sum_of_squares(values) / (n - 1.0) / n).sqrt();
    Ok(TTest::new(mean_unchecked(values) - hypothesised_mean, error, n - 1.0, confidence))
}
