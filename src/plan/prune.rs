//! What a plan says of pruning and rewinding.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::prune::Scope;

/// Pruning of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrunePlan {
    /// Share of the remaining weights that goes each round.
    pub fraction: f64,
    /// Another share for the last rounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late: Option<LatePrune>,
    /// Prunings n; n + 1 networks.
    pub rounds: usize,
    /// Rounds at which the arms beside the lottery's are trained; all where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_rounds: Option<Vec<usize>>,
    /// Over what weights compete.
    pub scope: Scope,
    /// Shares of layers, by name, that go by another than `fraction`; for the scope `layerwise`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub layers: BTreeMap<String, f64>,
    /// Layers left out of count and cut.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Step k to which tickets are rewound: `"0ep"`, `"1ep"`, `"500it"`.
    pub rewind: String,
}

impl PrunePlan {
    /// Share of the remaining weights that goes in a round, counted from 1; layers with one of their own keep theirs.
    pub fn fraction_of(&self, round: usize) -> f64 {
        self.late.filter(|late| round > late.after).map_or(self.fraction, |late| late.fraction)
    }
}

/// Rounds that prune by another share: `{ after = 34, fraction = 0.5 }`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatePrune {
    /// The last round that prunes by the plan's `fraction`.
    pub after: usize,
    /// Share of the remaining weights that goes in each round after it.
    pub fraction: f64,
}

/// A point in training: `"3ep"` or `"500it"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rewind {
    /// After so many epochs.
    Epochs(u64),
    /// After so many optimiser steps.
    Steps(u64),
}

impl Rewind {
    /// Parses the plan's field.
    ///
    /// # Errors
    /// When it is neither form.
    pub fn parse(text: &str) -> Result<Self> {
        let number = |digits: &str| digits.parse::<u64>().ok();
        let parsed = match (text.strip_suffix("ep"), text.strip_suffix("it")) {
            (Some(digits), _) => number(digits).map(Rewind::Epochs),
            (_, Some(digits)) => number(digits).map(Rewind::Steps),
            _ => None,
        };
        parsed.ok_or_else(|| Error::config("prune.rewind", format!("`{text}` is not like `0ep` or `500it`")))
    }

    /// The optimiser step.
    pub fn step(self, steps_per_epoch: u64) -> u64 {
        match self {
            Rewind::Epochs(epochs) => epochs.saturating_mul(steps_per_epoch),
            Rewind::Steps(steps) => steps,
        }
    }
}
