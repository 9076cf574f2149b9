//! Figures of a study's page as files of their own.

use maud::Markup;

use super::Study;
use super::figures::{self, Figure};
use super::localisation;
use super::page::CHART_STYLE;
use super::view::{Measure, View};
use crate::error::Result;

/// Names and drawings (SVG documents) of the study's line charts: accuracy, drift by every measure,
/// and where boxes are known what maps point at.
///
/// # Errors
/// As [`super::html::render`].
pub fn figures(study: &Study) -> Result<Vec<(String, String)>> {
    let view = View::new(study)?;
    let measures = Measure::DECIDING.into_iter().chain([Measure::Representation]).chain(Measure::further());
    let mut all = vec![figures::accuracy(&view)];
    all.extend(measures.filter_map(|measure| figures::drift(&view, measure)));
    all.extend(localisation::charts(&view));
    Ok(all.into_iter().map(|Figure { id, body, .. }| (id, alone(&body))).collect())
}

/// The first drawing of `body` as a document: it carries its rules, and a width, without which it
/// would be as wide as what it stands in.
pub(super) fn alone(body: &Markup) -> String {
    let text = &body.0;
    let start = text.find("<svg").unwrap_or(0);
    let end = text.find("</svg>").map_or(text.len(), |end| end + "</svg>".len());
    let drawing = &text[start..end];
    let width = drawing.split("viewBox=\"0 0 ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or("920");
    let (tag, inside) = drawing.split_once('>').unwrap_or((drawing, ""));
    format!("{tag} width=\"{width}\"><style>{}</style>{inside}\n", CHART_STYLE.replace('>', "&gt;"))
}
