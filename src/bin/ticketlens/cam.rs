//! `ticketlens cam`.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, bail, ensure};
use candle_core::{DType, Device, Tensor};
use clap::Args;
use indicatif::ProgressBar;
use ticketlens::data::{ImageSource, argument_path};
use ticketlens::explain::saliency::{Method, Settings};
use ticketlens::explain::{
    AttributedBatch, Maps, Targets, activation_shape, attribute_in_batches, explain_in_batches, normalise, upsample,
};
use ticketlens::model::{Checkpoint, Stage};
use ticketlens::nn::predicted_class;
use ticketlens::output::{Inputs, OutputFolder};

use crate::args::{
    ImageArguments, ModelArguments, OF_CHECKPOINTS, TokenArguments, inputs, map_stage_of, open_checkpoint, parse_stage,
    read_labels, say_assumed,
};
use crate::output::{TensorWriter, create, create_folder};
use crate::overlay::{self, Painter};
use crate::terminal;

/// Saliency maps: which positions or pixels a class logit depends on
///
/// Methods at a stage (grad-cam, hires-cam, layer-cam, xgrad-cam, grad-cam-plus-plus) write the
/// tensors `cam_raw` (N, h, w) at the stage's resolution, `cam_upsampled` (N, H, W) at the images',
/// and `cam_normalised`, which is that over its maximum. Methods on the input (gradient,
/// input-x-gradient, integrated-gradients, smooth-grad) write `attribution` (N, C, H, W), raw and
/// signed. Beside them `class` (N), the class explained, and `degenerate` (N), 1 where a map is
/// zero everywhere and says nothing. Of any model, from arrays that its own framework wrote:
/// --activation and --gradient in the place of checkpoint and images (docs/any-model.md).
#[derive(Args)]
#[command(after_help = "Example:
  ticketlens cam --checkpoint resnet18.pth --images photos/ --stage layer4 --class predicted \\
    --out cam.safetensors --png overlays/")]
pub(crate) struct Arguments {
    /// Checkpoint with PyTorch names: .safetensors, .pth or .pt
    #[arg(long, value_name = "CKPT", required_unless_present = "activation")]
    checkpoint: Option<PathBuf>,
    /// FILE.safetensors:KEY, a .npy file, a folder of PNG and JPEG files, or an IDX file
    #[arg(long, required_unless_present = "activation")]
    images: Option<String>,
    /// The saliency method
    #[arg(long, value_parser = parse_method, default_value = "grad-cam")]
    method: Method,
    /// The module after whose output the network is cut, by its PyTorch name; for methods at a
    /// stage [default: layer3 of a ResNet, and its like]
    #[arg(long, value_parser = parse_stage)]
    stage: Option<Stage>,
    /// Whose logit is explained: a class counted from 0, `predicted`, or `true` (needs --labels)
    #[arg(long, value_name = "K|true|predicted", required_unless_present = "activation")]
    class: Option<Target>,
    /// The true classes: IDX, FILE.safetensors:KEY or .npy of whole numbers, or .txt, one a line
    #[arg(long)]
    labels: Option<String>,
    /// Gradients that integrated-gradients and smooth-grad average [default: 50]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    steps: Option<u32>,
    /// Standard deviation of smooth-grad's noise, as a share of each image's range of values [default: 0.15]
    #[arg(long, value_name = "X", value_parser = parse_noise)]
    noise: Option<f32>,
    /// Seed of smooth-grad's noise [default: 0]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Instead of a checkpoint: activations (N, C, H, W), or tokens (N, T, D) with --grid, as
    /// FILE.safetensors:KEY or a .npy file
    #[arg(
        long,
        value_name = "ARRAY",
        requires = "gradient",
        conflicts_with_all = ["checkpoint", "images", "stage", "class", "labels", "png"],
        conflicts_with_all = OF_CHECKPOINTS
    )]
    activation: Option<String>,
    /// Gradients of the class's logit with respect to them
    #[arg(long, value_name = "ARRAY", requires = "activation", conflicts_with = "checkpoint")]
    gradient: Option<String>,
    #[command(flatten)]
    tokens: TokenArguments,
    /// Safetensors file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Also write an overlay of each map, beside its image, into this folder; of an attribution the
    /// sum of its magnitudes over the channels
    #[arg(long, value_name = "DIR")]
    png: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    preparation: ImageArguments,
}

/// The most rows or columns of an image that maps are brought to.
const MOST_PIXELS: usize = 20_000;

