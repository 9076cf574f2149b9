//! `ticketlens drift`: have a pruned model's explanations moved further than retraining moves them?

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use ticketlens::data::{ImageSource, argument_path};
use ticketlens::explain::tcav::cav::CavKind;
use ticketlens::explain::tcav::checkpoint::{Question, Settings, test_concepts};
use ticketlens::explain::tcav::statistics::EFFECT;
use ticketlens::explain::{CheckpointMaps, Targets};
use ticketlens::model::{Checkpoint, Stage, TensorFile};
use ticketlens::output::Inputs;
use ticketlens::prune::{apply_mask, density};
use ticketlens::report::drift::{
    CandidateDrift, ConceptDrift, DRIFT_SCHEMA_VERSION, DriftReport, Gate, MeasuredDrift, NamedDrift,
};
use ticketlens::stats::multiplicity::Adjustment;
use ticketlens::stats::similarity::Measure;

use crate::args::{
    ImageArguments, ModelArguments, Named, inputs, map_stage_of, open_checkpoint, parse_stage, read_labels,
};
use crate::{output, terminal};

/// Exit code when the gate trips.
const TRIPPED: u8 = 1;
/// Drift that passes, in floor units, unless --max-drift says otherwise.
const DEFAULT_LIMIT: f64 = 1.25;
/// Bytes of activations that stay in memory.
const RESIDENT_BYTES: usize = 1 << 30;

/// Gate a pruned checkpoint on the drift of its explanations
///
/// Compares Grad-CAM maps of the same images (and concept effects, with --concept and --random) between a reference and one or
/// more candidates. Floor checkpoints are the same dense network trained with other seeds: drift is then in units of what
/// retraining does, and the gate trips above 1.25. Without a floor there is a gate only with --max-drift (1 − Spearman's ρ).
/// Exit code 0: passed; 1: the gate tripped; 2: bad input.
#[derive(Args)]
#[command(after_help = "Example:
  ticketlens drift --reference dense.safetensors --candidate pruned.safetensors --floor seed1.safetensors seed2.safetensors \\
    --images val.safetensors:images --labels val.safetensors:labels --format github")]
pub(crate) struct Arguments {
    /// The dense checkpoint
    #[arg(long, value_name = "CKPT")]
    reference: PathBuf,
    /// A checkpoint to compare with it; may be given several times
    #[arg(long, value_name = "CKPT", required = true, num_args = 1..)]
    candidate: Vec<PathBuf>,
    /// Dense checkpoints of other seeds: the noise floor
    #[arg(long, value_name = "CKPT", num_args = 1..)]
    floor: Vec<PathBuf>,
    /// FILE.safetensors:KEY, a .npy file, a folder of PNG and JPEG files, or an IDX file
    #[arg(long)]
    images: String,
    /// The true classes; without them the reference's predictions are explained
    #[arg(long)]
    labels: Option<String>,
    /// A concept's name and images; may be given several times
    #[arg(long, value_name = "NAME=IMAGES", num_args = 1.., requires = "random")]
    concept: Vec<Named>,
    /// A set of random images; at least two with --concept
    #[arg(long, value_name = "IMAGES", num_args = 1.., requires = "concept")]
    random: Vec<String>,
    /// The module after whose output the network is cut, by its PyTorch name [default: layer3 of a ResNet, and its like]
    #[arg(long, value_parser = parse_stage)]
    stage: Option<Stage>,
    /// Greatest drift that passes: in floor units with --floor, else raw
    #[arg(long, value_name = "X", value_parser = parse_limit, allow_negative_numbers = true)]
    max_drift: Option<f64>,
    /// Least share of the images that must count for the gate to pass: those with a map in both networks, which with --labels
    /// both also classify right
    #[arg(long, value_name = "SHARE", default_value_t = 0.5, value_parser = parse_share, allow_negative_numbers = true)]
    min_images: f64,
    /// Mask that is applied to the candidates' weights: what `prune` wrote (its last level), or a file of masks by name
    #[arg(long, value_name = "FILE")]
    mask: Option<PathBuf>,
    /// How to say it
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Where to write it [default: the terminal]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    preparation: ImageArguments,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Plain text
    Table,
    /// Everything, versioned
    Json,
    /// JUnit XML
    Junit,
    /// GitHub annotations
    Github,
    /// Markdown
    Markdown,
}

fn parse_limit(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(limit) if limit >= 0.0 && f64::is_finite(limit) => Ok(limit),
        _ => Err("not a number of at least 0".into()),
    }
}

