//! What all rounds of a run share: images, splits, concept sets, the network.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};

use crate::data::{
    BoundingBox, ConceptPlan, ConceptSets, ConceptTable, Dataset, Family, Images, PlantedPlan, Pool, RandomSet,
    SplitSizes, Splits, Task, builtin_mnist, class_images, concept_sets, idx, planted, split,
};
use crate::error::{Error, Result};
use crate::model::{Architecture, ResNet};
use crate::seed;
use crate::stats::localisation::PixelBox;

use super::config::{Plan, Source, TaskKind};
use super::records::{FORMAT, Manifest, ShownImage};

/// Everything that the plan draws once for all replicates, arms and rounds: comparisons over rounds need the same images.
pub struct Setup {
    /// All images.
    pub data: Dataset,
    /// Train, validation and test, which never overlap (but for `as_published.duplicate_leak`).
    pub splits: Splits,
    /// Test images whose Grad-CAM maps are compared.
    pub cam_images: Vec<usize>,
    /// For each class, the images whose gradients TCAV uses.
    pub class_images: Vec<Vec<usize>>,
    /// Concept and random sets.
    pub concepts: ConceptSets,
    /// The box of each image's object, where the source knows it.
    pub boxes: Option<Vec<BoundingBox>>,
    /// The network.
    pub model: ResNet,
    /// What the plan's tests cannot reach ([`Plan::power_warnings`]).
    pub warnings: Vec<String>,
}

/// The whole pixels that a box touches.
fn whole_pixels(of: &BoundingBox) -> PixelBox {
    let pixel = |edge: f64| edge.max(0.0) as usize;
    PixelBox {
        left: pixel(of.left.floor()),
        top: pixel(of.top.floor()),
        right: pixel(of.right.ceil()),
        bottom: pixel(of.bottom.ceil()),
    }
}

/// What a source gives.
struct Loaded {
    data: Dataset,
    table: ConceptTable,
    boxes: Option<Vec<BoundingBox>>,
}

fn load(plan: &Plan) -> Result<Loaded> {
    let folder = |family| {
        let path = plan.data.path.as_deref().ok_or_else(|| Error::config("data.path", "is missing"))?;
        idx::read_folder(path, family)
    };
    let data = match plan.data.source {
        Source::BuiltinMnist => builtin_mnist()?,
        Source::Mnist => folder(Family::Mnist)?,
        Source::Fashion => folder(Family::Fashion)?,
        Source::Planted => return load_planted(plan),
    };
    let table = ConceptTable::from_classes(&data);
    let data = data.with_task(match plan.data.task {
        TaskKind::Classes => Task::Classes,
        TaskKind::EvenOdd => Task::EvenOdd,
    });
    Ok(Loaded { data, table, boxes: None })
}

fn load_planted(plan: &Plan) -> Result<Loaded> {
    let missing = |field| Error::config(field, "is missing: generated images need a number");
    let wanted = plan.data.planted.clone().unwrap_or_default();
    let train = plan.data.train.ok_or_else(|| missing("data.train"))?;
    let made = planted(
        &PlantedPlan {
            side: wanted.side,
            channels: wanted.channels,
            used: wanted.used,
            noise: wanted.noise,
            train: train + plan.data.validation,
            test: plan.data.test.ok_or_else(|| missing("data.test"))?,
        },
        plan.seed,
    )?;
    Ok(Loaded { data: made.data, table: made.concepts, boxes: Some(made.boxes) })
}

impl Setup {
    /// Loads the data and draws.
    ///
    /// # Errors
    /// The file or field at fault is named.
    pub fn new(plan: &Plan) -> Result<Self> {
        let Loaded { data, table, boxes } = load(plan)?;
        let sizes = SplitSizes { train: plan.data.train, validation: plan.data.validation, test: plan.data.test };
        let splits = split(&data, sizes, plan.seed)?;
        let leaked = plan.as_published.leak(&splits, plan.seed)?;
        // Explanations draw from sets, in which an image stands once.
        let (splits, drawn) = match leaked {
            None => (splits.clone(), splits),
            Some(leaked) => (leaked.splits, leaked.distinct),
        };
        if plan.explain.cam_images > drawn.test.len() {
            let what = format!("{} is more than the {} test images", plan.explain.cam_images, drawn.test.len());
            return Err(Error::config("explain.cam_images", what));
        }
        // The splits stand in a seeded, stratified order, so the first images are a stratified draw.
        let cam_images = drawn.test[..plan.explain.cam_images].to_vec();
        let class_images = class_images(&data, &drawn, Pool::Test, plan.explain.class_images, plan.seed)?;
        let explained: Vec<usize> = class_images.iter().flatten().copied().collect();
        let concept_plan = ConceptPlan {
            pool: plan.explain.pool.into(),
            random: plan.explain.random.into(),
            images_per_set: plan.explain.images_per_set,
            random_sets: plan.explain.random_sets,
        };
        let concepts = concept_sets(&data, &table, &drawn, &concept_plan, &explained, None, plan.seed)?;
        let (channels, _, _) = data.shape();
        let classes = data.labels().classes();
        // As the study adjusts: over all rounds of one arm in one replicate.
        let family = (plan.prune.rounds + 1) * plan.explain.stages.len() * classes * table.names().len();
        let warnings = plan.power_warnings(family)?;
        let architecture =
            Architecture::resnet(plan.model.depth, plan.model.width, plan.model.stem, channels, classes)?;
        Ok(Self { data, splits, cam_images, class_images, concepts, boxes, model: ResNet::new(architecture), warnings })
    }

