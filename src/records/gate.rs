//! What the drift gate concludes: answers on each candidate, and what they rest on. Plain data, written as JSON.

use serde::{Deserialize, Serialize};

use crate::model::{Assumptions, Stage};
use crate::stats::Interval;
use crate::stats::similarity::Measure;
use crate::stats::verdict::Explanations;

/// Version of [`DriftReport`]'s JSON.
pub const DRIFT_SCHEMA_VERSION: u32 = 3;

/// What `ticketlens drift` found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DriftReport {
    /// [`DRIFT_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Name of the reference.
    pub reference: String,
    /// Stage of the maps and concepts; absent where maps came as arrays.
    pub stage: Option<Stage>,
    /// Images compared.
    pub images: usize,
    /// Names of the networks that give the noise floor; empty without a floor.
    pub floor: Vec<String>,
    /// Images that count in reference and floor; absent without a floor.
    pub floor_counted: Option<usize>,
    /// Share of the reference's prunable weights that are not zero, where its weights are known.
    pub density: Option<f64>,
    /// Its accuracy on the images; absent without labels.
    pub accuracy: Option<f64>,
    /// How the reference computes, as far as names and shapes do not tell.
    pub assumed: Option<Assumptions>,
    /// One entry for each candidate, in the order given.
    pub candidates: Vec<CandidateDrift>,
}

/// One candidate beside the reference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CandidateDrift {
    /// Name of the network.
    pub name: String,
    /// What was asked: pixels, then concepts and accuracy where there are any.
    pub answers: Vec<Answer>,
    /// Each measure of the maps, the deciding one first.
    pub measures: Vec<MeasuredDrift>,
    /// Images whose drift counts: reference, candidate and every floor network have a map that says
    /// something and, with labels, are right.
    pub counted: usize,
    /// Images that one of these networks gets wrong, by the labels; they do not count.
    pub misclassified: usize,
    /// Images whose map says nothing in one of these networks; they do not count.
    pub degenerate: usize,
    /// Share of its prunable weights that are not zero, where its weights are known.
    pub density: Option<f64>,
    /// Its accuracy on the images; absent without labels.
    pub accuracy: Option<f64>,
    /// How it computes, as far as names and shapes do not tell.
    pub assumed: Option<Assumptions>,
    /// Drift of each image that counts from the reference, the most moved first.
    pub images: Vec<NamedDrift>,
    /// Mean drift over the images of each class, the most moved first.
    pub classes: Vec<NamedDrift>,
    /// Each concept on each class, the most moved first; empty without concepts.
    pub concepts: Vec<ConceptDrift>,
    /// Layers whose weights differ most from the reference's, by relative L2 distance, the most moved first.
    pub layers: Vec<NamedDrift>,
    /// Whether the gate lets it pass; absent without floor and limit.
    pub gate: Option<Gate>,
}

/// What is asked of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Does it look at the same pixels?
    Pixels,
    /// Does it use the same concepts?
    Concepts,
    /// Is it as accurate?
    Accuracy,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 3] = [Kind::Pixels, Kind::Concepts, Kind::Accuracy];

    /// Its name in JSON and on the command line.
    pub fn key(self) -> &'static str {
        match self {
            Kind::Pixels => "pixels",
            Kind::Concepts => "concepts",
            Kind::Accuracy => "accuracy",
        }
    }
}

/// The unit of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// ρ: drift from the floor networks over the reference's drift from them; 1 is no more than retraining.
    Rho,
    /// Drift from the reference itself.
    Drift,
    /// Accuracy, candidate − reference, as a share.
    Share,
}

/// What an interval speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Over {
    /// Other images.
    Images,
    /// Other floor networks.
    Networks,
    /// Both.
    ImagesAndNetworks,
}

/// The answer to one question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The question.
    pub kind: Kind,
    /// Kept, changed or undecided.
    pub answer: Explanations,
    /// The value; absent where it is undefined.
    pub value: Option<f64>,
    /// Its unit.
    pub unit: Unit,
    /// Interval of the value (90 %); absent where there is none.
    pub interval: Option<Interval>,
    /// What the interval speaks of.
    pub over: Option<Over>,
    /// Kept up to here. Of accuracy: the loss that still counts as a match.
    pub limit: Option<f64>,
    /// What one more retrained network reaches, in the unit of the value; changed only beyond it.
    /// Of accuracy: as a loss. Absent with fewer than two floor networks.
    pub reach: Option<f64>,
    /// Whether there is a value that rests on enough images; what was not measured trips the gate where it is required.
    pub measured: bool,
    /// Why the answer is not decided, or how far the claim goes.
    pub note: Option<String>,
}

/// One measure of the maps' drift.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeasuredDrift {
    /// The measure.
    pub measure: Measure,
    /// The candidate's drift from the reference; absent where no image allows it.
    pub drift: Option<f64>,
    /// Mean drift between every two of reference and floor.
    pub floor: Option<f64>,
    /// The candidate's drift from the floor networks over the reference's.
    pub rho: Option<f64>,
}

/// Drift of something with a name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NamedDrift {
    /// Image, class or layer.
    pub name: String,
    /// Its drift.
    pub drift: f64,
}

/// One concept's standardised effect on one class, before and after.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConceptDrift {
    /// Class.
    pub class: String,
    /// Concept.
    pub concept: String,
    /// Standardised effect in the reference.
    pub reference: f64,
    /// Standardised effect in the candidate.
    pub candidate: f64,
    /// Whether its sign or its significance changed, p-values adjusted over class × concept.
    pub flipped: bool,
}

/// What the gate does with what is undecided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnUndecided {
    /// Lets it pass.
    #[default]
    Pass,
    /// Trips.
    Fail,
}

/// The gate's decision on one candidate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// What has to be kept.
    pub required: Vec<Kind>,
    /// What an undecided answer does.
    pub on_undecided: OnUndecided,
    /// Images that must count, of those compared.
    pub needed: usize,
    /// The questions that trip it; empty where it passes.
    pub tripped_by: Vec<Kind>,
    /// Whether the candidate is refused.
    pub tripped: bool,
}

impl DriftReport {
    /// Whether any candidate is refused: the program's exit status 1.
    pub fn tripped(&self) -> bool {
        self.candidates.iter().any(CandidateDrift::tripped)
    }
}

impl CandidateDrift {
    /// Whether the gate refuses it.
    pub fn tripped(&self) -> bool {
        self.gate.as_ref().is_some_and(|gate| gate.tripped)
    }

    /// The answer to a question.
    pub fn answer(&self, kind: Kind) -> Option<&Answer> {
        self.answers.iter().find(|answer| answer.kind == kind)
    }
}
