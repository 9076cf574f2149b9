//! What a long command shows meanwhile: bars on a terminal, a line for each round elsewhere.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use ticketlens::output;
use ticketlens::progress::{Event, Observer};

use crate::{signals, terminal};

/// Exit code of a run that Ctrl-C ended, as shells count it.
pub(crate) const INTERRUPTED_CODE: u8 = 130;

/// Set by the first Ctrl-C; the observer then breaks at the next step.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);
/// What Ctrl-C waits for; explaining and evaluating may take longer.
const PATIENCE: Duration = Duration::from_millis(500);
pub(crate) const INTERRUPTED_TEXT: &str = "interrupted; the same command goes on from the last finished round";

/// Ctrl-C, SIGTERM and SIGHUP end the program at the next step, or after [`PATIENCE`], or at the
/// second one: every file is written whole or not at all, so any moment will do. Returns what they
/// call.
pub(crate) fn interrupt_once(progress: &Progress) -> anyhow::Result<impl Fn() + Clone + Send + use<>> {
    let all = progress.all.clone();
    let end = move || {
        let all = all.clone();
        let now = move || {
            clear(&all);
            output::remove_unfinished();
            terminal::error(INTERRUPTED_TEXT);
            std::process::exit(INTERRUPTED_CODE.into());
        };
        if INTERRUPTED.swap(true, Ordering::SeqCst) {
            now();
        }
        std::thread::spawn(move || {
            std::thread::sleep(PATIENCE);
            now();
        });
    };
    signals::on_end(end.clone()).context("signals cannot be handled")?;
    Ok(end)
}

/// Bars on a terminal, a line for each round elsewhere.
pub(crate) struct Progress {
    all: MultiProgress,
    rounds: ProgressBar,
    folder: String,
    /// The networks that are made just now: each reports from a thread of its own.
    networks: Mutex<Vec<(ThreadId, Network)>>,
}

/// A network that is made.
struct Network {
    bar: ProgressBar,
    title: String,
    steps: u64,
    since: Option<Instant>,
    loss: f64,
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Takes all bars off the terminal, for good.
fn clear(all: &MultiProgress) {
    // A terminal that is gone has nothing to clear.
    let _ = all.clear();
    all.set_draw_target(ProgressDrawTarget::hidden());
}

impl Progress {
    pub(crate) fn new(out: &Path) -> Self {
        let all = MultiProgress::with_draw_target(if terminal::quiet() {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr_with_hz(4)
        });
        let rounds = all.add(ProgressBar::new(1));
        rounds.set_style(style("rounds {wide_bar} {pos}/{len}  {elapsed} gone, {eta} left"));
        rounds.enable_steady_tick(Duration::from_secs(1));
        Self { all, rounds, folder: out.display().to_string(), networks: Mutex::default() }
    }

    pub(crate) fn finish(&self) {
        clear(&self.all);
    }

    /// A line above the bars, so that they are not torn.
    fn line(&self, line: &str) {
        if terminal::is_interactive() {
            self.rounds.println(line);
        } else {
            terminal::note(line);
        }
    }

    /// The network of the calling thread.
    fn network<'a>(&self, networks: &'a mut Vec<(ThreadId, Network)>) -> &'a mut Network {
        let thread = std::thread::current().id();
        let place = networks.iter().position(|(of, _)| *of == thread).unwrap_or_else(|| {
            let bar = self.all.add(ProgressBar::new(1));
            bar.set_style(style("{msg:68!} {wide_bar} {pos}/{len}"));
            bar.enable_steady_tick(Duration::from_secs(1));
            networks.push((thread, Network { bar, title: String::new(), steps: 1, since: None, loss: 0.0 }));
            networks.len() - 1
        });
        &mut networks[place].1
    }
}

impl Observer for Progress {
    fn notice(&self, event: &Event) -> ControlFlow<()> {
        let mut networks = self.networks.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::RunStarted { rounds, finished } => {
                self.rounds.set_length(*rounds as u64);
                self.line(&format!("run folder {}: {rounds} networks, {finished} finished", self.folder));
            }
            Event::RoundStarted { arm, replicate, round, density, steps } => {
                let network = self.network(&mut networks);
                network.title = format!("replicate {replicate} {arm} round {round}, density {:.1} %", 100.0 * density);
                (network.steps, network.since, network.loss) = (*steps, Some(Instant::now()), 0.0);
                network.bar.set_length(*steps);
                network.bar.set_position(0);
                network.bar.set_message(network.title.clone());
            }
            Event::StepDone { step, loss, epoch } => {
                let network = self.network(&mut networks);
                network.loss = if *step == 1 { *loss } else { 0.95 * network.loss + 0.05 * loss };
                network.bar.set_position(*step);
                if step % 8 == 0 {
                    let message = format!("{} epoch {} loss {:.3}", network.title, epoch + 1, network.loss);
                    network.bar.set_message(message);
                }
            }
            Event::Phase(phase) => {
                let network = self.network(&mut networks);
                network.bar.set_position(network.steps);
                network.bar.set_message(format!("{} {phase}", network.title).trim_start().to_owned());
            }
            Event::RoundDone { arm, replicate, round, test_accuracy, resumed } => {
                self.rounds.inc(1);
                if !terminal::is_interactive() {
                    let network = self.network(&mut networks);
                    let how = match (resumed, network.since) {
                        (false, Some(since)) => format!("{} {:.1} s", network.title, since.elapsed().as_secs_f64()),
                        _ => format!("replicate {replicate} {arm} round {round} was finished before"),
                    };
                    terminal::note(&format!("{how}, test accuracy {:.2} %", 100.0 * test_accuracy));
                }
            }
            Event::ReplicateDone { .. } => {
                let thread = std::thread::current().id();
                for (_, network) in networks.extract_if(.., |(of, _)| *of == thread) {
                    network.bar.finish_and_clear();
                    self.all.remove(&network.bar);
                }
            }
            Event::Warning(text) => self.all.suspend(|| terminal::warn(text)),
            _ => {}
        }
        if INTERRUPTED.load(Ordering::SeqCst) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}
