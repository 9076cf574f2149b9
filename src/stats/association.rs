//! Permutation tests of association: over independent units, and over replicates with rounds inside them.

use super::correlation::{pearson_coefficient, spearman_coefficient};
use super::descriptive::ranks_and_ties;
use super::permutation::{PermutationTest, below, check_permutations, chunks};
use super::{Result, StatsError, check};
use crate::seed::stream;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Which correlation coefficient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Coefficient {
    /// Of ranks: monotone association.
    #[default]
    Spearman,
    /// Of values: linear association.
    Pearson,
}

impl Coefficient {
    /// The coefficient of two samples of pairs.
    ///
    /// # Errors
    /// As [`spearman_coefficient`] and [`pearson_coefficient`].
    pub fn of(self, x: &[f64], y: &[f64]) -> Result<f64> {
        match self {
            Coefficient::Spearman => spearman_coefficient(x, y),
            Coefficient::Pearson => pearson_coefficient(x, y),
        }
    }
}

/// Two-sided permutation test of the association of `x` and `y` over **independent** units (Pitman 1937): all `n!` pairings
/// if they are no more than `permutations`, as many random ones from the streams `(seed, name, 0..)` otherwise. The order of
/// the units does not matter.
///
/// # Errors
/// Fewer than three units, different lengths, a value that is not finite, constant input, no permutations.
pub fn association(
    x: &[f64],
    y: &[f64],
    coefficient: Coefficient,
    permutations: usize,
    seed: u64,
    name: &str,
) -> Result<PermutationTest> {
    check("x", x, 3)?;
    check("y", y, 3)?;
    let statistic = coefficient.of(x, y)?;
    let mut units: Vec<(f64, f64)> = x.iter().copied().zip(y.iter().copied()).collect();
    units.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let (x, y): (Vec<f64>, Vec<f64>) = units.into_iter().unzip();
    let prepare = |v: &[f64]| {
        let v = if coefficient == Coefficient::Spearman { ranks_and_ties(v).0 } else { v.to_vec() };
        let mean = v.iter().sum::<f64>() / v.len() as f64;
        v.iter().map(|a| a - mean).collect::<Vec<f64>>()
    };
    // The spread of x and of y is the same in every pairing, so the sum of products decides.
    let (x, y) = (prepare(&x), prepare(&y));
    let sum = |order: &[usize]| order.iter().zip(&x).map(|(&j, a)| a * y[j]).sum::<f64>().abs();
    let magnitude: f64 = x.iter().zip(&y).map(|(a, b)| (a * b).abs()).sum::<f64>();
    let identity: Vec<usize> = (0..x.len()).collect();
    let threshold = sum(&identity) - 8.0 * f64::EPSILON * x.len() as f64 * magnitude;
    // With no more than one in n! pairings as extreme; its mirror image need not exist.
    pairings(x.len(), statistic, 1, permutations, (seed, name), |order| sum(order) >= threshold)
}

/// Association of two series that run over the same rounds in several replicates.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ReplicateAssociation {
    /// Mean over replicates of the coefficient between the replicate's own two series.
    pub within: f64,
    /// Mean over all pairings of one replicate's first series with any replicate's second: what the trend that is common to
    /// all replicates (both series grow as density falls) gives by itself.
    pub common_trend: f64,
    /// Test of `within - common_trend`, its statistic, over pairings of whole replicates.
    pub test: PermutationTest,
}

/// Whether two series go together beyond their common trend, with the **replicate as the unit**: series of one replicate
/// are paired with those of another, whole, so that the dependence between rounds stays as it is. `first[r]` and
/// `second[r]` hold one value per round of replicate `r`. The test is exact if the `R!` pairings are no more than `permutations`;
/// its smallest p is `1 / R!`, so α = 0.05 needs four replicates ([`replicates_needed`]).
///
/// # Errors
/// Fewer than two replicates or rounds, different lengths, a value that is not finite, a constant series, no permutations.
pub fn replicate_association(
    first: &[Vec<f64>],
    second: &[Vec<f64>],
    coefficient: Coefficient,
    permutations: usize,
    seed: u64,
    name: &str,
) -> Result<ReplicateAssociation> {
    let replicates = first.len();
    if second.len() != replicates {
        return Err(StatsError::LengthMismatch { what: "replicates", left: replicates, right: second.len() });
    }
    if replicates < 2 {
        return Err(StatsError::TooFew { what: "replicates", needed: 2, got: replicates });
    }
    let mut table = Vec::with_capacity(replicates * replicates);
    for a in first {
        for b in second {
            table.push(coefficient.of(a, b)?);
        }
    }
    let count = replicates as f64;
    let common_trend = table.iter().sum::<f64>() / (count * count);
    let mean = |order: &[usize]| order.iter().enumerate().map(|(r, &s)| table[r * replicates + s]).sum::<f64>() / count;
    let identity: Vec<usize> = (0..replicates).collect();
    let within = mean(&identity);
    let threshold = (within - common_trend).abs() - 1e-12;
    let test = pairings(replicates, within - common_trend, 1, permutations, (seed, name), |order| {
        (mean(order) - common_trend).abs() >= threshold
    })?;
    Ok(ReplicateAssociation { within, common_trend, test })
}

