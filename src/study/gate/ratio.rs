//! ρ of one candidate: it takes the reference's place among the floor networks.
//!
//! `ρ = exp(mean over floor networks F of ln [d(F, candidate) / d(F, reference)])`. Its interval
//! speaks of other floor networks and other images, of this one candidate. A candidate is *changed*
//! where the interval lies beyond the limit and ρ itself beyond the [reach](crate::stats::reach) of
//! retrained networks: what is no more than retraining is no change.

use crate::records::gate::{Answer, Kind, Over, Unit};
use crate::stats::Interval;
use crate::stats::crossed::{ImageVariance, Mean};
use crate::stats::reach::LEAST_NETWORKS;
use crate::stats::verdict::{Explanations, explanations_answer};

use super::rules::CONFIDENCE;

/// What ρ is made of.
pub(super) struct Ratio {
    pub(super) kind: Kind,
    /// `ln ρ` by floor network, without those that are the candidate itself.
    pub(super) logs: crate::stats::Result<Vec<f64>>,
    /// What the choice of images does to their mean, where that is known.
    pub(super) images: Option<ImageVariance>,
    /// Floor networks, that of the candidate included.
    pub(super) floor: usize,
    /// Greatest ρ that counts as kept.
    pub(super) limit: f64,
    /// In logarithms; `None` where retrained networks' differences are not known.
    pub(super) reach: Option<f64>,
}

impl Ratio {
    pub(super) fn answer(self) -> Answer {
        let mut answer = Answer {
            kind: self.kind,
            answer: Explanations::Undecided,
            value: None,
            unit: Unit::Rho,
            interval: None,
            over: None,
            limit: Some(self.limit),
            reach: self.reach.map(f64::exp),
            measured: false,
            note: None,
        };
        let logs = match &self.logs {
            Ok(logs) => logs,
            Err(error) => {
                answer.note = Some(error.to_string());
                return answer;
            }
        };
        answer.measured = true;
        if logs.is_empty() {
            // The candidate is the floor: it has not moved at all.
            (answer.value, answer.interval) = (Some(0.0), Some(Interval { low: 0.0, high: 0.0 }));
            answer.answer = Explanations::Kept;
            answer.note = Some("it is the floor network itself".into());
            return answer;
        }
        let log = logs.iter().sum::<f64>() / logs.len() as f64;
        answer.value = Some(log.exp());
        let (mean, over) = match (logs.len(), self.images) {
            (1, Some(images)) => {
                let degrees_of_freedom = (images.images.max(2) - 1) as f64;
                let standard_error = images.of_one.sqrt();
                (Some(Mean { estimate: log, standard_error, degrees_of_freedom }), Over::Images)
            }
            (1, None) => (None, Over::Networks),
            (_, images) => {
                let over = if images.is_some() { Over::ImagesAndNetworks } else { Over::Networks };
                (Mean::of(logs, images).ok(), over)
            }
        };
        let interval = mean.and_then(|mean| mean.interval(CONFIDENCE).ok());
        let Some(interval) = interval.map(|logs| Interval { low: logs.low.exp(), high: logs.high.exp() }) else {
            answer.note = Some("one floor network gives no interval: give two, better three or more".into());
            return answer;
        };
        (answer.interval, answer.over) = (Some(interval), Some(over));
        answer.answer = explanations_answer(interval, self.limit).unwrap_or(Explanations::Undecided);
        match (answer.answer, self.reach) {
            (Explanations::Changed, Some(reach)) if log <= reach => {
                answer.answer = Explanations::Undecided;
                answer.note = Some("beyond the limit, but one more retrained network may be as far".into());
            }
            (Explanations::Undecided, _) => answer.note = Some("the interval holds the limit".into()),
            (Explanations::Changed, None) if self.floor + 1 < LEAST_NETWORKS => {
                answer.note = Some(
                    "one floor network does not tell how far retrained networks differ: give three or more".into(),
                );
            }
            _ => {}
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_candidate_is_changed_beyond_the_limit_and_beyond_retraining() {
        let answer = |floor, reach| {
            let logs = Ok([0.50, 0.51, 0.52][..floor].to_vec());
            Ratio { kind: Kind::Pixels, logs, images: None, floor, limit: 1.2, reach }.answer()
        };
        let changed = answer(3, Some(0.4));
        assert_eq!((changed.answer, changed.reach), (Explanations::Changed, Some(0.4f64.exp())));
        assert!((changed.value.unwrap().ln() - 0.51).abs() < 1e-12 && changed.interval.unwrap().low > 1.2);
        let near = answer(3, Some(0.6));
        assert_eq!(near.answer, Explanations::Undecided);
        assert!(near.note.unwrap().contains("one more retrained network may be as far"));
        assert_eq!(answer(3, None).answer, Explanations::Changed);
        assert!(answer(1, None).note.unwrap().contains("one floor network gives no interval"));
    }
}
