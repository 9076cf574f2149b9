//! Checks of the maps themselves: do they depend on what was learned (randomised layers), and do
//! the pixels they mark carry the prediction?

use maud::{Markup, html};

use super::chart::{Axis, Chart, Layer, Mark, SMALL, Shape};
use super::figures::{self, Figure};
use super::format;
use super::methods;
use super::page::{figure, table_card};
use super::table::{Cell, Table};
use super::view::{Network, Point, Spread, View};
use crate::model::Stage;
use crate::plan::Arm;
use crate::records::{FaithfulnessRecord, Randomisation, SanityRecord, SanitySummary};

/// Both checks, as far as they are recorded.
pub(crate) fn section(view: &View) -> Markup {
    let sanity = sanity(view);
    let flags = flags(view);
    let methods = methods::table(view);
    let stages: Vec<(Stage, Vec<Figure>)> = (view.plan.explain.stages.iter())
        .map(|&stage| (stage, faithfulness(view, stage)))
        .filter(|(_, figures)| !figures.is_empty())
        .collect();
    html! {
        @if sanity.is_some() || !methods.rows.is_empty() || !flags.rows.is_empty() || !stages.is_empty() {
            section #checks {
                h2 { "Can the maps be believed?" }
                @if !methods.rows.is_empty() {
                    (table_card("methods", "Which method to believe", &html! {
                        "A method to believe depends on what was learned (its maps are destroyed when every layer is random), marks what carries the "
                        "prediction (deletion below and insertion above those of shuffled maps) and, where boxes are known, looks at the objects more than "
                        "chance. “Kept down to”: what the study would say by its maps."
                        @if let Some(sentence) = methods::sentence(view) { " Here: " (sentence) "." }
                    }, &methods))
                }
                @if let Some(sanity) = &sanity { (figure(sanity)) }
                @if !flags.rows.is_empty() {
                    (table_card("sanity-flags", "What became of the maps of a wholly random network", &html! {
                        "Drift of the maps when every layer is random, over that of a retrained network, with the interval over images. Destroyed: further than retraining goes. Maps that are "
                        "not destroyed show the image rather than the network, and a run where that happens is warned about at the top."
                    }, &flags))
                }
                @for (_, figures) in &stages { div.pairs-of-charts { @for one in figures { (figure(one)) } } }
            }
        }
    }
}

/// A randomisation in tables.
pub(crate) fn name(randomisation: Randomisation) -> &'static str {
    match randomisation {
        Randomisation::Cascading => "cascading",
        Randomisation::Independent => "independent",
    }
}

