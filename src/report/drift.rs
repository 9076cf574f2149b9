//! The outcome of `ticketlens drift`: how far checkpoints' explanations lie from a reference's, and whether a gate tripped.
//!
//! [`DriftReport`] is plain data; the functions render it as a table, JSON, JUnit XML, GitHub annotations or Markdown.

use serde::{Deserialize, Serialize};

use super::format;
use super::markdown;
use super::table::{Cell, Table};
use crate::error::{Error, Result, printable};
use crate::model::{Assumptions, Stage};

/// Version of [`DriftReport`]'s JSON.
pub const DRIFT_SCHEMA_VERSION: u32 = 2;

/// GitHub shows ten annotations of a step; one of them is the summary.
const ANNOTATIONS: usize = 9;

/// What `ticketlens drift` found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DriftReport {
    /// [`DRIFT_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Name of the reference checkpoint.
    pub reference: String,
    /// Stage of the maps and concepts.
    pub stage: Stage,
    /// Images compared.
    pub images: usize,
    /// Names of the checkpoints that give the noise floor; empty without a floor.
    pub floor: Vec<String>,
    /// Images that count in every pair of the floor; absent without a floor.
    pub floor_counted: Option<usize>,
    /// Share of the reference's prunable weights that are not zero.
    pub density: f64,
    /// Its accuracy on the images; absent without labels.
    pub accuracy: Option<f64>,
    /// How the reference computes, as far as names and shapes do not tell.
    pub assumed: Option<Assumptions>,
    /// One entry for each candidate, in the order given.
    pub candidates: Vec<CandidateDrift>,
}

/// One candidate beside the reference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CandidateDrift {
    /// Name of the checkpoint.
    pub name: String,
    /// Each measure, the gate's first.
    pub measures: Vec<MeasuredDrift>,
    /// Images whose drift counts.
    pub counted: usize,
    /// Images that one of the two networks gets wrong, by the labels; they do not count.
    pub misclassified: usize,
    /// Images whose map says nothing in one of the two networks; they do not count.
    pub degenerate: usize,
    /// Share of its prunable weights that are not zero.
    pub density: f64,
    /// Its accuracy on the images; absent without labels.
    pub accuracy: Option<f64>,
    /// How it computes, as far as names and shapes do not tell.
    pub assumed: Option<Assumptions>,
    /// Drift of each image, the most moved first.
    pub images: Vec<NamedDrift>,
    /// Mean drift over the images of each class, the most moved first.
    pub classes: Vec<NamedDrift>,
    /// Each concept on each class, the most moved first; empty without concepts.
    pub concepts: Vec<ConceptDrift>,
    /// Layers whose weights differ most from the reference's, by relative L2 distance, the most moved first.
    pub layers: Vec<NamedDrift>,
    /// Whether the gate lets it pass; absent without floor and limit.
    pub gate: Option<Gate>,
}

/// One measure of drift.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeasuredDrift {
    /// Such as `spearman`, `iou_top20`.
    pub measure: String,
    /// The drift; absent where no image allows it.
    pub raw: Option<f64>,
    /// The same between floor checkpoints.
    pub floor: Option<f64>,
    /// `raw / floor`.
    pub in_floors: Option<f64>,
}

/// Drift of something with a name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NamedDrift {
    /// Image, class or layer.
    pub name: String,
    /// Its drift.
    pub drift: f64,
}

/// One concept's standardised effect on one class, before and after.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConceptDrift {
    /// Class.
    pub class: String,
    /// Concept.
    pub concept: String,
    /// Standardised effect in the reference.
    pub reference: f64,
    /// Standardised effect in the candidate.
    pub candidate: f64,
    /// Whether its sign or its significance changed.
    pub flipped: bool,
}

/// The gate's decision on one candidate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// The measure that decides.
    pub measure: String,
    /// Its value, in floor units where there is a floor and raw otherwise; absent where it is undefined, which trips the gate.
    pub value: Option<f64>,
    /// Greatest value that passes.
    pub limit: f64,
    /// Whether `value` and `limit` are in units of the floor.
    pub in_floors: bool,
    /// Images that must count, of those compared.
    pub needed: usize,
    /// Whether the candidate is refused.
    pub tripped: bool,
}

impl DriftReport {
    /// Whether any candidate is refused: the program's exit status 1.
    pub fn tripped(&self) -> bool {
        self.candidates.iter().any(CandidateDrift::tripped)
    }

