//! `ticketlens tcav`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use ticketlens::data::{ActivationSource, ImageSource};
use ticketlens::explain::tcav::arrays::{ArrayQuestion, test_arrays};
use ticketlens::explain::tcav::cav::CavKind;
use ticketlens::explain::tcav::checkpoint::{Question, Settings, test_concepts_and_regions};
use ticketlens::model::Stage;
use ticketlens::stats::multiplicity::Adjustment;

use crate::args::{
    ImageArguments, ModelArguments, Named, OF_CHECKPOINTS, TokenArguments, inputs, open_checkpoint, parse_stage,
    stage_of,
};
use crate::output::create;
use crate::tcav_answer::{Asked, tell};

/// Bytes in a MiB.
const MIB: usize = 1 << 20;

/// Concepts tested: which of them a class depends on, with p-values that hold their level
///
/// For each concept: the effect (first-order change of the class logit from random to concept
/// images, tested by label permutation) and the TCAV score (share of class images whose logit rises
/// along the concept's vector, tested by exchangeability with the random sets). Welch's test is
/// shown for comparison with published work; it rejects too often. A concept that cannot be told
/// from random images on held-out images is `undecodable`: its numbers say nothing. Of any model,
/// from arrays that its own framework wrote: --activations, --random-activations and --gradients in
/// the place of checkpoint and images (docs/any-model.md).
#[derive(Args)]
#[command(after_help = "Example:
  ticketlens tcav --checkpoint resnet50.pth --images zebras/ --stage layer3 --class 340 \\
    --concept striped=striped/ --concept dotted=dotted/ --random random-sets/* --json tcav.json")]
pub(crate) struct Arguments {
    /// Checkpoint with PyTorch names: .safetensors, .pth or .pt
    #[arg(long, value_name = "CKPT", required_unless_present = "activations")]
    checkpoint: Option<PathBuf>,
    /// Images of the class: FILE.safetensors:KEY, a .npy file, a folder of PNG and JPEG files, or an IDX file
    #[arg(long, required_unless_present = "activations")]
    images: Option<String>,
    /// The module after whose output the network is cut, by its PyTorch name [default: layer3 of a
    /// ResNet, and its like]
    #[arg(long, value_parser = parse_stage)]
    stage: Option<Stage>,
    /// The class, counted from 0
    #[arg(long, value_name = "K", required_unless_present = "activations")]
    class: Option<usize>,
    /// A concept's name and images; may be given several times
    #[arg(long, value_name = "NAME=IMAGES", required_unless_present = "activations", num_args = 1..)]
    concept: Vec<Named>,
    /// A set of random images, as large as the concepts'; at least two, and 19 to reach a level of 0.05
    #[arg(long, value_name = "IMAGES", required_unless_present = "activations", num_args = 1..)]
    random: Vec<String>,
    /// Instead of a checkpoint: a concept's name and its activations, (N, D), (N, C, H, W) or
    /// tokens (N, T, D) of floats, as FILE.safetensors:KEY or a .npy file; may be given several
    /// times
    #[arg(
        long,
        value_name = "NAME=ARRAY",
        num_args = 1..,
        requires_all = ["random_activations", "gradients"],
        conflicts_with_all = ["checkpoint", "images", "stage", "class", "concept", "random", "size"],
        conflicts_with_all = OF_CHECKPOINTS
    )]
    activations: Vec<Named>,
    /// Activations of a set of random images
    #[arg(long, value_name = "ARRAY", num_args = 1.., requires = "activations", conflicts_with = "checkpoint")]
    random_activations: Vec<String>,
    /// Gradients of the class's logit with respect to the activations of its images
    #[arg(long, value_name = "ARRAY", requires = "activations", conflicts_with = "checkpoint")]
    gradients: Option<String>,
    #[command(flatten)]
    tokens: TokenArguments,
    /// JSON file to write
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// How a concept's vector is found
    #[arg(long, value_enum, default_value_t = Cav::Logistic)]
    cav: Cav,
    /// Weight of the loss in the logistic regression (scikit-learn's C)
    #[arg(long, value_name = "C", default_value_t = 1.0)]
    loss_weight: f64,
    /// Label permutations of the effect's test
    #[arg(long, value_name = "B", default_value_t = 9_999, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    permutations: u32,
    /// Bootstrap resamples of the intervals; 0 for none
    #[arg(long, value_name = "B", default_value_t = 999, value_parser = clap::value_parser!(u32).range(0..=10_000_000))]
    resamples: u32,
    /// Label permutations of each concept's activation region (TCAR); without it there are no regions
    #[arg(long, value_name = "B", value_parser = clap::value_parser!(u32).range(1..=1_000_000), conflicts_with = "activations")]
    regions: Option<u32>,
    /// Adjustment of the p-values over the concepts
    #[arg(long, value_enum, default_value_t = Adjust::Bh)]
    adjust: Adjust,
    /// Level of the tests
    #[arg(long, value_name = "X", default_value_t = 0.05, value_parser = parse_level)]
    alpha: f64,
    /// Seed of folds, permutations and resamples
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Activations and products kept in memory, in MiB; what does not fit lies in a temporary file meanwhile
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
    match (&arguments.checkpoint, &arguments.images, arguments.class, &arguments.gradients) {
        (_, _, _, Some(gradients)) => of_arrays(arguments, gradients, &settings),
        (Some(checkpoint), Some(images), Some(class), None) => {
            of_checkpoint(arguments, checkpoint, images, class, &settings)
        }
        _ => bail!("--checkpoint with --images and --class, or --activations with --gradients"),
    }
}

/// Two sets at least, and each concept once.
fn check_sets(concepts: &[Named], concept: &str, random: &[String], flag: &str) -> anyhow::Result<()> {
    let mut names = BTreeSet::new();
    if let Some(twice) = concepts.iter().find(|concept| !names.insert(&concept.name)) {
        bail!("{concept}: `{}` is given twice", twice.name);
    }
    ensure!(random.len() >= 2, "{flag}: {} set given, at least 2 are needed", random.len());
    Ok(())
}

fn of_checkpoint(
    arguments: &Arguments,
    checkpoint: &Path,
    images: &str,
    class: usize,
    settings: &Settings,
) -> anyhow::Result<()> {
    check_sets(&arguments.concept, "--concept", &arguments.random, "--random")?;
    let sets = arguments.concept.iter().map(|concept| &concept.images).chain(&arguments.random);
    let read: Vec<&str> = sets.map(String::as_str).chain([images]).collect();
    let read = inputs([checkpoint], &read);
    if let Some(json) = &arguments.json {
        read.check(json).context("--json")?;
    }
    let compute = arguments.preparation.compute()?;
    let checkpoint = open_checkpoint(checkpoint, arguments.model, Some(class), &compute)?;
    let open = |images: &str| arguments.preparation.open(images, &checkpoint);
    let images = open(images)?;
    let concepts = arguments
        .concept
        .iter()
        .map(|concept| Ok((concept.name.clone(), open(&concept.images)?)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let random = arguments.random.iter().map(|images| open(images)).collect::<anyhow::Result<Vec<_>>>()?;
    let output = arguments.json.as_deref().map(|json| create("--json", json, &read)).transpose()?;
    let asked = Asked {
        place: Some((class, stage_of(arguments.stage, &checkpoint.model)?)),
        assumed: checkpoint.model.assumptions.as_ref(),
        images: images.len(),
        concepts: concepts.iter().map(|(name, source)| (name.as_str(), source.len())).collect(),
        random: random.iter().map(ImageSource::len).collect(),
        names: &arguments.random,
        flag: "--random",
    };
    let bar = asked.bar();
    let question = Question {
        checkpoint: &checkpoint,
        stage: stage_of(arguments.stage, &checkpoint.model)?,
        images: &images,
        classes: &[class],
        concepts: &concepts,
        random: &random,
    };
    let regions = arguments.regions.map(|permutations| permutations as usize);
    let tests = test_concepts_and_regions(&question, settings, regions, &|images| bar.inc(images as u64))?;
    bar.finish_and_clear();
    tell(&asked, settings, &tests, output)
}

fn of_arrays(arguments: &Arguments, gradients: &str, settings: &Settings) -> anyhow::Result<()> {
    check_sets(&arguments.activations, "--activations", &arguments.random_activations, "--random-activations")?;
    let sets = arguments.activations.iter().map(|concept| &concept.images).chain(&arguments.random_activations);
    let read: Vec<&str> = sets.map(String::as_str).chain([gradients]).collect();
    let read = inputs([], &read);
    if let Some(json) = &arguments.json {
        read.check(json).context("--json")?;
    }
    let open = |argument: &str| arguments.tokens.open(argument);
    let gradients = open(gradients)?;
    let concepts = (arguments.activations.iter())
        .map(|concept| Ok((concept.name.clone(), open(&concept.images)?)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let random = arguments.random_activations.iter().map(|set| open(set)).collect::<anyhow::Result<Vec<_>>>()?;
    let output = arguments.json.as_deref().map(|json| create("--json", json, &read)).transpose()?;
    let asked = Asked {
        place: None,
        assumed: None,
        images: gradients.len(),
        concepts: concepts.iter().map(|(name, source)| (name.as_str(), source.len())).collect(),
        random: random.iter().map(ActivationSource::len).collect(),
        names: &arguments.random_activations,
        flag: "--random-activations",
    };
    let bar = asked.bar();
    let question = ArrayQuestion { gradients: &gradients, concepts: &concepts, random: &random };
    let tests = test_arrays(&question, settings, &|images| bar.inc(images as u64))?;
    bar.finish_and_clear();
    tell(&asked, settings, &tests, output)
}
