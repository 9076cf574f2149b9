//! Which saliency method to believe: every check in one table.

use super::format;
use super::table::{Cell, Table};
use super::view::View;
use crate::records::MethodChecks;

/// One row for each method; empty where the study records none.
pub(crate) fn table(view: &View) -> Table {
    let study = &view.study.study;
    let boxes = study.methods.iter().any(|of| of.chance.is_some());
    let mut table = Table::new(
        "Checks of each saliency method, means over the dense networks",
        &[
            "maps",
            "kept down to",
            "random network (floors)",
            "destroyed by it",
            "deletion",
            "deletion, shuffled maps",
            "insertion",
            "insertion, shuffled maps",
        ],
    );
    if boxes {
        table.columns.extend(["evidence in the box", "maximum in the box", "chance"].map(str::to_owned));
    }
    for of in &study.methods {
        let kept = study.views.iter().find(|ranges| ranges.view == of.view).and_then(|ranges| ranges.kept_to);
        let mut row = vec![
            Cell::text(&of.view),
            kept.map_or_else(Cell::absent, |density| Cell::shown(density, format::density(density))),
            Cell::maybe(random_network(of)),
            destroyed(of),
            Cell::maybe(of.deletion),
            Cell::maybe(of.random_deletion),
            Cell::maybe(of.insertion),
            Cell::maybe(of.random_insertion),
        ];
        if boxes {
            let share = |value: Option<f64>| value.map_or_else(Cell::absent, |value| Cell::percent(value, 1));
            row.extend([share(of.energy_in_box), share(of.pointing_game), share(of.chance)]);
        }
        table.rows.push(row);
    }
    table
}

/// Geometric mean over the replicates.
fn random_network(of: &MethodChecks) -> Option<f64> {
    let logs: Vec<f64> = of.sanity.iter().filter_map(|summary| summary.ratio).map(f64::ln).collect();
    (!logs.is_empty()).then(|| (logs.iter().sum::<f64>() / logs.len() as f64).exp())
}

fn destroyed(of: &MethodChecks) -> Cell {
    let count = of.sanity.iter().filter(|summary| summary.destroyed == Some(true)).count();
    match of.sanity.len() {
        0 => Cell::absent(),
        all => Cell::shown(count as f64, format!("{count} of {all}")),
    }
}

/// Down to which density the maps of each method are kept, in a sentence; none with one method.
pub(crate) fn sentence(view: &View) -> Option<String> {
    let views = &view.study.study.views;
    if views.len() < 2 {
        return None;
    }
    let to = |kept: Option<f64>| kept.map_or("nowhere".to_owned(), format::density);
    // The mildest of them is where all agree.
    let least = views.iter().try_fold(0.0, |most: f64, of| of.kept_to.map(|kept| most.max(kept)));
    let each: Vec<String> = views.iter().map(|of| format!("{} {}", of.view, to(of.kept_to))).collect();
    Some(match least {
        Some(density) => {
            format!("pixels kept down to {} by all {} maps: {}", format::density(density), views.len(), each.join(", "))
        }
        None => format!("pixels kept down to, by each map: {}", each.join(", ")),
    })
}
