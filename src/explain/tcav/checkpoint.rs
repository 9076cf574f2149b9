//! The pipeline on a checkpoint and sources of images. Images are read in batches, and memory does not grow with the class's images
//! but for their products with the pool.

use std::ops::Range;
use std::sync::Arc;

use nalgebra::DMatrix;

use crate::data::ImageSource;
use crate::error::{Error, Result, undefined};
use crate::explain::cut::{Cut, Targets};
use crate::explain::stream::{activation_batch, activation_shape, explain_batch};
use crate::model::{Checkpoint, Stage};
use crate::stats::multiplicity::{Adjustment, adjust};

use super::cav::CavKind;
use super::copies::Copies;
use super::gram::{GramError, Pool};
use super::region::ClassActivations;
use super::statistics::STATISTICS;
use super::test::{ClassTests, ConceptCavs, ConceptImages, ConceptTest, Samples, Tests, design};

/// Random sets up to which every pair of sets is fitted; beyond it each set meets [`PARTNERS`] others.
pub const ALL_PAIRS: usize = 64;
/// Partners of each set in the regular design of many random sets; even, so that it exists for any number of sets.
pub const PARTNERS: usize = 32;

/// What is tested.
pub struct Question<'a> {
    /// The network.
    pub checkpoint: &'a Checkpoint,
    /// Where it is cut.
    pub stage: Stage,
    /// Images whose logits are asked for.
    pub images: &'a ImageSource,
    /// The classes whose logits are asked for.
    pub classes: &'a [usize],
    /// Concepts by name.
    pub concepts: &'a [(String, ImageSource)],
    /// Random counterparts, shared by all concepts.
    pub random: &'a [ImageSource],
}

/// How it is tested.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How a CAV is found.
    pub cav: CavKind,
    /// Label permutations of the effect's test.
    pub permutations: usize,
    /// Bootstrap resamples of the intervals; 0 for none.
    pub resamples: usize,
    /// How the p-values of the concepts of a class are adjusted, each statistic's apart.
    pub adjustment: Adjustment,
    /// Level of decodability, and one minus the confidence of the intervals.
    pub alpha: f64,
    /// Seed of folds, permutations and bootstrap.
    pub seed: u64,
    /// Images in memory at a time.
    pub batch: usize,
    /// Bytes of activations that are kept; what does not fit is computed again.
    pub resident_bytes: usize,
}

impl Default for Settings {
    /// As `ticketlens tcav` without flags.
    fn default() -> Self {
        Self {
            cav: CavKind::Logistic { c: 1.0 },
            permutations: 9_999,
            resamples: 999,
            adjustment: Adjustment::BenjaminiHochberg,
            alpha: 0.05,
            seed: 0,
            batch: 32,
            resident_bytes: 1 << 30,
        }
    }
}

/// What is known of all concepts.
#[derive(Clone, Debug)]
pub struct ConceptTests {
    /// In the order of [`Question::classes`].
    pub classes: Vec<ClassTests>,
    /// CAVs fitted at full size (those of the held-out folds come on top).
    pub cavs: usize,
    /// Smallest p-value that the exchangeability test can give with this many random sets.
    pub smallest_p: f64,
    /// A line for each set that holds copies of an image, and each two sets that share images.
    pub copies: Vec<String>,
}

/// Fits, scores and tests all concepts for all classes. `read` is told after each batch how many images it held.
///
/// # Errors
/// The source is named: fewer than two images in a set, images that do not fit the network or each other, values that are not
/// finite. Fewer than two random sets; a class that does not exist; an undefined setting.
pub fn test_concepts(question: &Question<'_>, settings: &Settings, read: &dyn Fn(usize)) -> Result<ConceptTests> {
    test_concepts_and_regions(question, settings, None, read)
}

/// [`test_concepts`], and where `regions` says by how many label permutations, the region of each concept too.
///
/// # Errors
/// As there.
pub fn test_concepts_and_regions(
    question: &Question<'_>,
    settings: &Settings,
    regions: Option<usize>,
    read: &dyn Fn(usize),
) -> Result<ConceptTests> {
    with_cavs(question, settings, regions, read, |prepared| {
        let of_class = regions.map(|_| prepared.class_activations(question, settings, read)).transpose()?;
        let test = |&class: &usize| prepared.test_on_all(question, settings, class, of_class.as_ref(), read);
        question.classes.iter().map(test).collect()
    })
}

/// The activations of all concept and random images, by block.
type Activations<'a> = Pool<Box<dyn FnMut(usize) -> Result<Vec<f32>> + 'a>>;

/// What does not depend on a class: the cut network, the pool and its CAVs.
pub(super) struct Prepared<'a, 'b> {
    pub(super) cut: &'b Cut,
    pub(super) activations: Activations<'b>,
    cavs: ConceptCavs<'a>,
    /// Random sets as they are numbered here, by their number among those that were given.
    order: &'b [usize],
}

