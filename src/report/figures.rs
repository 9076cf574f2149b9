//! Figures of accuracy and drift against density, each with the table behind it.

use maud::{Markup, html};

use super::chart::{Axis, Chart, Layer, Mark, SMALL, Shape};
use super::format;
use super::paper;
use super::table::{Cell, Table};
use super::view::{Measure, Point, Spread, View};
use crate::plan::{Arm, sources};
use crate::records::Interval;

/// A figure of the page.
pub(crate) struct Figure {
    /// Fragment and file name.
    pub(crate) id: String,
    /// Title.
    pub(crate) title: String,
    /// What is drawn and how to read it.
    pub(crate) caption: Markup,
    /// The drawing.
    pub(crate) body: Markup,
    /// The numbers behind it.
    pub(crate) table: Table,
}

/// CSS class and mark of an arm's line.
pub(crate) fn style(arm: &str) -> (String, Shape) {
    match super::view::arm_rank(arm) {
        0 => ("s0".to_owned(), Shape::Circle),
        1 => ("s1".to_owned(), Shape::Square),
        2 => ("s2".to_owned(), Shape::Triangle),
        _ => ("s3".to_owned(), Shape::Diamond),
    }
}

/// Layers of one arm over density: band, a faint line for each replicate, mean line, marks.
pub(crate) fn arm_layers(
    points: &[&Point],
    arm: &str,
    spread: impl Fn(&Point) -> Option<Spread>,
    interval: impl Fn(&Point) -> Option<Interval>,
    label: impl Fn(&Point, &Spread) -> String,
) -> Vec<Layer> {
    let (class, shape) = style(arm);
    let with: Vec<(&Point, Spread)> = points.iter().filter_map(|&point| Some((point, spread(point)?))).collect();
    let mut layers = Vec::new();
    if with.iter().any(|(_, spread)| spread.high > spread.low) {
        let points = with.iter().map(|(point, spread)| (point.density, spread.low, spread.high)).collect();
        layers.push(Layer::Band { class: class.clone(), points });
    }
    let mut replicates: Vec<usize> =
        with.iter().flat_map(|(_, spread)| &spread.values).map(|&(replicate, _)| replicate).collect();
    replicates.sort_unstable();
    replicates.dedup();
    if replicates.len() > 1 {
        for replicate in replicates {
            let at = |(point, spread): &(&Point, Spread)| {
                let value = spread.values.iter().find(|(candidate, _)| *candidate == replicate)?.1;
                Some((point.density, value))
            };
            layers.push(Layer::Line { class: format!("{class} faint"), points: with.iter().filter_map(at).collect() });
        }
    }
    let mean = with.iter().map(|(point, spread)| (point.density, spread.mean)).collect();
    layers.push(Layer::Line { class: class.clone(), points: mean });
    let mark = |(point, spread): &(&Point, Spread)| Mark {
        x: point.density,
        y: spread.mean,
        whisker: interval(point).map(|range| (range.low, range.high)),
        title: label(point, spread),
    };
    layers.push(Layer::Marks { class, shape, marks: with.iter().map(mark).collect() });
    layers
}

pub(crate) fn legend(view: &View) -> Vec<(String, String, Shape)> {
    let entry = |arm: &str| {
        let (class, shape) = style(arm);
        (format::arm_name(arm), class, shape)
    };
    view.arms().into_iter().map(entry).collect()
}

