//! Whether the maps look at the objects: box energy, the pointing game and hits of parts against density.

use maud::{Markup, html};

use super::chart::{Axis, Chart, Layer, Mark, SMALL, Shape};
use super::figures::{self, Figure};
use super::format;
use super::page::figure;
use super::table::{Cell, Table};
use super::view::{Network, Point, View};
use crate::records::{Interval, LocalisationRecord};

/// What is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quantity {
    Energy,
    Pointing,
    Parts,
}

impl Quantity {
    const ALL: [Quantity; 3] = [Quantity::Energy, Quantity::Pointing, Quantity::Parts];

    /// Value, interval and chance.
    fn of(self, record: &LocalisationRecord) -> Option<(f64, Option<Interval>, f64)> {
        match self {
            Quantity::Energy => Some((record.energy_in_box?, record.energy_interval, record.chance)),
            Quantity::Pointing => Some((record.pointing_game?, record.pointing_interval, record.chance)),
            Quantity::Parts => {
                let parts = record.parts.as_ref()?;
                Some((parts.rate?, parts.interval, parts.chance))
            }
        }
    }

    fn title(self) -> &'static str {
        match self {
            Quantity::Energy => "Evidence inside the box",
            Quantity::Pointing => "Pointing game",
            Quantity::Parts => "Part hits",
        }
    }

    fn slug(self) -> &'static str {
        match self {
            Quantity::Energy => "look-energy",
            Quantity::Pointing => "look-pointing",
            Quantity::Parts => "look-parts",
        }
    }

    fn definition(self) -> &'static str {
        match self {
            Quantity::Energy => "Share of the map's sum that lies inside the object's box",
            Quantity::Pointing => "Share of images whose map has its maximum inside the box",
            Quantity::Parts => {
                "Share of images whose map has its maximum within one cell of the raw map of a visible part of the object"
            }
        }
    }
}

/// What a network's maps at the first stage do; absent where no boxes are known.
fn first_stage<'a>(view: &View, network: &Network<'a>) -> Option<&'a LocalisationRecord> {
    network.record.localisation.iter().find(|of| Some(of.stage) == view.first_stage() && of.method.is_none())
}

/// The section of the page; nothing where no boxes are known.
pub(crate) fn section(view: &View) -> Markup {
    let figures = charts(view);
    html! {
        @if !figures.is_empty() {
            section #look {
                h2 { "Does it look at the object?" }
                div.trio { @for one in &figures { (figure(one)) } }
            }
        }
    }
}

/// One for each quantity; none where no boxes are known.
pub(crate) fn charts(view: &View) -> Vec<Figure> {
    Quantity::ALL.into_iter().filter_map(|quantity| chart(view, quantity)).collect()
}

fn chart(view: &View, quantity: Quantity) -> Option<Figure> {
    let all: Vec<(f64, Option<Interval>, f64)> =
        view.networks.iter().filter_map(|network| quantity.of(first_stage(view, network)?)).collect();
    let chance = all.first()?.2;
    let ends = all.iter().flat_map(|(value, range, _)| [Some(*value), range.map(|r| r.low), range.map(|r| r.high)]);
    let y = Axis::around(ends.flatten().chain([chance]), true);
    let mut layers = vec![Layer::Rule { y: chance, class: "margin" }];
    let mut legend = Vec::new();
    for arm in view.arms().into_iter().rev() {
        let (class, shape) = figures::style(arm);
        legend.insert(0, (format::arm_name(arm), class.clone(), shape));
        layers.extend(arm_layers(view, arm, quantity, &class, shape));
    }
    legend.push(("chance".to_owned(), "margin".to_owned(), Shape::None));
    let chart = Chart {
        alt: format!("{} against density; chance is {}.", quantity.title(), format::percent(chance, 0)),
        x: Axis::density(view.points.iter().map(|point| point.density)),
        y,
        x_label: "weights kept (log scale)",
        y_label: "share",
        layers,
        legend,
    };
    let confidence = format::percent(view.plan.verdict.confidence, 0);
    Some(Figure {
        id: quantity.slug().into(),
        title: quantity.title().into(),
        caption: html! {
            (quantity.definition()) ". Heavy line: mean over replicates; band: the replicates’ " (confidence) " bootstrap intervals over images, taken "
            "together; dashed: the share of the image that counts as a hit, what a map that knows nothing gets. Maps that are zero everywhere are left out."
        },
        body: chart.svg(SMALL),
        table: table(view),
    })
}

