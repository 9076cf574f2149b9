//! What passes the gate.

use crate::error::{Error, Result};
use crate::records::gate::{Kind, OnUndecided};

use super::explained::Dense;

/// Confidence of the intervals: each end at 5 %, as in studies.
pub(super) const CONFIDENCE: f64 = 0.9;
/// Chance with which one more retrained network may be refused, shared by all that is required.
pub(super) const LEVEL: f64 = 0.05;
/// Greatest ρ that counts as kept, unless the user says otherwise: that of studies.
const DEFAULT_LIMIT: f64 = 1.25;

/// What passes.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// Greatest drift that counts as kept: ρ with a floor (1.25 by default), else drift from the reference.
    pub max_drift: Option<f64>,
    /// Least share of the images that must count for pixels.
    pub min_images: f64,
    /// Loss of accuracy that still counts as a match, as a share.
    pub accuracy_margin: f64,
    /// What must be kept; by default all that is at hand.
    pub required: Option<Vec<Kind>>,
    /// What an undecided answer does.
    pub on_undecided: OnUndecided,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            max_drift: None,
            min_images: 0.5,
            accuracy_margin: 0.01,
            required: None,
            on_undecided: OnUndecided::Pass,
        }
    }
}

impl Rules {
    /// Greatest ρ that counts as kept.
    pub(super) fn limit(&self) -> f64 {
        self.max_drift.unwrap_or(DEFAULT_LIMIT)
    }

    /// Images of `images` that must count.
    pub(super) fn needed(&self, images: usize) -> usize {
        (self.min_images * images as f64).ceil() as usize
    }

    /// What is required of candidates; `None` where there is no gate.
    ///
    /// # Errors
    /// When something is required that cannot be answered.
    pub(super) fn required(&self, dense: &Dense) -> Result<Option<Vec<Kind>>> {
        let (floor, labels) = (!dense.floor.is_empty(), dense.labels.is_some());
        let concepts = !dense.reference.effects.is_empty();
        let possible = |kind: Kind| match kind {
            Kind::Pixels => floor || self.max_drift.is_some(),
            Kind::Concepts => concepts && floor,
            Kind::Accuracy => labels,
        };
        let Some(required) = &self.required else {
            let all = Kind::ALL.into_iter().filter(|&kind| possible(kind));
            // Labels alone choose images; they make no gate.
            return Ok(possible(Kind::Pixels).then(|| all.collect()));
        };
        let mut required = required.clone();
        required.sort();
        required.dedup();
        match required.iter().find(|&&kind| !possible(kind)) {
            Some(Kind::Pixels) => {
                Err(Error::input("pixels are required (`require`): give floor networks or a greatest drift"))
            }
            Some(Kind::Concepts) if !concepts => {
                Err(Error::input("concepts are required (`require`), but none were given"))
            }
            Some(Kind::Concepts) => Err(Error::input("concepts are required (`require`): give floor networks")),
            Some(Kind::Accuracy) => Err(Error::input("accuracy is required (`require`): give labels")),
            None => Ok(Some(required)),
        }
    }
}
