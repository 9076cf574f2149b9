//! What networks say of the same images: what the gate compares.

use crate::data::ImageSource;
use crate::error::{Error, Result, undefined};
use crate::explain::tcav::by_target::{Classes, explain_and_test};
use crate::explain::tcav::cav::CavKind;
use crate::explain::tcav::checkpoint::{Question, Settings};
use crate::explain::tcav::statistics::EFFECT;
use crate::explain::{CheckpointMaps, Targets};
use crate::model::{Assumptions, Checkpoint, Stage};
use crate::nn::{ParameterKind, TensorSpec};
use crate::prune::density;
use crate::records::gate::NamedDrift;
use crate::stats::multiplicity::{Adjustment, adjust};
use crate::stats::permutation::DEFAULT_PERMUTATIONS;

/// Bytes of concept activations that stay in memory.
const RESIDENT_BYTES: usize = 1 << 30;
/// Level of a concept's significance and decodability.
pub(super) const ALPHA: f64 = 0.05;

/// What one network says of the images.
#[derive(Clone, Debug, PartialEq)]
pub struct Explained {
    /// Its name for people, such as the checkpoint's path.
    pub name: String,
    /// Height and width of a map.
    pub size: [usize; 2],
    /// One raw map for each image.
    pub maps: Vec<Vec<f32>>,
    /// The class predicted for each image, where that is known.
    pub predicted: Option<Vec<usize>>,
    /// Concept effects in the order of class and concept, the same in all networks; empty without concepts.
    pub effects: Vec<ClassEffect>,
    /// Share of its prunable weights that are not zero, where its weights are known.
    pub density: Option<f64>,
    /// How it computes, as far as names and shapes do not tell.
    pub assumed: Option<Assumptions>,
}

/// One concept's effect on one class's logit.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassEffect {
    /// The class.
    pub class: usize,
    /// The concept.
    pub concept: String,
    /// Standardised effect; absent where nothing varies.
    pub standardised: Option<f64>,
    /// Whether it is significant after adjustment over class × concept, and the concept can be decoded.
    pub significant: bool,
}

impl ClassEffect {
    /// The sign of a significant effect.
    pub(super) fn sign(&self) -> Option<bool> {
        self.standardised.filter(|_| self.significant).map(|effect| effect > 0.0)
    }
}

/// What every network is asked.
pub struct Asked<'a> {
    /// Images to be explained.
    pub images: &'a ImageSource,
    /// Where networks are cut.
    pub stage: Stage,
    /// Concepts by name; none without `random`.
    pub concepts: &'a [(String, ImageSource)],
    /// Sets of random images, at least two with concepts.
    pub random: &'a [ImageSource],
    /// Classes that concepts are tested for.
    pub classes: Classes,
    /// Images in memory at a time.
    pub batch: usize,
}

/// A network's answers, and what is to be said of the concept sets.
pub struct Answers {
    /// What it says of the images.
    pub explained: Explained,
    /// Lines on sets that share images.
    pub warnings: Vec<String>,
}

impl Asked<'_> {
    /// Explains the logit of `targets` in one checkpoint; `read` hears after each batch how many images it held.
    ///
    /// # Errors
    /// When images, targets or sets do not fit the network.
    pub fn of(
        &self,
        name: String,
        checkpoint: &Checkpoint,
        targets: Targets<'_>,
        read: &dyn Fn(usize),
    ) -> Result<Answers> {
        let (mut effects, mut warnings) = (Vec::new(), Vec::new());
        let maps = if self.concepts.is_empty() {
            CheckpointMaps::new(checkpoint, self.images, self.stage, targets, self.batch, read)?
        } else {
            let settings = Settings {
                cav: CavKind::Logistic { c: 1.0 },
                permutations: DEFAULT_PERMUTATIONS,
                resamples: 0,
                adjustment: Adjustment::BenjaminiHochberg,
                alpha: ALPHA,
                seed: 0,
                batch: self.batch,
                resident_bytes: RESIDENT_BYTES,
            };
            let question = Question {
                checkpoint,
                stage: self.stage,
                images: self.images,
                classes: &[],
                concepts: self.concepts,
                random: self.random,
            };
            let (maps, classes, tests) = explain_and_test(&question, targets, &self.classes, &settings, read)?;
            let pairs = classes.iter().zip(&tests.classes).flat_map(|(&class, tests)| {
                tests.concepts.iter().zip(self.concepts).map(move |(test, (name, _))| (class, name, test))
            });
            let pairs: Vec<_> = pairs.collect();
            let p_values: Vec<f64> = pairs.iter().map(|(_, _, test)| test.statistics[EFFECT].p_value).collect();
            let adjusted = adjust(&p_values, settings.adjustment).map_err(undefined("concept effects"))?;
            effects.extend(pairs.into_iter().zip(adjusted).map(|((class, concept, test), p)| ClassEffect {
                class,
                concept: concept.clone(),
                standardised: test.effect().standardised,
                significant: test.decodable && p <= ALPHA,
            }));
            warnings = tests.copies;
            maps
        };
        let CheckpointMaps { size, maps, predicted } = maps;
        let explained = Explained {
            name,
            size,
            maps,
            predicted: Some(predicted),
            effects,
            density: Some(density(&checkpoint.weights)),
            assumed: checkpoint.model.assumptions,
        };
        Ok(Answers { explained, warnings })
    }
}

