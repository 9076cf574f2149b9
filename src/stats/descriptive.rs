//! Mean, variance, quantiles and ranks.

use super::{Result, StatsError, check, check_open_unit};

/// Arithmetic mean.
///
/// # Errors
/// No values, or one that is not finite.
pub fn mean(values: &[f64]) -> Result<f64> {
    check("values", values, 1)?;
    Ok(mean_unchecked(values))
}

pub(crate) fn mean_unchecked(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Sample variance with divisor `n - 1`, around the first value first, so that constant input gives exactly zero.
///
/// # Errors
/// Fewer than two values, or one that is not finite.
pub fn variance(values: &[f64]) -> Result<f64> {
    check("values", values, 2)?;
    Ok(sum_of_squares(values) / (values.len() - 1) as f64)
}

/// Sample standard deviation, the square root of [`variance`].
///
/// # Errors
/// As [`variance`].
pub fn standard_deviation(values: &[f64]) -> Result<f64> {
    variance(values).map(f64::sqrt)
}

/// `Σ (v - mean)²` by the corrected two-pass algorithm (Chan, Golub & LeVeque 1983, equation 1.7).
pub(crate) fn sum_of_squares(values: &[f64]) -> f64 {
    let Some(&origin) = values.first() else {
        return 0.0;
    };
    let shift = values.iter().map(|v| v - origin).sum::<f64>() / values.len() as f64;
    let (mut squares, mut drift) = (0.0, 0.0);
    for v in values {
        let d = v - origin - shift;
        squares += d * d;
        drift += d;
    }
    (squares - drift * drift / values.len() as f64).max(0.0)
}

/// Whether all values are equal (true for an empty slice).
pub(crate) fn is_constant(values: &[f64]) -> bool {
    values.windows(2).all(|w| w[0] == w[1])
}

/// Quantile by linear interpolation between order statistics (Hyndman & Fan 1996, type 7: NumPy's and R's default).
///
/// # Errors
/// No values, one that is not finite, or `probability` outside `[0, 1]`.
pub fn quantile(values: &[f64], probability: f64) -> Result<f64> {
    check("values", values, 1)?;
    if probability != 0.0 && probability != 1.0 {
        check_open_unit("probability", probability)?;
    }
    Ok(quantile_of_sorted(&sorted(values), probability))
}

/// As [`quantile`], of values already in ascending order.
pub(crate) fn quantile_of_sorted(sorted: &[f64], probability: f64) -> f64 {
    let position = probability * (sorted.len() - 1) as f64;
    let below = position.floor();
    let index = below as usize;
    match sorted.get(index + 1) {
        Some(next) => sorted[index] + (position - below) * (next - sorted[index]),
        None => sorted[index],
    }
}

/// Median: the quantile at one half.
///
/// # Errors
/// As [`quantile`].
pub fn median(values: &[f64]) -> Result<f64> {
    quantile(values, 0.5)
}

/// A copy in ascending order.
pub(crate) fn sorted(values: &[f64]) -> Vec<f64> {
    let mut copy = values.to_vec();
    copy.sort_unstable_by(f64::total_cmp);
    copy
}

/// Ranks from 1, ties sharing their average rank (Kendall 1945).
///
/// # Errors
/// A value that is not finite.
pub fn ranks(values: &[f64]) -> Result<Vec<f64>> {
    check("values", values, 0)?;
    Ok(ranks_and_ties(values).0)
}

/// Average ranks, and the size of every group of equal values in ascending order of value (groups of one included).
pub(crate) fn ranks_and_ties(values: &[f64]) -> (Vec<f64>, Vec<usize>) {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|&i, &j| values[i].total_cmp(&values[j]));
    let mut ranks = vec![0.0; values.len()];
    let mut ties = Vec::new();
    // Groups by `==`, so that 0.0 and -0.0, which total_cmp sets apart but keeps adjacent, are tied.
    for group in order.chunk_by(|&i, &j| values[i] == values[j]) {
        let before: usize = ties.iter().sum();
        let rank = before as f64 + (group.len() + 1) as f64 / 2.0;
        group.iter().for_each(|&i| ranks[i] = rank);
        ties.push(group.len());
    }
    (ranks, ties)
}

/// `Err(ZeroVariance)` if all values are equal.
pub(crate) fn require_variation(what: &'static str, values: &[f64]) -> Result<()> {
    if is_constant(values) { Err(StatsError::ZeroVariance { what }) } else { Ok(()) }
}

/// Mean of the values that are defined, `None` where none is.
pub fn known_mean(values: &[Option<f64>]) -> Option<f64> {
    let known: Vec<f64> = values.iter().flatten().copied().collect();
    (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_values() {
        assert_eq!(variance(&[1.0, 2.0, 3.0, 4.0]).unwrap(), 5.0 / 3.0);
        assert_eq!(variance(&[0.1; 7]).unwrap(), 0.0);
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0], 0.25).unwrap(), 1.75);
        assert_eq!(median(&[3.0, 1.0, 2.0]).unwrap(), 2.0);
        assert_eq!(ranks(&[2.0, 0.0, 2.0, -0.0]).unwrap(), [3.5, 1.5, 3.5, 1.5]);
        assert!(matches!(variance(&[1.0]), Err(StatsError::TooFew { .. })));
        assert!(matches!(mean(&[f64::NAN]), Err(StatsError::NotFinite { .. })));
    }

    proptest! {
        #[test]
        fn ranks_sum_to_the_triangular_number(values in prop::collection::vec(-3i32..3, 1..40)) {
            let values: Vec<f64> = values.into_iter().map(f64::from).collect();
            let n = values.len() as f64;
            prop_assert_eq!(ranks(&values).unwrap().iter().sum::<f64>(), n * (n + 1.0) / 2.0);
        }

        #[test]
        fn variance_ignores_location(values in prop::collection::vec(-1.0..1.0f64, 2..40), shift in -100.0..100.0f64) {
            let moved: Vec<f64> = values.iter().map(|v| v + shift).collect();
            prop_assert!((variance(&values).unwrap() - variance(&moved).unwrap()).abs() < 1e-12);
        }
    }
}
