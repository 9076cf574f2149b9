//! What `ticketlens tcav` found, as JSON and as a table.

use std::collections::{BTreeMap, BTreeSet};

use indicatif::ProgressBar;
use serde_json::{Map, Value, json};
use ticketlens::explain::tcav::checkpoint::{ConceptTests, Settings};
use ticketlens::explain::tcav::statistics::{EFFECT, SCORE};
use ticketlens::explain::tcav::{ClassTests, STATISTICS};
use ticketlens::model::{Assumptions, Stage};
use ticketlens::output::Output;
use ticketlens::stats::power::sets_needed;

use crate::output::write_text;
use crate::terminal;

/// What was asked, for telling it.
pub(crate) struct Asked<'a> {
    /// Class and stage, where a checkpoint was given.
    pub(crate) place: Option<(usize, Stage)>,
    pub(crate) assumed: Option<&'a Assumptions>,
    /// Images of the class.
    pub(crate) images: usize,
    /// Names and images of the concepts.
    pub(crate) concepts: Vec<(&'a str, usize)>,
    /// Images of the random sets.
    pub(crate) random: Vec<usize>,
    pub(crate) names: &'a [String],
    pub(crate) flag: &'static str,
}

impl Asked<'_> {
    fn sizes(&self) -> impl Iterator<Item = usize> {
        self.concepts.iter().map(|(_, images)| *images).chain(self.random.iter().copied())
    }

    pub(crate) fn bar(&self) -> ProgressBar {
        terminal::bar("reading", self.sizes().sum::<usize>() + self.images)
    }
}

/// Writes and prints what was found.
pub(crate) fn tell(
    asked: &Asked<'_>,
    settings: &Settings,
    tests: &ConceptTests,
    output: Option<Output>,
) -> anyhow::Result<()> {
    let adjusted = STATISTICS.iter().map(|statistic| {
        let adjusted = tests.classes[0].adjusted_where_known(statistic.key, settings.adjustment)?;
        Ok((statistic.key, adjusted))
    });
    let answer = Answer { tests, class: &tests.classes[0], adjusted: adjusted.collect::<anyhow::Result<_>>()? };
    if let Some(output) = output {
        write_text(output, &record(asked, settings, &answer)?)?;
        terminal::delivered();
    }
    warn(asked, settings, tests);
    table(asked, &answer);
    Ok(())
}

/// What was found.
struct Answer<'a> {
    tests: &'a ConceptTests,
    class: &'a ClassTests,
    /// Adjusted p-values of each concept, by statistic; none where a concept does not have it.
    adjusted: BTreeMap<&'static str, Vec<Option<f64>>>,
}

/// The record as JSON. A statistic's fields begin with its key; the score's have no prefix, as the runs are its own.
fn record(asked: &Asked<'_>, settings: &Settings, answer: &Answer<'_>) -> anyhow::Result<String> {
    let mut concepts = Map::new();
    for (place, ((name, images), test)) in asked.concepts.iter().zip(&answer.class.concepts).enumerate() {
        let mut value = Map::new();
        let mut put = |key: &str, field: Value| value.insert(key.to_owned(), field);
        put("images", (*images).into());
        put("runs", serde_json::to_value(&test.runs)?);
        for (&key, finding) in &test.statistics {
            let prefix = if key == SCORE { String::new() } else { format!("{key}_") };
            let value = if key == SCORE { "mean" } else { key };
            put(value, finding.value.into());
            put(&format!("{value}_interval"), serde_json::to_value(finding.interval)?);
            put(&format!("{prefix}p_value"), finding.p_value.into());
            put(&format!("{prefix}p_adjusted"), answer.adjusted[key][place].into());
            if key != SCORE {
                put(&format!("{prefix}standardised"), finding.standardised.into());
                put(&format!("{prefix}standardised_interval"), serde_json::to_value(finding.standardised_interval)?);
            }
        }
        put("family_scores", serde_json::to_value(&test.family_scores)?);
        put("legacy_welch_p", test.legacy_welch_p.into());
        put("heldout_accuracy", test.heldout_accuracy.into());
        put("decodable", test.decodable.into());
        put("decodable_p_value", test.decodable_p_value.into());
        concepts.insert((*name).to_owned(), value.into());
    }
    let record = json!({
        "stage": asked.place.map(|(_, stage)| stage),
        "class": asked.place.map(|(class, _)| class),
        "assumed": asked.assumed,
        "images": asked.images,
        "concepts": concepts,
        "random_baseline": answer.class.random_baseline.iter().map(|pair| pair.score).collect::<Vec<_>>(),
        "random_images": asked.random,
        "smallest_p": answer.tests.smallest_p,
        "cavs": answer.tests.cavs,
        "copies": answer.tests.copies,
        "alpha": settings.alpha,
        "seed": settings.seed,
        "permutations": settings.permutations,
        "version": env!("CARGO_PKG_VERSION"),
    });
    Ok(serde_json::to_string_pretty(&record)? + "\n")
}

