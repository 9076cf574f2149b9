//! `ticketlens compare`: runs side by side, matched by density.

use std::path::PathBuf;

use clap::Args;
use ticketlens::report::{Study, compare, side_by_side};

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
    let text = match (arguments.format, studies.as_slice()) {
        (Format::Html, [first, second]) => compare::html(first, second)?,
        (Format::Markdown, [first, second]) => compare::markdown(first, second)?,
        (Format::Json, [first, second]) => compare::json(first, second)?,
        (Format::Csv, [first, second]) => compare::csv(first, second)?,
        (Format::Html, all) => side_by_side::html(all)?,
        (Format::Markdown, all) => side_by_side::markdown(all)?,
        (Format::Json, all) => side_by_side::json(all)?,
        (Format::Csv, all) => side_by_side::csv(all)?,
    };
    let folders = [&arguments.first, &arguments.second].into_iter().chain(&arguments.more);
    output::deliver(arguments.out.as_deref(), &text, &records(folders.map(|folder| folder.as_path())))
}
