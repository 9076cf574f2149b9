//! A difference of means within strata, tested by permutation within them: what a concept adds to
//! others that go with it.
//!
//! If membership does not matter once the stratum is known, every division of a stratum's values
//! into sets of these sizes is equally likely, so the share of divisions with a difference at least
//! as large is a p-value that holds its level however membership and strata go together
//! (permutation within blocks; Edgington & Onghena 2007, "Randomization Tests").

use super::permutation::{PermutationTest, check_permutations, chunks, partial_shuffle_sum};
use super::{Result, StatsError, check};
use crate::seed::stream;
use rayon::prelude::*;
use serde::Serialize;

/// A stratum's number, and a value in it.
pub type Placed = (usize, f64);

/// What differs within strata.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Stratified {
    /// `Σ w_s (mean concept_s − mean random_s) / Σ w_s` with `w_s = n_C n_R / (n_C + n_R)`: the
    /// coefficient of membership in the least-squares fit on membership and strata.
    pub effect: f64,
    /// That over the standard deviation within strata and sets; absent where nothing varies there.
    pub standardised: Option<f64>,
    /// Two-sided test of it.
    pub test: PermutationTest,
    /// Strata that hold both sets; the others say nothing.
    pub strata: usize,
    /// Concept values in those.
    pub concept: usize,
    /// Random values in those.
    pub random: usize,
}

/// One stratum that holds both sets: its values about their mean, those of the smaller set first.
struct Stratum {
    values: Vec<f64>,
    chosen: usize,
    /// 1 where the smaller set is the concept's, else −1.
    sign: f64,
}

