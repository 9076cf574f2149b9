//! The comparison's tables: the summary, a quantity by density, and the TCAV profiles at both ends.

use super::measure::{Column, Estimate, Quantity, Sides};
use crate::plan::Arm;
use crate::report::format;
use crate::report::paper;
use crate::report::table::{Cell, Table};

/// How studies are told from one another in the paper's row.
const PAPER: &str = "the paper (best validation, nearest density)";

impl Sides<'_> {
    pub(super) fn summary(&self) -> Table {
        let columns = [
            "study",
            "defects on",
            "accuracy, dense",
            "accuracy, low density",
            "difference to the reference (points)",
            "pixels, low density (ρ)",
            "concepts, low density (ρ)",
            "maps against the reference (seeds = 1)",
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
                Cell::text(match on.len() {
                    0 => format::ABSENT.to_owned(),
                    all if all == view.plan.as_published.switches().len() => "all".to_owned(),
                    _ => on.join(", "),
                }),
                plain(Quantity::Accuracy, self.over(Quantity::Accuracy, study, &dense)),
                plain(Quantity::Accuracy, self.over(Quantity::Accuracy, study, &low)),
                cell(Quantity::Difference, &low),
                cell(Quantity::Pixels, &low),
                cell(Quantity::Concepts, &low),
                cell(Quantity::Maps, &low),
                cell(Quantity::Scores, &low),
                Cell::text(format::outcome_name(view.study.study.hypothesis_a.outcome)),
                Cell::text(format::outcome_name(view.study.study.hypothesis_b.outcome)),
            ]);
        }
        table
    }

    /// One row for each study, one column for each density.
    pub(super) fn table(&self, quantity: Quantity) -> Table {
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
    pub(super) fn profiles(&self) -> Vec<(String, Table)> {
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
