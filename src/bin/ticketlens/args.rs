//! Arguments that several commands share.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use ticketlens::data::{
    ActivationSource, ImageSource, Normalisation, Preprocess, Tokens, argument_path, read_label_argument,
};
use ticketlens::kernels::device::Precision;
use ticketlens::model::{BottleneckStride, Checkpoint, Forward, Model, Stage, TensorFile, checkpoint_with};
use ticketlens::nn::Compute;
use ticketlens::output::Inputs;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Preset {
    /// Short side 256, centre 224, ImageNet's mean and standard deviation
    Imagenet,
    /// As large as the pictures are, MNIST's mean and standard deviation
    Mnist,
}

/// Which images, and how they are prepared.
#[derive(Args)]
pub(crate) struct ImageArguments {
    /// Short side of pictures after resizing, and side of the square cut from their centre, in
    /// pixels; of arrays the height and width of their images
    #[arg(long, value_name = "PIXELS", num_args = 1..=2)]
    pub(crate) size: Vec<usize>,
    /// Mean of each channel, pixels counted from 0 to 1
    #[arg(long, value_name = "M,…", value_delimiter = ',', requires = "std", allow_hyphen_values = true)]
    mean: Option<Vec<f32>>,
    /// Standard deviation of each channel
    #[arg(long, value_name = "S,…", value_delimiter = ',', requires = "mean", allow_hyphen_values = true)]
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

/// Flags that say how a checkpoint computes and what its images are, and nothing of arrays.
pub(crate) const OF_CHECKPOINTS: [&str; 7] =
    ["mean", "std", "preset", "device", "stem_stride", "stem_pool", "bottleneck_stride"];

/// How tokens of a transformer lie in an image.
#[derive(Args)]
pub(crate) struct TokenArguments {
    /// Of arrays of tokens (N, T, D): the rows and columns of the grid that they make
    #[arg(long, value_names = ["H", "W"], num_args = 2, conflicts_with = "checkpoint")]
    grid: Option<Vec<usize>>,
    /// Tokens before those of the grid, such as the class token
    #[arg(long, value_name = "N", default_value_t = 0, requires = "grid")]
    skip_tokens: usize,
}

impl TokenArguments {
    /// Opens an array.
    pub(crate) fn open(&self, argument: &str) -> anyhow::Result<ActivationSource> {
        let tokens = match self.grid.as_deref() {
            Some(&[height, width]) => Some(Tokens { height, width, skip: self.skip_tokens }),
            _ => None,
        };
        Ok(ActivationSource::open(argument, tokens)?)
    }
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
                let values = normalisation.channels();
                ensure!(values == channels, "--mean --std: {values} values, the network reads {channels} channels");
                Preprocess::new(None, normalisation)
            }
            (_, _, Some(Preset::Imagenet)) => Preprocess::imagenet(),
            (_, _, Some(Preset::Mnist)) => Preprocess::mnist(),
            _ if channels == 1 => Preprocess::mnist(),
            _ => Preprocess::imagenet(),
        };
        ensure!(self.size.len() < 2, "--size: pictures have one number; height and width are for arrays");
        if let Some(&side) = self.size.first() {
            (preprocess.resize, preprocess.crop) = (Some(side), Some(side));
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

    /// What the flags say of the preparation, by their names.
    pub(crate) fn said(&self) -> BTreeMap<String, String> {
        let list = |values: &[f32]| values.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let preset = self.preset.and_then(|preset| Some(preset.to_possible_value()?.get_name().to_owned()));
        let flags = [
            ("size", self.size.first().map(ToString::to_string)),
            ("mean", self.mean.as_deref().map(list)),
            ("std", self.std.as_deref().map(list)),
            ("preset", preset),
        ];
        flags.into_iter().filter_map(|(flag, said)| Some((flag.to_owned(), said?))).collect()
    }

    /// As was said before, where no flag says otherwise; `None` where what was said is no preparation.
    pub(crate) fn or_said(&self, before: &BTreeMap<String, String>, batch: usize) -> Option<Self> {
        let said = self.said();
        let said = if said.is_empty() { before } else { &said };
        let list = |flag: &str| -> Option<Option<Vec<f32>>> {
            let Some(text) = said.get(flag) else { return Some(None) };
            text.split(',').map(|value| value.parse().ok()).collect::<Option<Vec<f32>>>().map(Some)
        };
        let size = said.get("size").map(|size| size.parse().ok());
        let preset = said.get("preset").map(|preset| Preset::from_str(preset, false).ok());
        if size == Some(None) || preset == Some(None) {
            return None;
        }
        Some(Self {
            size: size.flatten().into_iter().collect(),
            mean: list("mean")?,
            std: list("std")?,
            preset: preset.flatten(),
            batch,
            device: self.device.clone(),
        })
    }

    /// Opens an IMAGES argument for `checkpoint`.
    pub(crate) fn open(&self, argument: &str, checkpoint: &Checkpoint) -> anyhow::Result<ImageSource> {
        let preprocess = self.preprocess(checkpoint.model.channels)?;
        let source = ImageSource::open(argument, &preprocess)?;
        if let &[side] = &self.size[..]
            && let (_, height, width) = source.shape()
            && source.is_array()
        {
            let is = format!("{} holds images of {height}×{width} pixels", source.name());
            ensure!((height, width) == (side, side), "--size {side}: {is}, and arrays are used as they are");
        }
        if let Some(left_out) = source.left_out() {
            terminal::warn(left_out);
        }
        Ok(source)
    }
}

