//! `ticketlens report`: a finished run as a page, a text, or data.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use ticketlens::error::printable;
use ticketlens::output::Inputs;
use ticketlens::records::{Store, round_ids};
use ticketlens::report::{self, Maps, RawMaps, Study};

use crate::{output, terminal};

/// Show what a run found
///
/// Example: ticketlens report runs/quick-1a2b3c4d --format html --out report.html
#[derive(Args)]
pub(crate) struct Arguments {
    /// Folder of a finished run
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// What to write
    #[arg(long, value_enum, default_value_t = Format::Html)]
    format: Format,
    /// One figure of the page as SVG in the place of all: `accuracy`, `drift-concepts` and so on;
    /// an unknown name lists them
    #[arg(long, value_name = "NAME", conflicts_with = "format")]
    figure: Option<String>,
    /// Where to write it [default: RUN/report.html for html, the terminal otherwise]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Name of the page in a run's folder.
pub(crate) const PAGE: &str = "report.html";

/// What a report or a comparison is written as.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// One self-contained page
    Html,
    /// Tables for a pull request or a notebook
    Markdown,
    /// Everything, versioned
    Json,
    /// One row for each network
    Csv,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let study = load(&arguments.run)?;
    let text = match (&arguments.figure, arguments.format) {
        (Some(name), _) => figure(&study, name)?,
        (None, Format::Html) => html(&study)?,
        (None, Format::Markdown) => report::markdown::render(&study)?,
        (None, Format::Json) => report::json::render(&study)?,
        (None, Format::Csv) => report::csv::render(&study)?,
    };
    let page = arguments.figure.is_none() && arguments.format == Format::Html;
    let Some(out) = arguments.out.clone().or_else(|| page.then(|| arguments.run.join(PAGE))) else {
        terminal::print(&text);
        return Ok(());
    };
    output::deliver(Some(&out), &text, &records([arguments.run.as_path()]))?;
    terminal::delivered();
    terminal::say(&out.display().to_string());
    Ok(())
}

fn figure(study: &Study, name: &str) -> anyhow::Result<String> {
    let figures = report::svg::figures(study)?;
    let known = figures.iter().map(|(known, _)| known.as_str()).collect::<Vec<_>>().join(", ");
    let found = figures.iter().find(|(known, _)| known == name);
    found.map(|(_, svg)| svg.clone()).ok_or_else(|| anyhow::anyhow!("--figure: there is no `{name}` here: {known}"))
}

/// The files of runs, which no output may replace; a run's page is one.
pub(crate) fn records<'a>(runs: impl IntoIterator<Item = &'a Path>) -> Inputs {
    let mut inputs = Inputs::none();
    runs.into_iter().for_each(|run| inputs.add_below(run, PAGE));
    inputs
}

/// Reads a finished run.
pub(crate) fn load(folder: &Path) -> anyhow::Result<Study> {
    let store = Store::existing(folder)?;
    let plan = store.plan()?;
    let study = store.study()?;
    let mut maps = Maps { pixels: store.images()?.flatten_all()?.to_vec1()?, ..Maps::default() };
    let mut rounds = Vec::new();
    for id in round_ids(&plan) {
        let Some(record) = store.round(&id)? else {
            continue;
        };
        let mut raw = store.maps(&id)?;
        for cam in &record.grad_cam {
            if let Some(tensor) = raw.remove(cam.stage.name()) {
                let values = tensor.flatten_all()?.to_vec1()?;
                maps.raw.insert((id.clone(), cam.stage), RawMaps { size: cam.size, values });
            }
        }
        rounds.push(record);
    }
    let mut sanity = Vec::new();
    for replicate in plan.own_replicates() {
        sanity.extend(store.sanity(replicate)?);
    }
    let (name, plan_toml) = (printable(&plan.name), plan.to_toml()?);
    Ok(Study { name, plan_toml, manifest: store.manifest()?, rounds, study, sanity, maps })
}

/// The table at the end of a run.
pub(crate) fn table(study: &Study) -> anyhow::Result<String> {
    Ok(report::terminal::render(study, terminal::colours())?)
}

/// The page.
pub(crate) fn html(study: &Study) -> anyhow::Result<String> {
    Ok(report::html::render(study)?)
}