/// What candidates are held against.
#[derive(Clone, Debug, PartialEq)]
pub struct Dense {
    /// Names of the images.
    pub images: Vec<String>,
    /// The true classes, where they are known.
    pub labels: Option<Vec<usize>>,
    /// The class explained, for each image; empty where maps came as arrays without labels.
    pub targets: Vec<usize>,
    /// The stage; absent where maps came as arrays.
    pub stage: Option<Stage>,
    /// The dense network.
    pub reference: Explained,
    /// The same network retrained: other seeds or data orders.
    pub floor: Vec<Explained>,
}

impl Dense {
    /// Reference and floor.
    pub(super) fn networks(&self) -> impl Iterator<Item = &Explained> {
        std::iter::once(&self.reference).chain(&self.floor)
    }

    /// # Errors
    /// When reference and floor do not speak of the same, or two of them are one network.
    pub(super) fn check(&self) -> Result<()> {
        self.floor.iter().try_for_each(|floor| self.check_fits(floor))?;
        let all: Vec<&Explained> = self.networks().collect();
        for (place, first) in all.iter().enumerate() {
            let blind = first.maps.iter().flatten().all(|&value| value == 0.0);
            if let Some(copy) = all[place + 1..].iter().find(|other| !blind && other.maps == first.maps) {
                let what = "have the same maps: a floor holds networks that were trained anew, each given once";
                return Err(Error::input(format!("{} and {} {what}", first.name, copy.name)));
            }
        }
        match &self.labels {
            Some(labels) if labels.len() != self.reference.maps.len() => Err(Error::input(format!(
                "{}: {} maps, but {} labels",
                self.reference.name,
                self.reference.maps.len(),
                labels.len()
            ))),
            _ => Ok(()),
        }
    }

    /// # Errors
    /// When a network does not speak of the same images, stage and concepts as the reference.
    pub(super) fn check_fits(&self, other: &Explained) -> Result<()> {
        let (own, name) = (&self.reference, &other.name);
        let fault = |what: String| Err(Error::input(format!("{name}: {what}")));
        if own.size != other.size {
            let [size, found] = [own.size, other.size].map(|[height, width]| format!("{height} × {width}"));
            return fault(format!("its maps are {found}, those of {} are {size}", own.name));
        }
        if own.maps.len() != other.maps.len() {
            return fault(format!("{} maps, {} has {}", other.maps.len(), own.name, own.maps.len()));
        }
        let pairs = |of: &Explained| -> Vec<(usize, String)> {
            of.effects.iter().map(|effect| (effect.class, effect.concept.clone())).collect()
        };
        if pairs(own) != pairs(other) {
            return fault(format!("its concept effects are of other classes or concepts than those of {}", own.name));
        }
        if self.labels.is_some() && other.predicted.as_ref().is_none_or(|of| of.len() != own.maps.len()) {
            return fault("labels say what is right, but its predictions are not known".into());
        }
        Ok(())
    }
}

/// Relative L2 distance of each prunable layer's weights, the most moved first; of a layer that is
/// zero in the reference there is none. Empty where the networks differ in architecture.
pub fn layer_distances(reference: &Checkpoint, candidate: &Checkpoint) -> Vec<NamedDrift> {
    if !reference.model.same_as(&candidate.model) {
        return Vec::new();
    }
    let layers = reference.model.network.layout.parameters.iter().enumerate();
    let distance = |(index, spec): (usize, &TensorSpec<ParameterKind>)| {
        let (a, b) = (reference.weights.parameter(index), candidate.weights.parameter(index));
        let square = |sum: f64, value: f64| sum + value * value;
        let distance = a.iter().zip(b).map(|(a, b)| f64::from(a - b)).fold(0.0, square);
        let size = a.iter().map(|&a| f64::from(a)).fold(0.0, square);
        (size > 0.0).then(|| NamedDrift { name: spec.name.clone(), drift: (distance / size).sqrt() })
    };
    most_moved(layers.filter(|(_, spec)| spec.kind.prunable()).filter_map(distance).collect())
}

/// By drift, the greatest first, then by name.
pub(super) fn most_moved(mut list: Vec<NamedDrift>) -> Vec<NamedDrift> {
    list.sort_by(|a, b| b.drift.total_cmp(&a.drift).then_with(|| a.name.cmp(&b.name)));
    list
}
