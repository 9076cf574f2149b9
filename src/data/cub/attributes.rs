//! Attributes of species and photographs, and the concepts made of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::data::ConceptTable;
use crate::data::cub::table::{Faults, Parsed, by_id, field, flag, lines, text};
use crate::data::cub::{Cub, CubImage};
use crate::error::{Error, Result};

/// Rows of the class attribute matrix: a subset of the photographs keeps all of them.
pub(super) const CLASSES: usize = 200;

/// A concept is an attribute that more than this share of a species' labels (in per cent) agree on …
const CLASS_PERCENT: f32 = 50.0;
/// … for at least this many of the 200 species. Koh et al., "Concept Bottleneck Models" (2020), and
/// the study after them.
const CLASSES_WITH: usize = 10;
/// CUB's certainties are 1 not visible, 2 guessing, 3 probably, 4 definitely: less than this is doubtful.
const CERTAINTY: u8 = 3;

/// What one worker said of one attribute of one photograph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AttributeLabel {
    present: bool,
    /// 1 to 4.
    certainty: u8,
}

#[derive(Debug, Clone)]
pub(super) struct Attributes {
    pub(super) names: Vec<String>,
    /// Per cent, 200 rows.
    classes: Vec<Vec<f32>>,
    /// For each photograph, in their order, the label of each attribute, if given.
    pub(super) images: Option<Vec<Vec<Option<AttributeLabel>>>>,
}

impl Attributes {
    pub(super) fn keep_images(&mut self, rows: &[usize]) {
        if let Some(images) = &mut self.images {
            *images = rows.iter().map(|&row| std::mem::take(&mut images[row])).collect();
        }
    }
}

/// Which labels say that a photograph shows a concept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConceptLevel {
    /// Those of its species: the concept is there if more than half of the species' labels say so.
    /// All photographs of a species are alike.
    Class,
    /// Its own, where the worker was probably or definitely certain; other photographs are doubtful and left out.
    Image,
}

/// The concepts of eleven species as the paper chose them (`fixtures/paper/cub_concepts.toml`), by species.
pub fn paper_concepts() -> BTreeMap<String, Vec<String>> {
    let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/paper/cub_concepts.toml"));
    toml::from_str(text).expect("a built-in file that a test reads")
}

pub(super) fn read(
    root: &Path,
    paths: Option<&BTreeMap<u32, (usize, PathBuf)>>,
    faults: &mut Faults,
) -> Option<Attributes> {
    let names = names(root, faults);
    let classes = class_matrix(root, names.as_ref().map(Vec::len), faults);
    let (names, classes) = (names?, classes?);
    let images = match paths {
        Some(paths) if root.join(IMAGE_LABELS).exists() => image_labels(root, paths, names.len(), faults),
        _ => None,
    };
    Some(Attributes { names, classes, images })
}

fn names(root: &Path, faults: &mut Faults) -> Option<Vec<String>> {
    let places = ["attributes.txt", "attributes/attributes.txt", "../attributes.txt"];
    let place = places.into_iter().find(|place| root.join(place).is_file()).unwrap_or(places[0]);
    let table = by_id(root, place, faults, |rest| match clean_name(rest) {
        name if name.is_empty() => Err("has no name".to_string()),
        name => Ok(name),
    })?;
    let mut faults = faults.table(place);
    let mut seen = std::collections::BTreeSet::new();
    for (expected, (id, (line, name))) in (1..).zip(&table) {
        if *id != expected {
            faults
                .add(Some(*line), format!("id {id}, expected {expected}: attributes are numbered from 1 without gaps"));
            return None;
        }
        if !seen.insert(name) {
            faults.add(Some(*line), format!("the name `{name}` is given twice"));
        }
    }
    Some(table.into_values().map(|(_, name)| name).collect())
}

