//! `ticketlens compare`: two runs side by side, matched by density.

use std::path::PathBuf;

use clap::Args;
use ticketlens::experiment::write_atomically;
use ticketlens::report::compare;

use crate::report::{Format, load};
use crate::terminal;

/// Compare two finished runs, matched by density
///
/// Example: ticketlens compare runs/quick-1a2b3c4d runs/other-5e6f7a8b --format html --out compare.html
#[derive(Args)]
pub(crate) struct Arguments {
    /// Folder of one run
    #[arg(value_name = "RUN_A")]
    first: PathBuf,
    /// Folder of the other
    #[arg(value_name = "RUN_B")]
    second: PathBuf,
    /// What to write
    #[arg(long, value_enum, default_value_t = Format::Markdown)]
    format: Format,
    /// Where to write it [default: the terminal]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let (first, second) = (load(&arguments.first)?, load(&arguments.second)?);
    let text = match arguments.format {
        Format::Html => compare::html(&first, &second)?,
        Format::Markdown => compare::markdown(&first, &second)?,
        Format::Json => compare::json(&first, &second)?,
        Format::Csv => compare::csv(&first, &second)?,
    };
    match &arguments.out {
        Some(out) => write_atomically(out, text.as_bytes())?,
        None => terminal::say(text.trim_end()),
    }
    Ok(())
}
