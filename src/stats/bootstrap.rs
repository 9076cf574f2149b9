//! Bootstrap intervals, by the percentiles of the resampled statistics (Efron 1979), over one or several independent groups of units.

use super::descriptive::{quantile_of_sorted, sorted, standard_deviation};
use super::permutation::{below, chunks};
use super::{Interval, Result, StatsError, check, check_open_unit};
use crate::seed::stream;
use rayon::prelude::*;
use serde::Serialize;

/// How to bootstrap.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Options {
    /// Number of resamples.
    pub resamples: usize,
    /// Confidence of the interval, e.g. 0.95.
    pub confidence: f64,
}

impl Default for Options {
    /// 1,999 resamples, 95 %.
    fn default() -> Self {
        Options { resamples: 1_999, confidence: 0.95 }
    }
}

/// An estimate with its bootstrap interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bootstrapped {
    /// The statistic of the sample itself.
    pub estimate: f64,
    /// Confidence interval.
    pub interval: Interval,
    /// Standard deviation of the resampled statistics.
    pub standard_error: f64,
    /// Resamples on which the statistic was undefined; they are left out.
    pub undefined: usize,
}

/// Interval of a statistic of one sample. The values reach `statistic` in another order than given: it must not depend on it.
///
/// # Errors
/// Fewer than two values, a value that is not finite, an undefined estimate, more than a tenth of the resamples undefined.
pub fn one_sample(
    values: &[f64],
    statistic: impl Fn(&[f64]) -> Option<f64> + Sync,
    options: Options,
    seed: u64,
    name: &str,
) -> Result<Bootstrapped> {
    check("values", values, 2)?;
    let values = sorted(values);
    let pick = |units: &[usize]| units.iter().map(|&i| values[i]).collect::<Vec<_>>();
    grouped(&[values.len()], |groups| statistic(&pick(&groups[0])), options, seed, name)
}

/// Interval of a statistic of two independent samples, each resampled by itself.
///
/// # Errors
/// As [`one_sample`], for either sample.
pub fn two_sample(
    first: &[f64],
    second: &[f64],
    statistic: impl Fn(&[f64], &[f64]) -> Option<f64> + Sync,
    options: Options,
    seed: u64,
    name: &str,
) -> Result<Bootstrapped> {
    check("first sample", first, 2)?;
    check("second sample", second, 2)?;
    let (first, second) = (sorted(first), sorted(second));
    let pick = |from: &[f64], units: &[usize]| units.iter().map(|&i| from[i]).collect::<Vec<_>>();
    let of = |groups: &[Vec<usize>]| statistic(&pick(&first, &groups[0]), &pick(&second, &groups[1]));
    grouped(&[first.len(), second.len()], of, options, seed, name)
}

/// Interval of the concept effect over class images, concept images and random images, all three resampled.
///
/// `products` holds `g_k·a_i`, row-major `(class images, concept images + random images)`, the concept's columns first: the
/// gradient of class image `k` times the activation of image `i`. The effect is the mean over rows and concept columns minus
/// the mean over rows and random columns.
///
/// # Errors
/// As [`one_sample`], or a length that is not `class_images · (concept_images + random_images)`.
pub fn concept_effect(
    products: &[f64],
    class_images: usize,
    concept_images: usize,
    random_images: usize,
    options: Options,
    seed: u64,
    name: &str,
) -> Result<Bootstrapped> {
    check("products", products, 1)?;
    let columns = concept_images + random_images;
    if products.len() != class_images * columns {
        return Err(StatsError::LengthMismatch {
            what: "products",
            left: products.len(),
            right: class_images * columns,
        });
    }
    let of = |groups: &[Vec<usize>]| {
        // Rows first, by whole rows: that loop carries no dependence, so it runs at the width of the machine.
        let mut sums = vec![0.0; columns];
        for &k in &groups[0] {
            sums.iter_mut().zip(&products[k * columns..][..columns]).for_each(|(sum, p)| *sum += p);
        }
        let mean = |units: &[usize], offset: usize| {
            units.iter().map(|&i| sums[offset + i]).sum::<f64>() / (units.len() * groups[0].len()) as f64
        };
        Some(mean(&groups[1], 0) - mean(&groups[2], concept_images))
    };
    grouped(&[class_images, concept_images, random_images], of, options, seed, name)
}

