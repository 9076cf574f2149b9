//! Whether networks represent the same images as their parents do: a view without a class, a
//! concept or a saliency method.

use super::format;
use super::table::{Cell, Table};
use super::view::View;
use crate::records::Explanations;

/// ρ of the representation by arm, stage and density; empty where none is recorded.
pub(crate) fn table(view: &View) -> Table {
    let columns = ["arm", "stage", "round", "weights kept", "ρ", "interval", "answer by itself"];
    let mut table = Table::new("Drift of the representation", &columns);
    for point in view.points.iter().filter(|point| point.round > 0) {
        for of in point.record.map_or(&[][..], |record| &record.representations) {
            let word = match of.ratio.answer {
                Explanations::Kept => "kept",
                Explanations::Changed => "changed",
                Explanations::Undecided => "undecided",
            };
            table.rows.push(vec![
                Cell::text(format::arm_name(point.arm)),
                Cell::text(of.stage.name()),
                Cell::count(point.round),
                Cell::shown(point.density, format::density(point.density)),
                Cell::maybe(of.ratio.rho),
                of.ratio.interval.map_or_else(Cell::absent, |range| Cell::text(format::range(range))),
                Cell::text(word),
            ]);
        }
    }
    table
}