/// Band, mean line and marks of one arm.
fn arm_layers(view: &View, arm: &str, quantity: Quantity, class: &str, shape: Shape) -> Vec<Layer> {
    let at = |point: &&Point| -> Option<(f64, f64, Interval, String)> {
        let here = view.networks.iter().filter(|of| of.id.arm == point.arm && of.id.round == point.round);
        let found: Vec<(f64, Option<Interval>, f64)> =
            here.filter_map(|network| quantity.of(first_stage(view, network)?)).collect();
        let mean = found.iter().map(|(value, ..)| value).sum::<f64>() / found.len() as f64;
        let ends = found.iter().map(|&(value, range, _)| range.unwrap_or(Interval { low: value, high: value }));
        let hull = ends.reduce(|a, b| Interval { low: a.low.min(b.low), high: a.high.max(b.high) })?;
        let kept = format::density(point.density);
        let title = format!(
            "{}, round {}, {kept} kept: {} ({} to {})",
            format::arm_name(arm),
            point.round,
            format::percent(mean, 1),
            format::percent(hull.low, 1),
            format::percent(hull.high, 1)
        );
        Some((point.density, mean, hull, title))
    };
    let points: Vec<(f64, f64, Interval, String)> = view.line(arm).iter().filter_map(at).collect();
    let band = points.iter().map(|&(x, _, hull, _)| (x, hull.low, hull.high)).collect();
    let line = points.iter().map(|&(x, y, ..)| (x, y)).collect();
    let marks = points.into_iter().map(|(x, y, _, title)| Mark { x, y, whisker: None, title }).collect();
    vec![
        Layer::Band { class: class.to_owned(), points: band },
        Layer::Line { class: class.to_owned(), points: line },
        Layer::Marks { class: class.to_owned(), shape, marks },
    ]
}

/// One row for each network; empty where no boxes are known.
pub(crate) fn table(view: &View) -> Table {
    let mut table = Table::new(
        "Whether the maps look at the objects",
        &[
            "arm",
            "replicate",
            "round",
            "weights kept",
            "evidence in the box",
            "interval",
            "maximum in the box",
            "interval of it",
            "chance",
            "maximum at a part",
            "interval of that",
            "chance of that",
            "images",
            "zero maps",
        ],
    );
    let interval = |range: Option<Interval>| {
        range.map_or_else(Cell::absent, |range| {
            Cell::text(format!("{} to {}", format::percent(range.low, 1), format::percent(range.high, 1)))
        })
    };
    let share = |value: Option<f64>| value.map_or_else(Cell::absent, |value| Cell::percent(value, 1));
    for network in &view.networks {
        let Some(record) = first_stage(view, network) else { continue };
        let parts = record.parts.as_ref();
        table.rows.push(vec![
            Cell::text(format::arm_name(&network.id.arm)),
            Cell::count(network.id.replicate),
            Cell::count(network.id.round),
            Cell::shown(network.record.density, format::density(network.record.density)),
            share(record.energy_in_box),
            interval(record.energy_interval),
            share(record.pointing_game),
            interval(record.pointing_interval),
            Cell::percent(record.chance, 1),
            share(parts.and_then(|parts| parts.rate)),
            interval(parts.and_then(|parts| parts.interval)),
            share(parts.map(|parts| parts.chance)),
            Cell::count(record.images),
            Cell::count(record.degenerate),
        ]);
    }
    table
}

/// What is to be said of concepts that differ by class.
pub(crate) fn concept_note(view: &View) -> Option<String> {
    let note = view.study.manifest.concept_note.as_ref()?;
    let labels = match note.labels.as_str() {
        "image" => "labels of single photographs where the worker was probably or definitely certain",
        _ => "denoised labels of whole species",
    };
    let own = match note.own_class {
        true => "they may show the species under test, as the plan says",
        false => "none shows the species under test",
    };
    let controls: Vec<String> =
        note.controls.iter().map(|(species, concept)| format!("{concept} ({species})")).collect();
    let controls = match controls.is_empty() {
        true => String::new(),
        false => format!(" Controls, concepts that the species lacks, drawn by the seed: {}.", controls.join(", ")),
    };
    Some(format!(
        "Each species is tested for its own concepts. Concept and random images are photographs of the official {} part, {} species, by {labels}; {own}.{controls}",
        note.pool, note.species
    ))
}