fn parse_method(name: &str) -> Result<Method, String> {
    Method::from_str(name).map_err(|error| error.to_string())
}

fn parse_noise(text: &str) -> Result<f32, String> {
    match text.parse() {
        Ok(noise) if noise >= 0.0 && f32::is_finite(noise) => Ok(noise),
        _ => Err("not a number of at least 0".into()),
    }
}

/// Whose logit is explained.
#[derive(Clone, Copy, Debug)]
enum Target {
    Class(usize),
    Predicted,
    True,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "predicted" => Ok(Target::Predicted),
            "true" => Ok(Target::True),
            _ => text.parse().map(Target::Class).map_err(|_| "expected a class number, `true` or `predicted`".into()),
        }
    }
}

impl Arguments {
    /// Refuses flags that the method does not read.
    fn check(&self) -> anyhow::Result<()> {
        let method = self.method;
        ensure!(self.stage.is_none() || !method.is_on_input(), "--stage: {method} works on the input, not at a stage");
        let given = [("steps", self.steps.is_some()), ("noise", self.noise.is_some()), ("seed", self.seed.is_some())];
        for (flag, given) in given {
            ensure!(!given || method.settings.contains(&flag), "--{flag}: {method} does not read it");
        }
        Ok(())
    }

    fn settings(&self) -> Settings {
        let default = Settings::default();
        Settings {
            steps: self.steps.map_or(default.steps, |steps| steps as usize),
            noise: self.noise.unwrap_or(default.noise),
            seed: self.seed.unwrap_or(default.seed),
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    arguments.check()?;
    match (&arguments.activation, &arguments.gradient, &arguments.checkpoint, &arguments.images, arguments.class) {
        (Some(activation), Some(gradient), ..) => of_arrays(arguments, activation, gradient),
        (.., Some(checkpoint), Some(images), Some(target)) => of_checkpoint(arguments, checkpoint, images, target),
        _ => bail!("--checkpoint with --images and --class, or --activation with --gradient"),
    }
}

/// Maps of arrays: the same tensors, but for the class, which they do not tell.
fn of_arrays(arguments: &Arguments, activation: &str, gradient: &str) -> anyhow::Result<()> {
    let method = arguments.method;
    ensure!(!method.is_on_input(), "--method: {method} works on the input of a network, and arrays are of a stage");
    let read = inputs([], &[activation, gradient]);
    read.check(&arguments.out).context("--out")?;
    let activation = arguments.tokens.open(activation).context("--activation")?;
    let gradient = arguments.tokens.open(gradient).context("--gradient")?;
    let &[_, height, width] = activation.shape() else {
        let shape = activation.shape();
        bail!("{}: maps need (N, C, H, W), or tokens with --grid; one activation is {shape:?}", activation.name());
    };
    ensure!(
        (activation.len(), activation.shape()) == (gradient.len(), gradient.shape()),
        "{}: {} gradients of {:?} for {} activations of {:?} in {}",
        gradient.name(),
        gradient.len(),
        gradient.shape(),
        activation.len(),
        activation.shape(),
        activation.name()
    );
    let of_images = match arguments.preparation.size[..] {
        [] => [height, width],
        [side] => [side, side],
        [height, width, ..] => [height, width],
    };
    let side = 1..=MOST_PIXELS;
    ensure!(
        of_images.iter().all(|pixels| side.contains(pixels)),
        "--size: {of_images:?} is not from 1 to {MOST_PIXELS}"
    );
    let count = activation.len();
    let tensors = [("cam_raw", [height, width]), ("cam_upsampled", of_images), ("cam_normalised", of_images)];
    let maps = tensors.map(|(name, [height, width])| (name.to_owned(), DType::F32, vec![count, height, width]));
    let degenerate = ("degenerate".to_owned(), DType::U8, vec![count]);
    let tensors: Vec<_> = maps.into_iter().chain([degenerate]).collect();
    let mut writer = TensorWriter::new(create("--out", &arguments.out, &read)?, &tensors)?;
    let bar = terminal::bar("explaining", count);
    let mut silent = 0;
    for range in activation.ranges(arguments.preparation.batch) {
        let maps = method.at_stage(&activation.tensor(range.clone())?, &gradient.tensor(range.clone())?)?;
        let maps = maps.finite(|nth| format!("{}: image {}", activation.name(), range.start + nth))?;
        let upsampled = upsample(&maps.raw, of_images[0], of_images[1])?;
        let flags: Vec<u8> = maps.degenerate.iter().map(|&flag| u8::from(flag)).collect();
        silent += maps.degenerate.iter().filter(|&&flag| flag).count();
        writer.append("cam_raw", &maps.raw)?;
        writer.append("cam_upsampled", &upsampled)?;
        writer.append("cam_normalised", &normalise(&upsampled)?)?;
        writer.append("degenerate", &Tensor::new(flags, &Device::Cpu)?)?;
        bar.inc(range.len() as u64);
    }
    bar.finish_and_clear();
    writer.finish()?;
    terminal::delivered();
    terminal::say(&format!("{} maps into {}", terminal::thousands(count), arguments.out.display()));
    warn_of_silent(silent, count, "maps");
    Ok(())
}

fn warn_of_silent(silent: usize, count: usize, what: &str) {
    if silent > 0 {
        terminal::warn(&format!("{silent} of {count} {what} are zero everywhere: they say nothing about the network"));
    }
}

fn of_checkpoint(arguments: &Arguments, checkpoint: &Path, images: &str, target: Target) -> anyhow::Result<()> {
    let mut read = inputs([checkpoint], &[images]);
    if let Some(labels) = &arguments.labels {
        read.add(&argument_path(labels));
    }
    read.check(&arguments.out).context("--out")?;
    let class = match target {
        Target::Class(class) => Some(class),
        _ => None,
    };
    let compute = arguments.preparation.compute()?;
    let checkpoint = open_checkpoint(checkpoint, arguments.model, class, &compute)?;
    let model = &checkpoint.model;
    let source = arguments.preparation.open(images, &checkpoint)?;
    let labels: Vec<usize> = match (target, &arguments.labels) {
        (Target::True, None) => bail!("--class true: needs --labels"),
        (_, Some(_)) if !matches!(target, Target::True) => bail!("--labels: only --class true reads them"),
        (Target::True, Some(labels)) => read_labels(labels, model.classes, &source)?,
        _ => Vec::new(),
    };
    let targets = match target {
        Target::Class(class) => Targets::Class(class),
        Target::Predicted => Targets::Predicted,
        Target::True => Targets::PerImage(&labels),
    };
    let degenerate = match arguments.method.is_on_input() {
        false => maps(arguments, &checkpoint, &source, targets, &read)?,
        true => attributions(arguments, &checkpoint, &source, targets, &read)?,
    };
    let (count, into) = (source.len(), arguments.out.display());
    let (what, place) = match arguments.method.is_on_input() {
        false => ("maps", map_stage_of(arguments.stage, model)?.to_string()),
        true => ("attributions", "the input".to_owned()),
    };
    terminal::say(&format!("{} {what} at {place} into {into}", terminal::thousands(count)));
    say_assumed(model);
    if model.classes == 1 && matches!(target, Target::Predicted) {
        terminal::warn("--class predicted: the network has one logit, so class 0 is explained for every image");
    }
    warn_of_silent(degenerate, count, what);
    Ok(())
}

/// Maps at a stage; how many say nothing.
fn maps(
    arguments: &Arguments,
    checkpoint: &Checkpoint,
    source: &ImageSource,
    targets: Targets<'_>,
    read: &Inputs,
) -> anyhow::Result<usize> {
    let (count, (_, height, width)) = (source.len(), source.shape());
    let place = map_stage_of(arguments.stage, &checkpoint.model)?;
    let stage = activation_shape(checkpoint, source, place)?;
    let batches = explain_in_batches(checkpoint, source, place, targets, arguments.preparation.batch)?;
    let of_images = vec![count, height, width];
    let mut output = Files::create(
        arguments,
        checkpoint,
        source,
        read,
        &[
            ("cam_raw", vec![count, stage.height, stage.width]),
            ("cam_upsampled", of_images.clone()),
            ("cam_normalised", of_images),
        ],
    )?;
    for explained in batches {
        let explained = explained?;
        let maps = arguments.method.at_stage(&explained.activation, &explained.gradient)?;
        let maps = maps.finite(|nth| source.image_name(explained.images.start + nth))?;
        let upsampled = upsample(&maps.raw, height, width)?;
        let normalised = normalise(&upsampled)?;
        let classes: Vec<usize> = match targets {
            Targets::Class(class) => vec![class; explained.images.len()],
            Targets::PerImage(labels) => labels[explained.images.clone()].to_vec(),
            Targets::Predicted => explained.logits.to_vec2::<f32>()?.iter().map(|row| predicted_class(row)).collect(),
        };
        let tensors = [("cam_raw", &maps.raw), ("cam_upsampled", &upsampled), ("cam_normalised", &normalised)];
        output.append(&tensors, &classes, &maps.degenerate, (&explained.images, &explained.pixels, &normalised))?;
    }
    output.finish()
}

/// Attributions of the input; how many say nothing.
fn attributions(
    arguments: &Arguments,
    checkpoint: &Checkpoint,
    source: &ImageSource,
    targets: Targets<'_>,
    read: &Inputs,
) -> anyhow::Result<usize> {
    let (method, settings, batch) = (arguments.method, arguments.settings(), arguments.preparation.batch);
    let batches = attribute_in_batches(checkpoint, source, method, settings, targets, batch)?;
    let (channels, height, width) = source.shape();
    let shape = vec![source.len(), channels, height, width];
    let mut output = Files::create(arguments, checkpoint, source, read, &[("attribution", shape)])?;
    for attributed in batches {
        let AttributedBatch { images, pixels, classes, attribution } = attributed?;
        let maps = Maps::of_attributions(&attribution)?;
        let normalised = normalise(&maps.raw)?;
        output.append(&[("attribution", &attribution)], &classes, &maps.degenerate, (&images, &pixels, &normalised))?;
    }
    output.finish()
}

/// The files that are written batch by batch.
struct Files<'a> {
    source: &'a ImageSource,
    writer: TensorWriter,
    folder: Option<OutputFolder>,
    painter: Painter,
    bar: ProgressBar,
    degenerate: usize,
}

impl<'a> Files<'a> {
    fn create(
        arguments: &Arguments,
        checkpoint: &Checkpoint,
        source: &'a ImageSource,
        read: &Inputs,
        maps: &[(&str, Vec<usize>)],
    ) -> anyhow::Result<Self> {
        let count = source.len();
        let maps = maps.iter().map(|(name, shape)| ((*name).to_owned(), DType::F32, shape.clone()));
        let of_each = [("class", DType::I64), ("degenerate", DType::U8)];
        let of_each = of_each.map(|(name, dtype)| (name.to_owned(), dtype, vec![count]));
        let tensors: Vec<_> = maps.chain(of_each).collect();
        let writer = TensorWriter::new(create("--out", &arguments.out, read)?, &tensors)?;
        let folder = arguments.png.as_deref().map(|png| create_folder("--png", png, read)).transpose()?;
        let preprocess = arguments.preparation.preprocess(checkpoint.model.channels)?;
        let painter = Painter::new(source, arguments.preparation.said_normalisation(), &preprocess.normalisation);
        Ok(Self { source, writer, folder, painter, bar: terminal::bar("explaining", count), degenerate: 0 })
    }

