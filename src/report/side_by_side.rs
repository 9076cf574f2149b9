//! Several studies beside the first: what each change of a plan does to accuracy, drift and TCAV, by density, with the verdicts; and the paper's own
//! numbers where it asked the same question. Replicates are paired by number: the same number under the same plan seed starts from the same weights.

use maud::html;
use serde::Serialize;

use super::Study;
use super::chart::{Axis, Chart, Layer, Mark, SMALL, Shape};
use super::figures::{Figure, paper_curve};
use super::format;
use super::html::{card_of_verdicts, figure, page, table_card};
use super::markdown;
use super::paper;
use super::table::{Cell, Table};
use super::view::{Network, Point, View};
use crate::error::{Error, Result};
use crate::experiment::config::Arm;
use crate::experiment::records::{Range, TcavRecord};
use crate::model::Stage;
use crate::stats::correlation::spearman_coefficient;
use crate::stats::t_tests::one_sample_t;

/// Densities further apart than this ratio are not matched.
const MOST_APART: f64 = 1.12;
/// Densities up to this are low: the paper's tickets fall to chance there.
const LOW_DENSITY: f64 = 0.05;
/// How studies are told from one another in the paper's row.
const PAPER: &str = "the paper (best validation, nearest density)";

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quantity {
    /// Test accuracy, a share.
    Accuracy,
    /// Test accuracy minus the reference's, a share.
    Difference,
    /// `1 − ρ` of the maps against the study's own dense network's.
    Drift,
    /// That over the study's own floor.
    DriftInFloors,
    /// `1 − ρ` of the maps against those of the reference's network of the same replicate and density, over the reference's floor.
    Maps,
    /// Root mean square difference of the TCAV scores from those of that network.
    Scores,
    /// The same of the standardised effects.
    Effects,
}

impl Quantity {
    const ALL: [Self; 7] =
        [Self::Accuracy, Self::Difference, Self::Drift, Self::DriftInFloors, Self::Maps, Self::Scores, Self::Effects];

    /// Its name in JSON and CSV.
    fn field(self) -> &'static str {
        match self {
            Self::Accuracy => "test_accuracy",
            Self::Difference => "accuracy_difference",
            Self::Drift => "drift",
            Self::DriftInFloors => "drift_in_floors",
            Self::Maps => "map_difference_in_floors",
            Self::Scores => "score_difference",
            Self::Effects => "effect_difference",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Accuracy => "Test accuracy",
            Self::Difference => "Accuracy difference to the reference (points)",
            Self::Drift => "Map drift from the study's own dense network (1 − ρ)",
            Self::DriftInFloors => "Map drift from dense, in floors of the study itself",
            Self::Maps => "Maps against the reference's at the same density (in floors of the reference)",
            Self::Scores => "TCAV scores against the reference's (root mean square difference)",
            Self::Effects => "Concept effects against the reference's (root mean square difference, SDs)",
        }
    }

    /// How to read it.
    fn caption(self) -> &'static str {
        match self {
            Self::Accuracy => "Mean over replicates.",
            Self::Difference => "Paired by replicate; in brackets the 95 % t interval over replicates.",
            Self::Drift => "Mean over replicates.",
            Self::DriftInFloors => {
                "1: as much as another seed moves the maps. Mean over replicates; a study's floor is its own, so compare 1 − ρ as well."
            }
            Self::Maps => {
                "The same images, the network of the same replicate. 1: as far as the reference's own dense networks of different seeds are apart."
            }
            Self::Scores | Self::Effects => {
                "Over classes and concepts, the network of the same replicate. The reference's row: its own replicates against each other, what another seed does."
            }
        }
    }

    fn show(self, value: f64) -> String {
        match self {
            Self::Accuracy => format::percent(value, 2),
            Self::Difference => format::points(value),
            _ => format::number(value),
        }
    }
}

/// A mean over replicates and its t interval, where replicates differ.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Estimate {
    mean: f64,
    interval: Option<Range>,
}

/// A density of the reference and, for each study, its round of like density.
struct Column {
    density: f64,
    rounds: Vec<Option<usize>>,
}

struct Sides<'a> {
    views: Vec<View<'a>>,
    names: Vec<String>,
    stage: Option<Stage>,
    columns: Vec<Column>,
}

