//! The report as one self-contained HTML file: it opens from disk, asks nothing of the network, and
//! reads in light, dark and print.

use maud::{Markup, html};

use super::Study;
use super::answer::{self, call_class};
use super::checks;
use super::figures::{self, Figure};
use super::format;
use super::geometry;
use super::localisation;
use super::maps::Gallery;
use super::page::{figure, page, sorted, table_card};
use super::representations;
use super::sections;
use super::view::{Measure, View};
use crate::error::Result;
use crate::plan::Arm;
use crate::records::{Call, Outcome, Verdict};

/// The page. The same records give the same bytes, whatever their order.
///
/// # Errors
/// When the plan cannot be read, or maps and pixels do not have the sizes that the manifest promises.
pub fn render(study: &Study) -> Result<String> {
    let view = View::new(study)?;
    let gallery = Gallery::new(&view)?;
    let body = html! {
        header.top {
            p.kicker { "ticketlens · explanation drift under pruning" }
            h1 { (study.name) }
            p.sub { (subtitle(&view)) }
        }
        (verdict_section(&view))
        @if !study.study.warnings.is_empty() {
            section #warnings aria-label="Warnings" {
                ul.warnings { @for warning in sorted(&study.study.warnings) { li { (warning) } } }
            }
        }
        section #rounds { h2 { "Accuracy and drift" }
            (figure(&figures::accuracy(&view)))
            div.pairs-of-charts {
                @for measure in Measure::DECIDING.into_iter().chain([Measure::Representation]) {
                    @if let Some(drift) = figures::drift(&view, measure) { (figure(&drift)) }
                }
            }
            (calls(&view))
            (order(&view))
            @if let Some(paper) = figures::papers_accuracy(&view) { (figure(&paper)) }
        }
        (sections::maps(&view, gallery.as_ref())?)
        (checks::section(&view))
        (measures(&view))
        (localisation::section(&view))
        (sections::concepts(&view))
        (geometry::section(&view))
        (sections::trust(&view))
        (sections::facts(&view))
        footer { p { "Made by ticketlens " (study.manifest.version) " from records alone; the same records give this same file." } }
    };
    Ok(page(&format!("{} · ticketlens", study.name), &body))
}

fn subtitle(view: &View) -> String {
    let manifest = &view.study.manifest;
    let replicates = view.networks.iter().map(|network| network.id.replicate).max().map_or(0, |last| last + 1);
    let rounds = view.arm(Arm::Lottery.name()).len();
    let least = view.points.iter().map(|point| point.density).fold(1.0, f64::min);
    let [train, _, test] = manifest.images;
    format!(
        "{}, {} against each other, {train} training and {test} test images; {rounds} networks a replicate down to {} of the weights, {replicates} replicates.",
        manifest.network,
        list(&manifest.classes),
        format::density(least),
    )
}

fn list(names: &[String]) -> String {
    match names {
        [] => "no classes".to_owned(),
        [one] => one.clone(),
        [one, two] => format!("{one} and {two}"),
        many => format!("{} classes", many.len()),
    }
}

/// The answer: one picture, one sentence, then the two verdicts.
fn verdict_section(view: &View) -> Markup {
    let study = &view.study.study;
    html! {
        section #verdict aria-label="Answer" {
            (answer::picture(view))
            // A number and its unit stay on one line.
            p.answer { (study.answer.replace(" %", "\u{a0}%")) }
            div.verdicts {
                (verdict("A", format::HYPOTHESIS_A, &study.hypothesis_a))
                (verdict("B", format::HYPOTHESIS_B, &study.hypothesis_b))
            }
            (alone(view))
        }
    }
}

/// The ranges by one kind of explanation alone.
fn alone(view: &View) -> Markup {
    let range = |range: Option<crate::records::DensityRange>| {
        range.map_or_else(
            || "nowhere".to_owned(),
            |range| format!("{} to {}", format::density(range.from), format::density(range.to)),
        )
    };
    let alone = &view.study.study.alone;
    html! {
        dl.keys {
            @for (name, ranges) in [("Pixels alone", alone.pixels), ("Concepts alone", alone.concepts)] {
                div.key { dt { (name) } dd {
                    span.note { "A " (range(ranges.a)) } span.note { "B " (range(ranges.b)) }
                } }
            }
        }
    }
}

