//! The class of each image, and the official part that it belongs to.

use crate::error::{Error, Result};

/// One label for each image, as an index into `names`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    pub(super) values: Vec<u32>,
    pub(super) names: Vec<String>,
}

impl Labels {
    /// Labels of all images and the names of all classes.
    ///
    /// # Errors
    /// If a label has no name.
    pub fn new(values: Vec<u32>, names: Vec<String>) -> Result<Self> {
        match values.iter().position(|&v| v as usize >= names.len()) {
            Some(i) => Err(Error::input(format!(
                "label {} of image {i} is out of range: there are {} classes",
                values[i],
                names.len()
            ))),
            None => Ok(Self { values, names }),
        }
    }

    /// The label of each image.
    pub fn values(&self) -> &[u32] {
        &self.values
    }

    /// The name of each class.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// How many classes there are (with images or without).
    pub fn classes(&self) -> usize {
        self.names.len()
    }
}

/// Which official part of the data set an image belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The official training set.
    Train,
    /// The official test set: never trained on.
    Test,
    /// The official validation set, where there is one.
    Validation,
}

/// `classes are 0 to 9`.
pub(super) fn classes_are(classes: usize) -> String {
    match classes {
        1 => "the network has one logit, so the only class is 0".into(),
        _ => format!("classes are 0 to {}", classes.saturating_sub(1)),
    }
}
