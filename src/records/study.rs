//! What follows from all rounds of a study: answers by density, ranges, verdicts, and what they rest on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::RoundId;
use crate::model::Stage;
use crate::stats::Interval;
pub use crate::stats::forgetting::Forgetting;
pub use crate::stats::onset::Onset;
use crate::stats::similarity::Measure;
pub use crate::stats::verdict::{Accuracy, Call, Explanations, Outcome};

/// Everything that follows from the round records (`metrics.json`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StudyRecord {
    /// [`super::FORMAT`].
    pub format: u32,
    /// The answer in one sentence.
    pub answer: String,
    /// Hypothesis A: pruning keeps the explanations, and so LTH finds winning tickets.
    pub hypothesis_a: Verdict,
    /// Hypothesis B: pruning changes them, and so it does not.
    pub hypothesis_b: Verdict,
    /// The ranges of both hypotheses for pixels alone and for concepts alone.
    pub alone: Alone,
    /// The ranges of both hypotheses by each way to draw maps, as if it were the one that decides.
    pub views: Vec<ViewRanges>,
    /// One row for each arm and density over all replicates, sorted by arm and round.
    pub densities: Vec<DensityRecord>,
    /// What retraining without pruning does.
    pub floor: Floor,
    /// Where accuracy, pixels and concepts begin to change, in the lottery arm; absent with fewer than two replicates.
    pub onsets: Option<Onsets>,
    /// Whether images that are forgotten drift more than those that are kept, by density; twins as control.
    pub forgetting: Vec<ForgettingRecord>,
    /// One row for each network, sorted by arm, replicate, round.
    pub networks: Vec<NetworkSummary>,
    /// Sanity check of each replicate's dense network.
    pub sanity: Vec<SanitySummary>,
    /// What the checks say of each saliency method, on the dense parents.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<MethodChecks>,
    /// Things a reader should know.
    pub warnings: Vec<String>,
}

/// The verdict on one hypothesis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// How it fared.
    pub outcome: Outcome,
    /// The densities it holds for.
    pub range: Option<DensityRange>,
    /// Why, in one or two sentences with the numbers.
    pub reason: String,
}

/// A range of densities, ends included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DensityRange {
    /// The greatest density; 1 for hypothesis A, whose range starts at the dense network.
    pub from: f64,
    /// The least density.
    pub to: f64,
}

/// Ranges by one kind of explanation alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Alone {
    /// By pixels.
    pub pixels: Ranges,
    /// By concepts.
    pub concepts: Ranges,
}

/// The ranges of both hypotheses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ranges {
    /// Of hypothesis A.
    pub a: Option<DensityRange>,
    /// Of hypothesis B.
    pub b: Option<DensityRange>,
}

/// Ranges by the maps of one stage and method.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ViewRanges {
    /// As in [`PixelRecord::view`].
    pub view: String,
    /// The least density down to which these maps are kept, from the mildest on; absent where they are not.
    pub kept_to: Option<f64>,
    /// The ranges of A and B with these maps and the concepts.
    pub ranges: Ranges,
}

/// One arm at one density, over all replicates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DensityRecord {
    /// Arm.
    pub arm: String,
    /// Round.
    pub round: usize,
    /// Mean share of prunable weights kept.
    pub density: f64,
    /// Mean share of test images classified correctly.
    pub test_accuracy: f64,
    /// Accuracy beside the parent's.
    pub accuracy: AccuracyRecord,
    /// Drift of the maps, one entry for each stage and method; the first decides. Empty for the dense network.
    pub pixels: Vec<PixelRecord>,
    /// Drift of the concepts, one entry for each stage; the first decides.
    pub concepts: Vec<ConceptRecord>,
    /// Drift of the representation, one entry for each stage that is recorded; no call rests on it.
    /// Empty for the dense network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub representations: Vec<RepresentationDrift>,
    /// The call.
    pub call: Call,
    /// Why, in words.
    pub reason: String,
}

