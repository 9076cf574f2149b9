//! Sections of the page below the verdict: maps, concepts, what the numbers rest on, facts.

use maud::{Markup, PreEscaped, html};

use super::calibration;
use super::figures::{self, Figure};
use super::format;
use super::maps::Gallery;
use super::page::{figure, sorted, table_card};
use super::profile;
use super::table::{Cell, Table};
use super::view::{Measure, Spread, View};
use crate::error::Result;
use crate::model::Stage;
use crate::plan::Arm;
use crate::records::{NetworkSummary, RoundRecord};

/// Grad-CAM: the grid over the rounds and the explorer.
pub(crate) fn maps(view: &View, gallery: Option<&Gallery>) -> Result<Markup> {
    let Some(gallery) = gallery else { return Ok(html! {}) };
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
        ],
    );
    for network in &view.networks {
        for cam in &network.record.grad_cam {
            let summary = network.summary.filter(|_| Some(cam.stage) == view.first_stage());
            let ranks = Measure::DECIDING[0];
            let recorded = summary.and_then(|summary| ranks.recorded(&summary.drift));
            table.rows.push(vec![
                Cell::text(format::arm_name(&network.id.arm)),
                Cell::count(network.id.replicate),
                Cell::count(network.id.round),
                Cell::shown(network.record.density, format::density(network.record.density)),
                Cell::text(cam.stage.name()),
                Cell::count(cam.degenerate.iter().filter(|&&flag| flag).count()),
                summary.map_or_else(Cell::absent, |summary| Cell::count(summary.drift.images)),
                Cell::maybe(recorded.and_then(|drift| drift.both_right)),
                Cell::maybe(recorded.and_then(|drift| drift.all)),
            ]);
        }
    }
    table
}

/// TCAV by stage and class.
pub(crate) fn concepts(view: &View) -> Markup {
    let manifest = &view.study.manifest;
    html! {
        @for (index, &stage) in view.stages().iter().enumerate() {
            @let inner = html! {
                @for class in 0..manifest.classes.len() {
                    @if let Some(tcav) = profile::tcav(view, stage, class, &manifest.concepts) { (figure(&tcav)) }
                }
                @for profile in profile::profile(view, stage) { (figure(&profile)) }
            };
            section id=(format!("concepts-{stage}")) {
                h2 { "What the network uses (" (stage.name()) ")" }
                @if scores_say_nothing(view, stage) { p {
                    "Every TCAV score here is 0 or 1: behind a pooled, linear head all images of a class have the same gradient, so the count of signs can be "
                    "nothing else. Read the effect; the score needs an earlier stage (explain.stages)."
                } }
                @if let Some(note) = super::localisation::concept_note(view).filter(|_| index == 0) { p { (note) } }
                @if index == 0 { (inner) } @else { details.stage { summary { "Show " (stage.name()) } (inner) } }
                @if index == 0 { @if let Some(paper) = profile::papers_profile(view) { (figure(&paper)) } }
            }
        }
    }
}

/// Whether every TCAV score at a stage is 0 or 1, as at the last stage before a pooled, linear head.
fn scores_say_nothing(view: &View, stage: Stage) -> bool {
    let mut scores =
        view.effects.iter().filter(|effect| effect.record.stage == stage).map(|effect| effect.record.score);
    scores.clone().next().is_some() && scores.all(|score| score == 0.0 || score == 1.0)
}

