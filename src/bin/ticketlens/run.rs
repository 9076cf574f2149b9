//! `ticketlens run`: a whole study.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use ticketlens::error::Error;
use ticketlens::output;
use ticketlens::plan::Plan;
use ticketlens::progress::{Event, Observer};
use ticketlens::run::Options;
use ticketlens::study::run_with;

use crate::args::open_device;
use crate::{dry_run, report, signals, terminal};

/// Prune, retrain, explain every round, and decide on hypotheses A and B
///
/// Goes on from the last finished round, or the last epoch of a long training, when the folder already holds part of the same plan;
/// Ctrl-C loses no more. What is damaged is set aside and made again.
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
    let _end = interrupt_once(&progress)?;
    if arguments.dry_run {
        let said = dry_run::say(&plan, &out, &compute, &progress);
        progress.finish();
        return said.map(|()| ExitCode::SUCCESS);
    }
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

/// Bytes of a plan.
const LONGEST_PLAN: u64 = 1 << 20;

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
    let metadata = std::fs::metadata(path).with_context(|| path.display().to_string())?;
    anyhow::ensure!(metadata.is_file(), "{}: is not a file", path.display());
    anyhow::ensure!(metadata.len() <= LONGEST_PLAN, "{}: is too long for a plan", path.display());
    std::fs::read_to_string(path).with_context(|| path.display().to_string()).map(Some)
}

/// A checkpoint that a plan file names: as given, or beside the file.
pub(crate) fn beside(plan: &str, checkpoint: &Path) -> PathBuf {
    match Path::new(plan).parent() {
        Some(folder) if !checkpoint.exists() && folder.join(checkpoint).exists() => folder.join(checkpoint),
        _ => checkpoint.to_owned(),
    }
}

/// Exit code of a run that Ctrl-C ended, as shells count it.
pub(crate) const INTERRUPTED_CODE: u8 = 130;

/// Set by the first Ctrl-C; the observer then breaks at the next step.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);
/// What Ctrl-C waits for; explaining and evaluating may take longer.
const PATIENCE: Duration = Duration::from_millis(500);
pub(crate) const INTERRUPTED_TEXT: &str = "interrupted; the same command goes on from the last finished round";

/// Ctrl-C, SIGTERM and SIGHUP end the program at the next step, or after [`PATIENCE`], or at the second one: every file is written
/// whole or not at all, so any moment will do. Returns what they call.
pub(crate) fn interrupt_once(progress: &Progress) -> anyhow::Result<impl Fn() + Clone + Send + use<>> {
    let bars = [progress.rounds.clone(), progress.steps.clone()];
    let end = move || {
        if !INTERRUPTED.swap(true, Ordering::SeqCst) {
            let bars = bars.clone();
            std::thread::spawn(move || {
                std::thread::sleep(PATIENCE);
                bars.iter().for_each(ProgressBar::finish_and_clear);
                output::remove_unfinished();
                terminal::error(INTERRUPTED_TEXT);
                std::process::exit(INTERRUPTED_CODE.into());
            });
            return;
        }
        output::remove_unfinished();
        std::process::exit(INTERRUPTED_CODE.into());
    };
    signals::on_end(end.clone()).context("signals cannot be handled")?;
    Ok(end)
}

/// Bars on a terminal, a line for each round elsewhere.
pub(crate) struct Progress {
    rounds: ProgressBar,
    steps: ProgressBar,
    folder: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    title: String,
    steps: u64,
    since: Option<Instant>,
    loss: f64,
}

impl Progress {
    pub(crate) fn new(out: &Path) -> Self {
        let all = MultiProgress::with_draw_target(if terminal::quiet() {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr_with_hz(4)
        });
        let style =
            |template: &str| ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let rounds = all.add(ProgressBar::new(1));
        rounds.set_style(style("rounds {wide_bar} {pos}/{len}  {elapsed} gone, {eta} left"));
        let steps = all.add(ProgressBar::new(1));
        steps.set_style(style("{msg:68!} {wide_bar} {pos}/{len}"));
        rounds.enable_steady_tick(Duration::from_secs(1));
        steps.enable_steady_tick(Duration::from_secs(1));
        Self { rounds, steps, folder: out.display().to_string(), state: Mutex::default() }
    }

    pub(crate) fn finish(&self) {
        self.rounds.finish_and_clear();
        self.steps.finish_and_clear();
    }
}

impl Observer for Progress {
    fn notice(&self, event: &Event) -> ControlFlow<()> {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match event {
            Event::RunStarted { rounds, finished } => {
                self.rounds.set_length(*rounds as u64);
                let line = format!("run folder {}: {rounds} networks, {finished} finished", self.folder);
                if terminal::is_interactive() {
                    // Above the bars, so that they are not torn.
                    self.rounds.println(line);
                } else {
                    terminal::note(&line);
                }
            }
            Event::RoundStarted { arm, replicate, round, density, steps } => {
                *state = State {
                    title: format!("replicate {replicate} {arm} round {round}, density {:.1} %", 100.0 * density),
                    steps: *steps,
                    since: Some(Instant::now()),
                    loss: 0.0,
                };
                self.steps.set_length(*steps);
                self.steps.set_position(0);
                self.steps.set_message(state.title.clone());
            }
            Event::StepDone { step, loss, epoch } => {
                state.loss = if *step == 1 { *loss } else { 0.95 * state.loss + 0.05 * loss };
                self.steps.set_position(*step);
                if step % 8 == 0 {
                    self.steps.set_message(format!("{} epoch {} loss {:.3}", state.title, epoch + 1, state.loss));
                }
            }
            Event::Phase(phase) => {
                self.steps.set_position(state.steps);
                self.steps.set_message(format!("{} {phase}", state.title));
            }
            Event::RoundDone { round, test_accuracy, resumed } => {
                self.rounds.inc(1);
                if !terminal::is_interactive() {
                    let how = match (resumed, state.since) {
                        (false, Some(since)) => {
                            format!("{} {:.1} s", state.title, since.elapsed().as_secs_f64())
                        }
                        _ => format!("round {round} was finished before"),
                    };
                    terminal::note(&format!("{how}, test accuracy {:.2} %", 100.0 * test_accuracy));
                }
            }
            Event::Warning(text) => self.rounds.suspend(|| terminal::warn(text)),
            _ => {}
        }
        if INTERRUPTED.load(Ordering::SeqCst) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}
