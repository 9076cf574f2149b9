//! The report as one self-contained HTML file: it opens from disk, asks nothing of the network, and reads in light, dark and print.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::Study;
use super::figures::{self, Figure};
use super::format;
use super::maps::Gallery;
use super::table::{Cell, Table};
use super::view::{Measure, Spread, View};
use crate::error::Result;
use crate::experiment::config::Arm;
use crate::experiment::records::{Call, Drift, Outcome, Range, RoundRecord, RoundSummary, Verdict};

const STYLE: &str = include_str!("page/style.css");
/// Rules of drawings, apart so that a downloaded SVG can carry them.
const CHART_STYLE: &str = include_str!("page/chart.css");
const SCRIPT: &str = include_str!("page/script.js");

/// The page. The same records give the same bytes, whatever their order.
///
/// # Errors
/// When the plan cannot be read, or maps and pixels do not have the sizes that the manifest promises.
pub fn render(study: &Study) -> Result<String> {
    let view = View::new(study)?;
    let gallery = Gallery::new(&view)?;
    let body = html! {
        header.top {
            p.kicker { "ticketlens · explanation drift under pruning" }
            h1 { (study.name) }
            p.sub { (subtitle(&view)) }
        }
        (verdict_section(&view))
        @if !study.study.warnings.is_empty() {
            section #warnings aria-label="Warnings" {
                ul.warnings { @for warning in sorted(&study.study.warnings) { li { (warning) } } }
            }
        }
        section #rounds { h2 { "Accuracy and drift" }
            (figure(&figures::accuracy(&view)))
            div.trio {
                @for measure in Measure::ALL {
                    @if let Some(drift) = figures::drift(&view, measure) { (figure(&drift)) }
                }
            }
            (calls(&view))
            @if let Some(paper) = figures::papers_accuracy(&view) { (figure(&paper)) }
        }
        (maps_section(&view, gallery.as_ref())?)
        (concepts_section(&view))
        (trust_section(&view))
        (facts_section(&view))
        footer { p { "Made by ticketlens " (study.manifest.version) " from records alone; the same records give this same file." } }
    };
    Ok(page(&format!("{} · ticketlens", study.name), &body))
}

/// A whole document around `body`.
pub(crate) fn page(title: &str, body: &Markup) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="generator" content="ticketlens";
                title { (title) }
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
                style #chart-style { (PreEscaped(CHART_STYLE)) }
            }
            body {
                svg.defs width="0" height="0" aria-hidden="true" { (hatch()) }
                main { (body) }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    }
    .into_string()
}

/// The hatching of what must not be interpreted.
fn hatch() -> Markup {
    html! {
        defs #chart-defs { pattern #hatch width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)" {
            rect width="5" height="5" class="hatch-ground" {}
            line x1="0" y1="0" x2="0" y2="5" class="hatch-line" {}
        } }
    }
}

fn sorted(texts: &[String]) -> Vec<&String> {
    let mut texts: Vec<&String> = texts.iter().collect();
    texts.sort();
    texts.dedup();
    texts
}

fn subtitle(view: &View) -> String {
    let manifest = &view.study.manifest;
    let replicates = view
        .networks
        .iter()
        .map(|network| network.id.replicate)
        .max()
        .map_or(0, |last| last + 1);
    let rounds = view.arm(Arm::Lottery.name()).len();
    let least = view
        .points
        .iter()
        .map(|point| point.density)
        .fold(1.0, f64::min);
    let [train, _, test] = manifest.images;
    format!(
        "{}, {} against each other, {train} training and {test} test images; {rounds} networks a replicate down to {} of the weights, {replicates} replicates.",
        manifest.network,
        list(&manifest.classes),
        format::density(least),
    )
}

fn list(names: &[String]) -> String {
    match names {
        [] => "no classes".to_owned(),
        [one] => one.clone(),
        [one, two] => format!("{one} and {two}"),
        many => format!("{} classes", many.len()),
    }
}

