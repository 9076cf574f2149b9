//! The answer first: three strips over density (accuracy, pixels, concepts), the ranges of A and B, and the sentence.

use maud::{Markup, html};

use super::format;
use super::view::{Measure, Point, View};
use crate::plan::Arm;
use crate::records::{Accuracy, Call, DensityRange, Explanations};

/// How an answer is coloured and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shade {
    /// Matches, kept.
    Good,
    /// Undecided, or not measured.
    Open,
    /// Lost, changed.
    Bad,
}

/// One strip: a name, and for each density its shade, its word and its number.
pub(super) struct Strip {
    pub(super) name: &'static str,
    pub(super) cells: Vec<(Shade, &'static str, String)>,
}

/// The lottery arm's pruned points, from the mildest density on.
pub(super) fn pruned<'a, 'b>(view: &'b View<'a>) -> Vec<&'b Point<'a>> {
    view.arm(Arm::Lottery.name()).into_iter().filter(|point| point.round > 0 && point.record.is_some()).collect()
}

/// Accuracy, pixels, concepts.
pub(super) fn strips(view: &View) -> Vec<Strip> {
    let points = pruned(view);
    let accuracy = |point: &&Point| match point.record {
        None => (Shade::Open, "undecided", String::new()),
        Some(record) => {
            let (shade, word) = match record.accuracy.answer {
                Accuracy::Matches => (Shade::Good, "matches"),
                Accuracy::Lost => (Shade::Bad, "lost"),
                Accuracy::Undecided => (Shade::Open, "undecided"),
            };
            (shade, word, format::points(record.accuracy.difference))
        }
    };
    let explanations = |measure: Measure| {
        move |point: &&Point| match point.ratio(measure) {
            None => (Shade::Open, "undecided", format::ABSENT.to_owned()),
            Some(ratio) => {
                let (shade, word) = match ratio.answer {
                    Explanations::Kept => (Shade::Good, "kept"),
                    Explanations::Changed => (Shade::Bad, "changed"),
                    Explanations::Undecided => (Shade::Open, "undecided"),
                };
                (shade, word, format::maybe(ratio.rho))
            }
        }
    };
    vec![
        Strip { name: "accuracy", cells: points.iter().map(accuracy).collect() },
        Strip { name: "pixels", cells: points.iter().map(explanations(Measure::DECIDING[0])).collect() },
        Strip { name: "concepts", cells: points.iter().map(explanations(Measure::DECIDING[1])).collect() },
    ]
}

/// Whether a density lies in a range.
fn inside(range: Option<DensityRange>, density: f64) -> bool {
    range.is_some_and(|range| density <= range.from * (1.0 + 1e-9) && density >= range.to * (1.0 - 1e-9))
}

/// For each pruned density, the hypothesis whose range holds it.
pub(super) fn hypotheses(view: &View) -> Vec<Option<char>> {
    let study = &view.study.study;
    pruned(view)
        .iter()
        .map(|point| match point.density {
            density if inside(study.hypothesis_a.range, density) => Some('A'),
            density if inside(study.hypothesis_b.range, density) => Some('B'),
            _ => None,
        })
        .collect()
}

const LABEL: f64 = 82.0;
const WIDTH: f64 = 860.0;
const ROW: f64 = 40.0;

/// The picture: density along, a row for each question, the ranges on top.
pub(super) fn picture(view: &View) -> Markup {
    let points = pruned(view);
    if points.is_empty() {
        return html! {};
    }
    let strips = strips(view);
    let step = (WIDTH - LABEL) / points.len() as f64;
    let x = |place: usize| LABEL + step * place as f64;
    let height = 34.0 + ROW * strips.len() as f64 + 26.0;
    let ranges = hypotheses(view);
    let told: Vec<String> = strips
        .iter()
        .map(|strip| {
            let words: Vec<&str> = strip.cells.iter().map(|cell| cell.1).collect();
            format!("{}: {}", strip.name, words.join(", "))
        })
        .collect();
    // Room for the number under the word only where cells are wide enough.
    let wide = step > 74.0;
    html! {
        svg.answer role="img" viewBox=(format!("0 0 {WIDTH} {height}")) aria-label=(format!("From the mildest density on. {}.", told.join(". "))) {
            @for letter in ['A', 'B'] {
                @if let Some(first) = ranges.iter().position(|range| *range == Some(letter)) {
                    @let count = ranges.iter().filter(|range| **range == Some(letter)).count();
                    rect.range.(format!("range-{}", letter.to_ascii_lowercase())) x=(format!("{:.1}", x(first) + 2.0)) y="2" width=(format!("{:.1}", step * count as f64 - 4.0)) height="24" rx="4" {}
                    text.range-name x=(format!("{:.1}", x(first) + step * count as f64 / 2.0)) y="19" text-anchor="middle" { (letter) " holds" }
                }
            }
            @for (row, strip) in strips.iter().enumerate() {
                @let y = 32.0 + ROW * row as f64;
                text.strip-name x=(LABEL - 8.0) y=(y + ROW / 2.0 + 4.0) text-anchor="end" { (strip.name) }
                @for (place, (shade, word, number)) in strip.cells.iter().enumerate() {
                    g.(shade_class(*shade)) {
                        title { (strip.name) " at " (format::density(points[place].density)) ": " (word) " (" (number) ")" }
                        rect.cell x=(format!("{:.1}", x(place) + 1.0)) y=(y) width=(format!("{:.1}", step - 2.0)) height=(ROW - 4.0) rx="3" {}
                        @if wide {
                            text x=(format!("{:.1}", x(place) + step / 2.0)) y=(y + 15.0) text-anchor="middle" { (word) }
                            text.number x=(format!("{:.1}", x(place) + step / 2.0)) y=(y + 30.0) text-anchor="middle" { (number) }
                        } @else {
                            text x=(format!("{:.1}", x(place) + step / 2.0)) y=(y + 22.0) text-anchor="middle" { (mark(*shade)) }
                        }
                    }
                }
            }
            @for (place, point) in points.iter().enumerate() {
                @if wide || place % (points.len() / 8 + 1) == 0 {
                    text.tick x=(format!("{:.1}", x(place) + step / 2.0)) y=(height - 8.0) text-anchor="middle" { (format::density(point.density)) }
                }
            }
            text.tick x=(LABEL - 8.0) y=(height - 8.0) text-anchor="end" { "weights kept" }
        }
    }
}

fn shade_class(shade: Shade) -> &'static str {
    match shade {
        Shade::Good => "good",
        Shade::Open => "open",
        Shade::Bad => "bad",
    }
}

/// A sign that needs no colour.
pub(super) fn mark(shade: Shade) -> &'static str {
    match shade {
        Shade::Good => "✓",
        Shade::Open => "?",
        Shade::Bad => "✗",
    }
}

/// CSS class of a call.
pub(super) fn call_class(call: Call) -> &'static str {
    match call {
        Call::A => "call-a",
        Call::B => "call-b",
        Call::DriftedWinner => "call-drifted",
        Call::FaithfulLoser => "call-faithful",
        Call::Inconclusive | Call::Dense => "call-none",
    }
}
