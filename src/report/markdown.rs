//! The report as GitHub-flavoured Markdown, for pull requests and notes.

use super::Study;
use super::calibration;
use super::checks;
use super::figures;
use super::format;
use super::geometry;
use super::localisation;
use super::methods;
use super::representations;
use super::sections::{forgetting, onsets, views};
use super::statistics;
use super::table::{Cell, Table};
use super::view::{Measure, Spread, View};
use crate::error::Result;
use crate::model::Stage;
use crate::plan::Arm;
use crate::records::{SanityRecord, Verdict};

/// The study as Markdown: verdict, rounds of each arm, concepts, floor, facts.
///
/// # Errors
/// When the plan cannot be read.
pub fn render(study: &Study) -> Result<String> {
    let view = View::new(study)?;
    let manifest = &study.manifest;
    let mut out = format!("# {}\n\n**{}**\n\n", text(&study.name), text(&study.study.answer));
    out += &verdict("A", format::HYPOTHESIS_A, &study.study.hypothesis_a);
    out += &verdict("B", format::HYPOTHESIS_B, &study.study.hypothesis_b);
    let mut warnings: Vec<&String> = study.study.warnings.iter().collect();
    warnings.sort();
    for warning in warnings {
        out += &format!("> **Note:** {}\n\n", text(warning));
    }
    for arm in view.arms() {
        out += &format!("## Rounds: {}\n\n{}\n", text(&format::arm_name(arm)), rounds(&view, arm).markdown());
    }
    let look = localisation::table(&view);
    if !look.rows.is_empty() {
        out += &format!("## Does it look at the object?\n\n{}\n", look.markdown());
    }
    if let Some(note) = localisation::concept_note(&view) {
        out += &format!("{}\n\n", text(&note));
    }
    for stage in view.stages() {
        out += &format!("## Concepts at {stage}, dense and sparsest\n\n{}\n", concepts(&view, stage).markdown());
    }
    let floor = &study.study.floor;
    let level = |measure: Measure| {
        format!(
            "{} {} (twins) and {} (seeds)",
            measure.title().to_lowercase(),
            format::maybe(measure.level(&floor.twins)),
            format::maybe(measure.level(&floor.seeds))
        )
    };
    out += &format!(
        "## Noise floor\n\nMean drift between dense networks, of {} pairs: {}.\n\n",
        view.floor_pairs.len(),
        Measure::DECIDING.map(level).join("; ")
    );
    out += &further(&view);
    out += &format!(
        "## Made from\n\nticketlens {}, {}, plan `{}`, data `{}`, {} with {} threads.\n",
        text(&manifest.version),
        text(&manifest.network),
        digest(&manifest.plan),
        digest(&manifest.data),
        text(&manifest.device),
        manifest.threads
    );
    Ok(out)
}

/// Drift by the further measures, checks of the maps, geometry of the concepts, calibration: each where it is recorded.
fn further(view: &View) -> String {
    let mut out = String::new();
    let mut add = |title: &str, table: &Table| {
        if !table.rows.is_empty() {
            out += &format!("## {title}\n\n{}\n", table.markdown());
        }
    };
    add("The answer by each map", &views(view));
    add("Which saliency method to believe", &methods::table(view));
    add("Has the representation moved?", &representations::table(view));
    add("When each begins to change", &onsets(view));
    add("Do forgotten images drift more?", &forgetting(view));
    add("ρ by every measure of the maps", &measures(view));
    add("Maps of a wholly random network", &checks::flags(view));
    add("Randomised layers", &layers(view));
    for &stage in &view.plan.explain.stages {
        add(&format!("Deletion and insertion at {stage}"), &ends(view, checks::faithfulness_table(view, stage)));
        add(&format!("Cosines of concepts at {stage}"), &ends(view, geometry::entanglement_table(view, stage)));
    }
    add("Concepts by every statistic", &statistics::table(view));
    add("Do the tests hold their level?", &calibration::table(view));
    out
}

/// One row for each arm and round, one column for each measure of maps.
fn measures(view: &View) -> Table {
    let measures: Vec<Measure> = (Measure::all())
        .filter(|&measure| {
            matches!(measure, Measure::Pixels(_)) && view.points.iter().any(|point| point.drift(measure).is_some())
        })
        .collect();
    let mut table = Table::new("", &["arm", "round", "weights kept"]);
    table.columns.extend(measures.iter().map(|measure| measure.title().to_owned()));
    table.columns.push("maps without a pattern".into());
    for point in view.points.iter().filter(|point| point.drift(Measure::DECIDING[0]).is_some()) {
        let mut row = vec![
            Cell::text(format::arm_name(point.arm)),
            Cell::count(point.round),
            Cell::shown(point.density, format::density(point.density)),
        ];
        row.extend(measures.iter().map(|&measure| Cell::maybe(point.drift(measure).map(|spread| spread.mean))));
        let here =
            view.networks.iter().filter(|network| network.id.arm == point.arm && network.id.round == point.round);
        row.push(Cell::count(here.filter_map(|network| Some(network.summary?.drift.degenerate)).sum()));
        table.rows.push(row);
    }
    table
}

