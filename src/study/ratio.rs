//! ρ: drift of a network from comparators over that of its parent from the same comparators.
//!
//! The network takes its parent's place among dense networks that were only retrained, so ρ is 1
//! where it is what retraining makes. Numerator and denominator run over the same images, those
//! that all of these networks classify right.

use crate::error::{Result, undefined};
use crate::model::Stage;
use crate::plan::{Plan, VerdictPlan};
use crate::records::{Comparators, Explanations, Line, Ratio, RoundId};
use crate::stats::crossed::{ImageVariance, Mean, RatioByImage, log_ratios, pseudo_values};
use crate::stats::descriptive::known_mean;
use crate::stats::similarity::Measure;
use crate::stats::verdict::explanations_answer;
use crate::stats::{Interval, StatsError};

use super::drift::{effects, map_drift, profile_drift, representation_drift};
use super::networks::{Network, Networks};

/// One replicate's comparison: a network, its parent, and the dense networks that both are compared with.
pub(super) struct Beside<'a> {
    pub(super) ticket: &'a Network,
    pub(super) parent: &'a Network,
    /// Each with the place, among the replicates, of the one it comes from.
    pub(super) comparators: Vec<(usize, &'a Network)>,
}

/// What the networks of a plan are compared with.
pub(super) fn comparators(plan: &Plan) -> Comparators {
    if plan.floor.twins > 0 { Comparators::Twins } else { Comparators::Seeds }
}

/// The comparisons of one arm and round, one for each replicate.
pub(super) fn beside<'a>(plan: &Plan, networks: &'a Networks, line: Line, round: usize) -> Result<Vec<Beside<'a>>> {
    let one = |(place, &replicate): (usize, &usize)| {
        let comparators = match comparators(plan) {
            Comparators::Twins => networks.twins(plan, replicate)?.into_iter().map(|twin| (place, twin)).collect(),
            Comparators::Seeds => (networks.replicates.iter().enumerate())
                .filter(|&(other, _)| other != place)
                .map(|(other, &replicate)| Ok((other, networks.parent(replicate)?)))
                .collect::<Result<Vec<_>>>()?,
        };
        let ticket = networks.get(&line.id(replicate, round))?;
        Ok(Beside { ticket, parent: networks.parent(replicate)?, comparators })
    };
    networks.replicates.iter().enumerate().map(one).collect()
}

impl Beside<'_> {
    /// For each image, whether all networks of the comparison classify it right.
    fn all_right(&self) -> Vec<bool> {
        (0..self.parent.correct.len())
            .map(|image| {
                self.ticket.correct[image]
                    && self.parent.correct[image]
                    && self.comparators.iter().all(|(_, network)| network.correct[image])
            })
            .collect()
    }
}

/// Drifts of one replicate by image, for each comparator: ticket and parent from it.
struct ByComparator {
    from: Vec<(usize, RatioByImage)>,
    right: Vec<bool>,
    /// Mean drift of the ticket from its parent, over the images that count.
    from_parent: Option<f64>,
}

impl ByComparator {
    fn new(beside: &Beside<'_>, view: &str, measure: Measure) -> Result<Self> {
        let drift = |a: &Network, b: &Network| map_drift(measure, &a.views[view], &b.views[view]);
        let mut from = Vec::new();
        for &(replicate, network) in &beside.comparators {
            let (above, below) = (drift(network, beside.ticket)?, drift(network, beside.parent)?);
            from.push((replicate, above.into_iter().zip(below).map(|(a, b)| a.zip(b)).collect()));
        }
        let right = beside.all_right();
        let direct = drift(beside.parent, beside.ticket)?;
        let counted: Vec<Option<f64>> =
            direct.iter().zip(&right).map(|(drift, &right)| drift.filter(|_| right)).collect();
        Ok(Self { from, right, from_parent: known_mean(&counted) })
    }

    /// Sums over the comparators of the replicates in `others`, image by image.
    fn summed(&self, others: impl Fn(usize) -> bool, only_right: bool) -> RatioByImage {
        let chosen: Vec<&RatioByImage> =
            self.from.iter().filter(|(replicate, _)| others(*replicate)).map(|(_, of)| of).collect();
        (0..self.right.len())
            .map(|image| {
                if only_right && !self.right[image] || chosen.is_empty() {
                    return None;
                }
                chosen.iter().try_fold((0.0, 0.0), |(above, below), of| of[image].map(|(a, b)| (above + a, below + b)))
            })
            .collect()
    }

    /// Mean drift of the parent from its comparators, over the images that count.
    fn floor(&self) -> Option<f64> {
        let sums = self.summed(|_| true, true);
        let below: Vec<Option<f64>> = sums.iter().map(|pair| pair.map(|(_, below)| below)).collect();
        known_mean(&below).map(|mean| mean / self.from.len() as f64)
    }
}

