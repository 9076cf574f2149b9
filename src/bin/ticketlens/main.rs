//! The `ticketlens` program: the only part that prints.
//!
//! One file for each command; each parses, calls the library, prints and writes. `run`, `report`,
//! `compare`, `drift` belong beside them.

mod args;
mod barriers;
mod cam;
mod compare;
mod data;
mod drift;
mod drift_arrays;
mod dry_run;
mod output;
mod overlay;
mod predict;
mod progress;
mod prune;
mod record;
mod report;
mod run;
mod sets;
mod signals;
mod sweep;
mod tcav;
mod tcav_answer;
mod terminal;
mod verify;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use args::Common;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit code for bad usage or input.
const BAD_INPUT: u8 = 2;

/// Does a lottery ticket keep its explanations? Iterative magnitude pruning, tested TCAV and Grad-CAM.
#[derive(Parser)]
#[command(name = "ticketlens", version, arg_required_else_help = true, subcommand_required = true)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(run::Arguments),
    Sweep(Box<sweep::Arguments>),
    Report(report::Arguments),
    Compare(compare::Arguments),
    Verify(verify::Arguments),
    Barriers(barriers::Arguments),
    Data(data::Arguments),
    /// Shell completions, to be sourced by the shell
    ///
    /// Example: ticketlens completions bash > ~/.local/share/bash-completion/completions/ticketlens
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    Drift(Box<drift::Arguments>),
    Record(Box<record::Arguments>),
    Predict(predict::Arguments),
    Cam(cam::Arguments),
    Tcav(tcav::Arguments),
    Prune(prune::Arguments),
}

fn main() -> ExitCode {
    let cli = match parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            terminal::error(&terminal::with_causes(&error));
            ExitCode::from(BAD_INPUT)
        }
    }
}

/// The command line. A negative number after a flag is its value, which the flag refuses by its own
/// name, and no other flag.
fn parse() -> Result<Cli, clap::Error> {
    fn of(command: clap::Command) -> clap::Command {
        let of_flag = |flag: clap::Arg| {
            let takes = flag.get_action().takes_values();
            flag.allow_negative_numbers(takes)
        };
        command.mut_args(of_flag).mut_subcommands(of)
    }
    Cli::from_arg_matches(&of(Cli::command()).try_get_matches()?)
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    cli.common.start()?;
    ticketlens::kernels::check_vectors().map_err(anyhow::Error::msg)?;
    match cli.command {
        Command::Run(arguments) => return run::run(&arguments),
        Command::Sweep(arguments) => return sweep::run(&arguments),
        Command::Report(arguments) => report::run(&arguments)?,
        Command::Compare(arguments) => compare::run(&arguments)?,
        Command::Verify(arguments) => in_pool(|| verify::run(&arguments))?,
        Command::Barriers(arguments) => in_pool(|| barriers::run(&arguments))?,
        Command::Data(arguments) => data::run(&arguments)?,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "ticketlens", &mut script);
            terminal::print(&String::from_utf8_lossy(&script));
        }
        Command::Drift(arguments) => return drift::run(&arguments),
        Command::Record(arguments) => return record::run(&arguments),
        Command::Predict(arguments) => in_pool(|| predict::run(&arguments))?,
        Command::Cam(arguments) => in_pool(|| cam::run(&arguments))?,
        Command::Tcav(arguments) => in_pool(|| tcav::run(&arguments))?,
        Command::Prune(arguments) => in_pool(|| prune::run(&arguments))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a command on a worker thread. From any other thread each parallel loop, and a network is
/// thousands of them, would be handed over and waited for, which takes longer than the loop where
/// the network is small.
fn in_pool(command: impl FnOnce() -> anyhow::Result<()> + Send) -> anyhow::Result<()> {
    rayon::scope(|_| command())
}

/// Help and version as clap writes them; a usage error as one line.
fn usage(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            terminal::print(&help_text(error));
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // To stderr; where that cannot be written there is nowhere left to say so.
            let _ = error.print();
            ExitCode::from(BAD_INPUT)
        }
        _ => {
            let text = error.to_string();
            let said = text.split("\n\n").next().unwrap_or_default();
            let tip = text.split("\n\n").map(str::trim).find(|part| part.starts_with("tip: "));
            let tip = tip.map(|tip| format!(" ({tip})")).unwrap_or_default();
            // Required flags that are missing stand on lines of their own.
            terminal::error(&(said.trim_start_matches("error: ").replace("\n  ", " ") + &tip));
            ExitCode::from(BAD_INPUT)
        }
    }
}

/// Help in colour where the terminal takes it.
fn help_text(error: &clap::Error) -> String {
    let text = error.render();
    if terminal::colours() { text.ansi().to_string() } else { text.to_string() }
}
