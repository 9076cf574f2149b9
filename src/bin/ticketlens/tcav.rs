//! `ticketlens tcav`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};
use ticketlens::explain::tcav::cav::CavKind;
use ticketlens::explain::tcav::checkpoint::{ConceptTests, Question, Settings, test_concepts_and_regions};
use ticketlens::explain::tcav::statistics::{EFFECT, SCORE};
use ticketlens::explain::tcav::{ClassTests, STATISTICS};
use ticketlens::model::Stage;
use ticketlens::stats::multiplicity::Adjustment;
use ticketlens::stats::power::sets_needed;

use crate::args::{ImageArguments, ModelArguments, Named, inputs, open_checkpoint, parse_stage, stage_of};
use crate::output::{create, write_text};
use crate::terminal;

/// Bytes in a MiB.
const MIB: usize = 1 << 20;

/// Concepts tested: which of them a class depends on, with p-values that hold their level
///
/// For each concept: the effect (first-order change of the class logit from random to concept images, tested by label
/// permutation) and the TCAV score (share of class images whose logit rises along the concept's vector, tested by exchangeability
/// with the random sets). Welch's test is shown for comparison with published work; it rejects too often. A concept that cannot be
/// told from random images on held-out images is `undecodable`: its numbers say nothing.
#[derive(Args)]
#[command(after_help = "Example:
  ticketlens tcav --checkpoint resnet50.pth --images zebras/ --stage layer3 --class 340 \\
    --concept striped=striped/ --concept dotted=dotted/ --random random-sets/* --json tcav.json")]
pub(crate) struct Arguments {
    /// Checkpoint with PyTorch names: .safetensors, .pth or .pt
    #[arg(long, value_name = "CKPT")]
    checkpoint: PathBuf,
    /// Images of the class: FILE.safetensors:KEY, a .npy file, a folder of PNG and JPEG files, or an IDX file
    #[arg(long)]
    images: String,
    /// The module after whose output the network is cut, by its PyTorch name [default: layer3 of a ResNet, and its like]
    #[arg(long, value_parser = parse_stage)]
    stage: Option<Stage>,
    /// The class, counted from 0
    #[arg(long, value_name = "K")]
    class: usize,
    /// A concept's name and images; may be given several times
    #[arg(long, value_name = "NAME=IMAGES", required = true, num_args = 1..)]
    concept: Vec<Named>,
    /// A set of random images, as large as the concepts'; at least two, and 19 to reach a level of 0.05
    #[arg(long, value_name = "IMAGES", required = true, num_args = 1..)]
    random: Vec<String>,
    /// JSON file to write
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// How a concept's vector is found
    #[arg(long, value_enum, default_value_t = Cav::Logistic)]
    cav: Cav,
    /// Weight of the loss in the logistic regression (scikit-learn's C)
    #[arg(long, value_name = "C", default_value_t = 1.0, allow_negative_numbers = true)]
    loss_weight: f64,
    /// Label permutations of the effect's test
    #[arg(long, value_name = "B", default_value_t = 9_999, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    permutations: u32,
    /// Bootstrap resamples of the intervals; 0 for none
    #[arg(long, value_name = "B", default_value_t = 999, value_parser = clap::value_parser!(u32).range(0..=10_000_000))]
    resamples: u32,
    /// Label permutations of each concept's activation region (TCAR); without it there are no regions
    #[arg(long, value_name = "B", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    regions: Option<u32>,
    /// Adjustment of the p-values over the concepts
    #[arg(long, value_enum, default_value_t = Adjust::Bh)]
    adjust: Adjust,
    /// Level of the tests
    #[arg(long, value_name = "X", default_value_t = 0.05, value_parser = parse_level, allow_negative_numbers = true)]
    alpha: f64,
    /// Seed of folds, permutations and resamples
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Activations kept in memory, in MiB; what does not fit is computed again
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    memory: usize,
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    preparation: ImageArguments,
}

/// How a concept's vector is found.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Cav {
    /// L2 logistic regression, at its optimum
    Logistic,
    /// Difference of the means of concept and random activations, which for two sets is PatternCAV
    #[value(alias = "pattern")]
    MeanDifference,
}

/// Adjustment of p-values.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Adjust {
    /// Benjamini–Hochberg: false discovery rate
    Bh,
    /// Holm: family-wise error rate
    Holm,
    /// Bonferroni: family-wise error rate
    Bonferroni,
}

fn parse_level(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(level) if level > 0.0 && level < 1.0 => Ok(level),
        _ => Err("not a number between 0 and 1".into()),
    }
}

impl Arguments {
    fn settings(&self) -> anyhow::Result<Settings> {
        ensure!(
            self.loss_weight > 0.0 && self.loss_weight.is_finite(),
            "--loss-weight: {} is not a positive number",
            self.loss_weight
        );
        ensure!(self.resamples == 0 || self.resamples >= 20, "--resamples: fewer than 20 give no interval");
        Ok(Settings {
            cav: match self.cav {
                Cav::Logistic => CavKind::Logistic { c: self.loss_weight },
                Cav::MeanDifference => CavKind::MeanDifference,
            },
            permutations: self.permutations as usize,
            resamples: self.resamples as usize,
            adjustment: match self.adjust {
                Adjust::Bh => Adjustment::BenjaminiHochberg,
                Adjust::Holm => Adjustment::Holm,
                Adjust::Bonferroni => Adjustment::Bonferroni,
            },
            alpha: self.alpha,
            seed: self.seed,
            batch: self.preparation.batch,
            resident_bytes: self.memory.saturating_mul(MIB),
        })
    }
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let settings = arguments.settings()?;
    let mut names = BTreeSet::new();
    if let Some(twice) = arguments.concept.iter().find(|concept| !names.insert(&concept.name)) {
        bail!("--concept: `{}` is given twice", twice.name);
    }
    ensure!(arguments.random.len() >= 2, "--random: {} set given, at least 2 are needed", arguments.random.len());
    let sets = arguments.concept.iter().map(|concept| &concept.images).chain(&arguments.random);
    let read: Vec<&str> = sets.chain([&arguments.images]).map(String::as_str).collect();
    let read = inputs([arguments.checkpoint.as_path()], &read);
    if let Some(json) = &arguments.json {
        read.check(json).context("--json")?;
    }
    let compute = arguments.preparation.compute()?;
    let checkpoint = open_checkpoint(&arguments.checkpoint, arguments.model, Some(arguments.class), &compute)?;
    let open = |images: &str| arguments.preparation.open(images, &checkpoint);
    let images = open(&arguments.images)?;
    let concepts = arguments
        .concept
        .iter()
        .map(|concept| Ok((concept.name.clone(), open(&concept.images)?)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let random = arguments.random.iter().map(|images| open(images)).collect::<anyhow::Result<Vec<_>>>()?;
    let output = arguments.json.as_deref().map(|json| create("--json", json, &read)).transpose()?;

    let total = concepts.iter().map(|(_, source)| source).chain(&random).chain([&images]).map(|s| s.len()).sum();
    let bar = terminal::bar("reading", total);
    let question = Question {
        checkpoint: &checkpoint,
        stage: stage_of(arguments.stage, &checkpoint.model)?,
        images: &images,
        classes: &[arguments.class],
        concepts: &concepts,
        random: &random,
    };
    let regions = arguments.regions.map(|permutations| permutations as usize);
    let tests = test_concepts_and_regions(&question, &settings, regions, &|images| bar.inc(images as u64))?;
    bar.finish_and_clear();
    let adjusted = STATISTICS.iter().map(|statistic| {
        let adjusted = tests.classes[0].adjusted_where_known(statistic.key, settings.adjustment)?;
        Ok((statistic.key, adjusted))
    });
    let answer = Answer { tests: &tests, class: &tests.classes[0], adjusted: adjusted.collect::<anyhow::Result<_>>()? };
    if let Some(output) = output {
        write_text(output, &record(&question, arguments, &answer)?)?;
        terminal::delivered();
    }
    warn(&question, arguments, &settings, &tests);
    table(&question, arguments.class, &answer);
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
fn record(question: &Question<'_>, arguments: &Arguments, answer: &Answer<'_>) -> anyhow::Result<String> {
    let mut concepts = Map::new();
    for (place, ((name, source), test)) in question.concepts.iter().zip(&answer.class.concepts).enumerate() {
        let mut value = Map::new();
        let mut put = |key: &str, field: Value| value.insert(key.to_owned(), field);
        put("images", source.len().into());
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
        concepts.insert(name.clone(), value.into());
    }
    let record = json!({
        "stage": question.stage,
        "class": arguments.class,
        "assumed": question.checkpoint.model.assumptions,
        "images": question.images.len(),
        "concepts": concepts,
        "random_baseline": answer.class.random_baseline.iter().map(|pair| pair.score).collect::<Vec<_>>(),
        "random_images": question.random.iter().map(|source| source.len()).collect::<Vec<_>>(),
        "smallest_p": answer.tests.smallest_p,
        "cavs": answer.tests.cavs,
        "copies": answer.tests.copies,
        "alpha": arguments.alpha,
        "seed": arguments.seed,
        "permutations": arguments.permutations,
        "version": env!("CARGO_PKG_VERSION"),
    });
    Ok(serde_json::to_string_pretty(&record)? + "\n")
}

fn warn(question: &Question<'_>, arguments: &Arguments, settings: &Settings, tests: &ConceptTests) {
    let (sets, alpha) = (question.random.len(), settings.alpha);
    if tests.smallest_p > alpha {
        let needed = sets_needed(alpha, 1, settings.adjustment).map_or(0, |needed| needed.for_one_finding);
        terminal::warn(&format!(
            "{sets} random sets cannot reach the level {alpha}: the smallest p-value of the score's test is {:.4}; {needed} sets are needed",
            tests.smallest_p
        ));
    }
    tests.copies.iter().for_each(|line| terminal::warn(line));
    let mut seen = BTreeSet::new();
    if let Some(twice) = arguments.random.iter().find(|images| !seen.insert(*images)) {
        terminal::warn(&format!("--random: {twice} is given twice, but the tests take the sets as independent"));
    }
    let sizes: BTreeSet<usize> =
        question.concepts.iter().map(|(_, source)| source).chain(question.random).map(|s| s.len()).collect();
    if let (Some(least), Some(most)) = (sizes.first(), sizes.last())
        && least != most
    {
        terminal::warn(&format!(
            "sets hold {least} to {most} images: the score's test presumes that concept and random sets are equally large"
        ));
    }
}

fn table(question: &Question<'_>, class: usize, answer: &Answer<'_>) {
    let longest = question.concepts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).max(7);
    let p = |value: f64| format!("{value:.4}");
    terminal::say(&format!(
        "class {} at {}: {} images, {} random sets, {} CAVs",
        class,
        question.stage,
        question.images.len(),
        question.random.len(),
        answer.tests.cavs
    ));
    terminal::say(&format!(
        "{:<longest$}  {:>10} {:>7} {:>7} {:>7}  {:>6} {:>7} {:>7} {:>7}  {:>8}",
        "concept", "effect", "in SD", "p", "p adj.", "score", "p", "p adj.", "legacy", "held-out"
    ));
    for (place, ((name, _), test)) in question.concepts.iter().zip(&answer.class.concepts).enumerate() {
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
        let of = |(place, (name, _)): (usize, &(String, _))| {
            let found = answer.class.concepts[place].statistics.get(statistic.key)?;
            let adjusted = answer.adjusted[statistic.key][place].map_or("–".into(), p);
            Some(format!("{name} {:.3} (p {}, adj. {adjusted})", found.value, p(found.p_value)))
        };
        let told: Vec<String> = question.concepts.iter().enumerate().filter_map(of).collect();
        if !told.is_empty() {
            terminal::say(&format!("{}: {}", statistic.title, told.join(", ")));
        }
    }
    terminal::say("legacy: Welch's test of the scores, as published elsewhere; not calibrated");
}