/// The studies as one self-contained HTML page; the first is the reference.
///
/// # Errors
/// When a plan cannot be read or no study is given.
pub fn html(studies: &[Study]) -> Result<String> {
    let sides = Sides::new(studies)?;
    let title = format!("{} studies beside {}", studies.len() - 1, sides.names[0]);
    let summary = sides.summary();
    let body = html! {
        header.top {
            p.kicker { "ticketlens · several studies side by side" }
            h1 { (title) }
            p.sub { "Rounds are matched by density within a factor of " (MOST_APART) "; replicates are paired by number." }
        }
        section #summary { h2 { "Summary" }
            (table_card("studies", "Studies", &html! { (SUMMARY_CAPTION) }, &summary))
        }
        section #verdict aria-label="Verdicts" { (card_of_verdicts(&sides.verdicts())) }
        section #accuracy { h2 { "Accuracy, each beside the reference" }
            div.trio { @for study in 1..sides.views.len() { (figure(&sides.chart(study, Quantity::Accuracy))) } }
        }
        section #drift { h2 { "Drift, each beside the reference" }
            div.trio { @for study in 1..sides.views.len() { (figure(&sides.chart(study, Quantity::DriftInFloors))) } }
        }
        section #numbers { h2 { "By density" }
            @for quantity in Quantity::ALL {
                (table_card(quantity.field(), quantity.title(), &html! { (quantity.caption()) }, &sides.table(quantity)))
            }
        }
        section #profiles { h2 { "TCAV profiles" }
            @for (class, table) in sides.profiles() {
                (table_card(&format!("profile-{class}"), &format!("TCAV scores for {class}"), &html! { "Mean over replicates." }, &table))
            }
        }
    };
    Ok(page(&title, &body))
}

/// The studies as Markdown.
///
/// # Errors
/// When a plan cannot be read or no study is given.
pub fn markdown(studies: &[Study]) -> Result<String> {
    let sides = Sides::new(studies)?;
    let mut out = format!("# {} studies beside {}\n\n", studies.len() - 1, markdown::text(&sides.names[0]));
    out += &format!("{SUMMARY_CAPTION}\n\n{}\n## Verdicts\n\n", sides.summary().markdown());
    for [study, letter, outcome, reason] in sides.verdicts() {
        let (study, reason) = (markdown::text(&study), markdown::text(&reason));
        out += &format!("- **{study}**, hypothesis {letter}: **{outcome}**: {reason}\n");
    }
    for quantity in Quantity::ALL {
        let table = sides.table(quantity).markdown();
        out += &format!("\n## {}\n\n{}\n\n{table}", quantity.title(), quantity.caption());
    }
    for (class, table) in sides.profiles() {
        out += &format!(
            "\n## TCAV scores for {}\n\nMean over replicates.\n\n{}",
            markdown::text(&class),
            table.markdown()
        );
    }
    Ok(out)
}

/// Every quantity as one tidy CSV table.
///
/// # Errors
/// When a plan cannot be read or no study is given.
pub fn csv(studies: &[Study]) -> Result<String> {
    let sides = Sides::new(studies)?;
    let mut table = Table::new("", &["study", "measure", "density", "round", "value", "low", "high"]);
    for (study, name) in sides.names.iter().enumerate() {
        for quantity in Quantity::ALL {
            for column in &sides.columns {
                let Some((round, estimate)) =
                    column.rounds[study].and_then(|round| Some((round, sides.at(quantity, study, column)?)))
                else {
                    continue;
                };
                let end =
                    |of: fn(Range) -> f64| estimate.interval.map_or_else(Cell::absent, |range| Cell::number(of(range)));
                table.rows.push(vec![
                    Cell::text(name),
                    Cell::text(quantity.field()),
                    Cell::number(column.density),
                    Cell::count(round),
                    Cell::number(estimate.mean),
                    end(|range| range.low),
                    end(|range| range.high),
                ]);
            }
        }
    }
    Ok(table.csv())
}

