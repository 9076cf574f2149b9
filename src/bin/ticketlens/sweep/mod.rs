//! `ticketlens sweep`: a plan over a grid, as units that an engine runs.

mod local;
mod slurm;
mod status;
mod worker;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use ticketlens::output::{self, Inputs};
use ticketlens::plan::{Cluster, Sweep};
use ticketlens::progress::{Observer, Silent};
use ticketlens::records::{FORMAT, SweepRecord, SweepStore, SweepUnits};
use ticketlens::report;
use ticketlens::run::units;
use ticketlens::study::put_together;

use crate::run::{Choice, beside, read_plan};
use crate::terminal;

/// Run a plan over a grid of values: on this machine, or on a cluster
///
/// The plan's table `[sweep]` lists values of its fields, `prune.fraction = [0.2, 0.5]`. Every
/// point of the grid is cut into units, an arm of a replicate each; what is finished is never made
/// again, by any sweep in the same folder. The same command goes on.
///
/// Example: ticketlens sweep plan.toml --engine local --jobs 4
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// A plan file, or a preset
    #[arg(value_name = "PLAN.toml", required = true)]
    plan: Option<String>,
    #[arg(long, value_parser = PossibleValuesParser::new(ENGINES.map(|engine| engine.name)), default_value = ENGINES[0].name,
          help = "What runs the units")]
    engine: String,
    /// Folder of sweeps: units in it are shared
    #[arg(long, value_name = "DIR", default_value = "sweeps")]
    out: PathBuf,
    #[command(flatten)]
    choice: Choice,
    /// Print what would run, with its scripts, and write nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    ask: Ask,
}

/// What is asked of an engine.
#[derive(Args)]
struct Ask {
    /// Units at a time [default: half of the threads; on a cluster as many as it has room for]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
    /// Partition of the cluster
    #[arg(long, value_name = "NAME")]
    partition: Option<String>,
    /// Account that the cluster charges
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Time limit of a unit: minutes, HH:MM:SS or D-HH:MM:SS [default: twice what a few steps say]
    #[arg(long, value_name = "TIME")]
    time: Option<String>,
    /// Memory of a unit, such as 4G [default: half more than explaining a network takes]
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// CPUs of a unit on a cluster [default: 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    cpus: Option<u16>,
    /// GPUs of a unit on a cluster
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    gpus: Option<u16>,
}

impl Ask {
    /// The flags, over what the plan or an earlier command says.
    fn over(&self, before: &Cluster) -> anyhow::Result<Cluster> {
        let text = |flag: &Option<String>, before: &Option<String>| flag.clone().or_else(|| before.clone());
        let cluster = Cluster {
            partition: text(&self.partition, &before.partition),
            account: text(&self.account, &before.account),
            time: text(&self.time, &before.time),
            memory: text(&self.memory, &before.memory),
            cpus: self.cpus.or(before.cpus),
            gpus: self.gpus.or(before.gpus),
        };
        cluster.options()?;
        Ok(cluster)
    }
}

#[derive(Subcommand)]
enum Command {
    /// Say how far a sweep is
    Status {
        /// Folder of the sweep, as its start has said
        #[arg(value_name = "SWEEP")]
        sweep: PathBuf,
    },
    /// End its units; what is finished stays, and the rest can go on later
    Cancel {
        /// Folder of the sweep
        #[arg(value_name = "SWEEP")]
        sweep: PathBuf,
    },
    /// Run again what failed or was lost, and what waits for it
    Retry {
        /// Folder of the sweep
        #[arg(value_name = "SWEEP")]
        sweep: PathBuf,
        /// What to run again: there is no other choice
        #[arg(long, required = true)]
        failed: bool,
        #[command(flatten)]
        ask: Ask,
    },
    /// Put together what is finished: table, figure and record
    Aggregate {
        /// Folder of the sweep
        #[arg(value_name = "SWEEP")]
        sweep: PathBuf,
    },
    /// Make one unit; engines call this
    #[command(hide = true)]
    Unit(worker::Arguments),
}

