//! Generated images with known truth ([`crate::data::planted()`]): concepts are the values of all
//! factors, boxes are known.

use serde::{Deserialize, Serialize};

use crate::data::{Factor, PlantedPlan, planted};
use crate::error::{Error, Result};

use super::{Concepts, DataPlan, Loaded, Source};

/// Generated images with known truth.
pub const PLANTED: Source = Source {
    name: "planted",
    path: None,
    check: |plan, _| plan.demand_classes("`planted` images have `classes` only: `data.planted.used` says which"),
    load,
};

/// The plan's table `data.planted`; how many images follows from the splits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlantedData {
    /// Height and width, in pixels.
    pub side: usize,
    /// 3 for RGB, 1 for grey.
    pub channels: usize,
    /// The factors that make the class.
    pub used: Vec<Factor>,
    /// Standard deviation of the noise on each pixel, in byte units.
    pub noise: f32,
}

impl Default for PlantedData {
    /// 32×32 RGB, class by shape.
    fn default() -> Self {
        Self { side: 32, channels: 3, used: vec![Factor::Shape], noise: 12.0 }
    }
}

fn load(plan: &DataPlan, seed: u64) -> Result<Loaded> {
    let missing = |field| Error::config(field, "is missing: generated images need a number");
    let wanted = plan.planted.clone().unwrap_or_default();
    let train = plan.train.ok_or_else(|| missing("data.train"))?;
    let made = planted(
        &PlantedPlan {
            side: wanted.side,
            channels: wanted.channels,
            used: wanted.used,
            noise: wanted.noise,
            train: train + plan.validation.ok_or_else(|| missing("data.validation"))?,
            test: plan.test.ok_or_else(|| missing("data.test"))?,
        },
        seed,
    )?;
    let concepts = Concepts::Table(made.concepts);
    Ok(Loaded { images: made.data, concepts, boxes: Some(made.boxes), parts: None, augmentation: None })
}