fn parse_share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("not a number from 0 to 1".into()),
    }
}

impl Arguments {
    /// The files that are read.
    fn inputs(&self) -> Inputs {
        let checkpoints = [&self.reference].into_iter().chain(&self.candidate).chain(&self.floor).chain(&self.mask);
        let sets = self.concept.iter().map(|concept| &concept.images).chain(&self.random);
        let images: Vec<&str> = sets.chain([&self.images]).map(String::as_str).collect();
        let mut inputs = inputs(checkpoints.map(PathBuf::as_path), &images);
        if let Some(labels) = &self.labels {
            inputs.add(&argument_path(labels));
        }
        inputs
    }
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let read = arguments.inputs();
    if let Some(out) = &arguments.out {
        read.check(out).context("--out")?;
    }
    let report = compare(arguments)?;
    let text = match arguments.format {
        Format::Table => report.text(),
        Format::Json => report.json()?,
        Format::Junit => report.junit(),
        Format::Github => report.github(),
        Format::Markdown => report.markdown(),
    };
    output::deliver(arguments.out.as_deref(), &text, &read)?;
    for candidate in report.candidates.iter().filter(|candidate| candidate.density >= report.density) {
        terminal::warn(&format!(
            "{} is as dense as the reference ({:.1} % of its weights are not zero): is it the pruned one?",
            candidate.name,
            100.0 * candidate.density
        ));
    }
    if arguments.floor.is_empty() && arguments.max_drift.is_none() {
        terminal::warn("no gate: neither --floor nor --max-drift was given");
    }
    Ok(ExitCode::from(if report.tripped() { TRIPPED } else { 0 }))
}