/// Every quantity as JSON (`docs/report-schema.md`).
///
/// # Errors
/// When a plan cannot be read or no study is given.
pub fn json(studies: &[Study]) -> Result<String> {
    let sides = Sides::new(studies)?;
    let studies: Vec<serde_json::Value> = (0..sides.views.len())
        .map(|study| {
            let rounds: Vec<serde_json::Value> = sides
                .columns
                .iter()
                .filter_map(|column| {
                    let mut row = serde_json::Map::new();
                    row.insert("reference_density".into(), column.density.into());
                    row.insert("round".into(), column.rounds[study]?.into());
                    for quantity in Quantity::ALL {
                        let estimate = sides.at(quantity, study, column);
                        row.insert(quantity.field().into(), serde_json::to_value(estimate).unwrap_or_default());
                    }
                    Some(row.into())
                })
                .collect();
            let record = &sides.views[study].study.study;
            serde_json::json!({
                "name": sides.names[study],
                "as_published": sides.switched_on(study),
                "hypothesis_a": record.hypothesis_a,
                "hypothesis_b": record.hypothesis_b,
                "rounds": rounds,
            })
        })
        .collect();
    let json = serde_json::json!({
        "schema": "ticketlens.compare.many",
        "schema_version": super::json::SCHEMA_VERSION,
        "studies": studies,
    });
    let text = serde_json::to_string_pretty(&json).map_err(|error| Error::input(format!("comparison: {error}")))?;
    Ok(text + "\n")
}

const SUMMARY_CAPTION: &str = "Low density: the mean over rounds that keep at most 5 % of the weights. Intervals: 95 %, t over replicates, paired with the \
                               reference's by number; few replicates make them wide.";

impl<'a> Sides<'a> {
    fn new(studies: &'a [Study]) -> Result<Self> {
        let views = studies.iter().map(View::new).collect::<Result<Vec<_>>>()?;
        let reference = views.first().ok_or_else(|| Error::input("no study to compare"))?;
        let mut names: Vec<String> = Vec::new();
        for study in studies {
            let times =
                names.iter().filter(|name| *name == &study.name || name.starts_with(&format!("{} (", study.name)));
            let times = times.count();
            names.push(if times == 0 { study.name.clone() } else { format!("{} ({})", study.name, times + 1) });
        }
        let columns = reference
            .arm(Arm::Lottery.name())
            .into_iter()
            .map(|point| {
                let apart = |other: &&Point| (other.density / point.density).ln().abs();
                let round = |view: &View| {
                    let points = view.arm(Arm::Lottery.name());
                    let nearest = points.into_iter().min_by(|a, b| apart(a).total_cmp(&apart(b)))?;
                    (apart(&nearest) <= MOST_APART.ln()).then_some(nearest.round)
                };
                Column { density: point.density, rounds: views.iter().map(round).collect() }
            })
            .collect();
        let stage = reference.first_stage();
        Ok(Self { names, stage, columns, views })
    }

