//! What a run prints at its end: the answer, a table for each arm, what it rests on. Plain text of at most 80 columns.

use super::Study;
use super::answer::{Shade, hypotheses, mark, pruned, strips};
use super::format;
use super::methods;
use super::view::{Measure, Point, View};
use crate::error::Result;
use crate::records::{Call, Interval, Onset, Outcome, Verdict};

const WIDTH: usize = 80;

/// The study as text; with `colour`, answers and outcomes carry ANSI colours (the caller knows the
/// terminal and `NO_COLOR`).
///
/// # Errors
/// When the plan cannot be read.
pub fn render(study: &Study, colour: bool) -> Result<String> {
    let view = View::new(study)?;
    let mut out = picture(&view, colour);
    out.push('\n');
    out += &wrapped(&printable(&study.study.answer), "");
    for (letter, hypothesis, verdict) in
        [("A", format::HYPOTHESIS_A, &study.study.hypothesis_a), ("B", format::HYPOTHESIS_B, &study.study.hypothesis_b)]
    {
        out.push('\n');
        out += &verdict_text(letter, hypothesis, verdict, colour);
    }
    for arm in view.arms() {
        out.push('\n');
        out += &paint(&printable(&format::arm_name(arm)), BOLD, colour);
        out.push('\n');
        for line in table(&view.arm(arm), colour) {
            out += line.trim_end();
            out.push('\n');
        }
    }
    let confidence = format::percent(view.plan.verdict.confidence, 0);
    out.push('\n');
    out += &wrapped(
        &format!(
            "accuracy: test accuracy in %, mean over replicates; difference: to the parent, in points. pixels, concepts: ρ, drift \
             of the ticket over that of a retrained network (1: no more than retraining). In brackets {confidence} intervals over \
             replicates and images."
        ),
        "",
    );
    out += &further(&view);
    let mut warnings: Vec<&String> = study.study.warnings.iter().collect();
    warnings.sort();
    for warning in warnings {
        out += &wrapped(&format!("warning: {}", printable(warning)), "         ");
    }
    Ok(out)
}

/// Three strips over density, a sign for each answer, and the ranges above.
fn picture(view: &View, colour: bool) -> String {
    let points = pruned(view);
    if points.is_empty() {
        return String::new();
    }
    // At most so many columns that a line has 80 characters.
    let column = 12.min((WIDTH - 10) / points.len()).max(1);
    let words = column >= 12;
    let center = |text: &str| format!("{text:^column$}");
    let mut out = format!("{:<10}", "");
    for letter in hypotheses(view) {
        let text = center(&letter.map_or(String::new(), |letter| letter.to_string()));
        out += &match letter {
            Some('A') => paint(&text, GREEN, colour),
            Some(_) => paint(&text, RED, colour),
            None => text,
        };
    }
    out = out.trim_end().to_owned() + "\n";
    for strip in strips(view) {
        let mut line = format!("{:<10}", strip.name);
        for (shade, word, _) in &strip.cells {
            let text = if words { format!("{} {word}", mark(*shade)) } else { mark(*shade).to_owned() };
            let code = match shade {
                Shade::Good => GREEN,
                Shade::Open => DIM,
                Shade::Bad => RED,
            };
            line += &paint(&center(&text), code, colour);
        }
        out += line.trim_end();
        out.push('\n');
    }
    if column >= 8 {
        let mut line = format!("{:<10}", "weights");
        for point in &points {
            line += &center(&format::density(point.density));
        }
        out += line.trim_end();
        out.push('\n');
    } else {
        let end = |point: Option<&&Point>| point.map_or(String::new(), |point| format::density(point.density));
        out += &format!("{:<10}from {} down to {}\n", "weights", end(points.first()), end(points.last()));
    }
    if !words {
        out += &format!("{:<10}✓ matches or kept   ? undecided   ✗ lost or changed\n", "");
    }
    out
}

/// Onsets, forgetting.
fn further(view: &View) -> String {
    let study = &view.study.study;
    let mut out = String::new();
    if let Some(sentence) = methods::sentence(view) {
        out += &wrapped(&printable(&sentence), "  ");
    }
    if let Some(onsets) = &study.onsets {
        let named = [
            ("pixels", onsets.pixels.as_ref()),
            ("concepts", onsets.concepts.as_ref()),
            ("accuracy", Some(&onsets.accuracy)),
        ];
        let told: Vec<String> =
            named.into_iter().filter_map(|(name, onset)| Some(format!("{name} {}", onset_text(onset?)))).collect();
        out += &wrapped(&format!("begins to change at: {}", told.join("; ")), "  ");
    }
    let found: Vec<String> = (study.forgetting.iter())
        .filter(|record| record.round > 0)
        .filter_map(|record| {
            let (all, p) = (record.all?, record.p_adjusted?);
            Some(format!("{} {} (p {})", format::density(record.density), format::number(all.auc), format::p_value(p)))
        })
        .collect();
    if !found.is_empty() {
        out +=
            &wrapped(&format!("forgotten images drift more than kept ones (AUC, ½: no): {}", found.join(", ")), "  ");
    }
    out
}