    /// The manifest of a run on this setup.
    ///
    /// # Errors
    /// Only when the plan cannot be hashed.
    pub fn manifest(&self, plan: &Plan) -> Result<Manifest> {
        let (channels, height, width) = self.data.shape();
        Ok(Manifest {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            plan: plan.digest()?,
            data: self.data.fingerprint(),
            device: "cpu".into(),
            threads: rayon::current_num_threads(),
            cpu_features: cpu_features(),
            network: self.model.architecture.name(),
            image_shape: [channels, height, width],
            classes: self.data.labels().names().to_vec(),
            concepts: self.concepts.concepts.iter().map(|concept| concept.name.clone()).collect(),
            images: [self.splits.train.len(), self.splits.validation.len(), self.splits.test.len()],
            cam_images: self
                .cam_images
                .iter()
                .map(|&index| ShownImage {
                    index,
                    class: self.data.label(index),
                    fine: self.data.fine().names()[self.data.fine().values()[index] as usize].clone(),
                    bounding_box: self.boxes.as_ref().map(|boxes| whole_pixels(&boxes[index])),
                })
                .collect(),
            warnings: self.warnings.clone(),
        })
    }

    /// Concept and random images as rows: the tensor of all images `(n, C, H, W)`, and for each concept and each random set
    /// its rows. An image that is in several sets has one row.
    ///
    /// # Errors
    /// When an image cannot be read.
    pub fn concept_rows(&self) -> Result<ConceptRows> {
        let mut row_of: BTreeMap<usize, usize> = BTreeMap::new();
        let mut indices = Vec::new();
        let mut rows = |images: &[usize]| -> Vec<usize> {
            images
                .iter()
                .map(|&image| {
                    *row_of.entry(image).or_insert_with(|| {
                        indices.push(image);
                        indices.len() - 1
                    })
                })
                .collect()
        };
        let concepts: Vec<Vec<usize>> = self.concepts.concepts.iter().map(|concept| rows(&concept.images)).collect();
        let from_data: Vec<Option<Vec<usize>>> = self
            .concepts
            .random
            .iter()
            .map(|set| match set {
                RandomSet::Images(images) => Some(rows(images)),
                RandomSet::Noise { .. } => None,
            })
            .collect();
        let mut parts = vec![self.data.tensor(&indices)?];
        let mut count = indices.len();
        let mut random = Vec::new();
        for (set, rows) in self.concepts.random.iter().zip(from_data) {
            random.push(match rows {
                Some(rows) => rows,
                None => {
                    parts.push(set.batch(&self.data, &Device::Cpu)?);
                    count += set.len();
                    (count - set.len()..count).collect()
                }
            });
        }
        Ok(ConceptRows { images: Tensor::cat(&parts, 0)?, concepts, random })
    }

    /// Seed of one use in one replicate, apart from every other use.
    pub fn derived_seed(plan: &Plan, replicate: usize, use_name: &str) -> u64 {
        use rand::Rng;
        seed::stream(plan.seed + replicate as u64, use_name, 0).random()
    }
}

/// See [`Setup::concept_rows`].
pub struct ConceptRows {
    /// `(n, C, H, W)`, normalised.
    pub images: Tensor,
    /// Rows of each concept.
    pub concepts: Vec<Vec<usize>>,
    /// Rows of each random set.
    pub random: Vec<Vec<usize>>,
}

/// Vector instructions that this machine has, as far as the kernels use them.
fn cpu_features() -> Vec<String> {
    #[cfg(target_arch = "x86_64")]
    {
        let known = [
            ("avx2", std::arch::is_x86_feature_detected!("avx2")),
            ("fma", std::arch::is_x86_feature_detected!("fma")),
            ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
        ];
        known.iter().filter(|(_, has)| *has).map(|(name, _)| (*name).to_owned()).collect()
    }
    #[cfg(not(target_arch = "x86_64"))]
    Vec::new()
}
