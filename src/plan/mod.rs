//! Plans: raw TOML (`deny_unknown_fields`) in, a checked [`Plan`] with a hash out. The fields stand
//! here; reading and checking them below.

mod as_published;
mod check;
mod prune;
mod read;
mod sweep;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::data::{ConceptPlan, Pool, RandomKind};
use crate::error::{Error, Result};
use crate::explain::saliency::{GRAD_CAM, Method};
use crate::explain::tcav::cav::CavKind;
use crate::explain::tcav::design;
use crate::kernels::device::Precision;
use crate::model::{Model, Stage, Stem, Wish, build};
use crate::nn::Shape3;
use crate::nn::optimizer::OptimizerKind;
use crate::nn::schedule::ScheduleKind;
use crate::stats::exchangeability::Design;
use crate::stats::multiplicity::Adjustment;
use crate::train::TrainConfig;

pub use crate::data::Task;
pub use crate::data::sources::{self, DataPlan};
pub use as_published::AsPublished;
pub use prune::{LatePrune, PrunePlan, Rewind};
pub use read::{LONGEST_PLAN, PRESETS};
pub use sweep::{Axis, Cluster, Part, Sweep};

/// Everything that decides a run's result. Field for field what a plan file holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// A name for people.
    pub name: String,
    /// Replicate i draws everything from seed `seed + i`.
    pub seed: u64,
    /// Independent repetitions. A verdict takes at least 2.
    pub replicates: usize,
    /// What is trained beside the dense network.
    pub arms: Vec<Arm>,
    /// Images.
    pub data: DataPlan,
    /// Network.
    pub model: ModelPlan,
    /// Pruning.
    pub prune: PrunePlan,
    /// What retraining without pruning does.
    #[serde(default)]
    pub floor: FloorPlan,
    /// Training.
    pub train: TrainPlan,
    /// Explanations.
    pub explain: ExplainPlan,
    /// Tests.
    pub statistics: StatisticsPlan,
    /// Calls and verdicts.
    pub verdict: VerdictPlan,
    /// How a GPU computes, in runs with `--device cuda`; a run on the CPU does not read it.
    #[serde(default, skip_serializing_if = "DevicePlan::is_default")]
    pub device: DevicePlan,
    /// Defects of the study's own code, all off unless named.
    #[serde(default, skip_serializing_if = "AsPublished::is_off")]
    pub as_published: AsPublished,
    /// The networks that a unit of a sweep makes; all where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
}

/// Computing on a GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DevicePlan {
    /// Of training; with `bf16` evaluating and explaining are `tf32`.
    pub precision: Precision,
}

impl DevicePlan {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// One line of networks of falling density.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    /// Magnitude pruning with rewinding.
    Lottery,
    /// Control: the ticket's densities per layer, positions shuffled, rewound to θ_k.
    RandomMask,
    /// Control: the ticket's mask on new initial weights, trained from step 0.
    Reinit,
    /// The ticket once more, from the same weights with another data order: what retraining does at its density.
    Retrained,
}

impl Arm {
    /// The name in plans, folders and reports.
    pub fn name(self) -> &'static str {
        match self {
            Arm::Lottery => "lottery",
            Arm::RandomMask => "random_mask",
            Arm::Reinit => "reinit",
            Arm::Retrained => "retrained",
        }
    }
}

/// Network of a plan; channels and classes follow from the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelPlan {
    /// `resnet18`, `vgg16_bn`, `lenet-300-100` and so on ([`crate::model::family_names`]).
    pub family: String,
    /// Channels of the first convolution; the family's own where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<usize>,
    /// `3x3` or `7x7`, for families that have both; `7x7` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stem: Option<Stem>,
    /// A checkpoint that every replicate starts from, under a new last layer; random weights where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pretrained: Option<PathBuf>,
}

impl ModelPlan {
    /// The network for such images and so many classes.
    ///
    /// # Errors
    /// Names the field that the family does not have or cannot take.
    pub fn build(&self, images: Shape3, classes: usize) -> Result<Model> {
        build(&self.family, &Wish { width: self.width, stem: self.stem, images, classes })
    }
}

/// The noise floor of a plan: what retraining without pruning does to the explanations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FloorPlan {
    /// Twins of each replicate: dense networks trained from the same θ_k with other data orders.
    /// With 0 the dense networks of the other replicates are the floor.
    pub twins: usize,
}

impl Default for FloorPlan {
    fn default() -> Self {
        Self { twins: 1 }
    }
}

/// Training of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainPlan {
    /// Passes over the training images.
    pub epochs: u64,
    /// Images per step.
    pub batch_size: usize,
    /// Learning rate.
    pub learning_rate: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Steps of linear warm-up.
    #[serde(default)]
    pub warmup_steps: u64,
    /// The optimiser.
    pub optimizer: OptimizerKind,
    /// Shape of the learning rate.
    pub schedule: ScheduleKind,
    /// Density of a layer below which its masked products skip what is pruned (0: never; above 1:
    /// always); a measured crossover where absent. Changes speed, and results only by rounding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sparse_below: Option<f64>,
    /// Steps between two looks at the validation images in training, from which its speed is read;
    /// none where absent. Changes no weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub look_every: Option<u64>,
}

