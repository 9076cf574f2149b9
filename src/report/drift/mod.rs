//! What the drift gate found, as a terminal's text, JSON, JUnit XML, GitHub annotations, SARIF,
//! Markdown or one HTML page.

mod github;
mod html;
mod junit;
mod lines;
mod markdown;
mod sarif;
mod text;

pub use github::github;
pub use html::{SHOWN_IMAGES, ShownImage, html};
pub use junit::junit;
pub use lines::decision;
pub use markdown::markdown;
pub use sarif::sarif;
pub use text::text;

use crate::error::{Error, Result};
use crate::records::gate::DriftReport;

/// Indented JSON with a line feed at its end.
///
/// # Errors
/// When serialisation fails.
pub fn json(report: &DriftReport) -> Result<String> {
    let text = serde_json::to_string_pretty(report).map_err(|error| Error::input(format!("drift report: {error}")))?;
    Ok(text + "\n")
}
