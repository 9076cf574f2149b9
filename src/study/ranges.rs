//! From the calls of the lottery arm to ranges of densities, verdicts, and the answer in one sentence.

use crate::plan::{Arm, Plan};
use crate::records::{
    Accuracy, Alone, Call, DensityRange, DensityRecord, DivergedRecord, Explanations, Outcome, Ranges, Ratio, RoundId,
    Verdict, ViewRanges,
};
use crate::stats::similarity::Measure;
use crate::stats::special::student_t_critical;
use crate::stats::verdict::{self, call, outcomes};

use super::densities::{accuracy_words, deciding, level, ratio_words};
use super::ratio::kind;

/// The answer of a study.
pub(super) struct Answer {
    pub(super) sentence: String,
    pub(super) a: Verdict,
    pub(super) b: Verdict,
    pub(super) alone: Alone,
    pub(super) views: Vec<ViewRanges>,
}

/// The lottery arm's pruned rounds, from the mildest density on.
fn pruned(densities: &[DensityRecord]) -> Vec<&DensityRecord> {
    densities.iter().filter(|record| record.arm == Arm::Lottery.name() && record.round > 0).collect()
}

/// Verdicts and ranges; none where training diverged, where a dense network in `not_learned` has
/// nothing to keep, or with one replicate.
pub(super) fn answer(
    plan: &Plan,
    densities: &[DensityRecord],
    not_learned: &[RoundId],
    diverged: &[DivergedRecord],
) -> Answer {
    let pruned = pruned(densities);
    let refusal = match not_learned {
        _ if !diverged.is_empty() => {
            let DivergedRecord { id, step, learning_rate, .. } = &diverged[0];
            Some(format!(
                "training diverged in {} of {} replicates (the first: {} round {} of replicate {}, step {step}, learning rate \
                 {learning_rate}), and what survived is no fair sample",
                diverged.len(),
                plan.replicates,
                id.arm,
                id.round,
                id.replicate
            ))
        }
        _ if plan.replicates < 2 => Some(
            "one replicate says nothing about other seeds: a verdict takes at least two (`--set replicates=…`)"
                .to_owned(),
        ),
        [] => None,
        [first, ..] => Some(format!(
            "{} dense network{} no better than guessing the commonest class (the first: {} of replicate {}), so there is \
             nothing that pruning could keep or change",
            not_learned.len(),
            if not_learned.len() == 1 { " is" } else { "s are" },
            if first.is_twin() { first.arm.as_str() } else { "the parent" },
            first.replicate
        )),
    };
    if let Some(why) = refusal {
        let none = Verdict { outcome: Outcome::NoVerdict, range: None, reason: why.clone() };
        return Answer {
            sentence: format!("No verdict: {why}."),
            a: none.clone(),
            b: none,
            alone: Alone::default(),
            views: Vec::new(),
        };
    }
    let calls: Vec<Call> = pruned.iter().map(|record| record.call).collect();
    let (a, b) = outcomes(&calls);
    let ranges = to_ranges(&pruned, &calls);
    let by = |pick: fn(&DensityRecord) -> Option<&Ratio>| {
        let calls: Vec<Call> = pruned
            .iter()
            .map(|record| match pick(record) {
                Some(ratio) => call(record.accuracy.answer, &[kind(ratio)], level(plan)),
                None => Call::Inconclusive,
            })
            .collect();
        to_ranges(&pruned, &calls)
    };
    let alone = Alone { pixels: by(|record| deciding(record).0), concepts: by(|record| deciding(record).1) };
    let views = pruned.first().map_or(0, |record| record.pixels.len());
    let views = (0..views).map(|place| view_ranges(plan, &pruned, place)).collect();
    let a = Verdict { outcome: a, range: ranges.a, reason: reason(plan, &pruned, 'A', a, ranges.a) };
    let b = Verdict { outcome: b, range: ranges.b, reason: reason(plan, &pruned, 'B', b, ranges.b) };
    Answer { sentence: sentence(&pruned, ranges, [a.outcome, b.outcome]), a, b, alone, views }
}

