//! `ticketlens record`: what a dense model and its floor explain, recorded as the reference of `drift`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use clap::Args;
use ticketlens::input;
use ticketlens::records::reference::{ReferenceRecord, Setting};
use ticketlens::study::gate::Dense;
use ticketlens::study::gate::recorded::{self, changes, image_set};

use crate::sets::{SetArguments, Told};
use crate::{output, terminal};

/// Exit code when a record would change.
const CHANGED: u8 = 1;

/// Record what a dense model and its floor explain: the reference of `drift`, without their checkpoints
///
/// Writes OUT.json and, beside it, OUT.safetensors with maps and predictions. Where the record is
/// there already and says otherwise, what changed is shown and nothing is written: --accept
/// replaces it. Exit code 0: written, or unchanged; 1: it would change; 2: bad input.
#[derive(Args)]
#[command(after_help = "Example:
  ticketlens record --checkpoint dense.pth --floor seed1.pth seed2.pth seed3.pth --images val.safetensors:images \\
    --labels val.safetensors:labels --out explanations.json")]
pub(crate) struct Arguments {
    /// The dense checkpoint
    #[arg(long, value_name = "CKPT")]
    checkpoint: PathBuf,
    /// Dense checkpoints of other seeds, best three or more: the noise floor
    #[arg(long, value_name = "CKPT", num_args = 1..)]
    floor: Vec<PathBuf>,
    /// The record to write
    #[arg(long, value_name = "FILE.json")]
    out: PathBuf,
    /// Replace a record that says otherwise
    #[arg(long)]
    accept: bool,
    #[command(flatten)]
    sets: SetArguments,
}

/// The tensors' file of a record.
pub(crate) fn tensors_of(record: &Path) -> PathBuf {
    record.with_extension("safetensors")
}

/// Bytes of a record, and of its tensors: maps of tens of thousands of images by a hundred networks.
const LONGEST: u64 = 1 << 30;
const LONGEST_TENSORS: u64 = 64 << 30;

/// Reads a record and its tensors.
pub(crate) fn read(path: &Path) -> anyhow::Result<(ReferenceRecord, Dense)> {
    let bytes = input::read(path, LONGEST)?;
    let record = ReferenceRecord::from_bytes(&bytes).with_context(|| path.display().to_string())?;
    let beside = tensors_of(path);
    let tensors = input::read(&beside, LONGEST_TENSORS)?;
    let dense = recorded::dense(&record, &tensors).with_context(|| beside.display().to_string())?;
    Ok((record, dense))
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (json, beside) = (&arguments.out, tensors_of(&arguments.out));
    ensure!(*json != beside, "--out: {} would be the tensors' file: give another ending", json.display());
    let read_files =
        arguments.sets.inputs([&arguments.checkpoint].into_iter().chain(&arguments.floor).map(PathBuf::as_path));
    for out in [json, &beside] {
        read_files.check(out).context("--out")?;
    }
    let before = if json.exists() { Some(read(json).context("--out")?) } else { None };
    ensure!(
        before.is_some() || arguments.accept || !beside.exists(),
        "--out: {} is there already and of no record: give another name, or --accept to replace it",
        beside.display()
    );
    let told = arguments.sets.dense(&arguments.checkpoint, &arguments.floor, &[])?;
    told.bar.finish_and_clear();
    let (record, tensors) = made(arguments, &told)?;
    if let Some((old, was)) = &before {
        let lines = changes((old, was), (&record, &told.dense))?;
        if lines.is_empty() && old.tensors == record.tensors {
            terminal::say(&format!("{}: unchanged", json.display()));
            return Ok(ExitCode::SUCCESS);
        }
        terminal::say(&format!("{}: changed", json.display()));
        lines.iter().for_each(|line| terminal::say(&format!("  {line}")));
        if !arguments.accept {
            terminal::say("nothing was written: --accept replaces the record");
            return Ok(ExitCode::from(CHANGED));
        }
    }
    // Both are written before either gets its name.
    let (mut first, mut second) =
        (output::create("--out", &beside, &read_files)?, output::create("--out", json, &read_files)?);
    first.write_at(0, &tensors)?;
    second.write_at(0, &record.to_bytes()?)?;
    first.finish()?;
    second.finish()?;
    let (images, floor) = (told.dense.images.len(), told.dense.floor.len());
    terminal::say(&format!("{}: reference and {floor} floor networks on {images} images", json.display()));
    if floor < 3 {
        terminal::warn("fewer than three floor networks hardly tell how far retrained networks differ");
    }
    Ok(ExitCode::SUCCESS)
}

fn made(arguments: &Arguments, told: &Told) -> anyhow::Result<(ReferenceRecord, Vec<u8>)> {
    let Some(images) = &arguments.sets.images else { bail!("--images: missing") };
    let setting = Setting {
        stage: told.stage,
        tested: told.classes.to_string(),
        batch: told.batch,
        preparation: arguments.sets.preparation.said(),
    };
    let concepts = told.sets.concepts.iter().zip(&arguments.sets.concept);
    let concepts =
        concepts.map(|((name, source), named)| Ok((name.clone(), image_set(source, &named.images, told.batch)?)));
    let random = told.sets.random.iter().zip(&arguments.sets.random);
    let sets = recorded::Sets {
        images: image_set(&told.sets.images, images, told.batch)?,
        concepts: concepts.collect::<anyhow::Result<_>>()?,
        random: random.map(|(source, name)| Ok(image_set(source, name, told.batch)?)).collect::<anyhow::Result<_>>()?,
    };
    Ok(recorded::record(&told.dense, &told.weights, told.checkpoint.model.classes, setting, sets)?)
}