/// Accuracy of one arm and density beside that of the parents, as shares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AccuracyRecord {
    /// Mean difference, this − parent.
    pub difference: f64,
    /// Its interval over replicates and images; absent with one replicate.
    pub interval: Option<Interval>,
    /// Difference of each replicate.
    pub replicates: Vec<f64>,
    /// Mean difference for each class.
    pub by_class: Vec<f64>,
    /// Mean share of test images that the parent classifies correctly and this network does not.
    pub forgotten: f64,
    /// Mean share of the reverse.
    pub learned: f64,
    /// What the interval says.
    pub answer: Accuracy,
}

/// Drift of the maps at one stage by one method.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PixelRecord {
    /// Stage, and the method where it is not the plan's first: `layer4`, `layer4/layer-cam`.
    pub view: String,
    /// Mean share of the images that count: all networks compared classify them right and every map has a pattern.
    pub counted: f64,
    /// By every measure; Spearman decides.
    pub measures: BTreeMap<Measure, Ratio>,
}

/// Drift of the profile of concept effects at one stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConceptRecord {
    /// Stage.
    pub stage: Stage,
    /// Root mean square difference of the standardised effects, beside what retraining does.
    pub ratio: Ratio,
    /// Mean number of class × concept pairs that are significant, over replicates.
    pub significant: f64,
    /// Mean number of pairs whose sign or significance differs from the parent's.
    pub flipped: f64,
    /// The same for twins: what retraining alone flips. Absent without twins.
    pub flipped_twins: Option<f64>,
}

/// Drift of the representation at one stage: 1 − debiased linear CKA of the activations of the same images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RepresentationDrift {
    /// Stage.
    pub stage: Stage,
    /// Beside what retraining does; over all images that are recorded, right or wrong.
    pub ratio: Ratio,
}

/// Drift beyond retraining: ρ, the drift of a ticket from the comparators over that of its parent
/// from them. 1: pruning does nothing beyond retraining.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// `exp` of the mean of `ln ρ` over replicates, over the images that count.
    pub rho: Option<f64>,
    /// Its interval over replicates and images; absent with one replicate.
    pub interval: Option<Interval>,
    /// ρ of each replicate.
    pub replicates: Vec<Option<f64>>,
    /// ρ over all images.
    pub all_images: Option<f64>,
    /// `d(parent, ticket) / d(parent, twins)`: the paper's comparison. It starts below 1, as ticket
    /// and parent share the data order.
    pub from_parent: Option<f64>,
    /// `d(parent, ticket)` over the mean drift between dense networks of different seeds.
    pub in_seed_floors: Option<f64>,
    /// What the interval says.
    pub answer: Explanations,
    /// One-sided p-value against "not changed"; absent without an interval.
    pub changed_p: Option<f64>,
    /// Why there is no answer, where there is none.
    pub undefined: Option<String>,
}

/// What ρ compares with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Comparators {
    /// Twins: dense networks from the same θ_k with other data orders.
    Twins,
    /// Dense networks of the other replicates.
    Seeds,
}

/// What retraining without pruning does to the explanations, at the first stage and by the first method.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Floor {
    /// What ρ compares with.
    pub comparators: Comparators,
    /// Mean drift of twins from their parent.
    pub twins: Levels,
    /// Mean drift between the dense networks of different replicates.
    pub seeds: Levels,
    /// Each pair of dense networks that was compared.
    pub pairs: Vec<FloorPair>,
}

/// Mean drift of a group of pairs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Levels {
    /// Of maps, by every measure.
    pub pixels: BTreeMap<Measure, f64>,
    /// Of the profile of standardised effects.
    pub concepts: Option<f64>,
    /// Of the representation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub representation: Option<f64>,
}

/// Drift between two dense networks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FloorPair {
    /// One network.
    pub first: RoundId,
    /// The other.
    pub second: RoundId,
    /// Their drift.
    pub drift: Drift,
}

/// Drift between two networks on the same images, at the first stage and by the first method.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// Of the maps, by every measure.
    pub pixels: BTreeMap<Measure, MeasureDrift>,
    /// Images that both classify correctly and whose maps both have a pattern.
    pub images: usize,
    /// Images whose map has no pattern in either network.
    pub degenerate: usize,
    /// Root mean square difference of the profiles of standardised effects.
    pub concepts: Option<f64>,
    /// Of the representation: 1 − debiased linear CKA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub representation: Option<f64>,
    /// `1 − ρ` (Spearman) of those profiles.
    pub concept_ranks: Option<f64>,
    /// Root mean square difference of the profiles of TCAV scores.
    pub scores: Option<f64>,
    /// Concepts whose effect's significance or sign differs, as `class/concept`.
    pub flipped: Vec<String>,
}

