//! The measures of drift that the report draws: each way to compare maps, the profile of concepts,
//! and the representation.

use crate::records::{DensityRecord, Drift, Levels, MeasureDrift, Ratio};
use crate::stats::similarity::Measure as MapMeasure;

/// A measure of drift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    /// Of maps.
    Pixels(MapMeasure),
    /// Of the profile of concept effects.
    Concepts,
    /// Of the representation, without a map or a concept; no answer rests on it.
    Representation,
}

impl Measure {
    /// The ones that answers rest on.
    pub(crate) const DECIDING: [Measure; 2] = [Measure::Pixels(MapMeasure::Spearman), Measure::Concepts];

    /// All: the deciding ones first.
    pub(crate) fn all() -> impl Iterator<Item = Measure> {
        Self::DECIDING.into_iter().chain([Measure::Representation]).chain(Self::further())
    }

    /// The further measures of maps.
    pub(crate) fn further() -> impl Iterator<Item = Measure> {
        MapMeasure::ALL.into_iter().filter(|&measure| measure != MapMeasure::Spearman).map(Measure::Pixels)
    }

    /// What is recorded of it as a measure of maps: on images both classify correctly, on all, and degenerate ones.
    pub(crate) fn recorded(self, drift: &Drift) -> Option<MeasureDrift> {
        match self {
            Measure::Pixels(measure) => drift.pixels.get(&measure).copied(),
            Measure::Concepts | Measure::Representation => None,
        }
    }

    /// Its raw value.
    pub(crate) fn of(self, drift: &Drift) -> Option<f64> {
        match self {
            Measure::Pixels(_) => self.recorded(drift)?.both_right,
            Measure::Concepts => drift.concepts,
            Measure::Representation => drift.representation,
        }
    }

    /// Its mean between dense networks.
    pub(crate) fn level(self, levels: &Levels) -> Option<f64> {
        match self {
            Measure::Pixels(measure) => levels.pixels.get(&measure).copied(),
            Measure::Concepts => levels.concepts,
            Measure::Representation => levels.representation,
        }
    }

    /// ρ by it, in the view or at the stage that decides.
    pub(crate) fn ratio(self, record: &DensityRecord) -> Option<&Ratio> {
        match self {
            Measure::Pixels(measure) => record.pixels.first()?.measures.get(&measure),
            Measure::Concepts => record.concepts.first().map(|concepts| &concepts.ratio),
            Measure::Representation => record.representations.first().map(|of| &of.ratio),
        }
    }

    /// For people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Measure::Pixels(measure) => measure.title(),
            Measure::Concepts => "Concept profile",
            Measure::Representation => "Representation",
        }
    }

    /// Its name in JSON and CSV, in fragments and file names.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Measure::Pixels(measure) => measure.key(),
            Measure::Concepts => "concepts",
            Measure::Representation => "representation",
        }
    }

    /// Its definition.
    pub(crate) fn definition(self) -> &'static str {
        match self {
            Measure::Pixels(measure) => measure.definition(),
            Measure::Concepts => {
                "root mean square difference of the standardised concept effects, over class × concept"
            }
            Measure::Representation => "1 − debiased linear CKA of the activations of the same images",
        }
    }
}
