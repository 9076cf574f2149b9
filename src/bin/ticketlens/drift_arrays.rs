//! `ticketlens drift` of maps in place of checkpoints: networks of any framework.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Args;
use ticketlens::data::{argument_path, read_label_argument, read_maps};
use ticketlens::output::Inputs;
use ticketlens::study::gate::{Dense, Explained};

use crate::record;

/// Classes are known by their numbers alone.
const ANY_CLASS: usize = u32::MAX as usize;

/// Maps in place of checkpoints.
#[derive(Args)]
pub(crate) struct MapArguments {
    /// The reference's maps, (N, H, W): FILE.safetensors:KEY or a .npy file
    #[arg(long, value_name = "ARRAY", requires = "candidate_maps", conflicts_with = "reference")]
    reference_maps: Option<String>,
    /// Maps of a candidate; may be given several times
    #[arg(long, value_name = "ARRAY", num_args = 1.., conflicts_with_all = ["candidate", "images", "concept", "random", "stage", "classes", "mask"])]
    candidate_maps: Vec<String>,
    /// Maps of the floor networks
    #[arg(long, value_name = "ARRAY", num_args = 1.., requires = "reference_maps", conflicts_with = "floor")]
    floor_maps: Vec<String>,
    /// Predicted classes (N) of every network whose maps are given: reference, candidates, floor, in this order
    #[arg(long, value_name = "ARRAY", num_args = 1.., requires = "candidate_maps")]
    predictions: Vec<String>,
}

/// Networks by their maps.
pub(crate) struct Networks {
    pub(crate) dense: Dense,
    pub(crate) candidates: Vec<Explained>,
}

impl MapArguments {
    /// Whether candidates are maps.
    pub(crate) fn given(&self) -> bool {
        !self.candidate_maps.is_empty()
    }

    /// Adds the files that are read.
    pub(crate) fn add_to(&self, inputs: &mut Inputs) {
        let all =
            self.reference_maps.iter().chain(&self.candidate_maps).chain(&self.floor_maps).chain(&self.predictions);
        all.for_each(|argument| inputs.add(&argument_path(argument)));
    }

    /// Reads them; `reference` is a record where the reference's maps are not given.
    pub(crate) fn open(&self, reference: Option<&PathBuf>, labels: Option<&str>) -> anyhow::Result<Networks> {
        let maps: Vec<(&str, &String)> = (self.reference_maps.iter().map(|of| ("--reference-maps", of)))
            .chain(self.candidate_maps.iter().map(|of| ("--candidate-maps", of)))
            .chain(self.floor_maps.iter().map(|of| ("--floor-maps", of)))
            .collect();
        let (given, needed) = (self.predictions.len(), maps.len());
        ensure!(given == 0 || given == needed, "--predictions: {given} given for the maps of {needed} networks");
        let mut networks = Vec::new();
        for (place, (flag, argument)) in maps.into_iter().enumerate() {
            let (size, maps) = read_maps(argument).context(flag)?;
            let predicted =
                self.predictions.get(place).map(|of| classes("--predictions", of, maps.len())).transpose()?;
            networks.push(Explained {
                name: argument.clone(),
                size,
                maps,
                predicted,
                effects: Vec::new(),
                density: None,
                assumed: None,
            });
        }
        let mut networks = networks.into_iter();
        let dense = match (&self.reference_maps, reference) {
            (Some(argument), _) => {
                let own = networks.next().context("--reference-maps: missing")?;
                let images = own.maps.len();
                let labels = labels.map(|of| classes("--labels", of, images)).transpose()?;
                Dense {
                    images: (0..images).map(|image| format!("{argument}[{image}]")).collect(),
                    targets: labels.clone().or_else(|| own.predicted.clone()).unwrap_or_default(),
                    labels,
                    stage: None,
                    reference: own,
                    floor: Vec::new(),
                }
            }
            (None, Some(path)) => {
                ensure!(labels.is_none(), "--labels: {} (recorded) holds them", path.display());
                record::read(path)?.1
            }
            (None, None) => anyhow::bail!("--reference-maps: missing"),
        };
        let candidates: Vec<Explained> = networks.by_ref().take(self.candidate_maps.len()).collect();
        let dense = match self.reference_maps {
            Some(_) => Dense { floor: networks.collect(), ..dense },
            None => dense,
        };
        Ok(Networks { dense, candidates })
    }
}

fn classes(flag: &'static str, argument: &str, images: usize) -> anyhow::Result<Vec<usize>> {
    let found = read_label_argument(argument, ANY_CLASS).context(flag)?;
    let count = found.len();
    ensure!(count == images, "{flag}: {} holds {count} for {images} maps", Path::new(argument).display());
    Ok(found.into_iter().map(|class| class as usize).collect())
}