/// Interval of a statistic of the indices of several independent groups of units of the given `sizes`: `statistic` gets one
/// list of indices per group, `0..size` for the sample itself.
///
/// # Errors
/// No group, a group of fewer than two units, fewer than 20 resamples, confidence outside (0, 1), an undefined estimate, more
/// than a tenth of the resamples undefined.
pub fn grouped(
    sizes: &[usize],
    statistic: impl Fn(&[Vec<usize>]) -> Option<f64> + Sync,
    options: Options,
    seed: u64,
    name: &str,
) -> Result<Bootstrapped> {
    check_open_unit("confidence", options.confidence)?;
    if options.resamples < 20 {
        return Err(StatsError::TooFew { what: "resamples", needed: 20, got: options.resamples });
    }
    let smallest = sizes.iter().copied().min().unwrap_or(0);
    if smallest < 2 {
        return Err(StatsError::TooFew { what: "units to resample", needed: 2, got: smallest });
    }
    let statistic = |groups: &[Vec<usize>]| statistic(groups).filter(|v| v.is_finite());
    let whole: Vec<Vec<usize>> = sizes.iter().map(|&n| (0..n).collect()).collect();
    let estimate = statistic(&whole).ok_or(StatsError::Undefined { what: "bootstrap: the estimate is undefined" })?;
    let resampled: Vec<Option<f64>> = chunks(options.resamples)
        .into_par_iter()
        .flat_map_iter(|(chunk, count)| {
            let mut draws = stream(seed, name, chunk);
            let mut groups = whole.clone();
            let statistic = &statistic;
            (0..count)
                .map(move |_| {
                    for group in &mut groups {
                        let size = group.len() as u32;
                        group.iter_mut().for_each(|unit| *unit = below(&mut draws, size));
                    }
                    statistic(&groups)
                })
                .collect::<Vec<_>>()
        })
        .collect();
    let mut defined: Vec<f64> = resampled.into_iter().flatten().collect();
    let undefined = options.resamples - defined.len();
    if undefined * 10 > options.resamples {
        return Err(StatsError::Undefined { what: "bootstrap: the statistic is undefined on too many resamples" });
    }
    defined.sort_unstable_by(f64::total_cmp);
    let tail = (1.0 - options.confidence) / 2.0;
    let [low, high] = [tail, 1.0 - tail].map(|p| quantile_of_sorted(&defined, p));
    Ok(Bootstrapped {
        estimate,
        interval: Interval { low, high },
        standard_error: standard_deviation(&defined)?,
        undefined,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::descriptive::mean;

    fn average(v: &[f64]) -> Option<f64> {
        mean(v).ok()
    }

    #[test]
    fn the_mean_has_its_textbook_error() {
        let values: Vec<f64> = (0..100).map(f64::from).collect();
        let b = one_sample(&values, average, Options { resamples: 9_999, ..Options::default() }, 1, "mean").unwrap();
        assert_eq!(b.estimate, 49.5);
        // Population standard deviation over √n.
        let error = (9_999.0f64 / 12.0).sqrt() / 10.0;
        assert!((b.standard_error / error - 1.0).abs() < 0.03, "{b:?}");
        assert!((b.interval.low - (49.5 - 1.96 * error)).abs() < 0.3, "{b:?}");
        assert!((b.interval.high - (49.5 + 1.96 * error)).abs() < 0.3, "{b:?}");
    }

    #[test]
    fn reproducible_for_any_thread_count_and_order() {
        let values: Vec<f64> = (0..50).map(|i| f64::from(i * i % 23)).collect();
        let reversed: Vec<f64> = values.iter().rev().copied().collect();
        let run = |v: &[f64], threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| one_sample(v, average, Options::default(), 1, "order").unwrap())
        };
        assert_eq!(run(&values, 1), run(&reversed, 3));
    }

    #[test]
    fn effect_over_three_kinds_of_images() {
        let products: Vec<f64> = (0..4 * 5).map(|i| f64::from(i % 5) + f64::from(i / 5)).collect();
        // Columns 0, 1 are the concept, 2, 3, 4 random: 0.5 - 3 whatever the row.
        let b = concept_effect(&products, 4, 2, 3, Options::default(), 1, "effect").unwrap();
        assert!((b.estimate + 2.5).abs() < 1e-12 && b.interval.contains(-2.5));
        assert!(concept_effect(&products, 4, 2, 2, Options::default(), 1, "effect").is_err());
    }

    #[test]
    fn degenerate_input_is_named() {
        assert!(one_sample(&[1.0], average, Options::default(), 0, "x").is_err());
        assert!(matches!(
            one_sample(&[1.0, 2.0], |_| None, Options::default(), 0, "x"),
            Err(StatsError::Undefined { .. })
        ));
        assert!(matches!(
            one_sample(&[1.0, 2.0], |_| Some(f64::NAN), Options::default(), 0, "x"),
            Err(StatsError::Undefined { .. })
        ));
        let constant = one_sample(&[2.0; 5], average, Options::default(), 0, "x").unwrap();
        assert_eq!(constant.interval, Interval { low: 2.0, high: 2.0 });
    }
}