/// The verdict in two sentences, and the numbers at the sparsest round.
fn verdict_section(view: &View) -> Markup {
    let study = &view.study.study;
    html! {
        section #verdict aria-label="Verdict" {
            div.verdicts {
                (verdict("A", format::HYPOTHESIS_A, &study.hypothesis_a))
                (verdict("B", format::HYPOTHESIS_B, &study.hypothesis_b))
            }
            (key_numbers(view))
        }
    }
}

fn verdict(letter: &str, hypothesis: &str, verdict: &Verdict) -> Markup {
    let (class, symbol) = match verdict.outcome {
        Outcome::Supported => ("supported", "✓"),
        Outcome::Refuted => ("refuted", "✗"),
        Outcome::Inconclusive => ("inconclusive", "?"),
    };
    html! {
        article.verdict.(class) {
            p.outcome { span.symbol aria-hidden="true" { (symbol) } (format::outcome_name(verdict.outcome)) }
            p.sentence {
                strong { "Hypothesis " (letter) } ", that " (hypothesis) ", is "
                @match verdict.outcome { Outcome::Inconclusive => "neither supported nor refuted", other => (format::outcome_name(other)) }
                ": " (verdict.reason)
            }
        }
    }
}

/// Verdicts of several studies: study, hypothesis, outcome, reason.
pub(crate) fn card_of_verdicts(verdicts: &[[String; 4]]) -> Markup {
    html! {
        div.verdicts { @for [study, letter, outcome, reason] in verdicts {
            article.verdict.(outcome) {
                p.outcome { (outcome) }
                p.sentence { strong { (study) ", hypothesis " (letter) } ": " (reason) }
            }
        } }
    }
}

/// What stands out, as a row of numbers with their intervals.
fn key_numbers(view: &View) -> Markup {
    let lottery = view.arm(Arm::Lottery.name());
    let (Some(dense), Some(last)) = (lottery.first(), lottery.last()) else {
        return html! {};
    };
    let confidence = format::percent(view.plan.verdict.confidence, 0);
    let interval = |range: Option<Range>, scale: f64| {
        range.map_or_else(
            || "no interval".to_owned(),
            |range| {
                format!(
                    "{confidence} interval {}",
                    format::range(Range {
                        low: scale * range.low,
                        high: scale * range.high
                    })
                )
            },
        )
    };
    let count = |call: Call| {
        lottery
            .iter()
            .filter(|point| point.call.is_some_and(|c| c.call == call))
            .count()
    };
    let pruned = lottery.iter().filter(|point| point.round > 0).count();
    let preserved = count(Call::A) + count(Call::FaithfulLoser);
    let matching = count(Call::A) + count(Call::DriftedWinner);
    let number = |label: &str, value: String, note: String| {
        html! { div.key { dt { (label) } dd { span.value { (value) } span.note { (note) } } } }
    };
    html! {
        dl.keys {
            (number("Dense accuracy", format::percent(dense.accuracy.mean, 2), format!("{} replicates", dense.accuracy.values.len())))
            @if let Some(call) = last.call.filter(|_| last.round > 0) {
                (number(&format!("Accuracy change at {}", format::density(last.density)), format!("{} pts", format::points(call.accuracy_difference)),
                    interval(call.accuracy_interval, 100.0)))
                (number(&format!("Map drift at {}", format::density(last.density)), call.drift_in_floors.map_or("no floor".into(), |drift| format!("{} × floor", format::number(drift))),
                    interval(call.drift_interval, 1.0)))
            }
            (number("Rounds that match dense", format!("{matching} of {pruned}"), format!("within {} pt of dense", format::short_number(100.0 * view.plan.verdict.accuracy_margin))))
            (number("Rounds that keep explanations", format!("{preserved} of {pruned}"), format!("within {} × floor", format::short_number(1.0 + view.plan.verdict.drift_margin))))
            @if let Some(association) = &view.study.study.association {
                (number("Drift with accuracy loss", format!("ρ = {}", format::number(association.within)), format!("permutation p {}", format::p_value(association.p_value))))
            }
        }
    }
}

