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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{FORMAT, Outcome, PointRecord};

    fn verdict(range: Option<(f64, f64)>) -> Verdict {
        let outcome = if range.is_some() { Outcome::Supported } else { Outcome::Inconclusive };
        Verdict { outcome, range: range.map(|(from, to)| DensityRange { from, to }), reason: String::new() }
    }

    fn point(value: &str, ranges: Option<[Option<(f64, f64)>; 2]>) -> PointRecord {
        let found = ranges.map(|[a, b]| PointFound {
            replicates: 3,
            a: verdict(a),
            b: verdict(b),
            least_density: 0.01,
            dense_accuracy: 0.97,
            least_accuracy: 0.5,
            answer: String::new(),
            warnings: vec!["a <warning>".into()],
        });
        let missing = found.is_none().then(|| "1 of 4 units are not finished".into());
        PointRecord { id: format!("id-{value}"), values: vec![value.into()], found, missing }
    }

    fn sweep(points: Vec<PointRecord>) -> SweepRecord {
        SweepRecord { format: FORMAT, name: "<s>".into(), axes: vec!["prune.fraction".into()], points }
    }

    #[test]
    fn ranges_are_drawn_where_there_are_some_and_gaps_are_told() {
        let record = sweep(vec![
            point("0.2", Some([Some((1.0, 0.34)), Some((0.013, 0.01))])),
            point("0.5", Some([Some((1.0, 0.5)), None])),
            point("0.8", None),
        ]);
        assert_eq!(summary(&record), "2 of 3 points are finished; A has a range at 2, B at 1");
        let markdown = markdown(&record);
        let row = "| 1 | 0.2 | 3 | supported | 34.0 % | supported | 1.3 % | 97.00 % | 50.00 % | 1.0 % | id-0.2 |";
        assert!(markdown.contains(row), "{markdown}");
        assert!(markdown.contains("| 3 | 0.8 | – | – | – | – | – | – | – | – | id-0.8 |"), "{markdown}");
        assert!(csv(&record).contains("1,0.2,3,supported,0.34,supported,0.013,0.97,0.5,0.01,id-0.2\n"));
        let drawing = ranges(&record).body.into_string();
        // Two sizes; a range is a line and two marks, and how far a point was pruned is a faint line.
        let count = |what: &str| drawing.matches(what).count();
        assert_eq!([count("class=\"line s0\""), count("class=\"line s1\""), count("line s3 faint")], [2 * 2, 2, 2 * 2]);
        assert_eq!(count("point 1 prune.fraction = 0.2: B from 1.3 % to 1.0 %"), 2 * 2);
        // The first point stands at the top.
        assert!(drawing.find(">0.8<").unwrap() < drawing.find(">0.2<").unwrap());
        let page = html(&record);
        assert!(page.contains("point 3: 1 of 4 units are not finished") && page.contains("a &lt;warning&gt;"));
        assert!(!page.contains("<s>") && page.contains("&lt;s&gt;"));
    }

    #[test]
    fn a_figure_has_an_end_and_the_table_has_all() {
        let record = sweep((0..MOST_DRAWN + 7).map(|at| point(&at.to_string(), Some([None, None]))).collect());
        let figure = ranges(&record);
        assert!(figure.caption.into_string().contains("The first 200 points are drawn; 7 more stand in the table."));
        assert_eq!(figure.body.into_string().matches("line s3 faint").count(), 2 * MOST_DRAWN);
        assert_eq!(table(&record).rows.len(), MOST_DRAWN + 7);
    }
}
