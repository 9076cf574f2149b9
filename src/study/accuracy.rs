//! Accuracy beside the parent's, and whether dense networks have learned at all.

use crate::error::{Result, undefined};
use crate::plan::{Plan, VerdictPlan};
use crate::records::{Accuracy, AccuracyRecord, Manifest, RoundId};
use crate::stats::contingency::binomial_test_greater;
use crate::stats::crossed::{Mean, image_variance_of_means};
use crate::stats::verdict::accuracy_answer;

use super::networks::{Network, Networks};
use super::ratio::Beside;

/// The paired difference of test accuracy, ticket − parent, over replicates and images.
///
/// # Errors
/// When networks were not tested on the same images.
pub(super) fn accuracy(verdict: &VerdictPlan, replicates: &[Beside<'_>]) -> Result<AccuracyRecord> {
    let differences: Vec<Vec<f64>> = replicates
        .iter()
        .map(|beside| {
            let pairs = beside.ticket.test_correct().zip(beside.parent.test_correct());
            pairs.map(|(here, parent)| f64::from(u8::from(here)) - f64::from(u8::from(parent))).collect()
        })
        .collect();
    let count = replicates.len() as f64;
    let share_of = |what: f64| {
        let shares = differences
            .iter()
            .map(|row| row.iter().filter(|&&difference| difference == what).count() as f64 / row.len().max(1) as f64);
        shares.sum::<f64>() / count
    };
    let by_class = (0..replicates[0].parent.record.class_accuracy.len())
        .map(|class| {
            let of = |network: &Network| network.record.class_accuracy[class];
            replicates.iter().map(|beside| of(beside.ticket) - of(beside.parent)).sum::<f64>() / count
        })
        .collect();
    let of_replicates: Vec<f64> =
        differences.iter().map(|row| row.iter().sum::<f64>() / row.len().max(1) as f64).collect();
    let images = image_variance_of_means(&differences).map_err(undefined("accuracy difference"))?;
    let mean = Mean::of(&of_replicates, Some(images)).ok();
    let interval = mean.map(|mean| mean.interval(verdict.confidence)).transpose();
    let interval = interval.map_err(undefined("accuracy difference"))?;
    let answer = interval.map(|interval| accuracy_answer(interval, verdict.accuracy_margin)).transpose();
    Ok(AccuracyRecord {
        difference: of_replicates.iter().sum::<f64>() / count,
        interval,
        by_class,
        forgotten: share_of(-1.0),
        learned: share_of(1.0),
        answer: answer.map_err(undefined("accuracy difference"))?.unwrap_or(Accuracy::Undecided),
        replicates: of_replicates,
    })
}

/// The p-value of a network's test accuracy against always guessing the commonest class (exact binomial test).
///
/// # Errors
/// When there are no test images.
pub(super) fn chance_p(manifest: &Manifest, network: &Network) -> Result<f64> {
    let right = network.test_correct().filter(|&right| right).count();
    let images = network.record.test_correct.len();
    let commonest = manifest.test_classes.iter().copied().max().unwrap_or(0) as f64 / images.max(1) as f64;
    match commonest {
        // One class: nothing can be told apart.
        share if share >= 1.0 || share <= 0.0 => Ok(1.0),
        share => binomial_test_greater(right, images, share).map_err(undefined("accuracy against chance")),
    }
}

/// The dense networks, parents and twins, that are not above chance at the plan's level: without
/// something learned there is nothing to keep.
pub(super) fn not_learned(plan: &Plan, manifest: &Manifest, networks: &Networks) -> Result<Vec<RoundId>> {
    let mut found = Vec::new();
    for (id, network) in networks.all.iter().filter(|(id, _)| id.round == 0) {
        if chance_p(manifest, network)? > plan.statistics.alpha {
            found.push(id.clone());
        }
    }
    Ok(found)
}