/// What goes first, and whether forgotten images drift more.
fn order(view: &View) -> Markup {
    let (onsets, forgetting, views) = (sections::onsets(view), sections::forgetting(view), sections::views(view));
    let representations = representations::table(view);
    html! {
        @if !views.rows.is_empty() {
            (table_card("views", "Does the answer depend on the map?", &html! {
                "The same questions with the maps of each stage and method in the deciding place; concepts as they are. The first row decides."
            }, &views))
        }
        @if !representations.rows.is_empty() {
            (table_card("representations", "Has the representation moved?", &html! {
                "ρ of 1 − debiased linear CKA (Kornblith et al. 2019; Nguyen et al. 2021) of the activations of the same images: a third view, "
                "without a class, a concept or a saliency method. No call rests on it."
            }, &representations))
        }
        @if !onsets.rows.is_empty() {
            (table_card("onsets", "What goes first?", &html! {
                "The density where accuracy falls below its margin, and where ρ exceeds its limit: monotone fit of the mean over replicates, interval over "
                "replicates. “Before others” counts replicates in which this one changes at a higher density than the other."
            }, &onsets))
        }
        @if !forgetting.rows.is_empty() {
            (table_card("forgetting", "Do forgotten images drift more?", &html! {
                "Within networks of one density: images that the parent classifies right and the network does not, beside those that both do. AUC: how often a forgotten "
                "image of a class drifted more than a kept one; ½ is no difference. Permutation within class; twins show what retraining alone does."
            }, &forgetting))
        }
    }
}

fn verdict(letter: &str, hypothesis: &str, verdict: &Verdict) -> Markup {
    let (class, symbol) = match verdict.outcome {
        Outcome::Supported => ("supported", "✓"),
        Outcome::Refuted => ("refuted", "✗"),
        Outcome::Inconclusive | Outcome::NoVerdict => ("inconclusive", "?"),
    };
    html! {
        article.verdict.(class) {
            p.outcome { span.symbol aria-hidden="true" { (symbol) } (format::outcome_name(verdict.outcome)) }
            p.sentence {
                strong { "Hypothesis " (letter) } ", that " (hypothesis) ", is "
                @match verdict.outcome {
                    Outcome::Inconclusive => "neither supported nor refuted",
                    Outcome::NoVerdict => "not judged",
                    other => (format::outcome_name(other)),
                }
                ": " (verdict.reason)
            }
        }
    }
}

/// The same drift of maps by the measures that no call rests on.
fn measures(view: &View) -> Markup {
    let figures: Vec<Figure> = Measure::further().filter_map(|measure| figures::drift(view, measure)).collect();
    html! {
        @if !figures.is_empty() {
            section #measures {
                h2 { "The same maps by other measures" }
                div.pairs-of-charts { @for drift in &figures { (figure(drift)) } }
            }
        }
    }
}

/// The call of every round.
fn calls(view: &View) -> Markup {
    let tested = view.tested();
    let mut kinds: Vec<Call> = Vec::new();
    for call in [Call::A, Call::B, Call::DriftedWinner, Call::FaithfulLoser, Call::Inconclusive] {
        if view.points.iter().any(|point| point.record.is_some_and(|record| record.call == call)) {
            kinds.push(call);
        }
    }
    html! {
        figure.card #calls {
            div.head { h3 { "Round by round" }
                div.tools { button type="button" data-download="csv" aria-label="Download the rounds as CSV" { "CSV" } } }
            div.scroll tabindex="0" role="region" aria-label="Call of every round" {
                table.sortable.calls {
                    caption { "Call of every arm and round" }
                    thead { tr {
                        @for name in ["arm", "round", "weights kept", "test accuracy", "difference (points)", "pixels (ρ)", "concepts (ρ)", "significant concepts", "call"] {
                            th scope="col" { (name) }
                        }
                    } }
                    tbody { @for point in view.points.iter().filter(|point| point.record.is_some()) { tr {
                        td { (format::arm_name(point.arm)) }
                        td.n data-v=(point.round) { (point.round) }
                        td.n data-v=(point.density) { (format::density(point.density)) }
                        td.n data-v=(point.accuracy.mean) { (format::percent(point.accuracy.mean, 2)) }
                        @match point.record.filter(|_| point.round > 0).map(|record| &record.accuracy) {
                            Some(accuracy) => {
                                td.n data-v=(100.0 * accuracy.difference) { (format::points(accuracy.difference))
                                    @if let Some(range) = accuracy.interval { " " span.interval { "(" (format::points(range.low)) " to " (format::points(range.high)) ")" } } }
                            }
                            None => td.n { (format::ABSENT) },
                        }
                        @for measure in Measure::DECIDING {
                            @match point.ratio(measure).and_then(|ratio| Some((ratio, ratio.rho?))) {
                                Some((ratio, rho)) => td.n data-v=(rho) { (format::number(rho))
                                    @if let Some(range) = ratio.interval { " " span.interval { "(" (format::range(range)) ")" } } },
                                None => td.n { (format::ABSENT) },
                            }
                        }
                        @match &point.significant {
                            Some(spread) => td.n data-v=(spread.mean) { (figures::of(spread, tested)) },
                            None => td.n { (format::ABSENT) },
                        }
                        @match point.record {
                            Some(record) => td title=(record.reason) { span.call.(call_class(record.call)) { (format::call_name(record.call)) } },
                            None => td { (format::ABSENT) },
                        }
                    } } }
                }
            }
            figcaption {
                @for (index, call) in kinds.iter().enumerate() {
                    @if index > 0 { "; " }
                    span.call.(call_class(*call)) { (format::call_name(*call)) } " " (format::call_meaning(*call))
                }
                "."
            }
            details { summary { "Why each round is called so" } (figures::rounds_table(view).html()) }
        }
    }
}
