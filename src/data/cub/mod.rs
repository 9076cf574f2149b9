//! CUB-200-2011 in its own layout: Wah, Branson, Welinder, Perona and Belongie, "The Caltech-UCSD
//! Birds-200-2011 Dataset" (2011).
//!
//! The full set or a subset of its classes; every fault of the folder is found in one pass and told by file and line.

mod attributes;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use rayon::prelude::*;

use crate::data::listing::{LEADS_OUT, leads_out};
use crate::data::picture::{self, Picture};
use crate::data::{BoundingBox, Dataset, Labels, Origin, Placement, Preprocess};
use crate::error::{Error, Result, near_miss};

use attributes::Attributes;
pub use attributes::{ConceptLevel, paper_concepts};
use table::{Faults, Parsed, by_id, field, flag, lines, numbers, text};

/// One photograph and what is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct CubImage {
    /// CUB's number of it.
    pub id: u32,
    /// Its file.
    pub path: PathBuf,
    /// Its species, an index into [`Cub::class_names`].
    pub class: usize,
    /// Whether it is in the official training set.
    pub train: bool,
    /// The bird, in pixels of the photograph.
    pub bounding_box: BoundingBox,
    /// Where each part is, in pixels of the photograph, in the order of [`Cub::part_names`]; `None`
    /// where it cannot be seen.
    pub parts: Vec<Option<(f64, f64)>>,
}

/// A CUB folder, its texts read and checked, its photographs not yet.
#[derive(Debug, Clone)]
pub struct Cub {
    class_ids: Vec<u32>,
    class_names: Vec<String>,
    part_names: Vec<String>,
    images: Vec<CubImage>,
    attributes: Attributes,
}

/// Reads the texts of a `CUB_200_2011` folder. `attributes.txt` may lie in the folder, in its
/// `attributes/`, or beside it, as in the original archive.
///
/// # Errors
/// One [`Error::Faults`] with all faults: missing files, malformed lines, labels of unknown
/// classes, images without label, split or box, paths or links that leave the folder, an attribute
/// matrix that is not 200 rows of as many values as there are attributes.
pub fn read_cub(root: &Path) -> Result<Cub> {
    if !root.is_dir() {
        return Err(Error::format(root, "is not a folder"));
    }
    let below = root.join("CUB_200_2011");
    if !root.join("classes.txt").exists() && below.join("classes.txt").exists() {
        let what = "classes.txt: not found; it is in the folder CUB_200_2011 below this one: give that";
        return Err(Error::format(root, what));
    }
    let mut faults = Faults::default();
    let classes = by_id(root, "classes.txt", &mut faults, class_name);
    let paths = by_id(root, "images.txt", &mut faults, picture_path);
    if let (Some(paths), Ok(real)) = (&paths, root.canonicalize()) {
        let mut table = faults.table("images.txt");
        let leaving = paths.values().filter(|(_, path)| leads_out(&real, &root.join("images").join(path)));
        leaving.for_each(|(line, path)| table.add(Some(*line), format!("{} {LEADS_OUT}", path.display())));
    }
    let labels = by_id(root, "image_class_labels.txt", &mut faults, |rest| field::<u32>(rest, "a class id"));
    let split = by_id(root, "train_test_split.txt", &mut faults, flag);
    let boxes = by_id(root, "bounding_boxes.txt", &mut faults, bounding_box);
    let part_names = by_id(root, "parts/parts.txt", &mut faults, class_name);
    let attributes = attributes::read(root, paths.as_ref(), &mut faults);
    let parts = match (&paths, &part_names) {
        (Some(paths), Some(names)) => part_places(root, &ids(paths), &ids(names), &mut faults),
        _ => BTreeMap::new(),
    };
    if let (Some(classes), Some(labels)) = (&classes, &labels) {
        let mut table = faults.table("image_class_labels.txt");
        for (line, class) in labels.values().filter(|(_, class)| !classes.contains_key(class)) {
            table.add(Some(*line), format!("class {class} is not in classes.txt"));
        }
    }
    if let Some(classes) = &classes {
        let mut table = faults.table("classes.txt");
        let outside = classes.iter().filter(|&(&id, _)| !(1..=attributes::CLASSES as u32).contains(&id));
        for (id, (line, _)) in outside {
            table.add(Some(*line), format!("class id {id} is not from 1 to {}", attributes::CLASSES));
        }
    }
    if let Some(paths) = &paths {
        match_images("image_class_labels.txt", "class label", labels.as_ref(), paths, &mut faults);
        match_images("train_test_split.txt", "split", split.as_ref(), paths, &mut faults);
        match_images("bounding_boxes.txt", "box", boxes.as_ref(), paths, &mut faults);
    }
    let fail = |faults: Vec<String>| Error::Faults { subject: root.display().to_string(), faults };
    let (Some(classes), Some(paths), Some(labels), Some(split), Some(boxes), Some(part_names), Some(attributes)) =
        (classes, paths, labels, split, boxes, part_names, attributes)
    else {
        return Err(fail(faults.0));
    };
    if !faults.0.is_empty() {
        return Err(fail(faults.0));
    }
    let class_ids: Vec<u32> = classes.keys().copied().collect();
    let missing = || fail(vec!["tables do not fit one another".to_string()]);
    let image = |(&id, (_, path)): (&u32, &(usize, PathBuf))| -> Option<CubImage> {
        Some(CubImage {
            id,
            path: root.join("images").join(path),
            class: class_ids.binary_search(&labels.get(&id)?.1).ok()?,
            train: split.get(&id)?.1,
            bounding_box: boxes.get(&id)?.1,
            parts: part_names.keys().map(|&part| parts.get(&(id, part)).copied().flatten()).collect(),
        })
    };
    let images = paths.iter().map(image).collect::<Option<Vec<_>>>().ok_or_else(missing)?;
    let name = |(_, name): (usize, String)| name;
    Ok(Cub {
        class_names: classes.into_values().map(name).collect(),
        class_ids,
        part_names: part_names.into_values().map(name).collect(),
        images,
        attributes,
    })
}

