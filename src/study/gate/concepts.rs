//! Does the candidate use the same concepts?

use crate::records::gate::{Answer, ConceptDrift, Kind};
use crate::stats::StatsError;
use crate::stats::reach::{log_ratio_of, reach};
use crate::study::drift::profile_drift;

use super::explained::{Dense, Explained};
use super::ratio::Ratio;
use super::rules::Rules;

/// ρ of the profile of standardised effects over class × concept, over the entries that every network has.
pub(super) fn concepts(dense: &Dense, candidate: &Explained, rules: &Rules, level: f64) -> Answer {
    let of = |network: &Explained| network.effects.iter().map(|effect| effect.standardised).collect::<Vec<_>>();
    let mut profiles: Vec<Vec<Option<f64>>> = dense.networks().chain([candidate]).map(of).collect();
    for entry in 0..profiles[0].len() {
        if profiles.iter().any(|profile| profile[entry].is_none()) {
            profiles.iter_mut().for_each(|profile| profile[entry] = None);
        }
    }
    let networks = dense.floor.len() + 1;
    let drift = |a: usize, b: usize| profile_drift(&profiles[a], &profiles[b]);
    let undefined = StatsError::Undefined { what: "no concept's effect varies in every network" };
    let mut logs = Ok(Vec::new());
    for floor in 1..networks {
        match (drift(floor, networks), drift(floor, 0)) {
            // The candidate itself.
            (Some(0.0), Some(_)) => {}
            (Some(above), Some(below)) if below > 0.0 => {
                if let Ok(logs) = &mut logs {
                    logs.push((above / below).ln());
                }
            }
            (Some(_), Some(_)) => logs = Err(StatsError::Undefined { what: "retraining moves no concept" }),
            _ => logs = Err(undefined),
        }
    }
    let positive = |a: usize, b: usize| drift(a, b).filter(|drift| *drift > 0.0);
    Ratio {
        kind: Kind::Concepts,
        logs,
        images: None,
        floor: dense.floor.len(),
        limit: rules.limit(),
        reach: reach(networks, level, |a, b| log_ratio_of(a, b, networks, positive)).ok(),
    }
    .answer()
}

/// Every concept on every class before and after, the most moved first.
pub(super) fn moved(dense: &Dense, candidate: &Explained) -> Vec<ConceptDrift> {
    let pairs = dense.reference.effects.iter().zip(&candidate.effects);
    let mut moved: Vec<ConceptDrift> = pairs
        .filter_map(|(before, after)| {
            Some(ConceptDrift {
                class: before.class.to_string(),
                concept: before.concept.clone(),
                reference: before.standardised?,
                candidate: after.standardised?,
                flipped: before.sign() != after.sign(),
            })
        })
        .collect();
    let distance = |concept: &ConceptDrift| (concept.reference - concept.candidate).abs();
    moved.sort_by(|a, b| distance(b).total_cmp(&distance(a)));
    moved
}