/// A density with its interval.
fn onset_text(onset: &Onset) -> String {
    let at = onset.density.map_or("no tested density".to_owned(), format::density);
    format!("{at} ({})", format::onset_interval(onset))
}

const BOLD: &str = "1";
const GREEN: &str = "32";
const RED: &str = "31";
const YELLOW: &str = "33";
const DIM: &str = "2";

fn paint(text: &str, code: &str, colour: bool) -> String {
    if colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// Without control characters: a name from outside must not move the cursor.
fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

/// The lines of an arm's table; columns are as wide as their content. Intervals go first where 80
/// columns do not hold them.
fn table(points: &[&Point], colour: bool) -> Vec<String> {
    let with_intervals = lines(points, true, colour);
    if with_intervals.iter().all(|(width, _)| *width <= WIDTH) {
        return with_intervals.into_iter().map(|(_, line)| line).collect();
    }
    lines(points, false, colour).into_iter().map(|(_, line)| line).collect()
}

/// Each line with its width in characters, ANSI codes not counted.
fn lines(points: &[&Point], intervals: bool, colour: bool) -> Vec<(usize, String)> {
    let ends = |range: Option<Interval>, scale: f64, show: fn(f64) -> String| match range.filter(|_| intervals) {
        Some(range) => format!(" ({}–{})", show(scale * range.low), show(scale * range.high)),
        None => String::new(),
    };
    let one: fn(f64) -> String = |value| format::decimal(value, 1);
    let two: fn(f64) -> String = |value| format::decimal(value, 2);
    let mut rows = vec![["density", "accuracy", "difference", "pixels", "concepts"].map(str::to_owned)];
    for point in points {
        let record = point.record.filter(|_| point.round > 0);
        let drift = |measure: Measure| match point.ratio(measure) {
            Some(ratio) => ratio.rho.map_or(format::ABSENT.to_owned(), two) + &ends(ratio.interval, 1.0, two),
            None => format::ABSENT.to_owned(),
        };
        rows.push([
            format::density(point.density),
            format::decimal(100.0 * point.accuracy.mean, 2),
            record.map_or_else(
                || format::ABSENT.to_owned(),
                |record| format::points(record.accuracy.difference) + &ends(record.accuracy.interval, 100.0, one),
            ),
            drift(Measure::DECIDING[0]),
            drift(Measure::DECIDING[1]),
        ]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 5] = std::array::from_fn(width);
    let mut out = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let padded: Vec<String> = (row.iter().zip(widths).enumerate())
            .map(
                |(column, (cell, width))| {
                    if column < 2 { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
                },
            )
            .collect();
        let line = padded.join("  ");
        let call = index.checked_sub(1).and_then(|index| points[index].record).map(|record| record.call);
        let name = if index == 0 { "call" } else { call.map_or(format::ABSENT, format::call_name) };
        let width = line.chars().count() + 2 + name.chars().count();
        let painted = match call {
            Some(Call::A) => paint(name, GREEN, colour),
            Some(Call::B) => paint(name, RED, colour),
            Some(Call::DriftedWinner | Call::FaithfulLoser) => paint(name, YELLOW, colour),
            Some(Call::Inconclusive | Call::Dense) | None => paint(name, DIM, colour && index > 0),
        };
        let line = match index {
            0 => paint(&format!("{line}  {name}"), DIM, colour),
            _ => format!("{line}  {painted}"),
        };
        out.push((width, line));
    }
    out
}

fn verdict_text(letter: &str, hypothesis: &str, verdict: &Verdict, colour: bool) -> String {
    let code = match verdict.outcome {
        Outcome::Supported => GREEN,
        Outcome::Refuted => RED,
        Outcome::Inconclusive | Outcome::NoVerdict => YELLOW,
    };
    let outcome = format::outcome_name(verdict.outcome).to_uppercase();
    let head = format!("{} {}", paint(letter, BOLD, colour), paint(&outcome, code, colour));
    let text = format!("Hypothesis {letter}, {hypothesis}: {}", printable(&verdict.reason));
    format!("{head}\n{}", wrapped(&format!("  {text}"), "  "))
}

/// Lines of at most 80 characters; further lines start with `indent`.
fn wrapped(text: &str, indent: &str) -> String {
    let lead: String = text.chars().take_while(|character| *character == ' ').collect();
    let mut out = lead.clone();
    let mut width = lead.chars().count();
    let mut start = true;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if !start && width + 1 + length > WIDTH {
            out.push('\n');
            out += indent;
            width = indent.chars().count();
            start = true;
        }
        if !start {
            out.push(' ');
            width += 1;
        }
        out += word;
        width += length;
        start = false;
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_wraps_at_eighty_with_its_indent() {
        let text = wrapped(&format!("  {}", "word ".repeat(40)), "  ");
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH && line.starts_with("  word")));
        assert_eq!(text.split_whitespace().count(), 40);
    }
}
