//! `ticketlens run --dry-run`: what a plan will take.

use std::path::Path;
use std::time::Duration;

use indicatif::{HumanBytes, HumanDuration};
use ticketlens::nn::Compute;
use ticketlens::plan::Plan;
use ticketlens::progress::Observer;
use ticketlens::run::estimate;

use crate::terminal;

/// Prints networks, time, memory and disk.
pub(crate) fn say(plan: &Plan, out: &Path, compute: &Compute, observer: &dyn Observer) -> anyhow::Result<()> {
    let of = estimate(plan, compute, observer)?;
    let seconds = of.train_seconds + of.explain_seconds;
    let training = 100.0 * of.train_seconds / seconds.max(f64::MIN_POSITIVE);
    let duration = HumanDuration(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX));
    terminal::say(&format!("networks  {}, {} optimiser steps", of.networks, terminal::thousands(of.steps as usize)));
    terminal::say(&format!("time      at most about {duration} ({training:.0} % training), were all networks dense"));
    match peak_memory() {
        Some(bytes) => terminal::say(&format!("memory    about {}", HumanBytes(bytes + of.beside_bytes))),
        None => terminal::say("memory    not known on this system"),
    }
    terminal::say(&format!("disk      about {} in {}", HumanBytes(of.disk_bytes), out.display()));
    Ok(())
}

/// The most memory that this process has had, where the system tells.
pub(crate) fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}
