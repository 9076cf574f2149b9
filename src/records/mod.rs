//! What a run records: plain data with a format version, and nothing that depends on where or when it was computed.
//!
//! [`RoundRecord`] is written by the round itself (`round.json`, its commit marker). [`StudyRecord`] (`metrics.json`) is derived
//! from all round records: adjusted p-values, drift, floor, calls and verdicts.

mod folder;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use crate::explain::sanity::Randomisation;
use crate::model::Stage;
use crate::plan::{Arm, Plan};
use crate::prune::LayerDensity;
pub use crate::stats::Interval;
use crate::stats::localisation::PixelBox;
use crate::stats::similarity::Measure;

pub use folder::{Store, read_trunk};

/// Version of [`RoundRecord`] and [`StudyRecord`]; readers refuse another.
pub const FORMAT: u32 = 1;

/// Which network: arm, replicate and round. Round 0 of the lottery arm is the dense network.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RoundId {
    /// `lottery`, `random_mask` or `reinit`.
    pub arm: String,
    /// Index of the replicate.
    pub replicate: usize,
    /// Round.
    pub round: usize,
}

/// One trained network and its explanations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundRecord {
    /// [`FORMAT`].
    pub format: u32,
    /// Which network.
    #[serde(flatten)]
    pub id: RoundId,
    /// Digest of the weights.
    pub weights: String,
    /// Share of prunable weights kept.
    pub density: f64,
    /// Prunable weights kept.
    pub kept: usize,
    /// Prunable weights in all.
    pub total: usize,
    /// Density of each layer.
    pub layers: Vec<LayerDensity>,
    /// Mean training loss of each epoch, in nats.
    pub epoch_loss: Vec<f64>,
    /// Share of validation images classified correctly.
    pub validation_accuracy: f64,
    /// Share of test images classified correctly.
    pub test_accuracy: f64,
    /// For each test image in order, `1` where it is classified correctly, else `0`.
    pub test_correct: String,
    /// Grad-CAM at each stage; the maps stand in `explain/maps.safetensors` under the stage's name, `(N, h, w)`.
    pub grad_cam: Vec<CamRecord>,
    /// TCAV: stage × class × concept.
    pub tcav: Vec<TcavRecord>,
    /// How the concepts' directions lie to each other, at each stage.
    #[serde(default)]
    pub cavs: Vec<CavGeometry>,
    /// Whether the pixels that the maps mark carry the prediction, at each stage.
    #[serde(default)]
    pub faithfulness: Vec<FaithfulnessRecord>,
    /// How often each test rejects where there is nothing to find, at each stage and class.
    #[serde(default)]
    pub calibration: Vec<CalibrationRecord>,
    /// Whether the maps look at the objects, at each stage, where boxes are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub localisation: Vec<LocalisationRecord>,
    /// Wall-clock seconds of training and of explaining; for people, never compared.
    pub seconds: Seconds,
}

/// How long parts of a round took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seconds {
    /// Training.
    pub train: f64,
    /// Evaluation and explanations.
    pub explain: f64,
}

/// Grad-CAM of the true class on the run's fixed test images, at one stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CamRecord {
    /// Stage.
    pub stage: Stage,
    /// Height and width of the raw maps.
    pub size: [usize; 2],
    /// For each image, the class that was predicted.
    pub predicted: Vec<usize>,
    /// For each image, whether its map is zero everywhere.
    pub degenerate: Vec<bool>,
}

/// One concept for one class at one stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TcavRecord {
    /// Stage.
    pub stage: Stage,
    /// Class index.
    pub class: usize,
    /// Concept name.
    pub concept: String,
    /// Mean TCAV score against the random sets, in [0, 1].
    pub score: f64,
    /// Bootstrap interval of the score over class images.
    pub score_interval: Option<Interval>,
    /// Exchangeability p-value of the score.
    pub score_p: f64,
    /// Legacy Welch t-test of concept scores against random scores; not calibrated. Absent where undefined.
    pub legacy_welch_p: Option<f64>,
    /// Concept effect Δ, in logits.
    pub effect: f64,
    /// Δ over the pooled standard deviation; absent where nothing varies.
    pub effect_standardised: Option<f64>,
    /// Bootstrap interval of the standardised effect over concept and random images.
    pub effect_interval: Option<Interval>,
    /// Label-permutation p-value of the effect.
    pub effect_p: f64,
    /// Mean held-out accuracy of the concept's CAVs.
    pub heldout_accuracy: f64,
    /// Whether that accuracy is above chance; if not, the concept is reported but never interpreted.
    pub decodable: bool,
}

