//! A TCAV score that does not discard size: a smooth function of the sensitivity in the place of its sign.
//!
//! α-TCAV (Schnoor, Said, Tiomoko, Samek & Jung 2026, arXiv:2605.15688) replaces the indicator
//! `S > 0`, whose variance does not fall where S is near 0, by a smooth function of `α S`. Here the
//! function is the normal distribution's Φ and `α = 1 / σ(S)`, the inverse standard error of S over
//! the images that the CAV is made of: the mean over class images is then the probability, with a
//! flat prior and to normal approximation, that the logit rises along the direction that infinitely
//! many concept and random images would give. Written from the paper's abstract; its own scale of α
//! may be another.

use crate::error::Result;

use super::pool::{Member, exchangeability_p};
use super::{Case, Finding, Statistic};

pub(super) const SMOOTH_SCORE: Statistic = Statistic {
    key: "smooth_score",
    title: "smooth TCAV score",
    definition: "mean over class images of Φ(S / σ), with S the sensitivity along the PatternCAV of the concept against all random \
                 images and σ its standard error over images; tested among the random sets in its place",
    find,
};

fn find(case: &Case<'_>) -> Result<Option<Finding>> {
    let scores: Vec<f64> = case.members.iter().map(Member::smooth_score).collect();
    Ok(Some(Finding::tested(scores[0], exchangeability_p(&scores)?)))
}
