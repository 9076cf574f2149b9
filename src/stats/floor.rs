//! Drift in units of the noise floor, with an interval over images and replicates (DESIGN 1.6).
//!
//! The floor is the drift between dense replicates that differ in nothing but their seed. The ratio of drift to floor is
//! estimated on the logarithmic scale with two levels of variation: images are bootstrapped, one draw of images serving all
//! networks, because they all saw the same images; replicates (seeds) are left out one at a time.

use super::descriptive::{mean_unchecked, sum_of_squares};
use super::permutation::{below, chunks};
use super::special::student_t_critical;
use super::{Interval, Result, StatsError, check_open_unit};
use crate::seed::{Stream, stream};
use rayon::prelude::*;
use serde::Serialize;

/// Drift of one network from its reference, per image.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Replicate of the network and of its reference.
    pub replicate: usize,
    /// Drift per image, `None` where it is degenerate or not counted. Every list runs over the same images.
    pub drift: &'a [Option<f64>],
}

/// Drift between two dense replicates, per image.
#[derive(Debug, Clone, Copy)]
pub struct FloorPair<'a> {
    /// The two replicates.
    pub replicates: (usize, usize),
    /// Drift per image, as in [`Candidate`].
    pub drift: &'a [Option<f64>],
}

/// Drift as a multiple of the floor.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct FloorRatio {
    /// Mean drift over mean floor: 1 is what retraining with another seed does.
    pub ratio: f64,
    /// Interval of the ratio.
    pub interval: Interval,
    /// Mean drift: over images, then over networks.
    pub drift: f64,
    /// Mean floor: over images, then over pairs of dense replicates.
    pub floor: f64,
    /// Standard error of `ln ratio`.
    pub log_standard_error: f64,
    /// Satterthwaite's degrees of freedom of that error.
    pub degrees_of_freedom: f64,
    /// Whether variation between replicates of the network is in the interval (it takes two).
    pub candidate_replicates_varied: bool,
    /// Whether variation between dense replicates is in the interval (it takes three, which make three pairs). If not, the
    /// floor is one draw taken as the truth, and the interval is too short; reports say so.
    pub floor_replicates_varied: bool,
}

/// The ratio of drift to floor with its interval.
///
/// Image level: images are drawn with replacement, `resamples` times (two-way data as in Owen 2007, Annals of Applied
/// Statistics 1:386). Replicate level: the delete-one jackknife, with a replicate go its networks and all its pairs, which
/// suits the pairs' dependence (Arvesen 1969, Annals of Mathematical Statistics 40:2076) and few replicates, where a
/// bootstrap cannot. Noise of single values shows at both levels, so where replicates hardly vary the interval is longer
/// than it need be (99 % coverage in simulation), never shorter. The standard error of `ln ratio` makes a t interval with
/// Satterthwaite's degrees of freedom over the two levels.
///
/// A single network (one replicate) is taken as it is: the interval is about that network.
///
/// # Errors
/// No network or no pair, lists of different lengths, fewer than two images, a list without a value, negative or non-finite
/// drift, a floor of zero, fewer than 20 resamples, confidence outside (0, 1).
pub fn floor_ratio(
    candidates: &[Candidate],
    floor: &[FloorPair],
    confidence: f64,
    resamples: usize,
    seed: u64,
    name: &str,
) -> Result<FloorRatio> {
    check_open_unit("confidence", confidence)?;
    if resamples < 20 {
        return Err(StatsError::TooFew { what: "resamples", needed: 20, got: resamples });
    }
    let study = Study::new(candidates, floor)?;
    let ones = vec![1.0; study.images];
    let everyone = vec![1.0; study.replicates.len()];
    let (drift, noise) =
        study.means(&everyone, &ones).ok_or(StatsError::Undefined { what: "drift: a list has no value" })?;
    if noise <= 0.0 {
        return Err(StatsError::Undefined { what: "floor: dense replicates do not differ, so there is no unit" });
    }
    let finished = |interval, log_standard_error, degrees_of_freedom| FloorRatio {
        ratio: drift / noise,
        interval,
        drift,
        floor: noise,
        log_standard_error,
        degrees_of_freedom,
        candidate_replicates_varied: study.vary_candidates,
        floor_replicates_varied: study.vary_floor,
    };
    if drift == 0.0 {
        return Ok(finished(Interval { low: 0.0, high: 0.0 }, 0.0, (study.images - 1) as f64));
    }
    let of_replicates = study.jackknife();
    let resampled: Vec<Option<f64>> = chunks(resamples)
        .into_par_iter()
        .flat_map_iter(|(chunk, count)| {
            let mut draws = stream(seed, name, chunk);
            (0..count).map(|_| study.resample_images(&mut draws)).collect::<Vec<_>>()
        })
        .collect();
    let ratios: Vec<f64> = resampled.into_iter().flatten().collect();
    let (Some(of_replicates), true) = (of_replicates, ratios.len() * 10 >= resamples * 9) else {
        return Err(StatsError::Undefined { what: "drift: no value on too many resamples" });
    };
    let of_images = sum_of_squares(&ratios) / (ratios.len() - 1) as f64;
    let freedom = {
        let replicates = (study.replicates.len().max(2) - 1) as f64;
        let parts = of_images * of_images / (study.images - 1) as f64 + of_replicates * of_replicates / replicates;
        if parts > 0.0 { (of_images + of_replicates).powi(2) / parts } else { (study.images - 1) as f64 }
    };
    let error = (of_images + of_replicates).sqrt();
    let reach = student_t_critical(1.0 - confidence, freedom) * error;
    let ratio = drift / noise;
    Ok(finished(Interval { low: ratio * (-reach).exp(), high: ratio * reach.exp() }, error, freedom))
}

