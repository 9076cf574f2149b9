//! The plan's table `data.cub`: which part of a CUB-200-2011 folder is learned, and what it is tested for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::data::{Augmentation, Normalisation, Preprocess};
use crate::error::{Error, Result};

/// The plan's table `data.cub`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CubData {
    /// Species that are learned, by name or CUB's number; all of the folder where empty.
    pub classes: Vec<SpeciesChoice>,
    /// Height and width of the input, in pixels.
    pub side: usize,
    /// Short side of a photograph before the centre square of `side` is cut from it, in pixels; `side` × 8/7 where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resize: Option<usize>,
    /// Whether training images are a random part, stretched to the input, and mirrored in half of the cases.
    pub augment: bool,
    /// Least area of that part, as a share of the photograph.
    pub min_area: f64,
    /// Which labels say that a photograph shows a concept.
    pub labels: LabelChoice,
    /// Whether concept and random sets may hold photographs of the species under test.
    pub own_class: bool,
    /// Whether each species is also tested for a concept that it lacks, drawn by the plan's seed.
    pub control: bool,
    /// Bound of the decoded photographs kept in memory, in MiB.
    pub cache_mib: usize,
    /// Concepts each species is tested for.
    pub concepts: ConceptChoice,
}

impl Default for CubData {
    /// All species at 224 px, augmented, with the paper's concepts and a control.
    fn default() -> Self {
        Self {
            classes: Vec::new(),
            side: 224,
            resize: None,
            augment: true,
            min_area: 0.35,
            labels: LabelChoice::Auto,
            own_class: false,
            control: true,
            cache_mib: 1024,
            concepts: ConceptChoice::Named(NamedConcepts::Paper),
        }
    }
}

/// One species, in plans.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SpeciesChoice {
    /// CUB's number.
    Number(u32),
    /// Its name, with or without the number before it.
    Name(String),
}

/// Which attribute labels make the concepts, in plans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LabelChoice {
    /// Those of single photographs where the folder has them, else those of the species.
    Auto,
    /// Of the species, denoised: all photographs of a species are alike.
    Class,
    /// Of single photographs, where the worker was probably or definitely certain.
    Image,
}

/// Concepts of each species, in plans.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ConceptChoice {
    /// A built-in choice.
    Named(NamedConcepts),
    /// The same for every species.
    Same(Vec<String>),
    /// By species.
    BySpecies(BTreeMap<String, Vec<String>>),
}

/// Built-in choices of concepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NamedConcepts {
    /// The paper's, of eleven species (`fixtures/paper/cub_concepts.toml`).
    Paper,
}

impl CubData {
    /// What can be checked without the folder.
    pub(super) fn check(&self) -> Result<()> {
        self.preprocess().check().map_err(|error| Error::config("data.cub.side", error.to_string()))?;
        if !(self.min_area > 0.0 && self.min_area <= 1.0) {
            return Err(Error::config("data.cub.min_area", format!("{} is not in (0, 1]", self.min_area)));
        }
        Ok(())
    }

    /// How photographs are prepared.
    pub(crate) fn preprocess(&self) -> Preprocess {
        let resize = self.resize.unwrap_or(self.side * 8 / 7);
        Preprocess { resize: Some(resize), crop: Some(self.side), normalisation: Normalisation::imagenet() }
    }

    /// How training images are varied in the replicate of that seed.
    pub(crate) fn augmentation(&self, seed: u64) -> Option<Augmentation> {
        self.augment.then_some(Augmentation { min_area: self.min_area, flip: true, seed })
    }
}
