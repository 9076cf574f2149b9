//! Concept activation vectors, found in sample space (Kim et al. 2018, "Interpretability Beyond
//! Feature Attribution", §3.2).
//!
//! A CAV separates the activations of a concept (positive) from counterparts (negative). It lies in
//! the span of its samples, `w = Σ αᵢ aᵢ` with `Σ αᵢ = 0`, so it is kept as `α` and the vector
//! itself is never formed: everything asked of it is a product with the Gram matrix of
//! [`super::gram`].

use nalgebra::DMatrix;
use serde::{Deserialize, Serialize};

use crate::stats::logistic::{self, dot};

use super::gram::GramError;

/// A quantity smaller than this share of the terms it is summed from is rounding, and counts as zero.
pub(super) const ROUNDING: f64 = 1e-13;
/// A residual of the optimality conditions up to this is an optimum.
const CONVERGED: f64 = 1e-8;

/// How a CAV is found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum CavKind {
    /// L2 logistic regression with a free intercept, at the optimum of `½|w|² + C Σ log(1 + exp(-sᵢ(w·aᵢ + b)))`.
    Logistic {
        /// Weight `C` of the loss; 1 is customary.
        c: f64,
    },
    /// `w = μ⁺ - μ⁻`, the difference of the sets' means; the intercept puts the boundary midway between them.
    MeanDifference,
}

/// What came of a fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CavState {
    /// The CAV is at its optimum.
    Solved,
    /// Nothing separates the sets (equal activations, or equal means): `w` is zero, up to rounding,
    /// and has no direction.
    Degenerate,
    /// Rounding kept the solver from the optimum; `kkt_residual` says how far.
    NotConverged,
}

/// A concept activation vector `w = Σ αᵢ aᵢ`, pointing to the positive set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cav {
    /// What came of the fit; every other field is finite in every state.
    pub state: CavState,
    /// Rows of the Gram matrix, `(n)`: the positive set, then the negative.
    pub samples: Vec<usize>,
    /// Weight of each sample in `w`, `(n)`; sums to zero. All zero when degenerate. Where the
    /// samples are affinely dependent (more of them than features, or repeated images), one of
    /// several that give the same `w`.
    pub alpha: Vec<f64>,
    /// Intercept `b` of the decision value `w·a + b`.
    pub intercept: f64,
    /// `|w|`; zero when degenerate.
    pub weight_norm: f64,
    /// `w·aᵢ + b` of each sample, `(n)`.
    pub decision_values: Vec<f64>,
    /// Share of the samples on their own side; a decision value of 0 is on the negative side.
    pub train_accuracy: f64,
    /// Largest violation of the optimum's conditions `w = Σ C sᵢ σ(-sᵢ fᵢ) aᵢ` and
    /// `Σ C sᵢ σ(-sᵢ fᵢ) = 0`, relative to the sizes of the summed terms; 0 for a closed form.
    pub kkt_residual: f64,
}

/// What can be wrong with a request for CAVs.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CavError {
    /// A set has too few images.
    #[error("{set}: {found} images, at least {needed} needed")]
    TooFewImages {
        /// Which set.
        set: String,
        /// Images in it.
        found: usize,
        /// Images needed.
        needed: usize,
    },
    /// An image index beyond the Gram matrix.
    #[error("{set}: image {index} of {images} does not exist")]
    NoSuchImage {
        /// Which set.
        set: String,
        /// The index.
        index: usize,
        /// Images in the Gram matrix.
        images: usize,
    },
    /// An image twice in one set: it could be trained on and held out at once.
    #[error("{set}: image {index} is in the set twice")]
    RepeatedImage {
        /// Which set.
        set: String,
        /// The index.
        index: usize,
    },
    /// The weight of the loss is not a positive number.
    #[error("c: {0} is not a positive number")]
    LossWeight(f64),
    /// Fewer random sets than the comparison needs.
    #[error("random sets: {found}, at least {needed} needed")]
    TooFewRandomSets {
        /// Sets given.
        found: usize,
        /// Sets needed.
        needed: usize,
    },
    /// A pair of the design names a member that does not exist, or pairs a member with itself.
    #[error("design: pair ({0}, {1}) is not of two different members below {2}")]
    Design(usize, usize, usize),
    /// The class gradients' products do not fit the Gram matrix, or there are none.
    #[error("class gradients: products of {rows} x {columns}, expected at least 1 x {images}")]
    Gradients {
        /// Class images.
        rows: usize,
        /// Images they were multiplied with.
        columns: usize,
        /// Images in the Gram matrix.
        images: usize,
    },
    /// Every random image is also in the concept.
    #[error("concept {0}: no random image lies outside the concept")]
    NoRandomImage(usize),
    /// Products cannot be read.
    #[error(transparent)]
    Products(#[from] GramError),
}

