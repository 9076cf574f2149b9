//! Pictures in a folder for each class ([`ClassFolders`]); concepts are attributes of a CSV table,
//! subfolders, or the classes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::data::attributes::read_attributes;
use crate::data::faults::Faults;
use crate::data::listing::check_within;
use crate::data::{Augmentation, ClassFolders, ConceptTable, Crop, Dataset, Normalisation, Origin, Pool, Preprocess};
use crate::error::{Error, Result};

use super::{Concepts, DataPlan, Loaded, Source};

/// A folder of class folders.
pub const FOLDER: Source =
    Source { name: "folder", path: Some("the folder with a folder for each class"), check, load };

/// The table of attributes, in the folder itself, that a plan need not name.
const ATTRIBUTES: &str = "attributes.csv";

/// The plan's table `data.folder`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FolderData {
    /// Height and width of the input, in pixels.
    pub side: usize,
    /// Short side of a picture before the centre square of `side` is cut from it, in pixels; `side` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resize: Option<usize>,
    /// 3 for RGB, 1 for grey.
    pub channels: usize,
    /// What the concepts are.
    pub concepts: FolderConcepts,
    /// The CSV table of attributes; `attributes.csv` in the folder where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attributes: Option<PathBuf>,
    /// Whether training images are a random part, stretched to the input, and mirrored in half of the cases.
    pub augment: bool,
    /// Least area of that part, as a share of the picture.
    pub min_area: f64,
    /// Bound of the decoded pictures kept in memory, in MiB.
    pub cache_mib: usize,
}

/// What the concepts of a folder are, in plans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FolderConcepts {
    /// Attributes where there is a table, else subfolders where there are any, else the classes.
    #[default]
    Auto,
    /// The classes as given.
    Classes,
    /// Folders below the classes', `CLASS/CONCEPT/*.png`; the same name below several classes is one concept.
    Subfolders,
    /// Columns of a CSV table whose lines are pictures.
    Attributes,
}

impl Default for FolderData {
    /// RGB at 64 px, augmented by parts of at least 60 %.
    fn default() -> Self {
        Self {
            side: 64,
            resize: None,
            channels: 3,
            concepts: FolderConcepts::Auto,
            attributes: None,
            augment: true,
            min_area: 0.6,
            cache_mib: 1024,
        }
    }
}

impl FolderData {
    /// ImageNet's mean and standard deviation, or their means over the channels.
    fn preprocess(&self) -> Result<Preprocess> {
        let normalisation = match self.channels {
            3 => Normalisation::imagenet(),
            1 => Normalisation::new(&[0.449], &[0.226])?,
            other => return Err(Error::config("data.folder.channels", format!("{other} is neither 1 nor 3"))),
        };
        Ok(Preprocess { resize: Some(self.resize.unwrap_or(self.side)), crop: Some(self.side), normalisation })
    }
}

fn check(plan: &DataPlan, _: Pool) -> Result<()> {
    let choice = plan.folder.clone().unwrap_or_default();
    choice.preprocess()?.check().map_err(|error| Error::config("data.folder.side", error.to_string()))?;
    if !(choice.min_area > 0.0 && choice.min_area <= 1.0) {
        let what = format!("{} is not in (0, 1]", choice.min_area);
        return Err(Error::config("data.folder.min_area", what));
    }
    if choice.attributes.is_some() && !matches!(choice.concepts, FolderConcepts::Auto | FolderConcepts::Attributes) {
        return Err(Error::config("data.folder.attributes", "`data.folder.concepts` says that there are none"));
    }
    Ok(())
}

fn load(plan: &DataPlan, seed: u64) -> Result<Loaded> {
    let (root, choice) = (plan.path()?, plan.folder.clone().unwrap_or_default());
    let folders = ClassFolders::list(root)?;
    let all = folders.dataset(&choice.preprocess()?, choice.cache_mib << 20)?;
    check_splits(root, &folders, &all)?;
    let images = all.with_task(&plan.task)?;
    let table = concepts(root, &choice, &folders, &images)?;
    let crop = Crop::Part { min_area: choice.min_area };
    let augmentation = choice.augment.then_some(Augmentation { crop, flip: true, seed });
    Ok(Loaded { images, concepts: Concepts::Table(table), boxes: None, parts: None, augmentation })
}

