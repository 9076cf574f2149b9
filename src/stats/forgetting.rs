//! Do images that a network forgets drift more than those it keeps?
//!
//! Density moves everything: over rounds, accuracy falls as drift grows, whatever the reason.
//! Within one network the density is the same for every image, so it cannot confound the
//! comparison.

use super::descriptive::ranks;
use super::permutation::chunks;
use super::{Result, StatsError};
use crate::seed::stream;
use rand::seq::SliceRandom;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// One network's images: whether it forgot each, and how far its explanation moved; `None` where
/// the image does not count.
pub type Images = Vec<Option<(bool, f64)>>;

/// What the comparison found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Forgetting {
    /// Images that were forgotten, over all networks.
    pub forgotten: usize,
    /// Images that were kept.
    pub kept: usize,
    /// Probability that a forgotten image drifted more than a kept one of its class in its network
    /// (AUC; ½: no difference).
    pub auc: f64,
    /// One-sided permutation p-value of that being so large.
    pub p_value: f64,
}

/// Ranks of the drifts of one network within one stratum, with the places (into the stratum) that are forgotten.
struct Stratum {
    images: Vec<usize>,
    networks: Vec<(Vec<f64>, Vec<usize>)>,
}

/// The comparison over one or several networks that saw the same images, within strata (classes):
/// `strata[image]`. Only images that count in every network take part. Drifts are permuted over the
/// images of a stratum, by one permutation for all networks: their images are the same, so what is
/// exchangeable under the null is the image with all its drifts. For a single network this is the
/// permutation test within the network.
///
/// # Errors
/// No network, networks of different length, a drift that is not finite, or no stratum with both kinds of images.
pub fn forgetting(
    networks: &[Images],
    strata: &[usize],
    permutations: usize,
    seed: u64,
    name: &str,
) -> Result<Forgetting> {
    if let Some(network) = networks.iter().find(|network| network.len() != strata.len()) {
        let (left, right) = (network.len(), strata.len());
        return Err(StatsError::LengthMismatch { what: "images and strata", left, right });
    }
    let counts = |image: usize| networks.iter().all(|network| network[image].is_some());
    let mut names: Vec<usize> = strata.to_vec();
    names.sort_unstable();
    names.dedup();
    let (mut all, mut pairs, mut forgotten, mut kept) = (Vec::new(), 0.0, 0, 0);
    for stratum in names {
        let images: Vec<usize> = (0..strata.len()).filter(|&image| strata[image] == stratum && counts(image)).collect();
        let mut of_stratum = Stratum { images: (0..images.len()).collect(), networks: Vec::new() };
        for network in networks {
            let known: Vec<(bool, f64)> = images.iter().filter_map(|&image| network[image]).collect();
            let drifts: Vec<f64> = known.iter().map(|&(_, drift)| drift).collect();
            if drifts.is_empty() {
                continue;
            }
            let lost: Vec<usize> = (0..known.len()).filter(|&place| known[place].0).collect();
            forgotten += lost.len();
            kept += known.len() - lost.len();
            pairs += (lost.len() * (known.len() - lost.len())) as f64;
            of_stratum.networks.push((ranks(&drifts)?, lost));
        }
        all.push(of_stratum);
    }
    if pairs == 0.0 {
        return Err(StatsError::Undefined { what: "forgetting: no class has images of both kinds" });
    }
    // Of the rank sum only the forgotten images' ranks vary; what a full set of them would have by
    // order alone goes off.
    let least: f64 = all
        .iter()
        .flat_map(|stratum| &stratum.networks)
        .map(|(_, lost)| (lost.len() * (lost.len() + 1)) as f64 / 2.0)
        .sum();
    let sum = |order: &[Vec<usize>]| -> f64 {
        let mut total = 0.0;
        for (stratum, order) in all.iter().zip(order) {
            for (ranks, lost) in &stratum.networks {
                total += lost.iter().map(|&place| ranks[order[place]]).sum::<f64>();
            }
        }
        total
    };
    let start: Vec<Vec<usize>> = all.iter().map(|stratum| stratum.images.clone()).collect();
    let observed = sum(&start);
    let reached: usize = chunks(permutations)
        .into_par_iter()
        .map(|(chunk, count)| {
            let mut draws = stream(seed, name, chunk);
            let mut order = start.clone();
            (0..count)
                .filter(|_| {
                    order.iter_mut().for_each(|order| order.shuffle(&mut draws));
                    // Ranks are halves, so sums are exact and ties are ties.
                    sum(&order) >= observed
                })
                .count()
        })
        .sum();
    Ok(Forgetting {
        forgotten,
        kept,
        auc: (observed - least) / pairs,
        p_value: (1 + reached) as f64 / (1 + permutations) as f64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_auc_is_the_share_of_pairs() {
        // Class 0: forgotten drifts 3 and 1 against kept 2 and 0: 3 of 4 pairs. Class 1: 1 against 1: a tie.
        let network = vec![
            Some((true, 3.0)),
            Some((true, 1.0)),
            Some((false, 2.0)),
            Some((false, 0.0)),
            Some((true, 1.0)),
            Some((false, 1.0)),
            None,
        ];
        let strata = [0, 0, 0, 0, 1, 1, 1];
        let found = forgetting(std::slice::from_ref(&network), &strata, 999, 1, "t").unwrap();
        assert_eq!((found.forgotten, found.kept), (3, 3));
        assert!((found.auc - 3.5 / 5.0).abs() < 1e-12);
        // 24 orders of class 0, the forgotten ranks being two of four: {3,1}, {3,2} and so on; a
        // tie in class 1 changes nothing.
        assert!((found.p_value - 2.0 / 6.0).abs() < 0.05, "{found:?}");
        let none: Images = network.iter().map(|image| image.map(|(_, drift)| (false, drift))).collect();
        assert!(forgetting(&[none], &strata, 99, 1, "t").is_err());
        assert!(forgetting(&[network], &[0], 99, 1, "t").is_err());
    }
}
