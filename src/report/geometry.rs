//! How concepts' directions lie to each other: entanglement, stability over random sets, and
//! whether pruning and seeds keep the picture.

use maud::{Markup, html};

use super::bars::{Heat, HeatCell, HeatRow};
use super::figures::Figure;
use super::format;
use super::page::figure;
use super::table::{Cell, Table};
use super::view::{Network, Point, Spread, View};
use crate::model::Stage;
use crate::plan::Arm;
use crate::records::CavGeometry;
use crate::stats::correlation::spearman_coefficient;

/// Entanglement and stability at every stage where they are recorded.
pub(crate) fn section(view: &View) -> Markup {
    let figures: Vec<Figure> = (view.plan.explain.stages.iter())
        .flat_map(|&stage| [entanglement(view, stage), stability(view, stage)])
        .flatten()
        .collect();
    html! {
        @if !figures.is_empty() {
            section #geometry {
                h2 { "How the concepts lie to each other" }
                @for one in &figures { (figure(one)) }
            }
        }
    }
}

/// The records of a stage: one, or one for each class where classes have their own concepts.
type Records<'n> = Vec<&'n CavGeometry>;

fn of<'n>(network: &'n Network<'_>, stage: Stage) -> Records<'n> {
    network.cavs.iter().filter(|record| record.stage == stage).collect()
}

fn networks<'v, 'a>(view: &'v View<'a>, point: &Point) -> Vec<&'v Network<'a>> {
    let here = |network: &&Network| network.id.arm == point.arm && network.id.round == point.round;
    view.networks.iter().filter(here).collect()
}

/// Cosine of two concepts in one network, by name.
fn cosine(records: &Records, a: &str, b: &str) -> Option<f64> {
    records.iter().find_map(|record| {
        let place = |name: &str| record.concepts.iter().position(|concept| concept == name);
        *record.cosines.get(place(a)?)?.get(place(b)?)?
    })
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    Spread::of(values.enumerate()).map(|spread| spread.mean)
}

/// Rank correlation of two networks' cosines over pairs of concepts. Directions of different
/// networks live in different spaces and cannot be compared; the table of their cosines can
/// (Kriegeskorte, Mur & Bandettini 2008).
fn agreement(view: &View, a: &Records, b: &Records) -> Option<f64> {
    let names = &view.study.manifest.concepts;
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for (place, one) in names.iter().enumerate() {
        for other in &names[..place] {
            if let (Some(x), Some(y)) = (cosine(a, one, other), cosine(b, one, other)) {
                first.push(x);
                second.push(y);
            }
        }
    }
    spearman_coefficient(&first, &second).ok()
}

/// Mean rank correlation between the cosines of dense replicates: what another seed leaves of the picture.
pub(crate) fn between_replicates(view: &View, stage: Stage) -> Option<Spread> {
    let dense: Vec<Records> = (view.networks.iter())
        .filter(|network| network.id.arm == Arm::Lottery.name() && network.id.round == 0)
        .map(|network| of(network, stage))
        .collect();
    let pairs = (0..dense.len()).flat_map(|first| (first + 1..dense.len()).map(move |second| (first, second)));
    Spread::of(pairs.enumerate().filter_map(|(pair, (a, b))| Some((pair, agreement(view, &dense[a], &dense[b])?))))
}

fn entanglement(view: &View, stage: Stage) -> Option<Figure> {
    let lottery = view.arm(Arm::Lottery.name());
    let ends: Vec<&&Point> = match lottery.len() {
        0 => return None,
        1 => lottery.iter().collect(),
        last => vec![&lottery[0], &lottery[last - 1]],
    };
    let names = &view.study.manifest.concepts;
    let mut groups = Vec::new();
    for point in ends {
        let here = networks(view, point);
        let mean = |a: &str, b: &str| {
            Spread::of(
                here.iter().filter_map(|network| Some((network.id.replicate, cosine(&of(network, stage), a, b)?))),
            )
        };
        let cell = |a: &str, b: &str| {
            let spread = mean(a, b)?;
            let title = format!(
                "{a} and {b}, {} kept: cosine {} ({} to {} over replicates)",
                format::density(point.density),
                format::number(spread.mean),
                format::number(spread.low),
                format::number(spread.high)
            );
            Some(HeatCell { level: spread.mean, marked: false, title })
        };
        let rows: Vec<HeatRow> = (names.iter())
            .map(|a| HeatRow { name: a.clone(), cells: names.iter().map(|b| cell(a, b)).collect() })
            .collect();
        if rows.iter().any(|row| row.cells.iter().any(Option::is_some)) {
            let name = if point.round == 0 { "dense".to_owned() } else { format::density(point.density) + " kept" };
            groups.push((name, rows));
        }
    }
    if groups.is_empty() {
        return None;
    }
    let heat = Heat {
        alt: format!(
            "Cosine of every pair of concepts' mean directions at {stage}, dense and sparsest, mean over replicates."
        ),
        columns: names.clone(),
        axis: "concept",
        groups,
        ends: ["cosine −1".into(), "+1".into()],
    };
    let seeds = between_replicates(view, stage);
    Some(Figure {
        id: format!("entanglement-{stage}"),
        title: format!("Entanglement of concepts ({stage})"),
        caption: html! {
            "Cosine of two concepts’ mean CAVs, mean over replicates: near ±1 the network cannot move along one concept without the other, and their TCAV numbers "
            "are not independent findings. The table holds every network’s, with the rank correlation of its cosines with those of its dense network"
            @if let Some(seeds) = &seeds { "; between dense replicates that correlation is " (format::number(seeds.mean)) } "."
        },
        body: heat.both(),
        table: entanglement_table(view, stage),
    })
}

