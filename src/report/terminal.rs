//! What a run prints at its end: a table for each arm, and the verdict. Plain text of at most 80 columns.

use super::Study;
use super::format;
use super::view::{Measure, Point, Spread, View};
use crate::error::Result;
use crate::records::{Call, Interval, Outcome, Verdict};

const WIDTH: usize = 80;

/// The study as text; with `colour`, calls and outcomes carry ANSI colours (the caller knows the terminal and `NO_COLOR`).
///
/// # Errors
/// When the plan cannot be read.
pub fn render(study: &Study, colour: bool) -> Result<String> {
    let view = View::new(study)?;
    let tested = view.tested();
    let mut out = String::new();
    let row = |point: &Point| Row::new(point, tested);
    let arms = view.arms().into_iter().map(|arm| (arm, view.arm(arm).into_iter().map(row).collect::<Vec<Row>>()));
    let arms: Vec<_> = arms.collect();
    let fits = |rows: &Vec<Row>| lines(rows, true, colour).iter().all(|(width, _)| *width <= WIDTH);
    let ranges = arms.iter().all(|(_, rows)| fits(rows));
    for (arm, rows) in &arms {
        out += &paint(&printable(&format::arm_name(arm)), BOLD, colour);
        out.push('\n');
        for (_, line) in lines(rows, ranges, colour) {
            out += line.trim_end();
            out.push('\n');
        }
        out.push('\n');
    }
    let (of_accuracy, of_drift) = if ranges { (" (lowest–highest)", true) } else { ("", false) };
    let confidence = format::percent(view.plan.verdict.confidence, 0);
    out += &wrapped(
        &format!(
            "accuracy: test accuracy in %, mean{of_accuracy} over replicates. drift: Grad-CAM maps against dense, in units of \
             the noise floor{}. concepts: significant of {tested} class × concept pairs, mean.",
            if of_drift { format!(" ({confidence} interval)") } else { String::new() }
        ),
        "",
    );
    out.push('\n');
    for (letter, hypothesis, verdict) in
        [("A", format::HYPOTHESIS_A, &study.study.hypothesis_a), ("B", format::HYPOTHESIS_B, &study.study.hypothesis_b)]
    {
        out += &verdict_text(letter, hypothesis, verdict, colour);
    }
    let mut warnings: Vec<&String> = study.study.warnings.iter().collect();
    warnings.sort();
    for warning in warnings {
        out += &wrapped(&format!("warning: {}", printable(warning)), "         ");
    }
    Ok(out)
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

/// One line of the table, as text.
struct Row {
    round: String,
    density: String,
    accuracy: String,
    accuracy_range: String,
    drift: String,
    drift_interval: String,
    concepts: String,
    call: Option<Call>,
}

impl Row {
    fn new(point: &Point, tested: usize) -> Self {
        let percent = |share: f64, decimals: usize| format::decimal(100.0 * share, decimals);
        let accuracy = &point.accuracy;
        let varies = accuracy.values.len() > 1;
        let ends = |range: Interval| format!("({}–{})", format::number(range.low), format::number(range.high));
        Self {
            round: point.round.to_string(),
            density: format::density(point.density),
            accuracy: percent(accuracy.mean, 2),
            accuracy_range: if varies {
                format!("({}–{})", percent(accuracy.low, 2), percent(accuracy.high, 2))
            } else {
                String::new()
            },
            drift: point
                .drift(Measure::Spearman)
                .map_or_else(|| format::ABSENT.to_owned(), |spread| format::number(spread.mean)),
            drift_interval: point.call.and_then(|call| call.drift_interval).map_or_else(String::new, ends),
            concepts: point
                .significant
                .as_ref()
                .map_or_else(|| format::ABSENT.to_owned(), |spread| count(spread, tested)),
            call: point.call.map(|call| call.call),
        }
    }
}

fn count(spread: &Spread, tested: usize) -> String {
    let whole = spread.mean.fract() == 0.0;
    format!("{}/{tested}", format::decimal(spread.mean, usize::from(!whole)))
}

/// Each line with its width in characters, ANSI codes not counted; columns are as wide as their content.
fn lines(rows: &[Row], ranges: bool, colour: bool) -> Vec<(usize, String)> {
    let with = |value: &str, range: &str, width: usize| {
        if ranges { format!("{value} {range:<width$}") } else { value.to_owned() }
    };
    let longest = |field: fn(&Row) -> &String| rows.iter().map(|row| field(row).chars().count()).max().unwrap_or(0);
    let (accuracy, drift) = (longest(|row| &row.accuracy_range), longest(|row| &row.drift_interval));
    let mut cells = vec![["round", "density", "accuracy", "drift", "concepts"].map(str::to_owned)];
    for row in rows {
        cells.push([
            row.round.clone(),
            row.density.clone(),
            with(&row.accuracy, &row.accuracy_range, accuracy),
            with(&row.drift, &row.drift_interval, drift),
            row.concepts.clone(),
        ]);
    }
    let widths: [usize; 5] =
        std::array::from_fn(|column| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let mut out = Vec::new();
    for (index, row) in cells.iter().enumerate() {
        let mut padded: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:>width$}")).collect();
        if index == 0 && ranges {
            // Over the numbers, not over the ranges beside them.
            for column in [2, 3] {
                padded[column] = format!("{:<width$}", row[column], width = widths[column]);
            }
        }
        let line = padded.join("  ");
        let call = index.checked_sub(1).and_then(|index| rows[index].call);
        let name = if index == 0 { "call" } else { call.map_or(format::ABSENT, format::call_name) };
        let width = line.chars().count() + 2 + name.chars().count();
        let painted = match call {
            Some(Call::A) => paint(name, GREEN, colour),
            Some(Call::B) => paint(name, RED, colour),
            Some(Call::DriftedWinner | Call::FaithfulLoser) => paint(name, YELLOW, colour),
            Some(Call::Inconclusive | Call::Dense) | None => {
                paint(name, if index == 0 { "0" } else { DIM }, colour && index > 0)
            }
        };
        let line =
            if index == 0 { paint(&format!("{line}  {name}"), DIM, colour) } else { format!("{line}  {painted}") };
        out.push((width, line));
    }
    out
}

fn verdict_text(letter: &str, hypothesis: &str, verdict: &Verdict, colour: bool) -> String {
    let code = match verdict.outcome {
        Outcome::Supported => GREEN,
        Outcome::Refuted => RED,
        Outcome::Inconclusive => YELLOW,
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
