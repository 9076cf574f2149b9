//! Any IDX files named as MNIST's are ([`crate::data::idx::read_any`]); their classes are their concepts.

use serde::{Deserialize, Serialize};

use crate::data::idx;
use crate::error::{Error, Result};

use super::{DataPlan, Loaded, Source};

/// A folder of grey images in IDX files.
pub const IDX: Source = Source { name: "idx", path: Some("the folder with the IDX files"), check, load };

/// The plan's table `data.idx`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IdxData {
    /// Names of the classes, from label 0 on; the numbers of those that occur where empty.
    pub classes: Vec<String>,
}

fn check(plan: &DataPlan, _: crate::data::Pool) -> Result<()> {
    match plan.idx.as_ref().map(|idx| idx.classes.len()) {
        Some(1) => Err(Error::config("data.idx.classes", "1 class: at least 2 are needed")),
        Some(many) if many > 256 => Err(Error::config("data.idx.classes", "a label is a byte: at most 256 classes")),
        _ => Ok(()),
    }
}

fn load(plan: &DataPlan, _: u64) -> Result<Loaded> {
    let classes = plan.idx.clone().unwrap_or_default().classes;
    Loaded::of_classes(idx::read_any(plan.path()?, &classes)?, &plan.task)
}
