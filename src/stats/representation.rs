//! How alike two networks represent the same images: debiased linear CKA, without a class, a
//! concept or a saliency method.
//!
//! CKA is `HSIC(K, L) / √(HSIC(K, K) HSIC(L, L))` of the Gram matrices `K = A Aᵀ`, `L = B Bᵀ` of
//! the two networks' activations (Kornblith, Norouzi, Lee & Hinton 2019, "Similarity of Neural
//! Network Representations Revisited"). With few images and many features the plain HSIC is far
//! above 0 for unrelated activations, so the unbiased HSIC₁ of Song et al. 2012 (equation 5) stands
//! in its place, as in Nguyen, Raghu & Kornblith 2021, "Do Wide and Deep Networks Learn the Same
//! Things?". HSIC₁ is the inner product of U-centred matrices (Székely & Rizzo 2014, "Partial
//! Distance Correlation with Methods for Dissimilarities", equation 3.1), so debiased CKA is their
//! cosine.

use super::{Result, StatsError, check};

/// Images below which HSIC₁ is undefined: it divides by `n (n − 3)`.
pub const LEAST_IMAGES: usize = 4;
/// A U-centred matrix smaller than this share of what it was centred from is rounding.
const ROUNDING: f64 = 1e-12;

/// The U-centred Gram matrix above its diagonal, row by row, `(n (n − 1) / 2)`, scaled to length 1:
/// all that CKA needs of a network, whatever the number of its features. `gram` `(n, n)` is
/// row-major and symmetric; its diagonal does not count.
///
/// # Errors
/// Fewer than [`LEAST_IMAGES`] images, values that do not fill the matrix or are not finite, or
/// activations that are all alike.
pub fn centred(gram: &[f64], images: usize) -> Result<Vec<f64>> {
    check("Gram matrix", gram, 0)?;
    if images < LEAST_IMAGES {
        return Err(StatsError::TooFew { what: "images", needed: LEAST_IMAGES, got: images });
    }
    if gram.len() != images * images {
        return Err(StatsError::LengthMismatch { what: "Gram matrix", left: gram.len(), right: images * images });
    }
    let n = images as f64;
    let row = |i: usize| &gram[i * images..(i + 1) * images];
    let sums: Vec<f64> = (0..images).map(|i| row(i).iter().sum::<f64>() - row(i)[i]).collect();
    let shift = sums.iter().sum::<f64>() / ((n - 1.0) * (n - 2.0));
    let mut upper = Vec::with_capacity(images * (images - 1) / 2);
    let mut size = 0.0;
    for i in 0..images {
        for (value, sum) in row(i).iter().zip(&sums).skip(i + 1) {
            size += value * value;
            upper.push(value - (sums[i] + sum) / (n - 2.0) + shift);
        }
    }
    let length = upper.iter().map(|value| value * value).sum::<f64>().sqrt();
    if length <= ROUNDING * size.sqrt() {
        return Err(StatsError::ZeroVariance { what: "activations" });
    }
    upper.iter_mut().for_each(|value| *value /= length);
    Ok(upper)
}