/// The CAV of `positive` against `negative`, rows of the Gram matrix `gram` `(images, images)`. The
/// sets may differ in size and share images.
///
/// # Errors
/// An empty set, an index that does not exist or is repeated, or a `c` that is not positive.
pub fn fit(gram: &DMatrix<f64>, positive: &[usize], negative: &[usize], kind: CavKind) -> Result<Cav, CavError> {
    check_set("positive set", positive, gram.nrows(), 1)?;
    check_set("negative set", negative, gram.nrows(), 1)?;
    check_kind(kind)?;
    Ok(fit_checked(gram, positive, negative, kind))
}

/// [`fit`] on checked input.
pub(super) fn fit_checked(gram: &DMatrix<f64>, positive: &[usize], negative: &[usize], kind: CavKind) -> Cav {
    let samples: Vec<usize> = positive.iter().chain(negative).copied().collect();
    let n = samples.len();
    let signs: Vec<f64> = (0..n).map(|i| if i < positive.len() { 1.0 } else { -1.0 }).collect();
    let (positives, negatives) = (positive.len() as f64, negative.len() as f64);
    let share: Vec<f64> = signs.iter().map(|s| if *s > 0.0 { 1.0 / positives } else { -1.0 / negatives }).collect();
    let (kernel, means) = centred(gram, &samples);
    let squared_length = |i: usize| gram[(i, i)].max(0.0);
    let longest = samples.iter().map(|&i| squared_length(i)).fold(0.0, f64::max);

    let mean_projections: Vec<f64> = kernel.chunks_exact(n).map(|row| dot(row, &share)).collect();
    let distance_squared = dot(&share, &mean_projections);
    let mean_length: f64 = share.iter().zip(&samples).map(|(share, &i)| share.abs() * squared_length(i).sqrt()).sum();
    // The optimum is w = 0 exactly where the means are equal.
    let (state, alpha, weight_norm, centred_intercept, projections, kkt_residual) =
        if distance_squared <= ROUNDING * mean_length * mean_length {
            let log_odds = match kind {
                CavKind::Logistic { .. } => (positives / negatives).ln(),
                CavKind::MeanDifference => 0.0,
            };
            let zero = vec![0.0; n];
            (CavState::Degenerate, zero.clone(), 0.0, log_odds, zero, 0.0)
        } else if let CavKind::Logistic { c } = kind {
            let rounding = 4.0 * f64::EPSILON * n as f64 * longest;
            let found = logistic::solve(&kernel, &signs, c, rounding);
            let solved = found.converged && found.residual <= CONVERGED;
            (
                if solved { CavState::Solved } else { CavState::NotConverged },
                found.alpha,
                found.weight_norm,
                found.intercept,
                found.projections,
                found.residual,
            )
        } else {
            let (upper, lower) = mean_projections.split_at(positive.len());
            let midpoint = 0.5 * (upper.iter().sum::<f64>() / positives + lower.iter().sum::<f64>() / negatives);
            (CavState::Solved, share, distance_squared.sqrt(), -midpoint, mean_projections, 0.0)
        };

    let decision_values: Vec<f64> = projections.iter().map(|p| p + centred_intercept).collect();
    let right = signs.iter().zip(&decision_values).filter(|(s, f)| (**f > 0.0) == (**s > 0.0)).count();
    Cav {
        state,
        // Centring moved the origin to the samples' mean; its product with w moves it back.
        intercept: centred_intercept - dot(&alpha, &means),
        samples,
        alpha,
        weight_norm,
        decision_values,
        train_accuracy: right as f64 / n as f64,
        kkt_residual,
    }
}