/// Replicates that [`replicate_association`] needs to reach `alpha`: the smallest `R` with `1 / R! <= alpha`.
pub fn replicates_needed(alpha: f64) -> usize {
    let mut pairings = 1.0;
    let mut replicates = 1;
    while 1.0 / pairings > alpha && replicates < 20 {
        replicates += 1;
        pairings *= replicates as f64;
    }
    replicates.max(2)
}

/// Counts the pairings that are `extreme`, over all of them or a random sample.
fn pairings(
    size: usize,
    statistic: f64,
    smallest: u64,
    permutations: usize,
    (seed, name): (u64, &str),
    extreme: impl Fn(&[usize]) -> bool + Sync,
) -> Result<PermutationTest> {
    check_permutations(permutations)?;
    let all = (1..=size as u64).try_fold(1u64, u64::checked_mul).unwrap_or(u64::MAX);
    if all <= permutations as u64 {
        let mut count = 0;
        visit_permutations(&mut (0..size).collect::<Vec<_>>(), 0, &mut |order| count += u64::from(extreme(order)));
        return Ok(PermutationTest::exact(statistic, count, all, smallest));
    }
    let count = chunks(permutations)
        .into_par_iter()
        .map(|(chunk, count)| {
            let mut draws = stream(seed, name, chunk);
            let mut order: Vec<usize> = (0..size).collect();
            let shuffled = |_: &usize| {
                (1..size).rev().for_each(|i| order.swap(i, below(&mut draws, i as u32 + 1)));
                extreme(&order)
            };
            (0..count).filter(shuffled).count() as u64
        })
        .sum();
    Ok(PermutationTest::drawn(statistic, count, permutations))
}

fn visit_permutations(order: &mut [usize], from: usize, visit: &mut impl FnMut(&[usize])) {
    if from + 1 >= order.len() {
        return visit(order);
    }
    for i in from..order.len() {
        order.swap(from, i);
        visit_permutations(order, from + 1, visit);
        order.swap(from, i);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::permutation::Method;
    use proptest::prelude::*;

    #[test]
    fn known_values() {
        // Perfect order of four: the observed pairing and its reverse, of 24.
        let test =
            association(&[1.0, 2.0, 3.0, 4.0], &[1.0, 4.0, 9.0, 16.0], Coefficient::Spearman, 99, 0, "t").unwrap();
        assert_eq!((test.statistic, test.p_value), (1.0, 2.0 / 24.0));
        let drawn =
            association(&[1.0, 2.0, 3.0, 4.0], &[1.0, 4.0, 9.0, 16.0], Coefficient::Spearman, 23, 0, "t").unwrap();
        assert_eq!(drawn.method, Method::MonteCarlo { permutations: 23 });
        assert_eq!([0.5, 0.2, 0.05, 0.01].map(replicates_needed), [2, 3, 4, 5]);
        assert!(association(&[1.0; 4], &[1.0, 4.0, 9.0, 16.0], Coefficient::Pearson, 99, 0, "t").is_err());
    }

    #[test]
    fn a_common_trend_alone_is_not_an_association() {
        // Every replicate has the same series: pairing them otherwise changes nothing.
        let series = vec![vec![1.0, 2.0, 3.0, 5.0]; 4];
        let same = replicate_association(&series, &series, Coefficient::Spearman, 9_999, 0, "t").unwrap();
        assert_eq!((same.within, same.test.p_value), (1.0, 1.0));
        // Four replicates that break at different rounds, in both series alike: only the true pairing fits.
        let steps: Vec<Vec<f64>> = (1..5)
            .map(|at| (0..6).map(|t| if t < at { t as f64 / 100.0 } else { 1.0 + t as f64 / 100.0 }).collect())
            .collect();
        let own = replicate_association(&steps, &steps, Coefficient::Pearson, 9_999, 0, "t").unwrap();
        assert_eq!(own.test.method, Method::Exact { arrangements: 24 });
        assert!(own.test.p_value <= 2.0 / 24.0 && own.within > own.common_trend, "{own:?}");
    }

    proptest! {
        #[test]
        fn order_of_units_does_not_matter(pairs in prop::collection::vec((0i32..6, 0i32..6), 3..20), turn in 0usize..20) {
            let run = |p: &[(i32, i32)]| {
                let (x, y): (Vec<f64>, Vec<f64>) = p.iter().map(|(a, b)| (f64::from(*a), f64::from(*b))).unzip();
                association(&x, &y, Coefficient::Spearman, 200, 1, "t")
            };
            let mut turned = pairs.clone();
            turned.rotate_left(turn % pairs.len());
            match (run(&pairs), run(&turned)) {
                (Ok(a), Ok(b)) => {
                    prop_assert_eq!(a.p_value, b.p_value);
                    prop_assert!(a.p_value >= a.smallest_p && a.p_value <= 1.0);
                }
                (a, b) => prop_assert_eq!(a.is_err(), b.is_err()),
            }
        }
    }
}