/// Explanations of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainPlan {
    /// Stages at which TCAV and saliency methods cut; drift and verdict use the first.
    pub stages: Vec<Stage>,
    /// Saliency methods, each at every stage or on the input; drift, checks of the maps and verdict
    /// use the first, which is at a stage.
    #[serde(default = "grad_cam_alone", skip_serializing_if = "is_grad_cam_alone")]
    pub saliency: Vec<Method>,
    /// Test images whose maps are compared over the rounds.
    pub cam_images: usize,
    /// Images of each class whose gradients TCAV uses.
    pub class_images: usize,
    /// Images in each concept set and each random set.
    pub images_per_set: usize,
    /// Random sets N.
    pub random_sets: usize,
    /// Where concept and random images come from.
    pub pool: Pool,
    /// What concepts are compared with.
    pub random: RandomKind,
    /// How CAVs are found.
    #[serde(default, skip_serializing_if = "CavChoice::is_default")]
    pub cav: CavChoice,
    /// Regularisation constant C of the logistic CAV.
    pub cav_c: f64,
    /// Sets that each set is paired with, in a seeded regular design, so that N can be in the
    /// hundreds; all others where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partners: Option<usize>,
}

fn grad_cam_alone() -> Vec<Method> {
    vec![GRAD_CAM]
}

fn is_grad_cam_alone(methods: &[Method]) -> bool {
    methods == [GRAD_CAM]
}

impl ExplainPlan {
    /// How CAVs are found, with its constant.
    pub fn cav_kind(&self) -> CavKind {
        match self.cav {
            CavChoice::Logistic => CavKind::Logistic { c: self.cav_c },
            CavChoice::MeanDifference => CavKind::MeanDifference,
        }
    }

    /// Where concept and random images come from, and how many.
    pub fn concept_plan(&self) -> ConceptPlan {
        ConceptPlan {
            pool: self.pool,
            random: self.random,
            images_per_set: self.images_per_set,
            random_sets: self.random_sets,
        }
    }

    /// The pairs of sets for which CAVs are fitted.
    ///
    /// # Errors
    /// Names the field that allows no design.
    pub fn design(&self, seed: u64) -> Result<Design> {
        let members = self.random_sets.saturating_add(1);
        let pairs = members.saturating_mul(self.partners.unwrap_or(self.random_sets)) / 2;
        if pairs > MOST_PAIRS {
            let what = format!(
                "{} sets give {pairs} pairs; at most {MOST_PAIRS} (`explain.partners` takes some)",
                self.random_sets
            );
            return Err(Error::config("explain.random_sets", what));
        }
        let field = if self.partners.is_some() { "explain.partners" } else { "explain.random_sets" };
        design(self.random_sets, self.partners, seed).map_err(|error| Error::config(field, error.to_string()))
    }
}

/// How CAVs are found, in plans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CavChoice {
    /// L2 logistic regression.
    #[default]
    Logistic,
    /// Difference of the sets' means.
    MeanDifference,
}

impl CavChoice {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Tests of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatisticsPlan {
    /// Level of every test, after adjustment.
    pub alpha: f64,
    /// Label permutations B of the concept effect.
    pub permutations: usize,
    /// Bootstrap resamples of every interval.
    pub bootstrap: usize,
    /// Adjustment over round × stage × class × concept.
    pub adjustment: Adjustment,
}

/// Margins of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerdictPlan {
    /// A round is `matching` when its accuracy is not lower than dense by more than this (share, not percent).
    pub accuracy_margin: f64,
    /// Explanations are kept when ρ, drift over what retraining does, is surely at most 1 + this,
    /// and changed when it is surely above.
    pub drift_margin: f64,
    /// Confidence level of the intervals that calls rest on.
    pub confidence: f64,
    /// Least share of the Grad-CAM images that must count: all networks compared classify them
    /// right, and every map has a pattern. Below it the pixels of a density are undecided.
    #[serde(default = "half")]
    pub least_images: f64,
}

fn half() -> f64 {
    0.5
}

/// CAVs of one concept: far more than a study fits, and few enough for memory.
const MOST_PAIRS: usize = 2_000_000;

impl Plan {
    /// Training constants.
    pub fn train_config(&self) -> TrainConfig {
        TrainConfig {
            optimizer: self.train.optimizer,
            learning_rate: self.train.learning_rate,
            weight_decay: self.train.weight_decay,
            schedule: self.train.schedule,
            warmup_steps: self.train.warmup_steps,
            epochs: self.train.epochs,
            batch_size: self.train.batch_size,
            sparse_below: self.train.sparse_below,
        }
    }
}
