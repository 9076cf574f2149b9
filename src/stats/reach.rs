//! How far networks that were only retrained differ from each other, so that one more of them is
//! told from one that has changed.
//!
//! A candidate's interval speaks of that one network. Retrained networks differ too, and a
//! candidate that is one of them must be called changed no more often than the level. So it has to
//! lie beyond what two retrained networks differ by, a prediction from few networks: t with one
//! degree of freedom fewer than there are networks, times the root mean square difference of all
//! pairs. Under the hypothesis that the candidate is one more retrained network its own difference
//! has the same variance.

use super::special::student_t_critical;
use super::{Result, StatsError, check_open_unit};

/// Networks without which nothing is known of how they differ.
pub const LEAST_NETWORKS: usize = 3;

/// What the difference of two of `networks` retrained networks exceeds with probability `level`.
/// `difference(a, b)` is that of a pair; its sign does not matter.
///
/// # Errors
/// Fewer than [`LEAST_NETWORKS`] networks, a level outside (0, 1), or a difference that is undefined.
pub fn reach(networks: usize, level: f64, difference: impl Fn(usize, usize) -> Option<f64>) -> Result<f64> {
    check_open_unit("level", level)?;
    if networks < LEAST_NETWORKS {
        return Err(StatsError::TooFew { what: "retrained networks", needed: LEAST_NETWORKS, got: networks });
    }
    let pairs = (0..networks).flat_map(|a| (a + 1..networks).map(move |b| (a, b)));
    let squares = pairs.map(|(a, b)| {
        let found = difference(a, b).filter(|value| value.is_finite());
        found.map(|value| value * value).ok_or(StatsError::Undefined { what: "difference of retrained networks" })
    });
    let squares = squares.collect::<Result<Vec<f64>>>()?;
    let spread = (squares.iter().sum::<f64>() / squares.len() as f64).sqrt();
    Ok(student_t_critical(2.0 * level, (networks - 1) as f64) * spread)
}

/// The difference of two networks, `a` and `b`, in the logarithm of their drift from each of the
/// others: what `ln ρ` would be if one stood in the other's place.
pub fn log_ratio_of(a: usize, b: usize, networks: usize, drift: impl Fn(usize, usize) -> Option<f64>) -> Option<f64> {
    let others = (0..networks).filter(|&other| other != a && other != b);
    let logs: Vec<f64> =
        others.map(|other| Some((drift(other, a)? / drift(other, b)?).ln())).collect::<Option<Vec<f64>>>()?;
    (!logs.is_empty()).then(|| logs.iter().sum::<f64>() / logs.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::{Stream, stream};
    use rand::Rng;

    fn normal(draws: &mut Stream) -> f64 {
        let (u, v): (f64, f64) = (1.0 - draws.random::<f64>(), draws.random());
        (-2.0 * u.ln()).sqrt() * (2.0 * std::f64::consts::PI * v).cos()
    }

    #[test]
    fn of_three_networks_it_is_t_times_their_root_mean_square() {
        let values = [0.0, 1.0, 3.0];
        let found = reach(3, 0.05, |a, b| Some(values[a] - values[b])).unwrap();
        // Squares 1, 9, 4; the upper 5 % of t with 2 degrees of freedom by SciPy.
        assert!((found - 2.919_985_58 * (14.0f64 / 3.0).sqrt()).abs() < 1e-6, "{found}");
        assert!(reach(2, 0.05, |_, _| Some(1.0)).is_err() && reach(3, 0.05, |_, _| None).is_err());
    }

    /// Networks with a place of their own and pairs with noise of theirs: one more network exceeds
    /// the reach as often as the level says, for any number of them.
    #[test]
    fn one_more_network_exceeds_it_no_more_often_than_the_level() {
        for networks in [3, 4, 5, 7] {
            let (trials, level) = (4000, 0.05);
            let mut beyond = 0;
            for trial in 0..trials {
                let mut draws = stream(3, "reach", trial);
                let all = networks + 1;
                let own: Vec<f64> = (0..all).map(|_| 0.15 * normal(&mut draws)).collect();
                let mut drift = vec![vec![0.0; all]; all];
                for a in 0..all {
                    for b in 0..a {
                        let value = (own[a] + own[b] + 0.2 * normal(&mut draws)).exp();
                        (drift[a][b], drift[b][a]) = (value, value);
                    }
                }
                let of = |a: usize, b: usize| Some(drift[a][b]);
                let reach = reach(networks, level, |a, b| log_ratio_of(a, b, networks, of)).unwrap();
                // The last takes the first's place among the others.
                let others = 1..networks;
                let log = others.map(|other| (drift[other][networks] / drift[other][0]).ln()).sum::<f64>()
                    / (networks - 1) as f64;
                beyond += usize::from(log > reach);
            }
            let allowed = level + 3.0 * (level * (1.0 - level) / trials as f64).sqrt();
            let found = beyond as f64 / trials as f64;
            assert!(found <= allowed && found > 0.3 * level, "{networks} networks: {found}");
        }
    }
}