/// Accuracy against density: ours, with the margin of non-inferiority.
pub(crate) fn accuracy(view: &View) -> Figure {
    let dense = view.points.iter().find(|point| point.round == 0).map(|point| point.accuracy.mean);
    let margin = view.plan.verdict.accuracy_margin;
    let mut layers = Vec::new();
    let mut values: Vec<f64> = view.points.iter().flat_map(|point| [point.accuracy.low, point.accuracy.high]).collect();
    let mut legend = legend(view);
    if let Some(dense) = dense {
        values.push(dense - margin);
        layers.push(Layer::Rule { y: dense - margin, class: "margin" });
        legend.push((
            format!("dense − {} pt, the margin", format::short_number(100.0 * margin)),
            "margin".into(),
            Shape::None,
        ));
    }
    for arm in view.arms().into_iter().rev() {
        let title = |point: &Point, spread: &Spread| {
            let kept = format::density(point.density);
            format!("{}, round {}, {kept} kept: {}", format::arm_name(arm), point.round, percent_spread(spread))
        };
        layers.extend(arm_layers(&view.line(arm), arm, |point| Some(point.accuracy.clone()), |_| None, title));
    }
    let ends = [view.points.first(), view.arm(Arm::Lottery.name()).last().copied()];
    let told: Vec<String> = ends
        .into_iter()
        .flatten()
        .map(|point| {
            format!("{} at {} of the weights", format::percent(point.accuracy.mean, 2), format::density(point.density))
        })
        .collect();
    let chart = Chart {
        alt: format!("Test accuracy against density: lottery tickets {}.", told.join(", ")),
        x: Axis::density(view.points.iter().map(|point| point.density)),
        y: Axis::around(values, true),
        x_label: "weights kept (log scale)",
        y_label: "test accuracy",
        layers,
        legend,
    };
    Figure {
        id: "accuracy".into(),
        title: "Accuracy as weights go".into(),
        caption: html! {
            "Heavy line: mean over replicates. Faint lines: each replicate. Band: lowest to highest replicate. "
            "A round is " em { "matching" } " when its accuracy is not lower than dense by more than the margin (dashed)."
        },
        body: chart.both(),
        table: rounds_table(view),
    }
}

/// The paper's figure 2 as a dashed line with diamonds, and its points (density, accuracy).
pub(crate) fn paper_curve() -> ([Layer; 2], Vec<(f64, f64)>) {
    curve(&paper::mnist_accuracy())
}

fn curve(paper: &[paper::PaperAccuracy]) -> ([Layer; 2], Vec<(f64, f64)>) {
    let points: Vec<(f64, f64)> = paper.iter().map(|point| (point.density, point.accuracy)).collect();
    let mark = |point: &paper::PaperAccuracy| Mark {
        x: point.density,
        y: point.accuracy,
        whisker: None,
        title: format!("paper, round {}: {}", point.round, format::percent(point.accuracy, 2)),
    };
    let marks = paper.iter().map(mark).collect();
    let line = Layer::Line { class: "paper".into(), points: points.clone() };
    ([line, Layer::Marks { class: "paper".into(), shape: Shape::Diamond, marks }], points)
}

/// Our accuracy beside the paper's figure 2 or 3, where the question is the same.
pub(crate) fn papers_accuracy(view: &View) -> Option<Figure> {
    let (number, paper, what, question, settings) = if view.like_papers_mnist() {
        (
            2,
            paper::mnist_accuracy(),
            "best validation",
            "accuracy, even against odd",
            "(ResNet-18, 224 px, Adam 0.01, 12 epochs a round, best validation epoch, 35 rounds of 10 %)",
        )
    } else if view.plan.data.source == sources::CUB {
        (
            3,
            paper::cub_accuracy(),
            "read off the plot",
            "accuracy over species",
            "(200 species, ResNet-50 from ImageNet weights, 448 px, SGD 0.001, 60 epochs a round, 15 rounds of 10 %)",
        )
    } else {
        return None;
    };
    let name = format!("the paper, figure {number}");
    let ours = view.arm(Arm::Lottery.name());
    let mut table =
        Table::new("Accuracy of the paper's run and of this one", &["run", "round", "weights kept", "accuracy"]);
    let mut row = |run: &str, round: usize, density: f64, accuracy: f64| {
        table.rows.push(vec![
            Cell::text(run),
            Cell::count(round),
            Cell::percent(density, 1),
            Cell::percent(accuracy, 2),
        ]);
    };
    for point in &paper {
        row(&format!("paper, figure {number} ({what})"), point.round, point.density, point.accuracy);
    }
    for point in &ours {
        row("this run (test, mean)", point.round, point.density, point.accuracy.mean);
    }
    let mut layers = Vec::from(curve(&paper).0);
    let title = |point: &Point, spread: &Spread| format!("this run, round {}: {}", point.round, percent_spread(spread));
    layers.extend(arm_layers(&ours, Arm::Lottery.name(), |point| Some(point.accuracy.clone()), |_| None, title));
    let densities = paper.iter().map(|point| point.density).chain(ours.iter().map(|point| point.density));
    let accuracies = paper.iter().map(|point| point.accuracy).chain(ours.iter().map(|point| point.accuracy.low));
    let chart = Chart {
        alt: "Accuracy against density of the paper's run and of this one.".into(),
        x: Axis::density(densities),
        y: Axis::around(accuracies.chain([1.0]), true),
        x_label: "weights kept (log scale)",
        y_label: question,
        layers,
        legend: vec![
            ("this run, lottery ticket".into(), "s0".into(), Shape::Circle),
            (name, "paper".into(), Shape::Diamond),
        ],
    };
    Some(Figure {
        id: "accuracy-paper".into(),
        title: format!("Beside the paper’s figure {number}"),
        caption: html! {
            "Ghosh & Ravi’s run " (settings) " and this one (test accuracy). Sizes and schedules differ; the shape is what can be compared. Theirs is one run; a replicate may fall elsewhere."
        },
        body: chart.both(),
        table,
    })
}

