//! CUB-200-2011 in a plan: its table of the plan, and what a [`Setup`](super::Setup) takes from the folder.

use std::collections::BTreeMap;

use rand::Rng;

use crate::data::cub::{ConceptLevel, Cub, paper_concepts, read_cub};
use crate::data::{BoundingBox, ConceptPlan, ConceptTable, Dataset, Origin, Pool, Splits, concept_sets};
use crate::error::{Error, Result};
use crate::seed::stream;

use super::setup::TestedConcepts;
use crate::plan::{ConceptChoice, CubData, LabelChoice, NamedConcepts, Plan, SpeciesChoice};
use crate::records::{ConceptNote, ShownPart};

/// A species gets a control concept that no more than this share of its labels (in per cent) see.
const CONTROL_PERCENT: f32 = 10.0;

impl CubData {
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

/// A CUB folder as a plan uses it.
pub(super) struct Birds {
    /// Photographs of the species that are learned.
    pub(super) data: Dataset,
    /// The bird in each, in input pixels.
    pub(super) boxes: Vec<BoundingBox>,
    /// The parts of each that can be seen in the input, in input pixels.
    pub(super) parts: Vec<Vec<ShownPart>>,
    /// All photographs of the folder: concepts may be shown by species that are not learned.
    all: Dataset,
    /// Where each photograph of `data` stands in `all`.
    place_in_all: Vec<usize>,
    whole: Cub,
    choice: CubData,
}

/// Reads the folder of the plan.
///
/// # Errors
/// Every fault of its texts by file and line; a species or field of the plan that does not fit it.
pub(super) fn load(plan: &Plan) -> Result<Birds> {
    let path = plan.data.path.as_deref().ok_or_else(|| Error::config("data.path", "is missing"))?;
    let choice = plan.data.cub.clone().unwrap_or_default();
    let whole = read_cub(path)?;
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
    let data = learned.dataset(&preprocess, cache)?;
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
    Ok(Birds { data, boxes, parts, all, place_in_all, whole, choice })
}

/// The concepts of all species, and what the report says of them.
pub(super) struct BirdConcepts {
    /// The photographs that concept and random sets are drawn from.
    pub(super) images: Dataset,
    /// For each species that has concepts, its own sets.
    pub(super) tested: Vec<TestedConcepts>,
    pub(super) note: ConceptNote,
}

impl Birds {
    /// For each species learned, sets of its own concepts and of its control: drawn from the official test part (or training part) of
    /// all species of the folder, without photographs of the species itself unless the plan says so, and never an image explained.
    ///
    /// # Errors
    /// Names a concept of the plan that does not exist or that too few photographs show; one of the built-in choice is left out and noted.
    pub(super) fn concepts(self, plan: &Plan, explained: &[Vec<usize>]) -> Result<BirdConcepts> {
        let level = match self.choice.labels {
            LabelChoice::Auto if self.whole.has_image_attributes() => ConceptLevel::Image,
            LabelChoice::Auto | LabelChoice::Class => ConceptLevel::Class,
            LabelChoice::Image => ConceptLevel::Image,
        };
        let table = self.whole.concepts(level)?;
        let of = |origin| (0..self.all.len()).filter(|&i| self.all.origins()[i] == origin).collect::<Vec<_>>();
        let splits = Splits { train: of(Origin::Train), validation: Vec::new(), test: of(Origin::Test), duplicates: 0 };
        let sets = ConceptPlan {
            pool: plan.explain.pool,
            random: plan.explain.random,
            images_per_set: plan.explain.images_per_set,
            random_sets: plan.explain.random_sets,
        };
        let mut note = ConceptNote {
            labels: if level == ConceptLevel::Image { "image".into() } else { "class".into() },
            pool: if sets.pool == Pool::Train { "train".into() } else { "test".into() },
            species: self.whole.class_names().len(),
            own_class: self.choice.own_class,
            controls: BTreeMap::new(),
            left_out: Vec::new(),
        };
        let mut tested = Vec::new();
        for (class, species) in self.data.labels().names().iter().enumerate() {
            let explained: Vec<usize> = explained[class].iter().map(|&image| self.place_in_all[image]).collect();
            let index = self.whole.class_names().iter().position(|name| name == species);
            let species_index = index.ok_or_else(|| Error::config("data.cub.classes", format!("no `{species}`")))?;
            let without = (!self.choice.own_class).then_some(species_index as u32);
            let enough = |concept: usize| {
                let shown = table.members(concept).iter().filter(|&&image| {
                    splits.pool(sets.pool).binary_search(&image).is_ok()
                        && explained.iter().all(|&other| other != image)
                        && without != Some(self.all.labels().values()[image])
                });
                let (size, shown) = (sets.images_per_set, shown.count());
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
                    let drawn = stream(plan.seed, "concepts/control", class as u64).random_range(0..lacking.len());
                    note.controls.insert(species.clone(), lacking[drawn].clone());
                    names.push(lacking[drawn].clone());
                }
            }
            let chosen: ConceptTable = table.select(&names)?;
            let sets = concept_sets(&self.all, &chosen, &splits, &sets, &explained, without, plan.seed)?;
            tested.push(TestedConcepts { classes: vec![class], sets });
        }
        if tested.is_empty() {
            let what = "none of the species learned has a concept: the paper's lists name eleven species";
            return Err(Error::config("data.cub.concepts", what));
        }
        Ok(BirdConcepts { images: self.all, tested, note })
    }
}