/// A figure with its downloads and the table behind it.
pub(crate) fn figure(figure: &Figure) -> Markup {
    html! {
        figure.card id=(figure.id) {
            div.head {
                h3 { (figure.title) }
                div.tools {
                    button type="button" data-download="svg" aria-label=(format!("Download {} as SVG", figure.title)) { "SVG" }
                    button type="button" data-download="csv" aria-label=(format!("Download {} as CSV", figure.title)) { "CSV" }
                }
            }
            div.drawing { (figure.body) }
            figcaption { (figure.caption) }
            details { summary { "Numbers behind it" } (figure.table.html()) }
        }
    }
}

/// A table of its own, downloadable as CSV.
pub(crate) fn table_card(id: &str, title: &str, caption: &Markup, table: &Table) -> Markup {
    html! {
        figure.card id=(id) {
            div.head {
                h3 { (title) }
                div.tools { button type="button" data-download="csv" aria-label=(format!("Download {title} as CSV")) { "CSV" } }
            }
            (table.html())
            figcaption { (caption) }
        }
    }
}

/// The call of every round.
fn calls(view: &View) -> Markup {
    let tested = view.tested();
    let mut kinds: Vec<Call> = Vec::new();
    for call in [
        Call::A,
        Call::B,
        Call::DriftedWinner,
        Call::FaithfulLoser,
        Call::Inconclusive,
    ] {
        if view
            .points
            .iter()
            .any(|point| point.call.is_some_and(|c| c.call == call))
        {
            kinds.push(call);
        }
    }
    html! {
        figure.card #calls {
            div.head { h3 { "Round by round" }
                div.tools { button type="button" data-download="csv" aria-label="Download the rounds as CSV" { "CSV" } } }
            div.scroll tabindex="0" role="region" aria-label="Call of every round" {
                table.sortable.calls {
                    caption { "Call of every arm and round" }
                    thead { tr {
                        @for name in ["arm", "round", "weights kept", "test accuracy", "difference (points)", "drift (floors)", "significant concepts", "call"] {
                            th scope="col" { (name) }
                        }
                    } }
                    tbody { @for point in &view.points { tr {
                        td { (format::arm_name(point.arm)) }
                        td.n data-v=(point.round) { (point.round) }
                        td.n data-v=(point.density) { (format::density(point.density)) }
                        td.n data-v=(point.accuracy.mean) { (format::percent(point.accuracy.mean, 2)) }
                        @match point.call.filter(|call| call.call != Call::Dense) {
                            Some(call) => {
                                td.n data-v=(100.0 * call.accuracy_difference) { (format::points(call.accuracy_difference))
                                    @if let Some(range) = call.accuracy_interval { " " span.interval { "(" (format::points(range.low)) " to " (format::points(range.high)) ")" } } }
                            }
                            None => td.n { (format::ABSENT) },
                        }
                        @match point.drift(Measure::Spearman) {
                            Some(drift) => td.n data-v=(drift.mean) { (format::number(drift.mean))
                                @if let Some(range) = point.call.and_then(|call| call.drift_interval) { " " span.interval { "(" (format::range(range)) ")" } } },
                            None => td.n { (format::ABSENT) },
                        }
                        @match &point.significant {
                            Some(spread) => td.n data-v=(spread.mean) { (figures::of(spread, tested)) },
                            None => td.n { (format::ABSENT) },
                        }
                        @match point.call {
                            Some(call) => td title=(call.reason) { span.call.(call_class(call.call)) { (format::call_name(call.call)) } },
                            None => td { (format::ABSENT) },
                        }
                    } } }
                }
            }
            figcaption {
                @for (index, call) in kinds.iter().enumerate() {
                    @if index > 0 { "; " }
                    span.call.(call_class(*call)) { (format::call_name(*call)) } " " (format::call_meaning(*call))
                }
                "."
            }
            details { summary { "Why each round is called so" } (figures::rounds_table(view).html()) }
        }
    }
}

