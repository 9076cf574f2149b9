//! Several studies beside the first: what each change of a plan does to accuracy, drift and TCAV,
//! by density, with the verdicts; and the paper's own numbers where it asked the same question.
//! Replicates are paired by number: the same number under the same plan seed starts from the same
//! weights.

mod cautions;
mod measure;
mod tables;

use maud::html;

use self::cautions::{caution, cautions};
use self::measure::{MOST_APART, Quantity, Sides};
use super::Study;
use super::chart::{Axis, Chart, Layer, Mark, SMALL, Shape};
use super::figures::{Figure, paper_curve};
use super::format;
use super::markdown;
use super::page::{card_of_verdicts, figure, page, table_card};
use super::table::{Cell, Table};
use crate::error::{Error, Result};
use crate::records::Interval;

fn title(others: usize, first: &str) -> String {
    let noun = if others == 1 { "study" } else { "studies" };
    format!("{others} {noun} beside {first}")
}

/// The studies as one self-contained HTML page; the first is the reference.
///
/// # Errors
/// When a plan cannot be read or no study is given.
pub fn html(studies: &[Study]) -> Result<String> {
    let sides = Sides::new(studies)?;
    let title = title(studies.len() - 1, &sides.names[0]);
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
        section #cautions { h2 { "What cannot be compared" }
            @let cautions = sides.cautions();
            @if cautions.is_empty() { p { "Nothing stands in the way." } }
            ul { @for caution in &cautions { li { (caution) } } }
        }
        section #accuracies { h2 { "Accuracy, each beside the reference" }
            div.trio { @for study in 1..sides.views.len() { (figure(&sides.chart(study, Quantity::Accuracy))) } }
        }
        section #drifts { h2 { "Drift, each beside the reference" }
            div.trio { @for study in 1..sides.views.len() { (figure(&sides.chart(study, Quantity::Pixels))) } }
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
    let mut out = format!("# {}\n\n", title(studies.len() - 1, &markdown::text(&sides.names[0])));
    out += &format!("{SUMMARY_CAPTION}\n\n{}\n## Verdicts\n\n", sides.summary().markdown());
    for [study, letter, outcome, reason] in sides.verdicts() {
        let (study, reason) = (markdown::text(&study), markdown::text(&reason));
        out += &format!("- **{study}**, hypothesis {letter}: **{outcome}**: {reason}\n");
    }
    out += "\n## What cannot be compared\n\n";
    let cautions = sides.cautions();
    for caution in &cautions {
        out += &format!("- {}\n", markdown::text(caution));
    }
    if cautions.is_empty() {
        out += "Nothing stands in the way.\n";
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
                let end = |of: fn(Interval) -> f64| {
                    estimate.interval.map_or_else(Cell::absent, |range| Cell::number(of(range)))
                };
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
                "answer": record.answer,
                "hypothesis_a": record.hypothesis_a,
                "hypothesis_b": record.hypothesis_b,
                "rounds": rounds,
            })
        })
        .collect();
    let json = serde_json::json!({
        "schema": "ticketlens.compare",
        "schema_version": super::json::SCHEMA_VERSION,
        "cautions": sides.cautions(),
        "studies": studies,
    });
    let text = serde_json::to_string_pretty(&json).map_err(|error| Error::input(format!("comparison: {error}")))?;
    Ok(text + "\n")
}

const SUMMARY_CAPTION: &str = "Low density: the mean over rounds that keep at most 5 % of the weights. Intervals: 95 %, t over replicates, paired with the \
                               reference's by number; few replicates make them wide.";

impl Sides<'_> {
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

    /// What stands in the way of comparing each study with the reference.
    fn cautions(&self) -> Vec<String> {
        let named = self.views.iter().zip(&self.names);
        let mut out: Vec<String> =
            named.clone().filter_map(|(view, name)| Some(format!("{name}: {}", caution(view)?))).collect();
        for (view, name) in named.skip(1) {
            out.extend(cautions(&self.views[0], view).into_iter().map(|caution| format!("{name}: {caution}")));
        }
        out
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
            y_label: if accuracy { "test accuracy" } else { "ρ of the maps, retraining = 1" },
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
