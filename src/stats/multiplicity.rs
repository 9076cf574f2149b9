//! Adjustment of p-values for a family of hypotheses; equals statsmodels' `multipletests`.

use super::{Result, StatsError};
use serde::{Deserialize, Serialize};

/// How the p-values of a family are adjusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Adjustment {
    /// False discovery rate, independent or positively dependent tests (Benjamini & Hochberg 1995).
    #[default]
    BenjaminiHochberg,
    /// False discovery rate under any dependence (Benjamini & Yekutieli 2001).
    BenjaminiYekutieli,
    /// Family-wise error rate, step-down (Holm 1979).
    Holm,
    /// Family-wise error rate, one step (Bonferroni 1936; Dunn 1961).
    Bonferroni,
}

/// Adjusted p-values in the order given: reject where the adjusted value is at most α. An empty family stays empty.
///
/// # Errors
/// A value that is not finite or lies outside `[0, 1]`.
pub fn adjust(p_values: &[f64], adjustment: Adjustment) -> Result<Vec<f64>> {
    super::check("p-values", p_values, 0)?;
    if let Some(&value) = p_values.iter().find(|p| !(0.0..=1.0).contains(*p)) {
        return Err(StatsError::OutOfRange { what: "p-value", value, range: "[0, 1]" });
    }
    let family = p_values.len();
    let m = family as f64;
    let mut order: Vec<usize> = (0..family).collect();
    order.sort_by(|&i, &j| p_values[i].total_cmp(&p_values[j]));
    let mut adjusted = vec![0.0; family];
    match adjustment {
        Adjustment::Bonferroni => adjusted.iter_mut().zip(p_values).for_each(|(a, p)| *a = (p * m).min(1.0)),
        Adjustment::Holm => {
            let mut largest = 0.0f64;
            for (rank, &i) in order.iter().enumerate() {
                largest = largest.max(p_values[i] * (family - rank) as f64).min(1.0);
                adjusted[i] = largest;
            }
        }
        Adjustment::BenjaminiHochberg | Adjustment::BenjaminiYekutieli => {
            let penalty = if adjustment == Adjustment::BenjaminiYekutieli { harmonic(family) } else { 1.0 };
            let mut smallest = 1.0f64;
            for (rank, &i) in order.iter().enumerate().rev() {
                smallest = smallest.min(p_values[i] * m * penalty / (rank + 1) as f64);
                adjusted[i] = smallest;
            }
        }
    }
    Ok(adjusted)
}

/// `1 + 1/2 + … + 1/n`.
pub(crate) fn harmonic(n: usize) -> f64 {
    (1..=n).map(|i| 1.0 / i as f64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Adjustment; 4] =
        [Adjustment::BenjaminiHochberg, Adjustment::BenjaminiYekutieli, Adjustment::Holm, Adjustment::Bonferroni];

    proptest! {
        #[test]
        fn adjusted_values_keep_range_and_order(p in prop::collection::vec(0.0..=1.0f64, 0..40)) {
            for adjustment in ALL {
                let a = adjust(&p, adjustment).unwrap();
                for i in 0..p.len() {
                    prop_assert!(a[i] >= p[i] * (1.0 - 1e-12) && a[i] <= 1.0);
                    for j in 0..p.len() {
                        prop_assert!(p[i] > p[j] || a[i] <= a[j]);
                    }
                }
            }
        }

        #[test]
        fn bonferroni_is_above_holm_is_above_bh(p in prop::collection::vec(0.0..=1.0f64, 1..40)) {
            let [bh, by, holm, bonferroni] = ALL.map(|a| adjust(&p, a).unwrap());
            for i in 0..p.len() {
                prop_assert!(bh[i] <= holm[i] + 1e-12 && holm[i] <= bonferroni[i] + 1e-12 && bh[i] <= by[i] + 1e-12);
            }
        }
    }

    #[test]
    fn what_is_no_p_value_is_refused() {
        assert!(adjust(&[0.1, 1.2], Adjustment::Holm).is_err());
        assert!(adjust(&[f64::NAN], Adjustment::default()).is_err());
        assert_eq!(adjust(&[], Adjustment::default()).unwrap(), Vec::<f64>::new());
    }
}