/// One row for each network: how entangled, and how like its dense network.
pub(crate) fn entanglement_table(view: &View, stage: Stage) -> Table {
    let mut table = Table::new(
        format!("Cosines of concepts at {stage}"),
        &[
            "arm",
            "replicate",
            "round",
            "weights kept",
            "mean cosine",
            "mean magnitude",
            "rank correlation with dense",
            "closest pair",
            "its cosine",
            "mean stability over random sets",
        ],
    );
    let dense = |replicate: usize| {
        let here = |network: &&Network| {
            network.id.arm == Arm::Lottery.name() && network.id.round == 0 && network.id.replicate == replicate
        };
        Some(of(view.networks.iter().find(here)?, stage))
    };
    for network in &view.networks {
        let records = of(network, stage);
        if records.is_empty() {
            continue;
        }
        let reference = dense(network.id.replicate).filter(|_| network.id.round > 0);
        let names = &view.study.manifest.concepts;
        let pairs = (names.iter().enumerate()).flat_map(|(place, a)| names[..place].iter().map(move |b| (b, a)));
        let closest = pairs
            .filter_map(|(a, b)| Some((a, b, cosine(&records, a, b)?)))
            .reduce(|best, next| if next.2.abs() > best.2.abs() { next } else { best });
        let stability = mean(records.iter().flat_map(|record| record.stability.iter().flatten().copied()));
        table.rows.push(vec![
            Cell::text(format::arm_name(&network.id.arm)),
            Cell::count(network.id.replicate),
            Cell::count(network.id.round),
            Cell::shown(network.record.density, format::density(network.record.density)),
            Cell::maybe(mean(records.iter().filter_map(|record| record.entanglement))),
            Cell::maybe(mean(records.iter().filter_map(|record| record.entanglement_magnitude))),
            Cell::maybe(reference.and_then(|reference| agreement(view, &reference, &records))),
            closest.map_or_else(Cell::absent, |(a, b, _)| Cell::text(format!("{a} and {b}"))),
            Cell::maybe(closest.map(|(_, _, cosine)| cosine)),
            Cell::maybe(stability),
        ]);
    }
    table
}

/// Stability of one concept's CAVs in a network.
fn stable(network: &Network, stage: Stage, concept: &str) -> Option<f64> {
    of(network, stage)
        .into_iter()
        .find_map(|record| *record.stability.get(record.concepts.iter().position(|name| name == concept)?)?)
}

fn stability(view: &View, stage: Stage) -> Option<Figure> {
    let lottery = view.arm(Arm::Lottery.name());
    let names = &view.study.manifest.concepts;
    let mut rows = Vec::new();
    for concept in names {
        let cell = |point: &&Point| {
            let here = networks(view, point);
            let all = here.iter().filter_map(|network| Some((network.id.replicate, stable(network, stage, concept)?)));
            let spread = Spread::of(all)?;
            let title = format!(
                "{concept}, round {}: stability {} ({} to {} over replicates)",
                point.round,
                format::number(spread.mean),
                format::number(spread.low),
                format::number(spread.high)
            );
            Some(HeatCell { level: spread.mean, marked: false, title })
        };
        rows.push(HeatRow { name: concept.clone(), cells: lottery.iter().map(cell).collect() });
    }
    if !rows.iter().any(|row| row.cells.iter().any(Option::is_some)) {
        return None;
    }
    let heat = Heat {
        alt: format!("Stability of every concept's direction over random sets in every round at {stage}."),
        columns: lottery.iter().map(|point| point.round.to_string()).collect(),
        axis: "round",
        groups: vec![(format::arm_name(Arm::Lottery.name()), rows)],
        ends: ["stability −1".into(), "+1".into()],
    };
    let mut table = Table::new(
        format!("Mean cosine of a concept's own CAVs against different random sets at {stage}"),
        &["concept", "arm", "replicate", "round", "weights kept", "stability"],
    );
    for concept in names {
        for network in &view.networks {
            let Some(value) = stable(network, stage, concept) else { continue };
            table.rows.push(vec![
                Cell::text(concept),
                Cell::text(format::arm_name(&network.id.arm)),
                Cell::count(network.id.replicate),
                Cell::count(network.id.round),
                Cell::shown(network.record.density, format::density(network.record.density)),
                Cell::number(value),
            ]);
        }
    }
    Some(Figure {
        id: format!("stability-{stage}"),
        title: format!("Stability of concepts’ directions ({stage})"),
        caption: html! {
            "Mean cosine of a concept’s CAVs against different random sets, mean over replicates: 1 if the random set makes no difference, 0 if the direction is the "
            "random set’s. Pointing at a cell shows the range over replicates."
        },
        body: heat.both(),
        table,
    })
}