    /// Plain text for a terminal.
    pub fn text(&self) -> String {
        let mut out = format!("reference {} at {}, {} images", printable(&self.reference), self.stage, self.images);
        out += &match self.floor.len() {
            0 => ", no floor\n".to_owned(),
            count => format!(", floor from {count} checkpoints\n"),
        };
        out += &format!("{}\n", share_line(self.density, self.accuracy));
        for candidate in &self.candidates {
            out += &format!(
                "\n{}\n  {:<18} {:>8} {:>8} {:>8}\n",
                printable(&candidate.name),
                "measure",
                "drift",
                "floor",
                "floors"
            );
            for measure in &candidate.measures {
                let [raw, floor, units] = [measure.raw, measure.floor, measure.in_floors].map(format::maybe);
                out += &format!("  {:<18} {raw:>8} {floor:>8} {units:>8}\n", printable(&measure.measure));
            }
            for line in candidate.most_moved().into_iter().chain(self.facts(candidate)) {
                out += &format!("  {}\n", printable(&line));
            }
            out += &format!("  {}\n", printable(&self.decision(candidate)));
        }
        out
    }

    /// Indented JSON with a line feed at its end.
    ///
    /// # Errors
    /// When serialisation fails.
    pub fn json(&self) -> Result<String> {
        let text =
            serde_json::to_string_pretty(self).map_err(|error| Error::input(format!("drift report: {error}")))?;
        Ok(text + "\n")
    }

    /// JUnit XML: one test case for each candidate and measure; the gate's measure fails where it tripped.
    pub fn junit(&self) -> String {
        let mut cases = String::new();
        let (mut tests, mut failures) = (0, 0);
        for candidate in &self.candidates {
            let mut measures: Vec<&str> = candidate.measures.iter().map(|measured| measured.measure.as_str()).collect();
            let deciding = candidate.gate.as_ref().map(|gate| gate.measure.as_str());
            // A deciding measure that was not measured still needs a case that can fail.
            measures.extend(deciding.filter(|gate| !measures.contains(gate)));
            for measure in measures {
                tests += 1;
                cases += &format!("    <testcase classname=\"{}\" name=\"{}\"", xml(&candidate.name), xml(measure));
                if deciding == Some(measure) && candidate.tripped() {
                    failures += 1;
                    let lines: Vec<String> = candidate.most_moved().into_iter().chain(self.facts(candidate)).collect();
                    let (decision, moved) = (self.decision(candidate), lines.join("\n"));
                    cases += &format!(
                        ">\n      <failure message=\"{}\">{}</failure>\n    </testcase>\n",
                        xml(&decision),
                        xml(&moved)
                    );
                } else if measure == candidate.measures.first().map_or("", |first| first.measure.as_str()) {
                    let facts = self.facts(candidate).join("\n");
                    cases += &format!(">\n      <system-out>{}</system-out>\n    </testcase>\n", xml(&facts));
                } else {
                    cases += "/>\n";
                }
            }
        }
        let counts = format!("tests=\"{tests}\" failures=\"{failures}\"");
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites {counts}>\n  <testsuite name=\"ticketlens drift\" {counts}>\n\
             {cases}  </testsuite>\n</testsuites>\n"
        )
    }

    /// GitHub workflow commands, one line for each candidate: `::error` where the gate tripped, else `::notice`. Of more than nine
    /// candidates the first line sums up, and nine follow, those that tripped first.
    pub fn github(&self) -> String {
        let mut out = String::new();
        let mut shown: Vec<&CandidateDrift> = self.candidates.iter().collect();
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
            let mut lines = vec![self.decision(candidate)];
            lines.extend(candidate.most_moved());
            lines.extend(self.facts(candidate));
            let title = format!("explanation drift of {}", candidate.name);
            out += &format!("::{level} title={}::{}\n", command(&title, true), command(&lines.join("\n"), false));
        }
        out
    }

    /// Markdown, for a pull request's comment or a job summary.
    pub fn markdown(&self) -> String {
        let mut out = format!(
            "## Explanation drift from {} ({}, {} images)\n\n",
            markdown::text(&self.reference),
            self.stage,
            self.images
        );
        out += &format!("Reference: {}.\n\n", share_line(self.density, self.accuracy));
        for candidate in &self.candidates {
            out += &format!(
                "### {}\n\n{}\n\n",
                markdown::text(&candidate.name),
                markdown::text(&self.decision(candidate))
            );
            let mut table = Table::new("", &["measure", "drift", "floor", "in floor units"]);
            for measure in &candidate.measures {
                table.rows.push(vec![
                    Cell::text(&measure.measure),
                    Cell::maybe(measure.raw),
                    Cell::maybe(measure.floor),
                    Cell::maybe(measure.in_floors),
                ]);
            }
            out += &table.markdown();
            out.push('\n');
            for line in candidate.most_moved().into_iter().chain(self.facts(candidate)) {
                out += &format!("- {}\n", markdown::text(&line));
            }
            out.push('\n');
        }
        out
    }
}