/// `has_size::small_(5_-_9_in)` becomes `has_size_small_5__9_in`, as in the study.
fn clean_name(name: &str) -> String {
    name.replace("::", "_").chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

fn class_matrix(root: &Path, columns: Option<usize>, all: &mut Faults) -> Option<Vec<Vec<f32>>> {
    let mut faults = all.table("attributes/class_attribute_labels_continuous.txt");
    let text = text(root, &mut faults)?;
    let mut rows = Vec::new();
    for (number, line) in lines(&text) {
        let percent = |text: &str| match field::<f32>(text, "a number")? {
            value if (0.0..=100.0).contains(&value) => Ok(value),
            value => Err(format!("{value} is not a percentage")),
        };
        match line.split_whitespace().map(percent).collect::<Parsed<Vec<f32>>>() {
            Ok(row) => {
                if let Some(columns) = columns.filter(|&c| c != row.len()) {
                    faults.add(Some(number), format!("{} values for {columns} attributes", row.len()));
                }
                rows.push(row);
            }
            Err(what) => {
                faults.add(Some(number), what);
                rows.push(Vec::new());
            }
        }
    }
    if rows.len() != CLASSES {
        faults.add(None, format!("{} rows, expected {CLASSES}: one for each of CUB's species", rows.len()));
    }
    Some(rows)
}

const IMAGE_LABELS: &str = "attributes/image_attribute_labels.txt";

/// `IMAGE ATTRIBUTE PRESENT CERTAINTY TIME`. Some lines of the original file have more fields after
/// the certainty; nothing is read from them.
fn image_labels(
    root: &Path,
    paths: &BTreeMap<u32, (usize, PathBuf)>,
    columns: usize,
    all: &mut Faults,
) -> Option<Vec<Vec<Option<AttributeLabel>>>> {
    let mut faults = all.table(IMAGE_LABELS);
    let text = text(root, &mut faults)?;
    let rows: BTreeMap<u32, usize> = paths.keys().enumerate().map(|(row, &id)| (id, row)).collect();
    let mut labels = vec![vec![None; columns]; paths.len()];
    for (number, line) in lines(&text) {
        let mut fields = line.split_whitespace();
        let mut next = || fields.next().ok_or_else(|| format!("`{line}` has fewer than 5 fields"));
        let mut record = || -> Parsed<(u32, usize, AttributeLabel)> {
            let image = field(next()?, "an image id")?;
            let attribute: usize = field(next()?, "an attribute id")?;
            let present = flag(next()?)?;
            let certainty: u8 = field(next()?, "a certainty")?;
            next()?;
            if !(1..=4).contains(&certainty) {
                return Err(format!("certainty {certainty} is not in 1..=4"));
            }
            if !(1..=columns).contains(&attribute) {
                return Err(format!("attribute {attribute} is not in attributes.txt"));
            }
            Ok((image, attribute - 1, AttributeLabel { present, certainty }))
        };
        match record() {
            // A subset of the photographs may keep the labels of all.
            Ok((image, attribute, label)) => {
                if let Some(&row) = rows.get(&image) {
                    labels[row][attribute] = Some(label);
                }
            }
            Err(what) => faults.add(Some(number), what),
        }
    }
    Some(labels)
}

impl Cub {
    /// The share, in per cent, of the labels of one species that see an attribute.
    pub fn class_attribute(&self, class: usize, attribute: usize) -> f32 {
        self.attributes.classes[self.class_ids[class] as usize - 1][attribute]
    }

    /// The attributes that survive denoising: above 50 % for at least 10 of all 200 species. There
    /// are 108 of them in CUB.
    pub fn denoised(&self) -> Vec<usize> {
        let kept = |attribute: &usize| {
            self.attributes.classes.iter().filter(|row| row[*attribute] > CLASS_PERCENT).count() >= CLASSES_WITH
        };
        (0..self.attributes.names.len()).filter(kept).collect()
    }

    /// The denoised attributes as concepts, with the photographs (indices into [`Cub::images`])
    /// that show each and those that do not.
    ///
    /// # Errors
    /// If labels of single images are asked for and the folder has none.
    pub fn concepts(&self, level: ConceptLevel) -> Result<ConceptTable> {
        let labels = match (level, &self.attributes.images) {
            (ConceptLevel::Class, _) => None,
            (ConceptLevel::Image, Some(labels)) => Some(labels),
            (ConceptLevel::Image, None) => {
                return Err(Error::config("concepts.level", format!("this folder has no {IMAGE_LABELS}")));
            }
        };
        let shows = |(row, image): (usize, &CubImage), attribute: usize| -> Option<bool> {
            match labels {
                None => Some(self.class_attribute(image.class, attribute) > CLASS_PERCENT),
                Some(labels) => labels[row][attribute].filter(|l| l.certainty >= CERTAINTY).map(|l| l.present),
            }
        };
        let (mut names, mut members, mut others) = (vec![], vec![], vec![]);
        for attribute in self.denoised() {
            let having = |wanted: bool| {
                let images = self.images().iter().enumerate();
                images.filter(|&i| shows(i, attribute) == Some(wanted)).map(|(row, _)| row).collect()
            };
            names.push(self.attributes.names[attribute].clone());
            members.push(having(true));
            others.push(having(false));
        }
        ConceptTable::new(names, members, others)
    }
}
