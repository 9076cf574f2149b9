//! Concept images and their random counterparts, drawn from images that the network was not trained on.
//!
//! The default null is "membership in the concept does not matter": random images come from the
//! same pool as the concept's. Images under explanation are disjoint from all of them.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{Device, Tensor};
use rand::seq::SliceRandom;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use crate::data::{Dataset, Splits};
use crate::error::{Error, Result, near_miss};
use crate::seed::stream;

/// Which images show which concept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConceptTable {
    names: Vec<String>,
    /// For each concept, the data set's images that show it, ascending.
    members: Vec<Vec<usize>>,
    /// For each concept, the images known not to show it, ascending.
    others: Vec<Vec<usize>>,
}

impl ConceptTable {
    /// Concepts with the images that show each, and those that are known not to. Images in neither
    /// list are doubtful, and used for neither.
    ///
    /// # Errors
    /// If the three lists differ in length, a name is given twice, or an image both shows and does not show a concept.
    pub fn new(names: Vec<String>, members: Vec<Vec<usize>>, others: Vec<Vec<usize>>) -> Result<Self> {
        if names.len() != members.len() || names.len() != others.len() {
            return Err(Error::input(format!(
                "concepts: {} names for {} and {} lists of images",
                names.len(),
                members.len(),
                others.len()
            )));
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = names.iter().find(|name| !seen.insert(name.as_str())) {
            return Err(Error::input(format!("concept `{twice}` is given twice")));
        }
        let sorted = |lists: Vec<Vec<usize>>| -> Vec<Vec<usize>> {
            lists.into_iter().map(|list| list.into_iter().collect::<BTreeSet<_>>().into_iter().collect()).collect()
        };
        let (members, others) = (sorted(members), sorted(others));
        for (name, (yes, no)) in names.iter().zip(members.iter().zip(&others)) {
            if let Some(both) = yes.iter().find(|i| no.binary_search(i).is_ok()) {
                return Err(Error::input(format!("concept `{name}`: image {both} both shows it and does not")));
            }
        }
        Ok(Self { names, members, others })
    }

    /// The classes as given (digits, species) as concepts: an image shows its own class and no other.
    pub fn from_classes(data: &Dataset) -> Self {
        let classes = 0..data.fine().classes() as u32;
        let having = |class: u32, wanted: bool| {
            let labels = data.fine().values().iter().enumerate();
            labels.filter(|&(_, &label)| (label == class) == wanted).map(|(i, _)| i).collect()
        };
        Self {
            names: data.fine().names().to_vec(),
            members: classes.clone().map(|class| having(class, true)).collect(),
            others: classes.map(|class| having(class, false)).collect(),
        }
    }

    /// The concepts' names.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The images that show concept number `concept`, ascending.
    pub fn members(&self, concept: usize) -> &[usize] {
        &self.members[concept]
    }

    /// The images known not to show concept number `concept`, ascending.
    pub fn others(&self, concept: usize) -> &[usize] {
        &self.others[concept]
    }

    /// Whether `image` shows each concept; `None` where that is doubtful.
    fn shown_by(&self, image: usize) -> Vec<Option<bool>> {
        let holds = |list: &Vec<usize>| list.binary_search(&image).is_ok();
        let pairs = self.members.iter().zip(&self.others);
        pairs
            .map(|(members, others)| match (holds(members), holds(others)) {
                (true, _) => Some(true),
                (false, true) => Some(false),
                (false, false) => None,
            })
            .collect()
    }

    /// The table of some concepts only, in the order asked for.
    ///
    /// # Errors
    /// Names the concept that does not exist.
    pub fn select(&self, names: &[String]) -> Result<Self> {
        let position = |name: &String| {
            let found = self.names.iter().position(|n| n == name);
            found.ok_or_else(|| {
                let near = near_miss(name, self.names.iter().map(String::as_str));
                Error::config("concepts", format!("no concept `{name}`; there are {}{near}", self.names.join(", ")))
            })
        };
        let chosen = names.iter().map(position).collect::<Result<Vec<_>>>()?;
        let pick = |lists: &[Vec<usize>]| chosen.iter().map(|&i| lists[i].clone()).collect();
        Self::new(names.to_vec(), pick(&self.members), pick(&self.others))
    }
}

/// The split that images are drawn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pool {
    /// Trained on: only where nothing else has enough images.
    Train,
    /// Held out from training.
    Validation,
    /// Held out from every choice.
    Test,
}

impl Splits {
    /// The images of a pool.
    pub fn pool(&self, pool: Pool) -> &[usize] {
        match pool {
            Pool::Train => &self.train,
            Pool::Validation => &self.validation,
            Pool::Test => &self.test,
        }
    }
}