/// Two-sided permutation test of the difference of means within strata. Draws `permutations`
/// divisions from the streams `(seed, name, 0..)`; neither the order of the values nor the number
/// of threads matters.
///
/// # Errors
/// A value that is not finite, no permutations, no stratum with both sets, or values that are all
/// equal within every stratum.
pub fn stratified_permutation(
    concept: &[Placed],
    random: &[Placed],
    permutations: usize,
    seed: u64,
    name: &str,
) -> Result<Stratified> {
    let of = |all: &[Placed]| all.iter().map(|&(_, value)| value).collect::<Vec<f64>>();
    check("concept values", &of(concept), 1)?;
    check("random values", &of(random), 1)?;
    check_permutations(permutations)?;
    let mut numbers: Vec<usize> = concept.iter().map(|&(stratum, _)| stratum).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let within = |all: &[Placed], stratum: usize| -> Vec<f64> {
        let mut values: Vec<f64> = all.iter().filter(|&&(of, _)| of == stratum).map(|&(_, value)| value).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let (mut strata, mut observed, mut weight, mut squares) = (Vec::new(), 0.0, 0.0, 0.0);
    let (mut concepts, mut randoms, mut magnitude, mut varies) = (0, 0, 0.0f64, false);
    for stratum in numbers {
        let (inside, outside) = (within(concept, stratum), within(random, stratum));
        if outside.is_empty() {
            continue;
        }
        let (n, m) = (inside.len() as f64, outside.len() as f64);
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let spread = |values: &[f64]| {
            let mean = mean(values);
            values.iter().map(|value| (value - mean).powi(2)).sum::<f64>()
        };
        squares += spread(&inside) + spread(&outside);
        weight += n * m / (n + m);
        let centre = (inside.iter().sum::<f64>() + outside.iter().sum::<f64>()) / (n + m);
        let (first, second, sign) =
            if inside.len() <= outside.len() { (&inside, &outside, 1.0) } else { (&outside, &inside, -1.0) };
        varies |= inside.iter().chain(&outside).any(|&value| value != inside[0]);
        magnitude = inside.iter().chain(&outside).fold(magnitude, |top, value| top.max(value.abs()));
        let values: Vec<f64> = first.iter().chain(second).map(|value| value - centre).collect();
        // The concept's centred sum is `w_s` times the difference of means.
        observed += sign * values[..first.len()].iter().sum::<f64>();
        concepts += inside.len();
        randoms += outside.len();
        strata.push(Stratum { values, chosen: first.len(), sign });
    }
    if strata.is_empty() {
        return Err(StatsError::Undefined { what: "conditional effect: no stratum holds images of both sets" });
    }
    if !varies {
        return Err(StatsError::ZeroVariance { what: "values within strata" });
    }
    // Sorted, so that a shuffle starts from the same order whichever set a value was in.
    strata.iter_mut().for_each(|stratum| stratum.values.sort_by(f64::total_cmp));
    let freedom = concepts + randoms - 2 * strata.len();
    let deviation = (squares / freedom.max(1) as f64).sqrt();
    let effect = observed / weight;
    // Rounding must not split ties.
    let threshold = observed.abs() - 4.0 * f64::EPSILON * (concepts + randoms) as f64 * magnitude;
    let extreme: u64 = chunks(permutations)
        .into_par_iter()
        .map(|(chunk, count)| {
            let mut draws = stream(seed, name, chunk);
            let mut values: Vec<Vec<f64>> = strata.iter().map(|stratum| stratum.values.clone()).collect();
            let mut drawn = || -> f64 {
                let sums = strata.iter().zip(&mut values);
                sums.map(|(stratum, values)| stratum.sign * partial_shuffle_sum(values, stratum.chosen, &mut draws))
                    .sum()
            };
            (0..count).filter(|_| drawn().abs() >= threshold).count() as u64
        })
        .sum();
    Ok(Stratified {
        effect,
        standardised: (freedom > 0 && deviation > 0.0).then(|| effect / deviation),
        test: PermutationTest::drawn(effect, extreme, permutations),
        strata: strata.len(),
        concept: concepts,
        random: randoms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permutation::label_permutation;

    #[test]
    fn the_effect_is_the_weighted_difference_within_strata() {
        // Stratum 0: means 5 and 3, weight 1; stratum 1: means 10 and 4, weight 2/3; stratum 2 has
        // no random value, 3 no concept value.
        let concept = [(0, 4.0), (0, 6.0), (1, 10.0), (2, 99.0)];
        let random = [(0, 2.0), (0, 4.0), (1, 3.0), (1, 5.0), (3, -99.0)];
        let found = stratified_permutation(&concept, &random, 999, 1, "t").unwrap();
        assert!((found.effect - (2.0 + 2.0 / 3.0 * 6.0) / (1.0 + 2.0 / 3.0)).abs() < 1e-12, "{found:?}");
        assert_eq!((found.strata, found.concept, found.random), (2, 3, 4));
        // Within sets: 2 + 2 in stratum 0, 0 + 2 in stratum 1, with 7 − 4 degrees of freedom.
        assert!((found.standardised.unwrap() - found.effect / 2f64.sqrt()).abs() < 1e-12);
        // Of 6 · 3 divisions those with a sum as large: the observed one, the one tied with it (4
        // of stratum 0 stands twice) and their likes.
        let (pool, one) = ([4.0, 6.0, 2.0, 4.0], [10.0, 3.0, 5.0]);
        let (mut reached, mut all) = (0, 0);
        for i in 0..4 {
            for j in i + 1..4 {
                for of_one in one {
                    let sum: f64 = pool[i] + pool[j] - 8.0 + of_one - 6.0;
                    all += 1;
                    reached += usize::from(sum.abs() >= 6.0 - 1e-9);
                }
            }
        }
        let exact = f64::from(reached as u32) / f64::from(all);
        assert!((found.test.p_value - exact).abs() < 0.04, "{} {exact}", found.test.p_value);
        // Which set is the concept's turns the sign alone; the draws are others.
        let turned = stratified_permutation(&random, &concept, 999, 1, "t").unwrap();
        assert!((turned.effect + found.effect).abs() < 1e-12);
        assert!((turned.test.p_value - exact).abs() < 0.04, "{} {exact}", turned.test.p_value);
    }

    #[test]
    fn one_stratum_is_the_plain_label_permutation() {
        let values: Vec<f64> = (0..12).map(|i| f64::from(i * i % 7)).collect();
        let (concept, random) = values.split_at(4);
        let of = |values: &[f64]| values.iter().map(|&value| (5, value)).collect::<Vec<Placed>>();
        let found = stratified_permutation(&of(concept), &of(random), 9_999, 3, "t").unwrap();
        let plain = label_permutation(concept, random, 9_999, 3, "t").unwrap();
        assert!((found.effect - plain.statistic).abs() < 1e-12);
        assert!((found.test.p_value - plain.p_value).abs() < 0.02, "{} {}", found.test.p_value, plain.p_value);
    }

    #[test]
    fn what_has_no_value_is_named() {
        let none = stratified_permutation(&[(0, 1.0)], &[(1, 2.0)], 99, 1, "t");
        assert!(matches!(none, Err(StatsError::Undefined { .. })));
        let equal = stratified_permutation(&[(0, 1.0), (1, 3.0)], &[(0, 1.0), (1, 3.0)], 99, 1, "t");
        assert!(matches!(equal, Err(StatsError::ZeroVariance { .. })), "{equal:?}");
        assert!(stratified_permutation(&[(0, f64::NAN)], &[(0, 1.0)], 99, 1, "t").is_err());
        assert!(stratified_permutation(&[(0, 2.0)], &[(0, 1.0)], 0, 1, "t").is_err());
        // One of each: a difference, but nothing that it could be measured by.
        assert_eq!(stratified_permutation(&[(0, 2.0)], &[(0, 1.0)], 99, 1, "t").unwrap().standardised, None);
    }
}
