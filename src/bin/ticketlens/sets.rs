//! What `drift` and `record` share: the sets that networks are asked about, and dense networks explained on them.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::Args;
use indicatif::ProgressBar;
use ticketlens::data::{ImageSource, argument_path};
use ticketlens::explain::Targets;
use ticketlens::explain::tcav::by_target::Classes;
use ticketlens::model::{Checkpoint, Stage};
use ticketlens::output::Inputs;
use ticketlens::study::gate::{Asked, Dense, Explained};

use crate::args::{
    ImageArguments, ModelArguments, Named, inputs, map_stage_of, open_checkpoint, parse_stage, read_labels,
};
use crate::terminal;

/// What networks are asked about.
#[derive(Args)]
pub(crate) struct SetArguments {
    /// FILE.safetensors:KEY, a .npy file, a folder of PNG and JPEG files, or an IDX file
    #[arg(long)]
    pub(crate) images: Option<String>,
    /// The true classes; without them the reference's predictions are explained
    #[arg(long)]
    pub(crate) labels: Option<String>,
    /// A concept's name and images; may be given several times
    #[arg(long, value_name = "NAME=IMAGES", num_args = 1..)]
    pub(crate) concept: Vec<Named>,
    /// A set of random images; at least two with --concept
    #[arg(long, value_name = "IMAGES", num_args = 1..)]
    pub(crate) random: Vec<String>,
    /// The module after whose output the network is cut, by its PyTorch name [default: layer3 of a
    /// ResNet, and its like]
    #[arg(long, value_parser = parse_stage)]
    pub(crate) stage: Option<Stage>,
    /// Classes that concepts are tested for [default: present, those in the images]; of which there
    /// is no image, on every image
    #[arg(long, value_name = "present|all|K,…")]
    pub(crate) classes: Option<Classes>,
    #[command(flatten)]
    pub(crate) model: ModelArguments,
    #[command(flatten)]
    pub(crate) preparation: ImageArguments,
}

/// The sets, open.
pub(crate) struct Sets {
    pub(crate) images: ImageSource,
    pub(crate) concepts: Vec<(String, ImageSource)>,
    pub(crate) random: Vec<ImageSource>,
}

impl Sets {
    /// # Errors
    /// The flag or file is named.
    pub(crate) fn open(
        images: &str,
        concepts: &[Named],
        random: &[String],
        preparation: &ImageArguments,
        network: &Checkpoint,
    ) -> anyhow::Result<Self> {
        let open = |images: &str| preparation.open(images, network);
        ensure!(concepts.is_empty() == random.is_empty(), "--concept and --random: one is given without the other");
        let sets = random.len();
        ensure!(sets != 1, "--random: {sets} set given, at least 2 are needed");
        let concepts = concepts.iter().map(|concept| Ok((concept.name.clone(), open(&concept.images)?)));
        Ok(Self {
            images: open(images)?,
            concepts: concepts.collect::<anyhow::Result<_>>()?,
            random: random.iter().map(|images| open(images)).collect::<anyhow::Result<_>>()?,
        })
    }

    /// Images that one network has to see.
    pub(crate) fn count(&self) -> usize {
        let sets = self.concepts.iter().map(|(_, images)| images).chain(&self.random);
        self.images.len() + sets.map(ImageSource::len).sum::<usize>()
    }

    pub(crate) fn asked(&self, stage: Stage, classes: &Classes, batch: usize) -> Asked<'_> {
        Asked {
            images: &self.images,
            stage,
            concepts: &self.concepts,
            random: &self.random,
            classes: classes.clone(),
            batch,
        }
    }
}

