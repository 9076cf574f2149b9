//! Concept activation regions (Crabbé & van der Schaar 2022, "Concept Activation Regions: A
//! Generalized Framework for Concept-Based Explanations"): a concept need not lie in one direction,
//! only apart. In sample space, from the same Gram matrix as everything else.
//!
//! The classifier is logistic regression with a radial kernel `exp(−γ |a − b|²)`, `1/γ` the median
//! squared distance of its samples; the paper takes a support vector classifier with the same
//! kernel and the same weight of the loss. Radial kernels see distances alone, so a rotation of the
//! activations changes nothing.

use nalgebra::DMatrix;
use rand::seq::SliceRandom;
use rayon::prelude::*;

use crate::seed::stream;
use crate::stats::logistic::dot;

use super::cav::{Cav, CavKind, CavState, fit_checked};
use super::gram::GramError;
use super::held_out::held_out_checked;
use super::products::{ClassRows, Products, View};

/// The kernel machine, as a CAV in the kernel's space.
const KIND: CavKind = CavKind::Logistic { c: 1.0 };

/// Class images whose products are in memory at once.
const AT_ONCE: usize = 512;

/// Activations of a class's images, as far as a region needs them.
pub struct ClassActivations {
    /// Their products with all concept and random images, `(class images, images)`.
    pub products: Products,
    /// The square of each one's length.
    pub squares: Vec<f64>,
}

/// The region of one concept.
#[derive(Clone, Debug)]
pub struct Region {
    /// Concept images, then as many random ones; rows of the Gram matrix.
    samples: Vec<usize>,
    /// The square of each one's length.
    squares: Vec<f64>,
    gamma: f64,
    machine: Cav,
    /// Share of the samples on their own side, each by the machine of the folds without it.
    pub accuracy: f64,
    /// Label permutation test of that accuracy, `(1 + #{as high}) / (1 + permutations)`.
    pub p_value: f64,
}

impl Region {
    /// The region of `concept` against as many images of `random`, drawn by `(seed, name)`.
    /// `original` gives all copies of an image one number. None where the samples are all alike.
    pub(super) fn fit(
        gram: View<'_>,
        (concept, random): (&[usize], &[usize]),
        original: &(dyn Fn(usize) -> usize + Sync),
        permutations: usize,
        (seed, name): (u64, &str),
    ) -> Result<Option<Self>, GramError> {
        let mut drawn = random.to_vec();
        drawn.shuffle(&mut stream(seed, &format!("region/random/{name}"), 0));
        drawn.truncate(concept.len());
        let samples = [concept, &drawn].concat();
        let gram = gram.square(&samples)?;
        let squares: Vec<f64> = gram.diagonal().iter().copied().collect();
        let n = samples.len();
        let distance = |i: usize, j: usize| (squares[i] + squares[j] - 2.0 * gram[(i, j)]).max(0.0);
        let mut distances: Vec<f64> =
            (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| distance(i, j)).collect();
        distances.sort_by(f64::total_cmp);
        let Some(median) = distances.get(distances.len() / 2).copied().filter(|&median| median > 0.0) else {
            return Ok(None);
        };
        let gamma = 1.0 / median;
        let kernel = DMatrix::from_fn(n, n, |i, j| if i == j { 1.0 } else { (-gamma * distance(i, j)).exp() });
        let (inside, outside): (Vec<usize>, Vec<usize>) = (0..n).partition(|&at| at < concept.len());
        let machine = fit_checked(&kernel, &inside, &outside, KIND);
        if machine.state == CavState::Degenerate {
            return Ok(None);
        }
        let copies = |at: usize| original(samples[at]);
        let accuracy = |inside: &[usize], outside: &[usize]| {
            held_out_checked(&kernel, inside, outside, KIND, seed, &copies).accuracy
        };
        let observed = accuracy(&inside, &outside);
        let reached = (0..permutations as u64)
            .into_par_iter()
            .filter(|&index| {
                let mut order: Vec<usize> = (0..n).collect();
                order.shuffle(&mut stream(seed, &format!("region/{name}"), index));
                let (inside, outside) = order.split_at(concept.len());
                accuracy(inside, outside) >= observed
            })
            .count();
        let p_value = (1 + reached) as f64 / (1 + permutations) as f64;
        Ok(Some(Self { samples, squares, gamma, machine, accuracy: observed, p_value }))
    }

    /// The TCAR score: the share of the class's images whose activation lies in the region (Crabbé
    /// & van der Schaar 2022, definition 2.3).
    ///
    /// # Errors
    /// The class's products cannot be read.
    pub fn score(&self, class: &ClassActivations) -> Result<f64, GramError> {
        let mut squares = class.squares.iter();
        let mut inside = 0;
        for products in ClassRows::from(&class.products).blocks(AT_ONCE) {
            let products = products?;
            for (image, square) in (0..products.nrows()).zip(&mut squares) {
                let kernel: Vec<f64> = (self.samples.iter().zip(&self.squares))
                    .map(|(&row, own)| {
                        let distance = square + own - 2.0 * products[(image, row)];
                        (-self.gamma * distance.max(0.0)).exp()
                    })
                    .collect();
                inside += usize::from(dot(&self.machine.alpha, &kernel) + self.machine.intercept > 0.0);
            }
        }
        Ok(inside as f64 / class.squares.len().max(1) as f64)
    }
}
