//! Birds ([`crate::data::cub`]): which part of a CUB-200-2011 folder is learned, and what each species is tested for.

use std::collections::BTreeMap;

use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::data::cub::{ConceptLevel, Cub, paper_concepts, read_cub};
use crate::data::{
    Augmentation, ConceptNote, ConceptPlan, ConceptTable, Crop, Dataset, Normalisation, Origin, Pool, Preprocess,
    ShownPart, Splits, TestedConcepts, concept_sets,
};
use crate::error::{Error, Result};
use crate::seed::stream;

use super::{Concepts, DataPlan, DrawnConcepts, Loaded, Source};

/// A species gets a control concept that no more than this share of its labels (in per cent) see.
const CONTROL_PERCENT: f32 = 10.0;

/// A `CUB_200_2011` folder; concepts are attributes, each species has its own; boxes and parts are known.
pub const CUB: Source = Source { name: "cub", path: Some("the folder CUB_200_2011"), check, load };

/// The plan's table `data.cub`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CubData {
    /// Species that are learned, by name or CUB's number; all of the folder where empty.
    pub classes: Vec<SpeciesChoice>,
    /// Height and width of the input, in pixels.
    pub side: usize,
    /// Short side of a photograph before the centre square of `side` is cut from it, in pixels;
    /// `side` × 8/7 where absent.
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
    fn check(&self) -> Result<()> {
        self.preprocess().check().map_err(|error| Error::config("data.cub.side", error.to_string()))?;
        if !(self.min_area > 0.0 && self.min_area <= 1.0) {
            return Err(Error::config("data.cub.min_area", format!("{} is not in (0, 1]", self.min_area)));
        }
        Ok(())
    }

    /// How photographs are prepared.
    fn preprocess(&self) -> Preprocess {
        let resize = self.resize.unwrap_or(self.side * 8 / 7);
        Preprocess { resize: Some(resize), crop: Some(self.side), normalisation: Normalisation::imagenet() }
    }

    /// The concepts asked for of one species, and whether the plan itself names them.
    fn concepts_of(&self, birds: &Cub, species: &str) -> Result<(Vec<String>, bool)> {
        Ok(match &self.concepts {
            ConceptChoice::Named(NamedConcepts::Paper) => (paper_concepts().remove(species).unwrap_or_default(), false),
            ConceptChoice::Same(concepts) => (concepts.clone(), true),
            ConceptChoice::BySpecies(lists) => {
                let mut found = Vec::new();
                for (key, concepts) in lists {
                    if birds.species(key)? == species {
                        found.extend(concepts.iter().cloned());
                    }
                }
                (found, true)
            }
        })
    }
}

fn check(plan: &DataPlan, pool: Pool) -> Result<()> {
    plan.demand_classes("birds have `classes` only")?;
    if pool == Pool::Validation {
        let what = "`validation` is too small: photographs of concepts come from the official `test` or `train` part";
        return Err(Error::config("explain.pool", what));
    }
    plan.cub.as_ref().map_or(Ok(()), CubData::check)
}

/// All photographs of a folder: concepts may be shown by species that are not learned.
pub struct Birds {
    all: Dataset,
    /// Where each photograph that is learned stands in `all`.
    place_in_all: Vec<usize>,
    whole: Cub,
    choice: CubData,
}

/// Every fault of the folder's texts is told by file and line.
fn load(plan: &DataPlan, seed: u64) -> Result<Loaded> {
    let choice = plan.cub.clone().unwrap_or_default();
    let whole = read_cub(plan.path()?)?;
    let names = (choice.classes.iter())
        .map(|species| match species {
            SpeciesChoice::Number(number) => whole.species(&number.to_string()).map(str::to_owned),
            SpeciesChoice::Name(name) => whole.species(name).map(str::to_owned),
        })
        .collect::<Result<Vec<_>>>()?;
    let learned = if names.is_empty() { whole.clone() } else { whole.clone().select(&names)? };
    let preprocess = choice.preprocess();
    let cache = choice.cache_mib << 20;
    let all = whole.dataset(&preprocess, cache)?;
    let images = learned.dataset(&preprocess, cache)?;
    let places = learned.placements(&preprocess)?;
    let ids: BTreeMap<u32, usize> = whole.images().iter().enumerate().map(|(place, image)| (image.id, place)).collect();
    let boxes = learned.images().iter().zip(&places).map(|(image, place)| image.bounding_box.placed(place)).collect();
    let parts = (learned.images().iter().zip(&places))
        .map(|(image, place)| {
            let seen = image.parts.iter().zip(learned.part_names());
            seen.filter_map(|(part, name)| {
                let (x, y) = part.map(|(x, y)| place.point(x, y))?;
                let inside = (0.0..place.size.0 as f64).contains(&x) && (0.0..place.size.1 as f64).contains(&y);
                inside.then(|| ShownPart { name: name.clone(), x, y })
            })
            .collect()
        })
        .collect();
    let place_in_all = learned.images().iter().map(|image| ids[&image.id]).collect();
    let crop = Crop::Part { min_area: choice.min_area };
    let augmentation = choice.augment.then_some(Augmentation { crop, flip: true, seed });
    let concepts = Concepts::Birds(Box::new(Birds { all, place_in_all, whole, choice }));
    Ok(Loaded { images, concepts, boxes: Some(boxes), parts: Some(parts), augmentation })
}

