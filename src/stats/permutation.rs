//! The concept effect's test: labels permuted over the pooled images.
//!
//! The effect is a difference of means, `Δ = mean(concept) - mean(random)`, of the scalars `ḡ·a_i`.
//! If membership in the concept does not matter, all divisions of the pooled images into sets of
//! these sizes are equally likely, so the share of divisions with a difference at least as large is
//! an exact p-value (Fisher 1935; Ernst 2004, Statistical Science 19:676).

use super::descriptive::{require_variation, sorted};
use super::{Result, StatsError, check};
use crate::seed::{Stream, stream};
use rand::RngCore;
use rayon::prelude::*;
use serde::Serialize;

/// Permutations drawn when nothing else is asked for: p-values down to 1/10,000.
pub const DEFAULT_PERMUTATIONS: usize = 9_999;

/// Permutations per random stream: fixed, so that results do not depend on the number of threads.
pub(crate) const CHUNK: usize = 512;

/// How a permutation p-value came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "method", rename_all = "snake_case")]
pub enum Method {
    /// Every arrangement was visited: `p = #{|Δ*| >= |Δ|} / arrangements`, the observed one among them.
    Exact {
        /// Number of arrangements.
        arrangements: u64,
    },
    /// Arrangements were drawn: `p = (1 + #{|Δ*| >= |Δ|}) / (1 + permutations)` (Phipson & Smyth 2010), which holds its
    /// level for any number of permutations.
    MonteCarlo {
        /// Number of draws.
        permutations: u64,
    },
}

/// Result of a permutation test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PermutationTest {
    /// The observed statistic.
    pub statistic: f64,
    /// Two-sided p-value.
    pub p_value: f64,
    /// Arrangements at least as extreme as the observed one (the observed one not counted when drawn).
    pub extreme: u64,
    /// The smallest p-value this test could have given, whatever the values.
    pub smallest_p: f64,
    /// Whether arrangements were enumerated or drawn.
    #[serde(flatten)]
    pub method: Method,
}

impl PermutationTest {
    pub(crate) fn exact(statistic: f64, extreme: u64, arrangements: u64, smallest: u64) -> Self {
        PermutationTest {
            statistic,
            p_value: extreme as f64 / arrangements as f64,
            extreme,
            smallest_p: smallest as f64 / arrangements as f64,
            method: Method::Exact { arrangements },
        }
    }

    pub(crate) fn drawn(statistic: f64, extreme: u64, permutations: usize) -> Self {
        let permutations = permutations as u64;
        let share = |count: u64| (1 + count) as f64 / (1 + permutations) as f64;
        let method = Method::MonteCarlo { permutations };
        PermutationTest { statistic, p_value: share(extreme), extreme, smallest_p: share(0), method }
    }
}

/// Two-sided label permutation test of `mean(concept) - mean(random)`.
///
/// Draws `permutations` divisions from the streams `(seed, name, 0..)`, or visits all of them if there are no more than
/// that. The values are sorted first, so their order within a set does not matter, nor which set comes first, nor the
/// number of threads. Differences that are equal but for rounding count as equal.
///
/// # Errors
/// An empty set, a value that is not finite, all values equal, or no permutations.
///
/// ```
/// use ticketlens_stats::permutation::{DEFAULT_PERMUTATIONS, label_permutation};
/// let concept: Vec<f64> = (0..30).map(|i| 1.0 + f64::from(i) / 30.0).collect();
/// let random: Vec<f64> = (0..300).map(|i| f64::from(i) / 300.0).collect();
/// let test = label_permutation(&concept, &random, DEFAULT_PERMUTATIONS, 7, "effect/striped")?;
/// assert!((test.statistic - 0.985).abs() < 1e-9);
/// assert_eq!(test.p_value, 1e-4);
/// # Ok::<(), ticketlens_stats::StatsError>(())
/// ```
pub fn label_permutation(
    concept: &[f64],
    random: &[f64],
    permutations: usize,
    seed: u64,
    name: &str,
) -> Result<PermutationTest> {
    check("concept values", concept, 1)?;
    check("random values", random, 1)?;
    check_permutations(permutations)?;
    let (concept, random) = (sorted(concept), sorted(random));
    let mut pool = sorted(&[&concept[..], &random[..]].concat());
    require_variation("concept and random values", &pool)?;
    let size = pool.len() as f64;
    let statistic =
        concept.iter().sum::<f64>() / concept.len() as f64 - random.iter().sum::<f64>() / random.len() as f64;

    let largest = pool.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    // Centred, a set's sum alone fixes the difference: Δ = S·n / (m (n - m)). So |S| is compared instead.
    let centre = pool.iter().sum::<f64>() / size;
    pool.iter_mut().for_each(|v| *v -= centre);
    let (smaller, chosen) =
        if concept.len() <= random.len() { (&concept, concept.len()) } else { (&random, random.len()) };
    let observed = smaller.iter().map(|v| v - centre).sum::<f64>().abs();
    // Above the rounding that such a sum can carry, that of the values themselves included:
    // rounding must not split ties.
    let threshold = observed - 4.0 * f64::EPSILON * size * largest;

    let arrangements = binomial_coefficient(pool.len(), chosen);
    if arrangements <= permutations as u64 {
        let extreme = count_combinations(&pool, chosen, |sum| sum.abs() >= threshold);
        // Equal sets come in mirrored pairs with the same |Δ|.
        let smallest = if 2 * chosen == pool.len() { 2 } else { 1 };
        return Ok(PermutationTest::exact(statistic, extreme, arrangements, smallest));
    }
    let extreme = chunks(permutations)
        .into_par_iter()
        .map(|(chunk, count)| {
            let mut draws = stream(seed, name, chunk);
            let mut values = pool.clone();
            // A partial Fisher–Yates shuffle is uniform from any starting order, so the order is never restored.
            (0..count).filter(|_| partial_shuffle_sum(&mut values, chosen, &mut draws).abs() >= threshold).count()
                as u64
        })
        .sum();
    Ok(PermutationTest::drawn(statistic, extreme, permutations))
}