/// What names and shapes of a checkpoint do not tell.
#[derive(Args, Clone, Copy)]
pub(crate) struct ModelArguments {
    /// Stride of the first convolution [default: 1 of a 3x3, 2 of a 7x7]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=4))]
    stem_stride: Option<u8>,
    /// Whether a max pool follows the first convolution [default: false after a 3x3, true after a 7x7]
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true", value_parser = clap::builder::BoolishValueParser::new())]
    stem_pool: Option<bool>,
    /// Which convolution of a bottleneck block halves the map: the second, 3x3, as torchvision's,
    /// or the first, 1x1, as Caffe's
    #[arg(long, value_name = "first|second", value_enum, default_value_t = Position::Second)]
    bottleneck_stride: Position,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Position {
    First,
    Second,
}

impl ModelArguments {
    /// What the flags say.
    fn forward(self) -> Forward {
        Forward {
            stem_stride: self.stem_stride.map(usize::from),
            stem_pool: self.stem_pool,
            bottleneck_stride: match self.bottleneck_stride {
                Position::First => BottleneckStride::First,
                Position::Second => BottleneckStride::Second,
            },
        }
    }
}

/// A checkpoint, computing where `compute` says, and a check that `class` is one of its classes.
pub(crate) fn open_checkpoint(
    path: &Path,
    model: ModelArguments,
    class: Option<usize>,
    compute: &Compute,
) -> anyhow::Result<Checkpoint> {
    let mut checkpoint = checkpoint_with(&TensorFile::open(path)?, model.forward())?;
    checkpoint.model = checkpoint.model.on(compute);
    let classes = checkpoint.model.classes;
    match class {
        Some(class) if class >= classes => {
            bail!("--class: {class} does not exist, {} has classes 0 to {}", path.display(), classes - 1)
        }
        _ => Ok(checkpoint),
    }
}

/// Says what was assumed of a network because a checkpoint does not tell it.
pub(crate) fn say_assumed(model: &Model) {
    if let Some(assumed) = model.assumptions {
        terminal::say(&format!("assumed: {assumed}"));
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

/// The files that a command reads: paths, and IMAGES or labels arguments.
pub(crate) fn inputs<'a>(paths: impl IntoIterator<Item = &'a Path>, arguments: &[&str]) -> Inputs {
    let mut inputs = Inputs::none();
    paths.into_iter().for_each(|path| inputs.add(path));
    arguments.iter().for_each(|argument| inputs.add(&argument_path(argument)));
    inputs
}

/// The labels of the images of `source`, one for each.
pub(crate) fn read_labels(argument: &str, classes: usize, source: &ImageSource) -> anyhow::Result<Vec<usize>> {
    let labels = read_label_argument(argument, classes).context("--labels")?;
    if labels.len() != source.len() {
        let (labels, images) = (labels.len(), source.len());
        bail!("--labels: {argument}: holds {labels} labels for the {images} images of {}", source.name());
    }
    Ok(labels.into_iter().map(|label| label as usize).collect())
}