fn call_class(call: Call) -> &'static str {
    match call {
        Call::A => "call-a",
        Call::B => "call-b",
        Call::DriftedWinner => "call-drifted",
        Call::FaithfulLoser => "call-faithful",
        Call::Inconclusive | Call::Dense => "call-none",
    }
}

/// Grad-CAM: the grid over the rounds and the explorer.
fn maps_section(view: &View, gallery: Option<&Gallery>) -> Result<Markup> {
    let Some(gallery) = gallery else {
        return Ok(html! {});
    };
    let mut grids = Vec::new();
    for &stage in &view.plan.explain.stages {
        if let Some(body) = gallery.grids(stage)? {
            grids.push(Figure {
                id: format!("maps-{stage}"),
                title: format!("Where it looks, round by round ({stage})"),
                caption: html! {
                    "Grad-CAM of the true class over the digit or photograph, first replicate, one image of each kind. Each map is scaled to its own "
                    "maximum (yellow); crossed out where a map is zero everywhere. Colours: viridis."
                },
                body,
                table: degenerate_table(view),
            });
        }
    }
    Ok(html! {
        section #maps {
            h2 { "Where the network looks" }
            @for grid in &grids { (figure(grid)) }
            figure.card #explorer {
                div.head { h3 { "Look for yourself" }
                    div.tools { button type="button" data-download="svg" aria-label="Download the shown maps as SVG" { "SVG" }
                        button type="button" data-download="csv" aria-label="Download the shown predictions as CSV" { "CSV" } } }
                noscript { p { "The explorer needs JavaScript; the grid above does not." } }
                div.controls {
                    label { "Network " select #line {} }
                    fieldset #views { legend { "View" }
                        label { input type="radio" name="view" value="overlay" checked; " overlay" }
                        label { input type="radio" name="view" value="raw"; " raw map" }
                        label { input type="radio" name="view" value="top"; " top 20 %" }
                    }
                    label { input #beside type="checkbox"; " dense beside" }
                    label.slider { span { "Round" } input #round type="range" min="0" max="0" value="0" step="1"; }
                    button #play type="button" { "Play" }
                }
                p #state role="status" {}
                div #tiles.tiles {}
                figcaption {
                    "Every map is scaled to its own maximum. " em { "Top 20 %" } " lights the fifth of positions with the highest values, what the overlap drift compares. "
                    "A tile with a thick frame is misclassified; a crossed-out tile has a map that is zero everywhere."
                    @if gallery.left_out() > 0 { " " (gallery.left_out()) " further images enter the numbers and are not shown." }
                }
                details { summary { "Numbers behind it" }
                    div.scroll tabindex="0" role="region" aria-label="Shown images" {
                        table.sortable #shown { caption { "Shown images in the chosen round" }
                            thead { tr { th scope="col" { "image" } th scope="col" { "class" } th scope="col" { "predicted" } th scope="col" { "map" } } }
                            tbody {}
                        }
                    }
                }
            }
            script #maps-data type="application/json" { (PreEscaped(gallery.json()?)) }
        }
    })
}

fn degenerate_table(view: &View) -> Table {
    let mut table = Table::new(
        "Maps that are zero everywhere, and images that both networks classify correctly",
        &[
            "arm",
            "replicate",
            "round",
            "weights kept",
            "stage",
            "zero maps",
            "images compared",
            "map rank drift",
            "same, all images",
            "top-20 % drift",
        ],
    );
    for network in &view.networks {
        for cam in &network.record.grad_cam {
            let summary = network
                .summary
                .filter(|_| Some(cam.stage) == view.first_stage());
            let measure = |value: fn(&Drift) -> Option<f64>| {
                Cell::maybe(summary.and_then(|summary| value(&summary.drift)))
            };
            table.rows.push(vec![
                Cell::text(format::arm_name(&network.id.arm)),
                Cell::count(network.id.replicate),
                Cell::count(network.id.round),
                Cell::shown(
                    network.record.density,
                    format::density(network.record.density),
                ),
                Cell::text(cam.stage.name()),
                Cell::count(cam.degenerate.iter().filter(|&&flag| flag).count()),
                summary.map_or_else(Cell::absent, |summary| Cell::count(summary.drift.images)),
                measure(|drift| drift.spearman),
                measure(|drift| drift.spearman_all),
                measure(|drift| drift.iou),
            ]);
        }
    }
    table
}