/// ρ by one measure against density.
pub(crate) fn drift(view: &View, measure: Measure) -> Option<Figure> {
    let margin = view.plan.verdict.drift_margin;
    let all: Vec<Spread> = view.points.iter().filter_map(|point| point.drift(measure)).collect();
    if all.is_empty() {
        return None;
    }
    let interval = |point: &Point| point.ratio(measure)?.interval;
    let intervals = view.points.iter().filter_map(interval).map(|range| range.high);
    let highest = all.iter().map(|spread| spread.high).chain(intervals).fold(1.0 + margin, f64::max);
    let mut layers =
        vec![Layer::Zone { low: 1.0, high: 1.0 + margin, class: "zone" }, Layer::Rule { y: 1.0, class: "floor" }];
    for arm in view.arms().into_iter().rev() {
        let title = |point: &Point, spread: &Spread| {
            let range = interval(point).map_or(String::new(), |range| format!(" ({})", format::range(range)));
            let kept = format::density(point.density);
            let rho = format::number(spread.mean);
            format!("{}, round {}, {kept} kept: ρ {rho}{range}", format::arm_name(arm), point.round)
        };
        layers.extend(arm_layers(&view.arm(arm), arm, |point| point.drift(measure), interval, title));
    }
    let columns = [
        "arm",
        "round",
        "weights kept",
        "ρ",
        "interval",
        "ρ, all images",
        "drift from parent / twins",
        "in seed floors",
        "replicates",
    ];
    let mut table = Table::new(format!("{}: ρ by arm and density", measure.title()), &columns);
    for point in &view.points {
        let Some(ratio) = point.ratio(measure) else { continue };
        let replicates: Vec<String> = ratio.replicates.iter().map(|rho| format::maybe(*rho)).collect();
        table.rows.push(vec![
            Cell::text(format::arm_name(point.arm)),
            Cell::count(point.round),
            Cell::shown(point.density, format::density(point.density)),
            Cell::maybe(ratio.rho),
            ratio.interval.map_or_else(Cell::absent, |range| Cell::text(format::range(range))),
            Cell::maybe(ratio.all_images),
            Cell::maybe(ratio.from_parent),
            Cell::maybe(ratio.in_seed_floors),
            Cell::text(replicates.join(", ")),
        ]);
    }
    let last = view.arm(Arm::Lottery.name()).last().and_then(|point| Some((point.density, point.drift(measure)?.mean)));
    let told = last.map_or(String::new(), |(density, mean)| {
        format!("; lottery tickets reach {} at {} of the weights", format::number(mean), format::density(density))
    });
    let chart = Chart {
        alt: format!("{}: ρ against density{told}.", measure.title()),
        x: Axis::density(view.points.iter().map(|point| point.density)),
        y: Axis::Linear { low: 0.0, high: 1.06 * highest },
        x_label: "weights kept (log scale)",
        y_label: "ρ: drift, retraining = 1",
        layers,
        legend: legend(view)
            .into_iter()
            .chain([("retraining alone".to_owned(), "floor".to_owned(), Shape::None)])
            .collect(),
    };
    let levels = [&view.study.study.floor.twins, &view.study.study.floor.seeds].map(|levels| measure.level(levels));
    Some(Figure {
        id: format!("drift-{}", measure.key()),
        title: measure.title().into(),
        caption: html! {
            "ρ of: " (measure.definition()) ". 1: as far as retraining moves it; kept up to "
            (format::short_number(1.0 + margin)) " (shaded). Drift of twins: " (format::maybe(levels[0])) "; of other seeds: " (format::maybe(levels[1]))
            ". Whiskers: the interval that the answer rests on."
        },
        body: chart.svg(SMALL),
        table,
    })
}

