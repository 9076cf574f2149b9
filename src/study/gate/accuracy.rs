//! Is the candidate as accurate?

use crate::error::{Result, undefined};
use crate::records::gate::{Answer, Kind, Over, Unit};
use crate::stats::intervals::paired_accuracy_difference;
use crate::stats::reach::reach;
use crate::stats::verdict::{Accuracy, Explanations, accuracy_answer};

use super::explained::{Dense, Explained};
use super::rules::{CONFIDENCE, Rules};

/// Share of the images that a network classifies right; `None` without labels or predictions.
pub(super) fn share_right(dense: &Dense, network: &Explained) -> Option<f64> {
    let right = right(dense, network)?;
    Some(right.iter().filter(|&&right| right).count() as f64 / right.len().max(1) as f64)
}

fn right(dense: &Dense, network: &Explained) -> Option<Vec<bool>> {
    let (labels, predicted) = (dense.labels.as_ref()?, network.predicted.as_ref()?);
    Some(labels.iter().zip(predicted).map(|(label, predicted)| label == predicted).collect())
}

/// The paired difference to the reference over images (Tango's score interval). It is lost where
/// the interval lies below the margin and the loss is more than two retrained networks differ by.
/// `None` without labels.
///
/// # Errors
/// When there is no image.
pub(super) fn accuracy(dense: &Dense, candidate: &Explained, rules: &Rules, level: f64) -> Result<Option<Answer>> {
    let (Some(before), Some(after)) = (right(dense, &dense.reference), right(dense, candidate)) else {
        return Ok(None);
    };
    let count = |here: bool, there: bool| {
        after.iter().zip(&before).filter(|(after, before)| **after == here && **before == there).count()
    };
    let (gained, lost) = (count(true, false), count(false, true));
    let interval = paired_accuracy_difference(gained, lost, before.len(), CONFIDENCE);
    let interval = interval.map_err(undefined("accuracy difference"))?;
    let value = (gained as f64 - lost as f64) / before.len() as f64;
    let found = accuracy_answer(interval, rules.accuracy_margin).map_err(undefined("accuracy difference"))?;
    let shares: Option<Vec<f64>> = dense.networks().map(|network| share_right(dense, network)).collect();
    let reach = shares.and_then(|shares| reach(shares.len(), level, |a, b| Some(shares[a] - shares[b])).ok());
    let (answer, note) = match found {
        Accuracy::Matches => (Explanations::Kept, None),
        Accuracy::Lost if reach.is_some_and(|reach| value >= -reach) => {
            (Explanations::Undecided, Some("beyond the margin, but one more retrained network may lose as much"))
        }
        Accuracy::Lost => (Explanations::Changed, None),
        Accuracy::Undecided => (Explanations::Undecided, Some("the interval holds the margin")),
    };
    Ok(Some(Answer {
        kind: Kind::Accuracy,
        answer,
        value: Some(value),
        unit: Unit::Share,
        interval: Some(interval),
        over: Some(Over::Images),
        limit: Some(rules.accuracy_margin),
        reach,
        measured: true,
        note: note.map(str::to_owned),
    }))
}