impl DriftReport {
    /// The gate's decision on a candidate in one line.
    pub fn decision(&self, candidate: &CandidateDrift) -> String {
        let Some(gate) = &candidate.gate else {
            return "no gate: neither floor nor limit was given".to_owned();
        };
        let unit = if gate.in_floors { " × floor" } else { "" };
        let word = if gate.tripped { "FAILED" } else { "passed" };
        let drift = match gate.value {
            Some(value) => {
                let relation = if value > gate.limit { "over" } else { "within" };
                let (value, limit) = (format::number(value), format::number(gate.limit));
                format!("{} drift {value}{unit}, {relation} the limit {limit}{unit}", gate.measure)
            }
            None if candidate.counted == 0 => format!("{} drift is undefined: no image counts", gate.measure),
            None => format!("{} drift is undefined: the floor is zero, or no image counts in it", gate.measure),
        };
        let images = self.images;
        let few = |counted: usize| counted < gate.needed;
        if few(candidate.counted) {
            let what = format!("only {} of {images} images count{}", candidate.counted, candidate.reasons());
            return format!("{word}: {what}, at least {} are needed; {drift}", gate.needed);
        }
        match self.floor_counted {
            Some(counted) if few(counted) => {
                format!(
                    "{word}: only {counted} of {images} images count in the floor, at least {} are needed; {drift}",
                    gate.needed
                )
            }
            _ => format!("{word}: {drift}"),
        }
    }

    /// What stands beside the measures: how many images count and why others do not, density and accuracy.
    fn facts(&self, candidate: &CandidateDrift) -> Vec<String> {
        vec![
            format!("{} of {} images count{}", candidate.counted, self.images, candidate.reasons()),
            share_line(candidate.density, candidate.accuracy),
        ]
    }
}

/// `density 12.5 %, accuracy 98.0 %`.
fn share_line(density: f64, accuracy: Option<f64>) -> String {
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let accuracy = accuracy.map(|share| format!(", accuracy {}", percent(share))).unwrap_or_default();
    format!("density {}{accuracy}", percent(density))
}

impl CandidateDrift {
    /// Why images do not count, in brackets; nothing where all do.
    fn reasons(&self) -> String {
        let mut parts = Vec::new();
        if self.misclassified > 0 {
            parts.push(format!("{} misclassified by one of the two", self.misclassified));
        }
        if self.degenerate > 0 {
            parts.push(format!("{} with a map that says nothing (zero or the same everywhere)", self.degenerate));
        }
        if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
    }

    /// Whether the gate refuses it.
    pub fn tripped(&self) -> bool {
        self.gate.as_ref().is_some_and(|gate| gate.tripped)
    }

    /// What moved most: image, class, concept, layer.
    pub fn most_moved(&self) -> Vec<String> {
        let named = |kind: &str, list: &[NamedDrift]| {
            list.first().map(|first| format!("most moved {kind}: {} ({})", first.name, format::number(first.drift)))
        };
        let concept = self.concepts.first().map(|moved| {
            let (from, to) = (format::number(moved.reference), format::number(moved.candidate));
            format!("most moved concept: {} for class {} (effect {from} to {to})", moved.concept, moved.class)
        });
        [named("image", &self.images), named("class", &self.classes), concept, named("layer", &self.layers)]
            .into_iter()
            .flatten()
            .collect()
    }
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

/// Text for a GitHub workflow command, escaped as its toolkit does.
fn command(text: &str, property: bool) -> String {
    let text = text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    if property { text.replace(':', "%3A").replace(',', "%2C") } else { text }
}