    /// Adds a batch; what is painted are the images' numbers, their pixels and maps from 0 to 1.
    fn append(
        &mut self,
        tensors: &[(&str, &Tensor)],
        classes: &[usize],
        degenerate: &[bool],
        (images, pixels, normalised): (&Range<usize>, &Tensor, &Tensor),
    ) -> anyhow::Result<()> {
        for (name, tensor) in tensors {
            self.writer.append(name, tensor)?;
        }
        let classes: Vec<i64> = classes.iter().map(|&class| class as i64).collect();
        let flags: Vec<u8> = degenerate.iter().map(|&flag| u8::from(flag)).collect();
        self.writer.append("class", &Tensor::new(classes, &Device::Cpu)?)?;
        self.writer.append("degenerate", &Tensor::new(flags, &Device::Cpu)?)?;
        self.degenerate += degenerate.iter().filter(|&&flag| flag).count();
        if let Some(folder) = &self.folder {
            overlay::write(&self.painter, images, pixels, normalised, |image| {
                Ok(folder.path(&overlay::file_name(&self.source.image_name(image), image, self.source.len()))?)
            })?;
        }
        self.bar.inc(images.len() as u64);
        Ok(())
    }

    /// Puts the files in their places; how many maps say nothing.
    fn finish(self) -> anyhow::Result<usize> {
        self.bar.finish_and_clear();
        if let Some(folder) = self.folder {
            folder.finish()?;
        }
        self.writer.finish()?;
        terminal::delivered();
        Ok(self.degenerate)
    }
}