fn warn(asked: &Asked<'_>, settings: &Settings, tests: &ConceptTests) {
    let (sets, alpha) = (asked.random.len(), settings.alpha);
    if tests.smallest_p > alpha {
        let needed = sets_needed(alpha, 1, settings.adjustment).map_or(0, |needed| needed.for_one_finding);
        terminal::warn(&format!(
            "{sets} random sets cannot reach the level {alpha}: the smallest p-value of the score's test is {:.4}; {needed} sets are needed",
            tests.smallest_p
        ));
    }
    tests.copies.iter().for_each(|line| terminal::warn(line));
    let mut seen = BTreeSet::new();
    if let Some(twice) = asked.names.iter().find(|images| !seen.insert(*images)) {
        terminal::warn(&format!("{}: {twice} is given twice, but the tests take the sets as independent", asked.flag));
    }
    let sizes: BTreeSet<usize> = asked.sizes().collect();
    if let (Some(least), Some(most)) = (sizes.first(), sizes.last())
        && least != most
    {
        terminal::warn(&format!(
            "sets hold {least} to {most} images: the score's test presumes that concept and random sets are equally large"
        ));
    }
}

fn table(asked: &Asked<'_>, answer: &Answer<'_>) {
    let longest = asked.concepts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).max(7);
    let p = |value: f64| format!("{value:.4}");
    terminal::say(&format!(
        "{}: {} images, {} random sets, {} CAVs",
        asked.place.map_or("arrays".to_owned(), |(class, stage)| format!("class {class} at {stage}")),
        asked.images,
        asked.random.len(),
        answer.tests.cavs
    ));
    terminal::say(&format!(
        "{:<longest$}  {:>10} {:>7} {:>7} {:>7}  {:>6} {:>7} {:>7} {:>7}  {:>8}",
        "concept", "effect", "in SD", "p", "p adj.", "score", "p", "p adj.", "legacy", "held-out"
    ));
    for (place, ((name, _), test)) in asked.concepts.iter().zip(&answer.class.concepts).enumerate() {
        let (effect, score) = (test.effect(), test.score());
        terminal::say(&format!(
            "{name:<longest$}  {:>10.4} {:>7} {:>7} {:>7}  {:>6.3} {:>7} {:>7} {:>7}  {:>8.3}{}",
            effect.value,
            effect.standardised.map_or("–".into(), |value| format!("{value:.3}")),
            p(effect.p_value),
            answer.adjusted[EFFECT][place].map_or("–".into(), p),
            score.value,
            p(score.p_value),
            answer.adjusted[SCORE][place].map_or("–".into(), p),
            test.legacy_welch_p.map_or("–".into(), p),
            test.heldout_accuracy,
            if test.decodable { "" } else { "  undecodable" },
        ));
    }
    for statistic in STATISTICS.iter().filter(|statistic| ![EFFECT, SCORE].contains(&statistic.key)) {
        let of = |(place, (name, _)): (usize, &(&str, usize))| {
            let found = answer.class.concepts[place].statistics.get(statistic.key)?;
            let adjusted = answer.adjusted[statistic.key][place].map_or("–".into(), p);
            Some(format!("{name} {:.3} (p {}, adj. {adjusted})", found.value, p(found.p_value)))
        };
        let told: Vec<String> = asked.concepts.iter().enumerate().filter_map(of).collect();
        if !told.is_empty() {
            terminal::say(&format!("{}: {}", statistic.title, told.join(", ")));
        }
    }
    terminal::say("legacy: Welch's test of the scores, as published elsewhere; not calibrated");
}
