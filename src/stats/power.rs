//! What a plan can reach: the smallest p-value of a test after adjustment, and the sets or permutations a level needs.

use super::multiplicity::{Adjustment, harmonic};
use super::{Result, StatsError, check_open_unit};
use serde::Serialize;

/// How many random sets (or permutations) a level needs after adjustment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Needed {
    /// So that a single hypothesis can be significant, whatever the others do.
    pub for_one_finding: usize,
    /// So that anything can be significant at all, if every hypothesis of the family reaches its
    /// smallest p-value. The same number except for step-up adjustments (Benjamini–Hochberg,
    /// Benjamini–Yekutieli). A plan below it is hopeless.
    pub for_any_finding: usize,
}

/// Random sets `N` that the exchangeability test needs: its smallest p-value is `1 / (N + 1)`.
/// `usize::MAX` where no number suffices.
///
/// # Errors
/// `alpha` outside (0, 1), or an empty family.
///
/// ```
/// use ticketlens_stats::{multiplicity::Adjustment, power::sets_needed};
/// assert_eq!(sets_needed(0.05, 1, Adjustment::default())?.for_one_finding, 19);
/// let ten = sets_needed(0.05, 10, Adjustment::BenjaminiHochberg)?;
/// assert_eq!((ten.for_one_finding, ten.for_any_finding), (199, 19));
/// # Ok::<(), ticketlens_stats::StatsError>(())
/// ```
pub fn sets_needed(alpha: f64, family_size: usize, adjustment: Adjustment) -> Result<Needed> {
    check_open_unit("alpha", alpha)?;
    if family_size == 0 {
        return Err(StatsError::TooFew { what: "family of hypotheses", needed: 1, got: 0 });
    }
    let penalty = if adjustment == Adjustment::BenjaminiYekutieli { harmonic(family_size) } else { 1.0 };
    let step_up = matches!(adjustment, Adjustment::BenjaminiHochberg | Adjustment::BenjaminiYekutieli);
    let least = |factor: f64| {
        // From just below the quotient upward with the test's own arithmetic, so that rounding cannot cost a set.
        let start = ((factor / alpha).floor() as usize).saturating_sub(2).max(1);
        // A level of 1e-300 is positive too, but no number of sets reaches it.
        (start..usize::MAX).find(|&n| factor / (n + 1) as f64 <= alpha).unwrap_or(usize::MAX)
    };
    let one = least(family_size as f64 * penalty);
    Ok(Needed { for_one_finding: one, for_any_finding: if step_up { least(penalty) } else { one } })
}

/// Permutations `B` that a permutation test needs: its smallest p-value is `1 / (B + 1)`.
///
/// # Errors
/// As [`sets_needed`].
pub fn permutations_needed(alpha: f64, family_size: usize, adjustment: Adjustment) -> Result<Needed> {
    sets_needed(alpha, family_size, adjustment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::multiplicity::adjust;
    use proptest::prelude::*;

    /// The adjusted value of a p-value beside `family_size - 1` that are 1.
    fn adjusted_alone(p_value: f64, family_size: usize, adjustment: Adjustment) -> f64 {
        let mut family = vec![1.0; family_size];
        family[0] = p_value;
        adjust(&family, adjustment).unwrap()[0]
    }

    #[test]
    fn known_numbers() {
        let needed = |alpha, m, a| sets_needed(alpha, m, a).unwrap();
        assert_eq!(needed(0.05, 20, Adjustment::Bonferroni), Needed { for_one_finding: 399, for_any_finding: 399 });
        assert_eq!(needed(0.01, 1, Adjustment::Holm).for_one_finding, 99);
        assert_eq!(
            needed(0.05, 200, Adjustment::BenjaminiHochberg),
            Needed { for_one_finding: 3999, for_any_finding: 19 }
        );
        assert_eq!(needed(1e-320, 4, Adjustment::BenjaminiHochberg).for_any_finding, usize::MAX);
        assert!(sets_needed(0.0, 3, Adjustment::Holm).is_err());
        assert!(sets_needed(0.05, 0, Adjustment::Holm).is_err());
    }

    proptest! {
        #[test]
        fn the_number_needed_is_enough_and_one_fewer_is_not(
            alpha in 0.001..0.5f64, family in 1usize..300,
            adjustment in prop::sample::select(vec![
                Adjustment::BenjaminiHochberg, Adjustment::BenjaminiYekutieli, Adjustment::Holm, Adjustment::Bonferroni,
            ]),
        ) {
            let n = sets_needed(alpha, family, adjustment).unwrap().for_one_finding;
            let alone = |n: usize| adjusted_alone(1.0 / (n + 1) as f64, family, adjustment);
            prop_assert!(alone(n) <= alpha * (1.0 + 1e-12));
            prop_assert!(n == 1 || alone(n - 1) > alpha);
        }
    }
}
