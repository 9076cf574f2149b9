//! What every page is made of: the document, figures and tables with their downloads.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::figures::Figure;
use super::table::Table;

const STYLE: &str = include_str!("style.css");
/// Rules of drawings, apart so that a downloaded SVG can carry them.
pub(crate) const CHART_STYLE: &str = include_str!("chart.css");
const SCRIPT: &str = include_str!("script.js");

/// A whole document around `body`.
pub(crate) fn page(title: &str, body: &Markup) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="generator" content="ticketlens";
                title { (title) }
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
                style #chart-style { (PreEscaped(CHART_STYLE)) }
            }
            body {
                svg.defs width="0" height="0" aria-hidden="true" { (hatch()) }
                main { (body) }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    }
    .into_string()
}

/// The hatching of what must not be interpreted.
fn hatch() -> Markup {
    html! {
        defs #chart-defs { pattern #hatch width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)" {
            rect width="5" height="5" class="hatch-ground" {}
            line x1="0" y1="0" x2="0" y2="5" class="hatch-line" {}
        } }
    }
}

/// Each text once, in alphabetical order.
pub(crate) fn sorted(texts: &[String]) -> Vec<&String> {
    let mut texts: Vec<&String> = texts.iter().collect();
    texts.sort();
    texts.dedup();
    texts
}

/// Verdicts of several studies: study, hypothesis, outcome, reason.
pub(crate) fn card_of_verdicts(verdicts: &[[String; 4]]) -> Markup {
    html! {
        div.verdicts { @for [study, letter, outcome, reason] in verdicts {
            article.verdict.(outcome) {
                p.outcome { (outcome) }
                p.sentence { strong { (study) ", hypothesis " (letter) } ": " (reason) }
            }
        } }
    }
}

/// A figure with its downloads and the table behind it.
pub(crate) fn figure(figure: &Figure) -> Markup {
    html! {
        figure.card id=(figure.id) {
            div.head {
                h3 { (figure.title) }
                div.tools {
                    button type="button" data-download="svg" aria-label=(format!("Download {} as SVG", figure.title)) { "SVG" }
                    button type="button" data-download="csv" aria-label=(format!("Download {} as CSV", figure.title)) { "CSV" }
                }
            }
            div.drawing { (figure.body) }
            figcaption { (figure.caption) }
            details { summary { "Numbers behind it" } (figure.table.html()) }
        }
    }
}

/// A table of its own, downloadable as CSV.
pub(crate) fn table_card(id: &str, title: &str, caption: &Markup, table: &Table) -> Markup {
    html! {
        figure.card id=(id) {
            div.head {
                h3 { (title) }
                div.tools { button type="button" data-download="csv" aria-label=(format!("Download {title} as CSV")) { "CSV" } }
            }
            (table.html())
            figcaption { (caption) }
        }
    }
}