/// Moves a random subset of size `chosen` to the front and returns its sum.
pub(crate) fn partial_shuffle_sum(values: &mut [f64], chosen: usize, draws: &mut Stream) -> f64 {
    let mut sum = 0.0;
    for i in 0..chosen {
        let j = i + below(draws, (values.len() - i) as u32);
        values.swap(i, j);
        sum += values[i];
    }
    sum
}

/// A uniform draw from `0..bound` by multiplication, rejecting the few values that would bias it (Lemire 2019).
pub(crate) fn below(draws: &mut Stream, bound: u32) -> usize {
    let mut product = u64::from(draws.next_u32()) * u64::from(bound);
    if (product as u32) < bound {
        let biased = bound.wrapping_neg() % bound;
        while (product as u32) < biased {
            product = u64::from(draws.next_u32()) * u64::from(bound);
        }
    }
    (product >> 32) as usize
}

/// `(stream index, draws)` of every chunk of `total` draws.
pub(crate) fn chunks(total: usize) -> Vec<(u64, usize)> {
    (0..total.div_ceil(CHUNK)).map(|c| (c as u64, CHUNK.min(total - c * CHUNK))).collect()
}

/// How many subsets of size `chosen` have a sum that `counts`.
fn count_combinations(values: &[f64], chosen: usize, counts: impl Fn(f64) -> bool) -> u64 {
    let mut picked: Vec<usize> = (0..chosen).collect();
    let mut total = 0;
    loop {
        total += u64::from(counts(picked.iter().map(|&i| values[i]).sum()));
        let Some(moved) = (0..chosen).rev().find(|&k| picked[k] < values.len() - chosen + k) else {
            return total;
        };
        picked[moved] += 1;
        for k in moved + 1..chosen {
            picked[k] = picked[k - 1] + 1;
        }
    }
}

/// `n! / (k! (n-k)!)`, at most `u64::MAX`.
pub(crate) fn binomial_coefficient(n: usize, k: usize) -> u64 {
    let mut result = 1u128;
    for i in 0..k.min(n - k) {
        result = result * (n - i) as u128 / (i + 1) as u128;
        if result > u128::from(u64::MAX) {
            return u64::MAX;
        }
    }
    result as u64
}

