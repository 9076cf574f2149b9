//! One CAV from the whole random pool, for the concept and for every random set in its place.
//!
//! The direction is PatternCAV's (Pahde et al. 2025, "Navigating Neural Space"; Haufe et al. 2014):
//! the covariance of activations and labels over the labels' variance, which for two sets is the
//! difference of their means. It is against all other sets pooled, not one at a time: with many
//! random images the direction's error is that of the concept set alone.

use nalgebra::DMatrix;

use crate::error::{Result, undefined};
use crate::explain::tcav::cav::ROUNDING;
use crate::stats::StatsError;
use crate::stats::exchangeability::PairScore;
use crate::stats::special::normal_cdf;

/// One member of the family, the concept or a random set in its place, and what its sensitivities
/// add up to over the class images.
///
/// `S = g·(μ_member − μ_others)` of a class image, in logits; 0 where it is within rounding of 0.
#[derive(Clone, Debug, Default)]
pub struct Member {
    class_images: usize,
    positive: usize,
    zero: usize,
    smooth: f64,
}

impl Member {
    /// Share of class images with a positive sensitivity, and with none.
    pub(super) fn score(&self) -> PairScore {
        let share = |count: usize| count as f64 / self.class_images.max(1) as f64;
        PairScore { score: share(self.positive), ties: share(self.zero) }
    }

    /// Mean over the class images of [`smooth_sign`].
    pub(super) fn smooth_score(&self) -> f64 {
        self.smooth / self.class_images.max(1) as f64
    }

    /// Adds a class image. `error` is the standard error of its sensitivity, over the images of the
    /// member and of the others.
    fn add(&mut self, sensitivity: f64, error: f64) {
        self.class_images += 1;
        self.positive += usize::from(sensitivity > 0.0);
        self.zero += usize::from(sensitivity == 0.0);
        self.smooth += smooth_sign(sensitivity, error);
    }
}

/// `Φ(S / σ)`; where σ is 0, by the sign of S.
fn smooth_sign(sensitivity: f64, error: f64) -> f64 {
    match (sensitivity == 0.0, error > 0.0) {
        (true, _) => 0.5,
        (false, true) => normal_cdf(sensitivity / error),
        (false, false) => f64::from(u8::from(sensitivity > 0.0)),
    }
}

/// Sums over the images of a set, by class image.
#[derive(Clone)]
struct Sums {
    images: f64,
    sum: Vec<f64>,
    squares: Vec<f64>,
    magnitude: Vec<f64>,
}

impl Sums {
    fn none(class_images: usize) -> Self {
        let zero = vec![0.0; class_images];
        Self { images: 0.0, sum: zero.clone(), squares: zero.clone(), magnitude: zero }
    }

    /// Adds `sign` times the sums of other images.
    fn add(&mut self, other: &Self, sign: f64) {
        self.images += sign * other.images;
        for (own, of) in
            [(&mut self.sum, &other.sum), (&mut self.squares, &other.squares), (&mut self.magnitude, &other.magnitude)]
        {
            own.iter_mut().zip(of).for_each(|(own, of)| *own += sign * of);
        }
    }

    /// Variance (n − 1) of the products with one class image; 0 with one image.
    fn variance(&self, at: usize) -> f64 {
        let spread = self.squares[at] - self.sum[at] * self.sum[at] / self.images;
        if self.images > 1.0 { spread.max(0.0) / (self.images - 1.0) } else { 0.0 }
    }
}

/// The members of the family, the concept first, from the products `(class images, images)` of all class images.
pub fn members(cross: &DMatrix<f64>, concept: &[usize], random: &[Vec<usize>]) -> Vec<Member> {
    let mut members = vec![Member::default(); 1 + random.len()];
    add_to_members(&mut members, cross, concept, random);
    members
}

/// The concept first, then the random sets, all of them columns of `cross`
/// `(class images, images)`. Each is compared with the union of all others, so that all are treated
/// alike. The class images of `cross` are added to `members`, in that order.
pub(in crate::explain::tcav) fn add_to_members(
    members: &mut [Member],
    cross: &DMatrix<f64>,
    concept: &[usize],
    random: &[Vec<usize>],
) {
    let class_images = cross.nrows();
    let of = |images: &[usize]| {
        let mut sums = Sums::none(class_images);
        sums.images = images.len() as f64;
        for &image in images {
            for (at, &product) in cross.column(image).iter().enumerate() {
                sums.sum[at] += product;
                sums.squares[at] += product * product;
                sums.magnitude[at] += product.abs();
            }
        }
        sums
    };
    let sets: Vec<Sums> = std::iter::once(concept).chain(random.iter().map(Vec::as_slice)).map(of).collect();
    let mut all = Sums::none(class_images);
    sets.iter().for_each(|sums| all.add(sums, 1.0));
    for (member, own) in members.iter_mut().zip(&sets) {
        let mut others = all.clone();
        others.add(own, -1.0);
        for at in 0..class_images {
            let difference = own.sum[at] / own.images - others.sum[at] / others.images;
            let terms = own.magnitude[at] / own.images + all.magnitude[at] / others.images;
            let sensitivity = if difference.abs() <= ROUNDING * terms { 0.0 } else { difference };
            member.add(sensitivity, (own.variance(at) / own.images + others.variance(at) / others.images).sqrt());
        }
    }
}

/// Whether the concept's score stands out among those of the random sets in its place:
/// `(1 + #{|random − ½| >= |concept − ½|}) / (N + 1)`. Scores in [0, 1], the concept's first, ½
/// where nothing is said.
pub(super) fn exchangeability_p(scores: &[f64]) -> Result<f64> {
    /// Closer ones are tied, which counts against the concept.
    const TIE: f64 = 1e-12;
    let [concept, random @ ..] = scores else {
        return Err(undefined("pool score")(StatsError::TooFew { what: "sets", needed: 3, got: 0 }));
    };
    let from_half = |score: &f64| (score - 0.5).abs();
    let reached = random.iter().filter(|score| from_half(score) >= from_half(concept) - TIE).count();
    Ok((1 + reached) as f64 / (1 + random.len()) as f64)
}