fn compare(arguments: &Arguments) -> anyhow::Result<DriftReport> {
    let compute = arguments.preparation.compute()?;
    let reference = open_checkpoint(&arguments.reference, arguments.model, None, &compute)?;
    let stage = map_stage_of(arguments.stage, &reference.model)?;
    let classes = reference.model.classes;
    let source = arguments.preparation.open(&arguments.images, &reference)?;
    let labels: Option<Vec<usize>> = match &arguments.labels {
        None => None,
        Some(labels) => Some(read_labels(labels, classes, &source)?),
    };
    let checkpoints = |paths: &[PathBuf]| -> anyhow::Result<Vec<Checkpoint>> {
        paths
            .iter()
            .map(|path| {
                let checkpoint = open_checkpoint(path, arguments.model, None, &compute)?;
                let found = checkpoint.model.classes;
                ensure!(found == classes, "{}: has {found} classes, the reference has {classes}", path.display());
                Ok(checkpoint)
            })
            .collect()
    };
    let (mut candidates, floor) = (checkpoints(&arguments.candidate)?, checkpoints(&arguments.floor)?);
    if let Some(mask) = &arguments.mask {
        let mask = TensorFile::open(mask).context("--mask")?;
        for candidate in &mut candidates {
            apply_mask(&mut candidate.weights, &mask).context("--mask")?;
        }
    }
    let bar = terminal::bar("explaining", source.len() * (1 + candidates.len() + floor.len()));
    let explain = |checkpoint: &Checkpoint, targets: Targets<'_>| {
        let batch = arguments.preparation.batch;
        CheckpointMaps::new(checkpoint, &source, stage, targets, batch, |done| bar.inc(done as u64))
    };
    let own = explain(&reference, labels.as_deref().map_or(Targets::Predicted, Targets::PerImage))?;
    let targets = labels.clone().unwrap_or_else(|| own.predicted.clone());
    let explain_all = |all: &[Checkpoint]| -> anyhow::Result<Vec<CheckpointMaps>> {
        all.iter().map(|checkpoint| Ok(explain(checkpoint, Targets::PerImage(&targets))?)).collect()
    };
    let (candidate_maps, floor_maps) = (explain_all(&candidates)?, explain_all(&floor)?);
    bar.finish_and_clear();
    // With labels only images that both networks classify right count: the explained class is then the one that both predict.
    let counted = |a: &CheckpointMaps, b: &CheckpointMaps, measure| -> anyhow::Result<Vec<Option<f64>>> {
        let mut drift = a.drift(b, measure)?;
        if let Some(labels) = &labels {
            for (image, value) in drift.iter_mut().enumerate() {
                if a.predicted[image] != labels[image] || b.predicted[image] != labels[image] {
                    *value = None;
                }
            }
        }
        Ok(drift)
    };
    let dense: Vec<&CheckpointMaps> = std::iter::once(&own).chain(&floor_maps).collect();
    let mut floors = BTreeMap::new();
    let mut floor_counted: Option<usize> = None;
    for measure in Measure::ALL {
        let mut pairs = Vec::new();
        for (first, a) in dense.iter().enumerate() {
            for b in &dense[first + 1..] {
                let drift = counted(a, b, measure)?;
                if measure == Measure::Spearman {
                    let count = drift.iter().flatten().count();
                    floor_counted = Some(floor_counted.map_or(count, |least| least.min(count)));
                }
                pairs.extend(mean(&drift));
            }
        }
        floors.insert(measure, mean_of(&pairs));
    }
    let needed = (arguments.min_images * source.len() as f64).ceil() as usize;
    let accuracy = |maps: &CheckpointMaps| {
        let labels = labels.as_ref()?;
        let right = maps.predicted.iter().zip(labels).filter(|(predicted, label)| predicted == label).count();
        Some(right as f64 / labels.len().max(1) as f64)
    };
    let before = concept_effects(arguments, stage, &reference, true)?;
    let mut found = Vec::new();
    for ((path, checkpoint), maps) in arguments.candidate.iter().zip(&candidates).zip(&candidate_maps) {
        let mut measures = Vec::new();
        for measure in Measure::ALL {
            let raw = mean(&counted(&own, maps, measure)?);
            let floor = floors[&measure];
            let in_floors = raw.zip(floor).filter(|(_, floor)| *floor > 0.0).map(|(raw, floor)| raw / floor);
            measures.push(MeasuredDrift { measure: measure_name(measure).into(), raw, floor, in_floors });
        }
        let per_image = counted(&own, maps, Measure::Spearman)?;
        let all = own.drift(maps, Measure::Spearman)?;
        let after = concept_effects(arguments, stage, checkpoint, false)?;
        let enough = |count: usize| count >= needed;
        let all_count = enough(per_image.iter().flatten().count()) && floor_counted.is_none_or(enough);
        let wrong = |(image, &label): (usize, &usize)| own.predicted[image] != label || maps.predicted[image] != label;
        found.push(CandidateDrift {
            name: path.display().to_string(),
            gate: gate(arguments, &measures[0], needed, all_count),
            measures,
            counted: per_image.iter().flatten().count(),
            misclassified: labels.iter().flatten().enumerate().filter(|&label| wrong(label)).count(),
            density: density(&checkpoint.weights),
            accuracy: accuracy(maps),
            assumed: checkpoint.model.assumptions,
            degenerate: all.iter().filter(|drift| drift.is_none()).count(),
            images: most_moved(named_images(&source, &per_image)),
            classes: most_moved(by_class(&targets, &per_image)),
            concepts: moved_concepts(&before, &after),
            layers: most_moved(layer_distances(&reference, checkpoint)),
        });
    }
    Ok(DriftReport {
        schema_version: DRIFT_SCHEMA_VERSION,
        reference: arguments.reference.display().to_string(),
        stage,
        images: source.len(),
        floor: arguments.floor.iter().map(|path| path.display().to_string()).collect(),
        floor_counted,
        density: density(&reference.weights),
        accuracy: accuracy(&own),
        assumed: reference.model.assumptions,
        candidates: found,
    })
}

fn measure_name(measure: Measure) -> &'static str {
    match measure {
        Measure::Spearman => "spearman",
        Measure::Pearson => "pearson",
        Measure::Ssim => "ssim",
        Measure::Iou10 => "iou_top10",
        Measure::Iou20 => "iou_top20",
        Measure::JensenShannon => "jensen_shannon",
    }
}

fn gate(arguments: &Arguments, deciding: &MeasuredDrift, needed: usize, enough: bool) -> Option<Gate> {
    let in_floors = !arguments.floor.is_empty();
    let limit = arguments.max_drift.or(in_floors.then_some(DEFAULT_LIMIT))?;
    let value = if in_floors { deciding.in_floors } else { deciding.raw };
    // A drift without a value, or of hardly any images, cannot be shown to be small.
    let tripped = !enough || value.is_none_or(|value| value > limit);
    Some(Gate { measure: deciding.measure.clone(), value, limit, in_floors, needed, tripped })
}

fn mean(values: &[Option<f64>]) -> Option<f64> {
    mean_of(&values.iter().flatten().copied().collect::<Vec<_>>())
}

