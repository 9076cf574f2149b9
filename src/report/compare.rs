//! Two studies side by side, matched by density: other arms, seeds, presets or versions. It says what cannot be compared.

use std::collections::BTreeSet;

use maud::html;
use serde::Serialize;

use super::Study;
use super::chart::{Axis, Chart, Layer, Mark, SMALL, Shape};
use super::figures::{Figure, paper_curve};
use super::format;
use super::html::{figure, page, table_card};
use super::markdown;
use super::table::{Cell, Table};
use super::view::{Bar, Measure, Point, View};
use crate::error::{Error, Result};
use crate::plan::Arm;
use crate::records::Call;

/// Densities further apart than this ratio are not matched.
const MOST_APART: f64 = 1.12;

/// Two studies, matched.
struct Comparison<'a> {
    first: &'a View<'a>,
    second: &'a View<'a>,
    /// What they are called here: told apart even where their names are equal.
    names: [String; 2],
    /// What a reader must know before comparing.
    cautions: Vec<String>,
    /// Arms that both have, or the lottery arm.
    pairs: Vec<Pair<'a>>,
    /// Points without a partner, in words.
    unmatched: Vec<String>,
}

/// Two points of nearly equal density.
struct Pair<'a> {
    first: &'a Point<'a>,
    second: &'a Point<'a>,
    /// Root mean square difference of the standardised effects over shared concepts at a shared stage, lottery arm only.
    profile: Option<f64>,
    /// Shared concepts whose effect has another sign.
    opposite: Option<(usize, usize)>,
}

/// The comparison as one self-contained HTML page.
///
/// # Errors
/// When a plan cannot be read.
pub fn html(first: &Study, second: &Study) -> Result<String> {
    let (one, two) = (View::new(first)?, View::new(second)?);
    let comparison = Comparison::new(&one, &two);
    let title = format!("{} beside {}", comparison.names[0], comparison.names[1]);
    let body = html! {
        header.top {
            p.kicker { "ticketlens · two studies side by side" }
            h1 { (title) }
            p.sub { (comparison.pairs.len()) " pairs of rounds whose densities agree within a factor of " (MOST_APART) "." }
        }
        section #verdict aria-label="Verdicts" { (super::html::card_of_verdicts(&comparison.verdicts())) }
        section #cautions { h2 { "What cannot be compared" }
            @if comparison.cautions.is_empty() && comparison.unmatched.is_empty() { p { "Nothing stands in the way." } }
            ul { @for caution in comparison.cautions.iter().chain(&comparison.unmatched) { li { (caution) } } }
        }
        section #differences { h2 { "Round by round" }
            div.trio {
                (figure(&comparison.chart(true)))
                (figure(&comparison.chart(false)))
            }
            (table_card("pairs", "Matched rounds", &html! {
                "Differences are second minus first. Drift is in units of each study’s own floor. The profile difference is the root mean square "
                "difference of standardised concept effects, over the concepts that both studies know."
            }, &comparison.table()))
        }
    };
    Ok(page(&title, &body))
}

/// The comparison as Markdown.
///
/// # Errors
/// When a plan cannot be read.
pub fn markdown(first: &Study, second: &Study) -> Result<String> {
    let (one, two) = (View::new(first)?, View::new(second)?);
    let comparison = Comparison::new(&one, &two);
    let mut out =
        format!("# {} beside {}\n\n", markdown::text(&comparison.names[0]), markdown::text(&comparison.names[1]));
    for [study, letter, outcome, reason] in comparison.verdicts() {
        out += &format!(
            "- **{}**, hypothesis {letter}: **{outcome}**: {}\n",
            markdown::text(&study),
            markdown::text(&reason)
        );
    }
    out += "\n## What cannot be compared\n\n";
    for caution in comparison.cautions.iter().chain(&comparison.unmatched) {
        out += &format!("- {}\n", markdown::text(caution));
    }
    if comparison.cautions.is_empty() && comparison.unmatched.is_empty() {
        out += "Nothing stands in the way.\n";
    }
    out += &format!("\n## Matched rounds\n\n{}", comparison.table().markdown());
    Ok(out)
}

/// The matched rounds as CSV.
///
/// # Errors
/// When a plan cannot be read.
pub fn csv(first: &Study, second: &Study) -> Result<String> {
    let (one, two) = (View::new(first)?, View::new(second)?);
    Ok(Comparison::new(&one, &two).table().csv())
}