/// The floor and the tests side by side.
pub(crate) fn trust(view: &View) -> Markup {
    let mut floor = Table::new(
        "Drift between dense networks: twins (the same θ_k, another data order) and other seeds",
        &[
            "what differs",
            "replicates",
            "map ranks",
            "same, all images",
            "concept profile",
            "score profile",
            "images",
            "zero maps",
        ],
    );
    for pair in &view.floor_pairs {
        let drift = &pair.drift;
        let ranks = Measure::DECIDING[0].recorded(drift);
        let (what, replicates) = match pair.second.is_twin() {
            true => ("data order", format!("{}, {}", pair.first.replicate, pair.second.arm)),
            false => ("seed", format!("{} and {}", pair.first.replicate, pair.second.replicate)),
        };
        floor.rows.push(vec![
            Cell::text(what),
            Cell::text(replicates),
            Cell::maybe(ranks.and_then(|drift| drift.both_right)),
            Cell::maybe(ranks.and_then(|drift| drift.all)),
            Cell::maybe(drift.concepts),
            Cell::maybe(drift.scores),
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
                "What retraining without pruning does. ρ compares a ticket with its parent’s twins; other seeds are the wider floor, shown beside."
            }, &floor))
            (table_card("tests", "Three tests side by side", &html! {
                "Level " (alpha) ". Answers rest on the effect. The score’s own test compares the concept with " (view.plan.explain.random_sets)
                " random sets, so its p is at least " (format::number(1.0 / (view.plan.explain.random_sets as f64 + 1.0))) " before adjustment: after it, few or no scores can be significant. The effect’s label permutation and the score’s exchangeability test hold their level and are adjusted over the whole family; the customary "
                "Welch test shares one concept set among its scores and rejects meaningless concepts in 30–70 % of cases: it stands here for comparison with published work only."
            }, &tests))
            (figure(&calibration::calibration(view)))
            @if !flips.rows.is_empty() {
                (table_card("flips", "Concepts that gained, lost or flipped significance against the parent", &html! {
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
        &["round", "weights kept", "effect, adjusted", "score, adjusted", "legacy Welch, as published"],
    );
    for point in view.arm(Arm::Lottery.name()) {
        let networks =
            view.networks.iter().filter(|network| network.id.arm == point.arm && network.id.round == point.round);
        let networks: Vec<_> =
            networks.filter_map(|network| Some((network.id.replicate, network.record, network.summary?))).collect();
        let Some(tested) = networks.iter().map(|(_, record, _)| record.tcav.len()).max() else { continue };
        let cell = |count: &dyn Fn(&RoundRecord, &NetworkSummary) -> usize| {
            let spread = Spread::of(
                networks.iter().map(|&(replicate, record, summary)| (replicate, count(record, summary) as f64)),
            );
            spread.map_or_else(Cell::absent, |spread| Cell::shown(spread.mean, figures::of(&spread, tested)))
        };
        table.rows.push(vec![
            Cell::count(point.round),
            Cell::shown(point.density, format::density(point.density)),
            cell(&|_, summary| summary.adjusted.iter().filter(|adjusted| adjusted.effect_p <= alpha).count()),
            cell(&|_, summary| summary.adjusted.iter().filter(|adjusted| adjusted.score_p <= alpha).count()),
            cell(&|record, _| {
                record.tcav.iter().filter(|tcav| tcav.legacy_welch_p.is_some_and(|p| p <= alpha)).count()
            }),
        ]);
    }
    table
}

fn flips(view: &View) -> Table {
    let mut table = Table::new("Changes of significance or sign", &["arm", "replicate", "round", "how many", "which"]);
    for network in &view.networks {
        let Some(summary) = network.summary.filter(|summary| !summary.drift.flipped.is_empty()) else { continue };
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
pub(crate) fn facts(view: &View) -> Markup {
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
        ("Device", format!("{}, {} threads", manifest.device, manifest.threads)),
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

/// Where accuracy, pixels and concepts begin to change, and how often one does so before another.
pub(crate) fn onsets(view: &View) -> Table {
    let mut table =
        Table::new("Where each crosses its margin", &["what", "density", "interval", "replicates", "before others"]);
    let Some(onsets) = &view.study.study.onsets else { return table };
    let named = [
        ("pixels", onsets.pixels.as_ref()),
        ("concepts", onsets.concepts.as_ref()),
        ("accuracy", Some(&onsets.accuracy)),
    ];
    for (name, onset) in named {
        let Some(onset) = onset else { continue };
        let density = |value: Option<f64>| value.map_or(format::ABSENT.to_owned(), format::density);
        let order: Vec<String> = (onsets.order.iter())
            .filter_map(|order| match (order.first == name, order.second == name) {
                (true, _) => Some(format!("{}: {} of {}", order.second, order.before, view.plan.replicates)),
                (_, true) => Some(format!("{}: {} of {}", order.first, order.after, view.plan.replicates)),
                _ => None,
            })
            .collect();
        table.rows.push(vec![
            Cell::text(name),
            onset.density.map_or_else(Cell::absent, |value| Cell::shown(value, format::density(value))),
            Cell::text(format::onset_interval(onset)),
            Cell::text(onset.replicates.iter().map(|&value| density(value)).collect::<Vec<_>>().join(", ")),
            Cell::text(order.join("; ")),
        ]);
    }
    table
}

/// Forgotten images beside kept ones, by density, the twins as control.
pub(crate) fn forgetting(view: &View) -> Table {
    let columns = ["networks", "weights kept", "forgotten", "kept", "AUC", "p", "p, adjusted (Holm)"];
    let mut table = Table::new("Drift of images that a network forgets beside those that it keeps", &columns);
    for record in &view.study.study.forgetting {
        let all = record.all;
        let p = |p: f64| Cell::shown(p, format::p_value(p));
        table.rows.push(vec![
            Cell::text(if record.round == 0 { "twins (control)" } else { "lottery tickets" }),
            Cell::shown(record.density, format::density(record.density)),
            all.map_or_else(Cell::absent, |all| Cell::count(all.forgotten)),
            all.map_or_else(Cell::absent, |all| Cell::count(all.kept)),
            Cell::maybe(all.map(|all| all.auc)),
            all.map_or_else(Cell::absent, |all| p(all.p_value)),
            record.p_adjusted.map_or_else(Cell::absent, p),
        ]);
    }
    table
}

/// What the study would say by each way to draw maps; empty where the plan has one.
pub(crate) fn views(view: &View) -> Table {
    let mut table = Table::new("The answer by each map", &["maps", "kept down to", "A holds down to", "B holds from"]);
    let views = &view.study.study.views;
    if views.len() < 2 {
        return table;
    }
    let density =
        |value: Option<f64>| value.map_or_else(Cell::absent, |value| Cell::shown(value, format::density(value)));
    for of in views {
        table.rows.push(vec![
            Cell::text(&of.view),
            density(of.kept_to),
            density(of.ranges.a.map(|range| range.to)),
            density(of.ranges.b.map(|range| range.from)),
        ]);
    }
    table
}
