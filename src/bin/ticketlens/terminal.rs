//! What goes to the terminal: results to stdout, warnings, errors and progress to stderr. Control
//! characters are escaped.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use ticketlens::error::{printable, shortened};

/// Set once at the start, from `--quiet`.
static QUIET: AtomicBool = AtomicBool::new(false);

/// Silences results on stdout, progress and warnings; errors stay.
pub(crate) fn be_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

/// Whether `--quiet` was given.
pub(crate) fn quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// Set once, where a command's file goes to stdout.
static TO_STDERR: AtomicBool = AtomicBool::new(false);

/// Results go to stderr from now on: stdout is a file of the command's.
pub(crate) fn results_to_stderr() {
    TO_STDERR.store(true, Ordering::Relaxed);
}

/// Whether the program was started without a stdout.
static NO_STDOUT: AtomicBool = AtomicBool::new(false);

ctor::declarative::ctor! {
    /// Before the runtime opens `/dev/null` in place of a closed stdout, into which everything
    /// could be written and lost.
    #[ctor(unsafe)]
    fn look_for_stdout() {
        let descriptors = std::path::Path::new("/proc/self/fd");
        NO_STDOUT.store(descriptors.exists() && std::fs::symlink_metadata(descriptors.join("1")).is_err(), Ordering::Relaxed);
    }
}

/// Set once a command's file is written.
static DELIVERED: AtomicBool = AtomicBool::new(false);

/// The command's file is in its place: what is printed from now on is a summary of it, and losing that is a warning.
pub(crate) fn delivered() {
    DELIVERED.store(true, Ordering::Relaxed);
}

/// A line of result.
pub(crate) fn say(line: &str) {
    if TO_STDERR.load(Ordering::Relaxed) {
        note(line);
    } else {
        print(&(printable(line) + "\n"));
    }
}

/// A finished text to stdout, as it is. What cannot be written ends the program with an error; only
/// a reader that has gone away (`| head`) is none.
pub(crate) fn print(text: &str) {
    if quiet() {
        return;
    }
    let mut out = std::io::stdout().lock();
    let written = match NO_STDOUT.load(Ordering::Relaxed) {
        true => Err(std::io::Error::other("it is closed")),
        false => out.write_all(text.as_bytes()).and_then(|()| out.flush()),
    };
    match written {
        Err(fault) if fault.kind() == std::io::ErrorKind::BrokenPipe => {}
        Err(fault) if DELIVERED.load(Ordering::Relaxed) => {
            warn(&format!("the summary is lost: stdout cannot be written: {fault}"));
            be_quiet();
        }
        Err(fault) => {
            error(&format!("stdout cannot be written: {fault}"));
            ticketlens::output::remove_unfinished();
            std::process::exit(crate::BAD_INPUT.into());
        }
        Ok(()) => {}
    }
}

/// A warning: the result stands, but its reader should know.
pub(crate) fn warn(text: &str) {
    if !quiet() {
        // Where stderr cannot be written there is nowhere left to say so.
        let _ = writeln!(std::io::stderr(), "warning: {}", printable(text));
    }
}

/// The error that ends the program.
pub(crate) fn error(text: &str) {
    // A list of faults is long; what quotes a line of megabytes is longer.
    let text = shortened(without_backtrace(text).to_owned(), [16_000, 1_000]);
    let _ = writeln!(std::io::stderr(), "error: {}", printable(&text));
}

/// Without the backtrace that Candle's errors append where `RUST_BACKTRACE` is set.
fn without_backtrace(text: &str) -> &str {
    text.split("\n   0: ").next().unwrap_or_default()
}

/// An error with its causes, each said once.
pub(crate) fn with_causes(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.ends_with(&cause) {
            continue;
        }
        if !text.is_empty() {
            text += ": ";
        }
        text += &cause;
    }
    text
}

/// Whether bars can be drawn on stderr.
pub(crate) fn is_interactive() -> bool {
    console::user_attended_stderr()
}

/// Whether stdout takes colours (a terminal, and no NO_COLOR).
pub(crate) fn colours() -> bool {
    console::colors_enabled()
}

/// A line of progress on stderr.
pub(crate) fn note(line: &str) {
    if !quiet() {
        let _ = writeln!(std::io::stderr(), "{}", printable(line));
    }
}

/// A bar over images on stderr where that is a terminal; otherwise nothing is drawn.
pub(crate) fn bar(what: &'static str, images: usize) -> ProgressBar {
    bar_of(what, "images", images)
}

/// [`bar`] over something else.
pub(crate) fn bar_of(what: &'static str, things: &str, count: usize) -> ProgressBar {
    if quiet() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(&format!("{{msg:12}} {{wide_bar}} {{pos}}/{{len}} {things}"))
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(count as u64).with_style(style).with_message(what);
    bar.set_draw_target(indicatif::ProgressDrawTarget::stderr_with_hz(5));
    bar.enable_steady_tick(Duration::from_secs(1));
    bar
}

/// 1234567 as `1,234,567`.
pub(crate) fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_nothing_is_said_twice() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(without_backtrace("shape mismatch\n   0: candle_core::error\n   1: main"), "shape mismatch");
        assert_eq!(without_backtrace("0: x.png: broken"), "0: x.png: broken");
        let error =
            anyhow::Error::new(std::io::Error::other("no such file")).context("a  b: no such file").context("--out");
        assert_eq!(with_causes(&error), "--out: a  b: no such file");
    }
}