/// The comparison as JSON (`docs/report-schema.md`).
///
/// # Errors
/// When a plan cannot be read.
pub fn json(first: &Study, second: &Study) -> Result<String> {
    #[derive(Serialize)]
    struct Json<'a> {
        schema: &'static str,
        schema_version: u32,
        first: &'a str,
        second: &'a str,
        cautions: Vec<&'a String>,
        pairs: Vec<JsonPair<'a>>,
    }
    #[derive(Serialize)]
    struct JsonPair<'a> {
        arm: &'a str,
        rounds: [usize; 2],
        densities: [f64; 2],
        test_accuracies: [f64; 2],
        drifts_in_floors: [Option<f64>; 2],
        calls: [Option<Call>; 2],
        profile_difference: Option<f64>,
        opposite_signs: Option<usize>,
    }
    let (one, two) = (View::new(first)?, View::new(second)?);
    let comparison = Comparison::new(&one, &two);
    fn json_pair<'a>(pair: &Pair<'a>) -> JsonPair<'a> {
        let both = [pair.first, pair.second];
        JsonPair {
            arm: pair.first.arm,
            rounds: both.map(|point| point.round),
            densities: both.map(|point| point.density),
            test_accuracies: both.map(|point| point.accuracy.mean),
            drifts_in_floors: both.map(|point| point.drift(Measure::Spearman).map(|drift| drift.mean)),
            calls: both.map(|point| point.call.map(|call| call.call)),
            profile_difference: pair.profile,
            opposite_signs: pair.opposite.map(|(opposite, _)| opposite),
        }
    }
    let json = Json {
        schema: "ticketlens.compare",
        schema_version: super::json::SCHEMA_VERSION,
        first: &first.name,
        second: &second.name,
        cautions: comparison.cautions.iter().chain(&comparison.unmatched).collect(),
        pairs: comparison.pairs.iter().map(json_pair).collect(),
    };
    let text = serde_json::to_string_pretty(&json).map_err(|error| Error::input(format!("comparison: {error}")))?;
    Ok(text + "\n")
}

impl<'a> Comparison<'a> {
    fn new(first: &'a View<'a>, second: &'a View<'a>) -> Self {
        let mut names = [first, second].map(|view| view.study.name.clone());
        if names[0] == names[1] {
            names = [format!("{} (first)", names[0]), format!("{} (second)", names[1])];
        }
        let mut pairs = Vec::new();
        let mut unmatched = Vec::new();
        for arm in first.arms() {
            let others = second.arm(arm);
            if others.is_empty() {
                unmatched.push(format!("{}: no {} arm", names[1], format::arm_name(arm)));
                continue;
            }
            let mut alone = Vec::new();
            for point in first.arm(arm) {
                let apart = |other: &&&Point| (other.density / point.density).ln().abs();
                let nearest = others.iter().min_by(|a, b| apart(a).total_cmp(&apart(b)));
                match nearest.filter(|other| apart(other) <= MOST_APART.ln()) {
                    Some(other) => pairs.push(Self::pair(first, second, point, other)),
                    None => alone.push(point.round.to_string()),
                }
            }
            if !alone.is_empty() {
                let rounds = alone.join(", ");
                unmatched.push(format!(
                    "{}, {}: no partner of like density for rounds {rounds}",
                    names[0],
                    format::arm_name(arm)
                ));
            }
        }
        for arm in second.arms() {
            if first.arm(arm).is_empty() {
                unmatched.push(format!("{}: no {} arm", names[0], format::arm_name(arm)));
            }
        }
        Self { first, second, names, cautions: cautions(first, second), pairs, unmatched }
    }