/// ρ of the maps in one view by one measure, and the mean share of images that count.
///
/// # Errors
/// When a map is not finite. A ratio without a value is no error: the record says why.
pub(super) fn pixels(
    plan: &Plan,
    replicates: &[Beside<'_>],
    view: &str,
    measure: Measure,
    seed_floor: Option<f64>,
) -> Result<(Ratio, f64)> {
    let found: Vec<ByComparator> =
        replicates.iter().map(|beside| ByComparator::new(beside, view, measure)).collect::<Result<_>>()?;
    let rows: Vec<RatioByImage> = found.iter().map(|of| of.summed(|_| true, true)).collect();
    let every: Vec<RatioByImage> = found.iter().map(|of| of.summed(|_| true, false)).collect();
    let counted: Vec<f64> =
        rows.iter().map(|row| row.iter().flatten().count() as f64 / row.len().max(1) as f64).collect();
    let counted = counted.iter().sum::<f64>() / counted.len().max(1) as f64;
    let logs = log_ratios(&rows);
    let all_images = log_ratios(&every).ok();
    let logs = logs.and_then(|(values, images)| match comparators(plan) {
        Comparators::Twins => Ok((values.clone(), values, images)),
        Comparators::Seeds => {
            let value = |replicate: usize, others: &[usize]| {
                let row = found[replicate].summed(|of| others.contains(&of), true);
                let (above, below) = row.iter().flatten().fold((0.0, 0.0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
                let ratio: f64 = above / below;
                (ratio > 0.0 && ratio.is_finite()).then(|| ratio.ln())
            };
            Ok((values, pseudo_values(replicates.len(), value)?, images))
        }
    });
    let mut ratio =
        finish(&plan.verdict, logs.map(|(values, independent, images)| (values, independent, Some(images))));
    ratio.all_images = all_images.map(|(values, _)| geometric_mean(&values));
    let (direct, floor): (Vec<_>, Vec<_>) = found.iter().map(|of| (of.from_parent, of.floor())).unzip();
    ratio.from_parent = known_mean(&direct).zip(known_mean(&floor)).and_then(over);
    ratio.in_seed_floors = known_mean(&direct).zip(seed_floor).and_then(over);
    if ratio.rho.is_some() && counted < plan.verdict.least_images {
        ratio.answer = Explanations::Undecided;
        ratio.changed_p = None;
        ratio.undefined = Some(format!(
            "only {:.0} % of the images count, fewer than {:.0} %",
            100.0 * counted,
            100.0 * plan.verdict.least_images
        ));
    }
    Ok((ratio, counted))
}

/// ρ of the profile of standardised effects at one stage.
pub(super) fn concepts(plan: &Plan, replicates: &[Beside<'_>], stage: Stage, seed_floor: Option<f64>) -> Ratio {
    // The same class × concept pairs on both sides: those that have an effect in all of these networks.
    let drifts = |networks: &[&Network]| {
        let mut profiles: Vec<Vec<Option<f64>>> = networks.iter().map(|network| effects(network, stage)).collect();
        for pair in 0..profiles[0].len() {
            if profiles.iter().any(|profile| profile[pair].is_none()) {
                profiles.iter_mut().for_each(|profile| profile[pair] = None);
            }
        }
        summed(&profiles, |a, b| profile_drift(a, b))
    };
    whole(plan, replicates, seed_floor, "ratio: no concept varies, or nothing moves", &drifts)
}

/// ρ of the representation at one stage.
pub(super) fn representations(plan: &Plan, replicates: &[Beside<'_>], stage: Stage, seed_floor: Option<f64>) -> Ratio {
    let drifts = |networks: &[&Network]| summed(networks, |a, b| representation_drift(a, b, stage));
    whole(plan, replicates, seed_floor, "ratio: a representation is missing, or nothing moves", &drifts)
}

/// Drifts of a ticket and of its parent from comparators, each summed, and of the ticket from its parent.
type Summed = Option<(f64, f64, Option<f64>)>;

/// Of a ticket, its parent and their comparators, in this order.
fn summed<T>(all: &[T], drift: impl Fn(&T, &T) -> Option<f64>) -> Summed {
    let (mut above, mut below) = (0.0, 0.0);
    for comparator in &all[2..] {
        above += drift(comparator, &all[0])?;
        below += drift(comparator, &all[1])?;
    }
    Some((above, below, drift(&all[0], &all[1])))
}

/// ρ of a drift that has one value for two networks, not one for each image. `drifts` gets a
/// ticket, its parent and their comparators.
fn whole(
    plan: &Plan,
    replicates: &[Beside<'_>],
    seed_floor: Option<f64>,
    no_value: &'static str,
    drifts: &dyn Fn(&[&Network]) -> Summed,
) -> Ratio {
    let drifts = |beside: &Beside<'_>, others: &dyn Fn(usize) -> bool| {
        let chosen = beside.comparators.iter().filter(|(replicate, _)| others(*replicate));
        let networks: Vec<&Network> =
            [beside.ticket, beside.parent].into_iter().chain(chosen.map(|&(_, network)| network)).collect();
        drifts(&networks)
    };
    let log_of = |beside: &Beside<'_>, others: &dyn Fn(usize) -> bool| {
        let (above, below, _) = drifts(beside, others)?;
        let ratio: f64 = above / below;
        (ratio > 0.0 && ratio.is_finite()).then(|| ratio.ln())
    };
    let undefined = StatsError::Undefined { what: no_value };
    let values: crate::stats::Result<Vec<f64>> =
        replicates.iter().map(|beside| log_of(beside, &|_| true).ok_or(undefined)).collect();
    let logs = values.and_then(|values| match comparators(plan) {
        Comparators::Twins => Ok((values.clone(), values, None)),
        Comparators::Seeds => {
            let value = |replicate: usize, others: &[usize]| log_of(&replicates[replicate], &|of| others.contains(&of));
            Ok((values, pseudo_values(replicates.len(), value)?, None))
        }
    });
    let mut ratio = finish(&plan.verdict, logs);
    let all: Vec<(f64, f64, Option<f64>)> = replicates.iter().filter_map(|beside| drifts(beside, &|_| true)).collect();
    let direct = known_mean(&all.iter().map(|of| of.2).collect::<Vec<_>>());
    let count = replicates.first().map_or(1, |beside| beside.comparators.len()).max(1) as f64;
    let floor = known_mean(&all.iter().map(|of| Some(of.1 / count)).collect::<Vec<_>>());
    ratio.from_parent = direct.zip(floor).and_then(over);
    ratio.in_seed_floors = direct.zip(seed_floor).and_then(over);
    ratio
}

fn over((above, below): (f64, f64)) -> Option<f64> {
    (below > 0.0).then(|| above / below)
}

fn geometric_mean(logs: &[f64]) -> f64 {
    (logs.iter().sum::<f64>() / logs.len() as f64).exp()
}

/// From the replicates' `ln ρ`, independent values that stand for them, and what the images do, to a record.
fn finish(verdict: &VerdictPlan, logs: crate::stats::Result<(Vec<f64>, Vec<f64>, Option<ImageVariance>)>) -> Ratio {
    let mut ratio = Ratio {
        rho: None,
        interval: None,
        replicates: Vec::new(),
        all_images: None,
        from_parent: None,
        in_seed_floors: None,
        answer: Explanations::Undecided,
        changed_p: None,
        undefined: None,
    };
    let (values, independent, images) = match logs {
        Ok(found) => found,
        Err(error) => {
            ratio.undefined = Some(error.to_string());
            return ratio;
        }
    };
    ratio.rho = Some(geometric_mean(&values));
    ratio.replicates = values.iter().map(|log| Some(log.exp())).collect();
    let limit = 1.0 + verdict.drift_margin;
    let interval = Mean::of(&independent, images).and_then(|mean| {
        // Pseudo-values stand for the spread; the estimate is that of the values themselves.
        let mean = Mean { estimate: values.iter().sum::<f64>() / values.len() as f64, ..mean };
        Ok((mean, mean.interval(verdict.confidence)?))
    });
    match interval {
        Ok((mean, logs)) => {
            let interval = Interval { low: logs.low.exp(), high: logs.high.exp() };
            match explanations_answer(interval, limit) {
                Ok(answer) => ratio.answer = answer,
                Err(error) => ratio.undefined = Some(error.to_string()),
            }
            ratio.interval = Some(interval);
            ratio.changed_p = Some(mean.p_above(limit.ln()));
        }
        Err(error) => ratio.undefined = Some(error.to_string()),
    }
    ratio
}

/// The p-value that takes part in a call; 1 where there is none.
pub(super) fn kind(ratio: &Ratio) -> crate::stats::verdict::Kind {
    crate::stats::verdict::Kind { answer: ratio.answer, changed_p: ratio.changed_p.unwrap_or(1.0) }
}

/// Networks that stand for what retraining does: the twins of every replicate, each with its parent.
pub(super) fn twin_ids(plan: &Plan, networks: &Networks) -> Vec<(RoundId, RoundId)> {
    let of = |&replicate: &usize| {
        (1..=plan.floor.twins).map(move |order| (RoundId::parent(replicate), Line::Twin(order).id(replicate, 0)))
    };
    networks.replicates.iter().flat_map(of).collect()
}

/// For maps that were made otherwise, such as of randomised weights: mean drift over that of the
/// floor with an interval over images, the networks taken as given.
///
/// # Errors
/// As [`log_ratios`].
pub(super) fn over_floor(
    drift: &[Option<f64>],
    floor: &[Vec<Option<f64>>],
    verdict: &VerdictPlan,
) -> Result<(f64, Interval)> {
    let row: RatioByImage = (drift.iter().enumerate())
        .map(|(image, drift)| {
            let known: Vec<Option<f64>> = floor.iter().map(|pair| pair.get(image).copied().flatten()).collect();
            drift.zip(known_mean(&known))
        })
        .collect();
    let (values, images) = log_ratios(&[row]).map_err(undefined("drift over the floor"))?;
    let mean = Mean {
        estimate: values[0],
        standard_error: images.of_one.sqrt(),
        degrees_of_freedom: (images.images - 1) as f64,
    };
    let logs = mean.interval(verdict.confidence).map_err(undefined("drift over the floor"))?;
    Ok((values[0].exp(), Interval { low: logs.low.exp(), high: logs.high.exp() }))
}
