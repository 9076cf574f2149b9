//! `ticketlens data`: what is built in, and what a folder holds.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::{Args, Subcommand};
use ticketlens::data::{Dataset, Family, Origin, builtin_mnist, cub, idx};
use ticketlens::error::Error;

use crate::terminal;

/// What data are built in, and whether a folder holds what it should
///
/// Example: ticketlens data cub CUB_200_2011
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Subcommand)]
enum What {
    /// A folder of MNIST's IDX files, raw or gzip
    Mnist { folder: PathBuf },
    /// A folder of Fashion-MNIST's IDX files, raw or gzip
    Fashion { folder: PathBuf },
    /// A folder in CUB-200-2011's layout; decodes every photograph and lists every fault
    Cub { folder: PathBuf },
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.what {
        None => {
            terminal::say("built in: MNIST digits (LeCun, Cortes, Burges; CC BY-SA 3.0)");
            describe(&builtin_mnist()?);
            terminal::say("by path: `data mnist FOLDER`, `data fashion FOLDER`, `data cub FOLDER`");
        }
        Some(What::Mnist { folder }) => describe(&idx::read_folder(folder, Family::Mnist)?),
        Some(What::Fashion { folder }) => describe(&idx::read_folder(folder, Family::Fashion)?),
        Some(What::Cub { folder }) => describe_cub(folder)?,
    }
    Ok(())
}

fn describe(data: &Dataset) {
    let count = |origin| data.origins().iter().filter(|found| **found == origin).count();
    let (channels, height, width) = data.shape();
    terminal::say(&format!(
        "{} images of {channels} x {height} x {width}: {} training, {} test; {} classes",
        terminal::thousands(data.len()),
        terminal::thousands(count(Origin::Train)),
        terminal::thousands(count(Origin::Test)),
        data.fine().classes()
    ));
    for (class, name) in data.fine().names().iter().enumerate() {
        let images = data.fine().values().iter().filter(|value| **value as usize == class).count();
        terminal::say(&format!("  {name:<12} {:>7}", terminal::thousands(images)));
    }
}

fn describe_cub(folder: &Path) -> anyhow::Result<()> {
    let birds = match cub::read_cub(folder) {
        // The photographs are looked at all the same, so that one call tells everything.
        Err(Error::Faults { subject, mut faults }) => {
            faults.extend(cub::picture_faults(folder));
            return Err(Error::Faults { subject, faults }.into());
        }
        other => other?,
    };
    let check = birds.check_pictures();
    if !check.faults.is_empty() {
        bail!("{} faults in {}: {}", check.faults.len(), folder.display(), check.faults.join("; "));
    }
    let training = birds.images().iter().filter(|image| image.train).count();
    terminal::say(&format!(
        "{} images, {} classes, {}/{} training/test, {} concepts after denoising",
        terminal::thousands(birds.images().len()),
        birds.class_names().len(),
        terminal::thousands(training),
        terminal::thousands(birds.images().len() - training),
        birds.denoised().len()
    ));
    match check.cut_boxes.len() {
        0 => terminal::say("boxes inside images: all"),
        cut => terminal::say(&format!("boxes inside images: all but {cut}, which are cut at the edge")),
    }
    Ok(())
}
