//! Error barriers on the lines between networks, by density.

use maud::html;

use super::chart::{Axis, Chart, Layer, Mark, Shape, WIDE};
use super::format;
use super::svg::alone;
use super::table::{Cell, Table};
use super::view::Spread;
use crate::records::{Barrier, BarriersRecord};

/// The two kinds of lines: title, column, CSS class, mark, and which are of it.
type Kind = (&'static str, &'static str, &'static str, Shape, fn(&Barrier) -> bool);
const KINDS: [Kind; 2] = [
    ("the same network with another data order", "other order", "s0", Shape::Circle, Barrier::of_one_round),
    ("the ticket of the round before", "round before", "s1", Shape::Square, |barrier| !barrier.of_one_round()),
];

/// The table, which a terminal shows too.
pub fn markdown(record: &BarriersRecord) -> String {
    format!(
        "Error barriers in points of test error: mean over replicates, in brackets least and greatest; {} points a line.\n\n{}",
        record.points,
        table(record).markdown()
    )
}

/// One row for each density.
pub fn csv(record: &BarriersRecord) -> String {
    table(record).csv()
}

/// The figure, an SVG document: barriers against density.
pub fn svg(record: &BarriersRecord) -> String {
    let rows = rows(record);
    let spread = |kind: usize| rows.iter().filter_map(move |(density, kinds)| Some((*density, kinds[kind].as_ref()?)));
    let mut layers = Vec::new();
    for (kind, (title, _, class, shape, _)) in KINDS.iter().enumerate() {
        let bands = spread(kind).map(|(density, of)| (density, of.low, of.high)).collect();
        let means = spread(kind).map(|(density, of)| (density, of.mean)).collect();
        let mark = |(density, of): (f64, &Spread)| {
            let title = format!("{title}, {} kept: {}", format::density(density), told(of));
            Mark { x: density, y: of.mean, whisker: None, title }
        };
        layers.push(Layer::Band { class: (*class).into(), points: bands });
        layers.push(Layer::Line { class: (*class).into(), points: means });
        layers.push(Layer::Marks { class: (*class).into(), shape: *shape, marks: spread(kind).map(mark).collect() });
    }
    let highest = (0..KINDS.len()).flat_map(spread).map(|(_, of)| of.high).fold(0.01, f64::max);
    let chart = Chart {
        alt: "Error barrier against density, between trainings with other data orders and between successive tickets."
            .into(),
        x: Axis::density(rows.iter().map(|(density, _)| *density)),
        y: Axis::Percent { low: 0.0, high: 1.06 * highest },
        x_label: "weights kept (log scale)",
        y_label: "error barrier, points of test error",
        layers,
        legend: KINDS.iter().map(|(title, _, class, shape, _)| ((*title).into(), (*class).into(), *shape)).collect(),
    };
    alone(&html! { (chart.svg(WIDE)) })
}

fn table(record: &BarriersRecord) -> Table {
    let mut table = Table::new("Error barriers by density", &["weights kept"]);
    table.columns.extend(KINDS.iter().map(|(_, column, ..)| (*column).to_owned()));
    for (density, kinds) in rows(record) {
        let mut row = vec![Cell::shown(density, format::density(density))];
        row.extend(kinds.iter().map(|of| of.as_ref().map_or_else(Cell::absent, |of| Cell::shown(of.mean, told(of)))));
        table.rows.push(row);
    }
    table
}

/// Mean density, and what was found of each kind, by round of the far end.
fn rows(record: &BarriersRecord) -> Vec<(f64, [Option<Spread>; 2])> {
    let mut rounds: Vec<usize> = record.barriers.iter().map(|barrier| barrier.to.round).collect();
    rounds.sort_unstable();
    rounds.dedup();
    let of_round = |round: usize| {
        let here = || record.barriers.iter().filter(move |barrier| barrier.to.round == round);
        let density = here().map(|barrier| barrier.density).sum::<f64>() / here().count() as f64;
        let kinds = KINDS.map(|(.., is)| {
            Spread::of(here().filter(|barrier| is(barrier)).map(|barrier| (barrier.to.replicate, barrier.barrier)))
        });
        (density, kinds)
    };
    rounds.into_iter().map(of_round).collect()
}

fn told(of: &Spread) -> String {
    let points = |value: f64| format::decimal(100.0 * value, 2);
    format!("{} ({} to {})", points(of.mean), points(of.low), points(of.high))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{FORMAT, RoundId};

    fn barrier(from: (&str, usize), to: (&str, usize), replicate: usize, height: f64) -> Barrier {
        let id = |(arm, round): (&str, usize)| RoundId { arm: arm.into(), replicate, round };
        let density = 0.5_f64.powi(to.1 as i32);
        Barrier { from: id(from), to: id(to), density, errors: vec![0.0, height, 0.0], barrier: height }
    }

    #[test]
    fn barriers_stand_by_density_and_kind() {
        let barriers = vec![
            barrier(("lottery", 0), ("twin-1", 0), 0, 0.2),
            barrier(("lottery", 0), ("lottery", 1), 0, 0.1),
            barrier(("lottery", 0), ("lottery", 1), 1, 0.3),
            barrier(("lottery", 1), ("retrained", 1), 0, 0.0),
        ];
        let record = BarriersRecord { format: FORMAT, points: 3, statistics_images: 8, barriers };
        let markdown = markdown(&record);
        assert!(markdown.contains("| 100.0 % | 20.00 (20.00 to 20.00) | – |"), "{markdown}");
        assert!(markdown.contains("| 50.0 % | 0.00 (0.00 to 0.00) | 20.00 (10.00 to 30.00) |"), "{markdown}");
        assert!(csv(&record).contains("0.5,0,0.2\n"), "{}", csv(&record));
        let svg = svg(&record);
        assert!(svg.starts_with("<svg") && svg.contains("<style>") && svg.trim_end().ends_with("</svg>"));
        assert_eq!(svg.matches("<title>").count(), 3);
    }
}