/// What a concept is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RandomKind {
    /// Any images of the concept's own pool: "membership in the concept does not matter". All
    /// concepts share the random sets.
    SamePool,
    /// Images of the pool that do not show the concept; each concept has sets of its own.
    OtherClasses,
    /// Independent standard normal values in normalised units; all concepts share the random sets.
    Noise,
}

/// How many concept and random images to draw, and from where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConceptPlan {
    /// Where concept and random images come from.
    pub pool: Pool,
    /// What concepts are compared with.
    pub random: RandomKind,
    /// Images in each concept set and in each random set.
    pub images_per_set: usize,
    /// How many random sets, N.
    pub random_sets: usize,
}

/// One random set: images of the data set, or noise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum RandomSet {
    /// Indices into the data set.
    Images(Vec<usize>),
    /// `count` noise images, a function of `(seed, index)`.
    Noise {
        /// The plan's seed.
        seed: u64,
        /// The set's number.
        index: u64,
        /// How many images.
        count: usize,
    },
}

impl RandomSet {
    /// The set's normalised images `(N, C, H, W)`.
    ///
    /// # Errors
    /// As [`Dataset::batch`].
    pub fn batch(&self, data: &Dataset, device: &Device) -> Result<Tensor> {
        match self {
            RandomSet::Images(indices) => data.batch(indices, device),
            &RandomSet::Noise { seed, index, count } => {
                let (c, h, w) = data.shape();
                let mut random = stream(seed, "concepts/noise", index);
                let values: Vec<f32> = StandardNormal.sample_iter(&mut random).take(count * c * h * w).collect();
                Ok(Tensor::from_vec(values, (count, c, h, w), device)?)
            }
        }
    }

    /// How many images it holds.
    pub fn len(&self) -> usize {
        match self {
            RandomSet::Images(indices) => indices.len(),
            RandomSet::Noise { count, .. } => *count,
        }
    }

    /// Whether it holds no image.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One concept's images and the random sets it is compared with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConceptSet {
    /// The concept's name.
    pub name: String,
    /// Images that show it.
    pub images: Vec<usize>,
    /// Numbers of its sets within [`ConceptSets::random`].
    pub random: std::ops::Range<usize>,
}

/// Everything that one plan draws.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConceptSets {
    /// For each image of a concept or random set, whether it shows each of the concepts; `None` where that is doubtful.
    pub shown: BTreeMap<usize, Vec<Option<bool>>>,
    /// The concepts.
    pub concepts: Vec<ConceptSet>,
    /// The random sets, shared or by concept.
    pub random: Vec<RandomSet>,
    /// Whether no image is in two random sets of one concept. With too small a pool random sets overlap one another
    /// (never the concept's own set); the report says so.
    pub random_disjoint: bool,
}

/// Concepts, and the classes that are tested for them.
#[derive(Debug, Clone, Serialize)]
pub struct TestedConcepts {
    /// The classes.
    pub classes: Vec<usize>,
    /// Their concept and random sets.
    pub sets: ConceptSets,
}

/// Where the concept images of birds come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConceptNote {
    /// `image`: labels of single photographs, where certain; `class`: those of the species, denoised.
    pub labels: String,
    /// The official part that concept and random images are drawn from: `test` or `train`.
    pub pool: String,
    /// Species that they are drawn from.
    pub species: usize,
    /// Whether they may show the species under test.
    pub own_class: bool,
    /// For each species, the concept that it lacks and is tested for as a control.
    pub controls: BTreeMap<String, String>,
    /// Concepts of the built-in choice that too few photographs show.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

/// Images under explanation: for each class as the network learns it, a seeded draw of `count` from `pool`
/// (fewer where the pool has fewer).
///
/// # Errors
/// If a class has no image in the pool, or `count` is 0.
pub fn class_images(data: &Dataset, splits: &Splits, pool: Pool, count: usize, seed: u64) -> Result<Vec<Vec<usize>>> {
    if count == 0 {
        return Err(Error::config("explain.class_images", "must be at least 1"));
    }
    (0..data.labels().classes())
        .map(|class| {
            let members = splits.pool(pool).iter().copied().filter(|&i| data.labels().values()[i] as usize == class);
            let members = draw(members.collect(), count, seed, "concepts/class", class as u64);
            match members.is_empty() {
                true => Err(Error::config(
                    "explain.class_pool",
                    format!("no image of class `{}` in the {pool:?} split", data.labels().names()[class]),
                )),
                false => Ok(members),
            }
        })
        .collect()
}

