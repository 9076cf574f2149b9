//! L2 logistic regression with a free intercept, solved in sample space.
//!
//! The centred Gram matrix `K` of n samples gives each of them coordinates `x` in the span of all,
//! `K = X Xᵀ` (a pivoted Cholesky factor, so at most n - 1 of them); there the objective
//! `½|w|² + C Σ log(1 + exp(-sᵢ fᵢ))`, `f = X w + b`, is minimised by Newton's method.
//!
//! Newton's method on the samples' weights `α = C s σ(-s f)` instead would be a little cheaper, but
//! where the sets overlap or share images, `w = Σ αᵢ xᵢ` is what remains of large terms that
//! cancel, and with large activations nothing remains. Here `w` is found directly, and `α` from it,
//! no larger than needed.

use nalgebra::DMatrix;

/// Newton steps before giving up; usual problems take about eight.
const STEPS: usize = 100;
/// A step that changes every decision value by no more than this share is the last: the next would change its square.
const LAST_STEP: f64 = 1e-9;

/// The optimum found by [`solve`].
pub struct Solution {
    /// Weight of each sample in `w = Σ αᵢ xᵢ`; sums to zero.
    pub alpha: Vec<f64>,
    /// `|w|`.
    pub weight_norm: f64,
    /// Intercept for centred samples.
    pub intercept: f64,
    /// `w·xᵢ`: the samples' decision values without the intercept.
    pub projections: Vec<f64>,
    /// Largest violation of `w = Σ C sᵢ σ(-sᵢ fᵢ) xᵢ` and `0 = Σ C sᵢ σ(-sᵢ fᵢ)`, relative to the
    /// sizes of the summed terms.
    pub residual: f64,
    /// Whether the last step was within rounding.
    pub converged: bool,
}

/// Minimises the objective of the module for the centred, row-major Gram matrix `kernel` `(n, n)`
/// and labels `signs` `(n)`, ±1, both present. Squared lengths up to `rounding` count as zero.
pub fn solve(kernel: &[f64], signs: &[f64], c: f64, rounding: f64) -> Solution {
    let n = signs.len();
    let Coordinates { rows, pivots } = coordinates(kernel, n, rounding);
    let rank = pivots.len();
    let (mut w, mut b) = start(&rows, signs, c);
    let mut projections = project(&rows, &w, n);
    let mut converged = false;
    let mut scaled = DMatrix::zeros(n, rank + 1);
    let mut hessian = DMatrix::zeros(rank + 1, rank + 1);
    for _ in 0..STEPS {
        let decision: Vec<f64> = projections.iter().map(|p| p + b).collect();
        // Minus the gradient, the intercept last.
        let alpha = pulls(signs, &decision, c);
        let mut step: Vec<f64> = rows.chunks_exact(n).zip(&w).map(|(row, w)| dot(row, &alpha) - w).collect();
        step.push(alpha.iter().sum());

        // Hessian: I + XᵀDX, bordered by the intercept's Xᵀ D 1 and Σ D.
        let root: Vec<f64> = decision.iter().map(|f| (c * logistic(*f) * logistic(-f)).sqrt()).collect();
        // Column k of `scaled` is coordinate k times √D of every sample, the last column √D itself.
        for (k, mut column) in scaled.column_iter_mut().enumerate() {
            if k < rank {
                let row = &rows[k * n..(k + 1) * n];
                for ((s, x), r) in column.iter_mut().zip(row).zip(&root) {
                    *s = x * r;
                }
            } else {
                column.copy_from_slice(&root);
            }
        }
        hessian.gemm(1.0, &scaled.transpose(), &scaled, 0.0);
        for k in 0..rank {
            hessian[(k, k)] += 1.0;
        }
        if !factorise(hessian.as_mut_slice(), rank + 1) {
            break;
        }
        substitute(hessian.as_slice(), &mut step);
        let step_b = step.pop().unwrap_or(0.0);
        let change: Vec<f64> = project(&rows, &step, n).iter().map(|p| p + step_b).collect();

        let size = largest(&change) / largest(&decision).max(1.0);
        if !size.is_finite() {
            break;
        }
        converged = size <= LAST_STEP;
        let eta = if converged {
            1.0
        } else {
            let (linear, quadratic) = (dot(&w, &step), dot(&step, &step));
            line_search(|eta| {
                let moved: Vec<f64> = zip(&decision, &change, |f, d| f + eta * d);
                linear + eta * quadratic - dot(&pulls(signs, &moved, c), &change)
            })
        };
        for (w, s) in w.iter_mut().zip(&step) {
            *w += eta * s;
        }
        b += eta * step_b;
        projections = project(&rows, &w, n);
        if converged {
            break;
        }
    }

    let decision: Vec<f64> = projections.iter().map(|p| p + b).collect();
    let residual = residual(&rows, &w, &pulls(signs, &decision, c));
    Solution {
        alpha: combination(&rows, &pivots, &w, n),
        weight_norm: dot(&w, &w).sqrt(),
        intercept: b,
        projections,
        residual,
        converged,
    }
}

