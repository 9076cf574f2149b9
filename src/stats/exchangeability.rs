//! The TCAV score's valid test: is the concept set exchangeable with the random sets?
//!
//! The concept set and `N` random sets of the same size are one family of `N + 1` members. If the
//! concept means nothing, its set is one more random set, and every member is equally likely to
//! have the largest statistic; so `p = (1 + #{random >= concept}) / (N + 1)` holds its level
//! whatever the dependence between scores that share a set (Barnard 1963; Davison & Hinkley 1997,
//! chapter 4). Every member is treated alike: it meets as many partners as any other, by a design
//! that is drawn without looking at the scores.

use super::{Result, StatsError};
use crate::seed::stream;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

/// Statistics closer than this count as tied, which counts against the concept: scores are shares of images, so real
/// differences are far larger.
const TIE: f64 = 1e-12;

/// The pairs of members for which a CAV is fitted. Member 0 is the concept set, members `1..=N` the random sets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Design {
    members: usize,
    partners: usize,
    pairs: Vec<(usize, usize)>,
}

impl Design {
    /// Every pair of the `members = N + 1` sets: `N (N + 1) / 2` CAVs.
    ///
    /// # Errors
    /// Fewer than three members (a concept and two random sets).
    pub fn all_pairs(members: usize) -> Result<Self> {
        check_members(members)?;
        let pairs = (0..members).flat_map(|i| (i + 1..members).map(move |j| (i, j))).collect();
        Ok(Design { members, partners: members - 1, pairs })
    }

    /// A regular design in which every member meets `partners` others: a circulant graph (member
    /// `k` meets its neighbours at distances `1..=partners / 2` on a circle) on labels shuffled by
    /// the stream `(seed, name, 0)`. It fits `members · partners / 2` CAVs, so that `N` can be in
    /// the hundreds.
    ///
    /// # Errors
    /// Fewer than three members, no partners, as many partners as members, or an odd number of both.
    pub fn regular(members: usize, partners: usize, seed: u64, name: &str) -> Result<Self> {
        check_members(members)?;
        if partners == 0 || partners >= members {
            return Err(StatsError::OutOfRange { what: "partners", value: partners as f64, range: "[1, members)" });
        }
        if partners % 2 == 1 && members % 2 == 1 {
            return Err(StatsError::Undefined {
                what: "partners: no design gives an odd number to an odd number of members",
            });
        }
        let mut label: Vec<usize> = (0..members).collect();
        label.shuffle(&mut stream(seed, name, 0));
        let pair = |i: usize, distance: usize| {
            let (a, b) = (label[i], label[(i + distance) % members]);
            (a.min(b), a.max(b))
        };
        let mut pairs: Vec<_> =
            (1..=partners / 2).flat_map(|d| (0..members).map(move |i| (i, d))).map(|(i, d)| pair(i, d)).collect();
        if partners % 2 == 1 {
            pairs.extend((0..members / 2).map(|i| pair(i, members / 2)));
        }
        pairs.sort_unstable();
        Ok(Design { members, partners, pairs })
    }

    /// Number of members, `N + 1`.
    pub fn members(&self) -> usize {
        self.members
    }

    /// Number of partners that every member meets.
    pub fn partners(&self) -> usize {
        self.partners
    }

    /// The pairs `(i, j)` with `i < j`, sorted: fit one CAV for each, with `i` as the positive set.
    pub fn pairs(&self) -> &[(usize, usize)] {
        &self.pairs
    }
}

/// The score of one pair.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PairScore {
    /// Share of class images with positive sensitivity to the CAV of the pair's first member
    /// against its second, in [0, 1].
    pub score: f64,
    /// Share of class images with a sensitivity of exactly zero, in [0, 1]. Zeros do not count
    /// towards the score, so that of the swapped pair is `1 - score - ties`.
    pub ties: f64,
}

/// Result of the exchangeability test.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Exchangeability {
    /// The concept's mean score against its partners.
    pub mean_score: f64,
    /// The concept's statistic, `|mean score - 1/2|`.
    pub statistic: f64,
    /// `(1 + #{random >= concept}) / (N + 1)`.
    pub p_value: f64,
    /// Smallest p-value that this many sets can give.
    pub smallest_p: f64,
    /// Mean score of every member against its partners; the concept's comes first, the rest are the random baseline.
    pub member_scores: Vec<f64>,
}

