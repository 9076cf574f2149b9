//! The table of concept statistics. Each says one thing about one concept, class and stage, and brings its own test.

mod conditional;
mod effect;
mod pool;
mod pool_score;
mod region;
mod score;
mod smooth_score;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::stats::Interval;
use crate::stats::bootstrap::{Bootstrapped, Options};
use crate::stats::exchangeability::Exchangeability;

pub(super) use effect::interval_name;
pub(super) use pool::add_to_members;
pub use pool::{Member, members};

use super::pairs::ConceptScores;
use super::settings::Tests;

/// A statistic of a concept.
pub struct Statistic {
    /// Its name in records and JSON.
    pub key: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// What it is, in a sentence.
    pub definition: &'static str,
    /// Its value, intervals and p-value; none where what it needs is not known.
    pub find: fn(&Case<'_>) -> Result<Option<Finding>>,
}

/// Every concept statistic; the first decides.
pub const STATISTICS: [Statistic; 6] = [
    effect::EFFECT,
    score::SCORE,
    pool_score::POOL_SCORE,
    smooth_score::SMOOTH_SCORE,
    conditional::CONDITIONAL,
    region::REGION,
];

/// Key of the concept effect.
pub const EFFECT: &str = effect::EFFECT.key;
/// Key of the TCAV score.
pub const SCORE: &str = score::SCORE.key;

/// What a statistic is computed from: one concept, one class, one stage.
pub struct Case<'a> {
    /// `stage/class/concept`: names the streams of its draws.
    pub label: &'a str,
    /// What the class's gradients say about the concept.
    pub scores: &'a ConceptScores,
    /// The family's mean scores and their test.
    pub family: &'a Exchangeability,
    /// `ḡ·a` of each concept and random image, `ḡ` the mean gradient of the class images.
    pub means: &'a [f64],
    /// Interval of the effect in logits over class, concept and random images, where asked for.
    pub effect_in_logits: Option<Interval>,
    /// The concept's images, by place among `means`.
    pub concept: &'a [usize],
    /// The random images that the concept is compared with, each once, without its own.
    pub random: &'a [usize],
    /// The concept, and each random set in its place, against all other sets.
    pub members: &'a [Member],
    /// For each concept tested with this one, in order, whether each image shows it; empty where that is not known.
    pub shows: &'a [&'a [Option<bool>]],
    /// This concept's place among those.
    pub place: usize,
    /// What its region says, where regions are asked for.
    pub region: Option<Finding>,
    /// How it is tested.
    pub tests: &'a Tests,
}

impl Case<'_> {
    /// Percentile intervals by the settings of the tests; `None` where none are asked for.
    fn bootstrap(&self) -> Option<Options> {
        let Tests { resamples, confidence, .. } = *self.tests;
        (resamples > 0).then_some(Options { resamples, confidence })
    }
}

/// What a statistic says of one concept.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The value.
    pub value: f64,
    /// Bootstrap interval of the value; absent where undefined or not asked for.
    pub interval: Option<Interval>,
    /// The value in units that compare over networks, where the statistic has any.
    pub standardised: Option<f64>,
    /// Bootstrap interval of that.
    pub standardised_interval: Option<Interval>,
    /// p-value of the statistic's own test, not adjusted.
    pub p_value: f64,
}

impl Finding {
    /// A value with its p-value and nothing else.
    pub(super) fn tested(value: f64, p_value: f64) -> Self {
        Self { value, interval: None, standardised: None, standardised_interval: None, p_value }
    }
}

/// Undefined where nothing varies: then there is no interval.
fn interval(result: crate::stats::Result<Bootstrapped>) -> Option<Interval> {
    result.ok().map(|result| result.interval)
}