/// The samples in an orthonormal basis of their span.
struct Coordinates {
    /// Row-major `(rank, n)`: coordinate k of every sample. Zero at the pivots before k.
    rows: Vec<f64>,
    /// The sample that spans each new dimension.
    pivots: Vec<usize>,
}

/// Pivoted Cholesky factor of `kernel` `(n, n)`, up to the remainder `rounding` (Higham 1990,
/// "Analysis of the Cholesky Decomposition of a Semi-definite Matrix").
fn coordinates(kernel: &[f64], n: usize, rounding: f64) -> Coordinates {
    let mut rows: Vec<f64> = Vec::with_capacity(n * n);
    let mut pivots: Vec<usize> = Vec::with_capacity(n);
    let mut rest: Vec<f64> = (0..n).map(|i| kernel[i * n + i]).collect();
    while pivots.len() < n {
        let pivot = (1..n).fold(0, |best, i| if rest[i] > rest[best] { i } else { best });
        if rest[pivot] <= rounding || rest[pivot].is_nan() {
            break;
        }
        let mut row = kernel[pivot * n..(pivot + 1) * n].to_vec();
        for earlier in rows.chunks_exact(n) {
            let factor = earlier[pivot];
            for (value, e) in row.iter_mut().zip(earlier) {
                *value -= factor * e;
            }
        }
        let length = rest[pivot].sqrt();
        for ((value, rest), i) in row.iter_mut().zip(&mut rest).zip(0..n) {
            *value /= length;
            if i == pivot {
                *value = length;
            }
            *rest -= *value * *value;
        }
        for &done in &pivots {
            row[done] = 0.0;
        }
        rest[pivot] = f64::NEG_INFINITY;
        pivots.push(pivot);
        rows.extend(row);
    }
    Coordinates { rows, pivots }
}

/// Weights of the samples, summing to zero, with `Σ αᵢ xᵢ = w`: on the pivots, whose coordinates
/// are triangular, less their mean (the samples are centred, so a constant adds nothing). Where the
/// samples are affinely independent this is the only solution, `C s σ(-s f)`.
fn combination(rows: &[f64], pivots: &[usize], w: &[f64], n: usize) -> Vec<f64> {
    let mut alpha = vec![0.0; n];
    for (k, row) in rows.chunks_exact(n).enumerate().rev() {
        let later: f64 = pivots[k + 1..].iter().map(|&p| alpha[p] * row[p]).sum();
        alpha[pivots[k]] = (w[k] - later) / row[pivots[k]];
    }
    let mean = alpha.iter().sum::<f64>() / n as f64;
    alpha.iter_mut().for_each(|alpha| *alpha -= mean);
    alpha
}

/// See [`Solution::residual`]; `alpha` are the pulls at the solution.
fn residual(rows: &[f64], w: &[f64], alpha: &[f64]) -> f64 {
    let total: f64 = alpha.iter().map(|a| a.abs()).sum();
    let (mut gap, mut terms) = (0.0f64, f64::MIN_POSITIVE);
    for (row, w) in rows.chunks_exact(alpha.len()).zip(w) {
        gap = gap.max((dot(row, alpha) - w).abs());
        terms = terms.max(zip(row, alpha, |x, a| (x * a).abs()).iter().sum());
    }
    (gap / terms).max(alpha.iter().sum::<f64>().abs() / total)
}

