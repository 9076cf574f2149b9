//! The device program: parity of every operation with the CPU, training steps, determinism and
//! timings on a GPU. `ci/gpu.sh` carries it to a GPU machine and runs it there; `ci/gpu-pretend.sh`
//! runs its checks on a pretend GPU.
//!
//! `gpu check [--steps N]` prints a line for each check and exits 1 if one fails;
//! `gpu time [--small] --out FILE` writes a JSON line for each timing. Exit code 3: there is no
//! device.

mod checks;
mod nets;
mod study;
mod timings;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ticketlens::kernels::device::{Engine, Precision};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// There is no device.
const NO_DEVICE: u8 = 3;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
    /// Number of the device.
    #[arg(long, default_value_t = 0, global = true)]
    ordinal: usize,
    /// Given by cargo.
    #[arg(long, global = true, hide = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum What {
    /// Parity, training, determinism.
    Check {
        /// Training steps.
        #[arg(long, default_value_t = 200)]
        steps: u64,
    },
    /// Seconds of each operation, of whole steps and of explaining.
    Time {
        /// Tiny sizes, to see that it runs.
        #[arg(long)]
        small: bool,
        /// Repetitions.
        #[arg(long, default_value_t = 20)]
        repeats: usize,
        /// Times only what has each of these in its operation, size and precision.
        #[arg(long)]
        only: Vec<String>,
        /// JSON lines.
        #[arg(long)]
        out: PathBuf,
    },
    /// The device's name.
    Name,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let engine = match Engine::open(arguments.ordinal, Precision::F32) {
        Ok(engine) => engine,
        Err(error) => {
            eprintln!("no device: {error}");
            return ExitCode::from(NO_DEVICE);
        }
    };
    let done = match arguments.what {
        What::Name => {
            println!("{}", engine.name());
            Ok(true)
        }
        What::Check { steps } => {
            println!("{}", engine.description());
            checks::all(&engine).and_then(|parity| Ok(study::all(arguments.ordinal, steps)? && parity))
        }
        What::Time { small, repeats, only, out } => timings::all(&engine, small, repeats, only, &out).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            println!("FAILED");
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("FAILED: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints one check and says whether it passed: `error` must be at most `tolerance`, and a number.
fn report(name: &str, error: f64, tolerance: f64) -> bool {
    let passed = error <= tolerance;
    println!("{} {name:<58} {error:9.2e} (at most {tolerance:.0e})", if passed { "pass" } else { "FAIL" });
    passed
}

/// The largest difference over the largest expected value.
fn relative_error(found: &[f32], expected: &[f32]) -> f64 {
    if found.len() != expected.len() {
        return f64::INFINITY;
    }
    let largest = expected.iter().fold(0.0f64, |top, value| top.max(f64::from(value.abs())));
    let difference = found.iter().zip(expected).fold(0.0f64, |top, (found, expected)| {
        let difference = f64::from((found - expected).abs());
        if difference.is_nan() { f64::INFINITY } else { top.max(difference) }
    });
    difference / largest.max(1e-12)
}