    fn switched_on(&self, study: usize) -> Vec<&'static str> {
        let switches = self.views[study].plan.as_published.switches();
        switches.into_iter().filter(|(_, on)| *on).map(|(name, _)| name).collect()
    }

    fn network(&self, study: usize, replicate: usize, round: usize) -> Option<&Network<'a>> {
        let wanted = |network: &&Network| {
            network.id.arm == Arm::Lottery.name() && network.id.replicate == replicate && network.id.round == round
        };
        self.views[study].networks.iter().find(wanted)
    }

    fn replicates(&self) -> usize {
        self.views.iter().map(|view| view.plan.replicates).min().unwrap_or(0)
    }

    /// A quantity of one network, and of the reference's beside it.
    fn value(&self, quantity: Quantity, study: usize, replicate: usize, column: &Column) -> Option<f64> {
        let network = self.network(study, replicate, column.rounds[study]?)?;
        let reference = || self.network(0, replicate, column.rounds[0]?);
        let drift = || network.summary?.drift.spearman.filter(|_| network.id.round > 0);
        match quantity {
            Quantity::Accuracy => Some(network.record.test_accuracy),
            Quantity::Difference => {
                (study > 0).then_some(())?;
                Some(network.record.test_accuracy - reference()?.record.test_accuracy)
            }
            Quantity::Drift => drift(),
            Quantity::DriftInFloors => {
                let floor = self.views[study].study.study.floor.spearman.filter(|floor| *floor > 0.0)?;
                Some(drift()? / floor)
            }
            Quantity::Maps => {
                let floor = self.views[0].study.study.floor.spearman.filter(|floor| *floor > 0.0)?;
                (study > 0).then_some(())?;
                Some(self.map_difference(study, network, reference()?)? / floor)
            }
            Quantity::Scores => self.profile_difference(study, replicate, column, |record| Some(record.score)),
            Quantity::Effects => self.profile_difference(study, replicate, column, |record| record.effect_standardised),
        }
    }

    /// Mean `1 − ρ` over the images; absent where the studies map different ones.
    fn map_difference(&self, study: usize, network: &Network, reference: &Network) -> Option<f64> {
        let (ours, theirs) = (self.views[study].study, self.views[0].study);
        if ours.manifest.cam_images != theirs.manifest.cam_images {
            return None;
        }
        let stage = self.stage?;
        let ours = ours.maps.raw.get(&(network.id.clone(), stage))?;
        let theirs = theirs.maps.raw.get(&(reference.id.clone(), stage))?;
        let size = ours.size[0] * ours.size[1];
        if ours.size != theirs.size || size == 0 {
            return None;
        }
        let wide = |map: &[f32]| -> Vec<f64> { map.iter().copied().map(f64::from).collect() };
        let pairs = ours.values.chunks_exact(size).zip(theirs.values.chunks_exact(size));
        // Undefined where a map is constant: such an image says nothing.
        let drifts: Vec<f64> =
            pairs.filter_map(|(a, b)| Some(1.0 - spearman_coefficient(&wide(a), &wide(b)).ok()?)).collect();
        mean(&drifts)
    }

    /// Root mean square difference of a profile from the reference's; the reference's own from its other replicates'.
    fn profile_difference(
        &self,
        study: usize,
        replicate: usize,
        column: &Column,
        value: fn(&TcavRecord) -> Option<f64>,
    ) -> Option<f64> {
        let ours = self.network(study, replicate, column.rounds[study]?)?;
        let others = match study {
            0 => (0..self.replicates()).filter(|&other| other != replicate).collect(),
            _ => vec![replicate],
        };
        let stage = self.stage?;
        let differences: Vec<f64> = others
            .into_iter()
            .filter_map(|other| {
                let theirs = self.network(0, other, column.rounds[0]?)?;
                let profile = |network: &Network| -> Vec<(usize, String, Option<f64>)> {
                    let records = network.record.tcav.iter().filter(|record| record.stage == stage);
                    records.map(|record| (record.class, record.concept.clone(), value(record))).collect()
                };
                let theirs = profile(theirs);
                let squares: Vec<f64> = profile(ours)
                    .into_iter()
                    .filter_map(|(class, concept, ours)| {
                        let same = theirs.iter().find(|(c, name, _)| *c == class && *name == concept)?;
                        Some((ours? - same.2?).powi(2))
                    })
                    .collect();
                mean(&squares).map(f64::sqrt)
            })
            .collect();
        mean(&differences)
    }

    /// A quantity over replicates, each averaged over `columns` first.
    fn over(&self, quantity: Quantity, study: usize, columns: &[&Column]) -> Option<Estimate> {
        let values: Vec<f64> = (0..self.replicates())
            .filter_map(|replicate| {
                let values: Vec<f64> =
                    columns.iter().filter_map(|column| self.value(quantity, study, replicate, column)).collect();
                mean(&values)
            })
            .collect();
        // Equal values, or one, leave the interval undefined.
        let interval = one_sample_t(&values, 0.0, 0.95).ok().map(|test| test.interval);
        let interval = interval.map(|interval| Range { low: interval.low, high: interval.high });
        Some(Estimate { mean: mean(&values)?, interval })
    }

    fn at(&self, quantity: Quantity, study: usize, column: &Column) -> Option<Estimate> {
        self.over(quantity, study, &[column])
    }

    fn low(&self) -> Vec<&Column> {
        self.columns.iter().filter(|column| column.density <= LOW_DENSITY).collect()
    }

    /// Study, hypothesis, outcome, reason.
    fn verdicts(&self) -> Vec<[String; 4]> {
        let mut out = Vec::new();
        for (view, name) in self.views.iter().zip(&self.names) {
            let record = &view.study.study;
            for (letter, verdict) in [("A", &record.hypothesis_a), ("B", &record.hypothesis_b)] {
                let outcome = format::outcome_name(verdict.outcome).to_owned();
                out.push([name.clone(), letter.to_owned(), outcome, verdict.reason.clone()]);
            }
        }
        out
    }

    fn summary(&self) -> Table {
        let columns = [
            "study",
            "defects on",
            "accuracy, dense",
            "accuracy, low density",
            "difference to the reference (points)",
            "floor (1 − ρ)",
            "drift, low density (floors)",
            "maps against the reference (floors)",
            "TCAV scores against the reference",
            "A",
            "B",
        ];
        let mut table = Table::new("Studies beside the reference", &columns);
        let low = self.low();
        for (study, view) in self.views.iter().enumerate() {
            let dense: Vec<&Column> = self.columns.iter().filter(|column| column.rounds[0] == Some(0)).collect();
            let cell = |quantity, columns: &[&Column]| shown(quantity, self.over(quantity, study, columns));
            let on = self.switched_on(study);
            table.rows.push(vec![
                Cell::text(&self.names[study]),
                Cell::text(if on.is_empty() { format::ABSENT.to_owned() } else { on.join(", ") }),
                plain(Quantity::Accuracy, self.over(Quantity::Accuracy, study, &dense)),
                plain(Quantity::Accuracy, self.over(Quantity::Accuracy, study, &low)),
                cell(Quantity::Difference, &low),
                Cell::maybe(view.study.study.floor.spearman),
                cell(Quantity::DriftInFloors, &low),
                cell(Quantity::Maps, &low),
                cell(Quantity::Scores, &low),
                Cell::text(format::outcome_name(view.study.study.hypothesis_a.outcome)),
                Cell::text(format::outcome_name(view.study.study.hypothesis_b.outcome)),
            ]);
        }
        table
    }

    /// One row for each study, one column for each density.
    fn table(&self, quantity: Quantity) -> Table {
        let mut table = Table::new(quantity.title(), &["study"]);
        table.columns.extend(self.columns.iter().map(|column| format::density(column.density)));
        for (study, name) in self.names.iter().enumerate() {
            let mut row = vec![Cell::text(name)];
            row.extend(self.columns.iter().map(|column| {
                let estimate = self.at(quantity, study, column);
                if quantity == Quantity::Difference { shown(quantity, estimate) } else { plain(quantity, estimate) }
            }));
            table.rows.push(row);
        }
        if quantity == Quantity::Accuracy && self.views[0].like_papers_mnist() {
            let paper = paper::mnist_accuracy();
            let mut row = vec![Cell::text(PAPER)];
            row.extend(self.columns.iter().map(|column| {
                let nearest = nearest(&paper, column.density, |point| point.density);
                nearest.map_or_else(Cell::absent, |point| Cell::percent(point.accuracy, 2))
            }));
            table.rows.push(row);
        }
        table
    }

    /// For each class, TCAV scores of the concepts in the dense network and in the sparsest: class name and table.
    fn profiles(&self) -> Vec<(String, Table)> {
        let reference = self.views[0].study;
        let ends: Vec<&Column> = self.columns.first().into_iter().chain(self.columns.last()).collect();
        let Some(stage) = self.stage else { return Vec::new() };
        let concepts = &reference.manifest.concepts;
        let of_class = |(class, class_name): (usize, &String)| {
            let mut table = Table::new(format!("TCAV scores for {class_name}"), &["study", "weights kept"]);
            table.columns.extend(concepts.iter().cloned());
            for column in &ends {
                for (study, view) in self.views.iter().enumerate() {
                    let Some(round) = column.rounds[study] else { continue };
                    let score = |concept: &String| {
                        let bars = view.bars(Arm::Lottery.name(), stage, class, concept);
                        let bar = bars.into_iter().find(|bar| bar.round == round)?;
                        bar.score.map(|score| score.mean)
                    };
                    let mut row = vec![
                        Cell::text(&self.names[study]),
                        Cell::shown(column.density, format::density(column.density)),
                    ];
                    row.extend(concepts.iter().map(|concept| Cell::maybe(score(concept))));
                    table.rows.push(row);
                }
                if self.views[0].like_papers_mnist() {
                    table.rows.push(papers_scores(column.density, class, concepts.len()));
                }
            }
            (class_name.clone(), table)
        };
        reference.manifest.classes.iter().enumerate().map(of_class).collect()
    }

    /// One study beside the reference, and the paper's curve where there is one.
    fn chart(&self, study: usize, quantity: Quantity) -> Figure {
        let mut layers = Vec::new();
        let mut legend = Vec::new();
        let mut table = Table::new(quantity.title(), &["study", "weights kept", "value"]);
        let mut all = Vec::new();
        let mut add = |name: &str, class: &str, shape: Shape, points: &[(f64, f64)]| {
            let mark = |&(x, y): &(f64, f64)| {
                let title = format!("{name}, {} kept: {}", format::density(x), quantity.show(y));
                Mark { x, y, whisker: None, title }
            };
            layers.push(Layer::Line { class: class.into(), points: points.to_vec() });
            layers.push(Layer::Marks { class: class.into(), shape, marks: points.iter().map(mark).collect() });
            legend.push((name.to_owned(), class.to_owned(), shape));
            for &(x, y) in points {
                all.push((x, y));
                table.rows.push(vec![Cell::text(name), Cell::shown(x, format::density(x)), Cell::number(y)]);
            }
        };
        for (which, class, shape) in [(0, "s0", Shape::Circle), (study, "s1", Shape::Square)] {
            let points: Vec<(f64, f64)> = self
                .columns
                .iter()
                .filter_map(|column| Some((column.density, self.at(quantity, which, column)?.mean)))
                .collect();
            add(&self.names[which], class, shape, &points);
        }
        if quantity == Quantity::Accuracy && self.views[0].like_papers_mnist() {
            let (paper, points) = paper_curve();
            layers.splice(0..0, paper);
            legend.push(("the paper, figure 2".to_owned(), "paper".to_owned(), Shape::Diamond));
            all.extend(points);
        }
        let highest = all.iter().map(|&(_, value)| value).fold(1.0, f64::max);
        let accuracy = quantity == Quantity::Accuracy;
        if !accuracy {
            layers.insert(0, Layer::Rule { y: 1.0, class: "floor" });
        }
        let chart = Chart {
            alt: format!("{} against density of {} and {}.", quantity.title(), self.names[0], self.names[study]),
            x: Axis::density(all.iter().map(|&(density, _)| density)),
            y: match accuracy {
                true => Axis::around(all.iter().map(|&(_, value)| value), true),
                false => Axis::Linear { low: 0.0, high: 1.1 * highest },
            },
            x_label: "weights kept (log scale)",
            y_label: if accuracy { "test accuracy" } else { "drift from dense, floor = 1" },
            layers,
            legend,
        };
        Figure {
            id: format!("{}-{study}", quantity.field()),
            title: self.names[study].clone(),
            caption: html! { "Lottery tickets, mean over replicates." },
            body: chart.svg(SMALL),
            table,
        }
    }
}