/// TCAV by stage and class.
fn concepts_section(view: &View) -> Markup {
    let manifest = &view.study.manifest;
    html! {
        @for (index, &stage) in view.stages().iter().enumerate() {
            @let inner = html! {
                @for class in 0..manifest.classes.len() {
                    @if let Some(tcav) = figures::tcav(view, stage, class, &manifest.concepts) { (figure(&tcav)) }
                }
                @for profile in figures::profile(view, stage) { (figure(&profile)) }
            };
            section id=(format!("concepts-{stage}")) {
                h2 { "What the network uses (" (stage.name()) ")" }
                @if index == 0 { (inner) } @else { details.stage { summary { "Show " (stage.name()) } (inner) } }
                @if index == 0 { @if let Some(paper) = figures::papers_profile(view) { (figure(&paper)) } }
            }
        }
    }
}

/// The floor and the tests side by side.
fn trust_section(view: &View) -> Markup {
    let mut floor = Table::new(
        "Drift between dense networks that differ by seed alone",
        &[
            "replicates",
            "map rank drift",
            "same, all images",
            "top-20 % drift",
            "concept-profile drift",
            "score-profile drift",
            "images",
            "zero maps",
        ],
    );
    for pair in &view.floor_pairs {
        let drift = &pair.drift;
        floor.rows.push(vec![
            Cell::text(format!("{} and {}", pair.first, pair.second)),
            Cell::maybe(drift.spearman),
            Cell::maybe(drift.spearman_all),
            Cell::maybe(drift.iou),
            Cell::maybe(drift.profile),
            Cell::maybe(drift.score_profile),
            Cell::count(drift.images),
            Cell::count(drift.degenerate),
        ]);
    }
    let alpha = view.plan.statistics.alpha;
    let tests = tests_table(view, alpha);
    let flips = flips(view);
    html! {
        section #trust {
            h2 { "What the numbers rest on" }
            (table_card("floor", "The noise floor", &html! {
                "Drift is divided by the mean of these pairs. Two replicates give one pair and a rough floor; five give ten."
            }, &floor))
            (table_card("tests", "Three tests side by side", &html! {
                "Level " (alpha) ". The effect’s label permutation and the score’s exchangeability test hold their level and are adjusted over the whole family; the customary "
                "Welch test shares one concept set among its scores and rejects meaningless concepts in 30–70 % of cases: it stands here for comparison with published work only."
            }, &tests))
            @if !flips.rows.is_empty() {
                (table_card("flips", "Concepts that gained, lost or flipped significance against dense", &html! {
                    "Per replicate, at the first stage, as class/concept."
                }, &flips))
            }
        }
    }
}

/// How many concepts each test calls significant, round by round.
fn tests_table(view: &View, alpha: f64) -> Table {
    let mut table = Table::new(
        "Concepts that each test calls significant (lottery arm, all stages and classes; lowest to highest replicate)",
        &[
            "round",
            "weights kept",
            "effect, adjusted",
            "score, adjusted",
            "legacy Welch, as published",
        ],
    );
    for point in view.arm(Arm::Lottery.name()) {
        let networks = view
            .networks
            .iter()
            .filter(|network| network.id.arm == point.arm && network.id.round == point.round);
        let networks: Vec<_> = networks
            .filter_map(|network| Some((network.id.replicate, network.record, network.summary?)))
            .collect();
        let Some(tested) = networks
            .iter()
            .map(|(_, record, _)| record.tcav.len())
            .max()
        else {
            continue;
        };
        let cell = |count: &dyn Fn(&RoundRecord, &RoundSummary) -> usize| {
            let spread =
                Spread::of(networks.iter().map(|&(replicate, record, summary)| {
                    (replicate, count(record, summary) as f64)
                }));
            spread.map_or_else(Cell::absent, |spread| {
                Cell::shown(spread.mean, figures::of(&spread, tested))
            })
        };
        table.rows.push(vec![
            Cell::count(point.round),
            Cell::shown(point.density, format::density(point.density)),
            cell(&|_, summary| {
                summary
                    .adjusted
                    .iter()
                    .filter(|adjusted| adjusted.effect_p <= alpha)
                    .count()
            }),
            cell(&|_, summary| {
                summary
                    .adjusted
                    .iter()
                    .filter(|adjusted| adjusted.score_p <= alpha)
                    .count()
            }),
            cell(&|record, _| {
                record
                    .tcav
                    .iter()
                    .filter(|tcav| tcav.legacy_welch_p.is_some_and(|p| p <= alpha))
                    .count()
            }),
        ]);
    }
    table
}