/// Correlation with the original's maps, layer by layer, for each replicate.
pub(crate) fn sanity(view: &View) -> Option<Figure> {
    let first = view.sanity.first()?;
    let of = |record: &SanityRecord, kind: Randomisation| -> Vec<(String, Option<f64>)> {
        let layers = record.layers.iter().filter(|layer| layer.randomisation == kind);
        layers.map(|layer| (layer.layer.clone(), layer.similarity)).collect()
    };
    let names: Vec<String> = of(first, Randomisation::Cascading).into_iter().map(|(name, _)| name).collect();
    let place = |name: &str| names.iter().position(|known| known == name);
    let mut layers = vec![Layer::Rule { y: 0.0, class: "margin" }];
    let mut legend = vec![("no correlation".to_owned(), "margin".to_owned(), Shape::None)];
    let mut least: f64 = -0.1;
    for (kind, class, shape, text) in [
        (Randomisation::Independent, "s1", Shape::Square, "this layer alone"),
        (Randomisation::Cascading, "s0", Shape::Circle, "this layer and all towards the output"),
    ] {
        legend.push((text.to_owned(), class.to_owned(), shape));
        let mut over: Vec<Vec<(usize, f64)>> = vec![Vec::new(); names.len()];
        for record in &view.sanity {
            let line: Vec<(f64, f64)> = (of(record, kind).iter())
                .filter_map(|(name, value)| {
                    let (at, value) = (place(name)?, (*value)?);
                    over[at].push((record.replicate, value));
                    Some((at as f64, value))
                })
                .collect();
            least = line.iter().map(|&(_, value)| value - 0.05).fold(least, f64::min);
            if view.sanity.len() > 1 {
                layers.push(Layer::Line { class: format!("{class} faint"), points: line });
            }
        }
        let means: Vec<(usize, Spread)> =
            over.into_iter().enumerate().filter_map(|(at, values)| Some((at, Spread::of(values)?))).collect();
        let points = means.iter().map(|(at, spread)| (*at as f64, spread.mean)).collect();
        layers.push(Layer::Line { class: class.to_owned(), points });
        let mark = |(at, spread): &(usize, Spread)| Mark {
            x: *at as f64,
            y: spread.mean,
            whisker: None,
            title: format!("{}, {text}: ρ {}", names[*at], format::number(spread.mean)),
        };
        layers.push(Layer::Marks { class: class.to_owned(), shape, marks: means.iter().map(mark).collect() });
    }
    let told: Vec<String> = (summaries(view).into_iter())
        .map(|summary| format!("replicate {}: maps {}", summary.replicate, destroyed(summary)))
        .collect();
    let chart = Chart {
        alt: format!("Rank correlation of maps with the original's as layers are randomised. {}.", told.join("; ")),
        x: Axis::Names(&names),
        y: Axis::Linear { low: least, high: 1.02 },
        x_label: "randomised layer, from the output to the input",
        y_label: "Spearman’s ρ with the original’s maps",
        layers,
        legend,
    };
    Some(Figure {
        id: "sanity".into(),
        title: format!("Randomised layers ({})", first.stage),
        caption: html! {
            "Mean rank correlation of a dense network’s maps with its own once layers are given fresh random weights (Adebayo et al. 2018), on "
            (first.images) " images. Heavy: mean over replicates; faint: each. Maps that depend on what was learned fall to about 0 as the cascade "
            "reaches the input."
        },
        body: chart.both(),
        table: sanity_table(view),
    })
}

/// One row for each replicate, randomisation and layer.
pub(crate) fn sanity_table(view: &View) -> Table {
    let mut table = Table::new(
        "Randomised layers of each dense network",
        &["replicate", "randomisation", "layer", "rank correlation", "images", "maps without a pattern"],
    );
    for record in &view.sanity {
        for layer in &record.layers {
            table.rows.push(vec![
                Cell::count(record.replicate),
                Cell::text(name(layer.randomisation)),
                Cell::text(&layer.layer),
                Cell::maybe(layer.similarity),
                Cell::count(record.images),
                Cell::count(layer.degenerate),
            ]);
        }
    }
    table
}

fn destroyed(summary: &SanitySummary) -> &'static str {
    match summary.destroyed {
        Some(true) => "destroyed, as they must be",
        Some(false) => "NOT destroyed",
        None => "left open by the interval",
    }
}

/// By replicate.
fn summaries<'a>(view: &View<'a>) -> Vec<&'a SanitySummary> {
    let mut summaries: Vec<&SanitySummary> = view.study.study.sanity.iter().collect();
    summaries.sort_by_key(|summary| summary.replicate);
    summaries
}

/// The flag of each replicate.
pub(crate) fn flags(view: &View) -> Table {
    let mut table =
        Table::new("Maps of the wholly random network", &["replicate", "drift (floors)", "interval", "maps"]);
    for summary in summaries(view) {
        table.rows.push(vec![
            Cell::count(summary.replicate),
            Cell::maybe(summary.ratio),
            summary.interval.map_or_else(Cell::absent, |range| Cell::text(format::range(range))),
            Cell::text(destroyed(summary)),
        ]);
    }
    table
}

/// What a network's record says of one stage.
fn judged<'a>(network: &Network<'a>, stage: Stage) -> Option<&'a FaithfulnessRecord> {
    network.record.faithfulness.iter().find(|record| record.stage == stage && record.method.is_none())
}

