//! Plans: raw TOML (`deny_unknown_fields`) in, a checked [`Plan`] with a hash out.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::data::{Factor, Pool, RandomKind};
use crate::error::{Error, Result};
use crate::explain::cav::CavKind;
use crate::model::{Architecture, Stage, Stem};
use crate::nn::optimizer::OptimizerKind;
use crate::nn::schedule::ScheduleKind;
use crate::prune::Scope;
use crate::stats::exchangeability::Design;
use crate::stats::multiplicity::Adjustment;
use crate::stats::power::{permutations_needed, sets_needed};
use crate::train::TrainConfig;

use super::as_published::AsPublished;
use super::birds::CubData;

/// Everything that decides a run's result. Field for field what a plan file holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// A name for people.
    pub name: String,
    /// Replicate i draws everything from seed `seed + i`.
    pub seed: u64,
    /// Independent repetitions; at least 2, since their dense networks give the noise floor.
    pub replicates: usize,
    /// What is trained beside the dense network.
    pub arms: Vec<Arm>,
    /// Images.
    pub data: DataPlan,
    /// Network.
    pub model: ModelPlan,
    /// Pruning.
    pub prune: PrunePlan,
    /// Training.
    pub train: TrainPlan,
    /// Explanations.
    pub explain: ExplainPlan,
    /// Tests.
    pub statistics: StatisticsPlan,
    /// Calls and verdicts.
    pub verdict: VerdictPlan,
    /// Defects of the study's own code, all off unless named.
    #[serde(default, skip_serializing_if = "AsPublished::is_off")]
    pub as_published: AsPublished,
}

/// One line of networks of falling density (DESIGN 1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    /// Magnitude pruning with rewinding.
    Lottery,
    /// Control: the ticket's densities per layer, positions shuffled, rewound to θ_k.
    RandomMask,
    /// Control: the ticket's mask on new initial weights, trained from step 0.
    Reinit,
}

impl Arm {
    /// The name in plans, folders and reports.
    pub fn name(self) -> &'static str {
        match self {
            Arm::Lottery => "lottery",
            Arm::RandomMask => "random_mask",
            Arm::Reinit => "reinit",
        }
    }
}

/// Where images come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The MNIST digits inside the program.
    BuiltinMnist,
    /// A folder of MNIST IDX files.
    Mnist,
    /// A folder of Fashion-MNIST IDX files.
    Fashion,
    /// A `CUB_200_2011` folder; concepts are attributes, each species has its own; boxes and parts are known.
    Cub,
    /// Generated images with known truth ([`crate::data::planted()`]); concepts are the values of all factors, boxes are known.
    Planted,
}

/// What is learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskKind {
    /// The classes as given.
    Classes,
    /// Even against odd class numbers.
    EvenOdd,
}

/// Images of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataPlan {
    /// Where they come from.
    pub source: Source,
    /// Folder, for sources that need one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// What is learned.
    pub task: TaskKind,
    /// Training images; all that is left where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train: Option<usize>,
    /// Validation images, held out from the training set.
    pub validation: usize,
    /// Test images; all where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<usize>,
    /// What to generate, for the source `planted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planted: Option<PlantedData>,
    /// What of the folder, for the source `cub`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cub: Option<CubData>,
}

/// Generated images of a plan; how many follows from the splits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlantedData {
    /// Height and width, in pixels.
    pub side: usize,
    /// 3 for RGB, 1 for grey.
    pub channels: usize,
    /// The factors that make the class.
    pub used: Vec<Factor>,
    /// Standard deviation of the noise on each pixel, in byte units.
    pub noise: f32,
}

impl Default for PlantedData {
    /// 32×32 RGB, class by shape.
    fn default() -> Self {
        Self { side: 32, channels: 3, used: vec![Factor::Shape], noise: 12.0 }
    }
}

/// Network of a plan; channels and classes follow from the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelPlan {
    /// 18, 34 or 50.
    pub depth: usize,
    /// Channels of the stem.
    pub width: usize,
    /// `3x3` or `7x7`.
    pub stem: Stem,
    /// A checkpoint whose convolutions and batch norms every replicate starts from, under a new linear layer; random weights
    /// where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pretrained: Option<PathBuf>,
}