/// What the study would say if the maps at `place` decided.
fn view_ranges(plan: &Plan, pruned: &[&DensityRecord], place: usize) -> ViewRanges {
    let ratio = |record: &&DensityRecord| record.pixels.get(place)?.measures.get(&Measure::Spearman).cloned();
    let calls: Vec<Call> = pruned
        .iter()
        .map(|record| match (ratio(record), deciding(record).1) {
            (Some(pixels), Some(concepts)) => {
                call(record.accuracy.answer, &[kind(&pixels), kind(concepts)], level(plan))
            }
            _ => Call::Inconclusive,
        })
        .collect();
    let kept =
        pruned.iter().take_while(|record| ratio(record).is_some_and(|ratio| ratio.answer == Explanations::Kept)).last();
    ViewRanges {
        view: pruned[0].pixels[place].view.clone(),
        kept_to: kept.map(|record| record.density),
        ranges: to_ranges(pruned, &calls),
    }
}

fn to_ranges(pruned: &[&DensityRecord], calls: &[Call]) -> Ranges {
    let verdict::Ranges { a, b } = verdict::ranges(calls);
    let density = |place: usize| pruned[place].density;
    Ranges {
        a: (a > 0).then(|| DensityRange { from: 1.0, to: density(a - 1) }),
        b: (b > 0).then(|| DensityRange { from: density(pruned.len() - b), to: density(pruned.len() - 1) }),
    }
}

fn percent(density: f64) -> String {
    let percent = 100.0 * density;
    match percent >= 0.995 {
        true => format!("{} %", format!("{percent:.1}").trim_end_matches(".0")),
        false => format!("{percent:.2} %"),
    }
}

/// "A holds from 100 % down to 12.5 % of the weights; B holds from 0.78 % down to 0.39 %; between, …".
fn sentence(pruned: &[&DensityRecord], ranges: Ranges, outcomes: [Outcome; 2]) -> String {
    let mut parts = Vec::new();
    parts.push(match ranges.a {
        Some(range) => format!(
            "A holds from 100 % down to {} of the weights: the ticket is as accurate and explains itself as a retrained \
             network does",
            percent(range.to)
        ),
        None => match outcomes[0] {
            Outcome::Refuted => "A holds at no density, and what it ties together comes apart".into(),
            _ => "A is established at no density".to_owned(),
        },
    });
    parts.push(match ranges.b {
        Some(range) if range.from == range.to => {
            format!("B holds at {}: accuracy is lost and explanations have changed", percent(range.to))
        }
        Some(range) => format!(
            "B holds from {} down to {}: accuracy is lost and explanations have changed",
            percent(range.from),
            percent(range.to)
        ),
        None => match outcomes[1] {
            Outcome::Refuted => "B holds at no density, and what it ties together comes apart".into(),
            _ => "B is established at no density".to_owned(),
        },
    });
    let between: Vec<&&DensityRecord> = pruned
        .iter()
        .filter(|record| ranges.a.is_none_or(|a| record.density < a.to))
        .filter(|record| ranges.b.is_none_or(|b| record.density > b.from))
        .collect();
    // Neighbours of which the same can be said are said together.
    let mut groups: Vec<(String, f64, f64)> = Vec::new();
    for record in between {
        let what = state(record);
        match groups.last_mut() {
            Some((last, _, to)) if *last == what => *to = record.density,
            _ => groups.push((what, record.density, record.density)),
        }
    }
    if !groups.is_empty() {
        let said: Vec<String> = groups
            .iter()
            .map(|(what, from, to)| match from == to {
                true => format!("at {} {what}", percent(*from)),
                false => format!("from {} to {} {what}", percent(*from), percent(*to)),
            })
            .collect();
        let lead = if ranges.a.is_some() && ranges.b.is_some() { "between, " } else { "" };
        parts.push(format!("{lead}{}", said.join(", ")));
    }
    parts.join("; ") + "."
}

