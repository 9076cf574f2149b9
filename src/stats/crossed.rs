//! Means over replicates that all saw the same images, with an interval over both.
//!
//! Replicates (seeds) are independent. Images are shared: an image that is hard for one network is
//! hard for all, so more replicates do not average it away. The variance of the mean therefore has
//! two parts, replicates and images, and what an image and a replicate do only together shows in
//! either; it is counted once (Owen 2007, Annals of Applied Statistics 1:386).

use super::descriptive::{mean_unchecked, sum_of_squares};
use super::special::{student_t_critical, student_t_two_sided};
use super::{Interval, Result, StatsError, check, check_open_unit};

/// What the choice of images does to a mean over replicates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ImageVariance {
    /// Variance of the mean over replicates when images are drawn anew, the same for all replicates.
    pub of_mean: f64,
    /// The same of one replicate's value, mean over replicates.
    pub of_one: f64,
    /// Images.
    pub images: usize,
}

impl ImageVariance {
    /// The part that the replicates share: what remains of `of_mean` without that which differs
    /// from replicate to replicate and so stands in their spread already.
    fn shared(self, replicates: usize) -> f64 {
        let count = replicates as f64;
        ((count * self.of_mean - self.of_one) / (count - 1.0)).max(0.0)
    }
}

/// A mean over replicates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mean {
    /// The mean.
    pub estimate: f64,
    /// Standard error over replicates and images.
    pub standard_error: f64,
    /// Satterthwaite's degrees of freedom of that error.
    pub degrees_of_freedom: f64,
}

impl Mean {
    /// Of one value for each replicate.
    ///
    /// # Errors
    /// Fewer than two replicates, or a value that is not finite.
    pub fn of(replicates: &[f64], images: Option<ImageVariance>) -> Result<Self> {
        check("replicates", replicates, 2)?;
        let count = replicates.len() as f64;
        let between = sum_of_squares(replicates) / (count - 1.0) / count;
        let shared = images.map_or(0.0, |images| images.shared(replicates.len()));
        let of_images = images.map_or(1.0, |images| (images.images.max(2) - 1) as f64);
        let parts = between * between / (count - 1.0) + shared * shared / of_images;
        let variance = between + shared;
        let degrees_of_freedom = if parts > 0.0 { variance * variance / parts } else { count - 1.0 };
        Ok(Mean { estimate: mean_unchecked(replicates), standard_error: variance.sqrt(), degrees_of_freedom })
    }

    /// The t interval at `confidence`.
    ///
    /// # Errors
    /// A confidence outside (0, 1).
    pub fn interval(&self, confidence: f64) -> Result<Interval> {
        check_open_unit("confidence", confidence)?;
        let reach = student_t_critical(1.0 - confidence, self.degrees_of_freedom) * self.standard_error;
        Ok(Interval { low: self.estimate - reach, high: self.estimate + reach })
    }

    /// One-sided p-value against "the mean is at most `limit`".
    pub fn p_above(&self, limit: f64) -> f64 {
        let above = self.estimate - limit;
        if self.standard_error == 0.0 {
            return if above > 0.0 { 0.0 } else { 1.0 };
        }
        let tail = student_t_two_sided(above / self.standard_error, self.degrees_of_freedom) / 2.0;
        if above > 0.0 { tail } else { 1.0 - tail }
    }
}

/// The image variance of the mean over replicates of `values[replicate][image]`, all of one length.
///
/// # Errors
/// No replicate, fewer than two images, or rows of different length.
pub fn image_variance_of_means(values: &[Vec<f64>]) -> Result<ImageVariance> {
    let images = values.first().map_or(0, Vec::len);
    if images < 2 {
        return Err(StatsError::TooFew { what: "images", needed: 2, got: images });
    }
    if let Some(row) = values.iter().find(|row| row.len() != images) {
        return Err(StatsError::LengthMismatch { what: "images of replicates", left: images, right: row.len() });
    }
    let replicates = values.len() as f64;
    let of = |row: &[f64]| sum_of_squares(row) / (images * (images - 1)) as f64;
    let mean: Vec<f64> =
        (0..images).map(|image| values.iter().map(|row| row[image]).sum::<f64>() / replicates).collect();
    let of_one = values.iter().map(|row| of(row)).sum::<f64>() / replicates;
    Ok(ImageVariance { of_mean: of(&mean), of_one, images })
}

/// One replicate's drift beside what retraining does, image by image: `(numerator, denominator)`,
/// `None` where the image does not count for this replicate.
pub type RatioByImage = Vec<Option<(f64, f64)>>;