/// The optimum among the multiples of the difference of means: a two-parameter problem that brings
/// the decision values to their final size, so that neither huge nor tiny activations strain the
/// full problem. Returns `(w, b)`.
fn start(rows: &[f64], signs: &[f64], c: f64) -> (Vec<f64>, f64) {
    let n = signs.len();
    let positive = signs.iter().filter(|s| **s > 0.0).count() as f64;
    let negative = n as f64 - positive;
    let share: Vec<f64> = signs.iter().map(|s| if *s > 0.0 { 1.0 / positive } else { -1.0 / negative }).collect();
    let mut direction: Vec<f64> = rows.chunks_exact(n).map(|row| dot(row, &share)).collect();
    let norm = dot(&direction, &direction).sqrt();
    let scale = if norm > 0.0 { 1.0 / norm } else { 0.0 };
    direction.iter_mut().for_each(|u| *u *= scale);
    let projection = project(rows, &direction, n);

    let (mut t, mut b) = (0.0, 0.0);
    for _ in 0..STEPS {
        // Gradient and Hessian of ½t² + C Σ log(1 + exp(-s(t h + b))).
        let (mut gt, mut gb, mut htt, mut htb, mut hbb) = (t, 0.0, 1.0, 0.0, 0.0);
        for (s, h) in signs.iter().zip(&projection) {
            let f = t * h + b;
            let pull = c * s * logistic(-s * f);
            let weight = c * logistic(f) * logistic(-f);
            gt -= pull * h;
            gb -= pull;
            htt += weight * h * h;
            htb += weight * h;
            hbb += weight;
        }
        let determinant = htt * hbb - htb * htb;
        let dt = (htb * gb - hbb * gt) / determinant;
        let db = (htb * gt - htt * gb) / determinant;
        if !(dt.is_finite() && db.is_finite()) {
            break;
        }
        let eta = line_search(|eta| {
            let (t, b) = (t + eta * dt, b + eta * db);
            let mut slope = t * dt;
            for (s, h) in signs.iter().zip(&projection) {
                slope -= c * s * logistic(-s * (t * h + b)) * (h * dt + db);
            }
            slope
        });
        t += eta * dt;
        b += eta * db;
        // A start needs no digits.
        if dt.abs() <= 1e-2 * t.abs() && db.abs() <= 1e-2 * b.abs().max(1.0) {
            break;
        }
    }
    direction.iter_mut().for_each(|u| *u *= t);
    (direction, b)
}

/// A step length at which the slope of a convex function is at most half its slope at 0 in size; 1 where that will do.
fn line_search(slope: impl Fn(f64) -> f64) -> f64 {
    let target = 0.5 * slope(0.0).abs();
    let (mut low, mut high, mut eta) = (0.0, f64::INFINITY, 1.0);
    for _ in 0..60 {
        let now = slope(eta);
        if now.abs() <= target {
            break;
        }
        if now < 0.0 {
            low = eta;
        } else {
            high = eta;
        }
        eta = if high.is_finite() { 0.5 * (low + high) } else { 2.0 * eta };
    }
    eta
}

/// `C s σ(-s f)`: how hard each sample pulls `w` towards itself (positive) or away.
fn pulls(signs: &[f64], decision: &[f64], c: f64) -> Vec<f64> {
    zip(signs, decision, |s, f| c * s * logistic(-s * f))
}

/// `1 / (1 + exp(-x))`, to full relative precision in both tails.
fn logistic(x: f64) -> f64 {
    let tail = (-x.abs()).exp();
    if x >= 0.0 { 1.0 / (1.0 + tail) } else { tail / (1.0 + tail) }
}

/// `w·xᵢ` of every sample, from the row-major coordinates `(rank, n)`.
fn project(rows: &[f64], w: &[f64], n: usize) -> Vec<f64> {
    let mut sum = vec![0.0; n];
    for (row, w) in rows.chunks_exact(n).zip(w) {
        for (sum, x) in sum.iter_mut().zip(row) {
            *sum += w * x;
        }
    }
    sum
}

fn zip(a: &[f64], b: &[f64], f: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| f(*a, *b)).collect()
}

fn largest(values: &[f64]) -> f64 {
    // Not `max`, which would drop a NaN.
    values.iter().fold(0.0, |top, v| if v.abs() <= top { top } else { v.abs() })
}

/// Inner product with eight partial sums, which the compiler can keep in vector registers.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (left, right) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = left.remainder().iter().zip(right.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in left.zip(right) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f64>() + rest
}

/// The Cholesky factor of the lower triangle of `matrix` `(n, n)`, row-major, in place; false if
/// rounding made it indefinite.
fn factorise(matrix: &mut [f64], n: usize) -> bool {
    for i in 0..n {
        let (done, rest) = matrix.split_at_mut(i * n);
        let row = &mut rest[..n];
        for (j, above) in done.chunks_exact(n).enumerate() {
            row[j] = (row[j] - dot(&row[..j], &above[..j])) / above[j];
        }
        let pivot = row[i] - dot(&row[..i], &row[..i]);
        if !(pivot > 0.0 && pivot.is_finite()) {
            return false;
        }
        row[i] = pivot.sqrt();
    }
    true
}

/// Solves `L Lᵀ x = x` in place.
fn substitute(factor: &[f64], x: &mut [f64]) {
    let n = x.len();
    for i in 0..n {
        let row = &factor[i * n..i * n + i + 1];
        x[i] = (x[i] - dot(&row[..i], &x[..i])) / row[i];
    }
    for i in (0..n).rev() {
        let row = &factor[i * n..i * n + i + 1];
        let value = x[i] / row[i];
        x[i] = value;
        for (x, l) in x[..i].iter_mut().zip(row) {
            *x -= l * value;
        }
    }
}
