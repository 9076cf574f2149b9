//! Do the tests hold their level? Random sets in the place of the concept in this run, beside the
//! measured levels of `docs/statistics.md`.

use maud::html;

use super::chart::{Axis, Chart, Layer, Mark, Shape};
use super::figures::Figure;
use super::format;
use super::table::{Cell, Table};
use super::view::{Spread, View};
use crate::records::{CalibrationRecord, Interval};

/// The tests, in the order of tables and figures.
pub(crate) const TESTS: [&str; 3] = ["effect, label permutation", "score, exchangeability", "score, legacy Welch t"];

/// A level measured once and for all, by `tests/suite/calibration.rs`; a test holds these against `docs/statistics.md`.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub(crate) struct Documented {
    /// On what.
    pub(crate) data: &'static str,
    /// Which test, of [`TESTS`].
    pub(crate) test: &'static str,
    /// Share rejected at a nominal 5 %.
    pub(crate) share: f64,
    /// Exact 99 % interval.
    pub(crate) interval: Interval,
    /// Draws of random images as the concept.
    pub(crate) draws: usize,
}

const fn documented(data: &'static str, test: usize, [share, low, high]: [f64; 3], draws: usize) -> Documented {
    Documented { data, test: TESTS[test], share, interval: Interval { low, high }, draws }
}

/// The table "Why the t-test fails" of `docs/statistics.md`.
pub(crate) const DOCUMENTED: [Documented; 6] = [
    documented("real digits", 0, [0.049, 0.044, 0.055], 10_000),
    documented("real digits", 1, [0.03, 0.008, 0.076], 200),
    documented("real digits", 2, [0.325, 0.242, 0.416], 200),
    documented("planted images", 0, [0.049, 0.044, 0.055], 10_000),
    documented("planted images", 1, [0.06, 0.025, 0.117], 200),
    documented("planted images", 2, [0.39, 0.302, 0.483], 200),
];

/// How often one test rejected random sets in this run.
pub(crate) struct Level {
    /// Of [`TESTS`].
    pub(crate) test: &'static str,
    /// Rejections.
    pub(crate) rejected: usize,
    /// Sets tested, over all networks, stages and classes.
    pub(crate) tested: usize,
    /// Share of each replicate.
    pub(crate) share: Spread,
}

/// The levels in this run; none where no record has them.
pub(crate) fn levels(view: &View) -> Vec<Level> {
    let of: [fn(&CalibrationRecord) -> usize; 3] = [|one| one.effect, |one| one.score, |one| one.legacy];
    let all: Vec<(usize, &CalibrationRecord)> = view
        .networks
        .iter()
        .flat_map(|network| network.record.calibration.iter().map(|one| (network.id.replicate, one)))
        .collect();
    let mut replicates: Vec<usize> = all.iter().map(|&(replicate, _)| replicate).collect();
    replicates.sort_unstable();
    replicates.dedup();
    let count = |replicate: Option<usize>, value: &dyn Fn(&CalibrationRecord) -> usize| -> usize {
        all.iter().filter(|(of, _)| replicate.is_none_or(|wanted| wanted == *of)).map(|(_, one)| value(one)).sum()
    };
    let level = |(test, value): (&'static str, fn(&CalibrationRecord) -> usize)| {
        let share = |&replicate: &usize| {
            (replicate, count(Some(replicate), &value) as f64 / count(Some(replicate), &|one| one.sets) as f64)
        };
        let mut share = Spread::of(replicates.iter().map(share))?;
        let (rejected, tested) = (count(None, &value), count(None, &|one| one.sets));
        share.mean = rejected as f64 / tested as f64;
        Some(Level { test, rejected, tested, share })
    };
    TESTS.into_iter().zip(of).filter_map(level).collect()
}

/// Rejections of this run and of the documented calibration.
pub(crate) fn table(view: &View) -> Table {
    let mut table = Table::new(
        "Random images in the place of a concept: how many each test calls significant",
        &["where", "test", "rejected", "of", "share", "lowest", "highest"],
    );
    let percent = |share: f64| Cell::percent(share, 1);
    for level in levels(view) {
        table.rows.push(vec![
            Cell::text("this run (lowest and highest replicate)"),
            Cell::text(level.test),
            Cell::count(level.rejected),
            Cell::count(level.tested),
            percent(level.share.mean),
            percent(level.share.low),
            percent(level.share.high),
        ]);
    }
    for known in &DOCUMENTED {
        table.rows.push(vec![
            Cell::text(format!("measured once on {} (exact 99 % interval)", known.data)),
            Cell::text(known.test),
            Cell::count((known.share * known.draws as f64).round() as usize),
            Cell::count(known.draws),
            percent(known.share),
            percent(known.interval.low),
            percent(known.interval.high),
        ]);
    }
    table
}

