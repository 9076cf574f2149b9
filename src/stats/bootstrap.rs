//! Bootstrap intervals, by the percentiles of the resampled statistics (Efron 1979), over one or
//! several independent groups of units.

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

/// Interval of a statistic of one sample. The values reach `statistic` in another order than given:
/// it must not depend on it.
///
/// # Errors
/// Fewer than two values, a value that is not finite, an undefined estimate, more than a tenth of
/// the resamples undefined.
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

/// Interval of the concept effect over class images, concept images and random images, all three
/// resampled. Class images come in blocks.
pub struct ConceptEffect {
    /// Class images, concept images, random images.
    sizes: [usize; 3],
    options: Options,
    seed: u64,
    name: String,
    /// Class images that have come.
    added: usize,
    /// Over the class images that have come: sums over concept and over random images, of the
    /// sample itself and of each resample.
    sums: Vec<[f64; 2]>,
}

impl ConceptEffect {
    /// Of so many images.
    ///
    /// # Errors
    /// Fewer than two images of a kind, fewer than 20 resamples, confidence outside (0, 1).
    pub fn new(
        class_images: usize,
        concept_images: usize,
        random_images: usize,
        options: Options,
        seed: u64,
        name: String,
    ) -> Result<Self> {
        let sizes = [class_images, concept_images, random_images];
        check_grouped(&sizes, options)?;
        Ok(Self { sizes, options, seed, name, added: 0, sums: vec![[0.0; 2]; 1 + options.resamples] })
    }

    /// Adds class images. `products` holds `g_k·a_i`, row-major
    /// `(class images, concept images + random images)`, the concept's columns first: the gradient
    /// of class image `k` times the activation of image `i`. The effect is the mean over rows and
    /// concept columns minus the mean over rows and random columns.
    ///
    /// # Errors
    /// Products that do not fill rows, are more than announced, or are not finite.
    pub fn add(&mut self, products: &[f64]) -> Result<()> {
        check("products", products, 1)?;
        let [class, concept, random] = self.sizes;
        let columns = concept + random;
        let rows = self.added..self.added + products.len() / columns;
        if !products.len().is_multiple_of(columns) || rows.end > class {
            let right = (class - self.added) * columns;
            return Err(StatsError::LengthMismatch { what: "products", left: products.len(), right });
        }
        // Rows first, by whole rows: that loop carries no dependence, so it runs at the width of the machine.
        let add_row = |sums: &mut [f64], k: usize| {
            let row = &products[(k - rows.start) * columns..][..columns];
            sums.iter_mut().zip(row).for_each(|(sum, product)| *sum += product);
        };
        let mut sums = vec![0.0; columns];
        rows.clone().for_each(|k| add_row(&mut sums, k));
        self.sums[0][0] += sums[..concept].iter().sum::<f64>();
        self.sums[0][1] += sums[concept..].iter().sum::<f64>();
        let (seed, name) = (self.seed, &self.name);
        // All are drawn anew for each block: that takes no memory, and next to nothing beside the sums.
        let of_chunks: Vec<Vec<[f64; 2]>> = chunks(self.options.resamples)
            .into_par_iter()
            .map(|(chunk, count)| {
                let mut draws = stream(seed, name, chunk);
                let mut sums = vec![0.0; columns];
                let resample = |_| {
                    sums.fill(0.0);
                    for _ in 0..class {
                        let k = below(&mut draws, class as u32);
                        if rows.contains(&k) {
                            add_row(&mut sums, k);
                        }
                    }
                    let mut sum =
                        |of: &[f64]| (0..of.len()).map(|_| of[below(&mut draws, of.len() as u32)]).sum::<f64>();
                    [sum(&sums[..concept]), sum(&sums[concept..])]
                };
                (0..count).map(resample).collect()
            })
            .collect();
        for (own, added) in self.sums[1..].iter_mut().zip(of_chunks.iter().flatten()) {
            own.iter_mut().zip(added).for_each(|(own, added)| *own += added);
        }
        self.added = rows.end;
        Ok(())
    }

