//! `ticketlens sweep status`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use super::Job;
use crate::terminal;

/// Failures that are told one by one.
const TOLD: usize = 20;

/// Prints how many units are in which state, and why units failed.
pub(super) fn status(job: &Job) -> anyhow::Result<ExitCode> {
    let active = (job.engine.active)(job)?;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut failures = Vec::new();
    for (index, unit) in job.units.units.iter().enumerate() {
        let failure = || job.store.failure(&unit.id);
        let state = if job.store.is_done(&unit.id) {
            "finished"
        } else if let Some(state) = active.get(&index) {
            state
        } else if let Some(why) = failure() {
            failures.push(format!("unit {} ({}): {}", unit.id, job.title(index), why.trim()));
            "failed"
        } else {
            "not started, cancelled or lost"
        };
        *counts.entry(state).or_default() += 1;
    }
    terminal::say(&format!("{} units by {}", job.units.units.len(), job.engine.name));
    for (state, count) in counts {
        terminal::say(&format!("{count:>8}  {state}"));
    }
    for line in failures.iter().take(TOLD) {
        terminal::say(line);
    }
    if failures.len() > TOLD {
        terminal::say(&format!("and {} more failed", failures.len() - TOLD));
    }
    if !failures.is_empty() {
        terminal::say("`sweep retry --failed` runs them again");
    }
    Ok(ExitCode::SUCCESS)
}