/// The figure.
pub(crate) fn calibration(view: &View) -> Figure {
    let alpha = view.plan.statistics.alpha;
    let levels = levels(view);
    let names = ["effect", "score", "legacy Welch t"].map(str::to_owned);
    let at = |test: &str| TESTS.iter().position(|known| *known == test).unwrap_or(0) as f64;
    let mut layers = vec![Layer::Rule { y: alpha, class: "margin" }];
    let mut legend = vec![(format!("nominal level, {}", format::percent(alpha, 0)), "margin".to_owned(), Shape::None)];
    let mut add = |name: String, class: &str, shape: Shape, marks: Vec<Mark>| {
        legend.push((name, class.to_owned(), shape));
        layers.push(Layer::Marks { class: class.to_owned(), shape, marks });
    };
    let own = |level: &Level| Mark {
        x: at(level.test) - 0.15,
        y: level.share.mean,
        whisker: (level.share.high > level.share.low).then_some((level.share.low, level.share.high)),
        title: format!("this run, {}: {} of {}", level.test, level.rejected, level.tested),
    };
    if !levels.is_empty() {
        add("this run".into(), "s0", Shape::Circle, levels.iter().map(own).collect());
    }
    for (data, class, shape, shift) in
        [("real digits", "s1", Shape::Square, 0.0), ("planted images", "s2", Shape::Triangle, 0.15)]
    {
        let mark = |known: &Documented| Mark {
            x: at(known.test) + shift,
            y: known.share,
            whisker: Some((known.interval.low, known.interval.high)),
            title: format!("{data}, {}: {} of {} draws", known.test, format::percent(known.share, 1), known.draws),
        };
        let marks = DOCUMENTED.iter().filter(|known| known.data == data).map(mark).collect();
        add(format!("measured once, {data}"), class, shape, marks);
    }
    let highest = levels.iter().map(|level| level.share.high).chain(DOCUMENTED.iter().map(|known| known.interval.high));
    let told = levels.iter().map(|level| format!("{} {}", level.test, format::percent(level.share.mean, 1)));
    let chart = Chart {
        alt: format!(
            "Share of random sets that each test calls significant: {}.",
            match levels.is_empty() {
                true => "not recorded in this run".to_owned(),
                false => told.collect::<Vec<_>>().join(", "),
            }
        ),
        x: Axis::Names(&names),
        y: Axis::Percent { low: 0.0, high: (1.1 * highest.fold(0.0, f64::max)).min(1.0) },
        x_label: "test",
        y_label: "random sets called significant",
        layers,
        legend,
    };
    Figure {
        id: "calibration".into(),
        title: "Do the tests hold their level?".into(),
        caption: html! {
            "Every random set of every network once in the place of the concept, where there is nothing to find: a test that holds its level rejects "
            (format::percent(alpha, 0)) " of them. Whiskers: lowest and highest replicate; sets of one run share gradients, so the share strays more than "
            "independent draws would. The score’s test ranks the sets, so it holds its level by construction. Beside it what was measured once with "
            "independent draws, at 5 %, with its exact 99 % interval (docs/statistics.md)."
            @if levels.is_empty() { " This run’s records are older than the check." }
        },
        body: chart.both(),
        table: table(view),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documented_levels_stand_in_the_page_on_statistics() {
        let page = include_str!("../../docs/statistics.md").replace("**", "");
        for pair in DOCUMENTED.chunks(3).collect::<Vec<_>>()[0].iter().zip(&DOCUMENTED[3..]) {
            let cell = |known: &Documented| {
                let percent = |share: f64| format!("{:.1}", 100.0 * share);
                format!("{} % ({}–{})", percent(known.share), percent(known.interval.low), percent(known.interval.high))
            };
            let draws = match pair.0.draws {
                10_000 => "10,000".to_owned(),
                draws => draws.to_string(),
            };
            let row = format!("| {} | {} | {} | {draws} |", pair.0.test, cell(pair.0), cell(pair.1));
            assert!(page.contains(&row), "{row}");
        }
    }
}