/// The paper's figure 4 at the nearest density; digits in order.
fn papers_scores(density: f64, class: usize, concepts: usize) -> Vec<Cell> {
    let accuracy = paper::mnist_accuracy();
    let scores = paper::mnist_scores();
    let near = nearest(&accuracy, density, |point| point.density);
    let mut row = vec![
        Cell::text(PAPER),
        near.map_or_else(Cell::absent, |near| Cell::shown(near.density, format::density(near.density))),
    ];
    let of_round: Vec<f64> = scores
        .iter()
        .filter(|score| near.is_some_and(|near| near.round == score.round))
        .filter_map(|score| score.scores.get(class).copied())
        .collect();
    row.extend((0..concepts).map(|concept| Cell::maybe(of_round.get(concept).copied())));
    row
}

fn nearest<T>(points: &[T], density: f64, of: impl Fn(&T) -> f64) -> Option<&T> {
    let apart = |point: &T| (of(point) / density).ln().abs();
    points.iter().min_by(|a, b| apart(a).total_cmp(&apart(b)))
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn plain(quantity: Quantity, estimate: Option<Estimate>) -> Cell {
    estimate.map_or_else(Cell::absent, |estimate| Cell::shown(estimate.mean, quantity.show(estimate.mean)))
}

/// With its interval.
fn shown(quantity: Quantity, estimate: Option<Estimate>) -> Cell {
    let Some(Estimate { mean, interval }) = estimate else { return Cell::absent() };
    let text = match interval {
        Some(range) => {
            format!("{} ({} to {})", quantity.show(mean), quantity.show(range.low), quantity.show(range.high))
        }
        None => quantity.show(mean),
    };
    Cell::shown(mean, text)
}
