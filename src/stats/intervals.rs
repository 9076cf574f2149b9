//! The interval of the difference of two paired proportions.

use super::special::{bisect, normal_quantile};
use super::{Interval, Result, StatsError, check_open_unit};

/// Tango's score interval of the difference of two accuracies on the same images (Tango 1998, Statistics in Medicine
/// 17:891): `(first_only - second_only) / images`, where `first_only` counts images that only the first network gets
/// right. It inverts the score test, so it stays valid with few or no discordant images, which is the usual case in a
/// non-inferiority comparison.
///
/// # Errors
/// No images, more discordant images than images, confidence outside (0, 1).
pub fn paired_accuracy_difference(
    first_only: usize,
    second_only: usize,
    images: usize,
    confidence: f64,
) -> Result<Interval> {
    check_counts(first_only + second_only, images, confidence)?;
    let (b, c, n) = (first_only as f64, second_only as f64, images as f64);
    let estimate = (b - c) / n;
    let z = normal_quantile(0.5 + confidence / 2.0);
    // |score| at the difference `delta`; it grows from 0 at the estimate to the ends.
    let rejected = |delta: f64| {
        let linear = -b - c + (2.0 * n - b + c) * delta;
        let constant = -c * delta * (1.0 - delta);
        // The nuisance probability q21 under the restriction: the larger root of 2n q² + linear·q + constant.
        let q = ((linear * linear - 8.0 * n * constant).max(0.0).sqrt() - linear) / (4.0 * n);
        let squared = n * (2.0 * q + delta * (1.0 - delta));
        (b - c - n * delta).powi(2) > z * z * squared.max(0.0)
    };
    let high = if estimate >= 1.0 { 1.0 } else { bisect(estimate, 1.0, rejected) };
    let low = if estimate <= -1.0 { -1.0 } else { -bisect(-estimate, 1.0, |d| rejected(-d)) };
    Ok(Interval { low, high })
}

fn check_counts(successes: usize, trials: usize, confidence: f64) -> Result<()> {
    check_open_unit("confidence", confidence)?;
    if trials == 0 {
        return Err(StatsError::TooFew { what: "trials", needed: 1, got: 0 });
    }
    if successes > trials {
        return Err(StatsError::OutOfRange { what: "successes", value: successes as f64, range: "[0, trials]" });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tango_inverts_the_constrained_score_test() {
        // Ends found by maximising the constrained multinomial likelihood numerically (SciPy).
        for (b, c, n, low, high) in [
            (12, 2, 50, 0.061_112_406_8, 0.344_708_746_5),
            (5, 3, 1000, -0.004_378_090_6, 0.009_010_174_6),
            (20, 40, 100, -0.341_022_524_5, -0.049_131_303_4),
        ] {
            let i = paired_accuracy_difference(b, c, n, 0.95).unwrap();
            assert!((i.low - low).abs() < 1e-6 && (i.high - high).abs() < 1e-6, "{i:?}");
        }
        let equal = paired_accuracy_difference(0, 0, 100, 0.95).unwrap();
        assert!((equal.high - 0.036_993_5).abs() < 1e-6 && (equal.low + equal.high).abs() < 1e-12);
        assert_eq!(paired_accuracy_difference(5, 0, 5, 0.95).unwrap().high, 1.0);
    }

    #[test]
    fn impossible_counts_are_named() {
        assert!(paired_accuracy_difference(0, 0, 0, 0.95).is_err());
        assert!(paired_accuracy_difference(1, 0, 5, 1.0).is_err());
        assert!(paired_accuracy_difference(3, 3, 5, 0.95).is_err());
    }

    proptest! {
        #[test]
        fn the_paired_interval_mirrors_when_the_networks_swap(n in 1usize..300, b in 0.0..=0.5f64, c in 0.0..=0.5f64) {
            let (b, c) = ((b * n as f64) as usize, (c * n as f64) as usize);
            let i = paired_accuracy_difference(b, c, n, 0.95).unwrap();
            let j = paired_accuracy_difference(c, b, n, 0.95).unwrap();
            prop_assert!((i.low + j.high).abs() < 1e-9 && (i.high + j.low).abs() < 1e-9);
            prop_assert!(-1.0 <= i.low && i.low <= i.high && i.high <= 1.0);
            prop_assert!(i.low - 1e-12 <= (b as f64 - c as f64) / n as f64 && (b as f64 - c as f64) / n as f64 <= i.high + 1e-12);
        }
    }
}
