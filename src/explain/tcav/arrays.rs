//! The pipeline on activations and gradients that another program wrote.

use std::ops::Range;

use crate::data::ActivationSource;
use crate::error::{Error, Result};
use crate::nn::Compute;

use super::copies::Copies;
use super::pooled::{ConceptTests, Listed, Settings, by_name};

/// What is tested. All arrays are of one network at one place, so one activation has one shape.
pub struct ArrayQuestion<'a> {
    /// Gradients of one class's logit at the images asked about, `(N, …)`.
    pub gradients: &'a ActivationSource,
    /// Activations of the images of each concept, by name.
    pub concepts: &'a [(String, ActivationSource)],
    /// Activations of random counterparts, shared by all concepts.
    pub random: &'a [ActivationSource],
}

/// As [`test_concepts`](super::checkpoint::test_concepts) of the checkpoint that gave the arrays, to the bit.
///
/// # Errors
/// The array is named: fewer than two images in a set, shapes that differ, values that are not
/// finite. Fewer than two random sets; an undefined setting.
pub fn test_arrays(question: &ArrayQuestion<'_>, settings: &Settings, read: &dyn Fn(usize)) -> Result<ConceptTests> {
    let gradients = question.gradients;
    if question.random.len() < 2 {
        let what = format!("random sets: {} given, at least 2 are needed", question.random.len());
        return Err(Error::input(what));
    }
    // As of images: nothing depends on the order in which random sets are given.
    let order = by_name(&question.random.iter().map(ActivationSource::name).collect::<Vec<_>>());
    let random = order.iter().map(|&set| &question.random[set]);
    let pool: Vec<&ActivationSource> = question.concepts.iter().map(|(_, source)| source).chain(random).collect();
    let mut copies = Copies::default();
    for source in &pool {
        if source.len() < 2 {
            return Err(Error::input(format!("{}: 1 image, at least 2 are needed in a set", source.name())));
        }
        if source.shape() != gradients.shape() {
            let what = format!(
                "{}: one activation is {:?}, one gradient of {} {:?}: they are not of one place of one network",
                source.name(),
                source.shape(),
                gradients.name(),
                gradients.shape()
            );
            return Err(Error::input(what));
        }
        copies.add(source.name(), source.shape(), source.ranges(settings.batch).map(|range| source.values(range)))?;
    }
    let of = |source: &'_ ActivationSource| source.ranges(settings.batch).collect::<Vec<_>>();
    let blocks: Vec<(&ActivationSource, Range<usize>)> =
        pool.iter().flat_map(|&source| of(source).into_iter().map(move |range| (source, range))).collect();
    let class_blocks = of(gradients);
    let listed = Listed {
        stage: "",
        concepts: question.concepts.iter().map(|(name, source)| (name.clone(), source.len())).collect(),
        random: order.iter().map(|&set| (set, question.random[set].len())).collect(),
        copies,
        features: gradients.shape().iter().product(),
        blocks: blocks.iter().map(|(_, range)| range.len()).collect(),
    };
    let load = |block: usize| {
        let (source, range) = &blocks[block];
        read(range.len());
        source.values(range.clone())
    };
    listed.with_cavs(&Compute::Cpu, settings, None, load, |fitted| {
        let sizes: Vec<usize> = class_blocks.iter().map(Range::len).collect();
        let cross = fitted.activations.cross(&sizes, |block| {
            read(sizes[block]);
            gradients.values(class_blocks[block].clone())
        })?;
        Ok(vec![fitted.test(0, (&cross).into(), None)?])
    })
}