/// Deletion and insertion against density, with the control of shuffled maps.
fn faithfulness(view: &View, stage: Stage) -> Vec<Figure> {
    type Value = fn(&FaithfulnessRecord) -> Option<f64>;
    let kinds: [(&str, &str, &str, Value, Value); 2] = [
        ("deletion", "Deletion", "low", |record| record.deletion, |record| record.random_deletion),
        ("insertion", "Insertion", "high", |record| record.insertion, |record| record.random_insertion),
    ];
    let spread = |point: &Point, value: Value| {
        let networks =
            view.networks.iter().filter(|network| network.id.arm == point.arm && network.id.round == point.round);
        Spread::of(networks.filter_map(|network| Some((network.id.replicate, value(judged(network, stage)?)?))))
    };
    let mut figures = Vec::new();
    for (slug, title, good, value, control) in kinds {
        let lottery = view.arm(Arm::Lottery.name());
        let chance: Vec<(f64, f64)> =
            lottery.iter().filter_map(|point| Some((point.density, spread(point, control)?.mean))).collect();
        let ours: Vec<Spread> = view.points.iter().filter_map(|point| spread(point, value)).collect();
        if ours.is_empty() {
            continue;
        }
        let mut layers = vec![Layer::Line { class: "paper".into(), points: chance.clone() }];
        for arm in view.arms().into_iter().rev() {
            let label = |point: &Point, spread: &Spread| {
                format!("{}, round {}: {}", format::arm_name(arm), point.round, format::number(spread.mean))
            };
            layers.extend(figures::arm_layers(&view.line(arm), arm, |point| spread(point, value), |_| None, label));
        }
        let mut legend = figures::legend(view);
        legend.push(("shuffled maps".into(), "paper".into(), Shape::None));
        let heights = ours.iter().flat_map(|spread| [spread.low, spread.high]).chain(chance.iter().map(|&(_, y)| y));
        let chart = Chart {
            alt: format!(
                "Area under the {slug} curve against density at {stage}; dense {}, shuffled maps {}.",
                format::number(ours[0].mean),
                format::maybe(chance.first().map(|&(_, y)| y))
            ),
            x: Axis::density(view.points.iter().map(|point| point.density)),
            y: Axis::around(heights, false),
            x_label: "weights kept (log scale)",
            y_label: "area under the curve",
            layers,
            legend,
        };
        figures.push(Figure {
            id: format!("{slug}-{stage}"),
            title: format!("{title} ({stage}): {good} is faithful"),
            caption: html! {
                "The class’s probability as pixels are "
                @if slug == "deletion" { "blackened" } @else { "restored on black" }
                " in the order of the map, mean over images (Petsiuk et al. 2018); pixels that tie go together. Dashed: the same maps with their "
                "cells shuffled. A map that points at what matters lies "
                @if slug == "deletion" { "below" } @else { "above" } " it."
            },
            body: chart.svg(SMALL),
            table: faithfulness_table(view, stage),
        });
    }
    figures
}

/// One row for each network.
pub(crate) fn faithfulness_table(view: &View, stage: Stage) -> Table {
    let mut table = Table::new(
        format!("Deletion and insertion at {stage}"),
        &[
            "arm",
            "replicate",
            "round",
            "weights kept",
            "deletion",
            "deletion, shuffled maps",
            "insertion",
            "insertion, shuffled maps",
            "images",
            "zero maps",
        ],
    );
    for network in &view.networks {
        let Some(record) = judged(network, stage) else { continue };
        table.rows.push(vec![
            Cell::text(format::arm_name(&network.id.arm)),
            Cell::count(network.id.replicate),
            Cell::count(network.id.round),
            Cell::shown(network.record.density, format::density(network.record.density)),
            Cell::maybe(record.deletion),
            Cell::maybe(record.random_deletion),
            Cell::maybe(record.insertion),
            Cell::maybe(record.random_insertion),
            Cell::count(record.images),
            Cell::count(record.degenerate),
        ]);
    }
    table
}
