//! `ticketlens compare`: runs side by side, matched by density.

use std::path::PathBuf;

use clap::Args;
use ticketlens::report::{Study, compare};

use crate::output;
use crate::report::{Format, load, records};

/// Compare finished runs, matched by density; with more than two, each beside the first
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
    /// Folders of more
    #[arg(value_name = "RUN")]
    more: Vec<PathBuf>,
    /// What to write
    #[arg(long, value_enum, default_value_t = Format::Markdown)]
    format: Format,
    /// Where to write it [default: the terminal]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let folders = [&arguments.first, &arguments.second].into_iter().chain(&arguments.more);
    let studies = folders.map(|folder| load(folder)).collect::<anyhow::Result<Vec<Study>>>()?;
    let text = match arguments.format {
        Format::Html => compare::html(&studies)?,
        Format::Markdown => compare::markdown(&studies)?,
        Format::Json => compare::json(&studies)?,
        Format::Csv => compare::csv(&studies)?,
    };
    let folders = [&arguments.first, &arguments.second].into_iter().chain(&arguments.more);
    output::deliver(arguments.out.as_deref(), &text, &records(folders.map(|folder| folder.as_path())))
}
