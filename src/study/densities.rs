//! Answers and calls: one for each arm and density, over all replicates.

use crate::error::Result;
use crate::plan::Plan;
use crate::records::{
    Accuracy, AccuracyRecord, Call, ConceptRecord, DensityRecord, Explanations, Levels, Line, PixelRecord, Ratio,
    RepresentationDrift,
};
use crate::stats::descriptive::known_mean;
use crate::stats::similarity::Measure;
use crate::stats::verdict::call;

use super::accuracy::accuracy;
use super::drift::{count_significant, flipped};
use super::networks::{Network, Networks};
use super::ratio::{Beside, beside, concepts, kind, pixels, representations, twin_ids};

/// The level of each one-sided test: half of what the intervals leave out.
pub(super) fn level(plan: &Plan) -> f64 {
    (1.0 - plan.verdict.confidence) / 2.0
}

/// Every arm and round, sorted by arm and round.
///
/// # Errors
/// When a statistic is undefined for what was recorded.
pub(super) fn densities(plan: &Plan, networks: &Networks, seeds: &Levels) -> Result<Vec<DensityRecord>> {
    let mut all = Vec::new();
    for line in Line::of(plan) {
        let Line::Arm(_) = line else { continue };
        for round in line.rounds(plan) {
            all.push(one(plan, networks, seeds, line, round)?);
        }
    }
    Ok(all)
}

fn one(plan: &Plan, networks: &Networks, seeds: &Levels, line: Line, round: usize) -> Result<DensityRecord> {
    let replicates = beside(plan, networks, line, round)?;
    let mean = |value: fn(&Network) -> f64| {
        replicates.iter().map(|beside| value(beside.ticket)).sum::<f64>() / replicates.len() as f64
    };
    let dense = round == 0;
    let of_concepts = concept_records(plan, networks, seeds, &replicates, dense)?;
    let mut record = DensityRecord {
        arm: line.name(),
        round,
        density: mean(|network| network.record.density),
        test_accuracy: mean(|network| network.record.test_accuracy),
        accuracy: accuracy(&plan.verdict, &replicates)?,
        pixels: Vec::new(),
        concepts: of_concepts,
        representations: Vec::new(),
        call: Call::Dense,
        reason: "the dense network itself".into(),
    };
    if dense {
        return Ok(record);
    }
    for (place, view) in networks.views.iter().enumerate() {
        let mut found = PixelRecord { view: view.clone(), counted: 0.0, measures: Default::default() };
        for measure in Measure::ALL {
            let seed_floor = seeds.pixels.get(&measure).copied().filter(|_| place == 0);
            let (ratio, counted) = pixels(plan, &replicates, view, measure, seed_floor)?;
            if measure == Measure::Spearman {
                found.counted = counted;
            }
            found.measures.insert(measure, ratio);
        }
        record.pixels.push(found);
    }
    for (place, &stage) in plan.explain.stages.iter().enumerate() {
        if networks.all.values().any(|network| network.representations.contains_key(stage.name())) {
            let seed_floor = seeds.representation.filter(|_| place == 0);
            let ratio = representations(plan, &replicates, stage, seed_floor);
            record.representations.push(RepresentationDrift { stage, ratio });
        }
    }
    let (pixels, concepts) = deciding(&record);
    record.call = match (pixels, concepts) {
        (Some(pixels), Some(concepts)) => call(record.accuracy.answer, &[kind(pixels), kind(concepts)], level(plan)),
        _ => Call::Inconclusive,
    };
    record.reason = reason(plan, &record);
    Ok(record)
}

fn concept_records(
    plan: &Plan,
    networks: &Networks,
    seeds: &Levels,
    replicates: &[Beside<'_>],
    dense: bool,
) -> Result<Vec<ConceptRecord>> {
    let alpha = plan.statistics.alpha;
    let mut records = Vec::new();
    for (place, &stage) in plan.explain.stages.iter().enumerate() {
        let over = |value: &dyn Fn(&Beside<'_>) -> usize| {
            replicates.iter().map(|beside| value(beside) as f64).sum::<f64>() / replicates.len() as f64
        };
        let twins = twin_ids(plan, networks)
            .iter()
            .map(|(parent, twin)| {
                Ok(Some(flipped(alpha, networks.get(parent)?, networks.get(twin)?, stage).len() as f64))
            })
            .collect::<Result<Vec<_>>>()?;
        let mut ratio = concepts(plan, replicates, stage, seeds.concepts.filter(|_| place == 0));
        if dense {
            ratio = Ratio { interval: None, changed_p: None, undefined: None, answer: Explanations::Kept, ..ratio };
        }
        records.push(ConceptRecord {
            stage,
            ratio,
            significant: over(&|beside| count_significant(alpha, beside.ticket, stage)),
            flipped: over(&|beside| flipped(alpha, beside.parent, beside.ticket, stage).len()),
            flipped_twins: known_mean(&twins),
        });
    }
    Ok(records)
}

/// The ratios that decide: of the first view by Spearman, and of the first stage's concepts.
pub(super) fn deciding(record: &DensityRecord) -> (Option<&Ratio>, Option<&Ratio>) {
    let pixels = record.pixels.first().and_then(|pixels| pixels.measures.get(&Measure::Spearman));
    (pixels, record.concepts.first().map(|concepts| &concepts.ratio))
}

/// Words for an accuracy's answer.
pub(super) fn accuracy_words(plan: &Plan, record: &AccuracyRecord) -> String {
    let word = match record.answer {
        Accuracy::Matches => "matches",
        Accuracy::Lost => "is lost",
        Accuracy::Undecided => "is undecided",
    };
    let interval = record.interval.map_or("no interval".into(), |interval| {
        format!("{:+.2} to {:+.2} points", 100.0 * interval.low, 100.0 * interval.high)
    });
    let margin = 100.0 * plan.verdict.accuracy_margin;
    format!("accuracy {word} ({interval}, margin −{margin:.2})").replace('-', "−")
}

/// Words for the answer of one kind of explanations.
pub(super) fn ratio_words(plan: &Plan, what: &str, ratio: Option<&Ratio>) -> String {
    let Some(ratio) = ratio else { return format!("{what} are not measured") };
    let word = match ratio.answer {
        Explanations::Kept => "are kept",
        Explanations::Changed => "have changed",
        Explanations::Undecided => "are undecided",
    };
    let limit = 1.0 + plan.verdict.drift_margin;
    let why = ratio.undefined.as_ref().map_or(String::new(), |why| format!("; {why}"));
    match (ratio.rho, ratio.interval) {
        (Some(rho), Some(interval)) => {
            format!("{what} {word} (ρ {rho:.2}, {:.2} to {:.2}, limit {limit:.2}{why})", interval.low, interval.high)
        }
        _ => format!("{what} {word} (ρ undefined{why})"),
    }
}

fn reason(plan: &Plan, record: &DensityRecord) -> String {
    let (pixels, concepts) = deciding(record);
    [
        accuracy_words(plan, &record.accuracy),
        ratio_words(plan, "pixels", pixels),
        ratio_words(plan, "concepts", concepts),
    ]
    .join("; ")
}
