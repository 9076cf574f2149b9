//! Arguments that several commands share.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use ticketlens::data::{ImageSource, Normalisation, Preprocess};
use ticketlens::kernels::device::Precision;
use ticketlens::model::{Checkpoint, Model, Stage, load_checkpoint};
use ticketlens::nn::Compute;

use crate::terminal;

/// Flags of every command.
#[derive(Args)]
pub(crate) struct Common {
    /// Worker threads [default: all cores]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Print nothing but errors
    #[arg(long, short, global = true)]
    quiet: bool,
}

impl Common {
    /// Applies them.
    pub(crate) fn start(&self) -> anyhow::Result<()> {
        if self.quiet {
            terminal::be_quiet();
        }
        if let Some(threads) = self.threads {
            rayon::ThreadPoolBuilder::new().num_threads(threads.into()).build_global().context("--threads")?;
        }
        Ok(())
    }
}

/// How pictures become network input.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Preset {
    /// Short side 256, centre 224, ImageNet's mean and standard deviation
    Imagenet,
    /// As large as the pictures are, MNIST's mean and standard deviation
    Mnist,
}

/// Which images, and how they are prepared.
#[derive(Args)]
pub(crate) struct ImageArguments {
    /// Short side of pictures after resizing, and side of the square cut from their centre, in pixels
    #[arg(long, value_name = "PIXELS")]
    size: Option<usize>,
    /// Mean of each channel, pixels counted from 0 to 1
    #[arg(long, value_name = "M,…", value_delimiter = ',', requires = "std", allow_negative_numbers = true)]
    mean: Option<Vec<f32>>,
    /// Standard deviation of each channel
    #[arg(long, value_name = "S,…", value_delimiter = ',', requires = "mean", allow_negative_numbers = true)]
    std: Option<Vec<f32>>,
    /// Preparation of pictures [default: imagenet for a network of three channels, mnist for one]
    #[arg(long, value_enum, conflicts_with_all = ["mean", "std"])]
    preset: Option<Preset>,
    /// Images in memory at a time
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = parse_batch)]
    pub(crate) batch: usize,
    /// Where to compute
    #[arg(long, value_name = "cpu|cuda[:N]", default_value = "cpu")]
    device: String,
}

/// Opens what `--device` names; `precision` is how a GPU computes.
pub(crate) fn open_device(name: &str, precision: Precision) -> anyhow::Result<Compute> {
    Compute::open(name, precision).with_context(|| format!("--device {name}"))
}

fn parse_batch(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(batch @ 1..=65_536) => Ok(batch),
        _ => Err("not a whole number from 1 to 65536".into()),
    }
}

impl ImageArguments {
    /// The preparation of pictures for a network of that many channels. Arrays are used as they are.
    pub(crate) fn preprocess(&self, channels: usize) -> anyhow::Result<Preprocess> {
        let mut preprocess = match (&self.mean, &self.std, self.preset) {
            (Some(mean), Some(std), _) => {
                let normalisation = Normalisation::new(mean, std).context("--mean --std")?;
                Preprocess::new(None, normalisation)
            }
            (_, _, Some(Preset::Imagenet)) => Preprocess::imagenet(),
            (_, _, Some(Preset::Mnist)) => Preprocess::mnist(),
            _ if channels == 1 => Preprocess::mnist(),
            _ => Preprocess::imagenet(),
        };
        if self.size.is_some() {
            (preprocess.resize, preprocess.crop) = (self.size, self.size);
        }
        Ok(preprocess)
    }

    /// Opens the device, which computes in f32.
    pub(crate) fn compute(&self) -> anyhow::Result<Compute> {
        open_device(&self.device, Precision::F32)
    }

    /// The normalisation that a picture of such an array was given, if the user said so.
    pub(crate) fn said_normalisation(&self) -> bool {
        self.mean.is_some() || self.preset.is_some()
    }

    /// Opens an IMAGES argument for `checkpoint`.
    pub(crate) fn open(&self, argument: &str, checkpoint: &Checkpoint) -> anyhow::Result<ImageSource> {
        let preprocess = self.preprocess(checkpoint.model.channels)?;
        Ok(ImageSource::open(argument, &preprocess)?)
    }
}

/// A checkpoint, computing where `compute` says, and a check that `class` is one of its classes.
pub(crate) fn open_checkpoint(path: &Path, class: Option<usize>, compute: &Compute) -> anyhow::Result<Checkpoint> {
    let mut checkpoint = load_checkpoint(path)?;
    checkpoint.model = checkpoint.model.on(compute);
    let classes = checkpoint.model.classes;
    match class {
        Some(class) if class >= classes => {
            bail!("--class: {class} does not exist, {} has classes 0 to {}", path.display(), classes - 1)
        }
        _ => Ok(checkpoint),
    }
}

/// The stage that was asked for, which the network must have; else the network's own.
pub(crate) fn stage_of(asked: Option<Stage>, model: &Model) -> anyhow::Result<Stage> {
    let stage = asked.unwrap_or(model.default_stage());
    model.halves(stage).context("--stage")?;
    Ok(stage)
}

/// [`stage_of`], where it must be a map.
pub(crate) fn map_stage_of(asked: Option<Stage>, model: &Model) -> anyhow::Result<Stage> {
    let stage = stage_of(asked, model)?;
    ensure!(model.has_map(stage), "--stage: the output of {stage} in a {} is no map but a list of values", model.name);
    Ok(stage)
}

/// A module's name.
pub(crate) fn parse_stage(text: &str) -> Result<Stage, String> {
    Stage::from_str(text).map_err(|error| error.to_string())
}

/// `NAME=IMAGES`.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    /// What is left of the first `=`.
    pub(crate) name: String,
    /// What is right of it.
    pub(crate) images: String,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, images)) if !name.is_empty() && !images.is_empty() => {
                Ok(Self { name: name.into(), images: images.into() })
            }
            _ => Err("expected NAME=IMAGES".into()),
        }
    }
}

/// Refuses an output that would overwrite an input.
pub(crate) fn check_distinct(flag: &str, output: &Path, inputs: &[&Path]) -> anyhow::Result<()> {
    let real = |path: &Path| -> Option<PathBuf> { std::fs::canonicalize(path).ok() };
    match inputs.iter().find(|input| real(output).is_some() && real(output) == real(input)) {
        Some(input) => bail!("{flag}: {} is an input of this command", input.display()),
        None => Ok(()),
    }
}
