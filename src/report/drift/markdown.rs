//! Markdown, for a pull request's comment or a job summary.

use crate::records::gate::{CandidateDrift, DriftReport};
use crate::report::markdown::text;
use crate::report::table::{Cell, Table};

use super::lines::{decision, details, numbers, setting, share_line, word};

/// Markdown, for a pull request's comment or a job summary: the answers of all candidates first,
/// then each with its details.
pub fn markdown(report: &DriftReport) -> String {
    let mut out = format!("## Explanation drift from {}\n\n", text(&report.reference));
    let own = share_line(report.density, report.accuracy).map(|line| format!("; reference: {line}"));
    out += &format!("{}{}.\n\n{}\n", text(&setting(report)), own.unwrap_or_default(), overview(report).markdown());
    for candidate in &report.candidates {
        out += &format!("### {}\n\n{}\n\n", text(&candidate.name), text(&decision(report, candidate)));
        out += &format!("{}\n{}\n", answers(candidate).markdown(), measures(candidate).markdown());
        for line in details(report, candidate) {
            out += &format!("- {}\n", text(&line));
        }
        out.push('\n');
    }
    out
}

/// One row for each candidate: what the gate says, and the answer to each question.
pub(super) fn overview(report: &DriftReport) -> Table {
    let mut table = Table::new("", &["candidate", "gate", "pixels", "concepts", "accuracy"]);
    for candidate in &report.candidates {
        let gate = match &candidate.gate {
            None => "–",
            Some(gate) if gate.tripped => "✗ failed",
            Some(_) => "✓ passed",
        };
        let mut row = vec![Cell::text(&candidate.name), Cell::text(gate)];
        row.extend(crate::records::gate::Kind::ALL.map(|kind| match candidate.answer(kind) {
            Some(answer) => Cell::text(word(answer.answer)),
            None => Cell::absent(),
        }));
        table.rows.push(row);
    }
    table
}

/// One row for each question.
pub(super) fn answers(candidate: &CandidateDrift) -> Table {
    let mut table = Table::new("Answers", &["question", "answer", "by", "note"]);
    for answer in &candidate.answers {
        table.rows.push(vec![
            Cell::text(answer.kind.key()),
            Cell::text(word(answer.answer)),
            Cell::text(numbers(answer)),
            Cell::text(answer.note.as_deref().unwrap_or(crate::report::format::ABSENT)),
        ]);
    }
    table
}

/// One row for each measure of the maps.
pub(super) fn measures(candidate: &CandidateDrift) -> Table {
    let mut table = Table::new("Measures of the maps", &["measure", "drift", "floor", "ρ"]);
    for measured in &candidate.measures {
        table.rows.push(vec![
            Cell::text(measured.measure.key()),
            Cell::maybe(measured.drift),
            Cell::maybe(measured.floor),
            Cell::maybe(measured.rho),
        ]);
    }
    table
}