/// Tests the concept's mean score against those of the random sets; `scores` in the order of [`Design::pairs`].
///
/// Swapping the sets of a pair turns the CAV round, and the score into `1 - score - ties`, so each
/// pair is fitted once and counts for both of its members. Ties between members count against the
/// concept.
///
/// # Errors
/// Another number of scores than pairs; a score or share of ties that is not finite or with
/// `score + ties` outside `[0, 1]`.
pub fn exchangeability_test(design: &Design, scores: &[PairScore]) -> Result<Exchangeability> {
    if scores.len() != design.pairs.len() {
        return Err(StatsError::LengthMismatch {
            what: "scores and pairs",
            left: scores.len(),
            right: design.pairs.len(),
        });
    }
    let mut sums = vec![0.0; design.members];
    for (&(i, j), pair) in design.pairs.iter().zip(scores) {
        for value in [pair.score, pair.ties, pair.score + pair.ties] {
            if !(0.0..=1.0 + 1e-9).contains(&value) {
                return Err(StatsError::OutOfRange { what: "score and ties", value, range: "[0, 1]" });
            }
        }
        sums[i] += pair.score;
        sums[j] += 1.0 - pair.score - pair.ties;
    }
    let member_scores: Vec<f64> = sums.iter().map(|s| s / design.partners as f64).collect();
    let statistics: Vec<f64> = member_scores.iter().map(|s| (s - 0.5).abs()).collect();
    let reached = statistics[1..].iter().filter(|s| **s >= statistics[0] - TIE).count();
    Ok(Exchangeability {
        mean_score: member_scores[0],
        statistic: statistics[0],
        p_value: (1 + reached) as f64 / design.members as f64,
        smallest_p: 1.0 / design.members as f64,
        member_scores,
    })
}

fn check_members(members: usize) -> Result<()> {
    if members < 3 {
        return Err(StatsError::TooFew { what: "members (concept and random sets)", needed: 3, got: members });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pair(score: f64) -> PairScore {
        PairScore { score, ties: 0.0 }
    }

    #[test]
    fn worked_example() {
        // Members 0, 1, 2; pairs (0,1) = 0.9, (0,2) = 0.8, (1,2) = 0.5.
        let design = Design::all_pairs(3).unwrap();
        assert_eq!(design.pairs(), [(0, 1), (0, 2), (1, 2)]);
        let test = exchangeability_test(&design, &[pair(0.9), pair(0.8), pair(0.5)]).unwrap();
        for (ours, expected) in test.member_scores.iter().zip([0.85, 0.3, 0.35]) {
            assert!((ours - expected).abs() < 1e-12);
        }
        assert_eq!((test.p_value, test.smallest_p), (1.0 / 3.0, 1.0 / 3.0));
    }

    #[test]
    fn ties_count_against_the_concept_and_zeros_for_nobody() {
        let design = Design::all_pairs(3).unwrap();
        let flat = exchangeability_test(&design, &[pair(0.5); 3]).unwrap();
        assert_eq!(flat.p_value, 1.0);
        let zeros = exchangeability_test(&design, &[PairScore { score: 0.0, ties: 1.0 }; 3]).unwrap();
        assert_eq!(zeros.member_scores, [0.0; 3]);
        assert_eq!(zeros.p_value, 1.0);
    }

    #[test]
    fn bad_designs_are_named() {
        assert!(Design::all_pairs(2).is_err());
        assert!(Design::regular(9, 3, 0, "d").is_err());
        assert!(Design::regular(9, 9, 0, "d").is_err());
        let design = Design::all_pairs(3).unwrap();
        assert!(exchangeability_test(&design, &[pair(0.5)]).is_err());
        assert!(exchangeability_test(&design, &[PairScore { score: 0.7, ties: 0.7 }; 3]).is_err());
        assert!(exchangeability_test(&design, &[pair(f64::NAN); 3]).is_err());
    }

    proptest! {
        #[test]
        fn every_member_meets_equally_many_partners(members in 3usize..60, partners in 1usize..20, seed in 0u64..99) {
            prop_assume!(partners < members && (partners % 2 == 0 || members % 2 == 0));
            let design = Design::regular(members, partners, seed, "design").unwrap();
            let mut degree = vec![0; members];
            for &(i, j) in design.pairs() {
                prop_assert!(i < j);
                degree[i] += 1;
                degree[j] += 1;
            }
            prop_assert!(degree.iter().all(|d| *d == partners));
            let mut unique = design.pairs().to_vec();
            unique.dedup();
            prop_assert_eq!(unique.len(), members * partners / 2);
        }

        #[test]
        fn turning_a_pair_round_changes_nothing_but_its_sign(
            scores in prop::collection::vec((0u32..=20, 0u32..=5), 10), flip in 0usize..10,
        ) {
            // Five members; reversing all CAVs mirrors every mean score around (1 - ties) / 2 and,
            // without ties, keeps p.
            let design = Design::all_pairs(5).unwrap();
            let scores: Vec<_> = scores.iter().map(|(s, _)| pair(f64::from(*s) / 20.0)).collect();
            let mirrored: Vec<_> = scores.iter().map(|s| pair(1.0 - s.score)).collect();
            let (a, b) = (exchangeability_test(&design, &scores).unwrap(), exchangeability_test(&design, &mirrored).unwrap());
            prop_assert_eq!(a.p_value, b.p_value);
            prop_assert!(a.p_value >= a.smallest_p && a.p_value <= 1.0);
            // A stronger score of the concept against one partner moves its mean up.
            if flip < 4 {
                let mut stronger = scores.clone();
                stronger[flip] = pair(1.0);
                prop_assert!(exchangeability_test(&design, &stronger).unwrap().mean_score >= a.mean_score);
            }
        }
    }
}