pub(crate) fn check_permutations(permutations: usize) -> Result<()> {
    if permutations == 0 {
        return Err(StatsError::TooFew { what: "permutations", needed: 1, got: 0 });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StatsError;
    use proptest::prelude::*;

    fn test(concept: &[f64], random: &[f64], permutations: usize) -> PermutationTest {
        label_permutation(concept, random, permutations, 3, "test").unwrap()
    }

    #[test]
    fn small_samples_are_enumerated() {
        // All 20 divisions: only the observed one and its mirror reach |Δ| = 3.
        let exact = test(&[4.0, 5.0, 6.0], &[1.0, 2.0, 3.0], 20);
        assert_eq!((exact.p_value, exact.smallest_p), (0.1, 0.1));
        assert_eq!(exact.method, Method::Exact { arrangements: 20 });
        let drawn = test(&[4.0, 5.0, 6.0], &[1.0, 2.0, 3.0], 19);
        assert_eq!(drawn.method, Method::MonteCarlo { permutations: 19 });
        assert_eq!(drawn.smallest_p, 0.05);
        // Unequal sizes: {6} against the rest, one of six.
        assert_eq!(test(&[9.0], &[1.0, 2.0, 3.0, 4.0, 5.0], 100).p_value, 1.0 / 6.0);
    }

    #[test]
    fn rounding_does_not_split_ties() {
        // In exact arithmetic Δ = 0, so every division is at least as extreme; 0.1 + 0.2 ≠ 0.3 must not hide that.
        assert_eq!(test(&[0.1, 0.2], &[0.3, 0.0], 100).p_value, 1.0);
        // The same multiset shifted by a large constant has the same p-value.
        let near = test(&[0.1, 0.7, 0.9], &[0.1, 0.3, 0.3, 0.5], 100);
        let far = test(&[1000.1, 1000.7, 1000.9], &[1000.1, 1000.3, 1000.3, 1000.5], 100);
        assert_eq!(near.p_value, far.p_value);
    }

    #[test]
    fn draws_agree_with_the_enumeration() {
        let (concept, random) = ([0.3, 1.1, 0.8, 0.2, 1.4, 0.9], [0.1, 0.7, 0.2, 0.5, -0.3, 0.4, 1.0, 0.0, 0.6, 0.35]);
        let exact = test(&concept, &random, 8_008);
        assert!(matches!(exact.method, Method::Exact { .. }));
        let big = test(&[concept, concept].concat(), &[random, random].concat(), 1);
        assert!(matches!(big.method, Method::MonteCarlo { .. }));
        // The enumeration is forbidden by asking for one draw fewer than there are divisions.
        let drawn = test(&concept, &random, 8_007);
        let error = (exact.p_value * (1.0 - exact.p_value) / 8_007.0).sqrt();
        assert!((exact.p_value - drawn.p_value).abs() < 4.0 * error, "{} {}", exact.p_value, drawn.p_value);
    }

    #[test]
    fn bounded_draws_are_uniform() {
        let mut draws = stream(1, "below", 0);
        let mut counts = [0u32; 7];
        (0..70_000).for_each(|_| counts[below(&mut draws, 7)] += 1);
        assert!(counts.iter().all(|c| c.abs_diff(10_000) < 400), "{counts:?}");
    }

    #[test]
    fn threads_do_not_change_the_result() {
        let concept: Vec<f64> = (0..60).map(|i| f64::from(i * i % 17)).collect();
        let random: Vec<f64> = (0..300).map(|i| f64::from(i * 7 % 19) + 0.5).collect();
        let [one, three] = [1, 3].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| test(&concept, &random, 9_999))
        });
        assert_eq!(one, three);
        assert!(one.extreme > 0);
    }

    #[test]
    fn degenerate_input_is_named() {
        let run = |a: &[f64], b: &[f64], n| label_permutation(a, b, n, 0, "test").unwrap_err();
        assert!(matches!(run(&[1.0], &[1.0, 1.0], 9), StatsError::ZeroVariance { .. }));
        assert!(matches!(run(&[], &[1.0], 9), StatsError::TooFew { .. }));
        assert!(matches!(run(&[f64::INFINITY], &[1.0], 9), StatsError::NotFinite { .. }));
        assert!(matches!(run(&[0.0], &[1.0], 0), StatsError::TooFew { .. }));
    }

    proptest! {
        #[test]
        fn order_within_and_between_sets_does_not_matter(
            mut a in prop::collection::vec(-5i32..5, 2..30), mut b in prop::collection::vec(-5i32..5, 2..30), seed in 0u64..99,
        ) {
            prop_assume!(a.iter().chain(&b).any(|v| *v != a[0]));
            let real = |v: &[i32]| -> Vec<f64> { v.iter().map(|x| f64::from(*x) / 10.0).collect() };
            let run = |a: &[i32], b: &[i32]| label_permutation(&real(a), &real(b), 200, seed, "order").unwrap();
            let first = run(&a, &b);
            prop_assert!(first.p_value >= first.smallest_p && first.p_value <= 1.0);
            prop_assert_eq!(first.p_value, run(&b, &a).p_value);
            a.reverse();
            b.rotate_left(1);
            prop_assert_eq!(first, run(&a, &b));
        }

        #[test]
        fn a_larger_shift_never_raises_the_exact_p(a in prop::collection::vec(0.0..1.0f64, 4), b in prop::collection::vec(0.0..1.0f64, 4)) {
            let p = |shift: f64| {
                let moved: Vec<f64> = a.iter().map(|v| v + shift).collect();
                label_permutation(&moved, &b, 70, 0, "shift").unwrap().p_value
            };
            prop_assert!(p(1.0) >= p(2.0) && p(2.0) == 2.0 / 70.0);
        }
    }
}