/// Debiased linear CKA of two networks from what [`centred`] gives of each: in [−1, 1], 1 for equal
/// Gram matrices, 0 in expectation for unrelated ones; unchanged by a rotation or a positive scale
/// of either's activations.
///
/// # Errors
/// Different lengths, nothing, or a value that is not finite.
pub fn linear_cka<T: Copy + Into<f64>>(first: &[T], second: &[T]) -> Result<f64> {
    if first.len() != second.len() {
        return Err(StatsError::LengthMismatch { what: "images", left: first.len(), right: second.len() });
    }
    if first.is_empty() {
        return Err(StatsError::TooFew { what: "images", needed: LEAST_IMAGES, got: 0 });
    }
    let product: f64 = first.iter().zip(second).map(|(&a, &b)| a.into() * b.into()).sum();
    if !product.is_finite() {
        return Err(StatsError::NotFinite { what: "Gram matrix" });
    }
    Ok(product.clamp(-1.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_distr::{Distribution, StandardNormal};

    /// `(images, features)` normal values; some of the features are those of stream 0, so that
    /// networks have something in common.
    fn activations(index: u64, images: usize, features: usize, common: usize) -> Vec<Vec<f64>> {
        let mut own = crate::seed::stream(7, "representation", index);
        let mut shared = crate::seed::stream(7, "representation/shared", images as u64);
        (0..images)
            .map(|_| {
                let common: Vec<f64> = (0..common).map(|_| StandardNormal.sample(&mut shared)).collect();
                let rest: Vec<f64> = (common.len()..features)
                    .map(|_| 0.5 + <StandardNormal as Distribution<f64>>::sample(&StandardNormal, &mut own))
                    .collect();
                [common, rest].concat()
            })
            .collect()
    }

    fn gram(rows: &[Vec<f64>]) -> Vec<f64> {
        rows.iter().flat_map(|a| rows.iter().map(|b| a.iter().zip(b).map(|(x, y)| x * y).sum())).collect()
    }

    /// Song et al. 2012, equation 5, term by term: `K̃` is `K` with a zero diagonal.
    fn hsic_1(k: &[f64], l: &[f64], n: usize) -> f64 {
        let at = |m: &[f64], i: usize, j: usize| if i == j { 0.0 } else { m[i * n + j] };
        let (mut trace, mut sum_k, mut sum_l, mut between) = (0.0, 0.0, 0.0, 0.0);
        for i in 0..n {
            for j in 0..n {
                trace += at(k, i, j) * at(l, j, i);
                sum_k += at(k, i, j);
                sum_l += at(l, i, j);
                for m in 0..n {
                    between += at(k, i, m) * at(l, m, j);
                }
            }
        }
        let size = n as f64;
        (trace + sum_k * sum_l / ((size - 1.0) * (size - 2.0)) - 2.0 / (size - 2.0) * between) / (size * (size - 3.0))
    }

    #[test]
    fn cka_equals_its_definition() {
        for (n, features, common) in [(4, 3, 1), (5, 40, 3), (12, 7, 7), (30, 200, 20), (40, 6, 2)] {
            let (a, b) = (activations(1, n, features, common), activations(2, n, features + 3, common));
            let (k, l) = (gram(&a), gram(&b));
            let expected = hsic_1(&k, &l, n) / (hsic_1(&k, &k, n) * hsic_1(&l, &l, n)).sqrt();
            let found = linear_cka(&centred(&k, n).unwrap(), &centred(&l, n).unwrap()).unwrap();
            assert!((found - expected).abs() < 1e-9, "{n} images, {features} features: {found} {expected}");
        }
    }

    #[test]
    fn alike_up_to_rotation_and_scale_and_unrelated_ones_near_nothing() {
        let n = 30;
        let rows = activations(3, n, 50, 0);
        // Features in another order and of the other sign, three times as large: a rotation and a scale.
        let turned: Vec<Vec<f64>> =
            rows.iter().map(|row| row.iter().rev().map(|value| -3.0 * value).collect()).collect();
        let of = |rows: &[Vec<f64>]| centred(&gram(rows), n).unwrap();
        assert!((linear_cka(&of(&rows), &of(&turned)).unwrap() - 1.0).abs() < 1e-12);
        // Without the correction, 30 images of 50 unrelated features have a CKA of about 0.6.
        let mean = (0..40)
            .map(|index| {
                let (a, b) = (activations(2 * index + 10, n, 50, 0), activations(2 * index + 11, n, 50, 0));
                linear_cka(&of(&a), &of(&b)).unwrap()
            })
            .sum::<f64>()
            / 40.0;
        assert!(mean.abs() < 0.03, "{mean}");
    }

    #[test]
    fn what_has_no_value_is_named() {
        assert_eq!(centred(&[1.0; 9], 3), Err(StatsError::TooFew { what: "images", needed: 4, got: 3 }));
        assert!(matches!(centred(&[1.0; 15], 4), Err(StatsError::LengthMismatch { .. })));
        assert_eq!(centred(&[f64::NAN; 16], 4), Err(StatsError::NotFinite { what: "Gram matrix" }));
        // Equal activations, of any size.
        for size in [0.0, 1.0, 1e8] {
            assert_eq!(centred(&[size; 25], 5), Err(StatsError::ZeroVariance { what: "activations" }));
        }
        assert!(linear_cka(&[1.0], &[0.5, 0.5]).is_err() && linear_cka::<f64>(&[], &[]).is_err());
    }
}