fn ids<T>(table: &BTreeMap<u32, T>) -> BTreeSet<u32> {
    table.keys().copied().collect()
}

/// A name, without the `NNN.` that CUB puts before species.
fn class_name(rest: &str) -> Parsed<String> {
    let name = match rest.split_once('.') {
        Some((number, name)) if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => rest,
    };
    match name.is_empty() {
        true => Err("has no name".to_string()),
        false => Ok(name.to_string()),
    }
}

/// A path below `images/`: no root, no `..`.
fn picture_path(rest: &str) -> Parsed<PathBuf> {
    let path = Path::new(rest);
    let inside = path.components().all(|part| matches!(part, Component::Normal(_))) && !rest.contains(['\\', '\0']);
    match inside && path.components().next().is_some() {
        true => Ok(path.to_path_buf()),
        false => Err(format!("the path `{rest}` leaves the folder")),
    }
}

fn bounding_box(rest: &str) -> Parsed<BoundingBox> {
    let [left, top, width, height] = numbers(rest)?;
    match width > 0.0 && height > 0.0 && left >= 0.0 && top >= 0.0 {
        true => Ok(BoundingBox { left, top, right: left + width, bottom: top + height }),
        false => Err(format!("the box `{rest}` is empty or begins outside the image")),
    }
}

/// Every image of images.txt needs a record, and every record an image.
fn match_images<T>(
    name: &str,
    what: &str,
    records: Option<&BTreeMap<u32, (usize, T)>>,
    paths: &BTreeMap<u32, (usize, PathBuf)>,
    faults: &mut Faults,
) {
    let Some(records) = records else { return };
    let mut table = faults.table(name);
    for (id, (line, _)) in paths.iter().filter(|(id, _)| !records.contains_key(id)) {
        table.add(None, format!("image {id} (images.txt:{line}) has no {what}"));
    }
    for (id, (line, _)) in records.iter().filter(|(id, _)| !paths.contains_key(id)) {
        table.add(Some(*line), format!("image {id} is not in images.txt"));
    }
}