/// The Gram matrix of the samples about their mean, row-major, and each sample's product with that mean.
///
/// The intercept is free, so moving the origin changes nothing but the intercept; without it the
/// common part of the activations (up to 10⁶ times the part that separates) would swamp the solver.
fn centred(gram: &DMatrix<f64>, samples: &[usize]) -> (Vec<f64>, Vec<f64>) {
    let n = samples.len();
    let mut kernel: Vec<f64> = Vec::with_capacity(n * n);
    for &column in samples {
        // The matrix is symmetric, and its columns are contiguous.
        let column = gram.column(column);
        kernel.extend(samples.iter().map(|&row| column[row]));
    }
    let means: Vec<f64> = kernel.chunks_exact(n).map(|row| row.iter().sum::<f64>() / n as f64).collect();
    let mean = means.iter().sum::<f64>() / n as f64;
    for (row, row_mean) in kernel.chunks_exact_mut(n).zip(&means) {
        for (value, column_mean) in row.iter_mut().zip(&means) {
            *value += mean - row_mean - column_mean;
        }
    }
    (kernel, means)
}

/// Refuses sets with fewer than `needed` images, unknown images or an image twice.
pub(super) fn check_set(set: &str, indices: &[usize], images: usize, needed: usize) -> Result<(), CavError> {
    let set = set.to_owned();
    if indices.len() < needed {
        let found = indices.len();
        return Err(CavError::TooFewImages { set, found, needed });
    }
    if let Some(&index) = indices.iter().find(|index| **index >= images) {
        return Err(CavError::NoSuchImage { set, index, images });
    }
    let mut sorted = indices.to_vec();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(CavError::RepeatedImage { set, index: pair[0] }),
        None => Ok(()),
    }
}

/// Refuses a loss weight that is not a positive number.
pub(super) fn check_kind(kind: CavKind) -> Result<(), CavError> {
    match kind {
        CavKind::Logistic { c } if !(c > 0.0 && c.is_finite()) => Err(CavError::LossWeight(c)),
        _ => Ok(()),
    }
}

/// The cosine between two CAVs of one checkpoint and stage, in [-1, 1]: their entanglement (two
/// concepts) or stability (one concept, two random sets). `None` where one of them has no
/// direction.
pub fn cosine(gram: &DMatrix<f64>, a: &Cav, b: &Cav) -> Option<f64> {
    if a.weight_norm == 0.0 || b.weight_norm == 0.0 {
        return None;
    }
    let mut product = 0.0;
    for (&row, alpha) in a.samples.iter().zip(&a.alpha) {
        let column = gram.column(row);
        let inner: f64 = b.samples.iter().zip(&b.alpha).map(|(&i, beta)| beta * column[i]).sum();
        product += alpha * inner;
    }
    Some((product / (a.weight_norm * b.weight_norm)).clamp(-1.0, 1.0))
}

/// `w·a + b` of any image of the Gram matrix.
pub(super) fn decision_value(gram: &DMatrix<f64>, cav: &Cav, image: usize) -> f64 {
    let column = gram.column(image);
    let projection: f64 = cav.samples.iter().zip(&cav.alpha).map(|(&i, alpha)| alpha * column[i]).sum();
    projection + cav.intercept
}