    /// The interval.
    ///
    /// # Errors
    /// Not all class images have come; an effect that is not finite.
    pub fn finish(self) -> Result<Bootstrapped> {
        let [class, concept, random] = self.sizes;
        if self.added != class {
            return Err(StatsError::LengthMismatch { what: "class images", left: self.added, right: class });
        }
        let mean = |sum: f64, images: usize| sum / (images * class) as f64;
        let effects = self.sums.iter().map(|[of_concept, of_random]| {
            Some(mean(*of_concept, concept) - mean(*of_random, random)).filter(|effect| effect.is_finite())
        });
        let effects: Vec<Option<f64>> = effects.collect();
        summarise(effects[0], &effects[1..], self.options)
    }
}

/// Interval of a statistic of the indices of several independent groups of units of the given
/// `sizes`: `statistic` gets one list of indices per group, `0..size` for the sample itself.
///
/// # Errors
/// No group, a group of fewer than two units, fewer than 20 resamples, confidence outside (0, 1),
/// an undefined estimate, more than a tenth of the resamples undefined.
pub fn grouped(
    sizes: &[usize],
    statistic: impl Fn(&[Vec<usize>]) -> Option<f64> + Sync,
    options: Options,
    seed: u64,
    name: &str,
) -> Result<Bootstrapped> {
    check_grouped(sizes, options)?;
    let statistic = |groups: &[Vec<usize>]| statistic(groups).filter(|v| v.is_finite());
    let whole: Vec<Vec<usize>> = sizes.iter().map(|&n| (0..n).collect()).collect();
    let estimate = statistic(&whole);
    if estimate.is_none() {
        return summarise(estimate, &[], options);
    }
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
    summarise(estimate, &resampled, options)
}

fn check_grouped(sizes: &[usize], options: Options) -> Result<()> {
    check_open_unit("confidence", options.confidence)?;
    if options.resamples < 20 {
        return Err(StatsError::TooFew { what: "resamples", needed: 20, got: options.resamples });
    }
    match sizes.iter().copied().min().unwrap_or(0) {
        smallest if smallest < 2 => Err(StatsError::TooFew { what: "units to resample", needed: 2, got: smallest }),
        _ => Ok(()),
    }
}

fn summarise(estimate: Option<f64>, resampled: &[Option<f64>], options: Options) -> Result<Bootstrapped> {
    let estimate = estimate.ok_or(StatsError::Undefined { what: "bootstrap: the estimate is undefined" })?;
    let mut defined: Vec<f64> = resampled.iter().copied().flatten().collect();
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
    use crate::descriptive::mean;

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
        let effect = |blocks: &[&[f64]], random| {
            let mut effect = ConceptEffect::new(4, 2, random, Options::default(), 1, "effect".into())?;
            blocks.iter().try_for_each(|block| effect.add(block))?;
            effect.finish()
        };
        let b = effect(&[&products], 3).unwrap();
        assert!((b.estimate + 2.5).abs() < 1e-12 && b.interval.contains(-2.5));
        assert!(effect(&[&products], 2).is_err() && effect(&[&products[..15]], 3).is_err());
        // Whole numbers add up to the same bits in any order.
        assert_eq!(effect(&[&products[..5], &products[5..]], 3), Ok(b));
        // The definition, by the bootstrap of any statistic.
        let defined = grouped(
            &[4, 2, 3],
            |groups| {
                let mean = |of: &[usize], offset: usize| {
                    let sum = |&k: &usize| of.iter().map(|i| products[k * 5 + offset + i]).sum::<f64>();
                    groups[0].iter().map(sum).sum::<f64>() / (groups[0].len() * of.len()) as f64
                };
                Some(mean(&groups[1], 0) - mean(&groups[2], 2))
            },
            Options::default(),
            1,
            "effect",
        );
        assert_eq!(defined, Ok(b));
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
