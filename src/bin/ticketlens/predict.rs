//! `ticketlens predict`.

use std::path::PathBuf;

use anyhow::Context;
use candle_core::{DType, Tensor};
use clap::Args;
use ticketlens::explain::{Targets, activation_shape, explain_in_batches, logits_in_batches};
use ticketlens::model::Stage;
use ticketlens::nn::predicted_class;

use crate::args::{ImageArguments, ModelArguments, inputs, open_checkpoint, parse_stage, say_assumed, stage_of};
use crate::output::{TensorWriter, create};
use crate::terminal;

/// Logits of a checkpoint; with a stage also its activations and the gradients of a class logit
///
/// Writes the tensor `logits` (N, K), and with --stage and --class also `activation` and `gradient` (N, C, H, W).
#[derive(Args)]
#[command(after_help = "Example:
  ticketlens predict --checkpoint resnet18.pth --images photos/ --preset imagenet --out logits.safetensors")]
pub(crate) struct Arguments {
    /// Checkpoint with PyTorch names: .safetensors, .pth or .pt
    #[arg(long, value_name = "CKPT")]
    checkpoint: PathBuf,
    /// FILE.safetensors:KEY, a .npy file, a folder of PNG and JPEG files, or an IDX file
    #[arg(long)]
    images: String,
    /// Also write activations and gradients at the output of this module, by its PyTorch name, such
    /// as layer3 or features.21
    #[arg(long, value_parser = parse_stage, requires = "class")]
    stage: Option<Stage>,
    /// The class whose logit the gradient is of, counted from 0
    #[arg(long, value_name = "K", requires = "stage")]
    class: Option<usize>,
    /// Safetensors file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    preparation: ImageArguments,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let read = inputs([arguments.checkpoint.as_path()], &[&arguments.images]);
    read.check(&arguments.out).context("--out")?;
    let compute = arguments.preparation.compute()?;
    let checkpoint = open_checkpoint(&arguments.checkpoint, arguments.model, arguments.class, &compute)?;
    let source = arguments.preparation.open(&arguments.images, &checkpoint)?;
    let (count, classes) = (source.len(), checkpoint.model.classes);
    let stage = stage_of(arguments.stage, &checkpoint.model)?;
    let shape = activation_shape(&checkpoint, &source, stage)?;
    let mut tensors = vec![("logits".to_owned(), DType::F32, vec![count, classes])];
    if arguments.stage.is_some() {
        for name in ["activation", "gradient"] {
            tensors.push((name.into(), DType::F32, vec![count, shape.channels, shape.height, shape.width]));
        }
    }
    let mut writer = TensorWriter::new(create("--out", &arguments.out, &read)?, &tensors)?;

    let bar = terminal::bar("predicting", count);
    let mut predicted = vec![0; classes];
    let mut logits_done = |writer: &mut TensorWriter, logits: &Tensor| -> anyhow::Result<()> {
        writer.append("logits", logits)?;
        for row in logits.to_vec2::<f32>()? {
            predicted[predicted_class(&row)] += 1;
            bar.inc(1);
        }
        Ok(())
    };
    let batch = arguments.preparation.batch;
    match (arguments.stage, arguments.class) {
        (Some(stage), Some(class)) => {
            for explained in explain_in_batches(&checkpoint, &source, stage, Targets::Class(class), batch)? {
                let explained = explained?;
                logits_done(&mut writer, &explained.logits)?;
                writer.append("activation", &explained.activation)?;
                writer.append("gradient", &explained.gradient)?;
            }
        }
        _ => {
            for logits in logits_in_batches(&checkpoint, &source, batch)? {
                logits_done(&mut writer, &logits?.1)?;
            }
        }
    }
    bar.finish_and_clear();
    writer.finish()?;
    terminal::delivered();

    terminal::say(&format!(
        "{} images through {} into {}",
        terminal::thousands(count),
        checkpoint.model.name,
        arguments.out.display()
    ));
    say_assumed(&checkpoint.model);
    for (class, images) in predicted.iter().enumerate().filter(|(_, images)| **images > 0) {
        terminal::say(&format!("class {class:>3}  {:>8} images", terminal::thousands(*images)));
    }
    Ok(())
}
