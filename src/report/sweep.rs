//! A sweep: the ranges of A and B over its grid, as one table and one figure.

use maud::html;

use super::chart::{Axis, Chart, Layer, Mark, Shape, Size};
use super::figures::Figure;
use super::format;
use super::page::{figure, page, sorted, table_card};
use super::table::{Cell, Table};
use crate::records::{DensityRange, PointFound, SweepRecord, Verdict};

/// Points that the figure shows: more would be no figure.
const MOST_DRAWN: usize = 200;
/// Letters of a value that stand beside its line in the figure; longer ones are known by the point's number.
const SHORT: usize = 7;

/// One self-contained page.
pub fn html(sweep: &SweepRecord) -> String {
    let missing: Vec<String> = (sweep.points.iter().enumerate())
        .filter_map(|(index, point)| Some(format!("point {}: {}", index + 1, point.missing.as_ref()?)))
        .collect();
    let warnings: Vec<String> =
        sweep.points.iter().filter_map(|point| point.found.as_ref()).flat_map(|found| found.warnings.clone()).collect();
    let body = html! {
        header.top {
            p.kicker { "ticketlens · a sweep" }
            h1 { (sweep.name) }
            p.sub { (summary(sweep)) }
        }
        @if !missing.is_empty() {
            section #missing { h2 { "What is missing" } ul.warnings { @for text in &missing { li { (text) } } } }
        }
        section #ranges { h2 { "The ranges of A and B over the grid" }
            (figure(&ranges(sweep)))
        }
        section #numbers { h2 { "Every point" }
            (table_card("points", "Points", &html! {
                "A: pruning keeps the explanations, and so the lottery ticket wins; it holds from 100 % of the weights down to the density \
                 shown. B: pruning changes them, and so it fails; it holds from the density shown down. A point's whole study: "
                code { "ticketlens report points/FOLDER" } "."
            }, &table(sweep)))
        }
        @if !warnings.is_empty() {
            section #warnings { h2 { "Warnings" } ul.warnings { @for text in sorted(&warnings) { li { (text) } } } }
        }
    };
    page(&sweep.name, &body)
}

/// The table as Markdown, which a terminal shows too.
pub fn markdown(sweep: &SweepRecord) -> String {
    format!("{}\n\n{}", summary(sweep), table(sweep).markdown())
}

/// One row for each point.
pub fn csv(sweep: &SweepRecord) -> String {
    table(sweep).csv()
}

/// A hypothesis's letter, the class and mark of its line, and where its verdict stands.
type Drawn = (&'static str, &'static str, Shape, fn(&PointFound) -> &Verdict);

/// How many points came out, and how.
fn summary(sweep: &SweepRecord) -> String {
    let found: Vec<&PointFound> = sweep.points.iter().filter_map(|point| point.found.as_ref()).collect();
    let with = |of: fn(&PointFound) -> &Verdict| found.iter().filter(|found| of(found).range.is_some()).count();
    format!(
        "{} of {} points are finished; A has a range at {}, B at {}",
        found.len(),
        sweep.points.len(),
        with(|found| &found.a),
        with(|found| &found.b)
    )
}

fn table(sweep: &SweepRecord) -> Table {
    let mut table = Table::new("Ranges of A and B over the grid", &["point"]);
    table.columns.extend(sweep.axes.iter().cloned());
    let columns = [
        "replicates",
        "A",
        "A down to",
        "B",
        "B from",
        "accuracy, dense",
        "accuracy, sparsest",
        "least weights kept",
        "folder",
    ];
    table.columns.extend(columns.map(str::to_owned));
    for (index, point) in sweep.points.iter().enumerate() {
        let mut row = vec![Cell::count(index + 1)];
        row.extend(
            point
                .values
                .iter()
                .map(|value| value.parse().map_or_else(|_| Cell::text(value), |number| Cell::shown(number, value))),
        );
        match &point.found {
            None => {
                row.extend(std::iter::repeat_with(Cell::absent).take(columns.len() - 1));
            }
            Some(found) => {
                let density = |share| Cell::shown(share, format::density(share));
                let end = |range: Option<DensityRange>, of: fn(DensityRange) -> f64| {
                    range.map_or_else(Cell::absent, |range| density(of(range)))
                };
                row.extend([
                    Cell::count(found.replicates),
                    Cell::text(format::outcome_name(found.a.outcome)),
                    end(found.a.range, |range| range.to),
                    Cell::text(format::outcome_name(found.b.outcome)),
                    end(found.b.range, |range| range.from),
                    Cell::percent(found.dense_accuracy, 2),
                    Cell::percent(found.least_accuracy, 2),
                    density(found.least_density),
                ]);
            }
        }
        row.push(Cell::text(&point.id));
        table.rows.push(row);
    }
    table
}

