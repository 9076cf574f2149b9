//! The pipeline on a checkpoint and sources of images, read in batches.

use std::ops::Range;
use std::sync::Arc;

use crate::data::ImageSource;
use crate::error::{Error, Result};
use crate::explain::cut::{Cut, Targets};
use crate::explain::stream::{activation_batch, activation_shape, explain_batch};
use crate::model::{Checkpoint, Stage};

use super::copies::Copies;
use super::pooled::{Pooled, by_name};

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
/// The source is named: fewer than two images in a set, images that do not fit the network or each other, values that are not
/// finite. Fewer than two random sets; a class that does not exist; an undefined setting.
pub fn test_concepts(question: &Question<'_>, settings: &Settings, read: &dyn Fn(usize)) -> Result<ConceptTests> {
    check(question)?;
    // Random sets are taken by name, so that nothing depends on the order in which they are given.
    let names: Vec<&str> = question.random.iter().map(ImageSource::name).collect();
    let order = by_name(&names);
    let random = order.iter().map(|&set| &question.random[set]);
    let pool: Vec<&ImageSource> = question.concepts.iter().map(|(_, source)| source).chain(random).collect();
    let mut copies = Copies::default();
    for source in &pool {
        let (channels, height, width) = source.shape();
        let batches = source.ranges(settings.batch).map(|range| source.values(range));
        copies.add(source.name(), &[channels, height, width], batches)?;
    }
    let weights = Arc::new(question.checkpoint.weights.clone());
    let cut = Cut::new(&question.checkpoint.model, weights, question.stage)?;
    let blocks = batches(&pool, settings.batch);
    let class_blocks: Vec<Range<usize>> = question.images.ranges(settings.batch).collect();
    let pooled = Pooled {
        concepts: question.concepts.iter().map(|(name, source)| (name.clone(), source.len())).collect(),
        random: order.iter().map(|&set| (set, question.random[set].len())).collect(),
        copies,
        features: activation_shape(question.checkpoint, question.images, question.stage)?.len(),
        blocks: blocks.iter().map(|parts| parts.iter().map(|(_, images)| images.len()).sum()).collect(),
        class_blocks: class_blocks.iter().map(Range::len).collect(),
        classes: question.classes.len(),
    };
    let activations = |block: usize| {
        let activation = activation_batch(&cut, &blocks[block])?;
        read(pooled.blocks[block]);
        Ok(activation.flatten_all()?.to_vec1::<f32>()?)
    };
    let gradients = |class: usize, block: usize| {
        let targets = Targets::Class(question.classes[class]);
        let explained = explain_batch(&cut, question.images, class_blocks[block].clone(), targets)?;
        read(pooled.class_blocks[block]);
        Ok(explained.gradient.flatten_all()?.to_vec1::<f32>()?)
    };
    pooled.test(&question.checkpoint.model.network.compute, settings, activations, gradients)
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
