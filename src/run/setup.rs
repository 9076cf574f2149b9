//! What all rounds of a run share: images, splits, concept sets, the network.

use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::{Device, Tensor};

use crate::data::sources::{DrawnConcepts, Loaded};
use crate::data::{
    Augmentation, BoundingBox, ConceptNote, Dataset, Images, Pool, RandomSet, ShownPart, Splits, TestedConcepts,
    class_images, split,
};
use crate::digest::sha256;
use crate::error::{Error, Result};
use crate::kernels::vector_path;
use crate::model::Model;
use crate::nn::Weights;
use crate::seed;
use crate::stats::localisation::PixelBox;

use crate::plan::Plan;
use crate::records::read_trunk;
use crate::records::{FORMAT, Manifest, ShownImage};

/// The largest map of a batch may take so many bytes; without a tape about four are alive at once.
const MAP_BYTES: usize = 384 << 20;
/// Images evaluated at a time, at most.
const EVALUATION_BATCH: usize = 128;

/// Everything that the plan draws once for all replicates, arms and rounds: comparisons over rounds
/// need the same images.
pub struct Setup {
    /// All images.
    pub data: Dataset,
    /// Train, validation and test, which never overlap (but for `as_published.duplicate_leak`).
    pub splits: Splits,
    /// Test images whose Grad-CAM maps are compared.
    pub cam_images: Vec<usize>,
    /// For each class, the images whose gradients TCAV uses.
    pub class_images: Vec<Vec<usize>>,
    /// Concept and random sets, with the classes that are tested for them.
    pub concepts: Vec<TestedConcepts>,
    /// The images of these sets: all images, or, of birds, those of the whole folder.
    pub concept_images: Dataset,
    /// What is to be said of concepts that differ by class.
    pub concept_note: Option<ConceptNote>,
    /// The box of each image's object, where the source knows it.
    pub boxes: Option<Vec<BoundingBox>>,
    /// The parts of each image's object, in input pixels, where the source knows them.
    pub parts: Option<Vec<Vec<ShownPart>>>,
    /// How training images are varied, if they are; each replicate sets its own seed.
    pub augmentation: Option<Augmentation>,
    /// The network.
    pub model: Model,
    /// Weights that every replicate starts from, but for the layer that gives the logits.
    pub pretrained: Option<Weights>,
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

impl Setup {
    /// Loads the data and draws.
    ///
    /// # Errors
    /// The file or field at fault is named.
    pub fn new(plan: &Plan) -> Result<Self> {
        let Loaded { images: data, concepts, boxes, parts, augmentation } = plan.data.load(plan.seed)?;
        let splits = split(&data, plan.data.sizes(), plan.seed)?;
        let leaked = plan.as_published.leak(&splits, plan.seed)?;
        // Explanations draw from sets, in which an image stands once.
        let (splits, drawn) = match leaked {
            None => (splits.clone(), splits),
            Some(leaked) => (leaked.splits, leaked.distinct),
        };
        if plan.train.batch_size > splits.train.len() {
            let what = format!("{} is more than the {} training images", plan.train.batch_size, splits.train.len());
            return Err(Error::config("train.batch_size", what));
        }
        if plan.explain.cam_images > drawn.test.len() {
            let what = format!("{} is more than the {} test images", plan.explain.cam_images, drawn.test.len());
            return Err(Error::config("explain.cam_images", what));
        }
        // The splits stand in a seeded, stratified order, so the first images are a stratified draw.
        let cam_images = drawn.test[..plan.explain.cam_images].to_vec();
        let class_images = class_images(&data, &drawn, Pool::Test, plan.explain.class_images, plan.seed)?;
        let DrawnConcepts { images: concept_images, tested: concepts, note: concept_note } =
            concepts.draw(&data, &drawn, &plan.explain.concept_plan(), &class_images, plan.seed)?;
        let classes = data.labels().classes();
        // As the study adjusts: over all rounds of one arm in one replicate.
        let pairs: usize = concepts.iter().map(|tested| tested.classes.len() * tested.sets.concepts.len()).sum();
        let family = (plan.prune.rounds + 1) * plan.explain.stages.len() * pairs;
        let mut warnings = plan.power_warnings(family)?;
        if let Some(note) = concept_note.as_ref().filter(|note| !note.left_out.is_empty()) {
            warnings.push(format!("concepts left out for want of photographs: {}", note.left_out.join("; ")));
        }
        let model = plan.model.build(data.shape().into(), classes)?;
        let layout = &model.network.layout;
        let bears = |name: &String| {
            layout.parameters.iter().any(|spec| {
                spec.kind.prunable() && (*name == spec.name || spec.name.strip_suffix(".weight") == Some(name.as_str()))
            })
        };
        let named = [
            ("prune.exclude", plan.prune.exclude.iter().collect::<Vec<_>>()),
            ("prune.layers", plan.prune.layers.keys().collect()),
        ];
        for (field, names) in named {
            if let Some(unknown) = names.into_iter().find(|name| !bears(name)) {
                let what = format!("the {} has no prunable layer `{unknown}`", model.name);
                return Err(Error::config(field, what));
            }
        }
        let pretrained = plan.model.pretrained.as_deref().map(|path| read_trunk(&model, path)).transpose()?;
        Ok(Self {
            data,
            splits,
            cam_images,
            class_images,
            concepts,
            concept_images,
            concept_note,
            boxes,
            parts,
            augmentation,
            model,
            pretrained,
            warnings,
        })
    }

