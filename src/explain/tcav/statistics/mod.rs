//! The table of concept statistics. Each says one thing about one concept, class and stage, and brings its own test.

mod effect;
mod score;

use nalgebra::DMatrix;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::stats::Interval;
use crate::stats::bootstrap::{Bootstrapped, Options};
use crate::stats::exchangeability::Exchangeability;

use super::pairs::ConceptScores;
use super::test::Tests;

/// A statistic of a concept.
pub struct Statistic {
    /// Its name in records and JSON.
    pub key: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// What it is, in a sentence.
    pub definition: &'static str,
    /// Its value, intervals and p-value.
    pub find: fn(&Case<'_>) -> Result<Finding>,
}

/// Every concept statistic; the first decides.
pub const STATISTICS: [Statistic; 2] = [effect::EFFECT, score::SCORE];

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
    /// `G Aᵀ`, `(class images, images)`.
    pub cross: &'a DMatrix<f64>,
    /// The concept's images, columns of `cross`.
    pub concept: &'a [usize],
    /// The random images that the concept is compared with, each once, without its own.
    pub random: &'a [usize],
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

/// Undefined where nothing varies: then there is no interval.
fn interval(result: crate::stats::Result<Bootstrapped>) -> Option<Interval> {
    result.ok().map(|result| result.interval)
}