    fn pair(first: &'a View<'a>, second: &'a View<'a>, one: &'a Point<'a>, two: &'a Point<'a>) -> Pair<'a> {
        let shared = shared_effects(first, second, one, two);
        let count = shared.len();
        let squares: f64 = shared.iter().map(|(a, b)| (a - b) * (a - b)).sum();
        let opposite = shared.iter().filter(|(a, b)| a * b < 0.0).count();
        Pair {
            first: one,
            second: two,
            profile: (count > 0).then(|| (squares / count as f64).sqrt()),
            opposite: (count > 0).then_some((opposite, count)),
        }
    }

    /// Study, hypothesis, outcome, reason.
    fn verdicts(&self) -> Vec<[String; 4]> {
        let mut out = Vec::new();
        for (view, name) in [self.first, self.second].into_iter().zip(&self.names) {
            let record = &view.study.study;
            for (letter, verdict) in [("A", &record.hypothesis_a), ("B", &record.hypothesis_b)] {
                let outcome = format::outcome_name(verdict.outcome).to_owned();
                out.push([name.clone(), letter.to_owned(), outcome, verdict.reason.clone()]);
            }
        }
        out
    }

    fn table(&self) -> Table {
        let [one, two] = &self.names;
        let mut table = Table::new(
            "Matched rounds of both studies",
            &["arm", "round, first", "round, second", "weights kept, first", "weights kept, second"],
        );
        table.columns.extend([
            format!("accuracy, {one}"),
            format!("accuracy, {two}"),
            "difference (points)".to_owned(),
            format!("drift (floors), {one}"),
            format!("drift (floors), {two}"),
            "profile difference (SDs)".to_owned(),
            "concepts of opposite sign".to_owned(),
            format!("call, {one}"),
            format!("call, {two}"),
        ]);
        for pair in &self.pairs {
            let (a, b) = (pair.first, pair.second);
            let kept = |point: &Point| Cell::shown(point.density, format::density(point.density));
            let drift = |point: &Point| Cell::maybe(point.drift(Measure::Spearman).map(|drift| drift.mean));
            let call =
                |point: &Point| Cell::text(point.call.map_or(format::ABSENT, |call| format::call_name(call.call)));
            let difference = b.accuracy.mean - a.accuracy.mean;
            table.rows.push(vec![
                Cell::text(format::arm_name(a.arm)),
                Cell::count(a.round),
                Cell::count(b.round),
                kept(a),
                kept(b),
                Cell::percent(a.accuracy.mean, 2),
                Cell::percent(b.accuracy.mean, 2),
                Cell::shown(100.0 * difference, format::points(difference)),
                drift(a),
                drift(b),
                Cell::maybe(pair.profile),
                pair.opposite.map_or_else(Cell::absent, |(n, of)| Cell::shown(n as f64, format!("{n} of {of}"))),
                call(a),
                call(b),
            ]);
        }
        table
    }

    /// Lottery arms of both studies: accuracy, or drift in floor units.
    fn chart(&self, accuracy: bool) -> Figure {
        let value = |point: &Point| {
            if accuracy { Some(point.accuracy.mean) } else { point.drift(Measure::Spearman).map(|drift| drift.mean) }
        };
        let mut layers = Vec::new();
        let mut table = Table::new("Lottery arms of both studies", &["study", "round", "weights kept", "value"]);
        let mut all = Vec::new();
        let mut legend = Vec::new();
        if accuracy && [self.first, self.second].iter().all(|view| view.like_papers_mnist()) {
            let (paper, points) = paper_curve();
            layers.extend(paper);
            all.extend(points);
            legend.push(("the paper, figure 2".to_owned(), "paper".to_owned(), Shape::Diamond));
        }
        let [one, two] = &self.names;
        let styles = [(self.first, one, "s0", Shape::Circle), (self.second, two, "s1", Shape::Square)];
        for (view, name, class, shape) in styles {
            let points: Vec<(f64, f64, usize)> = view
                .arm(Arm::Lottery.name())
                .into_iter()
                .filter_map(|point| Some((point.density, value(point)?, point.round)))
                .collect();
            let mark = |&(x, y, round): &(f64, f64, usize)| {
                let shown = if accuracy { format::percent(y, 2) } else { format!("{} floors", format::number(y)) };
                Mark { x, y, whisker: None, title: format!("{name}, round {round}: {shown}") }
            };
            layers.push(Layer::Line { class: class.into(), points: points.iter().map(|&(x, y, _)| (x, y)).collect() });
            layers.push(Layer::Marks { class: class.into(), shape, marks: points.iter().map(mark).collect() });
            for &(density, value, round) in &points {
                all.push((density, value));
                let kept = Cell::shown(density, format::density(density));
                table.rows.push(vec![Cell::text(name), Cell::count(round), kept, Cell::number(value)]);
            }
        }
        if !accuracy {
            layers.insert(0, Layer::Rule { y: 1.0, class: "floor" });
        }
        let highest = all.iter().map(|&(_, value)| value).fold(1.0, f64::max);
        let values = all.iter().map(|&(_, value)| value);
        let (title, y) = if accuracy {
            ("Accuracy", Axis::around(values, true))
        } else {
            ("Map rank drift", Axis::Linear { low: 0.0, high: 1.1 * highest })
        };
        let chart = Chart {
            alt: format!("{title} against density of {one} and {two}."),
            x: Axis::density(all.iter().map(|&(density, _)| density)),
            y,
            x_label: "weights kept (log scale)",
            y_label: if accuracy { "test accuracy" } else { "drift from dense, floor = 1" },
            layers,
            legend: {
                legend.extend(styles.map(|(_, name, class, shape)| (name.clone(), class.to_owned(), shape)));
                legend
            },
        };
        Figure {
            id: if accuracy { "accuracy" } else { "drift" }.into(),
            title: title.into(),
            caption: html! { "Lottery tickets, mean over replicates." },
            body: chart.svg(SMALL),
            table,
        }
    }
}

