//! How concept directions lie to each other: entanglement of concepts, and stability of each over its random sets.

use nalgebra::{DMatrix, DVector};

use super::pairs::PairCavs;

/// A concept's unit CAVs summed up: their mean, as weights of the rows of the Gram matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct MeanCav {
    /// `m = Σ cᵢ aᵢ`, the mean of the unit CAVs against the random sets; `(images)`.
    pub weights: Vec<f64>,
    /// CAVs in it; those without a direction are left out.
    pub count: usize,
}

/// The mean CAV of one concept; `images` is the side of the Gram matrix.
pub fn mean_cav(cavs: &PairCavs, concept: usize, images: usize) -> MeanCav {
    let mut weights = vec![0.0; images];
    let mut count = 0;
    for (_, cav) in cavs.of_concept(concept) {
        if cav.weight_norm > 0.0 {
            count += 1;
            for (&sample, alpha) in cav.samples.iter().zip(&cav.alpha) {
                weights[sample] += alpha / cav.weight_norm;
            }
        }
    }
    weights.iter_mut().for_each(|weight| *weight /= count.max(1) as f64);
    MeanCav { weights, count }
}

/// Cosines between mean CAVs, and each concept's stability.
#[derive(Clone, Debug, PartialEq)]
pub struct Geometry {
    /// Cosine of each pair of concepts' mean CAVs; `None` where one has no direction.
    pub cosines: Vec<Vec<Option<f64>>>,
    /// Mean cosine of the pairs of a concept's own unit CAVs, 1 if the random set makes no difference; from
    /// `|m|² = (1 + (N − 1) c) / N`. `None` with fewer than two CAVs.
    pub stability: Vec<Option<f64>>,
}

/// Cosines and stability from mean CAVs and the Gram matrix `(images, images)` that their weights are rows of.
///
/// # Panics
/// If a mean CAV has not one weight for each image.
pub fn geometry(gram: &DMatrix<f64>, means: &[MeanCav]) -> Geometry {
    let images = means.iter().map(|mean| &mean.weights);
    let vectors: Vec<DVector<f64>> = images.map(|w| DVector::from_column_slice(w)).collect();
    let products: Vec<DVector<f64>> = vectors.iter().map(|vector| gram * vector).collect();
    let squares: Vec<f64> = vectors.iter().zip(&products).map(|(v, p)| v.dot(p)).collect();
    let cosine = |a: usize, b: usize| {
        let norms = (squares[a] * squares[b]).sqrt();
        let directed = means[a].count > 0 && means[b].count > 0 && norms > 0.0;
        directed.then(|| (vectors[a].dot(&products[b]) / norms).clamp(-1.0, 1.0))
    };
    let every = 0..means.len();
    let cosines = every
        .clone()
        // Each pair is computed in one order, so that the matrix is symmetric to the bit.
        .map(|a| every.clone().map(|b| cosine(a.min(b), a.max(b))).collect())
        .collect();
    let stability = every
        .map(|concept| {
            let count = means[concept].count as f64;
            let mean = (count * squares[concept] - 1.0) / (count - 1.0);
            (count >= 2.0).then(|| mean.clamp(-1.0, 1.0))
        })
        .collect();
    Geometry { cosines, stability }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::tcav::cav::{CavKind, cosine, fit};
    use crate::explain::tcav::gram::{Rows, gram};
    use crate::explain::tcav::{Sets, fit_pairs};
    use rand_distr::{Distribution, StandardNormal};

    #[test]
    fn stability_is_the_mean_pairwise_cosine_and_entanglement_the_cosine_of_means() {
        let features = 20;
        let mut draws = crate::seed::stream(1, "geometry", 0);
        let mut values: Vec<f32> = (0..32 * features).map(|_| StandardNormal.sample(&mut draws)).collect();
        // Concept 0 is far along feature 0, concept 1 along feature 0 as well, concept 2 against it.
        for image in 0..12 {
            values[image * features] += if image < 8 { 6.0 } else { -6.0 };
        }
        let gram = gram(Rows::new(&values, features).unwrap()).unwrap();
        let set = |start: usize| (start..start + 4).collect::<Vec<usize>>();
        let sets = Sets { concepts: [0, 4, 8].map(set).to_vec(), random: [12, 16, 20, 24, 28].map(set).to_vec() };
        let design: Vec<(usize, usize)> = (1..=5).map(|random| (0, random)).collect();
        let kind = CavKind::Logistic { c: 1.0 };
        let cavs = fit_pairs(&gram, sets.clone(), &design, kind, 3).unwrap();
        let means: Vec<MeanCav> = (0..3).map(|concept| mean_cav(&cavs, concept, 32)).collect();
        let found = geometry(&gram, &means);
        let own: Vec<_> =
            (sets.random.iter()).map(|random| fit(&gram, &sets.concepts[0], random, kind).unwrap()).collect();
        let mut sum = 0.0;
        for a in 0..5 {
            for b in 0..a {
                sum += cosine(&gram, &own[a], &own[b]).unwrap();
            }
        }
        assert!((found.stability[0].unwrap() - sum / 10.0).abs() < 1e-9);
        let entangled = |a: usize, b: usize| found.cosines[a][b].unwrap();
        assert!((entangled(0, 0) - 1.0).abs() < 1e-12);
        assert!(entangled(0, 1) > 0.7 && entangled(0, 2) < -0.7, "{found:?}");
        assert_eq!(found.cosines[0][2], found.cosines[2][0]);
        let none = MeanCav { weights: vec![0.0; 32], count: 0 };
        let with_none = geometry(&gram, &[means[0].clone(), none]);
        assert_eq!((with_none.cosines[0][1], with_none.stability[1]), (None, None));
    }
}
