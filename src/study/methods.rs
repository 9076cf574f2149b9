//! Which method to believe: what every check says of each saliency method, on the dense parents.

use crate::error::Result;
use crate::explain::saliency::Method;
use crate::model::Stage;
use crate::plan::Plan;
use crate::records::{FaithfulnessRecord, LocalisationRecord, MethodChecks, SanityRecord, input_maps_key, maps_key};
use crate::stats::descriptive::known_mean;

use super::networks::Networks;
use super::sanity::summary_of;

/// One row for each method of the plan: at the first stage, or on the input.
///
/// # Errors
/// When a map is not finite.
pub(super) fn methods(plan: &Plan, networks: &Networks, sanity: &[SanityRecord]) -> Result<Vec<MethodChecks>> {
    let (stage, deciding) = (plan.explain.stages[0], plan.explain.saliency[0]);
    let mut rows = Vec::new();
    for &method in &plan.explain.saliency {
        let view = if method.is_on_input() { input_maps_key(method) } else { maps_key(stage, method, deciding) };
        let of = |place: Stage, by: Option<Method>| match method.is_on_input() {
            true => by == Some(method),
            false => place == stage && by.unwrap_or(deciding) == method,
        };
        let mut found = MethodChecks {
            sanity: Vec::new(),
            deletion: None,
            random_deletion: None,
            insertion: None,
            random_insertion: None,
            energy_in_box: None,
            pointing_game: None,
            chance: None,
            view,
        };
        for record in sanity {
            let drift = if method == deciding { Some(&record.random_drift) } else { record.further.get(&found.view) };
            if let Some(drift) = drift {
                found.sanity.push(summary_of(plan, networks, record.replicate, &found.view, drift)?);
            }
        }
        let (mut faithfulness, mut localisation) = (Vec::new(), Vec::new());
        for &replicate in &networks.replicates {
            let record = &networks.parent(replicate)?.record;
            faithfulness.extend(record.faithfulness.iter().filter(|judged| of(judged.stage, judged.method)));
            localisation.extend(record.localisation.iter().filter(|judged| of(judged.stage, judged.method)));
        }
        let area = |value: fn(&FaithfulnessRecord) -> Option<f64>| {
            known_mean(&faithfulness.iter().map(|record| value(record)).collect::<Vec<_>>())
        };
        let look = |value: fn(&LocalisationRecord) -> Option<f64>| {
            known_mean(&localisation.iter().map(|record| value(record)).collect::<Vec<_>>())
        };
        found.deletion = area(|record| record.deletion);
        found.random_deletion = area(|record| record.random_deletion);
        found.insertion = area(|record| record.insertion);
        found.random_insertion = area(|record| record.random_insertion);
        found.energy_in_box = look(|record| record.energy_in_box);
        found.pointing_game = look(|record| record.pointing_game);
        found.chance = look(|record| Some(record.chance));
        rows.push(found);
    }
    Ok(rows)
}