impl SetArguments {
    /// The files that are read, those of `paths` with them.
    pub(crate) fn inputs<'a>(&self, paths: impl IntoIterator<Item = &'a Path>) -> Inputs {
        let sets = self.concept.iter().map(|concept| &concept.images).chain(&self.random).chain(&self.images);
        let images: Vec<&str> = sets.map(String::as_str).collect();
        let mut inputs = inputs(paths, &images);
        if let Some(labels) = &self.labels {
            inputs.add(&argument_path(labels));
        }
        inputs
    }

    /// Explains the reference and its floor; `candidates` are to come.
    pub(crate) fn dense(
        &self,
        reference: &Path,
        floor: &[PathBuf],
        candidates: &[(PathBuf, Checkpoint)],
    ) -> anyhow::Result<Told> {
        let Some(images) = &self.images else { bail!("--images: missing") };
        let compute = self.preparation.compute()?;
        let checkpoint = open_checkpoint(reference, self.model, None, &compute)?;
        let stage = map_stage_of(self.stage, &checkpoint.model)?;
        let known = checkpoint.model.classes;
        let classes = self.classes.clone().unwrap_or_default();
        if let Classes::Listed(listed) = &classes {
            let unknown = listed.iter().find(|class| **class >= known);
            ensure!(unknown.is_none(), "--classes: the reference has classes 0 to {}", known - 1);
        }
        let sets = Sets::open(images, &self.concept, &self.random, &self.preparation, &checkpoint)?;
        let labels: Option<Vec<usize>> = match &self.labels {
            None => None,
            Some(labels) => Some(read_labels(labels, known, &sets.images)?),
        };
        // What cannot be compared is refused before anything is computed.
        let open = |path: &PathBuf| Ok((path.clone(), open_checkpoint(path, self.model, None, &compute)?));
        let floor = floor.iter().map(open).collect::<anyhow::Result<Vec<_>>>()?;
        floor.iter().chain(candidates).try_for_each(|(path, network)| check_classes(path, network, known))?;
        let asked = sets.asked(stage, &classes, self.preparation.batch);
        let bar = terminal::bar("explaining", sets.count() * (1 + floor.len() + candidates.len()));
        let read = |done: usize| bar.inc(done as u64);
        let targets = labels.as_deref().map_or(Targets::Predicted, Targets::PerImage);
        let own = asked.of(reference.display().to_string(), &checkpoint, targets, &read)?;
        own.warnings.iter().for_each(|line| terminal::warn(line));
        let targets = labels.clone().or_else(|| own.explained.predicted.clone()).unwrap_or_default();
        let mut weights = vec![checkpoint.weights.digest()];
        let mut explained = Vec::new();
        for (path, network) in &floor {
            weights.push(network.weights.digest());
            let answers = asked.of(path.display().to_string(), network, Targets::PerImage(&targets), &read);
            explained.push(answers.with_context(|| path.display().to_string())?.explained);
        }
        let images = (0..sets.images.len()).map(|image| sets.images.image_name(image)).collect();
        let dense = Dense { images, labels, targets, stage: Some(stage), reference: own.explained, floor: explained };
        Ok(Told { dense, stage, checkpoint, weights, sets, classes, batch: self.preparation.batch, bar })
    }
}

/// Dense networks explained from their checkpoints.
pub(crate) struct Told {
    pub(crate) dense: Dense,
    pub(crate) stage: Stage,
    pub(crate) checkpoint: Checkpoint,
    /// Digests of the weights of reference and floor.
    pub(crate) weights: Vec<String>,
    pub(crate) sets: Sets,
    pub(crate) classes: Classes,
    pub(crate) batch: usize,
    pub(crate) bar: ProgressBar,
}

/// # Errors
/// When a network has other classes than the reference.
pub(crate) fn check_classes(path: &Path, network: &Checkpoint, classes: usize) -> anyhow::Result<()> {
    let found = network.model.classes;
    ensure!(found == classes, "{}: has {found} classes, the reference has {classes}", path.display());
    Ok(())
}

/// Explains candidates as the dense networks were.
pub(crate) fn explain_candidates(
    asked: &Asked<'_>,
    candidates: &[(PathBuf, Checkpoint)],
    targets: &[usize],
    read: &dyn Fn(usize),
) -> anyhow::Result<Vec<Explained>> {
    let of = |(path, checkpoint): &(PathBuf, Checkpoint)| {
        let answers = asked.of(path.display().to_string(), checkpoint, Targets::PerImage(targets), read);
        Ok(answers.with_context(|| path.display().to_string())?.explained)
    };
    candidates.iter().map(of).collect()
}
