//! `ticketlens verify`: whether a run is as it was written, and its records true of its networks.

use std::path::PathBuf;

use clap::Args;
use ticketlens::progress::Silent;
use ticketlens::records::Store;
use ticketlens::run::recompute;

use crate::terminal;

/// Check a run: every file against its record, and every record against its network
///
/// Names each file that is damaged, missing, or of another run or round; exits 2 if there is one.
/// `run` with the same plan sets such files aside and makes them again.
///
/// Example: ticketlens verify runs/quick-1a2b3c4d
#[derive(Args)]
pub(crate) struct Arguments {
    /// Folder of a run
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Check hashes alone: no network computes anything again
    #[arg(long)]
    hashes_only: bool,
    /// Where the data are now, if not where the plan says
    #[arg(long, value_name = "DIR", conflicts_with = "hashes_only")]
    data: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let name = arguments.run.display();
    let store = Store::existing(&arguments.run)?;
    let found = store.inspect()?;
    found.faults.iter().for_each(|fault| terminal::say(fault));
    if !found.faults.is_empty() {
        let count = found.faults.len();
        let faults = if count == 1 { "1 fault".into() } else { format!("{count} faults") };
        anyhow::bail!("{name}: {faults} among {} records and {} files", found.records, found.files);
    }
    let missing = match found.unfinished {
        0 => String::new(),
        count => format!("; {count} networks are not finished"),
    };
    terminal::say(&format!("{} records and {} files are as they were written{missing}", found.records, found.files));
    if arguments.hashes_only {
        return Ok(());
    }
    let mut plan = store.plan()?;
    plan.data.path = arguments.data.clone().or(plan.data.path);
    let again = recompute(&plan, &store, &Silent)?;
    again.faults.iter().for_each(|fault| terminal::say(fault));
    if !again.faults.is_empty() {
        anyhow::bail!("{name}: {} faults among {} networks", again.faults.len(), again.networks);
    }
    let equal = if again.exact { "equal" } else { "equal but for rounding (the run is of another machine)" };
    terminal::say(&format!(
        "{} networks computed again: masks, densities, pruned weights, answers on {} test images, {} maps: {equal}",
        again.networks, again.answers, again.maps
    ));
    Ok(())
}
