//! The pipeline on a checkpoint and sources of images, read in batches.

use std::ops::Range;

use crate::data::ImageSource;
use crate::error::{Error, Result};
use crate::explain::cut::{Cut, Targets};
use crate::explain::stream::{activation_batch, activation_shape, explain_batch};
use crate::model::{Checkpoint, Stage};

use super::copies::Copies;
use super::pooled::{Fitted, Listed, by_name};
use super::products::ClassRows;
use super::region::ClassActivations;
use super::test::ClassTests;

pub use super::pooled::{ALL_PAIRS, ConceptTests, PARTNERS, Settings};

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

/// Fits, scores and tests all concepts for all classes. `read` is told after each batch how many images it held.
///
/// # Errors
/// The source is named: fewer than two images in a set, images that do not fit the network or each
/// other, values that are not finite. Fewer than two random sets; a class that does not exist; an
/// undefined setting.
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
    with_cavs(question, settings, (regions, Draws::ByConcept), read, |prepared| {
        let of_class = regions.map(|_| prepared.class_activations(question, settings, read)).transpose()?;
        let test = |&class: &usize| prepared.test_on_all(question, settings, class, of_class.as_ref(), read);
        question.classes.iter().map(test).collect()
    })
}

/// What does not depend on a class: the cut network, the pool and its CAVs.
pub(super) struct Prepared<'x, 'a> {
    pub(super) cut: &'x Cut,
    pub(super) fitted: &'x mut Fitted<'a>,
    draws: Draws,
}

/// What names the draws of a test.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Draws {
    /// Stage, class and concept.
    ByClass,
    /// The concept alone: activations from outside do not tell of which stage and class they are,
    /// and give the same bits.
    ByConcept,
}

impl Prepared<'_, '_> {
    /// Tests every concept for `class`, whose gradients enter by `cross`, `(class images, images)`,
    /// and whose activations, for regions, by `of_class`.
    pub(super) fn test(
        &self,
        class: usize,
        cross: ClassRows<'_>,
        of_class: Option<&ClassActivations>,
    ) -> Result<ClassTests> {
        self.fitted.test(if self.draws == Draws::ByClass { class } else { 0 }, cross, of_class)
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
        let products = self.fitted.activations.cross(&sizes, |block| {
            let activation = activation_batch(cut, question.images, blocks[block].clone())?;
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
        let cross = self.fitted.activations.cross(&sizes, |block| {
            let explained = explain_batch(cut, question.images, blocks[block].clone(), Targets::Class(class))?;
            read(sizes[block]);
            Ok(explained.gradient.flatten_all()?.to_vec1::<f32>()?)
        })?;
        self.test(class, (&cross).into(), of_class)
    }
}

/// Reads the concept and random images, fits their CAVs, and lets `ask` test classes with them.
///
/// # Errors
/// As [`test_concepts`], and those of `ask`.
pub(super) fn with_cavs(
    question: &Question<'_>,
    settings: &Settings,
    (regions, draws): (Option<usize>, Draws),
    read: &dyn Fn(usize),
    ask: impl FnOnce(&mut Prepared<'_, '_>) -> Result<Vec<ClassTests>>,
) -> Result<ConceptTests> {
    check(question)?;
    // Random sets are taken by name, so that nothing depends on the order in which they are given.
    let order = by_name(&question.random.iter().map(ImageSource::name).collect::<Vec<_>>());
    let random = order.iter().map(|&set| &question.random[set]);
    let pool: Vec<&ImageSource> = question.concepts.iter().map(|(_, source)| source).chain(random).collect();
    let mut copies = Copies::default();
    for source in &pool {
        let (channels, height, width) = source.shape();
        let batches = source.ranges(settings.batch).map(|range| source.values(range));
        copies.add(source.name(), &[channels, height, width], batches)?;
    }
    let weights = question.checkpoint.weights.clone();
    let cut = Cut::new(&question.checkpoint.model, weights, question.stage)?;
    // No batch holds images of two sets: the order of maps, and with it the last bit, follows from a batch's size.
    let blocks: Vec<(&ImageSource, Range<usize>)> =
        pool.iter().flat_map(|source| source.ranges(settings.batch).map(move |images| (*source, images))).collect();
    let listed = Listed {
        stage: if draws == Draws::ByClass { question.stage.name() } else { "" },
        concepts: question.concepts.iter().map(|(name, source)| (name.clone(), source.len())).collect(),
        random: order.iter().map(|&set| (set, question.random[set].len())).collect(),
        copies,
        features: activation_shape(question.checkpoint, question.images, question.stage)?.len(),
        blocks: blocks.iter().map(|(_, images)| images.len()).collect(),
    };
    let load = |block: usize| {
        let (source, images) = &blocks[block];
        let activation = activation_batch(&cut, source, images.clone())?;
        read(listed.blocks[block]);
        Ok(activation.flatten_all()?.to_vec1::<f32>()?)
    };
    let compute = &question.checkpoint.model.compute;
    listed.with_cavs(compute, settings, regions, load, |fitted| ask(&mut Prepared { cut: &cut, fitted, draws }))
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