    /// The weights that a replicate starts from: random, or those of the plan's checkpoint under a random last layer.
    pub fn initial(&self, replicate_seed: u64) -> Weights {
        let mut weights = self.model.network.initialise(replicate_seed);
        if let Some(pretrained) = &self.pretrained {
            for spec in &self.model.network.layout.parameters {
                if !self.model.in_head(&spec.name) {
                    let range = spec.range.clone();
                    weights.parameters[range.clone()].copy_from_slice(&pretrained.parameters[range]);
                }
            }
            weights.buffers.copy_from_slice(&pretrained.buffers);
        }
        weights
    }

    /// Images of the data that may pass the network at a time; at most `most`.
    ///
    /// # Errors
    /// When they do not fit the network.
    pub(super) fn images_within(&self, most: usize) -> Result<usize> {
        self.model.network.images_within(self.data.shape().into(), MAP_BYTES, most)
    }

    /// Images evaluated at a time; bounds memory, does not change results.
    ///
    /// # Errors
    /// When they do not fit the network.
    pub(super) fn evaluation_batch(&self) -> Result<usize> {
        self.images_within(EVALUATION_BATCH)
    }

    /// The images as the replicate of that seed trains on them: varied, where the source says so, by draws of its own.
    ///
    /// # Errors
    /// When the images cannot be varied.
    pub fn training_images(&self, replicate_seed: u64) -> Result<Dataset> {
        match self.augmentation {
            Some(varied) => self.data.clone().with_augmentation(Augmentation { seed: replicate_seed, ..varied }),
            None => Ok(self.data.clone()),
        }
    }

