//! SARIF 2.1.0 (OASIS), for code scanning.

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::records::Explanations;
use crate::records::gate::{Answer, CandidateDrift, DriftReport, Kind};

use super::lines::{answer_line, details};

/// One result for each candidate and question, at the candidate's file: `fail` and an error where
/// it trips the gate, a warning where it changed but is not required, else `pass`, or `review`
/// where it is undecided.
///
/// # Errors
/// When serialisation fails.
pub fn sarif(report: &DriftReport) -> Result<String> {
    let rules: Vec<Value> = Kind::ALL.into_iter().map(rule).collect();
    let results: Vec<Value> = report
        .candidates
        .iter()
        .flat_map(|candidate| candidate.answers.iter().map(|answer| result(report, candidate, answer)))
        .collect();
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "ticketlens",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            } },
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    });
    let text = serde_json::to_string_pretty(&log).map_err(|error| Error::input(format!("drift report: {error}")))?;
    Ok(text + "\n")
}

fn rule(kind: Kind) -> Value {
    let text = match kind {
        Kind::Pixels => "The pruned network looks at other pixels, more than retraining explains.",
        Kind::Concepts => "The pruned network uses other concepts, more than retraining explains.",
        Kind::Accuracy => "The pruned network is less accurate, more than retraining explains.",
    };
    json!({
        "id": format!("drift/{}", kind.key()),
        "shortDescription": { "text": text },
        "defaultConfiguration": { "level": "error" },
    })
}

fn result(report: &DriftReport, candidate: &CandidateDrift, answer: &Answer) -> Value {
    let trips = candidate.gate.as_ref().is_some_and(|gate| gate.tripped_by.contains(&answer.kind));
    // What is no failure has no level.
    let (kind, level) = match answer.answer {
        _ if trips => ("fail", "error"),
        Explanations::Changed => ("fail", "warning"),
        Explanations::Undecided => ("review", "none"),
        Explanations::Kept => ("pass", "none"),
    };
    let mut text = format!("{}: {}", candidate.name, answer_line(report, candidate, answer));
    for line in details(report, candidate) {
        text += &format!("\n{line}");
    }
    json!({
        "ruleId": format!("drift/{}", answer.kind.key()),
        "ruleIndex": Kind::ALL.iter().position(|kind| *kind == answer.kind),
        "kind": kind,
        "level": level,
        "message": { "text": text },
        "locations": [{ "physicalLocation": { "artifactLocation": { "uri": uri(&candidate.name) } } }],
        "partialFingerprints": { "candidateAndQuestion/v1": format!("{}:{}", candidate.name, answer.kind.key()) },
    })
}

/// A path as a URI reference (RFC 3986): what is not allowed there is percent-encoded.
fn uri(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => out.push(char::from(byte)),
            other => out += &format!("%{other:02X}"),
        }
    }
    out
}