/// Pruning of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrunePlan {
    /// Share of the remaining weights that goes each round.
    pub fraction: f64,
    /// Prunings n; n + 1 networks.
    pub rounds: usize,
    /// Over what weights compete.
    pub scope: Scope,
    /// Layers left out of count and cut.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Step k to which tickets are rewound: `"0ep"`, `"1ep"`, `"500it"`.
    pub rewind: String,
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
    /// Density of a layer below which its masked products skip what is pruned (0: never; above 1: always); a measured crossover
    /// where absent. Changes speed, and results only by rounding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sparse_below: Option<f64>,
}

/// Explanations of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainPlan {
    /// Stages at which TCAV and Grad-CAM cut; drift and verdict use the first.
    pub stages: Vec<Stage>,
    /// Test images whose Grad-CAM maps are compared over the rounds.
    pub cam_images: usize,
    /// Images of each class whose gradients TCAV uses.
    pub class_images: usize,
    /// Images in each concept set and each random set.
    pub images_per_set: usize,
    /// Random sets N.
    pub random_sets: usize,
    /// Where concept and random images come from.
    pub pool: PoolKind,
    /// What concepts are compared with.
    pub random: RandomChoice,
    /// How CAVs are found.
    #[serde(default, skip_serializing_if = "CavChoice::is_default")]
    pub cav: CavChoice,
    /// Regularisation constant C of the logistic CAV.
    pub cav_c: f64,
    /// Sets that each set is paired with, in a seeded regular design, so that N can be in the hundreds; all others where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partners: Option<usize>,
}

impl ExplainPlan {
    /// How CAVs are found, with its constant.
    pub fn cav_kind(&self) -> CavKind {
        match self.cav {
            CavChoice::Logistic => CavKind::Logistic { c: self.cav_c },
            CavChoice::MeanDifference => CavKind::MeanDifference,
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
        match self.partners {
            None => Design::all_pairs(members).map_err(|error| Error::config("explain.random_sets", error.to_string())),
            Some(partners) => Design::regular(members, partners, seed, "explain/design")
                .map_err(|error| Error::config("explain.partners", error.to_string())),
        }
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

/// A split, in plans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PoolKind {
    /// Trained on.
    Train,
    /// Held out from training.
    Validation,
    /// Held out from every choice.
    Test,
}

impl From<PoolKind> for Pool {
    fn from(kind: PoolKind) -> Self {
        match kind {
            PoolKind::Train => Pool::Train,
            PoolKind::Validation => Pool::Validation,
            PoolKind::Test => Pool::Test,
        }
    }
}

/// Random counterparts, in plans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RandomChoice {
    /// Images of the concept's own pool.
    SamePool,
    /// Images of the pool that do not show the concept.
    OtherClasses,
    /// Noise.
    Noise,
}

impl From<RandomChoice> for RandomKind {
    fn from(choice: RandomChoice) -> Self {
        match choice {
            RandomChoice::SamePool => RandomKind::SamePool,
            RandomChoice::OtherClasses => RandomKind::OtherClasses,
            RandomChoice::Noise => RandomKind::Noise,
        }
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
    /// A round is `preserved` when its drift exceeds the floor by no more than this share of the floor.
    pub drift_margin: f64,
    /// Confidence level of the intervals that calls rest on.
    pub confidence: f64,
}

/// CAVs of one concept: far more than a study fits, and few enough for memory.
const MOST_PAIRS: usize = 2_000_000;

/// Presets by name.
pub const PRESETS: [(&str, &str); 7] = [
    ("quick", include_str!("presets/quick.toml")),
    ("mnist", include_str!("presets/mnist.toml")),
    ("fashion", include_str!("presets/fashion.toml")),
    ("mnist-as-published", include_str!("presets/mnist-as-published.toml")),
    ("mnist-corrected", include_str!("presets/mnist-corrected.toml")),
    ("cub", include_str!("presets/cub.toml")),
    ("cub-small", include_str!("presets/cub-small.toml")),
];

impl Plan {
    /// A preset by name.
    ///
    /// # Errors
    /// Names the presets that exist.
    pub fn preset(name: &str, overrides: &[(String, String)]) -> Result<Self> {
        let known = || PRESETS.map(|(name, _)| name).join(", ");
        let (_, text) = PRESETS
            .iter()
            .find(|(preset, _)| *preset == name)
            .ok_or_else(|| Error::input(format!("preset or plan `{name}` does not exist; presets: {}", known())))?;
        Self::parse(name, text, overrides)
    }

