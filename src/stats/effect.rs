//! The concept effect: how far logit k moves, to first order, from the random mean to the concept mean.

use super::descriptive::{mean_unchecked, sum_of_squares};
use super::{Result, StatsError, check};
use serde::Serialize;

/// The concept effect, raw and standardised.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ConceptEffect {
    /// `Δ = ḡ·(μ_C - μ_R)`, in logits.
    pub effect: f64,
    /// `Δ` over the pooled standard deviation (Cohen 1988, equation 2.5.2): comparable over rounds.
    pub effect_standardised: f64,
    /// Pooled standard deviation of `ḡ·a_i` within the two sets, divisor `n - 1` in each, in logits.
    pub pooled_standard_deviation: f64,
}

/// A spread smaller than this share of the largest value is rounding, and counts as none.
const ROUNDING: f64 = 1e-13;

/// The difference of the means, `Δ`.
pub fn difference(concept: &[f64], random: &[f64]) -> f64 {
    mean_unchecked(concept) - mean_unchecked(random)
}

/// The effect of a concept from the scalars `ḡ·a_i` of its images and of the pooled random images.
///
/// # Errors
/// An empty set or fewer than three values in all, a value that is not finite, or no variation within the sets (the
/// standardised effect is then undefined).
pub fn concept_effect(concept: &[f64], random: &[f64]) -> Result<ConceptEffect> {
    check("concept values", concept, 1)?;
    check("random values", random, 1)?;
    let total = concept.len() + random.len();
    if total < 3 {
        return Err(StatsError::TooFew { what: "concept and random values", needed: 3, got: total });
    }
    let pooled = ((sum_of_squares(concept) + sum_of_squares(random)) / (total - 2) as f64).sqrt();
    let largest = concept.iter().chain(random).fold(0.0, |top: f64, v| top.max(v.abs()));
    if pooled <= ROUNDING * largest {
        return Err(StatsError::ZeroVariance { what: "concept and random values" });
    }
    let effect = difference(concept, random);
    Ok(ConceptEffect { effect, effect_standardised: effect / pooled, pooled_standard_deviation: pooled })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        let e = concept_effect(&[3.0, 5.0], &[1.0, 2.0, 3.0]).unwrap();
        // Squares 2 + 2 over 3 degrees of freedom.
        assert_eq!(e.effect, 2.0);
        assert!((e.pooled_standard_deviation - (4.0f64 / 3.0).sqrt()).abs() < 1e-15);
        assert!((e.effect_standardised - 3.0f64.sqrt()).abs() < 1e-15);
        assert!(matches!(concept_effect(&[1.0, 1.0], &[2.0, 2.0]), Err(StatsError::ZeroVariance { .. })));
        // Equal but for rounding.
        assert!(matches!(concept_effect(&[0.3, 0.1 + 0.2], &[0.3, 0.3]), Err(StatsError::ZeroVariance { .. })));
        assert!(concept_effect(&[1.0], &[]).is_err());
    }
}
