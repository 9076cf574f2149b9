//! Fuzzing of every reader of outside bytes, on the stable toolchain.
//!
//! Files of a small corpus (`tests/fuzz/corpus`, some fixtures, and the records of a run made here)
//! are damaged by a seeded stream and read. A panic, an overflow (which is checked), an allocation
//! beyond the reader's bound, or ten seconds of the processor over one input is a finding: the
//! input is kept under `target/fuzz-findings` and the run fails. What a reader returns is not
//! judged, but that an error is one line is.
//!
//! `TICKETLENS_FUZZ_SECONDS` of the processor per reader (default 2), `TICKETLENS_FUZZ_SEED`, and
//! names of readers as arguments; `ci/fuzz.sh`.

mod allocation;
mod mutation;
mod readers;
#[path = "../reseal.rs"]
mod reseal;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use readers::{READERS, Reader, Tree};
use ticketlens::seed;

/// Longest processor time over one input.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether a reader is at work, whose panics are findings; any other is a fault of the harness.
static READING: AtomicBool = AtomicBool::new(false);
static LAST_PANIC: Mutex<String> = Mutex::new(String::new());

/// Processor time of this process, so that neither a pause nor the machine's other work counts.
/// Steps of 10 ms (Linux reports hundredths); elsewhere the wall clock.
fn processor_time(started: Instant) -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the command's name in brackets: user and system time are the 12th and 13th fields.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: Option<u64> =
        fields.get(11..13).and_then(|times| times.iter().map(|time| time.parse::<u64>().ok()).sum());
    ticks.map_or_else(|| started.elapsed(), |ticks| Duration::from_millis(10 * ticks))
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() -> ExitCode {
    // `cargo test` passes filters and flags; only names of readers select.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|name| !name.starts_with('-')).collect();
    if std::env::args().any(|argument| argument == "--list") {
        READERS.iter().for_each(|reader| println!("{}: test", reader.name));
        return ExitCode::SUCCESS;
    }
    std::panic::set_hook(Box::new(|info| {
        if !READING.load(Ordering::Relaxed) {
            eprintln!("{info}");
        }
        *LAST_PANIC.lock().unwrap_or_else(|broken| broken.into_inner()) = info.to_string();
    }));
    let (seconds, seed) = (number("TICKETLENS_FUZZ_SECONDS", 2), number("TICKETLENS_FUZZ_SEED", 0));
    let (mut passed, mut failed) = (0, 0);
    for reader in READERS.iter().filter(|reader| wanted.is_empty() || wanted.iter().any(|name| name == reader.name)) {
        match fuzz(reader, Duration::from_secs(seconds), seed) {
            0 => passed += 1,
            _ => failed += 1,
        }
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Reads damaged inputs for a while; returns the number of findings.
fn fuzz(reader: &Reader, budget: Duration, seed: u64) -> usize {
    // In memory where that is to be had: the disk would be most of the time.
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a temporary folder");
    let corpus: Vec<Tree> = (reader.corpus)(folder.path());
    assert!(!corpus.is_empty() && corpus.iter().all(|tree| !tree.is_empty()), "{}: no corpus", reader.name);
    let place = folder.path().join("input");
    let (mut inputs, mut accepted, mut findings, mut largest, mut slowest) = (0_u64, 0_u64, 0, 0, Duration::ZERO);
    let started = Instant::now();
    let begun = processor_time(started);
    let mut used = begun;
    // The corpus itself first, undamaged.
    while (inputs as usize) < corpus.len() || used - begun < budget {
        let mut stream = seed::stream(seed, &format!("fuzz/{}", reader.name), inputs);
        let mut tree = corpus[inputs as usize % corpus.len()].clone();
        if inputs as usize >= corpus.len() {
            mutation::damage(&mut tree, &corpus, reader.words, &mut stream);
        }
        write(&place, &tree);
        let bytes: usize = tree.iter().map(|(_, bytes)| bytes.len()).sum();
        let before = allocation::start();
        let clock = Instant::now();
        READING.store(true, Ordering::Relaxed);
        let outcome = catch_unwind(AssertUnwindSafe(|| (reader.read)(&place)));
        READING.store(false, Ordering::Relaxed);
        let peak = allocation::peak().saturating_sub(before);
        (largest, slowest) = (largest.max(peak), slowest.max(clock.elapsed()));
        let now = processor_time(started);
        let took = now.saturating_sub(std::mem::replace(&mut used, now));
        let fault = match outcome {
            Err(_) => Some(format!("panic: {}", LAST_PANIC.lock().unwrap_or_else(|broken| broken.into_inner()))),
            Ok(Err(message)) if message.contains('\n') => Some(format!("an error of several lines: {message}")),
            Ok(result) => {
                accepted += u64::from(result.is_ok());
                let bound = reader.bytes + bytes * reader.bytes_per_byte;
                (peak > bound)
                    .then(|| format!("{peak} bytes allocated for {bytes} (bound {bound})"))
                    .or_else(|| (took > PATIENCE).then(|| format!("{:.1} s for {bytes} bytes", took.as_secs_f64())))
            }
        };
        if let Some(fault) = fault {
            findings += 1;
            let kept = keep(reader.name, inputs, &tree);
            println!("{}: input {inputs} (kept in {}): {fault}", reader.name, kept.display());
            if findings == 5 {
                break;
            }
        }
        inputs += 1;
    }
    println!(
        "fuzz {}: {inputs} inputs in {:.0} s of the processor ({:.0} s), {accepted} accepted, {findings} findings, at most {} KiB and {} ms for one",
        reader.name,
        (used - begun).as_secs_f64(),
        started.elapsed().as_secs_f64(),
        largest >> 10,
        slowest.as_millis()
    );
    findings
}

fn write(place: &Path, tree: &Tree) {
    let _ = std::fs::remove_dir_all(place);
    for (name, bytes) in tree {
        let path = place.join(name);
        std::fs::create_dir_all(path.parent().expect("it lies in a folder")).expect("a folder");
        std::fs::write(path, bytes).expect("a file");
    }
}

fn keep(reader: &str, input: u64, tree: &Tree) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let place = target.join(format!("fuzz-findings/{reader}-{input}"));
    write(&place, tree);
    place
}
