//! `ticketlens sweep unit`: one unit, in a process of its own.

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use ticketlens::error::Error;
use ticketlens::records::SweepStore;
use ticketlens::run::{Options, unit};

use super::slurm;
use crate::args::open_device;
use crate::progress::{INTERRUPTED_CODE, INTERRUPTED_TEXT, Progress, interrupt_once};
use crate::terminal;

/// Nothing in these is a plan's text: numbers, and the sweep's folder.
#[derive(Args)]
pub(super) struct Arguments {
    /// Folder of the sweep
    #[arg(value_name = "SWEEP")]
    sweep: PathBuf,
    /// Number of the unit, or of the entry in the batch
    #[arg(value_name = "NUMBER")]
    number: usize,
    /// Take the unit from a batch
    #[arg(long)]
    batch: Option<usize>,
    /// End when stdin ends: whoever holds it is gone
    #[arg(long)]
    while_stdin: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let store = SweepStore::existing(&arguments.sweep)?;
    let units = store.units()?;
    let index = match arguments.batch {
        None => arguments.number,
        Some(batch) => {
            let entries = slurm::batch(&store, batch)?;
            *entries
                .get(arguments.number)
                .with_context(|| format!("batch {batch} has no entry {}", arguments.number))?
        }
    };
    let unit_of = units.units.get(index).with_context(|| format!("the sweep has no unit {index}"))?;
    let progress = Progress::new(&store.unit_path(&unit_of.id));
    let end = interrupt_once(&progress)?;
    if arguments.while_stdin {
        std::thread::spawn(move || {
            // Nothing is ever sent.
            let _ = std::io::stdin().lock().read(&mut [0]);
            end();
        });
    }
    let make = || -> anyhow::Result<()> {
        let plan = store.sweep()?.plan(unit_of.point)?;
        let compute = open_device(&units.device, plan.device.precision)?;
        let options = Options {
            compute,
            allow_mixed: units.allow_mixed,
            keep_every: Duration::from_secs(5),
            ..Options::default()
        };
        Ok(unit(&store, &units, index, &options, &progress)?)
    };
    let made = make();
    progress.finish();
    match made {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) if matches!(error.downcast_ref(), Some(Error::Interrupted)) => {
            terminal::error(INTERRUPTED_TEXT);
            Ok(ExitCode::from(INTERRUPTED_CODE))
        }
        Err(error) => {
            store.fail(&unit_of.id, &terminal::with_causes(&error))?;
            Err(error)
        }
    }
}
