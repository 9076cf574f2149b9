//! Units as processes of this machine, so many at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use ticketlens::progress::{Event, Observer};
use ticketlens::records::Store;

use super::{Engine, Job, Script, aggregate};
use crate::progress::INTERRUPTED_CODE;
use crate::{signals, terminal};

pub(super) const LOCAL: Engine = Engine { name: "local", start, scripts, active, cancel };

/// Between two looks at the processes.
const TICK: Duration = Duration::from_millis(50);
/// What a unit that is to end may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Whoever writes this file into the sweep's folder ends the sweep, from whatever machine.
const CANCEL: &str = "cancel";

/// Set by Ctrl-C and its kin.
static STOP: AtomicBool = AtomicBool::new(false);

/// Breaks off once [`STOP`] is set.
struct Stop;

impl Observer for Stop {
    fn notice(&self, _: &Event) -> ControlFlow<()> {
        if STOP.load(Ordering::SeqCst) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// How many units at a time, and the threads of each.
fn shares(job: &Job) -> (usize, usize) {
    let threads = rayon::current_num_threads();
    let jobs = job.jobs.map_or((threads / 2).max(1), usize::from);
    (jobs, (threads / jobs).max(1))
}

/// The process of a unit. It ends when its stdin does, which is when this process ends, however that is.
fn command(job: &Job, unit: usize) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("this program is not found")?);
    let (_, threads) = shares(job);
    command.args(["--threads", &threads.to_string(), "sweep", "unit", "--while-stdin", "--"]);
    command.arg(job.store.root()).arg(unit.to_string());
    Ok(command)
}

fn log_path(job: &Job, unit: usize) -> PathBuf {
    job.store.root().join("logs").join(format!("{}.txt", job.units.units[unit].id))
}

struct Running {
    unit: usize,
    process: Child,
    since: Instant,
}

fn spawn(job: &Job, unit: usize) -> anyhow::Result<Running> {
    let path = log_path(job, unit);
    let name = || path.display().to_string();
    std::fs::create_dir_all(job.store.root().join("logs")).with_context(name)?;
    let log = File::options().create(true).append(true).open(&path).with_context(name)?;
    let errors = log.try_clone().with_context(name)?;
    let mut command = command(job, unit)?;
    let process = command.stdin(Stdio::piped()).stdout(log).stderr(errors).spawn();
    Ok(Running { unit, process: process.context("a unit's process cannot be started")?, since: Instant::now() })
}

fn start(job: &Job, units: &[usize]) -> anyhow::Result<ExitCode> {
    let cancel = job.store.root().join(CANCEL);
    let _ = std::fs::remove_file(&cancel);
    signals::on_end(|| {
        if STOP.swap(true, Ordering::SeqCst) {
            // The units see their stdin end.
            std::process::exit(INTERRUPTED_CODE.into());
        }
    })?;
    let (jobs, _) = shares(job);
    let mut waiting: Vec<usize> = units.to_vec();
    let mut failed: BTreeSet<usize> = BTreeSet::new();
    let mut running: Vec<Running> = Vec::new();
    let mut finished = job.units.units.len() - units.len();
    loop {
        let mut at = 0;
        while at < running.len() {
            match running[at].process.try_wait().context("a unit's process is lost")? {
                None => at += 1,
                Some(status) => {
                    let done = running.swap_remove(at);
                    if ended(job, &done, status)? {
                        finished += 1;
                        let seconds = done.since.elapsed().as_secs_f64();
                        let of = job.units.units.len();
                        terminal::note(&format!("{finished}/{of} {} {seconds:.1} s", job.title(done.unit)));
                    } else {
                        failed.insert(done.unit);
                    }
                }
            }
        }
        if STOP.load(Ordering::SeqCst) || cancel.exists() {
            end(running);
            let _ = std::fs::remove_file(&cancel);
            terminal::error("interrupted; the same command goes on with what is not finished");
            return Ok(ExitCode::from(INTERRUPTED_CODE));
        }
        let needs = |unit: usize| job.units.units[unit].needs;
        waiting.retain(|&unit| {
            let blocked = needs(unit).is_some_and(|needs| failed.contains(&needs));
            if blocked {
                failed.insert(unit);
            }
            !blocked
        });
        while running.len() < jobs {
            let ready = |&unit: &usize| needs(unit).is_none_or(|needs| job.store.is_done(&job.units.units[needs].id));
            // What another process makes is waited for last.
            let free = |unit: &usize| ready(unit) && !Store::is_busy(&job.store.unit_path(&job.units.units[*unit].id));
            let place = waiting.iter().position(free).or_else(|| waiting.iter().position(ready));
            let Some(place) = place else { break };
            running.push(spawn(job, waiting.remove(place))?);
        }
        if running.is_empty() {
            break;
        }
        std::thread::sleep(TICK);
    }
    let said = aggregate(&job.store, &job.units, &Stop);
    if STOP.load(Ordering::SeqCst) {
        terminal::error("interrupted; `sweep aggregate` puts together what is finished");
        return Ok(ExitCode::from(INTERRUPTED_CODE));
    }
    match failed.len() + waiting.len() {
        0 => said,
        bad => bail!(
            "{}: {bad} units failed or wait for one that did; `sweep status` says why, `sweep retry --failed` goes on",
            job.store.root().display()
        ),
    }
}

/// Whether a unit that has ended is finished; else why not is noted.
fn ended(job: &Job, done: &Running, status: ExitStatus) -> anyhow::Result<bool> {
    let id = &job.units.units[done.unit].id;
    if job.store.is_done(id) {
        return Ok(true);
    }
    if job.store.failure(id).is_none() && !STOP.load(Ordering::SeqCst) {
        let log = log_path(job, done.unit);
        job.store.fail(id, &format!("the process ended ({status}); its log is {}", log.display()))?;
    }
    if let Some(why) = job.store.failure(id) {
        terminal::warn(&format!("{}: {why}", job.title(done.unit)));
    }
    Ok(false)
}

/// Ends units: they keep what they have at their next step.
fn end(mut running: Vec<Running>) {
    for unit in &mut running {
        drop(unit.process.stdin.take());
    }
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until && running.iter_mut().any(|unit| matches!(unit.process.try_wait(), Ok(None))) {
        std::thread::sleep(TICK);
    }
    for mut unit in running {
        let _ = unit.process.kill();
        let _ = unit.process.wait();
    }
}

fn scripts(job: &Job, units: &[usize]) -> anyhow::Result<Vec<Script>> {
    let (jobs, threads) = shares(job);
    let mut text = String::new();
    for &unit in units {
        text += &format!("{}  {}\n", job.units.units[unit].id, job.title(unit));
    }
    let title = format!("{jobs} processes at a time, {threads} threads each, units in this order");
    Ok(vec![Script { title, text }])
}

fn active(job: &Job) -> anyhow::Result<BTreeMap<usize, &'static str>> {
    let busy = |unit: &usize| Store::is_busy(&job.store.unit_path(&job.units.units[*unit].id));
    Ok(job.unfinished().into_iter().filter(busy).map(|unit| (unit, "running")).collect())
}

fn cancel(job: &Job) -> anyhow::Result<()> {
    let path = job.store.root().join(CANCEL);
    std::fs::write(&path, "").with_context(|| path.display().to_string())
}