/// A part of an image, by their ids, and where it is; `None` where it cannot be seen.
type PartPlace = ((u32, u32), Option<(f64, f64)>);

/// `parts/part_locs.txt`: `IMAGE PART X Y VISIBLE`.
fn part_places(
    root: &Path,
    images: &BTreeSet<u32>,
    parts: &BTreeSet<u32>,
    all: &mut Faults,
) -> BTreeMap<(u32, u32), Option<(f64, f64)>> {
    let mut faults = all.table("parts/part_locs.txt");
    let mut places = BTreeMap::new();
    let Some(text) = text(root, &mut faults) else {
        return places;
    };
    for (number, line) in lines(&text) {
        match part_place(line, images, parts) {
            Ok((key, _)) if places.contains_key(&key) => {
                faults.add(Some(number), "this part of this image is given twice");
            }
            Ok((key, place)) => drop(places.insert(key, place)),
            Err(what) => faults.add(Some(number), what),
        }
    }
    places
}

fn part_place(line: &str, images: &BTreeSet<u32>, parts: &BTreeSet<u32>) -> Parsed<PartPlace> {
    let mut fields = line.splitn(3, char::is_whitespace);
    let mut next = || fields.next().ok_or_else(|| format!("`{line}` has fewer than 5 fields"));
    let image = field::<u32>(next()?, "an image id")?;
    let part = field::<u32>(next()?, "a part id")?;
    let [x, y, visible] = numbers(next()?)?;
    if !images.contains(&image) {
        return Err(format!("image {image} is not in images.txt"));
    }
    if !parts.contains(&part) {
        return Err(format!("part {part} is not in parts/parts.txt"));
    }
    Ok(((image, part), (visible != 0.0).then_some((x, y))))
}

impl Cub {
    /// The species, in the order of their ids, without CUB's number before the name.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }

    /// The photographs, in the order of their ids.
    pub fn images(&self) -> &[CubImage] {
        &self.images
    }

    /// The names of the parts (back, beak, …).
    pub fn part_names(&self) -> &[String] {
        &self.part_names
    }

    /// The attributes' names, cleaned: `has_bill_shape::all-purpose` is `has_bill_shape_allpurpose`.
    pub fn attribute_names(&self) -> &[String] {
        &self.attributes.names
    }

    /// Whether the folder has labels of single images (`attributes/image_attribute_labels.txt`).
    pub fn has_image_attributes(&self) -> bool {
        self.attributes.images.is_some()
    }

    /// The name of the species that `text` means: a name, a name after CUB's number
    /// (`009.Brewer_Blackbird`), or the number alone.
    ///
    /// # Errors
    /// Names what is no species of this folder.
    pub fn species(&self, text: &str) -> Result<&str> {
        let number = text.parse::<u32>().ok().and_then(|id| self.class_ids.binary_search(&id).ok());
        let name = class_name(text).ok();
        let place = number.or_else(|| self.class_names.iter().position(|known| Some(known) == name.as_ref()));
        place.map(|place| self.class_names[place].as_str()).ok_or_else(|| self.no_species("data.cub.classes", text))
    }

    fn no_species(&self, field: &str, text: &str) -> Error {
        let near = near_miss(text, self.class_names.iter().map(String::as_str));
        Error::config(field, format!("no species `{text}` in this folder{near}"))
    }

    /// The same folder with some species only, in the order of their ids.
    ///
    /// # Errors
    /// Names the species that does not exist, or says that fewer than two are left.
    pub fn select(mut self, names: &[String]) -> Result<Self> {
        if let Some(missing) = names.iter().find(|name| !self.class_names.contains(name)) {
            return Err(self.no_species("data.classes", missing));
        }
        let kept: Vec<usize> = (0..self.class_names.len()).filter(|&i| names.contains(&self.class_names[i])).collect();
        if kept.len() < 2 {
            return Err(Error::config("data.classes", format!("{} species: at least 2 are needed", kept.len())));
        }
        let rows: Vec<usize> = (0..self.images.len()).filter(|&i| kept.contains(&self.images[i].class)).collect();
        self.attributes.keep_images(&rows);
        self.images = rows
            .into_iter()
            .filter_map(|row| {
                let image = &self.images[row];
                let class = kept.binary_search(&image.class).ok()?;
                Some(CubImage { class, ..image.clone() })
            })
            .collect();
        self.class_ids = kept.iter().map(|&i| self.class_ids[i]).collect();
        self.class_names = kept.iter().map(|&i| self.class_names[i].clone()).collect();
        Ok(self)
    }

