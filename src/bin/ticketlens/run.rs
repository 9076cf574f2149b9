//! `ticketlens run`: a whole study.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use ticketlens::error::Error;
use ticketlens::plan::{LONGEST_PLAN, Plan};
use ticketlens::run::Options;
use ticketlens::study::run_with;
use ticketlens::{input, output};

use crate::args::open_device;
use crate::progress::{INTERRUPTED_CODE, INTERRUPTED_TEXT, Progress, interrupt_once};
use crate::{dry_run, report, terminal};

/// Prune, retrain, explain every round, and decide on hypotheses A and B
///
/// Goes on from the last finished round, or the last epoch of a long training, when the folder
/// already holds part of the same plan; Ctrl-C loses no more. What is damaged is set aside and made
/// again.
///
/// Example: ticketlens run quick --set replicates=3 --out my-run
#[derive(Args)]
pub(crate) struct Arguments {
    #[arg(value_name = "PRESET | PLAN.toml", default_value = "quick", help = format!("A preset ({}) or a plan file", Plan::presets()))]
    plan: String,
    /// Folder of the run [default: runs/NAME-HASH]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    choice: Choice,
    /// Least seconds between two states of a training that are kept at ends of epochs, until the round is finished
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    keep_every: u64,
    /// Say what the run will take, from a few steps and one network explained, and write nothing
    #[arg(long)]
    dry_run: bool,
}

/// What a study and a sweep of studies are both asked for.
#[derive(Args)]
pub(crate) struct Choice {
    /// Change a field of the plan; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_setting)]
    pub(crate) settings: Vec<(String, String)>,
    /// Where to compute
    #[arg(long, value_name = "cpu|cuda[:N]", default_value = "cpu")]
    pub(crate) device: String,
    /// Let networks of other versions, kinds of machines or devices stand in one study; the report says so
    #[arg(long)]
    pub(crate) allow_mixed: bool,
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE, such as prune.rounds=5".into()),
    }
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let plan = load(&arguments.plan, &arguments.choice.settings)?;
    let compute = open_device(&arguments.choice.device, plan.device.precision)?;
    let out = match &arguments.out {
        Some(out) => out.clone(),
        None => Path::new("runs").join(format!("{}-{}", plan.name, &plan.digest()?[..8])),
    };
    let started = Instant::now();
    let progress = Progress::new(&out);
    if arguments.dry_run {
        let said = dry_run::say(&plan, &out, &compute, &progress);
        progress.finish();
        return said.map(|()| ExitCode::SUCCESS);
    }
    let _end = interrupt_once(&progress)?;
    let options = Options {
        compute,
        allow_mixed: arguments.choice.allow_mixed,
        keep_every: Duration::from_secs(arguments.keep_every),
        ..Options::default()
    };
    match run_with(&plan, &out, &options, &progress) {
        Ok(_) => progress.finish(),
        Err(Error::Interrupted) => {
            progress.finish();
            terminal::error(INTERRUPTED_TEXT);
            return Ok(ExitCode::from(INTERRUPTED_CODE));
        }
        Err(error) => return Err(error.into()),
    }
    let study = report::load(&out)?;
    let html = out.join(report::PAGE);
    output::write(&html, report::html(&study)?.as_bytes(), &report::records([out.as_path()]))?;
    terminal::delivered();
    terminal::print(&(report::table(&study)? + "\n"));
    terminal::say(&format!(
        "Run {} in {} · report {}",
        out.display(),
        indicatif::HumanDuration(started.elapsed()),
        html.display()
    ));
    Ok(ExitCode::SUCCESS)
}

fn load(name: &str, settings: &[(String, String)]) -> anyhow::Result<Plan> {
    let Some(text) = read_plan(name)? else { return Ok(Plan::preset(name, settings)?) };
    let mut plan = Plan::parse(name, &text, settings)?;
    plan.model.pretrained = plan.model.pretrained.map(|checkpoint| beside(name, &checkpoint));
    Ok(plan)
}

/// The text of a plan file; none where `name` is not one but a preset.
pub(crate) fn read_plan(name: &str) -> anyhow::Result<Option<String>> {
    let path = Path::new(name);
    if path.extension().is_none_or(|extension| extension != "toml") && !path.is_file() {
        return Ok(None);
    }
    Ok(Some(input::read_text(path, LONGEST_PLAN)?))
}

/// A checkpoint that a plan file names: as given, or beside the file.
pub(crate) fn beside(plan: &str, checkpoint: &Path) -> PathBuf {
    match Path::new(plan).parent() {
        Some(folder) if !checkpoint.exists() && folder.join(checkpoint).exists() => folder.join(checkpoint),
        _ => checkpoint.to_owned(),
    }
}
