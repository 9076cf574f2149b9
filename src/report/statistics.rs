//! Every concept statistic side by side: how many concepts each finds.

use std::collections::BTreeSet;

use super::figures;
use super::format;
use super::table::{Cell, Table};
use super::view::{Spread, View};
use crate::plan::Arm;
use crate::records::TcavRecord;

/// One row for each round of the lottery arm, one column for each statistic; empty where there are
/// only effect and score.
pub(crate) fn table(view: &View) -> Table {
    let keys: BTreeSet<&str> =
        view.effects.iter().flat_map(|effect| effect.record.further.keys()).map(String::as_str).collect();
    let mut table = Table::new(
        "Class × concept pairs that each statistic finds before adjustment (lottery arm, all stages; mean over replicates)",
        &["round", "weights kept", "effect", "score"],
    );
    table.columns.extend(keys.iter().map(|key| key.replace('_', " ")));
    if keys.is_empty() {
        return table;
    }
    let alpha = view.plan.statistics.alpha;
    for point in view.arm(Arm::Lottery.name()) {
        let mut row = vec![Cell::count(point.round), Cell::shown(point.density, format::density(point.density))];
        let mut add = |p_value: &dyn Fn(&TcavRecord) -> Option<f64>| {
            let here = view.networks.iter().filter(|of| of.id.arm == point.arm && of.id.round == point.round);
            let found = here.map(|network| {
                let known: Vec<f64> = network.record.tcav.iter().filter_map(p_value).collect();
                (network.id.replicate, known.iter().filter(|&&p| p <= alpha).count() as f64, known.len())
            });
            let found: Vec<(usize, f64, usize)> = found.collect();
            let tested = found.iter().map(|of| of.2).max().unwrap_or(0);
            let spread = Spread::of(found.into_iter().map(|(replicate, count, _)| (replicate, count)));
            row.push(match spread.filter(|_| tested > 0) {
                Some(spread) => Cell::shown(spread.mean, figures::of(&spread, tested)),
                None => Cell::absent(),
            });
        };
        add(&|record| Some(record.effect_p));
        add(&|record| Some(record.score_p));
        for &key in &keys {
            add(&|record| record.further.get(key).map(|found| found.p_value));
        }
        table.rows.push(row);
    }
    table
}
