//! Units as job arrays of Slurm. Scripts hold numbers alone: jobs run in the sweep's folder, and
//! look up there what they are.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use ticketlens::nn::Compute;
use ticketlens::output::{self, Inputs};
use ticketlens::plan::Cluster;
use ticketlens::progress::Silent;
use ticketlens::records::{FORMAT, SweepStore};
use ticketlens::run::estimate;

use super::{Engine, Job, Script};
use crate::{dry_run, terminal};

pub(super) const SLURM: Engine = Engine { name: "slurm", start, scripts, active, cancel };

/// Entries of an array: Slurm's default for MaxArraySize is 1001.
const ARRAY: usize = 1000;
/// CPUs of a unit, where nothing else is said.
const CPUS: u16 = 2;
/// A unit's least memory, in MiB.
const LEAST_MEMORY: u64 = 1024;
/// The program, under a name that needs no quotes.
const PROGRAM: &str = "program";

/// The units of an array, in its order (`batches/N.json`).
#[derive(Serialize, Deserialize)]
struct Batch {
    format: u32,
    units: Vec<usize>,
}

/// A job that was submitted.
#[derive(Clone, Serialize, Deserialize)]
struct Submitted {
    /// Slurm's number.
    job: String,
    /// Its batch; none puts the sweep together.
    batch: Option<usize>,
}

/// All of them (`jobs.json`).
#[derive(Serialize, Deserialize)]
struct Jobs {
    format: u32,
    jobs: Vec<Submitted>,
}

/// One script, with what it waits for.
struct Prepared {
    batch: Option<usize>,
    wave: usize,
    units: Vec<usize>,
    text: String,
}

/// The units of a batch.
pub(super) fn batch(store: &SweepStore, number: usize) -> anyhow::Result<Vec<usize>> {
    let batch: Option<Batch> = store.read(&format!("batches/{number}.json"))?;
    Ok(batch.with_context(|| format!("{}: has no batch {number}", store.root().display()))?.units)
}

fn jobs(store: &SweepStore) -> anyhow::Result<Vec<Submitted>> {
    let jobs: Option<Jobs> = store.read("jobs.json")?;
    Ok(jobs.map(|jobs| jobs.jobs).unwrap_or_default())
}

/// What a unit asks for; what nobody has said follows from a few steps on this machine.
fn asked(job: &Job, units: &[usize]) -> anyhow::Result<Cluster> {
    let mut asked = job.cluster.clone();
    let cpus = *asked.cpus.get_or_insert(CPUS);
    if asked.time.is_some() && asked.memory.is_some() {
        return Ok(asked);
    }
    ensure!(job.units.device == "cpu", "--time and --memory: say both; steps on a GPU cannot be timed from here");
    // An arm trains more networks than a dense unit has.
    let costly = units.iter().rev().find(|&&unit| job.units.units[unit].part.arm.is_some()).or(units.first());
    let Some(unit) = costly.map(|&unit| &job.units.units[unit]) else { return Ok(asked) };
    let plan = job.sweep.plan(unit.point)?.unit(unit.part);
    let of = estimate(&plan, &Compute::Cpu, &Silent)?;
    let slower = (rayon::current_num_threads() as f64 / f64::from(cpus)).max(1.0);
    let minutes = (2.0 * slower * (of.train_seconds + of.explain_seconds) / 60.0).ceil() as u64 + 5;
    let memory = dry_run::peak_memory().map_or(0, |bytes| (bytes * 3 / 2) >> 20).max(LEAST_MEMORY);
    terminal::note(&format!(
        "a unit ({}) trains {} networks, on this machine in at most {:.0} s; asked for where nothing was said: {minutes} minutes, {memory} MiB",
        job.title(units.iter().copied().find(|&index| job.units.units[index] == *unit).unwrap_or(0)),
        of.networks,
        of.train_seconds + of.explain_seconds
    ));
    asked.time.get_or_insert(minutes.to_string());
    asked.memory.get_or_insert(format!("{memory}M"));
    Ok(asked)
}