/// A text that `--dry-run` prints.
struct Script {
    title: String,
    text: String,
}

/// A way to run units. A new one is its own file and a line in [`ENGINES`].
struct Engine {
    name: &'static str,
    /// Runs units, or hands them over, the units that they need first, and sees to it that the
    /// sweep is put together at the end.
    start: fn(&Job, &[usize]) -> anyhow::Result<ExitCode>,
    /// What `--dry-run` prints.
    scripts: fn(&Job, &[usize]) -> anyhow::Result<Vec<Script>>,
    /// Units that are queued or running, with a word for it.
    active: fn(&Job) -> anyhow::Result<BTreeMap<usize, &'static str>>,
    /// Ends them.
    cancel: fn(&Job) -> anyhow::Result<()>,
}

const ENGINES: [&Engine; 2] = [&local::LOCAL, &slurm::SLURM];

/// A sweep as an engine sees it.
struct Job {
    store: SweepStore,
    sweep: Sweep,
    units: SweepUnits,
    engine: &'static Engine,
    /// Units at a time.
    jobs: Option<u16>,
    cluster: Cluster,
}

/// What an engine was asked for (`engine.json`), for `retry` and its kin.
#[derive(Serialize, Deserialize)]
struct Asked {
    format: u32,
    engine: String,
    jobs: Option<u16>,
    cluster: Cluster,
}

fn engine(name: &str) -> anyhow::Result<&'static Engine> {
    let found = ENGINES.into_iter().find(|engine| engine.name == name);
    found.with_context(|| format!("engine `{name}` does not exist"))
}

impl Job {
    fn existing(folder: &Path) -> anyhow::Result<Self> {
        let store = SweepStore::existing(folder)?;
        let asked: Option<Asked> = store.read("engine.json")?;
        let asked = asked.with_context(|| format!("{}: was not started: it holds no engine.json", folder.display()))?;
        let units = store.units()?;
        let sweep = store.sweep()?;
        Ok(Self { store, sweep, units, engine: engine(&asked.engine)?, jobs: asked.jobs, cluster: asked.cluster })
    }

    /// Units that are not finished.
    fn unfinished(&self) -> Vec<usize> {
        (0..self.units.units.len()).filter(|&unit| !self.store.is_done(&self.units.units[unit].id)).collect()
    }

    /// Notes what is asked for, and starts these units.
    fn start(&self, units: &[usize]) -> anyhow::Result<ExitCode> {
        for &unit in units {
            self.store.forget_failure(&self.units.units[unit].id)?;
        }
        let (jobs, cluster) = (self.jobs, self.cluster.clone());
        self.store.write("engine.json", &Asked { format: FORMAT, engine: self.engine.name.into(), jobs, cluster })?;
        (self.engine.start)(self, units)
    }

    /// Whether a unit is active, or what it needs is.
    fn waits_for(&self, unit: usize, active: &BTreeMap<usize, &'static str>) -> bool {
        active.contains_key(&unit) || self.units.units[unit].needs.is_some_and(|needs| self.waits_for(needs, active))
    }

    /// Groups of `units`: each needs only what is finished, or stands in a group before it.
    fn waves(&self, units: &[usize]) -> Vec<Vec<usize>> {
        let mut waves: Vec<Vec<usize>> = Vec::new();
        let mut depth: BTreeMap<usize, usize> = BTreeMap::new();
        // A unit stands after what it needs.
        for &unit in units {
            let wave = self.units.units[unit].needs.and_then(|needs| depth.get(&needs)).map_or(0, |before| before + 1);
            depth.insert(unit, wave);
            if waves.len() <= wave {
                waves.resize(wave + 1, Vec::new());
            }
            waves[wave].push(unit);
        }
        waves
    }

