//! Reports: records in, text out. Nothing here touches a file, a clock or the environment, and the
//! same records give the same bytes whatever order they come in.
//!
//! [`terminal`] is what a run prints at its end, [`html`] the one self-contained page,
//! [`markdown`], [`json`] and [`csv`] the same study for other tools, [`compare`] several studies
//! side by side, [`sweep`] those of a grid, and [`drift`] the outcome of `ticketlens drift`.

pub mod barriers;
pub mod compare;
pub mod csv;
pub mod drift;
pub mod html;
pub mod json;
pub mod markdown;
pub mod svg;
pub mod sweep;
pub mod terminal;

mod answer;
mod bars;
mod calibration;
mod chart;
mod checks;
mod figures;
mod format;
mod geometry;
mod localisation;
mod maps;
mod measure;
mod methods;
mod page;
mod paper;
mod picture;
mod profile;
mod representations;
mod sections;
mod statistics;
mod table;
mod view;

use std::collections::BTreeMap;

use crate::model::Stage;
use crate::records::{Manifest, RoundId, RoundRecord, SanityRecord, StudyRecord};

/// Everything that a report is made of: what a run folder holds, read by the caller.
#[derive(Clone, Debug, PartialEq)]
pub struct Study {
    /// A name for people; the run folder's or the plan's.
    pub name: String,
    /// The plan, as `plan.toml` holds it.
    pub plan_toml: String,
    /// What the run is about.
    pub manifest: Manifest,
    /// One record for each trained network, in any order.
    pub rounds: Vec<RoundRecord>,
    /// What follows from them.
    pub study: StudyRecord,
    /// The sanity check of each replicate's dense network, in any order.
    pub sanity: Vec<SanityRecord>,
    /// The Grad-CAM maps; may be empty, then the report shows no pictures.
    pub maps: Maps,
}

/// The Grad-CAM maps of a run on its fixed test images (`manifest.cam_images`, N of them).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Maps {
    /// Pixels of the images, `(N, C, H, W)`, with `(C, H, W)` the manifest's `image_shape`.
    pub pixels: Vec<u8>,
    /// Raw maps of each network at each stage.
    pub raw: BTreeMap<(RoundId, Stage), RawMaps>,
}

/// Raw Grad-CAM maps of one network at one stage.
#[derive(Clone, Debug, PartialEq)]
pub struct RawMaps {
    /// Height and width h, w of a map.
    pub size: [usize; 2],
    /// The maps, `(N, h, w)`.
    pub values: Vec<f32>,
}
