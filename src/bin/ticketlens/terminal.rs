//! What goes to the terminal: results to stdout, warnings, errors and progress to stderr.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

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

/// A line of result. A reader that has gone away (`| head`) is no error.
pub(crate) fn say(line: &str) {
    if !quiet() {
        let _ = writeln!(std::io::stdout(), "{line}");
    }
}

/// A warning: the result stands, but its reader should know.
pub(crate) fn warn(text: &str) {
    if !quiet() {
        let _ = writeln!(std::io::stderr(), "warning: {}", one_line(text));
    }
}

/// The error that ends the program.
pub(crate) fn error(text: &str) {
    let _ = writeln!(std::io::stderr(), "error: {}", one_line(text));
}

/// One line, without the backtrace that Candle's errors append where `RUST_BACKTRACE` is set.
fn one_line(text: &str) -> String {
    let said = text.lines().take_while(|line| !line.trim_start().starts_with("0: "));
    said.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
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
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

/// A bar over images on stderr where that is a terminal; otherwise nothing is drawn.
pub(crate) fn bar(what: &'static str, images: usize) -> ProgressBar {
    if quiet() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg:12} {wide_bar} {pos}/{len} images")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(images as u64).with_style(style).with_message(what);
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
    fn numbers_are_grouped_and_messages_flattened() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(one_line("a\n  --b <B>\n"), "a --b <B>");
        assert_eq!(one_line("shape mismatch\n   0: candle_core::error\n   1: main"), "shape mismatch");
    }
}
