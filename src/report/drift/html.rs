//! One page for people: the answers, and the images that moved most with both networks' maps.

use maud::{Markup, html as markup};

use crate::error::Result;
use crate::records::gate::{CandidateDrift, DriftReport};
use crate::report::format;
use crate::report::maps::{overlay, reduced};
use crate::report::page::page;
use crate::report::picture::{Picture, quantised};
use crate::report::table::{Cell, Table};

use super::lines::{decision, details, setting, share_line};
use super::markdown::{answers, measures, overview};

/// Images shown of each candidate.
pub const SHOWN_IMAGES: usize = 12;
/// Side of a small picture, in pixels, at least.
const LEAST_SIDE: usize = 84;
/// Pixels between a picture and the next.
const GAP: usize = 4;

/// An image with the maps of both networks.
#[derive(Clone, Debug, PartialEq)]
pub struct ShownImage {
    /// Its name.
    pub name: String,
    /// Its drift.
    pub drift: f64,
    /// The picture as bytes, `(C, H, W)`.
    pub pixels: Vec<u8>,
    /// `[C, H, W]`.
    pub shape: [usize; 3],
    /// Height and width of the maps.
    pub size: [usize; 2],
    /// The reference's raw map.
    pub reference: Vec<f32>,
    /// The candidate's raw map.
    pub candidate: Vec<f32>,
}

/// The page; `shown` holds, for each candidate, the images that moved most.
///
/// # Errors
/// When a picture cannot be encoded.
pub fn html(report: &DriftReport, shown: &[Vec<ShownImage>]) -> Result<String> {
    let mut candidates = Vec::new();
    for (place, candidate) in report.candidates.iter().enumerate() {
        candidates.push(section(report, candidate, shown.get(place).map_or(&[], Vec::as_slice))?);
    }
    let floor = match report.floor.as_slice() {
        [] => "none".to_owned(),
        names => names.join(", "),
    };
    let body = markup! {
        header.top {
            p.kicker { "ticketlens · drift gate" }
            h1 { "Explanation drift from " (report.reference) }
            p.sub { (setting(report)) @if let Some(line) = share_line(report.density, report.accuracy) { "; reference: " (line) } }
        }
        section #answers { h2 { "Answers" } (overview(report).html()) p { "Floor: " (floor) } }
        @for candidate in &candidates { (candidate) }
        footer { p { "Made by ticketlens " (env!("CARGO_PKG_VERSION")) ". ρ: the candidate's drift from the floor networks over the \
            reference's; 1 is no more than retraining. Changed is only what lies beyond the limit and beyond what retrained networks \
            reach." } }
    };
    Ok(page(&format!("Drift from {} · ticketlens", report.reference), &body))
}

fn section(report: &DriftReport, candidate: &CandidateDrift, shown: &[ShownImage]) -> Result<Markup> {
    let mut pictures = Vec::new();
    for image in shown.iter().take(SHOWN_IMAGES) {
        pictures.push((image, side_by_side(image)?));
    }
    let concepts = concepts(candidate);
    Ok(markup! {
        section {
            h2 { (candidate.name) }
            p.answer { (decision(report, candidate)) }
            (answers(candidate).html())
            @if !pictures.is_empty() {
                h3 { "Images that moved most" }
                p { "Image, map of the reference, map of the candidate." }
                div.pairs-of-charts {
                    @for (image, (url, width, height)) in &pictures {
                        figure {
                            img src=(url) width=(width) height=(height) style="max-width:100%;height:auto"
                                alt=(format!("{}: image, map of the reference, map of the candidate", image.name));
                            figcaption { (image.name) ", drift " (format::number(image.drift)) }
                        }
                    }
                }
            }
            @if !concepts.rows.is_empty() { h3 { "Concepts" } (concepts.html()) }
            h3 { "Measures" } (measures(candidate).html())
            ul { @for line in details(report, candidate) { li { (line) } } }
        }
    })
}

/// One row for each class and concept, the most moved first.
fn concepts(candidate: &CandidateDrift) -> Table {
    let columns = ["class", "concept", "reference", "candidate", "sign or significance"];
    let mut table = Table::new("Standardised concept effects, the most moved first", &columns);
    for concept in &candidate.concepts {
        table.rows.push(vec![
            Cell::text(&concept.class),
            Cell::text(&concept.concept),
            Cell::number(concept.reference),
            Cell::number(concept.candidate),
            Cell::text(if concept.flipped { "changed" } else { "kept" }),
        ]);
    }
    table
}

/// The picture alone, under the reference's map and under the candidate's, as a data URL with its size.
fn side_by_side(image: &ShownImage) -> Result<(String, usize, usize)> {
    let small = reduced(&image.pixels, image.shape);
    let factor = LEAST_SIDE.div_ceil(small.height.min(small.width).max(1)).max(1);
    let (height, width) = (small.height * factor, small.width * factor);
    let mut sheet = Picture::new(3 * width + 2 * GAP, height);
    let empty = vec![0.0; image.reference.len()];
    for (place, map) in [&empty, &image.reference, &image.candidate].into_iter().enumerate() {
        let origin = (0, place * (width + GAP));
        overlay(&mut sheet, origin, (height, width), &small, &quantised(map), image.size);
    }
    let photograph = image.shape[0] >= 3 && image.shape[1].max(image.shape[2]) > 64;
    Ok((sheet.data_url(photograph)?, sheet.width, sheet.height))
}