/// How the concepts' directions lie to each other in one network, at one stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CavGeometry {
    /// Stage.
    pub stage: Stage,
    /// The class that the concepts are tested for, if not every class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<usize>,
    /// Concepts, in the order of rows and columns.
    pub concepts: Vec<String>,
    /// Entanglement: cosine of each pair of concepts' mean unit CAVs; absent where one has no direction.
    pub cosines: Vec<Vec<Option<f64>>>,
    /// Mean of the cosines of different concepts.
    pub entanglement: Option<f64>,
    /// Mean of their magnitudes.
    pub entanglement_magnitude: Option<f64>,
    /// For each concept, the mean cosine of its CAVs against different random sets: 1 if the random set makes no difference.
    pub stability: Vec<Option<f64>>,
}

/// Mean areas under the deletion and insertion curves of the first Grad-CAM images, at one stage ([`crate::explain::faithfulness`]).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaithfulnessRecord {
    /// Stage.
    pub stage: Stage,
    /// Images judged.
    pub images: usize,
    /// Images left out because their map is zero everywhere.
    pub degenerate: usize,
    /// Deletion; low is faithful. Absent without an image.
    pub deletion: Option<f64>,
    /// Insertion; high is faithful.
    pub insertion: Option<f64>,
    /// Deletion by the control, the same maps with their cells in random order.
    pub random_deletion: Option<f64>,
    /// Insertion by the control.
    pub random_insertion: Option<f64>,
}

/// Every random set once in the place of the concept, where there is nothing to find: how many each test rejects at the plan's level, before
/// adjustment. Sets of one network share its gradients, so these are no independent draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CalibrationRecord {
    /// Stage.
    pub stage: Stage,
    /// Class index.
    pub class: usize,
    /// Random sets tested: those of the first concept.
    pub sets: usize,
    /// Rejected by the effect's label permutation against the other random sets.
    pub effect: usize,
    /// Rejected by the score's exchangeability test among the random sets: by ranks, so at most the level by construction.
    pub score: usize,
    /// Rejected by the legacy Welch t-test of the set's scores against the baseline's.
    pub legacy: usize,
}

/// Randomised layers of one replicate's dense network (`replicate-I/sanity.json`; [`crate::explain::sanity`]).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SanityRecord {
    /// [`FORMAT`].
    pub format: u32,
    /// The replicate.
    pub replicate: usize,
    /// Stage of the maps.
    pub stage: Stage,
    /// Images compared: the first of the fixed Grad-CAM images.
    pub images: usize,
    /// Each randomisation and layer, from the output to the input.
    pub layers: Vec<SanityLayer>,
    /// For each image, `1 − ρ` between the map of the wholly random network and the original's; absent where degenerate.
    pub random_drift: Vec<Option<f64>>,
}

/// One randomised layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SanityLayer {
    /// Whether the layers above are random too.
    pub randomisation: Randomisation,
    /// Block name.
    pub layer: String,
    /// Mean Spearman correlation with the original's maps; absent where all are degenerate.
    pub similarity: Option<f64>,
    /// Images whose map is degenerate in either network.
    pub degenerate: usize,
}

/// What became of the maps when a dense network was made wholly random.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SanitySummary {
    /// The replicate.
    pub replicate: usize,
    /// Mean drift of the random network's maps, in floor units.
    pub drift_in_floors: Option<f64>,
    /// Interval of that.
    pub interval: Option<Interval>,
    /// Whether randomising destroys the maps: they end further away than another trained network's. Absent where the
    /// interval leaves it open or is undefined.
    pub destroyed: Option<bool>,
}

/// One image of the fixed Grad-CAM set, for showing it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShownImage {
    /// Index in the data set.
    pub index: usize,
    /// Class.
    pub class: usize,
    /// Class as given (the digit).
    pub fine: String,
    /// The object's box in input pixels, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bounding_box: Option<PixelBox>,
    /// The object's parts that can be seen in the input, where they are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<ShownPart>,
}

/// A part of an object, such as a bird's beak, in input pixels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShownPart {
    /// Name.
    pub name: String,
    /// Distance from the left edge.
    pub x: f64,
    /// Distance from the upper edge.
    pub y: f64,
}

/// Where the concept images of birds come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConceptNote {
    /// `image`: labels of single photographs, where certain; `class`: those of the species, denoised.
    pub labels: String,
    /// The official part that concept and random images are drawn from: `test` or `train`.
    pub pool: String,
    /// Species that they are drawn from.
    pub species: usize,
    /// Whether they may show the species under test.
    pub own_class: bool,
    /// For each species, the concept that it lacks and is tested for as a control.
    pub controls: BTreeMap<String, String>,
    /// Concepts of the built-in choice that too few photographs show.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

