//! `ticketlens drift`: have a pruned model's explanations moved further than retraining moves them?

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use ticketlens::data::ImageSource;
use ticketlens::explain::tcav::by_target::Classes;
use ticketlens::model::{Checkpoint, TensorFile};
use ticketlens::output::Inputs;
use ticketlens::prune::apply_mask;
use ticketlens::records::gate::{CandidateDrift, DriftReport, Kind, OnUndecided};
use ticketlens::records::reference::ReferenceRecord;
use ticketlens::report::drift;
use ticketlens::study::gate::recorded::check_images;
use ticketlens::study::gate::{Dense, Explained, Rules, judge, layer_distances};

use crate::args::{ImageArguments, Named, open_checkpoint};
use crate::drift_arrays::{MapArguments, Networks};
use crate::overlay::Painter;
use crate::sets::{SetArguments, Sets, check_classes, explain_candidates};
use crate::{output, record, terminal};

/// Exit code when the gate trips.
const TRIPPED: u8 = 1;

/// Gate a pruned checkpoint on the drift of its explanations
///
/// Compares Grad-CAM maps of the same images (concept effects too, with --concept and --random, and
/// accuracy, with --labels) between a reference and one or more candidates. Floor checkpoints are
/// the same dense network trained with other seeds, best three or more: each question is answered
/// kept, changed or undecided by an interval and by how far retrained networks themselves differ.
/// The gate trips on what changed and on what cannot be measured. Without a floor there is a gate
/// only with --max-drift (1 − Spearman's ρ). Exit code 0: passed; 1: the gate tripped; 2: bad
/// input.
#[derive(Args)]
#[command(after_help = "Example:
  ticketlens drift --reference dense.pth --candidate pruned.pth --floor seed1.pth seed2.pth seed3.pth \\
    --images val.safetensors:images --labels val.safetensors:labels --format github
  ticketlens drift --reference explanations.json --candidate pruned.pth")]
pub(crate) struct Arguments {
    /// The dense checkpoint, or what `record` wrote of it and its floor
    #[arg(long, value_name = "CKPT|RECORD", required_unless_present = "reference_maps")]
    reference: Option<PathBuf>,
    /// A checkpoint to compare with it; may be given several times
    #[arg(long, value_name = "CKPT", required_unless_present = "candidate_maps", num_args = 1..)]
    candidate: Vec<PathBuf>,
    /// Dense checkpoints of other seeds: the noise floor
    #[arg(long, value_name = "CKPT", num_args = 1..)]
    floor: Vec<PathBuf>,
    /// What must be kept [default: all that is at hand: pixels, concepts with --concept, accuracy with --labels]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "KIND,…")]
    require: Option<Vec<Required>>,
    /// What an undecided answer does
    #[arg(long, value_enum, default_value_t = Undecided::Pass)]
    on_undecided: Undecided,
    /// Loss of accuracy that still counts as none, as a share
    #[arg(long, value_name = "SHARE", default_value_t = 0.01, value_parser = parse_share)]
    accuracy_margin: f64,
    /// Greatest drift that counts as kept: ρ with --floor (1.25 by default), else drift from the reference
    #[arg(long, value_name = "X", value_parser = parse_limit)]
    max_drift: Option<f64>,
    /// Least share of the images that must count for pixels to be judged: those with a map in every
    /// network, which with --labels all networks also classify right
    #[arg(long, value_name = "SHARE", default_value_t = 0.5, value_parser = parse_share)]
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
    /// Other forms to write beside, such as html=drift.html
    #[arg(long, value_name = "FORMAT=FILE", num_args = 1.., value_parser = parse_form)]
    also: Vec<Form>,
    #[command(flatten)]
    maps: MapArguments,
    #[command(flatten)]
    sets: SetArguments,
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
    /// SARIF 2.1.0, for code scanning
    Sarif,
    /// Markdown, for a job summary
    Markdown,
    /// One page with the maps that moved most
    Html,
}

/// A form and its file.
#[derive(Clone)]
struct Form {
    format: Format,
    file: PathBuf,
}

fn parse_form(text: &str) -> Result<Form, String> {
    let (format, file) = text.split_once('=').ok_or("expected FORMAT=FILE")?;
    if file.is_empty() {
        return Err("expected FORMAT=FILE".into());
    }
    Ok(Form { format: Format::from_str(format, false)?, file: file.into() })
}

/// What can be required.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Required {
    /// The candidate looks at the same pixels
    Pixels,
    /// It uses the same concepts
    Concepts,
    /// It is as accurate
    Accuracy,
}

/// What an undecided answer does.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Undecided {
    /// Lets the candidate pass
    Pass,
    /// Trips the gate
    Fail,
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
        let checkpoints = self.reference.iter().chain(&self.candidate).chain(&self.floor).chain(&self.mask);
        let mut inputs = self.sets.inputs(checkpoints.map(PathBuf::as_path));
        self.reference.iter().for_each(|reference| inputs.add(&record::tensors_of(reference)));
        self.maps.add_to(&mut inputs);
        inputs
    }
}