struct Study<'a> {
    candidates: &'a [Candidate<'a>],
    floor: &'a [FloorPair<'a>],
    images: usize,
    /// Replicate names, sorted: weights are indexed by position here.
    replicates: Vec<usize>,
    vary_candidates: bool,
    vary_floor: bool,
}

impl<'a> Study<'a> {
    fn new(candidates: &'a [Candidate<'a>], floor: &'a [FloorPair<'a>]) -> Result<Self> {
        for (what, got) in [("networks", candidates.len()), ("floor pairs", floor.len())] {
            if got == 0 {
                return Err(StatsError::TooFew { what, needed: 1, got });
            }
        }
        let images = candidates[0].drift.len();
        if images < 2 {
            return Err(StatsError::TooFew { what: "images", needed: 2, got: images });
        }
        for list in candidates.iter().map(|c| c.drift).chain(floor.iter().map(|f| f.drift)) {
            if list.len() != images {
                return Err(StatsError::LengthMismatch { what: "drift per image", left: images, right: list.len() });
            }
            for &value in list.iter().flatten() {
                if !value.is_finite() || value < 0.0 {
                    return Err(StatsError::OutOfRange { what: "drift", value, range: "[0, ∞)" });
                }
            }
            if list.iter().all(Option::is_none) {
                return Err(StatsError::TooFew { what: "images with a defined drift", needed: 1, got: 0 });
            }
        }
        let distinct = |mut list: Vec<usize>| {
            list.sort_unstable();
            list.dedup();
            list
        };
        let of_candidates = distinct(candidates.iter().map(|c| c.replicate).collect());
        let of_floor = distinct(floor.iter().flat_map(|f| [f.replicates.0, f.replicates.1]).collect());
        let (vary_candidates, vary_floor) = (of_candidates.len() >= 2, of_floor.len() >= 3);
        // A level that does not vary must not weigh in the count of replicates either.
        let mut varied = Vec::new();
        if vary_candidates {
            varied.extend(&of_candidates);
        }
        if vary_floor {
            varied.extend(&of_floor);
        }
        Ok(Study { candidates, floor, images, replicates: distinct(varied), vary_candidates, vary_floor })
    }

    fn weight(&self, weights: &[f64], replicate: usize) -> f64 {
        self.replicates.binary_search(&replicate).map_or(1.0, |i| weights[i])
    }

    /// Mean drift and mean floor under weights of replicates and images; `None` if either has no weight.
    fn means(&self, replicates: &[f64], images: &[f64]) -> Option<(f64, f64)> {
        let of_candidate = |c: &Candidate| {
            if self.vary_candidates { self.weight(replicates, c.replicate) } else { 1.0 }
        };
        let of_pair = |f: &FloorPair| {
            if self.vary_floor {
                self.weight(replicates, f.replicates.0) * self.weight(replicates, f.replicates.1)
            } else {
                1.0
            }
        };
        let drift = weighted(self.candidates.iter().map(|c| (of_candidate(c), c.drift)), images)?;
        let floor = weighted(self.floor.iter().map(|f| (of_pair(f), f.drift)), images)?;
        Some((drift, floor))
    }

    fn log_ratio(&self, replicates: &[f64], images: &[f64]) -> Option<f64> {
        self.means(replicates, images).map(|(drift, floor)| (drift / floor).ln()).filter(|v| v.is_finite())
    }

    /// Variance of `ln ratio` over replicates: `(R - 1) / R · Σ (θ₍ᵣ₎ - mean)²`; zero if no level varies.
    fn jackknife(&self) -> Option<f64> {
        let count = self.replicates.len();
        let images = vec![1.0; self.images];
        let without = |r: usize| (0..count).map(|i| if i == r { 0.0 } else { 1.0 }).collect::<Vec<_>>();
        let left_out: Option<Vec<f64>> = (0..count).map(|r| self.log_ratio(&without(r), &images)).collect();
        left_out.map(|v| sum_of_squares(&v) * (count.max(1) - 1) as f64 / count.max(1) as f64)
    }

    /// `ln ratio` under one draw of images.
    fn resample_images(&self, draws: &mut Stream) -> Option<f64> {
        let mut images = vec![0.0; self.images];
        (0..self.images).for_each(|_| images[below(draws, self.images as u32)] += 1.0);
        self.log_ratio(&vec![1.0; self.replicates.len()], &images)
    }
}