/// What one run is about, once for all rounds (`manifest.json`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// Version of this program.
    pub version: String,
    /// Digest of the plan.
    pub plan: String,
    /// Digest of the data.
    pub data: String,
    /// `cpu` or `cuda:0`.
    pub device: String,
    /// Worker threads.
    pub threads: usize,
    /// Vector instructions in use.
    pub cpu_features: Vec<String>,
    /// Name of the network, such as `ResNet-18`.
    pub network: String,
    /// Channels, height, width of an image.
    pub image_shape: [usize; 3],
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Names of the concepts.
    pub concepts: Vec<String>,
    /// Where their images come from, if not from the images that are learned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concept_note: Option<ConceptNote>,
    /// Digest of the pretrained weights that replicates start from, if they do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pretrained: Option<String>,
    /// Number of training, validation and test images.
    pub images: [usize; 3],
    /// The fixed Grad-CAM images; their pixels stand in `images.safetensors` under `pixels`, `(N, C, H, W)` u8.
    pub cam_images: Vec<ShownImage>,
    /// What the plan's tests cannot reach.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// Everything that follows from the round records (`metrics.json`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StudyRecord {
    /// [`FORMAT`].
    pub format: u32,
    /// The noise floor: the measures between dense networks of different replicates.
    pub floor: Floor,
    /// One row for each network, sorted by arm, replicate, round.
    pub rounds: Vec<RoundSummary>,
    /// One row for each arm and round over all replicates: the per-round call.
    pub calls: Vec<RoundCall>,
    /// Hypothesis A: pruning keeps the explanations, and so LTH finds winning tickets.
    pub hypothesis_a: Verdict,
    /// Hypothesis B: pruning changes them, and so it does not.
    pub hypothesis_b: Verdict,
    /// Association of drift and accuracy loss over rounds.
    pub association: Option<Association>,
    /// Sanity check of each replicate's dense network.
    #[serde(default)]
    pub sanity: Vec<SanitySummary>,
    /// Things a reader should know.
    pub warnings: Vec<String>,
}

/// Drift between two networks on the same images.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// `1 − ρ`, mean Spearman correlation of raw maps over images that both classify correctly.
    pub spearman: Option<f64>,
    /// `1 − IoU` of the top 20 % of positions, mean over the same images.
    pub iou: Option<f64>,
    /// `1 − ρ` over all images.
    pub spearman_all: Option<f64>,
    /// Images that both classify correctly and whose maps both say something.
    pub images: usize,
    /// Images whose map is degenerate in either network.
    pub degenerate: usize,
    /// Root mean square difference of the profiles of standardised effects.
    pub profile: Option<f64>,
    /// `1 − ρ` of those profiles.
    pub profile_rank: Option<f64>,
    /// Root mean square difference of the profiles of TCAV scores.
    pub score_profile: Option<f64>,
    /// Concepts whose effect's significance or sign changed, as `class/concept`.
    pub flipped: Vec<String>,
    /// Drift of the maps by every measure.
    #[serde(default)]
    pub measures: BTreeMap<Measure, MeasureDrift>,
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

/// Whether a network's maps look at the objects, where their boxes are known. Maps are upsampled to the input's size; intervals are
/// bootstrap intervals over images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LocalisationRecord {
    /// Stage; absent in old records, which are of the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<Stage>,
    /// Mean share of positive evidence inside the box.
    pub energy_in_box: Option<f64>,
    /// Interval of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy_interval: Option<Interval>,
    /// Pointing game: mean rate at which the maximum lies in the box.
    pub pointing_game: Option<f64>,
    /// Interval of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointing_interval: Option<Interval>,
    /// Mean share of the image that the boxes cover: what a map that knows nothing gets.
    pub chance: f64,
    /// Images whose map says something.
    pub images: usize,
    /// Images whose map is degenerate.
    pub degenerate: usize,
    /// Whether the maximum lies at a part of the object, where parts are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts: Option<PartHits>,
}

/// The pointing game with parts for boxes: a hit is a maximum within one cell of the raw map (along either axis) of a visible part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartHits {
    /// Mean rate of hits.
    pub rate: Option<f64>,
    /// Interval of that.
    pub interval: Option<Interval>,
    /// Mean share of the image that lies so near to a part.
    pub chance: f64,
    /// Images with a visible part whose map says something.
    pub images: usize,
    /// How often each part was the one nearest to the maximum.
    pub nearest: BTreeMap<String, usize>,
}

