//! The TCAV score of one CAV from the whole random pool, in the place of many from one random set each.

use crate::error::Result;

use super::pool::{Member, exchangeability_p};
use super::{Case, Finding, Statistic};

pub(super) const POOL_SCORE: Statistic = Statistic {
    key: "pool_score",
    title: "TCAV score, whole pool",
    definition: "share of class images whose logit rises along the PatternCAV (difference of means) of the concept against all \
                 random images; tested among the random sets in its place",
    find,
};

fn find(case: &Case<'_>) -> Result<Option<Finding>> {
    let scores: Vec<_> = case.members.iter().map(Member::score).collect();
    // Zeros do not count towards the score; for the test they say nothing either way.
    let balanced: Vec<f64> = scores.iter().map(|of| of.score + of.ties / 2.0).collect();
    Ok(Some(Finding::tested(scores[0].score, exchangeability_p(&balanced)?)))
}
