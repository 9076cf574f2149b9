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
use ticketlens::study::run_on as run_plan;

use crate::args::open_device;
use crate::{report, terminal};

/// Prune, retrain, explain every round, and decide on hypotheses A and B
///
/// Goes on from the last finished round when the folder already holds part of the same plan; Ctrl-C loses at most the round in
/// progress.
///
/// Example: ticketlens run quick --set replicates=3 --out my-run
#[derive(Args)]
pub(crate) struct Arguments {
    #[arg(value_name = "PRESET | PLAN.toml", default_value = "quick", help = format!("A preset ({}) or a plan file", Plan::presets()))]
    plan: String,
    /// Folder of the run [default: runs/NAME-HASH]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Change a field of the plan; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_setting)]
    settings: Vec<(String, String)>,
    /// Where to compute
    #[arg(long, value_name = "cpu|cuda[:N]", default_value = "cpu")]
    device: String,
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE, such as prune.rounds=5".into()),
    }
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let plan = load(&arguments.plan, &arguments.settings)?;
    let compute = open_device(&arguments.device, plan.device.precision)?;
    let out = match &arguments.out {
        Some(out) => out.clone(),
        None => Path::new("runs").join(format!("{}-{}", plan.name, &plan.digest()?[..8])),
    };
    let started = Instant::now();
    let progress = Progress::new(&out);
    interrupt_once()?;
    match run_plan(&plan, &out, &compute, &progress) {
        Ok(_) => progress.finish(),
        Err(Error::Interrupted) => {
            progress.finish();
            terminal::error("interrupted; the same command goes on from the last finished round");
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
    let path = Path::new(name);
    if path.extension().is_some_and(|extension| extension == "toml") || path.is_file() {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let mut plan = Plan::parse(name, &text, settings)?;
        // As given, or beside the plan file.
        if let (Some(checkpoint), Some(folder)) = (&plan.model.pretrained, path.parent())
            && !checkpoint.exists()
            && folder.join(checkpoint).exists()
        {
            plan.model.pretrained = Some(folder.join(checkpoint));
        }
        return Ok(plan);
    }
    Ok(Plan::preset(name, settings)?)
}

/// Exit code of a run that Ctrl-C ended, as shells count it.
const INTERRUPTED_CODE: u8 = 130;

/// Set by the first Ctrl-C; the observer then breaks at the next step.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

fn interrupt_once() -> anyhow::Result<()> {
    ctrlc::set_handler(|| {
        // Every file is written whole or not at all, so a second Ctrl-C may end the program at once.
        if INTERRUPTED.swap(true, Ordering::SeqCst) {
            std::process::exit(INTERRUPTED_CODE.into());
        }
    })
    .context("Ctrl-C cannot be handled")
}

/// Bars on a terminal, a line for each round elsewhere.
struct Progress {
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
    fn new(out: &Path) -> Self {
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

    fn finish(&self) {
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