fn flips(view: &View) -> Table {
    let mut table = Table::new(
        "Changes of significance or sign",
        &["arm", "replicate", "round", "how many", "which"],
    );
    for network in &view.networks {
        let Some(summary) = network
            .summary
            .filter(|summary| !summary.drift.flipped.is_empty())
        else {
            continue;
        };
        let flipped = sorted(&summary.drift.flipped);
        table.rows.push(vec![
            Cell::text(format::arm_name(&network.id.arm)),
            Cell::count(network.id.replicate),
            Cell::count(network.id.round),
            Cell::count(flipped.len()),
            Cell::text(flipped.into_iter().cloned().collect::<Vec<_>>().join(", ")),
        ]);
    }
    table
}

/// Plan, versions, hashes and times.
fn facts_section(view: &View) -> Markup {
    let manifest = &view.study.manifest;
    let (train, explain) = view.seconds();
    let [channels, height, width] = manifest.image_shape;
    let mut networks = Table::new(
        "Every network",
        &[
            "arm",
            "replicate",
            "round",
            "weights kept",
            "kept",
            "of",
            "test accuracy",
            "validation accuracy",
            "last loss (nats)",
            "training (s)",
            "explaining (s)",
            "digest of the weights",
        ],
    );
    for network in &view.networks {
        let record = network.record;
        networks.rows.push(vec![
            Cell::text(format::arm_name(&network.id.arm)),
            Cell::count(network.id.replicate),
            Cell::count(network.id.round),
            Cell::shown(record.density, format::density(record.density)),
            Cell::count(record.kept),
            Cell::count(record.total),
            Cell::percent(record.test_accuracy, 2),
            Cell::percent(record.validation_accuracy, 2),
            Cell::maybe(record.epoch_loss.last().copied()),
            Cell::number(record.seconds.train),
            Cell::number(record.seconds.explain),
            Cell::text(record.weights.chars().take(12).collect::<String>()),
        ]);
    }
    let facts: [(&str, String); 9] = [
        ("ticketlens", manifest.version.clone()),
        ("Network", manifest.network.clone()),
        (
            "Images",
            format!(
                "{channels}×{height}×{width}; {} training, {} validation, {} test",
                manifest.images[0], manifest.images[1], manifest.images[2]
            ),
        ),
        (
            "Device",
            format!("{}, {} threads", manifest.device, manifest.threads),
        ),
        ("CPU features", manifest.cpu_features.join(", ")),
        ("Plan digest", manifest.plan.clone()),
        ("Data digest", manifest.data.clone()),
        ("Training time", format::duration(train)),
        ("Explaining time", format::duration(explain)),
    ];
    html! {
        section #facts {
            h2 { "Plan, versions, hashes and times" }
            div.card { dl.facts { @for (name, value) in &facts { dt { (name) } dd { (value) } } } }
            div.card { details { summary { "The plan (plan.toml)" } pre tabindex="0" { (view.study.plan_toml) } } }
            (table_card("networks", "Every network", &html! { "Times are wall-clock seconds on this device." }, &networks))
        }
    }
}
