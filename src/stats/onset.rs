//! Where a curve over density crosses a limit: the onset of a change.

use super::crossed::Mean;
use super::special::student_t_critical;
use super::{Result, StatsError, check, check_open_unit};
use serde::{Deserialize, Serialize};

/// Steps between two tested densities at which the interval is looked for.
const STEPS: usize = 200;

/// Where a quantity crosses its limit, as a density. What lies outside the tested densities is absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Onset {
    /// Crossing of the mean over replicates, made monotone.
    pub density: Option<f64>,
    /// Greatest density that the interval holds; absent where it reaches beyond the mildest one tested.
    pub earliest: Option<f64>,
    /// Least density that the interval holds; absent where it reaches beyond the most extreme one tested.
    pub latest: Option<f64>,
    /// Each replicate's own crossing.
    pub replicates: Vec<Option<f64>>,
}

/// Non-decreasing least-squares fit of `values` (pool adjacent violators; Ayer et al. 1955).
pub fn isotonic(values: &[f64]) -> Vec<f64> {
    let mut blocks: Vec<(f64, usize)> = Vec::new();
    for &value in values {
        blocks.push((value, 1));
        while let [.., (before, many), (last, few)] = blocks[..]
            && before > last
        {
            blocks.truncate(blocks.len() - 2);
            let count = many + few;
            blocks.push(((before * many as f64 + last * few as f64) / count as f64, count));
        }
    }
    blocks.into_iter().flat_map(|(value, count)| std::iter::repeat_n(value, count)).collect()
}

/// First crossing of `limit` by a non-decreasing `curve` over `x`, by straight lines between the points.
fn crossing(x: &[f64], curve: &[f64], limit: f64) -> Option<f64> {
    let first = curve.iter().position(|&value| value > limit)?;
    let before = first.checked_sub(1)?;
    let share = (limit - curve[before]) / (curve[first] - curve[before]);
    Some(x[before] + share * (x[first] - x[before]))
}

/// The onset of a quantity that grows as weights go. `curves[replicate][i]` is its value at
/// `densities[i]`, which fall; the crossing is of `limit`, on straight lines over the logarithm of
/// the density.
///
/// The interval holds every density at which a t-test over replicates does not tell the mean from
/// the limit, so its coverage is that of the t-test wherever the crossing lies (the inversion of
/// Fieller 1954).
///
/// # Errors
/// Fewer than two replicates or densities, curves of another length, densities that do not fall,
/// values that are not finite.
pub fn onset(densities: &[f64], curves: &[Vec<f64>], limit: f64, confidence: f64) -> Result<Onset> {
    check_open_unit("confidence", confidence)?;
    check("densities", densities, 2)?;
    if densities.windows(2).any(|pair| !(pair[0] > pair[1] && pair[1] > 0.0)) {
        return Err(StatsError::Undefined { what: "densities: do not fall" });
    }
    if curves.len() < 2 {
        return Err(StatsError::TooFew { what: "replicates", needed: 2, got: curves.len() });
    }
    for curve in curves {
        check("curve", curve, 1)?;
        if curve.len() != densities.len() {
            let (left, right) = (densities.len(), curve.len());
            return Err(StatsError::LengthMismatch { what: "densities and curve", left, right });
        }
    }
    let x: Vec<f64> = densities.iter().map(|density| density.ln()).collect();
    let of = |curve: &[f64]| crossing(&x, &isotonic(curve), limit).map(f64::exp);
    let mean: Vec<f64> =
        (0..x.len()).map(|i| curves.iter().map(|curve| curve[i]).sum::<f64>() / curves.len() as f64).collect();
    let quantile = student_t_critical(1.0 - confidence, (curves.len() - 1) as f64);
    let holds = |place: usize, share: f64| -> Result<bool> {
        let values: Vec<f64> =
            curves.iter().map(|curve| curve[place] + share * (curve[place + 1] - curve[place])).collect();
        let mean = Mean::of(&values, None)?;
        Ok((mean.estimate - limit).abs() <= quantile * mean.standard_error)
    };
    let mut held: Vec<f64> = Vec::new();
    let (mut at_start, mut at_end) = (false, false);
    for place in 0..x.len() - 1 {
        for step in 0..=STEPS {
            let share = step as f64 / STEPS as f64;
            if holds(place, share)? {
                held.push(x[place] + share * (x[place + 1] - x[place]));
                at_start |= place == 0 && step == 0;
                at_end |= place + 2 == x.len() && step == STEPS;
            }
        }
    }
    let crossed = of(&mean);
    // Nothing held: the curve jumps over the limit between two steps, where it crosses.
    let ends = match (held.iter().copied().reduce(f64::max), held.iter().copied().reduce(f64::min)) {
        (Some(greatest), Some(least)) => (Some(greatest.exp()), Some(least.exp())),
        _ => (crossed, crossed),
    };
    Ok(Onset {
        density: crossed,
        earliest: ends.0.filter(|_| !at_start),
        latest: ends.1.filter(|_| !at_end),
        replicates: curves.iter().map(|curve| of(curve)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_straight_line_crosses_where_it_does() {
        let densities = [1.0, 0.1, 0.01];
        let line = |shift: f64| vec![shift, 1.0 + shift, 2.0 + shift];
        let found = onset(&densities, &[line(-0.1), line(0.1), line(0.0)], 1.5, 0.95).unwrap();
        assert!((found.density.unwrap().log10() - -1.5).abs() < 1e-12);
        assert!((found.replicates[0].unwrap().log10() - -1.6).abs() < 1e-12);
        // 0.1/√3 · 4.303 = 0.248 to either side.
        assert!((found.earliest.unwrap().log10() - -1.2516).abs() < 0.01, "{found:?}");
        assert!((found.latest.unwrap().log10() - -1.7484).abs() < 0.01, "{found:?}");
        let never = onset(&densities, &[line(0.0), line(0.01)], 5.0, 0.95).unwrap();
        assert_eq!((never.density, never.replicates[0]), (None, None));
        assert!(onset(&[0.1, 1.0], &[vec![0.0, 1.0], vec![0.0, 1.0]], 0.5, 0.95).is_err());
    }

    proptest! {
        #[test]
        fn an_isotonic_fit_rises_and_keeps_the_mean(values in prop::collection::vec(-5.0..5.0f64, 1..20)) {
            let fit = isotonic(&values);
            prop_assert!(fit.windows(2).all(|pair| pair[0] <= pair[1] + 1e-12));
            prop_assert!((fit.iter().sum::<f64>() - values.iter().sum::<f64>()).abs() < 1e-9);
            let again = isotonic(&fit);
            prop_assert!(fit.iter().zip(&again).all(|(a, b)| (a - b).abs() < 1e-12));
        }
    }
}