/// Every official set has pictures of every class, and none that another set has.
fn check_splits(root: &Path, folders: &ClassFolders, all: &Dataset) -> Result<()> {
    let mut faults = Faults::default();
    for (origin, name) in [(Origin::Train, "training"), (Origin::Validation, "validation"), (Origin::Test, "test")] {
        let of_set: Vec<u32> =
            folders.pictures.iter().filter(|picture| picture.origin == origin).map(|picture| picture.class).collect();
        let missing = (0..folders.classes.len()).filter(|&class| !of_set.contains(&(class as u32)));
        for class in missing.filter(|_| !of_set.is_empty()) {
            faults.0.push(format!("class `{}` has no {name} pictures", folders.classes[class]));
        }
    }
    let mut seen: BTreeMap<[u8; 32], usize> = BTreeMap::new();
    let mut copies = faults.table(&root.display().to_string());
    for (place, picture) in folders.pictures.iter().enumerate() {
        let first = *seen.entry(all.content(place)).or_insert(place);
        let other = &folders.pictures[first];
        if other.origin != picture.origin {
            let (one, two) = (relative(root, &other.path), relative(root, &picture.path));
            copies.add(None, format!("{one} and {two} are the same picture in two splits"));
        }
    }
    drop(copies);
    faults.check(root)
}

fn relative(root: &Path, path: &Path) -> String {
    let parts = path.strip_prefix(root).unwrap_or(path).components();
    parts.map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}

/// `images` are those of `folders` that the task leaves, in their order.
fn concepts(root: &Path, choice: &FolderData, folders: &ClassFolders, images: &Dataset) -> Result<ConceptTable> {
    let mut place_of: BTreeMap<&Path, usize> = BTreeMap::new();
    for place in 0..images.len() {
        place_of.extend(images.path(place).map(|path| (path, place)));
    }
    let named = choice.attributes.clone().unwrap_or_else(|| root.join(ATTRIBUTES));
    if choice.attributes.is_none() {
        check_within(root, &named)?;
    }
    let subfolders = folders.pictures.iter().any(|picture| picture.subfolder.is_some());
    match choice.concepts {
        FolderConcepts::Auto | FolderConcepts::Attributes
            if choice.attributes.is_some() || choice.concepts == FolderConcepts::Attributes || named.is_file() =>
        {
            let known = folders.pictures.iter().map(|picture| &*picture.path);
            let known = known.map(|path| (relative(root, path), place_of.get(path).copied())).collect();
            read_attributes(&named, &known)
        }
        FolderConcepts::Auto if !subfolders => Ok(ConceptTable::from_classes(images)),
        FolderConcepts::Classes => Ok(ConceptTable::from_classes(images)),
        _ => of_subfolders(folders, &place_of),
    }
}

fn of_subfolders(folders: &ClassFolders, place_of: &BTreeMap<&Path, usize>) -> Result<ConceptTable> {
    let mut members: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for picture in &folders.pictures {
        let Some(name) = picture.subfolder.as_deref() else {
            let what = "lies in no subfolder, and `data.folder.concepts` are the subfolders of the classes";
            return Err(Error::format(&picture.path, what));
        };
        if let Some(&place) = place_of.get(&*picture.path) {
            members.entry(name).or_default().push(place);
        }
    }
    let all: Vec<usize> = place_of.values().copied().collect();
    let without = |members: &Vec<usize>| all.iter().copied().filter(|place| !members.contains(place)).collect();
    let others = members.values().map(without).collect();
    ConceptTable::new(members.keys().map(|&name| name.to_owned()).collect(), members.into_values().collect(), others)
}

#[cfg(test)]
mod tests;