/// One line for each point: where A holds, where B does, and as far as it was pruned.
fn ranges(sweep: &SweepRecord) -> Figure {
    let drawn = &sweep.points[..sweep.points.len().min(MOST_DRAWN)];
    let label = |index: usize| match &drawn[index].values[..] {
        [only] if only.chars().count() <= SHORT => only.clone(),
        _ => (index + 1).to_string(),
    };
    // The first point stands at the top.
    let names: Vec<String> = (0..drawn.len()).rev().map(label).collect();
    let height = |index: usize| (drawn.len() - 1 - index) as f64;
    let found: Vec<(usize, &PointFound)> =
        drawn.iter().enumerate().filter_map(|(index, point)| Some((index, point.found.as_ref()?))).collect();
    let mut layers = Vec::new();
    for (index, found) in &found {
        let points = vec![(1.0, height(*index)), (found.least_density, height(*index))];
        layers.push(Layer::Line { class: "s3 faint".into(), points });
    }
    let hypotheses: [Drawn; 2] =
        [("A", "s0", Shape::Circle, |found| &found.a), ("B", "s1", Shape::Square, |found| &found.b)];
    for (letter, class, shape, of) in hypotheses {
        let mut marks = Vec::new();
        for (index, found) in &found {
            let Some(range) = of(found).range else { continue };
            let y = height(*index);
            layers.push(Layer::Line { class: class.into(), points: vec![(range.from, y), (range.to, y)] });
            let title = format!(
                "{}: {letter} from {} to {}",
                values(sweep, *index),
                format::density(range.from),
                format::density(range.to)
            );
            marks.extend([range.from, range.to].map(|x| Mark { x, y, whisker: None, title: title.clone() }));
        }
        layers.push(Layer::Marks { class: class.into(), shape, marks });
    }
    let left_out = match sweep.points.len() - drawn.len() {
        0 => String::new(),
        more => format!(" The first {} points are drawn; {more} more stand in the table.", drawn.len()),
    };
    let axes = if sweep.axes.is_empty() { "the only point".to_owned() } else { sweep.axes.join(" × ") };
    let chart = Chart {
        alt: format!("Ranges of densities in which hypotheses A and B hold, by point of the grid. {}.", summary(sweep)),
        x: Axis::density(found.iter().map(|(_, found)| found.least_density)),
        y: Axis::Names(&names),
        x_label: "weights kept",
        y_label: if sweep.axes.len() == 1 { &axes } else { "point" },
        layers,
        legend: [("A holds", "s0", Shape::Circle), ("B holds", "s1", Shape::Square), ("tested", "s3", Shape::None)]
            .map(|(name, class, shape)| (name.to_owned(), class.to_owned(), shape))
            .to_vec(),
    };
    let tall = 104.0 + 20.0 * drawn.len() as f64;
    let sizes = [(920.0, "wide"), (360.0, "narrow")].map(|(width, class)| Size { width, height: tall, class });
    Figure {
        id: "grid".into(),
        title: format!("Where A and B hold, by {axes}"),
        caption: html! {
            "A line for each point: the densities in which A holds (from dense on) and B holds (from the sparsest on); the faint line shows how far \
             it was pruned." (left_out)
        },
        body: html! { @for size in sizes { (chart.svg(size)) } },
        table: table(sweep),
    }
}

/// `axis = value` of a point.
fn values(sweep: &SweepRecord, index: usize) -> String {
    let pairs = sweep.axes.iter().zip(&sweep.points[index].values);
    let pairs: Vec<String> = pairs.map(|(axis, value)| format!("{axis} = {value}")).collect();
    format!("point {} {}", index + 1, pairs.join(", ")).trim_end().to_owned()
}