impl Prepared<'_, '_> {
    /// Tests every concept for `class`, whose gradients enter by `cross`, `(class images, images)`, and whose activations, for
    /// regions, by `of_class`.
    pub(super) fn test(
        &self,
        class: usize,
        cross: &DMatrix<f64>,
        of_class: Option<&ClassActivations>,
    ) -> Result<ClassTests> {
        let mut tests = self.cavs.test_with_regions(class, cross, of_class)?;
        for test in &mut tests.concepts {
            // As numbered by whoever asked.
            test.runs.iter_mut().for_each(|run| run.random = self.order[run.random]);
            test.runs.sort_by_key(|run| run.random);
        }
        Ok(tests)
    }

    /// The activations of the question's images, as regions need them.
    fn class_activations(
        &mut self,
        question: &Question<'_>,
        settings: &Settings,
        read: &dyn Fn(usize),
    ) -> Result<ClassActivations> {
        let blocks: Vec<Range<usize>> = question.images.ranges(settings.batch).collect();
        let sizes: Vec<usize> = blocks.iter().map(Range::len).collect();
        let mut squares = vec![Vec::new(); blocks.len()];
        let cut = self.cut;
        let products = self.activations.cross(&sizes, |block| {
            let activation = activation_batch(cut, &[(question.images, blocks[block].clone())])?;
            read(sizes[block]);
            let rows = activation.flatten_from(1)?.to_vec2::<f32>()?;
            let square = |row: &Vec<f32>| row.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>();
            squares[block] = rows.iter().map(square).collect();
            Ok(rows.concat())
        })?;
        Ok(ClassActivations { products, squares: squares.concat() })
    }

    /// Tests every concept for `class` on all images of the question.
    pub(super) fn test_on_all(
        &mut self,
        question: &Question<'_>,
        settings: &Settings,
        class: usize,
        of_class: Option<&ClassActivations>,
        read: &dyn Fn(usize),
    ) -> Result<ClassTests> {
        let blocks: Vec<Range<usize>> = question.images.ranges(settings.batch).collect();
        let sizes: Vec<usize> = blocks.iter().map(Range::len).collect();
        let cut = self.cut;
        let cross = self.activations.cross(&sizes, |block| {
            let explained = explain_batch(cut, question.images, blocks[block].clone(), Targets::Class(class))?;
            read(sizes[block]);
            Ok(explained.gradient.flatten_all()?.to_vec1::<f32>()?)
        })?;
        self.test(class, &cross, of_class)
    }
}

/// Reads the concept and random images, fits their CAVs, and lets `ask` test classes with them.
///
/// # Errors
/// As [`test_concepts`], and those of `ask`.
pub(super) fn with_cavs(
    question: &Question<'_>,
    settings: &Settings,
    regions: Option<usize>,
    read: &dyn Fn(usize),
    ask: impl FnOnce(&mut Prepared<'_, '_>) -> Result<Vec<ClassTests>>,
) -> Result<ConceptTests> {
    check(question)?;
    // Random sets are taken by name, so that nothing depends on the order in which they are given.
    let mut order: Vec<usize> = (0..question.random.len()).collect();
    order.sort_by(|&a, &b| question.random[a].name().cmp(question.random[b].name()));
    let random = order.iter().map(|&set| &question.random[set]);
    let pool: Vec<&ImageSource> = question.concepts.iter().map(|(_, source)| source).chain(random).collect();
    let copies = Copies::find(&pool, settings.batch)?;
    let features = activation_shape(question.checkpoint, question.images, question.stage)?.len();
    let weights = Arc::new(question.checkpoint.weights.clone());
    let cut = Cut::new(&question.checkpoint.model, weights, question.stage)?;
    let blocks = batches(&pool, settings.batch);
    let sizes: Vec<usize> =
        blocks.iter().map(|parts| parts.iter().map(|(_, images)| images.len()).sum::<usize>()).collect();
    let compute = &question.checkpoint.model.network.compute;
    let load = |block: usize| {
        let activation = activation_batch(&cut, &blocks[block])?;
        read(sizes[block]);
        Ok::<_, Error>(activation.flatten_all()?.to_vec1::<f32>()?)
    };
    let activations: Activations<'_> =
        Pool::new(compute, &sizes, features, settings.resident_bytes, Box::new(load) as Box<_>)?;

    let mut rows = pool.iter().scan(0, |next, source| {
        *next += source.len();
        Some((*next - source.len()..*next).collect::<Vec<usize>>())
    });
    let sets = question.random.len();
    let concepts: Vec<ConceptImages> = question
        .concepts
        .iter()
        .zip(&mut rows)
        .map(|((name, _), images)| ConceptImages { name: name.clone(), images, random: 0..sets, shows: Vec::new() })
        .collect();
    let random: Vec<Vec<usize>> = rows.collect();
    let partners = (sets > ALL_PAIRS).then_some(PARTNERS);
    let design = design(sets, partners, settings.seed);
    let tests = Tests {
        cav: settings.cav,
        design: design.map_err(undefined("TCAV"))?,
        permutations: settings.permutations,
        resamples: settings.resamples,
        confidence: 1.0 - settings.alpha,
        interval_in_logits: true,
        alpha: settings.alpha,
        seed: settings.seed,
        regions,
    };
    let samples = Samples {
        stage: question.stage.name(),
        concepts: &concepts,
        random: &random,
        originals: Some(copies.originals()),
    };
    let cavs = ConceptCavs::fit(activations.gram(), samples, &tests)?;
    let count = cavs.count();
    let mut prepared = Prepared { cut: &cut, activations, cavs, order: &order };
    Ok(ConceptTests {
        classes: ask(&mut prepared)?,
        copies: copies.warnings(question),
        cavs: count,
        smallest_p: 1.0 / tests.design.members() as f64,
    })
}