/// The arrays, wave by wave, and the job that puts the sweep together.
fn all_scripts(job: &Job, units: &[usize]) -> anyhow::Result<Vec<Prepared>> {
    let first = jobs(&job.store)?.iter().filter_map(|job| job.batch).max().map_or(1, |last| last + 1);
    let mut scripts = Vec::new();
    let options = asked(job, units)?;
    for (wave, units) in job.waves(units).into_iter().enumerate() {
        for units in units.chunks(ARRAY) {
            let number = first + scripts.len();
            scripts.push(Prepared {
                batch: Some(number),
                wave,
                units: units.to_vec(),
                text: array(job, number, units.len(), &options)?,
            });
        }
    }
    let wave = scripts.last().map_or(0, |last| last.wave + 1);
    scripts.push(Prepared { batch: None, wave, units: Vec::new(), text: last(job, &options)? });
    Ok(scripts)
}

/// The first lines of a script.
fn head(job: &Job, options: &[String], more: &[String]) -> String {
    let folder = job.store.root().file_name().unwrap_or_default().to_string_lossy();
    let hash: String = folder.chars().rev().take(8).collect::<Vec<_>>().into_iter().rev().collect();
    let mut text = String::from("#!/bin/bash\n");
    let own = [format!("job-name=ticketlens-{hash}"), "output=/dev/null".into(), "requeue".into()];
    for option in own.iter().chain(more).chain(options) {
        // Writing to a string does not fail.
        let _ = writeln!(text, "#SBATCH --{option}");
    }
    text
}

fn array(job: &Job, number: usize, count: usize, cluster: &Cluster) -> anyhow::Result<String> {
    let limit = job.jobs.map_or(String::new(), |jobs| format!("%{jobs}"));
    let mut text = head(job, &cluster.options()?, &[format!("array=0-{}{limit}", count - 1)]);
    text += "# In the sweep's folder. No text of the plan stands here: a job finds its unit by number.\n";
    text += "exec >>\"logs/slurm-${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}.txt\" 2>&1 </dev/null\n";
    text += &format!(
        "exec ./{PROGRAM} --threads \"${{SLURM_CPUS_PER_TASK:-1}}\" sweep unit --batch {number} . \"$SLURM_ARRAY_TASK_ID\"\n"
    );
    Ok(text)
}

fn last(job: &Job, cluster: &Cluster) -> anyhow::Result<String> {
    let one = Cluster { cpus: None, gpus: None, ..cluster.clone() };
    let mut text = head(job, &one.options()?, &[]);
    text += "# In the sweep's folder: puts together what the arrays have made.\n";
    text += "exec >>\"logs/slurm-${SLURM_JOB_ID}.txt\" 2>&1 </dev/null\n";
    text += &format!("exec ./{PROGRAM} --threads 1 sweep aggregate .\n");
    Ok(text)
}

fn start(job: &Job, units: &[usize]) -> anyhow::Result<ExitCode> {
    let root = job.store.root();
    let active = active(job)?;
    ensure!(
        !units.iter().any(|unit| active.contains_key(unit)),
        "{}: {} units are in Slurm's queue already; `sweep cancel` takes them out, `sweep retry --failed` leaves them",
        root.display(),
        active.len()
    );
    std::fs::create_dir_all(root.join("logs")).with_context(|| root.display().to_string())?;
    let program = std::env::current_exe().context("this program is not found")?;
    link(&program, &root.join(PROGRAM))?;
    let mut submitted = jobs(&job.store)?;
    let mut waves: Vec<Vec<String>> = Vec::new();
    for script in all_scripts(job, units)? {
        let name = script.batch.map_or("last".to_owned(), |number| number.to_string());
        if script.batch.is_some() {
            job.store.write(&format!("batches/{name}.json"), &Batch { format: FORMAT, units: script.units })?;
        } else {
            std::fs::create_dir_all(root.join("batches")).with_context(|| root.display().to_string())?;
        }
        let path = format!("batches/{name}.sh");
        output::write(&root.join(&path), script.text.as_bytes(), &Inputs::none())?;
        let mut sbatch = Command::new("sbatch");
        sbatch.arg("--parsable").current_dir(root);
        // All before, since a unit may need one of any array of the wave before; afterany, so that
        // one that failed holds back none but those that need it.
        let before: Vec<String> = waves.iter().take(script.wave).flatten().cloned().collect();
        if !before.is_empty() {
            sbatch.arg(format!("--dependency=afterany:{}", before.join(":")));
        }
        let said = called(sbatch.arg(&path))?;
        let number = said.trim().split(';').next().unwrap_or_default().to_owned();
        ensure!(
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()),
            "sbatch: says `{}`",
            said.trim()
        );
        if waves.len() <= script.wave {
            waves.resize(script.wave + 1, Vec::new());
        }
        waves[script.wave].push(number.clone());
        submitted.push(Submitted { job: number, batch: script.batch });
        job.store.write("jobs.json", &Jobs { format: FORMAT, jobs: submitted.clone() })?;
    }
    let numbers: Vec<String> = waves.concat();
    terminal::say(&format!("submitted jobs {}; `sweep status` says how far they are", numbers.join(", ")));
    terminal::say(&format!("report {}, in the end", root.join("report.html").display()));
    Ok(ExitCode::SUCCESS)
}