    /// Parses and checks plan text; `origin` is named in errors. Overrides are dotted keys with TOML values, or bare strings.
    ///
    /// # Errors
    /// Unknown keys, wrong types, impossible values: each names its field.
    pub fn parse(origin: &str, text: &str, overrides: &[(String, String)]) -> Result<Self> {
        let bad = |error: toml::de::Error| {
            let at = error.span().map_or(String::new(), |span| {
                format!(" (line {})", text[..span.start.min(text.len())].matches('\n').count() + 1)
            });
            Error::input(format!("{origin}{at}: {}", error.message().replace('\n', " ")))
        };
        let mut table: toml::Table = toml::from_str(text).map_err(bad)?;
        for (key, value) in overrides {
            set(&mut table, key, value)?;
        }
        let plan: Self = if overrides.is_empty() {
            toml::from_str(text).map_err(bad)?
        } else {
            let merged = toml::to_string(&table).map_err(|error| Error::input(format!("{origin}: {error}")))?;
            toml::from_str(&merged)
                .map_err(|error| Error::input(format!("--set: {}", error.message().replace('\n', " "))))?
        };
        plan.check()?;
        Ok(plan)
    }

    /// The plan as TOML: parsing it gives an equal plan.
    ///
    /// # Errors
    /// Only when serialisation fails.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|error| Error::input(format!("the plan cannot be written: {error}")))
    }

