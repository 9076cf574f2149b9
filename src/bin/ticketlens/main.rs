//! tmp
mod report;
mod run;
mod terminal;
use clap::{Parser, Subcommand};
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}
#[derive(Subcommand)]
enum Command {
    Run(run::Arguments),
}
fn main() -> std::process::ExitCode {
    match Cli::parse().command {
        Command::Run(a) => match run::run(&a) {
            Ok(c) => c,
            Err(e) => {
                eprintln!("error: {e:#}");
                std::process::ExitCode::from(2)
            }
        },
    }
}