/// Mean drift of maps by one measure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MeasureDrift {
    /// Over the images that both networks classify correctly.
    pub both_right: Option<f64>,
    /// Over all images.
    pub all: Option<f64>,
    /// Images of all that the measure says nothing about: a map of either network has no pattern.
    pub degenerate: usize,
}

/// Where changes begin, in the lottery arm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Onsets {
    /// Where accuracy falls below its margin.
    pub accuracy: Onset,
    /// Where ρ of the maps exceeds its limit; absent where ρ is undefined at some density.
    pub pixels: Option<Onset>,
    /// The same for concepts.
    pub concepts: Option<Onset>,
    /// Which comes first within replicates.
    pub order: Vec<Order>,
}

/// How often one quantity changes before another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// `pixels`, `concepts` or `accuracy`.
    pub first: String,
    /// Another of them.
    pub second: String,
    /// Replicates in which `first` crosses at a higher density than `second`.
    pub before: usize,
    /// Replicates in which it is the other way round.
    pub after: usize,
}

/// Forgotten images beside kept ones at one density of the lottery arm, or, as control, of twins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForgettingRecord {
    /// Round; 0 for the twins.
    pub round: usize,
    /// Density.
    pub density: f64,
    /// All networks of this density together; absent where no class has images of both kinds.
    pub all: Option<Forgetting>,
    /// Adjusted over the densities (Holm).
    pub p_adjusted: Option<f64>,
    /// Each network by itself.
    pub networks: Vec<(RoundId, Option<Forgetting>)>,
}

/// One network beside the dense parent of its replicate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkSummary {
    /// Which network.
    #[serde(flatten)]
    pub id: RoundId,
    /// Share of prunable weights kept.
    pub density: f64,
    /// Share of test images classified correctly.
    pub test_accuracy: f64,
    /// Drift from the parent.
    pub drift: Drift,
    /// Adjusted p-values, in the order of the round's TCAV records.
    pub adjusted: Vec<Adjusted>,
    /// Decodable concepts (class × concept at the first stage) whose effect is significant after adjustment.
    pub significant: usize,
    /// For dense networks, the p-value against guessing the commonest class; large where a network has not learned.
    pub chance_p: Option<f64>,
}

/// Adjusted p-values of one TCAV record.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Adjusted {
    /// Of the effect.
    pub effect_p: f64,
    /// Of the score.
    pub score_p: f64,
}

/// What became of the maps when a dense network was made wholly random.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SanitySummary {
    /// The replicate.
    pub replicate: usize,
    /// Mean drift of the random network's maps from the parent's, over that of the floor.
    pub ratio: Option<f64>,
    /// Interval of that.
    pub interval: Option<Interval>,
    /// Whether randomising destroys the maps: they end further away than another trained network's. Absent where the
    /// interval leaves it open or is undefined.
    pub destroyed: Option<bool>,
}

/// What the checks say of the maps of one saliency method at the first stage or on the input, means
/// over the dense parents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MethodChecks {
    /// As in [`PixelRecord::view`], or `input/gradient` and its like.
    pub view: String,
    /// Whether randomising every layer destroys the maps, for each replicate that was checked.
    pub sanity: Vec<SanitySummary>,
    /// Area under the deletion curve; low is faithful.
    pub deletion: Option<f64>,
    /// The same by shuffled maps.
    pub random_deletion: Option<f64>,
    /// Area under the insertion curve; high is faithful.
    pub insertion: Option<f64>,
    /// The same by shuffled maps.
    pub random_insertion: Option<f64>,
    /// Share of the positive evidence inside the objects' boxes, where these are known.
    pub energy_in_box: Option<f64>,
    /// Rate at which the maximum lies in the box.
    pub pointing_game: Option<f64>,
    /// Share of the image that the boxes cover.
    pub chance: Option<f64>,
}
