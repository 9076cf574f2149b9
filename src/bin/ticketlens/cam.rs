//! `ticketlens cam`.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, bail};
use candle_core::{DType, Device, Tensor};
use clap::Args;
use ticketlens::data::argument_path;
use ticketlens::explain::{Targets, activation_shape, explain_in_batches, grad_cam, normalise, upsample};
use ticketlens::model::Stage;
use ticketlens::nn::predicted_class;

use crate::args::{ImageArguments, ModelArguments, inputs, map_stage_of, open_checkpoint, parse_stage, read_labels, say_assumed};
use crate::output::{TensorWriter, create, create_folder};
use crate::overlay::{self, Painter};
use crate::terminal;

/// Grad-CAM heatmaps
///
/// Writes the tensors `cam_raw` (N, h, w) at the stage's resolution, `cam_upsampled` (N, H, W) at the images', and
/// `cam_normalised`, which is that over its maximum; beside them `class` (N), the class explained, and `degenerate` (N), 1
/// where a map is zero everywhere and says nothing.
#[derive(Args)]
#[command(after_help = "Example:
  ticketlens cam --checkpoint resnet18.pth --images photos/ --stage layer4 --class predicted \\
    --out cam.safetensors --png overlays/")]
pub(crate) struct Arguments {
    /// Checkpoint with PyTorch names: .safetensors, .pth or .pt
    #[arg(long, value_name = "CKPT")]
    checkpoint: PathBuf,
    /// FILE.safetensors:KEY, a .npy file, a folder of PNG and JPEG files, or an IDX file
    #[arg(long)]
    images: String,
    /// The module after whose output the network is cut, by its PyTorch name [default: layer3 of a ResNet, and its like]
    #[arg(long, value_parser = parse_stage)]
    stage: Option<Stage>,
    /// Whose logit is explained: a class counted from 0, `predicted`, or `true` (needs --labels)
    #[arg(long, value_name = "K|true|predicted")]
    class: Target,
    /// The true classes: an IDX label file, FILE.safetensors:KEY or .npy of whole numbers, or a .txt with one on each line
    #[arg(long)]
    labels: Option<String>,
    /// Safetensors file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Also write an overlay of each map, beside its image, into this folder
    #[arg(long, value_name = "DIR")]
    png: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    preparation: ImageArguments,
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

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut read = inputs([arguments.checkpoint.as_path()], &[&arguments.images]);
    if let Some(labels) = &arguments.labels {
        read.add(&argument_path(labels));
    }
    read.check(&arguments.out).context("--out")?;
    let class = match arguments.class {
        Target::Class(class) => Some(class),
        _ => None,
    };
    let compute = arguments.preparation.compute()?;
    let checkpoint = open_checkpoint(&arguments.checkpoint, arguments.model, class, &compute)?;
    let model = &checkpoint.model;
    let source = arguments.preparation.open(&arguments.images, &checkpoint)?;
    let labels: Vec<usize> = match (arguments.class, &arguments.labels) {
        (Target::True, None) => bail!("--class true: needs --labels"),
        (Target::True, Some(labels)) => read_labels(labels, model.classes, &source)?,
        _ => Vec::new(),
    };
    let targets = match arguments.class {
        Target::Class(class) => Targets::Class(class),
        Target::Predicted => Targets::Predicted,
        Target::True => Targets::PerImage(&labels),
    };
    let (count, (_, height, width)) = (source.len(), source.shape());
    let stage = map_stage_of(arguments.stage, model)?;
    let shape = activation_shape(&checkpoint, &source, stage)?;
    let tensors = [
        ("cam_raw", DType::F32, vec![count, shape.height, shape.width]),
        ("cam_upsampled", DType::F32, vec![count, height, width]),
        ("cam_normalised", DType::F32, vec![count, height, width]),
        ("class", DType::I64, vec![count]),
        ("degenerate", DType::U8, vec![count]),
    ]
    .map(|(name, dtype, shape)| (name.to_owned(), dtype, shape));
    let batches = explain_in_batches(&checkpoint, &source, stage, targets, arguments.preparation.batch)?;
    let mut writer = TensorWriter::new(create("--out", &arguments.out, &read)?, &tensors)?;
    let folder = arguments.png.as_deref().map(|png| create_folder("--png", png, &read)).transpose()?;
    let preprocess = arguments.preparation.preprocess(model.channels)?;
    let painter = Painter::new(&source, arguments.preparation.said_normalisation(), &preprocess.normalisation);

    let bar = terminal::bar("explaining", count);
    let mut degenerate = 0;
    for explained in batches {
        let explained = explained?;
        let maps = grad_cam(&explained.activation, &explained.gradient)?;
        let upsampled = upsample(&maps.raw, height, width)?;
        let normalised = normalise(&upsampled)?;
        let classes: Vec<i64> = match targets {
            Targets::Class(class) => vec![class as i64; explained.images.len()],
            Targets::PerImage(labels) => labels[explained.images.clone()].iter().map(|&label| label as i64).collect(),
            Targets::Predicted => {
                explained.logits.to_vec2::<f32>()?.iter().map(|row| predicted_class(row) as i64).collect()
            }
        };
        let flags: Vec<u8> = maps.degenerate.iter().map(|&flag| u8::from(flag)).collect();
        degenerate += flags.iter().filter(|&&flag| flag == 1).count();
        writer.append("cam_raw", &maps.raw)?;
        writer.append("cam_upsampled", &upsampled)?;
        writer.append("cam_normalised", &normalised)?;
        writer.append("class", &Tensor::new(classes, &Device::Cpu)?)?;
        writer.append("degenerate", &Tensor::new(flags, &Device::Cpu)?)?;
        if let Some(folder) = &folder {
            overlay::write(&painter, &explained, &normalised, |image| {
                Ok(folder.path(&overlay::file_name(&source.image_name(image), image, count))?)
            })?;
        }
        bar.inc(explained.images.len() as u64);
    }
    bar.finish_and_clear();
    if let Some(folder) = folder {
        folder.finish()?;
    }
    writer.finish()?;
    terminal::delivered();

    let into = arguments.out.display();
    terminal::say(&format!("{} maps at {stage} into {into}", terminal::thousands(count)));
    say_assumed(model);
    if model.classes == 1 && matches!(arguments.class, Target::Predicted) {
        terminal::warn("--class predicted: the network has one logit, so class 0 is explained for every image");
    }
    if degenerate > 0 {
        terminal::warn(&format!(
            "{degenerate} of {count} maps are zero everywhere: they say nothing about the network"
        ));
    }
    Ok(())
}