/// The cascade of randomised layers, mean over replicates.
fn layers(view: &View) -> Table {
    let mut table = Table::new("", &["randomisation", "layer", "rank correlation, mean over replicates"]);
    let Some(first) = view.sanity.first() else { return table };
    for layer in &first.layers {
        let same = |record: &&SanityRecord| {
            let mut all = record.layers.iter();
            let found = all.find(|other| other.layer == layer.layer && other.randomisation == layer.randomisation);
            Some((record.replicate, found?.similarity?))
        };
        table.rows.push(vec![
            Cell::text(checks::name(layer.randomisation)),
            Cell::text(&layer.layer),
            Cell::maybe(Spread::of(view.sanity.iter().filter_map(same)).map(|spread| spread.mean)),
        ]);
    }
    table
}

/// Of a table with a row for each network, those of the dense and the sparsest round; the columns
/// are arm, replicate, round, ….
fn ends(view: &View, table: Table) -> Table {
    let last = |arm: &str| view.arm(arm).last().map(|point| point.round);
    let names: Vec<(String, Option<usize>)> =
        view.arms().into_iter().map(|arm| (format::arm_name(arm), last(arm))).collect();
    let wanted = |row: &Vec<Cell>| {
        let round = row[2].value.map(|round| round as usize);
        round == Some(0) || names.iter().any(|(name, last)| *name == row[0].text && *last == round)
    };
    let rows = table.rows.iter().filter(|row| wanted(row)).cloned().collect();
    Table { rows, ..table }
}

/// Text in which nothing is markup.
pub(crate) fn text(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    for character in raw.chars() {
        match character {
            '<' => out.push_str("&lt;"),
            '&' => out.push_str("&amp;"),
            '\n' | '\r' => out.push(' '),
            '\\' | '`' | '*' | '_' | '[' | ']' | '#' | '|' | '~' | '!' => out.extend(['\\', character]),
            _ => out.push(character),
        }
    }
    out
}

/// The first twelve hexadecimal digits.
fn digest(raw: &str) -> String {
    raw.chars().filter(char::is_ascii_hexdigit).take(12).collect()
}

fn verdict(letter: &str, hypothesis: &str, verdict: &Verdict) -> String {
    let outcome = format::outcome_name(verdict.outcome);
    format!("**Hypothesis {letter}**, that {hypothesis}: **{outcome}**: {}\n\n", text(&verdict.reason))
}

fn rounds(view: &View, arm: &str) -> Table {
    let columns = [
        "round",
        "weights kept",
        "test accuracy",
        "difference (points)",
        "pixels (ρ)",
        "concepts (ρ)",
        "significant concepts",
        "call",
    ];
    let mut table = Table::new("", &columns);
    let tested = view.tested();
    for point in view.arm(arm) {
        let record = point.record.filter(|_| point.round > 0);
        let beside =
            |text: String, range: Option<String>| range.map_or(text.clone(), |range| format!("{text} ({range})"));
        let difference = record.map(|record| {
            let range = record.accuracy.interval;
            let range = range.map(|range| format!("{} to {}", format::points(range.low), format::points(range.high)));
            let difference = record.accuracy.difference;
            Cell::shown(difference, beside(format::points(difference), range))
        });
        let drift = |measure: Measure| {
            let ratio = point.ratio(measure)?;
            let rho = ratio.rho?;
            Some(Cell::shown(rho, beside(format::number(rho), ratio.interval.map(format::range))))
        };
        let significant =
            point.significant.as_ref().map(|spread| Cell::shown(spread.mean, figures::of(spread, tested)));
        table.rows.push(vec![
            Cell::count(point.round),
            Cell::shown(point.density, format::density(point.density)),
            Cell::percent(point.accuracy.mean, 2),
            difference.unwrap_or_else(Cell::absent),
            drift(Measure::DECIDING[0]).unwrap_or_else(Cell::absent),
            drift(Measure::DECIDING[1]).unwrap_or_else(Cell::absent),
            significant.unwrap_or_else(Cell::absent),
            Cell::text(point.record.map_or(format::ABSENT, |record| format::call_name(record.call))),
        ]);
    }
    table
}

fn concepts(view: &View, stage: Stage) -> Table {
    let columns = [
        "class",
        "concept",
        "effect, dense",
        "effect, sparsest",
        "score, dense",
        "score, sparsest",
        "rounds significant",
    ];
    let mut table = Table::new("", &columns);
    let manifest = &view.study.manifest;
    for class in 0..manifest.classes.len() {
        for concept in &manifest.concepts {
            let bars = view.bars(Arm::Lottery.name(), stage, class, concept);
            let (Some(first), Some(last)) = (bars.first(), bars.last()) else { continue };
            let significant = bars.iter().filter(|bar| bar.significant == bar.replicates).count();
            table.rows.push(vec![
                Cell::text(view.class(class)),
                Cell::text(concept),
                Cell::maybe(first.effect.as_ref().map(|effect| effect.mean)),
                Cell::maybe(last.effect.as_ref().map(|effect| effect.mean)),
                Cell::maybe(first.score.as_ref().map(|score| score.mean)),
                Cell::maybe(last.score.as_ref().map(|score| score.mean)),
                Cell::shown(significant as f64, format!("{significant} of {}", bars.len())),
            ]);
        }
    }
    table
}
