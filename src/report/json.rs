//! The report as JSON for other programs; its schema is documented in `docs/report-schema.md`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Study;
use super::calibration::{DOCUMENTED, Documented, levels};
use super::geometry;
use super::view::{Network, Point, Spread, View};
use crate::error::{Error, Result};
use crate::model::Stage;
use crate::records::{
    Alone, CavGeometry, DensityRecord, Drift, FaithfulnessRecord, Floor, ForgettingRecord, Interval,
    LocalisationRecord, Manifest, MethodChecks, Onsets, SanityLayer, Seconds, Verdict, ViewRanges,
};

/// Version of the schema; it rises when a field changes its meaning or goes.
pub const SCHEMA_VERSION: u32 = 2;

/// The study as indented JSON with a line feed at its end.
///
/// # Errors
/// When the plan cannot be read.
pub fn render(study: &Study) -> Result<String> {
    let view = View::new(study)?;
    let text =
        serde_json::to_string_pretty(&report(&view)).map_err(|error| Error::input(format!("report: {error}")))?;
    Ok(text + "\n")
}

#[derive(Serialize)]
struct Report<'a> {
    schema: &'static str,
    schema_version: u32,
    name: &'a str,
    manifest: &'a Manifest,
    plan_toml: &'a str,
    answer: &'a str,
    hypothesis_a: &'a Verdict,
    hypothesis_b: &'a Verdict,
    alone: &'a Alone,
    views: &'a [ViewRanges],
    onsets: Option<&'a Onsets>,
    forgetting: &'a [ForgettingRecord],
    floor: Floor,
    rounds: Vec<Round<'a>>,
    networks: Vec<OneNetwork<'a>>,
    tcav: Vec<Tcav<'a>>,
    sanity: Vec<Sanity<'a>>,
    geometry: Vec<Geometry>,
    calibration: Calibration,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    methods: &'a [MethodChecks],
    warnings: Vec<&'a str>,
}

#[derive(Serialize)]
struct Sanity<'a> {
    replicate: usize,
    stage: Option<Stage>,
    images: Option<usize>,
    ratio: Option<f64>,
    interval: Option<Interval>,
    destroyed: Option<bool>,
    layers: &'a [SanityLayer],
}

#[derive(Serialize)]
struct Geometry {
    stage: Stage,
    between_replicates: Option<f64>,
}

#[derive(Serialize)]
struct Calibration {
    alpha: f64,
    run: Vec<RunLevel>,
    documented: &'static [Documented],
}

#[derive(Serialize)]
struct RunLevel {
    test: &'static str,
    rejected: usize,
    sets: usize,
    share: Over,
}

#[derive(Serialize)]
struct Over {
    mean: f64,
    low: f64,
    high: f64,
    replicates: Vec<Value>,
}

#[derive(Serialize)]
struct Value {
    replicate: usize,
    value: f64,
}

/// What the study records of the density, and the replicates' own accuracy and significant concepts beside it.
#[derive(Serialize)]
struct Round<'a> {
    #[serde(flatten)]
    record: &'a DensityRecord,
    test_accuracies: Over,
    significant: Option<Over>,
    tested: usize,
}

#[derive(Serialize)]
struct OneNetwork<'a> {
    arm: &'a str,
    replicate: usize,
    round: usize,
    weights: &'a str,
    density: f64,
    kept: usize,
    total: usize,
    test_accuracy: f64,
    validation_accuracy: f64,
    drift: Option<Drift>,
    faithfulness: &'a [FaithfulnessRecord],
    cavs: &'a [CavGeometry],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    localisation: &'a [LocalisationRecord],
    significant: Option<usize>,
    seconds: Seconds,
}

#[derive(Serialize)]
struct Tcav<'a> {
    arm: &'a str,
    replicate: usize,
    round: usize,
    stage: Stage,
    class: &'a str,
    concept: &'a str,
    effect: f64,
    effect_standardised: Option<f64>,
    effect_interval: Option<Interval>,
    effect_p: f64,
    effect_p_adjusted: Option<f64>,
    score: f64,
    score_interval: Option<Interval>,
    score_p: f64,
    score_p_adjusted: Option<f64>,
    legacy_welch_p: Option<f64>,
    heldout_accuracy: f64,
    decodable: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    further: BTreeMap<&'a str, Further>,
}

/// A further statistic of a concept.
#[derive(Serialize)]
struct Further {
    value: f64,
    standardised: Option<f64>,
    p: f64,
}

/// With its names in order.
fn ordered(drift: &Drift) -> Drift {
    let mut drift = drift.clone();
    drift.flipped.sort();
    drift
}

fn over(spread: &Spread) -> Over {
    let replicates = spread.values.iter().map(|&(replicate, value)| Value { replicate, value }).collect();
    Over { mean: spread.mean, low: spread.low, high: spread.high, replicates }
}