fn mean_of(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn most_moved(mut list: Vec<NamedDrift>) -> Vec<NamedDrift> {
    list.sort_by(|a, b| b.drift.total_cmp(&a.drift).then_with(|| a.name.cmp(&b.name)));
    list
}

fn named_images(source: &ImageSource, drift: &[Option<f64>]) -> Vec<NamedDrift> {
    let known = drift.iter().enumerate().filter_map(|(image, drift)| Some((image, (*drift)?)));
    known.map(|(image, drift)| NamedDrift { name: source.image_name(image), drift }).collect()
}

fn by_class(targets: &[usize], drift: &[Option<f64>]) -> Vec<NamedDrift> {
    let mut classes: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for (class, drift) in targets.iter().zip(drift) {
        classes.entry(*class).or_default().extend(drift);
    }
    classes
        .iter()
        .filter_map(|(class, values)| Some(NamedDrift { name: class.to_string(), drift: mean_of(values)? }))
        .collect()
}

/// Relative L2 distance of each prunable layer's weights; empty where the networks differ in architecture.
fn layer_distances(reference: &Checkpoint, candidate: &Checkpoint) -> Vec<NamedDrift> {
    if !reference.model.same_as(&candidate.model) {
        return Vec::new();
    }
    let layout = &reference.model.network.layout;
    layout
        .parameters
        .iter()
        .enumerate()
        .filter(|(_, spec)| spec.kind.prunable())
        .map(|(index, spec)| {
            let (a, b) = (reference.weights.parameter(index), candidate.weights.parameter(index));
            let square = |sum: f64, value: f64| sum + value * value;
            let distance = a.iter().zip(b).map(|(a, b)| f64::from(a - b)).fold(0.0, square);
            let size = a.iter().map(|&a| f64::from(a)).fold(0.0, square);
            NamedDrift { name: spec.name.clone(), drift: (distance / size.max(f64::MIN_POSITIVE)).sqrt() }
        })
        .collect()
}

/// The standardised effect of each concept on each class, and its sign where it is significant.
type Effects = BTreeMap<(usize, String), (f64, Option<bool>)>;

fn concept_effects(
    arguments: &Arguments,
    stage: Stage,
    checkpoint: &Checkpoint,
    tell: bool,
) -> anyhow::Result<Effects> {
    let mut effects = Effects::new();
    if arguments.concept.is_empty() {
        return Ok(effects);
    }
    if arguments.random.len() < 2 {
        bail!("--random: {} set given, at least 2 are needed", arguments.random.len());
    }
    let open = |images: &str| arguments.preparation.open(images, checkpoint);
    let images = open(&arguments.images)?;
    let concepts = arguments
        .concept
        .iter()
        .map(|concept| Ok((concept.name.clone(), open(&concept.images)?)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let random = arguments.random.iter().map(|images| open(images)).collect::<anyhow::Result<Vec<_>>>()?;
    let settings = Settings {
        cav: CavKind::Logistic { c: 1.0 },
        permutations: ticketlens::stats::permutation::DEFAULT_PERMUTATIONS,
        resamples: 0,
        adjustment: Adjustment::BenjaminiHochberg,
        alpha: 0.05,
        seed: 0,
        batch: arguments.preparation.batch,
        resident_bytes: RESIDENT_BYTES,
    };
    let classes: Vec<usize> = (0..checkpoint.model.classes).collect();
    let question =
        Question { checkpoint, stage, images: &images, classes: &classes, concepts: &concepts, random: &random };
    let tests = test_concepts(&question, &settings, &|_| {})?;
    if tell {
        tests.copies.iter().for_each(|line| terminal::warn(line));
    }
    for (&class, tests) in classes.iter().zip(&tests.classes) {
        let adjusted = tests.adjusted(EFFECT, settings.adjustment)?;
        for (((name, _), test), p) in concepts.iter().zip(&tests.concepts).zip(adjusted) {
            if let Some(effect) = test.effect().standardised {
                let significant = test.decodable && p <= settings.alpha;
                effects.insert((class, name.clone()), (effect, significant.then_some(effect > 0.0)));
            }
        }
    }
    Ok(effects)
}

fn moved_concepts(before: &Effects, after: &Effects) -> Vec<ConceptDrift> {
    let mut moved: Vec<ConceptDrift> = before
        .iter()
        .filter_map(|(key, &(reference, was))| {
            let &(candidate, is) = after.get(key)?;
            Some(ConceptDrift {
                class: key.0.to_string(),
                concept: key.1.clone(),
                reference,
                candidate,
                flipped: was != is,
            })
        })
        .collect();
    let distance = |concept: &ConceptDrift| (concept.reference - concept.candidate).abs();
    moved.sort_by(|a, b| distance(b).total_cmp(&distance(a)));
    moved
}