/// The logarithm of each replicate's ratio of sums over images, and what the choice of images does to their mean.
///
/// Drawing images anew moves `ln (Σ a / Σ b)` by the mean of `a/ā − b/b̄` over the images drawn, to
/// first order; the variance of that is the bootstrap's in the limit of many resamples (the
/// infinitesimal jackknife, Efron 1982, §6), without its noise. The images are the same for all
/// replicates.
///
/// # Errors
/// No replicate, fewer than two images that count, rows of different length, or a ratio that is
/// zero or undefined (no image counts, or retraining moves nothing).
pub fn log_ratios(replicates: &[RatioByImage]) -> Result<(Vec<f64>, ImageVariance)> {
    let images = replicates.first().map_or(0, Vec::len);
    if images < 2 {
        return Err(StatsError::TooFew { what: "images", needed: 2, got: images });
    }
    let (mut values, mut of_one) = (Vec::new(), 0.0);
    // The influence of each image on the mean over replicates.
    let mut influence = vec![0.0; images];
    for row in replicates {
        if row.len() != images {
            return Err(StatsError::LengthMismatch { what: "images of replicates", left: images, right: row.len() });
        }
        let counted: Vec<(f64, f64)> = row.iter().flatten().copied().collect();
        if counted.len() < 2 {
            return Err(StatsError::TooFew { what: "images that count", needed: 2, got: counted.len() });
        }
        let count = counted.len() as f64;
        let (above, below) = counted.iter().fold((0.0, 0.0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
        let ratio = above / below;
        if !(ratio > 0.0 && ratio.is_finite()) {
            return Err(StatsError::Undefined { what: "ratio: nothing moves" });
        }
        values.push(ratio.ln());
        let own: Vec<Option<f64>> =
            (row.iter()).map(|pair| pair.map(|(a, b)| a * count / above - b * count / below)).collect();
        of_one += sum_of_squares(&own.iter().flatten().copied().collect::<Vec<f64>>()) / (count * (count - 1.0));
        for (sum, own) in influence.iter_mut().zip(own) {
            *sum += own.unwrap_or(0.0) / (count * replicates.len() as f64);
        }
    }
    let of_mean = influence.iter().map(|sum| sum * sum).sum::<f64>() * images as f64 / (images - 1) as f64;
    Ok((values, ImageVariance { of_mean, of_one: of_one / replicates.len() as f64, images }))
}

/// Jackknife pseudo-values of the mean of `value(replicate, others)` over replicates, where
/// replicates share networks: with a replicate go its own value and its part in every other's. They
/// take the place of independent values (Arvesen 1969, Annals of Mathematical Statistics 40:2076).
///
/// # Errors
/// Fewer than three replicates, or a value that is undefined.
pub fn pseudo_values(replicates: usize, value: impl Fn(usize, &[usize]) -> Option<f64>) -> Result<Vec<f64>> {
    if replicates < 3 {
        return Err(StatsError::TooFew { what: "replicates", needed: 3, got: replicates });
    }
    let mean_over = |present: &[usize]| -> Result<f64> {
        let of = |&replicate: &usize| {
            let others: Vec<usize> = present.iter().copied().filter(|&other| other != replicate).collect();
            value(replicate, &others).ok_or(StatsError::Undefined { what: "ratio: undefined for a replicate" })
        };
        Ok(mean_unchecked(&present.iter().map(of).collect::<Result<Vec<f64>>>()?))
    };
    let all: Vec<usize> = (0..replicates).collect();
    let whole = mean_over(&all)?;
    let count = replicates as f64;
    (0..replicates)
        .map(|left_out| {
            let present: Vec<usize> = all.iter().copied().filter(|&other| other != left_out).collect();
            Ok(count * whole - (count - 1.0) * mean_over(&present)?)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_and_replicates_are_counted_once() {
        // Four replicates that agree but for their images: everything is the images' part.
        let same = vec![vec![0.0, 1.0, 1.0, 0.0, 1.0]; 4];
        let images = image_variance_of_means(&same).unwrap();
        assert!((images.of_mean - images.of_one).abs() < 1e-15);
        let mean = Mean::of(&[0.6; 4], Some(images)).unwrap();
        assert!((mean.standard_error.powi(2) - images.of_mean).abs() < 1e-15);
        assert!((mean.degrees_of_freedom - 4.0).abs() < 1e-9);
        // Replicates alone: the usual t interval, here that of SciPy's `t.interval(0.95, 3, mean, sem)`.
        let mean = Mean::of(&[1.0, 2.0, 3.0, 6.0], None).unwrap();
        let interval = mean.interval(0.95).unwrap();
        assert!((interval.low - -0.437_434_9).abs() < 1e-6 && (interval.high - 6.437_434_9).abs() < 1e-6);
        assert!((mean.p_above(0.0) - 0.034_568_4).abs() < 1e-6, "{}", mean.p_above(0.0));
        assert!((mean.p_above(3.0) - 0.5).abs() < 1e-12);
        assert!(Mean::of(&[1.0], None).is_err());
    }

    #[test]
    fn a_ratio_is_of_sums_over_the_same_images() {
        let of = |pairs: &[Option<(f64, f64)>]| pairs.to_vec();
        let replicates = [
            of(&[Some((0.2, 0.1)), None, Some((0.4, 0.2)), Some((0.2, 0.1))]),
            of(&[Some((0.1, 0.1)), Some((0.3, 0.3)), None, Some((0.2, 0.2))]),
        ];
        let (values, images) = log_ratios(&replicates).unwrap();
        assert!((values[0] - 2f64.ln()).abs() < 1e-12 && values[1].abs() < 1e-12);
        // Every image has the same ratio, so drawing them anew changes nothing.
        assert!(images.of_mean < 1e-20 && images.of_one < 1e-20);
        assert!(log_ratios(&[of(&[None, None])]).is_err());
        assert!(log_ratios(&[of(&[Some((1.0, 0.0)), Some((1.0, 0.0))])]).is_err());
    }

    #[test]
    fn pseudo_values_of_independent_values_are_those_values() {
        let values = [1.0, 4.0, 2.0, 9.0];
        let pseudo = pseudo_values(4, |replicate, _| Some(values[replicate])).unwrap();
        for (found, value) in pseudo.iter().zip(values) {
            assert!((found - value).abs() < 1e-12);
        }
        assert!(pseudo_values(2, |_, _| Some(1.0)).is_err());
    }
}
