//! Figures of concepts: bars for each concept, heat tables of whole profiles, and the paper's own beside them.

use maud::html;

use super::bars::{Heat, HeatCell, HeatRow, Panel};
use super::figures::Figure;
use super::format;
use super::paper;
use super::table::{Cell, Table};
use super::view::{Bar, Effect, View};
use crate::model::Stage;
use crate::plan::Arm;
use crate::records::Interval;

/// TCAV of one class at one stage in the lottery arm: one panel a concept.
pub(crate) fn tcav(view: &View, stage: Stage, class: usize, concepts: &[String]) -> Option<Figure> {
    let arm = Arm::Lottery.name();
    let bars: Vec<(&String, Vec<Bar>)> = concepts
        .iter()
        .map(|concept| (concept, view.bars(arm, stage, class, concept)))
        .filter(|(_, bars)| !bars.is_empty())
        .collect();
    let reach = reach(bars.iter().flat_map(|(_, bars)| bars));
    let name = view.class(class);
    let panels = bars.iter().map(|(concept, bars)| Panel { concept, class: name, bars, reach });
    let body = html! { div.panels { @for panel in panels { (panel.svg()) } } };
    (!bars.is_empty()).then(|| Figure {
        id: format!("tcav-{stage}-class-{class}"),
        title: format!("Concepts behind “{name}”"),
        caption: html! {
            "Bars: standardised concept effect, mean over replicates: the first-order change of the logit of “" (name) "” towards the concept, "
            "in pooled standard deviations. Whiskers: the replicates’ bootstrap intervals taken together. ● significant after adjustment in "
            "every replicate, ○ in some. Hatched: not decodable in every replicate, so not interpreted. Diamonds: the customary TCAV score."
        },
        body,
        table: effects_table(view, stage, Some(class)),
    })
}

/// The largest magnitude that a panel or a colour must show.
fn reach<'b>(bars: impl Iterator<Item = &'b Bar>) -> f64 {
    let effects = bars.filter_map(|bar| bar.effect.as_ref());
    let greatest = effects.map(|effect| effect.mean.abs()).fold(0.0, f64::max);
    if greatest > 0.0 { 1.15 * greatest } else { 1.0 }
}

/// All TCAV records of a stage, and of one class if given.
pub(crate) fn effects_table(view: &View, stage: Stage, class: Option<usize>) -> Table {
    let mut table = Table::new(
        format!("TCAV at {stage}"),
        &[
            "class",
            "concept",
            "arm",
            "replicate",
            "round",
            "effect (SDs)",
            "interval",
            "effect p",
            "adjusted",
            "score",
            "interval of the score",
            "score p",
            "adjusted score p",
            "legacy Welch p (not calibrated)",
            "held-out accuracy",
            "decodable",
        ],
    );
    let wanted =
        |effect: &&Effect| effect.record.stage == stage && class.is_none_or(|class| class == effect.record.class);
    for effect in view.effects.iter().filter(wanted) {
        let record = effect.record;
        let interval =
            |range: Option<Interval>| range.map_or_else(Cell::absent, |range| Cell::text(format::range(range)));
        table.rows.push(vec![
            Cell::text(view.class(record.class)),
            Cell::text(&record.concept),
            Cell::text(format::arm_name(&effect.id.arm)),
            Cell::count(effect.id.replicate),
            Cell::count(effect.id.round),
            Cell::maybe(record.effect_standardised),
            interval(record.effect_standardised_interval),
            Cell::p(record.effect_p),
            effect.adjusted.map_or_else(Cell::absent, |adjusted| Cell::p(adjusted.effect_p)),
            Cell::number(record.score),
            interval(record.score_interval),
            Cell::p(record.score_p),
            effect.adjusted.map_or_else(Cell::absent, |adjusted| Cell::p(adjusted.score_p)),
            record.legacy_welch_p.map_or_else(Cell::absent, Cell::p),
            Cell::percent(record.heldout_accuracy, 1),
            Cell::text(if record.decodable { "yes" } else { "no" }),
        ]);
    }
    table
}

