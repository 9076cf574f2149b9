//! `ticketlens prune`.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Context;
use candle_core::{DType, Device, Tensor};
use clap::Args;
use ticketlens::model::TensorFile;
use ticketlens::prune::{Scope, densities, prunable_tensors, prune_levels};

use crate::args::inputs;
use crate::output::{TensorWriter, create};
use crate::terminal::{self, thousands};

/// Masks of iterative magnitude pruning
///
/// Writes the tensors `mask/LEVEL/NAME` (u8, 1 keeps), LEVEL from 1; each level is nested in the
/// one before. Of a checkpoint the convolution and linear weights are pruned; of any other file
/// every floating-point tensor of 2 or 4 dimensions.
#[derive(Args)]
#[command(after_help = "Example:
  ticketlens prune --weights resnet18.pth --scope global --fraction 0.2 --levels 3 \\
    --exclude conv1,fc --sparsity-report --out masks.safetensors")]
pub(crate) struct Arguments {
    /// Checkpoint or file of tensors: .safetensors, .pth or .pt
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    /// Over what weights compete: `global`, the whole network, or `layerwise`, each layer by itself
    #[arg(long, value_parser = parse_scope, default_value = "global")]
    scope: Scope,
    /// Share of the remaining weights that each level takes, between 0 and 1
    #[arg(long, value_name = "X", value_parser = parse_fraction)]
    fraction: f64,
    /// How many times
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    levels: u16,
    /// Weights or layers to leave out, of both the count and the cut
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    exclude: Vec<String>,
    /// Print the density of each layer at each level
    #[arg(long)]
    sparsity_report: bool,
    /// Safetensors file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

fn parse_scope(text: &str) -> Result<Scope, String> {
    Scope::from_str(text).map_err(|error| error.to_string())
}

fn parse_fraction(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(fraction) if fraction > 0.0 && fraction < 1.0 => Ok(fraction),
        _ => Err("not a number between 0 and 1".into()),
    }
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let read = inputs([arguments.weights.as_path()], &[]);
    read.check(&arguments.out).context("--out")?;
    let file = TensorFile::open(&arguments.weights)?;
    let tensors = prunable_tensors(&file, &arguments.exclude)?;
    let levels = prune_levels(&tensors, arguments.scope, arguments.fraction, arguments.levels.into())?;
    let name = |level: usize, name: &str| format!("mask/{}/{name}", level + 1);
    let announced: Vec<_> = (0..levels.len())
        .flat_map(|level| tensors.iter().map(move |tensor| (level, tensor)))
        .map(|(level, tensor)| (name(level, &tensor.name), DType::U8, tensor.shape.clone()))
        .collect();
    let mut writer = TensorWriter::new(create("--out", &arguments.out, &read)?, &announced)?;
    for (level, masks) in levels.iter().enumerate() {
        for (tensor, mask) in tensors.iter().zip(masks) {
            let mask = Tensor::from_slice(mask, mask.len(), &Device::Cpu)?;
            writer.append(&name(level, &tensor.name), &mask)?;
        }
    }
    writer.finish()?;
    terminal::delivered();

    let total: usize = tensors.iter().map(|tensor| tensor.values.count()).sum();
    let zeros: usize = tensors.iter().map(|tensor| tensor.values.zeros()).sum();
    if zeros > 0 {
        terminal::warn(&format!(
            "{} of {} weights are zero already: they count as weights that remain, and go first",
            thousands(zeros),
            thousands(total)
        ));
    }
    let mut before = total;
    for (level, masks) in levels.iter().enumerate() {
        let layers = densities(&tensors, masks);
        let kept: usize = layers.iter().map(|layer| layer.kept).sum();
        if kept == before {
            let what = "takes no weight: the fraction of those that remain is less than half of one";
            terminal::warn(&format!("level {} {what}", level + 1));
        }
        before = kept;
    }
    if let Some(last) = levels.last() {
        let layers = densities(&tensors, last);
        for layer in layers.iter().filter(|layer| layer.kept == 0 && layer.total > 0) {
            terminal::warn(&format!("{} is empty at level {}: nothing passes through it", layer.name, levels.len()));
        }
    }
    let longest = tensors.iter().map(|tensor| tensor.name.len()).max().unwrap_or(0);
    for (level, masks) in levels.iter().enumerate() {
        let layers = densities(&tensors, masks);
        let kept: usize = layers.iter().map(|layer| layer.kept).sum();
        let total: usize = layers.iter().map(|layer| layer.total).sum();
        let line = |name: &str, kept: usize, total: usize| {
            let density = kept as f64 / total.max(1) as f64;
            terminal::say(&format!("{name}  {density:>8.5}  {:>12} of {:>12}", thousands(kept), thousands(total)));
        };
        line(&format!("{:<width$}", format!("level {}", level + 1), width = longest + 2), kept, total);
        if arguments.sparsity_report {
            layers.iter().for_each(|layer| line(&format!("  {:<longest$}", layer.name), layer.kept, layer.total));
        }
    }
    Ok(())
}