    /// The photographs as a data set, in the order of [`Cub::images`].
    ///
    /// # Errors
    /// As [`Dataset::from_pictures`].
    pub fn dataset(&self, preprocess: &Preprocess, cache_bytes: usize) -> Result<Dataset> {
        let paths = self.images.iter().map(|image| image.path.clone()).collect();
        let values = self.images.iter().map(|image| image.class as u32).collect();
        let origins = self.images.iter().map(|image| if image.train { Origin::Train } else { Origin::Test }).collect();
        let fine = Labels::new(values, self.class_names.clone())?;
        Dataset::from_pictures("cub", paths, preprocess.clone(), cache_bytes, fine, origins)
    }

    /// Where the network's input lies in each photograph: carries boxes and parts into the input.
    ///
    /// # Errors
    /// Names the first photograph whose header cannot be read.
    pub fn placements(&self, preprocess: &Preprocess) -> Result<Vec<Placement>> {
        let one = |image: &CubImage| -> Result<Placement> {
            let (width, height) = picture::dimensions(&image.path)?;
            Ok(preprocess.placement(width, height))
        };
        self.images.par_iter().map(one).collect::<Vec<_>>().into_iter().collect()
    }

    /// Decodes every photograph: finds files that are missing, empty or corrupt, and boxes that do
    /// not lie in their photograph.
    pub fn check_pictures(&self) -> PictureCheck {
        let check = |image: &CubImage| -> Result<bool> {
            let (width, height) = Picture::read(&image.path, 3)?.size();
            let (bird, width, height) = (&image.bounding_box, width as f64, height as f64);
            let inside = BoundingBox { right: bird.right.min(width), bottom: bird.bottom.min(height), ..*bird };
            if inside.area() < bird.area() / 2.0 {
                let what = format!(
                    "the box of image {} ends at ({:.1}, {:.1}), the photograph at ({width}, {height})",
                    image.id, bird.right, bird.bottom
                );
                return Err(Error::format(&image.path, what));
            }
            Ok(bird.right > width + 1.0 || bird.bottom > height + 1.0)
        };
        let all: Vec<Result<bool>> = self.images.par_iter().map(check).collect();
        let mut found = PictureCheck::default();
        for (image, result) in self.images.iter().zip(all) {
            match result {
                Ok(true) => found.cut_boxes.push(image.id),
                Ok(false) => {}
                Err(e) => found.faults.push(e.to_string()),
            }
        }
        found
    }
}

/// Faults of the photographs that `images.txt` lists, whatever is wrong with the other texts: for a
/// folder that [`read_cub`] refuses.
pub fn picture_faults(root: &Path) -> Vec<String> {
    let paths = by_id(root, "images.txt", &mut Faults::default(), picture_path).unwrap_or_default();
    let read = |path: &PathBuf| Picture::read(&root.join("images").join(path), 3).err().map(|error| error.to_string());
    let real = root.canonicalize().unwrap_or_default();
    let paths = paths.into_values().map(|(_, path)| path);
    let paths: Vec<PathBuf> = paths.filter(|path| !leads_out(&real, &root.join("images").join(path))).collect();
    paths.par_iter().map(read).collect::<Vec<_>>().into_iter().flatten().collect()
}

/// What [`Cub::check_pictures`] finds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PictureCheck {
    /// Photographs that are missing, empty or corrupt, and boxes of which less than half lies in the photograph.
    pub faults: Vec<String>,
    /// Images whose box leaves the photograph by more than a pixel, as a few of the original data
    /// do; a box is cut at the edge when it is carried into the input ([`BoundingBox::placed`]).
    pub cut_boxes: Vec<u32>,
}

#[cfg(test)]
mod tests;
