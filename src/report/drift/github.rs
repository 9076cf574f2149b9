//! GitHub workflow commands.

use crate::records::gate::{CandidateDrift, DriftReport};

use super::lines::{decision, details};

/// GitHub shows ten annotations of a step; one of them is the summary.
const ANNOTATIONS: usize = 9;

/// One line for each candidate: `::error` where the gate tripped, else `::notice`. Of more than
/// nine candidates the first line sums up, and nine follow, those that tripped first.
pub fn github(report: &DriftReport) -> String {
    let mut out = String::new();
    let mut shown: Vec<&CandidateDrift> = report.candidates.iter().collect();
    shown.sort_by_key(|candidate| !candidate.tripped());
    if shown.len() > ANNOTATIONS {
        let tripped = shown.iter().filter(|candidate| candidate.tripped()).count();
        let mut summary = format!("the gate tripped for {tripped} of {} candidates", shown.len());
        if tripped > 0 {
            let names: Vec<&str> = shown[..tripped].iter().map(|candidate| candidate.name.as_str()).collect();
            summary += &format!(":\n{}", names.join("\n"));
        }
        out += &format!("::notice title=explanation drift::{}\n", command(&summary, false));
        shown.truncate(ANNOTATIONS);
    }
    for candidate in shown {
        let level = if candidate.tripped() { "error" } else { "notice" };
        let mut lines = vec![decision(report, candidate)];
        lines.extend(details(report, candidate));
        let title = format!("explanation drift of {}", candidate.name);
        out += &format!("::{level} title={}::{}\n", command(&title, true), command(&lines.join("\n"), false));
    }
    out
}

/// Text for a GitHub workflow command, escaped as its toolkit does.
fn command(text: &str, property: bool) -> String {
    let text = text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    if property { text.replace(':', "%3A").replace(',', "%2C") } else { text }
}