/// Standardised effects that both studies have at these points, at a stage that both use, by names of class and concept.
fn shared_effects(first: &View, second: &View, one: &Point, two: &Point) -> Vec<(f64, f64)> {
    let second_stages = second.stages();
    let Some(stage) = first.stages().into_iter().find(|stage| second_stages.contains(stage)) else { return Vec::new() };
    let mean = |bars: Vec<Bar>, round: usize| {
        bars.into_iter().find(|bar| bar.round == round).and_then(|bar| bar.effect).map(|effect| effect.mean)
    };
    let mut shared = Vec::new();
    for (class, name) in first.study.manifest.classes.iter().enumerate() {
        let Some(other) = second.study.manifest.classes.iter().position(|candidate| candidate == name) else {
            continue;
        };
        for concept in &first.study.manifest.concepts {
            let a = mean(first.bars(one.arm, stage, class, concept), one.round);
            let b = mean(second.bars(two.arm, stage, other, concept), two.round);
            shared.extend(a.zip(b));
        }
    }
    shared
}

/// What differs between two studies and limits what their difference can mean.
fn cautions(first: &View, second: &View) -> Vec<String> {
    let (a, b) = (&first.study.manifest, &second.study.manifest);
    let mut out = Vec::new();
    let mut differ = |what: &str, one: String, two: String| {
        if one != two {
            out.push(format!("{what}: {one} against {two}"));
        }
    };
    let short = |digest: &str| digest.chars().take(12).collect::<String>();
    differ("other images", short(&a.data), short(&b.data));
    differ("image shape", format!("{:?}", a.image_shape), format!("{:?}", b.image_shape));
    differ("classes", a.classes.join(", "), b.classes.join(", "));
    differ("network", a.network.clone(), b.network.clone());
    let width = |view: &View| view.plan.model.width.map_or("the family's own".into(), |width| width.to_string());
    differ("width", width(first), width(second));
    let stages = |view: &View| view.plan.explain.stages.iter().map(|stage| stage.name()).collect::<Vec<_>>().join(", ");
    differ("stages", stages(first), stages(second));
    differ("ticketlens version", a.version.clone(), b.version.clone());
    let margin = |view: &View| format!("{} and {}", view.plan.verdict.accuracy_margin, view.plan.verdict.drift_margin);
    differ("margins of accuracy and drift, so calls mean different things", margin(first), margin(second));
    let (ours, theirs): (BTreeSet<&String>, BTreeSet<&String>) =
        (a.concepts.iter().collect(), b.concepts.iter().collect());
    let only: Vec<&str> = ours.symmetric_difference(&theirs).map(|name| name.as_str()).collect();
    if !only.is_empty() {
        out.push(format!("concepts that one study lacks: {}", only.join(", ")));
    }
    let floors = [first, second].map(|view| Measure::Spearman.floor(&view.study.study.floor));
    match floors {
        [Some(one), Some(two)] if (one / two).ln().abs() > 1.25f64.ln() => {
            out.push(format!(
                "floors differ ({} against {}): compare raw drift as well",
                format::number(one),
                format::number(two)
            ));
        }
        [Some(_), Some(_)] => {}
        _ => out.push("a study has no noise floor: its drift has no unit".to_owned()),
    }
    out
}
