//! Statistics on plain `f64` slices: tests, permutation, bootstrap, intervals, multiplicity, map
//! similarity and verdicts.
//!
//! Nothing here knows candle, files or networks. Every function that draws takes `(seed, name)` and
//! draws from [`crate::seed::stream`]`(seed, name, chunk)` with chunks of a fixed size, so the same
//! input gives bit-equal output for any number of threads. What is undefined (zero variance, too
//! few values) is a named [`StatsError`], never a NaN.
//!
//! | module | holds |
//! | --- | --- |
//! | [`descriptive`] | mean, variance, quantiles, ranks |
//! | [`special`] | tail probabilities and quantiles |
//! | [`t_tests`], [`correlation`], [`contingency`] | classical tests, equal to SciPy's |
//! | [`permutation`], [`stratified`], [`forgetting`] | permutation tests: concept effect, the same within strata, drift of forgotten images |
//! | [`exchangeability`] | the TCAV score's own test |
//! | [`multiplicity`], [`power`] | adjustment of p-values; how many sets or permutations a level needs |
//! | [`intervals`], [`bootstrap`], [`crossed`] | confidence intervals; means over replicates that share images |
//! | [`effect`] | the concept effect |
//! | [`similarity`], [`localisation`] | how alike two maps are; whether a map looks at a box |
//! | [`reach`] | how far retrained networks differ from each other |
//! | [`representation`] | how alike two networks represent images: debiased CKA |
//! | [`logistic`] | L2 logistic regression, by inner products alone |
//! | [`onset`] | the density at which something begins to change |
//! | [`verdict`] | answers, calls and ranges of densities |
//! | [`seed`] | named random streams, which everything that draws takes |

pub mod bootstrap;
pub mod contingency;
pub mod correlation;
pub mod crossed;
pub mod descriptive;
pub mod effect;
pub mod exchangeability;
pub mod forgetting;
pub mod intervals;
pub mod localisation;
pub mod logistic;
pub mod multiplicity;
pub mod onset;
pub mod permutation;
pub mod power;
pub mod reach;
pub mod representation;
pub mod seed;
pub mod similarity;
pub mod special;
pub mod stratified;
pub mod t_tests;
pub mod verdict;

use serde::{Deserialize, Serialize};

/// Why a statistic has no value. `what` names the argument or the statistic.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, thiserror::Error)]
#[serde(tag = "undefined", rename_all = "snake_case")]
pub enum StatsError {
    /// Fewer values than the statistic is defined for.
    #[error("{what}: needs at least {needed} values, got {got}")]
    TooFew {
        /// The argument.
        what: &'static str,
        /// How many it needs.
        needed: usize,
        /// How many it got.
        got: usize,
    },
    /// All values are equal, so a denominator is zero.
    #[error("{what}: zero variance")]
    ZeroVariance {
        /// The argument.
        what: &'static str,
    },
    /// A NaN or an infinity among the values.
    #[error("{what}: value is not finite")]
    NotFinite {
        /// The argument.
        what: &'static str,
    },
    /// Two arguments that belong together differ in length.
    #[error("{what}: lengths {left} and {right} differ")]
    LengthMismatch {
        /// The arguments.
        what: &'static str,
        /// Length of the first.
        left: usize,
        /// Length of the second.
        right: usize,
    },
    /// A parameter outside its range.
    #[error("{what}: {value} is outside {range}")]
    OutOfRange {
        /// The parameter.
        what: &'static str,
        /// What it was.
        value: f64,
        /// What it may be.
        range: &'static str,
    },
    /// The statistic has no value on this input, for a reason that `what` names.
    #[error("{what}")]
    Undefined {
        /// The statistic and the reason.
        what: &'static str,
    },
}

/// A value, or why there is none.
pub type Result<T> = std::result::Result<T, StatsError>;

/// A test statistic with its two-sided p-value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TestResult {
    /// The statistic, as the test's documentation defines it.
    pub statistic: f64,
    /// Two-sided p-value.
    pub p_value: f64,
}

/// A confidence interval `[low, high]`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// Whether `value` lies inside, ends included.
    pub fn contains(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }
}

/// Checks a sample: at least `needed` values, all of them finite.
pub(crate) fn check(what: &'static str, values: &[f64], needed: usize) -> Result<()> {
    if values.len() < needed {
        return Err(StatsError::TooFew { what, needed, got: values.len() });
    }
    if values.iter().any(|v| !v.is_finite()) {
        return Err(StatsError::NotFinite { what });
    }
    Ok(())
}

/// Checks that `value` lies strictly between 0 and 1.
pub(crate) fn check_open_unit(what: &'static str, value: f64) -> Result<()> {
    if value > 0.0 && value < 1.0 { Ok(()) } else { Err(StatsError::OutOfRange { what, value, range: "(0, 1)" }) }
}