fn report<'a>(view: &'a View<'a>) -> Report<'a> {
    let study = view.study;
    let tested = view.tested();
    let mut warnings: Vec<&str> = study.study.warnings.iter().map(String::as_str).collect();
    warnings.sort_unstable();
    Report {
        schema: "ticketlens.report",
        schema_version: SCHEMA_VERSION,
        name: &study.name,
        manifest: &study.manifest,
        plan_toml: &study.plan_toml,
        answer: &study.study.answer,
        hypothesis_a: &study.study.hypothesis_a,
        hypothesis_b: &study.study.hypothesis_b,
        alone: &study.study.alone,
        views: &study.study.views,
        onsets: study.study.onsets.as_ref(),
        forgetting: &study.study.forgetting,
        floor: Floor {
            pairs: (view.floor_pairs.iter())
                .map(|pair| crate::records::FloorPair { drift: ordered(&pair.drift), ..(*pair).clone() })
                .collect(),
            ..study.study.floor.clone()
        },
        rounds: view.points.iter().filter_map(|point| round(point, tested)).collect(),
        networks: view.networks.iter().map(network).collect(),
        tcav: tcav(view),
        sanity: sanity(view),
        geometry: (view.plan.explain.stages.iter())
            .map(|&stage| Geometry {
                stage,
                between_replicates: geometry::between_replicates(view, stage).map(|spread| spread.mean),
            })
            .collect(),
        calibration: Calibration {
            alpha: view.plan.statistics.alpha,
            run: levels(view)
                .into_iter()
                .map(|level| RunLevel {
                    test: level.test,
                    rejected: level.rejected,
                    sets: level.tested,
                    share: over(&level.share),
                })
                .collect(),
            documented: &DOCUMENTED,
        },
        methods: &study.study.methods,
        warnings,
    }
}

/// The checks' layers and flags, by replicate; either may be missing.
fn sanity<'a>(view: &'a View<'a>) -> Vec<Sanity<'a>> {
    let summaries = &view.study.study.sanity;
    let mut replicates: Vec<usize> =
        view.sanity.iter().map(|r| r.replicate).chain(summaries.iter().map(|s| s.replicate)).collect();
    replicates.sort_unstable();
    replicates.dedup();
    let one = |replicate: usize| {
        let record = view.sanity.iter().find(|record| record.replicate == replicate);
        let summary = summaries.iter().find(|summary| summary.replicate == replicate);
        Sanity {
            replicate,
            stage: record.map(|record| record.stage),
            images: record.map(|record| record.images),
            ratio: summary.and_then(|summary| summary.ratio),
            interval: summary.and_then(|summary| summary.interval),
            destroyed: summary.and_then(|summary| summary.destroyed),
            layers: record.map_or(&[], |record| &record.layers),
        }
    };
    replicates.into_iter().map(one).collect()
}

fn round<'a>(point: &Point<'a>, tested: usize) -> Option<Round<'a>> {
    Some(Round {
        record: point.record?,
        test_accuracies: over(&point.accuracy),
        significant: point.significant.as_ref().map(over),
        tested,
    })
}

fn network<'a>(network: &'a Network<'a>) -> OneNetwork<'a> {
    let record = network.record;
    OneNetwork {
        arm: &network.id.arm,
        replicate: network.id.replicate,
        round: network.id.round,
        weights: &record.weights,
        density: record.density,
        kept: record.kept,
        total: record.total,
        test_accuracy: record.test_accuracy,
        validation_accuracy: record.validation_accuracy,
        drift: network.summary.map(|summary| ordered(&summary.drift)),
        faithfulness: &record.faithfulness,
        cavs: &network.cavs,
        localisation: &record.localisation,
        significant: network.summary.map(|summary| summary.significant),
        seconds: record.seconds,
    }
}

fn tcav<'a>(view: &View<'a>) -> Vec<Tcav<'a>> {
    let one = |effect: &super::view::Effect<'a>| {
        let record = effect.record;
        Tcav {
            arm: &effect.id.arm,
            replicate: effect.id.replicate,
            round: effect.id.round,
            stage: record.stage,
            class: view.class(record.class),
            concept: &record.concept,
            effect: record.effect,
            effect_standardised: record.effect_standardised,
            effect_interval: record.effect_standardised_interval,
            effect_p: record.effect_p,
            effect_p_adjusted: effect.adjusted.map(|adjusted| adjusted.effect_p),
            score: record.score,
            score_interval: record.score_interval,
            score_p: record.score_p,
            score_p_adjusted: effect.adjusted.map(|adjusted| adjusted.score_p),
            legacy_welch_p: record.legacy_welch_p,
            heldout_accuracy: record.heldout_accuracy,
            decodable: record.decodable,
            further: (record.further.iter())
                .map(|(key, found)| {
                    let of = Further { value: found.value, standardised: found.standardised, p: found.p_value };
                    (key.as_str(), of)
                })
                .collect(),
        }
    };
    view.effects.iter().map(one).collect()
}
