//! The report as one tidy CSV: a row for each number, with what it belongs to.

use super::Study;
use super::table::{Cell, Table};
use super::view::{Measure, View};
use crate::error::Result;
use crate::records::{Interval, RoundId};

/// The study as CSV with columns
/// `arm, replicate, round, density, stage, class, concept, measure, value, low, high, p_value, p_adjusted`;
/// shares lie in [0, 1], absent numbers are empty.
///
/// # Errors
/// When the plan cannot be read.
pub fn render(study: &Study) -> Result<String> {
    let view = View::new(study)?;
    let columns = [
        "arm",
        "replicate",
        "round",
        "density",
        "stage",
        "class",
        "concept",
        "measure",
        "value",
        "low",
        "high",
        "p_value",
        "p_adjusted",
    ];
    let mut table = Table::new("", &columns);
    for network in &view.networks {
        let record = network.record;
        let mut add = |measure: &str, value: Option<f64>| {
            table.rows.push(row(network.id, record.density, [""; 3], measure, value, None, [None; 2]));
        };
        add("test_accuracy", Some(record.test_accuracy));
        add("validation_accuracy", Some(record.validation_accuracy));
        if let Some(summary) = network.summary {
            for measure in Measure::all() {
                add(&format!("{}_drift", measure.key()), measure.of(&summary.drift));
            }
            add("significant_concepts", Some(summary.significant as f64));
        }
        for found in record.faithfulness.iter().filter(|found| found.method.is_none()) {
            let mut add = |measure: &str, value: Option<f64>| {
                let place = [found.stage.name(), "", ""];
                table.rows.push(row(network.id, record.density, place, measure, value, None, [None; 2]));
            };
            add("deletion", found.deletion);
            add("deletion_of_shuffled_maps", found.random_deletion);
            add("insertion", found.insertion);
            add("insertion_of_shuffled_maps", found.random_insertion);
        }
        for found in &network.cavs {
            let mut add = |concept: &str, measure: &str, value: Option<f64>| {
                let place = [found.stage.name(), "", concept];
                table.rows.push(row(network.id, record.density, place, measure, value, None, [None; 2]));
            };
            add("", "entanglement", found.entanglement);
            add("", "entanglement_magnitude", found.entanglement_magnitude);
            for (concept, stability) in found.concepts.iter().zip(&found.stability) {
                add(concept, "cav_stability", *stability);
            }
        }
        for found in record.localisation.iter().filter(|found| found.method.is_none()) {
            let place = [found.stage.name(), "", ""];
            let mut add = |measure: &str, value: Option<f64>, range: Option<Interval>| {
                table.rows.push(row(network.id, record.density, place, measure, value, range, [None; 2]));
            };
            add("energy_in_box", found.energy_in_box, found.energy_interval);
            add("pointing_game", found.pointing_game, found.pointing_interval);
            if let Some(parts) = &found.parts {
                add("part_hits", parts.rate, parts.interval);
            }
        }
    }
    for record in view.points.iter().filter_map(|point| point.record) {
        let id = RoundId { arm: record.arm.clone(), replicate: 0, round: record.round };
        let mut add = |measure: &str, value: Option<f64>, range: Option<Interval>, p: Option<f64>| {
            let mut cells = row(&id, record.density, [""; 3], measure, value, range, [p, None]);
            // Of all replicates together.
            cells[1] = Cell::absent();
            table.rows.push(cells);
        };
        add("accuracy_difference", Some(record.accuracy.difference), record.accuracy.interval, None);
        for measure in Measure::all() {
            let Some(ratio) = measure.ratio(record) else { continue };
            add(&format!("{}_rho", measure.key()), ratio.rho, ratio.interval, ratio.changed_p);
        }
    }
    for effect in &view.effects {
        let record = effect.record;
        let place = [record.stage.name(), view.class(record.class), &record.concept];
        let mut add = |measure: &str, value: Option<f64>, range: Option<Interval>, p: [Option<f64>; 2]| {
            table.rows.push(row(effect.id, effect.density, place, measure, value, range, p));
        };
        let adjusted = effect.adjusted;
        let effect_p = [Some(record.effect_p), adjusted.map(|adjusted| adjusted.effect_p)];
        add("effect", Some(record.effect), None, effect_p);
        add("effect_standardised", record.effect_standardised, record.effect_standardised_interval, effect_p);
        let score_p = [Some(record.score_p), adjusted.map(|adjusted| adjusted.score_p)];
        add("tcav_score", Some(record.score), record.score_interval, score_p);
        add("heldout_accuracy", Some(record.heldout_accuracy), None, [None; 2]);
    }
    Ok(table.csv())
}

fn row(
    id: &RoundId,
    density: f64,
    [stage, class, concept]: [&str; 3],
    measure: &str,
    value: Option<f64>,
    range: Option<Interval>,
    [p, adjusted]: [Option<f64>; 2],
) -> Vec<Cell> {
    vec![
        Cell::text(&id.arm),
        Cell::count(id.replicate),
        Cell::count(id.round),
        Cell::number(density),
        Cell::text(stage),
        Cell::text(class),
        Cell::text(concept),
        Cell::text(measure),
        Cell::maybe(value),
        Cell::maybe(range.map(|range| range.low)),
        Cell::maybe(range.map(|range| range.high)),
        Cell::maybe(p),
        Cell::maybe(adjusted),
    ]
}
