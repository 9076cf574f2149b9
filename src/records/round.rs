//! What is recorded of one network: training, accuracy, explanations, checks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::RoundId;
pub use super::seconds::Seconds;
use crate::explain::saliency::Method;
pub use crate::explain::sanity::Randomisation;
use crate::explain::tcav::Finding;
use crate::model::Stage;
use crate::prune::LayerDensity;
use crate::stats::Interval;

/// One trained network and its explanations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundRecord {
    /// [`FORMAT`](super::FORMAT).
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
    /// Looks at the validation images during training, where the plan has `train.look_every`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub looks: Vec<Look>,
    /// Share of validation images classified correctly.
    pub validation_accuracy: f64,
    /// Share of test images classified correctly.
    pub test_accuracy: f64,
    /// The same for the test images of each class.
    pub class_accuracy: Vec<f64>,
    /// For each test image in order, `1` where it is classified correctly, else `0`.
    pub test_correct: String,
    /// Maps at each stage by each saliency method of the plan, the deciding one first; they stand in
    /// `explain/maps.safetensors` under [`maps_key`], `(N, h, w)`.
    pub grad_cam: Vec<CamRecord>,
    /// Maps at the input by each method of the plan that works there; they stand in `explain/maps.safetensors` under
    /// [`input_maps_key`], `(N, H, W)`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub input_maps: Vec<InputMapRecord>,
    /// Stages whose representation stands in `explain/maps.safetensors` under [`representation_key`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub representations: Vec<RepresentationRecord>,
    /// TCAV: stage × class × concept.
    pub tcav: Vec<TcavRecord>,
    /// How the concepts' directions lie to each other, at each stage.
    pub cavs: Vec<CavGeometry>,
    /// Whether the pixels that the maps mark carry the prediction, at each stage.
    pub faithfulness: Vec<FaithfulnessRecord>,
    /// How often each test rejects where there is nothing to find, at each stage and class.
    pub calibration: Vec<CalibrationRecord>,
    /// Whether the maps look at the objects, at each stage, where boxes are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub localisation: Vec<LocalisationRecord>,
    /// Wall-clock seconds of training and of explaining; for people, never compared.
    #[serde(with = "super::seconds")]
    pub seconds: Seconds,
}

/// What a network in training makes of the validation images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Look {
    /// Optimiser steps done, counted from the start of training.
    pub step: u64,
    /// Mean cross-entropy, in nats.
    pub loss: f64,
    /// Share classified correctly.
    pub accuracy: f64,
}

/// A network whose training diverged (`diverged.json` in the place of its round): there is nothing
/// to explain, and its replicate ends here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DivergedRecord {
    /// [`FORMAT`](super::FORMAT).
    pub format: u32,
    /// Which network.
    #[serde(flatten)]
    pub id: RoundId,
    /// The optimiser step, counted from the start of training.
    pub step: u64,
    /// The learning rate of that step.
    pub learning_rate: f64,
}

/// The name of raw maps in `explain/maps.safetensors`: the stage's for the deciding method, `stage/method` for another.
pub fn maps_key(stage: Stage, method: Method, deciding: Method) -> String {
    if method == deciding { stage.name().to_owned() } else { format!("{stage}/{method}") }
}

/// The name in `explain/maps.safetensors` of the maps of a method on the input.
pub fn input_maps_key(method: Method) -> String {
    format!("input/{method}")
}

/// What stands before the stage in the name of a representation.
pub const REPRESENTATION: &str = "representation/";

/// The name in `explain/maps.safetensors` of the representation at a stage: the U-centred Gram
/// matrix of its activations ([`crate::stats::representation::centred`]), `(n (n − 1) / 2)`.
pub fn representation_key(stage: Stage) -> String {
    format!("{REPRESENTATION}{stage}")
}

/// How the network represents images at one stage, whatever it makes of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepresentationRecord {
    /// Stage.
    pub stage: Stage,
    /// Images: the first of the fixed Grad-CAM images.
    pub images: usize,
}

/// Maps of the true class on the run's fixed test images by one saliency method, at one stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CamRecord {
    /// Stage.
    pub stage: Stage,
    /// Saliency method.
    pub method: Method,
    /// Height and width of the raw maps.
    pub size: [usize; 2],
    /// For each image, the class that was predicted.
    pub predicted: Vec<usize>,
    /// For each image, whether its map says nothing (is zero everywhere).
    pub degenerate: Vec<bool>,
}

/// Maps of the true class on the run's fixed test images by a method on the input: the sum of the
/// attribution's magnitudes over the channels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InputMapRecord {
    /// Saliency method.
    pub method: Method,
    /// Height and width of an image.
    pub size: [usize; 2],
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
    pub effect_standardised_interval: Option<Interval>,
    /// Label-permutation p-value of the effect.
    pub effect_p: f64,
    /// Mean held-out accuracy of the concept's CAVs.
    pub heldout_accuracy: f64,
    /// Whether that accuracy is above chance; if not, the concept is reported but never interpreted.
    pub decodable: bool,
    /// What the other statistics of [`STATISTICS`](crate::explain::tcav::STATISTICS) say, by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub further: BTreeMap<String, Finding>,
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
    /// For each concept, the mean cosine of its CAVs against different random sets: 1 if the random
    /// set makes no difference.
    pub stability: Vec<Option<f64>>,
}

/// Mean areas under the deletion and insertion curves of the first Grad-CAM images, at one stage
/// ([`crate::explain::faithfulness`]).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaithfulnessRecord {
    /// Stage.
    pub stage: Stage,
    /// The saliency method, where it is not the deciding one; those are judged in dense parents alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
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

/// Every random set once in the place of the concept, where there is nothing to find: how many each
/// test rejects at the plan's level, before adjustment. Sets of one network share its gradients, so
/// these are no independent draws.
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
    /// Rejected by the score's exchangeability test among the random sets: by ranks, so at most the
    /// level by construction.
    pub score: usize,
    /// Rejected by the legacy Welch t-test of the set's scores against the baseline's.
    pub legacy: usize,
}

/// Randomised layers of one replicate's dense network (`replicate-I/sanity.json`; [`crate::explain::sanity`]).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SanityRecord {
    /// [`FORMAT`](super::FORMAT).
    pub format: u32,
    /// The replicate.
    pub replicate: usize,
    /// Stage of the maps.
    pub stage: Stage,
    /// Images compared: the first of the fixed Grad-CAM images.
    pub images: usize,
    /// Each randomisation and layer, from the output to the input.
    pub layers: Vec<SanityLayer>,
    /// For each image, `1 − ρ` between the map of the wholly random network and the original's;
    /// absent where degenerate.
    pub random_drift: Vec<Option<f64>>,
    /// The same by the plan's other saliency methods, by view.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub further: BTreeMap<String, Vec<Option<f64>>>,
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

/// Whether a network's maps look at the objects, where their boxes are known. Maps are upsampled to
/// the input's size; intervals are bootstrap intervals over images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LocalisationRecord {
    /// Stage.
    pub stage: Stage,
    /// The saliency method, where it is not the deciding one; those are judged in dense parents alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
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

/// The pointing game with parts for boxes: a hit is a maximum within one cell of the raw map (along
/// either axis) of a visible part.
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
