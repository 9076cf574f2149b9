//! `ticketlens barriers`: whether networks of a run are linearly connected.

use std::ops::ControlFlow;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use ticketlens::input;
use ticketlens::progress::{Event, Observer};
use ticketlens::records::{BarriersRecord, Store};
use ticketlens::report::barriers as shown;
use ticketlens::run::barriers;

use crate::report::records;
use crate::{output, terminal};

/// Error barriers on the straight lines between the networks of a run
///
/// Evaluates networks on the line between the weights of two trained ones: a ticket and itself
/// trained again with another data order (the plan's arm `retrained`; for the dense network its
/// first twin), and the tickets of successive rounds. The barrier is how far test errors rise above
/// the line between those of the ends (Frankle et al. 2020; Paul et al. 2023). Batch-norm
/// statistics are taken anew at every point. Nothing in the run changes.
///
/// Example: ticketlens barriers runs/instability-1a2b3c4d --format svg --out barriers.svg
#[derive(Args)]
pub(crate) struct Arguments {
    /// Folder of a finished run, or the file that `--format json` wrote of one, to show it otherwise
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Networks on each line, ends included [default: 11]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(3..))]
    points: Option<u16>,
    /// Where the data are now, if not where the plan says
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// What to write
    #[arg(long, value_enum, default_value_t = Format::Markdown)]
    format: Format,
    /// Where to write it [default: the terminal]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Networks on each line where none are named, as in Frankle et al. 2020 and Paul et al. 2023.
const POINTS: usize = 11;
/// Bytes of a record that is read again.
const LONGEST: u64 = 1 << 26;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A table by density
    Markdown,
    /// Every line with all its errors, versioned
    Json,
    /// The table for other programs
    Csv,
    /// The figure
    Svg,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut inputs = records([arguments.run.as_path()]);
    inputs.add(&arguments.run);
    let record = if arguments.run.is_file() { written(arguments)? } else { computed(arguments)? };
    let text = match arguments.format {
        Format::Markdown => shown::markdown(&record),
        Format::Json => serde_json::to_string_pretty(&record)? + "\n",
        Format::Csv => shown::csv(&record),
        Format::Svg => shown::svg(&record),
    };
    output::deliver(arguments.out.as_deref(), &text, &inputs)
}

fn computed(arguments: &Arguments) -> anyhow::Result<BarriersRecord> {
    let store = Store::existing(&arguments.run)?;
    let mut plan = store.plan()?;
    plan.data.path = arguments.data.clone().or(plan.data.path);
    let lines = Lines(terminal::bar_of("barriers", "lines", 0));
    let record = barriers(&plan, &store, arguments.points.map_or(POINTS, usize::from), &lines)?;
    lines.0.finish_and_clear();
    Ok(record)
}

/// What `--format json` wrote.
fn written(arguments: &Arguments) -> anyhow::Result<BarriersRecord> {
    let path = &arguments.run;
    let name = || path.display().to_string();
    if arguments.points.is_some() || arguments.data.is_some() {
        anyhow::bail!(
            "{}: is a file, of which nothing is computed: --points and --data need the folder of the run",
            name()
        );
    }
    let record: BarriersRecord = serde_json::from_slice(&input::read(path, LONGEST)?).with_context(name)?;
    record.check().with_context(name)?;
    Ok(record)
}

/// A bar over the lines.
struct Lines(ProgressBar);

impl Observer for Lines {
    fn notice(&self, event: &Event) -> ControlFlow<()> {
        if let Event::Part { done, of } = event {
            self.0.set_length(*of as u64);
            self.0.set_position(*done as u64);
        }
        ControlFlow::Continue(())
    }
}