/// The whole profile, class × concept by round: effects, and scores beside them.
pub(crate) fn profile(view: &View, stage: Stage) -> Vec<Figure> {
    let arm = Arm::Lottery.name();
    let rounds: Vec<usize> = view.arm(arm).iter().map(|point| point.round).collect();
    let classes = 0..view.study.manifest.classes.len();
    let concepts = &view.study.manifest.concepts;
    let bars = |class: usize, concept: &String| view.bars(arm, stage, class, concept);
    let all: Vec<(usize, &String, Vec<Bar>)> = classes
        .flat_map(|class| concepts.iter().map(move |concept| (class, concept)))
        .map(|(class, concept)| (class, concept, bars(class, concept)))
        .filter(|(_, _, bars)| !bars.is_empty())
        .collect();
    if all.is_empty() {
        return Vec::new();
    }
    let reach = reach(all.iter().flat_map(|(_, _, bars)| bars)) / 1.15;
    let groups = |cell: &dyn Fn(&str, &Bar) -> Option<HeatCell>| {
        let mut groups: Vec<(String, Vec<HeatRow>)> = Vec::new();
        for (class, concept, bars) in &all {
            let name = view.class(*class);
            let find = |round: &usize| bars.iter().find(|bar| bar.round == *round).and_then(|bar| cell(concept, bar));
            let row = HeatRow { name: concept.to_string(), cells: rounds.iter().map(find).collect() };
            match groups.last_mut() {
                Some((group, rows)) if group == name => rows.push(row),
                _ => groups.push((name.to_owned(), vec![row])),
            }
        }
        groups
    };
    let columns: Vec<String> = rounds.iter().map(usize::to_string).collect();
    let effects = Heat {
        alt: format!("Standardised effect of every concept on every class in every round at {stage}."),
        columns: columns.clone(),
        axis: "round",
        groups: groups(&|concept, bar| {
            let effect = bar.effect.as_ref()?.mean;
            let marked = bar.significant == bar.replicates;
            let title = format!("{concept}, round {}: effect {}", bar.round, format::number(effect));
            Some(HeatCell { level: effect / reach, marked, title })
        }),
        ends: [format!("effect −{}", format::number(reach)), format!("+{} SDs   ● significant", format::number(reach))],
    };
    let scores = Heat {
        alt: format!("TCAV score of every concept for every class in every round at {stage}."),
        columns,
        axis: "round",
        groups: groups(&|concept, bar| {
            let score = bar.score.as_ref()?.mean;
            let title = format!("{concept}, round {}: score {}", bar.round, format::number(score));
            Some(HeatCell { level: 2.0 * score - 1.0, marked: false, title })
        }),
        ends: ["score 0".into(), "1".into()],
    };
    let table = |caption: &str, value: fn(&Bar) -> Option<f64>| {
        let mut table = Table::new(caption, &["class", "concept"]);
        table.columns.extend(rounds.iter().map(|round| format!("round {round}")));
        for (class, concept, bars) in &all {
            let mut row = vec![Cell::text(view.class(*class)), Cell::text(*concept)];
            row.extend(
                rounds.iter().map(|round| Cell::maybe(bars.iter().find(|bar| bar.round == *round).and_then(value))),
            );
            table.rows.push(row);
        }
        table
    };
    vec![
        Figure {
            id: format!("profile-{stage}"),
            title: "The whole profile: effects".into(),
            caption: html! { "Mean over replicates of the standardised effect. ● significant after adjustment in every replicate." },
            body: effects.both(),
            table: table("Standardised effects, mean over replicates", |bar| Some(bar.effect.as_ref()?.mean)),
        },
        Figure {
            id: format!("profile-scores-{stage}"),
            title: "The same profile as TCAV scores".into(),
            caption: html! {
                "The customary score counts signs alone: it says 1 or 0 with certainty where the effect is tiny. ½ is no preference."
            },
            body: scores.both(),
            table: table("TCAV scores, mean over replicates", |bar| Some(bar.score.as_ref()?.mean)),
        },
    ]
}

/// The paper's figure 4, where the question is the same.
pub(crate) fn papers_profile(view: &View) -> Option<Figure> {
    if !view.like_papers_mnist() {
        return None;
    }
    let scores = paper::mnist_scores();
    let rounds: Vec<usize> = (0..=scores.iter().map(|score| score.round).max()?).collect();
    let mut concepts: Vec<&str> = scores.iter().map(|score| score.concept).collect();
    concepts.dedup();
    let find =
        |concept: &str, round: usize| scores.iter().find(|score| score.concept == concept && score.round == round);
    let mut groups = Vec::new();
    let mut table = Table::new("TCAV scores of the paper's figure 4", &["class", "concept"]);
    table.columns.extend(rounds.iter().map(|round| format!("round {round}")));
    for (class, name) in ["even", "odd"].into_iter().enumerate() {
        let mut rows = Vec::new();
        for concept in &concepts {
            let cell = |round: &usize| {
                let score = find(concept, *round)?.scores[class];
                let title = format!("{concept}, round {round}: score {}", format::number(score));
                Some(HeatCell { level: 2.0 * score - 1.0, marked: false, title })
            };
            rows.push(HeatRow { name: (*concept).to_owned(), cells: rounds.iter().map(cell).collect() });
            let mut row = vec![Cell::text(name), Cell::text(*concept)];
            row.extend(rounds.iter().map(|&round| Cell::maybe(find(concept, round).map(|score| score.scores[class]))));
            table.rows.push(row);
        }
        groups.push((name.to_owned(), rows));
    }
    let heat = Heat {
        alt: "TCAV scores of the paper's figure 4: ten digits, even and odd, 35 rounds.".into(),
        columns: rounds.iter().map(usize::to_string).collect(),
        axis: "round",
        groups,
        ends: ["score 0".into(), "1".into()],
    };
    Some(Figure {
        id: "profile-paper".into(),
        title: "Beside the paper’s figure 4".into(),
        caption: html! {
            "Ghosh & Ravi’s TCAV scores at layer3, one run, without random counterparts or a test. Columns are their 35 rounds of 10 %: "
            "find a density, not a round, when you compare."
        },
        body: heat.both(),
        table,
    })
}