    /// `replicate 0, lottery, point 2` of a unit.
    fn title(&self, unit: usize) -> String {
        let unit = &self.units.units[unit];
        let arm = unit.part.arm.map_or("dense and twins", |arm| arm.name());
        format!("replicate {}, {arm}, point {}", unit.part.replicate, unit.point + 1)
    }
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        None => start(arguments),
        Some(Command::Status { sweep }) => status::status(&Job::existing(sweep)?),
        Some(Command::Cancel { sweep }) => {
            let job = Job::existing(sweep)?;
            (job.engine.cancel)(&job)?;
            terminal::say("cancelled; the same sweep command goes on with what is not finished");
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Retry { sweep, failed: _, ask }) => {
            let mut job = Job::existing(sweep)?;
            job.cluster = ask.over(&job.cluster)?;
            job.jobs = ask.jobs.or(job.jobs);
            let active = (job.engine.active)(&job)?;
            let units: Vec<usize> =
                job.unfinished().into_iter().filter(|&unit| !job.waits_for(unit, &active)).collect();
            if units.is_empty() {
                terminal::say("nothing failed");
                return Ok(ExitCode::SUCCESS);
            }
            job.start(&units)
        }
        Some(Command::Aggregate { sweep }) => {
            let store = SweepStore::existing(sweep)?;
            let units = store.units()?;
            aggregate(&store, &units, &Silent)
        }
        Some(Command::Unit(arguments)) => worker::run(arguments),
    }
}

fn start(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let name = arguments.plan.as_deref().unwrap_or_default();
    let text = read_plan(name)?.unwrap_or_else(|| format!("preset = {}\n", toml::Value::String(name.into())));
    let mut sweep = Sweep::parse(name, &text, &arguments.choice.settings)?;
    sweep.place(|field, path| {
        let path = if field == "model.pretrained" { beside(name, path) } else { path.to_owned() };
        // Units run elsewhere.
        std::path::absolute(&path).unwrap_or(path)
    });
    let cluster = arguments.ask.over(&sweep.cluster)?;
    sweep.cluster = Cluster::default();
    let units = units(&sweep, &arguments.choice.device, arguments.choice.allow_mixed)?;
    let store = SweepStore::of(&arguments.out, &sweep, &units)?;
    let job = Job { store, sweep, units, engine: engine(&arguments.engine)?, jobs: arguments.ask.jobs, cluster };
    let unfinished = job.unfinished();
    terminal::say(&format!(
        "sweep {}: {} points, {} units, {} finished",
        job.store.root().display(),
        job.sweep.points(),
        job.units.units.len(),
        job.units.units.len() - unfinished.len()
    ));
    if arguments.dry_run {
        for Script { title, text } in (job.engine.scripts)(&job, &unfinished)? {
            terminal::say(&format!("--- {title}"));
            terminal::print(&text);
        }
        return Ok(ExitCode::SUCCESS);
    }
    job.store.start(&job.sweep, &job.units)?;
    // Its path, whatever the folder that jobs run in.
    let job = Job { store: SweepStore::existing(job.store.root())?, ..job };
    job.start(&unfinished)
}

/// Puts a sweep together, and writes and prints its report.
fn aggregate(store: &SweepStore, units: &SweepUnits, observer: &dyn Observer) -> anyhow::Result<ExitCode> {
    let record: SweepRecord = put_together(store, units, observer)?;
    let write = |name: &str, text: &str| output::write(&store.root().join(name), text.as_bytes(), &Inputs::none());
    write("report.html", &report::sweep::html(&record))?;
    write("sweep.csv", &report::sweep::csv(&record))?;
    terminal::delivered();
    terminal::print(&report::sweep::markdown(&record));
    terminal::say(&format!("report {}", store.root().join("report.html").display()));
    let missing = record.points.iter().filter(|point| point.found.is_none()).count();
    if missing > 0 {
        let of = record.points.len();
        bail!("{}: {missing} of {of} points are not there; `sweep status` says why", store.root().display());
    }
    Ok(ExitCode::SUCCESS)
}
