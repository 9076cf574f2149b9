//! Where a study's images come from: one table, each source a file of its own.
//!
//! A source checks what it can without its files, and loads images with labels, concepts and what
//! else it knows. Its own choices are a table of the plan that bears its name (`[data.cub]`).

mod cifar10;
mod cub;
mod folder;
mod idx;
mod mnist;
mod planted;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::data::{
    Augmentation, BoundingBox, ConceptNote, ConceptPlan, ConceptTable, Dataset, Pool, ShownPart, SplitSizes, Splits,
    Task, TestedConcepts, concept_sets,
};
use crate::error::{Error, Result};

pub use cifar10::{CIFAR10, Cifar10Data};
pub use cub::{CUB, ConceptChoice, CubData, LabelChoice, NamedConcepts, SpeciesChoice};
pub use folder::{FOLDER, FolderConcepts, FolderData};
pub use idx::{IDX, IdxData};
pub use mnist::{BUILTIN_MNIST, FASHION, MNIST};
pub use planted::{PLANTED, PlantedData};

/// Every source, by name.
pub const SOURCES: [Source; 8] = [BUILTIN_MNIST, MNIST, FASHION, CIFAR10, IDX, FOLDER, CUB, PLANTED];

/// A source. Plans name it by [`Source::name`]; two sources of one name are equal.
#[derive(Clone, Copy)]
pub struct Source {
    /// Its name in plans.
    pub name: &'static str,
    /// What `data.path` is, for a source that needs one.
    pub path: Option<&'static str>,
    /// What can be checked without the files; the pool is that of the concept images.
    check: fn(&DataPlan, Pool) -> Result<()>,
    /// The images, a function of files, plan and seed.
    load: fn(&DataPlan, u64) -> Result<Loaded>,
}

/// Images of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataPlan {
    /// Where they come from.
    pub source: Source,
    /// Folder or file, for sources that need one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// What is learned.
    pub task: Task,
    /// Training images; all that is left where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train: Option<usize>,
    /// Validation images; all of the official set where absent, or a fifth of the training set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<usize>,
    /// Test images; all of the official set where absent, or a fifth of the training set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<usize>,
    /// What to generate, for the source `planted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planted: Option<PlantedData>,
    /// What of the folder, for the source `cub`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cub: Option<CubData>,
    /// How, for the source `cifar10`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cifar10: Option<Cifar10Data>,
    /// What of the files, for the source `idx`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idx: Option<IdxData>,
    /// What of the folder, for the source `folder`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<FolderData>,
}

/// What a source gives.
pub struct Loaded {
    /// All images, with the labels of the plan's task.
    pub images: Dataset,
    /// What concepts are made from.
    pub concepts: Concepts,
    /// The box of each image's object, in input pixels, where the source knows it.
    pub boxes: Option<Vec<BoundingBox>>,
    /// The parts of each image's object, in input pixels, where the source knows them.
    pub parts: Option<Vec<Vec<ShownPart>>>,
    /// How training images are varied, if they are; each replicate sets its own seed.
    pub augmentation: Option<Augmentation>,
}

/// What concepts are made from.
pub enum Concepts {
    /// The images themselves; every class is tested for every concept.
    Table(ConceptTable),
    /// A folder of birds; each species has its own.
    Birds(Box<cub::Birds>),
}

/// Concept and random sets of all classes.
pub struct DrawnConcepts {
    /// The images that they are drawn from.
    pub images: Dataset,
    /// The sets, with the classes that are tested for them.
    pub tested: Vec<TestedConcepts>,
    /// What is to be said of concepts that differ by class.
    pub note: Option<ConceptNote>,
}

impl DataPlan {
    /// What can be checked without the files; `pool` is that of the concept images.
    ///
    /// # Errors
    /// Names the field, and why.
    pub fn check(&self, pool: Pool) -> Result<()> {
        let tables = [
            ("planted", self.planted.is_some()),
            ("cub", self.cub.is_some()),
            ("cifar10", self.cifar10.is_some()),
            ("idx", self.idx.is_some()),
            ("folder", self.folder.is_some()),
        ];
        if let Some((name, _)) = tables.iter().find(|(name, given)| *given && *name != self.source.name) {
            return Err(Error::config(format!("data.{name}"), format!("is for the source `{name}` only")));
        }
        if let (Some(what), None) = (self.source.path, &self.path) {
            return Err(Error::config("data.path", format!("is missing: {what} (--set data.path=…)")));
        }
        self.task.check()?;
        (self.source.check)(self, pool)
    }

    /// Loads the images, a function of files, plan and seed.
    ///
    /// # Errors
    /// The file or field at fault is named.
    pub fn load(&self, seed: u64) -> Result<Loaded> {
        (self.source.load)(self, seed)
    }

    /// How many images each split takes.
    pub fn sizes(&self) -> SplitSizes {
        SplitSizes { train: self.train, validation: self.validation, test: self.test }
    }

    fn path(&self) -> Result<&Path> {
        self.path.as_deref().ok_or_else(|| Error::config("data.path", "is missing"))
    }

    /// For sources whose classes are no numbers and whose concepts are not the classes.
    fn demand_classes(&self, why: &str) -> Result<()> {
        match self.task {
            Task::Classes => Ok(()),
            _ => Err(Error::config("data.task", why)),
        }
    }
}

impl Loaded {
    /// Images whose classes as given are the concepts, to be learned as the task says.
    fn of_classes(images: Dataset, task: &Task) -> Result<Self> {
        let images = images.with_task(task)?;
        let concepts = Concepts::Table(ConceptTable::from_classes(&images));
        Ok(Self { images, concepts, boxes: None, parts: None, augmentation: None })
    }
}

impl Concepts {
    /// Draws the sets of every class. `explained` are the images of each class whose gradients are
    /// followed; they stand in no set.
    ///
    /// # Errors
    /// Names the concept that too few images show, or the field that asks for too much.
    pub(crate) fn draw(
        self,
        data: &Dataset,
        splits: &Splits,
        plan: &ConceptPlan,
        explained: &[Vec<usize>],
        seed: u64,
    ) -> Result<DrawnConcepts> {
        match self {
            Self::Birds(birds) => birds.concepts(data, plan, explained, seed),
            Self::Table(table) => {
                let explained: Vec<usize> = explained.iter().flatten().copied().collect();
                let sets = concept_sets(data, &table, splits, plan, &explained, None, seed)?;
                let classes = (0..data.labels().classes()).collect();
                Ok(DrawnConcepts { images: data.clone(), tested: vec![TestedConcepts { classes, sets }], note: None })
            }
        }
    }
}

static NAMES: [&str; SOURCES.len()] = {
    let mut names = [""; SOURCES.len()];
    let mut place = 0;
    while place < names.len() {
        names[place] = SOURCES[place].name;
        place += 1;
    }
    names
};

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Source {}

impl Serialize for Source {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name)
    }
}

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let source = SOURCES.into_iter().find(|source| source.name == name);
        source.ok_or_else(|| D::Error::unknown_variant(&name, &NAMES))
    }
}
