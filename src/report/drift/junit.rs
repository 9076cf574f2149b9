//! JUnit XML.

use std::fmt::Write as _;

use crate::records::gate::DriftReport;

use super::lines::{answer_line, details};

/// One test case for each candidate and question; what trips the gate fails.
pub fn junit(report: &DriftReport) -> String {
    let mut cases = String::new();
    let (mut tests, mut failures) = (0, 0);
    for candidate in &report.candidates {
        let tripped_by = candidate.gate.iter().flat_map(|gate| &gate.tripped_by).collect::<Vec<_>>();
        let lines = xml(&details(report, candidate).join("\n"));
        for answer in &candidate.answers {
            tests += 1;
            let said = xml(&answer_line(report, candidate, answer));
            let _ = write!(
                cases,
                "    <testcase classname=\"{}\" name=\"{}\">\n      ",
                xml(&candidate.name),
                answer.kind.key()
            );
            if tripped_by.contains(&&answer.kind) {
                failures += 1;
                let _ = write!(cases, "<failure message=\"{said}\">{lines}</failure>");
            } else {
                let _ = write!(cases, "<system-out>{said}&#10;{lines}</system-out>");
            }
            cases += "\n    </testcase>\n";
        }
    }
    let counts = format!("tests=\"{tests}\" failures=\"{failures}\"");
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites {counts}>\n  <testsuite name=\"ticketlens drift\" {counts}>\n\
         {cases}  </testsuite>\n</testsuites>\n"
    )
}

/// Text for XML 1.0, attributes included; characters that XML cannot hold become spaces.
fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