    /// SHA-256 of the plan, in hexadecimal, without its name.
    ///
    /// # Errors
    /// Only when serialisation fails.
    pub fn digest(&self) -> Result<String> {
        let nameless = Self { name: String::new(), ..self.clone() };
        let hash = Sha256::digest(nameless.to_toml()?.as_bytes());
        Ok(hash.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn check(&self) -> Result<()> {
        let positive = |field: &str, value: usize| {
            if value > 0 { Ok(()) } else { Err(Error::config(field, "must be at least 1")) }
        };
        let open_unit = |field: &str, value: f64| {
            let inside = value > 0.0 && value < 1.0;
            if inside { Ok(()) } else { Err(Error::config(field, format!("{value} is not between 0 and 1"))) }
        };
        let not_negative = |field: &str, value: f64| {
            let fine = value >= 0.0 && value.is_finite();
            if fine { Ok(()) } else { Err(Error::config(field, format!("{value} is negative or not finite"))) }
        };
        if self.replicates < 2 {
            return Err(Error::config("replicates", "at least 2: their dense networks give the noise floor"));
        }
        if !self.arms.contains(&Arm::Lottery) {
            return Err(Error::config("arms", "`lottery` is missing: controls are derived from its masks"));
        }
        let planted = self.data.source == Source::Planted;
        if planted && self.data.task != TaskKind::Classes {
            return Err(Error::config(
                "data.task",
                "`planted` images have `classes` only: `data.planted.used` says which",
            ));
        }
        if !planted && self.data.planted.is_some() {
            return Err(Error::config("data.planted", "is for the source `planted` only"));
        }
        self.check_birds()?;
        open_unit("prune.fraction", self.prune.fraction)?;
        positive("prune.rounds", self.prune.rounds)?;
        Rewind::parse(&self.prune.rewind)?;
        positive("train.batch_size", self.train.batch_size)?;
        positive("train.epochs", self.train.epochs as usize)?;
        if !(self.train.learning_rate > 0.0 && self.train.learning_rate.is_finite()) {
            return Err(Error::config("train.learning_rate", "must be positive"));
        }
        not_negative("train.weight_decay", self.train.weight_decay)?;
        not_negative("train.sparse_below", self.train.sparse_below.unwrap_or(0.0))?;
        if self.explain.stages.is_empty() {
            return Err(Error::config("explain.stages", "at least one of layer1, layer2, layer3, layer4"));
        }
        positive("explain.cam_images", self.explain.cam_images)?;
        positive("explain.class_images", self.explain.class_images)?;
        if self.explain.images_per_set < 2 {
            return Err(Error::config("explain.images_per_set", "at least 2"));
        }
        if self.explain.random_sets < 2 {
            return Err(Error::config("explain.random_sets", "at least 2"));
        }
        if !(self.explain.cav_c > 0.0 && self.explain.cav_c.is_finite()) {
            return Err(Error::config("explain.cav_c", "must be positive"));
        }
        open_unit("statistics.alpha", self.statistics.alpha)?;
        // The family is at least one hypothesis; its true size is known with the data (`Plan::power_warnings`).
        self.power_warnings(1)?;
        self.explain.design(self.seed)?;
        if self.statistics.permutations < 99 {
            return Err(Error::config("statistics.permutations", "at least 99"));
        }
        if self.statistics.bootstrap < 99 {
            return Err(Error::config("statistics.bootstrap", "at least 99"));
        }
        not_negative("verdict.accuracy_margin", self.verdict.accuracy_margin)?;
        not_negative("verdict.drift_margin", self.verdict.drift_margin)?;
        open_unit("verdict.confidence", self.verdict.confidence)?;
        // Depth and width are checked by the architecture; any class count will do for that.
        Architecture::resnet(self.model.depth, self.model.width, self.model.stem, 1, 2).map(|_| ())?;
        if matches!(self.data.source, Source::Mnist | Source::Fashion) && self.data.path.is_none() {
            return Err(Error::config("data.path", "is missing: the folder with the IDX files (--set data.path=…)"));
        }
        Ok(())
    }

    fn check_birds(&self) -> Result<()> {
        if self.data.source != Source::Cub {
            return match self.data.cub {
                Some(_) => Err(Error::config("data.cub", "is for the source `cub` only")),
                None => Ok(()),
            };
        }
        if self.data.task != TaskKind::Classes {
            return Err(Error::config("data.task", "birds have `classes` only"));
        }
        if self.data.path.is_none() {
            let what = "is missing: the folder CUB_200_2011 (--set data.path=…)";
            return Err(Error::config("data.path", what));
        }
        if self.explain.pool == PoolKind::Validation {
            let what =
                "`validation` is too small: photographs of concepts come from the official `test` or `train` part";
            return Err(Error::config("explain.pool", what));
        }
        self.data.cub.as_ref().map_or(Ok(()), CubData::check)
    }

    /// Whether the tests can reach `alpha` after adjustment over a family of `hypotheses` (round × stage × class × concept): refuses what can
    /// find nothing whatever the data, and says what a single finding would need.
    ///
    /// # Errors
    /// Names the field that is too small, and the least value that is enough.
    pub fn power_warnings(&self, hypotheses: usize) -> Result<Vec<String>> {
        let StatisticsPlan { alpha, permutations, adjustment, .. } = self.statistics;
        let undefined = |error: crate::stats::StatsError| Error::config("statistics", error.to_string());
        let sets = sets_needed(alpha, hypotheses, adjustment).map_err(undefined)?;
        let draws = permutations_needed(alpha, hypotheses, adjustment).map_err(undefined)?;
        let tests = [
            ("explain.random_sets", "TCAV scores", self.explain.random_sets, sets),
            ("statistics.permutations", "concept effects", permutations, draws),
        ];
        let mut warnings = Vec::new();
        for (field, of, count, needed) in tests {
            let smallest = 1.0 / (count as f64 + 1.0);
            if count < needed.for_any_finding {
                let what = format!(
                    "{count} give no p below {smallest:.2e}: no significance at level {alpha} after adjustment over {hypotheses} \
                     hypotheses; {} are needed",
                    needed.for_any_finding
                );
                return Err(Error::config(field, what));
            }
            if count < needed.for_one_finding {
                warnings.push(format!(
                    "{of}: with {count} ({field}) the smallest p is {smallest:.2e}, so one finding alone among {hypotheses} hypotheses \
                     cannot be significant after adjustment; that needs {}",
                    needed.for_one_finding
                ));
            }
        }
        Ok(warnings)
    }

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

/// Writes `value` at the dotted `key`; a value that is not TOML is taken as a string.
fn set(table: &mut toml::Table, key: &str, value: &str) -> Result<()> {
    let parsed = toml::from_str::<toml::Table>(&format!("value = {value}"))
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let mut parts: Vec<&str> = key.split('.').collect();
    let last = parts.pop().filter(|last| !last.is_empty());
    let last = last.ok_or_else(|| Error::input(format!("--set `{key}={value}`: the key is empty")))?;
    let mut inner = table;
    for part in parts {
        let entry = inner.entry(part.to_owned()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        inner = entry
            .as_table_mut()
            .ok_or_else(|| Error::input(format!("--set `{key}`: `{part}` is not a table of the plan")))?;
    }
    inner.insert(last.to_owned(), parsed);
    Ok(())
}