/// The noise floor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Floor {
    /// Drift of each pair of dense replicates.
    pub pairs: Vec<FloorPair>,
    /// Mean Spearman drift of the pairs.
    pub spearman: Option<f64>,
    /// Mean IoU drift of the pairs.
    pub iou: Option<f64>,
    /// Mean profile drift of the pairs.
    pub profile: Option<f64>,
    /// Mean drift of the pairs by every measure of maps, over images that both classify correctly.
    #[serde(default)]
    pub measures: BTreeMap<Measure, f64>,
}

/// Drift between the dense networks of two replicates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FloorPair {
    /// One replicate.
    pub first: usize,
    /// Another.
    pub second: usize,
    /// Their drift.
    pub drift: Drift,
}

/// One network beside the dense network of its replicate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundSummary {
    /// Which network.
    #[serde(flatten)]
    pub id: RoundId,
    /// Share of prunable weights kept.
    pub density: f64,
    /// Share of test images classified correctly.
    pub test_accuracy: f64,
    /// Drift against the dense network of the same replicate.
    pub drift: Drift,
    /// Spearman drift over the floor's.
    pub drift_in_floors: Option<f64>,
    /// Drift over the floor's, by every measure of maps.
    #[serde(default)]
    pub measures_in_floors: BTreeMap<Measure, f64>,
    /// Whether the maps look at the objects, where boxes are known.
    #[serde(default)]
    pub localisation: Option<LocalisationRecord>,
    /// Adjusted p-values, in the order of the round's TCAV records.
    pub adjusted: Vec<Adjusted>,
    /// Decodable concepts (class × concept at the first stage) whose effect is significant after adjustment.
    pub significant: usize,
}

/// Adjusted p-values of one TCAV record.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Adjusted {
    /// Of the effect.
    pub effect_p: f64,
    /// Of the score.
    pub score_p: f64,
}

/// What one round says (DESIGN 1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// Matching and preserved.
    A,
    /// Neither matching nor preserved.
    B,
    /// Matching, not preserved.
    DriftedWinner,
    /// Preserved, not matching.
    FaithfulLoser,
    /// An interval straddles its margin.
    Inconclusive,
    /// The dense network itself.
    Dense,
}

/// The call of one arm and round over all replicates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundCall {
    /// Arm.
    pub arm: String,
    /// Round.
    pub round: usize,
    /// Mean density.
    pub density: f64,
    /// Mean test accuracy.
    pub test_accuracy: f64,
    /// Mean accuracy difference to dense (this − dense) and its interval over replicates and images.
    pub accuracy_difference: f64,
    /// Interval of the difference.
    pub accuracy_interval: Option<Interval>,
    /// Mean drift in floor units.
    pub drift_in_floors: Option<f64>,
    /// Interval of the drift in floor units, over replicates and images.
    pub drift_interval: Option<Interval>,
    /// The call.
    pub call: Call,
    /// Why, in words.
    pub reason: String,
}

/// How a hypothesis fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The evidence is for it.
    Supported,
    /// The evidence is against it.
    Refuted,
    /// The evidence does not decide.
    Inconclusive,
}

/// The verdict on one hypothesis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// How it fared.
    pub outcome: Outcome,
    /// Why, in one or two sentences with the numbers.
    pub reason: String,
}

/// Rank correlation of drift and accuracy loss over the rounds of a replicate, replicate as the unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Association {
    /// Mean Spearman correlation within replicates.
    pub within: f64,
    /// The same between the drift of one replicate and the loss of another: what their common trend gives by itself.
    pub common_trend: f64,
    /// Permutation p-value of the difference, over pairings of whole replicates.
    pub p_value: f64,
    /// Smallest p-value that so many replicates can give.
    pub smallest_p: f64,
}

/// The networks of a plan, in the order in which they are made.
pub fn round_ids(plan: &Plan) -> Vec<RoundId> {
    let mut ids = Vec::new();
    for replicate in 0..plan.replicates {
        for arm in sorted_arms(plan) {
            let first = usize::from(arm != Arm::Lottery);
            ids.extend((first..=plan.prune.rounds).map(|round| RoundId { arm: arm.name().into(), replicate, round }));
        }
    }
    ids
}

/// The lottery arm first, since the controls take its masks.
pub fn sorted_arms(plan: &Plan) -> Vec<Arm> {
    let mut arms = plan.arms.clone();
    arms.sort();
    arms.dedup();
    arms
}