/// Draws concept sets and random sets from the plan's pool, without the images in `explained` and,
/// if `without_class` is given, without images of that class (as the network learns it), in concept
/// and random sets alike.
///
/// # Errors
/// Names the concept that has too few images, or the random sets that cannot be filled.
pub fn concept_sets(
    data: &Dataset,
    table: &ConceptTable,
    splits: &Splits,
    plan: &ConceptPlan,
    explained: &[usize],
    without_class: Option<u32>,
    seed: u64,
) -> Result<ConceptSets> {
    let size = plan.images_per_set;
    if size < 2 {
        return Err(Error::config("explain.images_per_set", format!("{size} images in a set: at least 2 are needed")));
    }
    if plan.random_sets < 2 {
        return Err(Error::config(
            "explain.random_sets",
            format!("{} random sets: at least 2 are needed", plan.random_sets),
        ));
    }
    let explained: BTreeSet<usize> = explained.iter().copied().collect();
    let eligible = |i: &usize| !explained.contains(i) && without_class != Some(data.labels().values()[*i]);
    let pool: BTreeSet<usize> = splits.pool(plan.pool).iter().copied().filter(eligible).collect();
    let mut concepts: Vec<ConceptSet> = Vec::new();
    for (number, name) in table.names().iter().enumerate() {
        let shows = table.members(number).iter().copied();
        let candidates = shows.filter(|i| pool.contains(i));
        let images = draw(candidates.collect(), size, seed, &format!("concepts/set/{name}"), 0);
        if images.len() < size {
            return Err(Error::config(
                "explain.images_per_set",
                format!(
                    "concept `{name}` has {} images in the {:?} split, {size} are asked for",
                    images.len(),
                    plan.pool
                ),
            ));
        }
        concepts.push(ConceptSet { name: name.clone(), images, random: 0..plan.random_sets });
    }
    let mut random = Vec::new();
    let mut random_disjoint = true;
    let mut add = |candidates: Vec<usize>, name: &str| -> Result<()> {
        let (sets, disjoint) = random_sets(candidates, plan, seed, name)?;
        random.extend(sets.into_iter().map(RandomSet::Images));
        random_disjoint &= disjoint;
        Ok(())
    };
    match plan.random {
        RandomKind::SamePool => {
            let used: BTreeSet<usize> = concepts.iter().flat_map(|concept| concept.images.iter().copied()).collect();
            add(pool.difference(&used).copied().collect(), "concepts/random")?;
        }
        RandomKind::OtherClasses => {
            for (number, concept) in concepts.iter_mut().enumerate() {
                let others = table.others(number).iter().copied().filter(|i| pool.contains(i));
                add(others.collect(), &format!("concepts/random/{}", concept.name))?;
                concept.random = number * plan.random_sets..(number + 1) * plan.random_sets;
            }
        }
        RandomKind::Noise => {
            random.extend((0..plan.random_sets as u64).map(|index| RandomSet::Noise { seed, index, count: size }))
        }
    }
    let drawn = random.iter().filter_map(|set| match set {
        RandomSet::Images(images) => Some(images),
        RandomSet::Noise { .. } => None,
    });
    let drawn = concepts.iter().map(|concept| &concept.images).chain(drawn).flatten();
    let shown = drawn.map(|&image| (image, table.shown_by(image))).collect();
    Ok(ConceptSets { shown, concepts, random, random_disjoint })
}

/// `plan.random_sets` sets of images, disjoint if there are enough candidates, else each drawn
/// afresh. The second value says which.
fn random_sets(candidates: Vec<usize>, plan: &ConceptPlan, seed: u64, name: &str) -> Result<(Vec<Vec<usize>>, bool)> {
    let (size, sets) = (plan.images_per_set, plan.random_sets);
    if candidates.len() < size {
        return Err(Error::config(
            "explain.images_per_set",
            format!("{} images are left for random sets of {size} in the {:?} split", candidates.len(), plan.pool),
        ));
    }
    if candidates.len() >= sets * size {
        let all = draw(candidates, sets * size, seed, name, 0);
        return Ok((all.chunks_exact(size).map(<[usize]>::to_vec).collect(), true));
    }
    let fresh = |index| draw(candidates.clone(), size, seed, name, 1 + index);
    Ok(((0..sets as u64).map(fresh).collect(), false))
}

/// Up to `count` of the candidates, a function of the set of candidates and the stream alone.
fn draw(mut candidates: Vec<usize>, count: usize, seed: u64, name: &str, index: u64) -> Vec<usize> {
    candidates.sort_unstable();
    candidates.shuffle(&mut stream(seed, name, index));
    candidates.truncate(count);
    candidates
}

#[cfg(test)]
mod tests;