/// Mean over lists, by weight, of their means over images, by weight.
fn weighted<'a>(lists: impl Iterator<Item = (f64, &'a [Option<f64>])>, images: &[f64]) -> Option<f64> {
    let (mut sum, mut mass) = (0.0, 0.0);
    for (weight, list) in lists {
        if weight == 0.0 {
            continue;
        }
        let (mut of_list, mut counted) = (0.0, 0.0);
        for (value, image) in list.iter().zip(images) {
            if let Some(value) = value {
                of_list += image * value;
                counted += image;
            }
        }
        if counted > 0.0 {
            sum += weight * of_list / counted;
            mass += weight;
        }
    }
    (mass > 0.0).then(|| sum / mass)
}

/// The mean of the defined drifts of a list, and how many are undefined.
///
/// # Errors
/// No defined value, or one that is not finite.
pub fn mean_drift(drift: &[Option<f64>]) -> Result<(f64, usize)> {
    let defined: Vec<f64> = drift.iter().copied().flatten().collect();
    super::check("images with a defined drift", &defined, 1)?;
    Ok((mean_unchecked(&defined), drift.len() - defined.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(values: &[f64]) -> Vec<Option<f64>> {
        values.iter().copied().map(Some).collect()
    }

    #[test]
    fn known_ratios() {
        let base: Vec<f64> = (1..=50).map(|i| f64::from(i) / 100.0).collect();
        let (floor, twice) = (some(&base), some(&base.iter().map(|v| 2.0 * v).collect::<Vec<_>>()));
        let zero = some(&[0.0; 50]);
        let pairs = [(0, 1), (0, 2), (1, 2)].map(|replicates| FloorPair { replicates, drift: &floor });
        let run = |drift: &[Option<f64>]| {
            floor_ratio(&[Candidate { replicate: 0, drift }], &pairs, 0.95, 199, 1, "f").unwrap()
        };
        // The same images in both: their variation cancels.
        let double = run(&twice);
        assert!((double.ratio - 2.0).abs() < 1e-12 && double.log_standard_error < 1e-9, "{double:?}");
        assert_eq!((run(&zero).ratio, run(&zero).interval), (0.0, Interval { low: 0.0, high: 0.0 }));
        assert!(!double.candidate_replicates_varied && double.floor_replicates_varied);
        let none = [FloorPair { replicates: (0, 1), drift: &zero }];
        let error = floor_ratio(&[Candidate { replicate: 0, drift: &twice }], &none, 0.95, 199, 1, "f").unwrap_err();
        assert!(matches!(error, StatsError::Undefined { .. }));
    }

    #[test]
    fn undefined_images_are_left_out_and_bad_input_is_named() {
        let list = [Some(0.2), None, Some(0.4)];
        let (mean, undefined) = mean_drift(&list).unwrap();
        assert!((mean - 0.3).abs() < 1e-15 && undefined == 1);
        let none = [None; 3];
        let negative = some(&[0.1, -0.1, 0.2]);
        let run = |c: &[Option<f64>], f: &[Option<f64>]| {
            let pair = FloorPair { replicates: (0, 1), drift: f };
            floor_ratio(&[Candidate { replicate: 0, drift: c }], &[pair], 0.95, 99, 1, "f")
        };
        assert!(run(&list, &list).is_ok_and(|r| r.ratio == 1.0));
        assert!(run(&none, &list).is_err() && run(&list, &negative).is_err() && run(&list, &list[..2]).is_err());
    }
}
