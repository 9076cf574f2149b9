//! Integrated gradients (Sundararajan, Taly & Yan 2017, "Axiomatic Attribution for Deep Networks").

use candle_core::Tensor;

use crate::error::Result;

use super::{Input, Map, Method};

/// Input times the mean gradient on the way from a zero image.
pub(super) const INTEGRATED_GRADIENTS: Method = Method {
    name: "integrated-gradients",
    title: "integrated gradients",
    source: "Sundararajan et al. 2017",
    settings: &["steps"],
    map: Map::OnInput(integrated_gradients),
};

/// `x ∫₀¹ ∂logit/∂x (αx) dα` by Gauss–Legendre quadrature with `steps` points. The baseline is zero
/// in the values that the network gets, the mean pixel where images are normalised. The values of
/// an image sum to `logit(x) − logit(0)` but for the quadrature's error.
fn integrated_gradients(input: &Input<'_>) -> Result<Tensor> {
    let points = gauss_legendre(input.settings.steps);
    let mean = input.mean_gradient(points.into_iter().map(|(point, weight)| Ok(((input.images * point)?, weight))))?;
    Ok((input.images * mean)?)
}

/// Points and weights of the Gauss–Legendre rule on [0, 1], exact for polynomials of degree `2 count − 1`.
fn gauss_legendre(count: usize) -> Vec<(f64, f64)> {
    let n = count as f64;
    (0..count)
        .map(|index| {
            // Newton's method on the Legendre polynomial, from Tricomi's estimate of its root.
            let mut x = (std::f64::consts::PI * (index as f64 + 0.75) / (n + 0.5)).cos();
            let mut slope = 1.0;
            for _ in 0..50 {
                let (value, derivative) = legendre(count, x);
                slope = derivative;
                let step = value / slope;
                x -= step;
                if step.abs() < 1e-15 {
                    break;
                }
            }
            (0.5 * (1.0 - x), 1.0 / ((1.0 - x * x) * slope * slope))
        })
        .collect()
}

/// The Legendre polynomial of that degree and its derivative at `x` in (−1, 1).
fn legendre(degree: usize, x: f64) -> (f64, f64) {
    let (mut before, mut value) = (1.0, x);
    for k in 2..=degree {
        let k = k as f64;
        (before, value) = (value, ((2.0 * k - 1.0) * x * value - (k - 1.0) * before) / k);
    }
    (value, degree as f64 * (x * value - before) / (x * x - 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_is_exact_for_polynomials() {
        for count in [1, 2, 3, 10, 50, 200] {
            let points = gauss_legendre(count);
            assert!(points.iter().all(|(point, weight)| (0.0..1.0).contains(point) && *weight > 0.0));
            for degree in [0, 1, count, 2 * count - 1] {
                let found: f64 = points.iter().map(|(point, weight)| weight * point.powi(degree as i32)).sum();
                let exact = 1.0 / (degree as f64 + 1.0);
                assert!((found - exact).abs() < 1e-13, "{count} points, degree {degree}: {found} {exact}");
            }
        }
        // Beyond that degree it is not.
        let found: f64 = gauss_legendre(2).iter().map(|(point, weight)| weight * point.powi(4)).sum();
        assert!((found - 0.2).abs() > 1e-3);
    }
}