impl Arguments {
    fn rules(&self) -> Rules {
        let kind = |required: &Required| match required {
            Required::Pixels => Kind::Pixels,
            Required::Concepts => Kind::Concepts,
            Required::Accuracy => Kind::Accuracy,
        };
        Rules {
            max_drift: self.max_drift,
            min_images: self.min_images,
            accuracy_margin: self.accuracy_margin,
            required: self.require.as_ref().map(|required| required.iter().map(kind).collect()),
            on_undecided: match self.on_undecided {
                Undecided::Pass => OnUndecided::Pass,
                Undecided::Fail => OnUndecided::Fail,
            },
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let read = arguments.inputs();
    if let Some(out) = &arguments.out {
        read.check(out).context("--out")?;
    }
    arguments.also.iter().try_for_each(|form| read.check(&form.file)).context("--also")?;
    let mut written: BTreeSet<PathBuf> = BTreeSet::new();
    for file in arguments.also.iter().map(|form| &form.file).chain(&arguments.out) {
        let place = std::path::absolute(file).unwrap_or_else(|_| file.clone());
        ensure!(written.insert(place), "--also: {} is written twice", file.display());
    }
    let compared = compare(arguments)?;
    let report = &compared.report;
    for form in &arguments.also {
        let text = compared.render(form.format)?;
        output::write_text(output::create("--also", &form.file, &read)?, &text)?;
    }
    output::deliver(arguments.out.as_deref(), &compared.render(arguments.format)?, &read)?;
    warn(report);
    Ok(ExitCode::from(if report.tripped() { TRIPPED } else { 0 }))
}

/// What stands, but its reader should know.
fn warn(report: &DriftReport) {
    for candidate in &report.candidates {
        if let (Some(own), Some(reference)) = (candidate.density, report.density)
            && own >= reference
        {
            terminal::warn(&format!(
                "{} is as dense as the reference ({:.1} % of its weights are not zero): is it the pruned one?",
                candidate.name,
                100.0 * own
            ));
        }
    }
    if report.candidates.iter().all(|candidate| candidate.gate.is_none()) {
        terminal::warn("no gate: neither --floor nor --max-drift was given");
    }
    if report.floor.len() == 1 {
        terminal::warn("one floor network does not tell how far retrained networks differ: give three or more");
    }
}

/// A report, and what its page shows.
struct Compared {
    report: DriftReport,
    dense: Dense,
    candidates: Vec<Explained>,
    /// Absent where maps came as arrays.
    images: Option<(ImageSource, Painter)>,
}

impl Compared {
    fn render(&self, format: Format) -> anyhow::Result<String> {
        let report = &self.report;
        Ok(match format {
            Format::Table => drift::text(report),
            Format::Json => drift::json(report)?,
            Format::Junit => drift::junit(report),
            Format::Github => drift::github(report),
            Format::Sarif => drift::sarif(report)?,
            Format::Markdown => drift::markdown(report),
            Format::Html => drift::html(report, &self.shown()?)?,
        })
    }

    /// Of each candidate the images that moved most, with both maps.
    fn shown(&self) -> anyhow::Result<Vec<Vec<drift::ShownImage>>> {
        let Some((source, painter)) = &self.images else { return Ok(Vec::new()) };
        let of = |(found, candidate): (&CandidateDrift, &Explained)| {
            let most = found.images.iter().take(drift::SHOWN_IMAGES);
            let placed =
                most.filter_map(|moved| Some((moved, self.dense.images.iter().position(|name| *name == moved.name)?)));
            let images = placed.map(|(moved, image)| {
                let values = source.values(image..image + 1)?;
                let (_, height, width) = source.shape();
                let pixels = painter.bytes(&values, height * width);
                Ok(drift::ShownImage {
                    name: moved.name.clone(),
                    drift: moved.drift,
                    shape: [pixels.len() / (height * width), height, width],
                    pixels,
                    size: candidate.size,
                    reference: self.dense.reference.maps[image].clone(),
                    candidate: candidate.maps[image].clone(),
                })
            });
            images.collect::<anyhow::Result<Vec<_>>>()
        };
        self.report.candidates.iter().zip(&self.candidates).map(of).collect()
    }
}

fn compare(arguments: &Arguments) -> anyhow::Result<Compared> {
    let reference = arguments.reference.as_ref();
    if arguments.maps.given() {
        let Networks { dense, candidates } = arguments.maps.open(reference, arguments.sets.labels.as_deref())?;
        let report = judge(&dense, &candidates, &arguments.rules())?;
        return Ok(Compared { report, dense, candidates, images: None });
    }
    let reference = reference.context("--reference: missing")?;
    if is_record(reference) {
        return compare_with_record(arguments, reference);
    }
    let candidates = open_candidates(arguments)?;
    let told = arguments.sets.dense(reference, &arguments.floor, &candidates)?;
    let asked = told.sets.asked(told.stage, &told.classes, told.batch);
    let read = |done: usize| told.bar.inc(done as u64);
    let explained = explain_candidates(&asked, &candidates, &told.dense.targets, &read)?;
    told.bar.finish_and_clear();
    let mut report = judge(&told.dense, &explained, &arguments.rules())?;
    for (found, (_, candidate)) in report.candidates.iter_mut().zip(&candidates) {
        found.layers = layer_distances(&told.checkpoint, candidate);
    }
    let painter = painter(&arguments.sets.preparation, &told.sets.images)?;
    Ok(Compared { report, dense: told.dense, candidates: explained, images: Some((told.sets.images, painter)) })
}

fn painter(preparation: &ImageArguments, images: &ImageSource) -> anyhow::Result<Painter> {
    let preprocess = preparation.preprocess(images.shape().0)?;
    Ok(Painter::new(images, preparation.said_normalisation(), &preprocess.normalisation))
}

/// Whether a file is a record, by how it begins.
fn is_record(path: &Path) -> bool {
    let mut start = Vec::new();
    // What cannot be read is told by whoever reads it.
    let read = path.is_file() && File::open(path).is_ok_and(|file| file.take(16).read_to_end(&mut start).is_ok());
    read && ReferenceRecord::is_json(&start)
}

fn open_candidates(arguments: &Arguments) -> anyhow::Result<Vec<(PathBuf, Checkpoint)>> {
    let compute = arguments.sets.preparation.compute()?;
    let open = |path: &PathBuf| Ok((path.clone(), open_checkpoint(path, arguments.sets.model, None, &compute)?));
    let mut candidates = arguments.candidate.iter().map(open).collect::<anyhow::Result<Vec<_>>>()?;
    if let Some(mask) = &arguments.mask {
        let mask = TensorFile::open(mask).context("--mask")?;
        for (_, candidate) in &mut candidates {
            apply_mask(Arc::make_mut(&mut candidate.weights), &mask).context("--mask")?;
        }
    }
    Ok(candidates)
}

/// Candidates beside what was recorded: the same images, explained alike.
fn compare_with_record(arguments: &Arguments, reference: &Path) -> anyhow::Result<Compared> {
    let (record, dense) = record::read(reference)?;
    let sets = &arguments.sets;
    let within = || format!("{} (recorded)", reference.display());
    ensure!(arguments.floor.is_empty(), "--floor: {} holds its floor", within());
    ensure!(sets.labels.is_none(), "--labels: {} holds them", within());
    let setting = &record.setting;
    if let Some(stage) = sets.stage {
        ensure!(stage == setting.stage, "--stage: {stage}, but {} is of {}", within(), setting.stage);
    }
    let tested: Classes = setting.tested.parse().with_context(within)?;
    if let Some(classes) = &sets.classes {
        ensure!(*classes == tested, "--classes: {classes}, but {} is of {tested}", within());
    }
    let preparation = sets.preparation.or_said(&setting.preparation, setting.batch.max(1));
    let preparation = preparation.with_context(|| format!("{}: its preparation is damaged", within()))?;
    let images = sets.images.as_ref().unwrap_or(&record.images.argument);
    let recorded = record.concepts.iter().map(|(name, of)| Named { name: name.clone(), images: of.argument.clone() });
    let recorded: Vec<Named> = recorded.collect();
    let concepts = if sets.concept.is_empty() { &recorded } else { &sets.concept };
    let names = |sets: &[Named]| sets.iter().map(|named| named.name.clone()).collect::<Vec<_>>().join(", ");
    ensure!(
        names(concepts) == names(&recorded),
        "--concept: {}, but {} is of {}",
        names(concepts),
        within(),
        names(&recorded)
    );
    let random: Vec<String> = match sets.random.is_empty() {
        true => record.random.iter().map(|of| of.argument.clone()).collect(),
        false => sets.random.clone(),
    };
    let candidates = open_candidates(arguments)?;
    candidates.iter().try_for_each(|(path, network)| check_classes(path, network, record.classes))?;
    let open = Sets::open(images, concepts, &random, &preparation, &candidates[0].1)?;
    check_images("--images", &record.images, &open.images, setting.batch)?;
    for ((name, source), (_, of)) in open.concepts.iter().zip(&record.concepts) {
        check_images(&format!("--concept {name}"), of, source, setting.batch)?;
    }
    ensure!(open.random.len() == record.random.len(), "--random: {} is of {} sets", within(), record.random.len());
    for (source, of) in open.random.iter().zip(&record.random) {
        check_images("--random", of, source, setting.batch)?;
    }
    let bar = terminal::bar("explaining", open.count() * candidates.len());
    let asked = open.asked(setting.stage, &tested, preparation.batch);
    let read = |done: usize| bar.inc(done as u64);
    let explained = explain_candidates(&asked, &candidates, &dense.targets, &read)?;
    bar.finish_and_clear();
    let report = judge(&dense, &explained, &arguments.rules())?;
    let painter = painter(&preparation, &open.images)?;
    Ok(Compared { report, dense, candidates: explained, images: Some((open.images, painter)) })
}
