//! Maps and concept tests of one checkpoint from one pass of gradients: image n asks for the logit
//! of its own target class, and a class is tested on the images whose target it is.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::explain::checkpoint_drift::CheckpointMaps;
use crate::explain::cut::Targets;
use crate::explain::stream::{check_labels, explain_batch};

use super::checkpoint::{ConceptTests, Draws, Question, Settings, with_cavs};
use super::products::ClassRows;
use super::test::ClassTests;

/// Which classes concepts are tested for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Classes {
    /// Those that are the target of an image.
    #[default]
    Present,
    /// All that the network has. Those of which there is no image are asked of every image.
    All,
    /// These; where there is no image, of every image.
    Listed(Vec<usize>),
}

impl fmt::Display for Classes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Classes::Present => f.write_str("present"),
            Classes::All => f.write_str("all"),
            Classes::Listed(listed) => {
                let listed: Vec<String> = listed.iter().map(ToString::to_string).collect();
                f.write_str(&listed.join(","))
            }
        }
    }
}

impl FromStr for Classes {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "present" => Ok(Classes::Present),
            "all" => Ok(Classes::All),
            list => {
                let listed: std::result::Result<Vec<usize>, _> =
                    list.split(',').map(|class| class.trim().parse()).collect();
                let mut listed =
                    listed.map_err(|_| Error::input("neither `present`, `all` nor classes such as 0,3,7"))?;
                listed.sort_unstable();
                listed.dedup();
                Ok(Classes::Listed(listed))
            }
        }
    }
}

/// Explains the targets of the question's images and tests all concepts for `classes`;
/// [`Question::classes`] is not read. Each class's tests stand in the order of the numbers that are
/// returned with them. `read` is told after each batch how many images it held.
///
/// Activations of concept and random images are computed once, and gradients of the targets once.
///
/// # Errors
/// As [`super::checkpoint::test_concepts`] and [`CheckpointMaps::new`]; a listed class that does not exist.
pub fn explain_and_test(
    question: &Question<'_>,
    targets: Targets<'_>,
    classes: &Classes,
    settings: &Settings,
    read: &dyn Fn(usize),
) -> Result<(CheckpointMaps, Vec<usize>, ConceptTests)> {
    let known = question.checkpoint.model.classes;
    if let Classes::Listed(listed) = classes
        && let Some(class) = listed.iter().find(|class| **class >= known)
    {
        return Err(Error::input(format!("class {class} does not exist: the network has {known} classes")));
    }
    check_labels(question.images, targets)?;
    let blocks: Vec<Range<usize>> = question.images.ranges(settings.batch).collect();
    let sizes: Vec<usize> = blocks.iter().map(Range::len).collect();
    let (mut maps, mut asked) = (CheckpointMaps::none(), Vec::new());
    let tests = with_cavs(question, settings, (None, Draws::ByClass), read, |prepared| {
        let cut = prepared.cut;
        let cross = prepared.fitted.activations.cross(&sizes, |block| {
            let images = blocks[block].clone();
            let explained = explain_batch(cut, question.images, images.clone(), targets.of(&images))?;
            maps.add(&explained)?;
            read(sizes[block]);
            Ok(explained.gradient.flatten_all()?.to_vec1::<f32>()?)
        })?;
        let mut images_of: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for image in 0..question.images.len() {
            let class = match targets {
                Targets::Class(class) => class,
                Targets::PerImage(labels) => labels[image],
                Targets::Predicted => maps.predicted[image],
            };
            images_of.entry(class).or_default().push(image);
        }
        asked = match classes {
            Classes::Present => images_of.keys().copied().collect(),
            Classes::All => (0..known).collect(),
            Classes::Listed(listed) => listed.clone(),
        };
        let test = |&class: &usize| match images_of.get(&class) {
            Some(images) => prepared.test(class, ClassRows::some(&cross, images), None),
            None => prepared.test_on_all(question, settings, class, None, read),
        };
        let without_images = |mut tests: ClassTests| {
            // Nobody asks for each image's sensitivity here, and of many classes they take much memory.
            tests.concepts.iter_mut().flat_map(|test| &mut test.runs).for_each(|run| run.sensitivity = Vec::new());
            tests
        };
        asked.iter().map(test).map(|tests| tests.map(without_images)).collect()
    })?;
    Ok((maps, asked, tests))
}