/// A second name of the program in the sweep's folder; the old one makes room.
fn link(program: &Path, place: &Path) -> anyhow::Result<()> {
    let new = place.with_extension("new");
    let _ = std::fs::remove_file(&new);
    #[cfg(unix)]
    let made = std::os::unix::fs::symlink(program, &new);
    #[cfg(not(unix))]
    let made = std::fs::copy(program, &new).map(drop);
    made.and_then(|()| std::fs::rename(&new, place)).with_context(|| place.display().to_string())
}

/// What a command of Slurm's says.
fn called(command: &mut Command) -> anyhow::Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("{name}: is Slurm installed here?"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name}: {}", error.trim().replace('\n', "; "));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn scripts(job: &Job, units: &[usize]) -> anyhow::Result<Vec<Script>> {
    let titled = |script: Prepared| {
        let title = match script.batch {
            Some(number) => format!("batches/{number}.sh: {} units, after wave {}", script.units.len(), script.wave),
            None => "batches/last.sh, after all".to_owned(),
        };
        Script { title, text: script.text }
    };
    Ok(all_scripts(job, units)?.into_iter().map(titled).collect())
}

/// Jobs of this sweep that Slurm still has: number, entry, state.
fn queue(job: &Job) -> anyhow::Result<Vec<(Submitted, Option<usize>, String)>> {
    let submitted = jobs(&job.store)?;
    if submitted.is_empty() {
        return Ok(Vec::new());
    }
    let text = called(Command::new("squeue").args(["--me", "--noheader", "--array", "--format=%F %K %T"]))?;
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some(number), Some(entry), Some(state)) = (words.next(), words.next(), words.next()) else { continue };
        if let Some(own) = submitted.iter().find(|own| own.job == number) {
            found.push((own.clone(), entry.parse().ok(), state.to_owned()));
        }
    }
    Ok(found)
}

fn active(job: &Job) -> anyhow::Result<BTreeMap<usize, &'static str>> {
    let mut active = BTreeMap::new();
    let mut batches: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (own, entry, state) in queue(job)? {
        let (Some(number), Some(entry)) = (own.batch, entry) else { continue };
        if let std::collections::btree_map::Entry::Vacant(place) = batches.entry(number) {
            place.insert(batch(&job.store, number)?);
        }
        if let Some(&unit) = batches[&number].get(entry) {
            active.insert(unit, if state == "RUNNING" { "running" } else { "queued" });
        }
    }
    Ok(active)
}

fn cancel(job: &Job) -> anyhow::Result<()> {
    let mut numbers: Vec<String> = queue(job)?.into_iter().map(|(own, _, _)| own.job).collect();
    numbers.sort();
    numbers.dedup();
    if numbers.is_empty() {
        return Ok(());
    }
    called(Command::new("scancel").args(numbers)).map(drop)
}
