//! The sentences that every format shares.

use crate::records::Explanations;
use crate::records::gate::{Answer, CandidateDrift, DriftReport, Kind, NamedDrift, Unit};
use crate::report::format;

/// `kept`, `changed` or `undecided`.
pub(super) fn word(answer: Explanations) -> &'static str {
    match answer {
        Explanations::Kept => "kept",
        Explanations::Changed => "changed",
        Explanations::Undecided => "undecided",
    }
}

/// The gate's decision on a candidate in one line, what trips it first.
pub fn decision(report: &DriftReport, candidate: &CandidateDrift) -> String {
    let answers = |kinds: &[Kind]| -> Vec<String> {
        let of = |kind: &Kind| candidate.answer(*kind).map(|answer| answer_line(report, candidate, answer));
        kinds.iter().filter_map(of).collect()
    };
    match &candidate.gate {
        None => "no gate: neither floor nor limit was given".to_owned(),
        Some(gate) if gate.tripped => format!("FAILED: {}", answers(&gate.tripped_by).join("; ")),
        Some(gate) => format!("passed: {}", answers(&gate.required).join("; ")),
    }
}

/// `pixels changed: ρ 3.05 (2.10 to 4.40), limit 1.25, retrained networks reach 1.42`.
pub(super) fn answer_line(report: &DriftReport, candidate: &CandidateDrift, answer: &Answer) -> String {
    let mut parts = Vec::new();
    if answer.kind == Kind::Pixels {
        parts.extend(too_few(report, candidate));
    }
    parts.push(numbers(answer));
    parts.extend(answer.note.clone());
    format!("{} {}: {}", answer.kind.key(), word(answer.answer), parts.join("; "))
}

/// The value with its interval, and what it is held against.
pub(super) fn numbers(answer: &Answer) -> String {
    let show = |value: f64| match answer.unit {
        Unit::Share => format::points(value),
        Unit::Rho | Unit::Drift => format::number(value),
    };
    let Some(value) = answer.value else { return format!("{} is undefined", unit_name(answer.unit)) };
    let mut text = match answer.unit {
        Unit::Share => format!("{} points", show(value)),
        unit => format!("{} {}", unit_name(unit), show(value)),
    };
    if let Some(interval) = answer.interval {
        text += &format!(" ({} to {})", show(interval.low), show(interval.high));
    }
    if let Some(limit) = answer.limit {
        text += &match answer.unit {
            Unit::Share => format!(", margin {}", show(-limit)),
            _ => format!(", limit {}", show(limit)),
        };
    }
    if let Some(reach) = answer.reach {
        text += &match answer.unit {
            Unit::Share => format!(", retrained networks differ by up to {}", format::decimal(100.0 * reach, 2)),
            _ => format!(", retrained networks reach {}", show(reach)),
        };
    }
    text
}

fn unit_name(unit: Unit) -> &'static str {
    match unit {
        Unit::Rho => "ρ",
        Unit::Drift => "drift",
        Unit::Share => "difference",
    }
}

/// Why the images are too few, where they are.
fn too_few(report: &DriftReport, candidate: &CandidateDrift) -> Option<String> {
    let needed = candidate.gate.as_ref()?.needed;
    let images = report.images;
    let few = |counted: usize, what: &str| {
        (counted < needed)
            .then(|| format!("only {counted} of {images} images count{what}, at least {needed} are needed"))
    };
    few(candidate.counted, &reasons(candidate))
        .or_else(|| report.floor_counted.and_then(|counted| few(counted, " in the floor")))
}

/// Why images do not count, in brackets; nothing where all do.
fn reasons(candidate: &CandidateDrift) -> String {
    let mut parts = Vec::new();
    if candidate.misclassified > 0 {
        parts.push(format!("{} misclassified by one of the networks", candidate.misclassified));
    }
    if candidate.degenerate > 0 {
        parts.push(format!("{} with a map that says nothing (zero or the same everywhere)", candidate.degenerate));
    }
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
}

/// What stands beside the answers: how many images count and why others do not, concepts that
/// flipped, density and accuracy.
pub(super) fn facts(report: &DriftReport, candidate: &CandidateDrift) -> Vec<String> {
    let mut lines = vec![format!("{} of {} images count{}", candidate.counted, report.images, reasons(candidate))];
    if !candidate.concepts.is_empty() {
        let flipped = candidate.concepts.iter().filter(|concept| concept.flipped).count();
        let all = candidate.concepts.len();
        lines.push(format!("{flipped} of {all} concept effects changed their sign or significance"));
    }
    lines.extend(share_line(candidate.density, candidate.accuracy));
    lines
}

/// `density 12.5 %, accuracy 98.0 %`, as far as they are known.
pub(super) fn share_line(density: Option<f64>, accuracy: Option<f64>) -> Option<String> {
    let of = |name: &str, share: Option<f64>| share.map(|share| format!("{name} {}", format::percent(share, 1)));
    let parts: Vec<String> = [of("density", density), of("accuracy", accuracy)].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// What moved most: image, class, concept, layer.
pub(super) fn most_moved(candidate: &CandidateDrift) -> Vec<String> {
    let named = |kind: &str, list: &[NamedDrift]| {
        list.first().map(|first| format!("most moved {kind}: {} ({})", first.name, format::number(first.drift)))
    };
    let concept = candidate.concepts.first().map(|moved| {
        let (from, to) = (format::number(moved.reference), format::number(moved.candidate));
        format!("most moved concept: {} for class {} (effect {from} to {to})", moved.concept, moved.class)
    });
    let (images, classes, layers) = (&candidate.images, &candidate.classes, &candidate.layers);
    [named("image", images), named("class", classes), concept, named("layer", layers)].into_iter().flatten().collect()
}

/// [`most_moved`] and [`facts`].
pub(super) fn details(report: &DriftReport, candidate: &CandidateDrift) -> Vec<String> {
    most_moved(candidate).into_iter().chain(facts(report, candidate)).collect()
}

/// What was compared: stage, images, floor.
pub(super) fn setting(report: &DriftReport) -> String {
    let stage = report.stage.map_or_else(|| "maps as given".to_owned(), |stage| stage.to_string());
    let floor = match report.floor.len() {
        0 => "no floor".to_owned(),
        1 => "floor of 1 network".to_owned(),
        count => format!("floor of {count} networks"),
    };
    format!("{stage}, {} images, {floor}", report.images)
}
