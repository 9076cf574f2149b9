//! One CAV from the whole random pool, for the concept and for every random set in its place.
//!
//! The direction is PatternCAV's (Pahde et al. 2025, "Navigating Neural Space"; Haufe et al. 2014): the covariance of activations and labels
//! over the labels' variance, which for two sets is the difference of their means. It is against all other sets pooled, not one at a
//! time: with many random images the direction's error is that of the concept set alone.

use nalgebra::DMatrix;

use crate::error::{Result, undefined};
use crate::explain::tcav::cav::ROUNDING;
use crate::stats::StatsError;

/// One member of the family: the concept, or a random set in its place.
pub struct Member {
    /// `S = g·(μ_member − μ_others)` of each class image, in logits; 0 where it is within rounding of 0.
    pub sensitivity: Vec<f64>,
    /// Standard error of each, over the images of the member and of the others.
    pub error: Vec<f64>,
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

/// The concept first, then the random sets, all of them columns of `cross` `(class images, images)`. Each is compared with the union of all
/// others, so that all are treated alike.
pub fn members(cross: &DMatrix<f64>, concept: &[usize], random: &[Vec<usize>]) -> Vec<Member> {
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
    let member = |own: &Sums| {
        let mut others = all.clone();
        others.add(own, -1.0);
        let (mut sensitivity, mut error) = (Vec::with_capacity(class_images), Vec::with_capacity(class_images));
        for at in 0..class_images {
            let difference = own.sum[at] / own.images - others.sum[at] / others.images;
            let terms = own.magnitude[at] / own.images + all.magnitude[at] / others.images;
            sensitivity.push(if difference.abs() <= ROUNDING * terms { 0.0 } else { difference });
            error.push((own.variance(at) / own.images + others.variance(at) / others.images).sqrt());
        }
        Member { sensitivity, error }
    };
    sets.iter().map(member).collect()
}

/// Whether the concept's score stands out among those of the random sets in its place: `(1 + #{|random − ½| >= |concept − ½|}) / (N + 1)`.
/// Scores in [0, 1], the concept's first, ½ where nothing is said.
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