    /// SHA-256, in hexadecimal, of all that the plan takes from the data: images and labels, what
    /// was drawn of the concepts, boxes and parts. A table of attributes that was edited shows in
    /// it.
    ///
    /// # Errors
    /// Only when something cannot be serialised.
    pub fn identity(&self) -> Result<String> {
        let images = [self.data.fingerprint(), self.concept_images.fingerprint()];
        let known = serde_json::to_vec(&(images, &self.concepts, &self.boxes, &self.parts));
        Ok(sha256(&known.map_err(|error| Error::input(format!("the data's identity: {error}")))?))
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
            data: self.identity()?,
            device: self.model.compute.description(),
            threads: rayon::current_num_threads(),
            cpu_features: cpu_features(),
            vectors: vector_path().to_owned(),
            network: self.model.name.clone(),
            image_shape: [channels, height, width],
            classes: self.data.labels().names().to_vec(),
            concepts: self.concept_names(),
            concept_note: self.concept_note.clone(),
            pretrained: self.pretrained.as_ref().map(Weights::digest),
            images: [self.splits.train.len(), self.splits.validation.len(), self.splits.test.len()],
            test_classes: (0..self.data.labels().classes())
                .map(|class| self.splits.test.iter().filter(|&&image| self.data.label(image) == class).count())
                .collect(),
            cam_images: self.shown_images(),
            warnings: self.warnings.clone(),
        })
    }

    /// The shape `(N, C, H, W)` and the pixels of the fixed Grad-CAM images, as stored.
    ///
    /// # Errors
    /// When an image cannot be read.
    pub fn cam_pixels(&self) -> Result<([usize; 4], Vec<u8>)> {
        let (channels, height, width) = self.data.shape();
        let mut pixels = Vec::with_capacity(self.cam_images.len() * channels * height * width);
        for &index in &self.cam_images {
            pixels.extend_from_slice(&self.data.bytes(index)?);
        }
        Ok(([self.cam_images.len(), channels, height, width], pixels))
    }

    /// The fixed Grad-CAM images, with what is known of them.
    pub fn shown_images(&self) -> Vec<ShownImage> {
        self.cam_images
            .iter()
            .map(|&index| ShownImage {
                index,
                class: self.data.label(index),
                fine: self.data.fine().names()[self.data.fine().values()[index] as usize].clone(),
                // A crop can lose a box.
                bounding_box: self
                    .boxes
                    .as_ref()
                    .map(|boxes| &boxes[index])
                    .filter(|of| of.area() > 0.0)
                    .map(whole_pixels),
                parts: self.parts.as_ref().map(|parts| parts[index].clone()).unwrap_or_default(),
            })
            .collect()
    }

    /// Every concept, once, in the order in which classes are tested for them.
    pub fn concept_names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for concept in self.concepts.iter().flat_map(|tested| &tested.sets.concepts) {
            if !names.contains(&concept.name) {
                names.push(concept.name.clone());
            }
        }
        names
    }

    /// The images of some of [`Setup::concepts`] as rows. An image that is in several sets has one
    /// row; noise has rows of its own.
    ///
    /// # Errors
    /// When noise does not fit memory.
    pub fn concept_rows(&self, tested: &[TestedConcepts]) -> Result<ConceptRows> {
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
        let concepts: Vec<Vec<Vec<usize>>> = tested
            .iter()
            .map(|tested| tested.sets.concepts.iter().map(|concept| rows(&concept.images)).collect())
            .collect();
        let from_data: Vec<Vec<Option<Vec<usize>>>> = tested
            .iter()
            .map(|tested| {
                let sets = tested.sets.random.iter();
                sets.map(|set| match set {
                    RandomSet::Images(images) => Some(rows(images)),
                    RandomSet::Noise { .. } => None,
                })
                .collect()
            })
            .collect();
        let mut parts = Vec::new();
        let mut count = indices.len();
        let mut random = Vec::new();
        for (tested, from_data) in tested.iter().zip(from_data) {
            let mut sets = Vec::new();
            for (set, rows) in tested.sets.random.iter().zip(from_data) {
                sets.push(match rows {
                    Some(rows) => rows,
                    None => {
                        parts.push(set.batch(&self.concept_images, &Device::Cpu)?);
                        count += set.len();
                        (count - set.len()..count).collect()
                    }
                });
            }
            random.push(sets);
        }
        let noise = if parts.is_empty() { None } else { Some(Tensor::cat(&parts, 0)?) };
        let groups = concepts.into_iter().zip(random).map(|(concepts, random)| GroupRows { concepts, random });
        Ok(ConceptRows { count, groups: groups.collect(), indices, noise })
    }

    /// Seed of one use in one replicate, apart from every other use.
    pub fn derived_seed(plan: &Plan, replicate: usize, use_name: &str) -> u64 {
        use rand::Rng;
        seed::stream(plan.seed + replicate as u64, use_name, 0).random()
    }
}

/// See [`Setup::concept_rows`].
pub struct ConceptRows {
    /// Number of rows.
    pub count: usize,
    /// Rows of each group of concepts, in the order asked for.
    pub groups: Vec<GroupRows>,
    /// The first rows: images of [`Setup::concept_images`].
    indices: Vec<usize>,
    /// The other rows.
    noise: Option<Tensor>,
}

/// Rows of one of [`Setup::concepts`].
pub struct GroupRows {
    /// Of each concept.
    pub concepts: Vec<Vec<usize>>,
    /// Of each random set.
    pub random: Vec<Vec<usize>>,
}

impl ConceptRows {
    /// The image of a row among [`Setup::concept_images`]; none of noise.
    pub fn image(&self, row: usize) -> Option<usize> {
        self.indices.get(row).copied()
    }

    /// The images of `rows`, `(n, C, H, W)`, normalised.
    ///
    /// # Errors
    /// When an image cannot be read.
    pub fn images(&self, setup: &Setup, rows: Range<usize>) -> Result<Tensor> {
        let of_data = rows.start.min(self.indices.len())..rows.end.min(self.indices.len());
        let mut parts = Vec::new();
        if !of_data.is_empty() {
            parts.push(setup.concept_images.tensor(&self.indices[of_data])?);
        }
        if let Some(noise) = self.noise.as_ref().filter(|_| rows.end > self.indices.len()) {
            let start = rows.start.max(self.indices.len());
            parts.push(noise.narrow(0, start - self.indices.len(), rows.end - start)?);
        }
        Ok(Tensor::cat(&parts, 0)?)
    }
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