impl Birds {
    /// For each species learned, sets of its own concepts and of its control: drawn from the
    /// official test part (or training part) of all species of the folder, without photographs of
    /// the species itself unless the plan says so, and never an image explained.
    ///
    /// # Errors
    /// Names a concept of the plan that does not exist or that too few photographs show; one of the
    /// built-in choice is left out and noted.
    pub(super) fn concepts(
        self,
        learned: &Dataset,
        plan: &ConceptPlan,
        explained: &[Vec<usize>],
        seed: u64,
    ) -> Result<DrawnConcepts> {
        let level = match self.choice.labels {
            LabelChoice::Auto if self.whole.has_image_attributes() => ConceptLevel::Image,
            LabelChoice::Auto | LabelChoice::Class => ConceptLevel::Class,
            LabelChoice::Image => ConceptLevel::Image,
        };
        let table = self.whole.concepts(level)?;
        let of = |origin| (0..self.all.len()).filter(|&i| self.all.origins()[i] == origin).collect::<Vec<_>>();
        let splits = Splits { train: of(Origin::Train), validation: Vec::new(), test: of(Origin::Test), duplicates: 0 };
        let mut note = ConceptNote {
            labels: if level == ConceptLevel::Image { "image".into() } else { "class".into() },
            pool: if plan.pool == Pool::Train { "train".into() } else { "test".into() },
            species: self.whole.class_names().len(),
            own_class: self.choice.own_class,
            controls: BTreeMap::new(),
            left_out: Vec::new(),
        };
        let mut tested = Vec::new();
        for (class, species) in learned.labels().names().iter().enumerate() {
            let explained: Vec<usize> = explained[class].iter().map(|&image| self.place_in_all[image]).collect();
            let index = self.whole.class_names().iter().position(|name| name == species);
            let species_index = index.ok_or_else(|| Error::config("data.cub.classes", format!("no `{species}`")))?;
            let without = (!self.choice.own_class).then_some(species_index as u32);
            let enough = |concept: usize| {
                let shown = table.members(concept).iter().filter(|&&image| {
                    splits.pool(plan.pool).binary_search(&image).is_ok()
                        && explained.iter().all(|&other| other != image)
                        && without != Some(self.all.labels().values()[image])
                });
                let (size, shown) = (plan.images_per_set, shown.count());
                if shown >= size { Ok(()) } else { Err(format!("{shown} photographs of {size} needed")) }
            };
            let (asked, by_plan) = self.choice.concepts_of(&self.whole, species)?;
            let mut names = Vec::new();
            for name in asked {
                // An unknown name is told with the names that exist.
                table.select(std::slice::from_ref(&name))?;
                let place = table.names().iter().position(|known| *known == name).unwrap_or_default();
                match enough(place) {
                    Ok(()) => names.push(name),
                    Err(what) if by_plan => {
                        return Err(Error::config("data.cub.concepts", format!("{species}, `{name}`: {what}")));
                    }
                    Err(what) => note.left_out.push(format!("{species}/{name}: {what}")),
                }
            }
            if names.is_empty() {
                continue;
            }
            if self.choice.control {
                let lacking: Vec<&String> = (self.whole.denoised().into_iter().enumerate())
                    .filter(|&(_, attribute)| self.whole.class_attribute(species_index, attribute) <= CONTROL_PERCENT)
                    .filter(|&(concept, _)| enough(concept).is_ok())
                    .map(|(concept, _)| &table.names()[concept])
                    .filter(|name| !names.contains(name))
                    .collect();
                if !lacking.is_empty() {
                    let drawn = stream(seed, "concepts/control", class as u64).random_range(0..lacking.len());
                    note.controls.insert(species.clone(), lacking[drawn].clone());
                    names.push(lacking[drawn].clone());
                }
            }
            let chosen: ConceptTable = table.select(&names)?;
            let sets = concept_sets(&self.all, &chosen, &splits, plan, &explained, without, seed)?;
            tested.push(TestedConcepts { classes: vec![class], sets });
        }
        if tested.is_empty() {
            let what = "none of the species learned has a concept: the paper's lists name eleven species";
            return Err(Error::config("data.cub.concepts", what));
        }
        Ok(DrawnConcepts { images: self.all, tested, note: Some(note) })
    }
}