/// One row for each arm and round: what the study says.
pub(crate) fn rounds_table(view: &View) -> Table {
    let tested = view.tested();
    let columns = [
        "arm",
        "round",
        "weights kept",
        "test accuracy",
        "range over replicates",
        "difference to parent (points)",
        "interval of the difference",
        "forgotten (% of images)",
        "learned (%)",
        "pixels (ρ)",
        "interval of the pixels",
        "concepts (ρ)",
        "interval of the concepts",
        "significant concepts",
        "call",
        "why",
    ];
    let mut table = Table::new("Every arm and round, over the replicates", &columns);
    for point in view.points.iter().filter(|point| point.record.is_some()) {
        let record = point.record.filter(|_| point.round > 0);
        let interval = |range: Option<Interval>, scale: f64| {
            range.map_or_else(Cell::absent, |range| {
                Cell::text(format::range(Interval { low: scale * range.low, high: scale * range.high }))
            })
        };
        let accuracy = record.map(|record| &record.accuracy);
        let percent = |share: Option<f64>| share.map_or_else(Cell::absent, |share| Cell::number(100.0 * share));
        let [pixels, concepts] = Measure::DECIDING.map(|measure| point.ratio(measure));
        table.rows.push(vec![
            Cell::text(format::arm_name(point.arm)),
            Cell::count(point.round),
            Cell::shown(point.density, format::density(point.density)),
            Cell::percent(point.accuracy.mean, 2),
            Cell::text(format!(
                "{} to {}",
                format::percent(point.accuracy.low, 2),
                format::percent(point.accuracy.high, 2)
            )),
            accuracy.map_or_else(Cell::absent, |accuracy| {
                Cell::shown(100.0 * accuracy.difference, format::points(accuracy.difference))
            }),
            interval(accuracy.and_then(|accuracy| accuracy.interval), 100.0),
            percent(accuracy.map(|accuracy| accuracy.forgotten)),
            percent(accuracy.map(|accuracy| accuracy.learned)),
            Cell::maybe(pixels.and_then(|ratio| ratio.rho)),
            interval(pixels.and_then(|ratio| ratio.interval), 1.0),
            Cell::maybe(concepts.and_then(|ratio| ratio.rho)),
            interval(concepts.and_then(|ratio| ratio.interval), 1.0),
            point.significant.as_ref().map_or_else(Cell::absent, |spread| Cell::shown(spread.mean, of(spread, tested))),
            Cell::text(point.record.map_or(format::ABSENT, |record| format::call_name(record.call))),
            Cell::text(point.record.map_or(String::new(), |record| record.reason.clone())),
        ]);
    }
    table
}

/// `12 of 20`, or `12–14 of 20` where replicates differ.
pub(crate) fn of(spread: &Spread, tested: usize) -> String {
    if spread.low == spread.high {
        format!("{} of {tested}", spread.low)
    } else {
        format!("{}–{} of {tested}", spread.low, spread.high)
    }
}

fn percent_spread(spread: &Spread) -> String {
    let range = if spread.low == spread.high {
        String::new()
    } else {
        format!(" ({} to {})", format::percent(spread.low, 2), format::percent(spread.high, 2))
    };
    format::percent(spread.mean, 2) + &range
}
