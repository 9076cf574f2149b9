//! Plain text for a terminal.

use crate::error::printable;
use crate::records::gate::DriftReport;
use crate::report::format;

use super::lines::{answer_line, decision, details, setting, share_line};

/// Plain text for a terminal.
pub fn text(report: &DriftReport) -> String {
    let mut out = format!("reference {}: {}\n", printable(&report.reference), setting(report));
    if let Some(line) = share_line(report.density, report.accuracy) {
        out += &format!("{line}\n");
    }
    for candidate in &report.candidates {
        out += &format!("\n{}\n", printable(&candidate.name));
        for answer in &candidate.answers {
            out += &format!("  {}\n", printable(&answer_line(report, candidate, answer)));
        }
        out += &format!("  {:<18} {:>8} {:>8} {:>8}\n", "measure", "drift", "floor", "ρ");
        for measured in &candidate.measures {
            let [drift, floor, rho] = [measured.drift, measured.floor, measured.rho].map(format::maybe);
            out += &format!("  {:<18} {drift:>8} {floor:>8} {rho:>8}\n", measured.measure.key());
        }
        for line in details(report, candidate) {
            out += &format!("  {}\n", printable(&line));
        }
        out += &format!("  {}\n", printable(&decision(report, candidate)));
    }
    out
}