impl ClassTests {
    /// The p-values of the statistic `key`, adjusted over the concepts.
    ///
    /// # Errors
    /// When a concept has no such statistic, or there is no concept.
    pub fn adjusted(&self, key: &str, adjustment: Adjustment) -> Result<Vec<f64>> {
        let all = self.adjusted_where_known(key, adjustment)?.into_iter().collect::<Option<Vec<f64>>>();
        all.filter(|all| !all.is_empty()).ok_or_else(|| Error::statistics(key, "a concept has no such statistic"))
    }

    /// The same over the concepts that have it; `None` for those that do not.
    ///
    /// # Errors
    /// When there is no such statistic.
    pub fn adjusted_where_known(&self, key: &str, adjustment: Adjustment) -> Result<Vec<Option<f64>>> {
        if STATISTICS.iter().all(|statistic| statistic.key != key) {
            return Err(Error::statistics(key, "no such statistic"));
        }
        let p_value = |test: &ConceptTest| test.statistics.get(key).map(|finding| finding.p_value);
        let known: Vec<f64> = self.concepts.iter().filter_map(p_value).collect();
        if known.is_empty() {
            return Ok(vec![None; self.concepts.len()]);
        }
        let mut adjusted = adjust(&known, adjustment).map_err(undefined("TCAV"))?.into_iter();
        Ok(self.concepts.iter().map(|test| p_value(test).and_then(|_| adjusted.next())).collect())
    }
}

fn check(question: &Question<'_>) -> Result<()> {
    let classes = question.checkpoint.model.classes;
    if let Some(class) = question.classes.iter().find(|class| **class >= classes) {
        let what = format!("class {class} does not exist: the network has {classes} classes");
        return Err(Error::input(what));
    }
    if question.random.len() < 2 {
        let what = format!("random sets: {} given, at least 2 are needed", question.random.len());
        return Err(Error::input(what));
    }
    let shape = activation_shape(question.checkpoint, question.images, question.stage)?;
    for source in question.concepts.iter().map(|(_, source)| source).chain(question.random) {
        if source.len() < 2 {
            return Err(Error::input(format!("{}: 1 image, at least 2 are needed in a set", source.name())));
        }
        let other = activation_shape(question.checkpoint, source, question.stage)?;
        if other != shape {
            let what = format!(
                "{}: images of {:?} give another activation than those of {:?} in {}",
                source.name(),
                source.shape(),
                question.images.shape(),
                question.images.name()
            );
            return Err(Error::input(what));
        }
    }
    Ok(())
}

/// Some images of one source.
type Part<'a> = (&'a ImageSource, Range<usize>);

/// The images of all sources in order, in batches of `size`; small sets of one image size share a batch.
fn batches<'a>(sources: &[&'a ImageSource], size: usize) -> Vec<Vec<Part<'a>>> {
    let mut batches: Vec<Vec<Part<'a>>> = Vec::new();
    let (mut room, mut shape) = (0, None);
    for source in sources {
        // Images of another size can give the same activation, but fill no batch together.
        if shape.replace(source.shape()) != Some(source.shape()) {
            room = 0;
        }
        let mut start = 0;
        while start < source.len() {
            if room == 0 {
                batches.push(Vec::new());
                room = size;
            }
            let end = source.len().min(start + room);
            batches.last_mut().expect("one was pushed when there was no room").push((source, start..end));
            room -= end - start;
            start = end;
        }
    }
    batches
}

impl From<GramError> for Error {
    fn from(error: GramError) -> Self {
        Error::statistics("activations", error.to_string())
    }
}
