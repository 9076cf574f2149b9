//! Whether two networks of a run lie in one linearly connected valley: test errors on the line between their weights.
//!
//! Frankle, Dziugaite, Roy & Carbin 2020, *Linear Mode Connectivity and the Lottery Ticket
//! Hypothesis* (ICML), between two trainings of one ticket with other data orders; Paul et al.
//! 2023, *Unmasking the Lottery Ticket Hypothesis* (ICLR), between tickets of successive rounds.

use crate::data::Subset;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::nn::Weights;
use crate::plan::{Arm, Plan};
use crate::progress::{Event, Observer};
use crate::records::{Barrier, BarriersRecord, FORMAT, Line, RoundId, Store};
use crate::train::{evaluate, renew_statistics};

use super::setup::Setup;

/// Training images from which the batch-norm statistics of each point are taken, at most.
pub const STATISTICS_IMAGES: usize = 1_024;

/// Evaluates `points` networks on the line between the weights of each pair of networks in the run,
/// ends included: those of the arm `retrained` and their tickets (at round 0 the first twin and its
/// parent), and tickets of successive rounds. Interpolated weights do not have the statistics of
/// either end, so every point, ends included, gets new ones: means over batches of the first
/// [`STATISTICS_IMAGES`] training images. Nothing in the run changes.
///
/// # Errors
/// [`Error::Interrupted`] when the observer breaks; when `points` is below 3, the data are not
/// those of the run, a network is missing, or a file cannot be read.
pub fn barriers(plan: &Plan, store: &Store, points: usize, observer: &dyn Observer) -> Result<BarriersRecord> {
    if points < 3 {
        return Err(Error::input(format!("a barrier needs at least 3 points on the line, not {points}")));
    }
    let setup = Setup::new(plan)?;
    let manifest = store.manifest()?;
    if manifest.data != setup.identity()? {
        let what = format!("the data at hand are not those of the run ({} is)", manifest.data);
        return Err(Error::format(store.root(), what));
    }
    let ends = pairs(plan);
    if ends.is_empty() {
        return Err(Error::format(store.root(), "has no two networks to lay a line between"));
    }
    let statistics = &setup.splits.train[..setup.splits.train.len().min(STATISTICS_IMAGES)];
    let between = Between {
        model: &setup.model,
        statistics: Subset::new(&setup.data, statistics),
        test: Subset::new(&setup.data, &setup.splits.test),
        batch: setup.evaluation_batch()?,
        points,
    };
    let mut barriers = Vec::new();
    for (done, (from, to)) in ends.iter().enumerate() {
        observer.tell(&Event::Part { done, of: ends.len() })?;
        let [one, other] = [from, to].map(|id| store.weights(id, &setup.model));
        let record = store.round(to)?.ok_or_else(|| missing(store, to))?;
        let errors = between.errors(&one?, &other?)?;
        let barrier = height(&errors);
        barriers.push(Barrier { from: from.clone(), to: to.clone(), density: record.density, errors, barrier });
    }
    Ok(BarriersRecord { format: FORMAT, points, statistics_images: statistics.len(), barriers })
}

fn missing(store: &Store, id: &RoundId) -> Error {
    Error::format(store.root(), format!("replicate {}, {} round {} is not finished", id.replicate, id.arm, id.round))
}

/// The ends of every line: the ticket trained again first, then the next ticket.
fn pairs(plan: &Plan) -> Vec<(RoundId, RoundId)> {
    let [ticket, retrained] = [Arm::Lottery, Arm::Retrained].map(Line::Arm);
    let mut pairs = Vec::new();
    for replicate in plan.own_replicates() {
        if plan.floor.twins > 0 {
            pairs.push((RoundId::parent(replicate), Line::Twin(1).id(replicate, 0)));
        }
        if plan.arms.contains(&Arm::Retrained) {
            let again = retrained.rounds(plan).into_iter();
            pairs.extend(again.map(|round| (ticket.id(replicate, round), retrained.id(replicate, round))));
        }
        let rounds = ticket.rounds(plan);
        pairs.extend(rounds.windows(2).map(|two| (ticket.id(replicate, two[0]), ticket.id(replicate, two[1]))));
    }
    pairs
}

/// How far the errors rise above the line between those of the ends, at most; 0 where they do not.
fn height(errors: &[f64]) -> f64 {
    let last = errors.len() - 1;
    let above = errors.iter().enumerate().map(|(place, error)| {
        let at = place as f64 / last as f64;
        error - ((1.0 - at) * errors[0] + at * errors[last])
    });
    above.fold(0.0, f64::max)
}

struct Between<'a> {
    model: &'a Model,
    statistics: Subset<'a>,
    test: Subset<'a>,
    batch: usize,
    points: usize,
}

impl Between<'_> {
    /// Share of the test images that each point on the line gets wrong.
    fn errors(&self, from: &Weights, to: &Weights) -> Result<Vec<f64>> {
        let last = self.points - 1;
        let mut errors = Vec::with_capacity(self.points);
        for place in 0..self.points {
            let mut weights = from.clone();
            let at = place as f32 / last as f32;
            for (value, end) in weights.parameters.iter_mut().zip(&to.parameters) {
                *value = (1.0 - at) * *value + at * end;
            }
            renew_statistics(self.model, &mut weights, &self.statistics, self.batch)?;
            let right = evaluate(self.model, &weights, &self.test, self.batch)?;
            let wrong = right.iter().filter(|&&right| !right).count();
            errors.push(wrong as f64 / right.len().max(1) as f64);
        }
        Ok(errors)
    }
}

#[cfg(test)]
mod tests {
    use super::height;

    #[test]
    fn a_barrier_is_the_rise_above_the_line_between_the_ends() {
        assert_eq!(height(&[0.1, 0.5, 0.3]), 0.3);
        assert_eq!(height(&[0.3, 0.2, 0.1]), 0.0, "errors on the line");
        assert_eq!(height(&[0.2, 0.0, 0.2]), 0.0, "a valley is no barrier");
    }
}