/// What is known at one density, in words.
fn state(record: &DensityRecord) -> String {
    let (pixels, concepts) = deciding(record);
    let of = |answer: Explanations| {
        let names: Vec<&str> = [("pixels", pixels), ("concepts", concepts)]
            .into_iter()
            .filter(|(_, ratio)| ratio.is_some_and(|ratio| ratio.answer == answer))
            .map(|(name, _)| name)
            .collect();
        names.join(" and ")
    };
    let mut parts = Vec::new();
    match record.accuracy.answer {
        Accuracy::Matches => parts.push("accuracy still matches".to_owned()),
        Accuracy::Lost => parts.push("accuracy is lost".to_owned()),
        Accuracy::Undecided => parts.push("accuracy is undecided".to_owned()),
    }
    for (answer, word) in
        [(Explanations::Kept, "kept"), (Explanations::Changed, "changed"), (Explanations::Undecided, "undecided")]
    {
        let names = of(answer);
        if !names.is_empty() {
            parts.push(format!("{names} {word}"));
        }
    }
    parts.join(", ")
}

fn reason(
    plan: &Plan,
    pruned: &[&DensityRecord],
    hypothesis: char,
    outcome: Outcome,
    range: Option<DensityRange>,
) -> String {
    let words = |record: &DensityRecord| {
        let (pixels, concepts) = deciding(record);
        format!(
            "at {} {}; {}; {}",
            percent(record.density),
            accuracy_words(plan, &record.accuracy),
            ratio_words(plan, "pixels", pixels),
            ratio_words(plan, "concepts", concepts)
        )
    };
    let next = match hypothesis {
        'A' => pruned.iter().find(|record| record.call != Call::A),
        _ => pruned.iter().rev().find(|record| record.call != Call::B),
    };
    let limit = next.map(|record| words(record)).unwrap_or_default();
    let needed = next.and_then(|record| replicates_that_decide(plan, record));
    let more = match needed {
        Some(count) => format!("; at the observed spread about {count} replicates would decide there"),
        None => String::new(),
    };
    match (outcome, range) {
        (Outcome::Supported, Some(range)) if next.is_none() => {
            format!("at every density tested, down to {}", percent(range.to))
        }
        (Outcome::Supported, Some(range)) => {
            let holds = if hypothesis == 'A' { "down to" } else { "up to" };
            let end = if hypothesis == 'A' { range.to } else { range.from };
            format!("{holds} {} of the weights; {limit}", percent(end))
        }
        (Outcome::Refuted, _) => {
            let apart = pruned.iter().find(|record| matches!(record.call, Call::DriftedWinner | Call::FaithfulLoser));
            let apart = apart.map(|record| words(record)).unwrap_or_default();
            format!("at no density, and the opposite is established: {apart}")
        }
        _ => format!("{limit}{more}"),
    }
}

/// Replicates that would answer what is undecided at one density, if the estimates and their spread
/// stayed as they are; `None` where nothing is undecided, an estimate lies at its margin, or more
/// than a thousand would be needed.
fn replicates_that_decide(plan: &Plan, record: &DensityRecord) -> Option<usize> {
    let limit = (1.0 + plan.verdict.drift_margin).ln();
    let (pixels, concepts) = deciding(record);
    let mut needed = Vec::new();
    if record.accuracy.answer == Accuracy::Undecided {
        needed.push(enough(&record.accuracy.replicates, -plan.verdict.accuracy_margin, plan.verdict.confidence)?);
    }
    for ratio in [pixels?, concepts?] {
        if ratio.answer == Explanations::Undecided {
            let logs: Option<Vec<f64>> = ratio.replicates.iter().map(|rho| rho.map(f64::ln)).collect();
            needed.push(enough(&logs?, limit, plan.verdict.confidence)?);
        }
    }
    needed.into_iter().max()
}

fn enough(values: &[f64], limit: f64, confidence: f64) -> Option<usize> {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let spread = crate::stats::descriptive::standard_deviation(values).ok()?;
    let room = (mean - limit).abs();
    (values.len() + 1..=1000).find(|&count| {
        let reach = student_t_critical(1.0 - confidence, (count - 1) as f64) * spread / (count as f64).sqrt();
        reach < room
    })
}
