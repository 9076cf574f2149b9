//! Error barriers between the networks of a run.

use serde::{Deserialize, Serialize};

use super::{FORMAT, RoundId};
use crate::error::{Error, Result};

/// What `ticketlens barriers` found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BarriersRecord {
    /// [`super::FORMAT`].
    pub format: u32,
    /// Networks evaluated on each line, ends included.
    pub points: usize,
    /// Training images from which each point took its batch-norm statistics.
    pub statistics_images: usize,
    /// One for each pair of networks.
    pub barriers: Vec<Barrier>,
}

impl BarriersRecord {
    /// Whether a record that comes from outside can be shown.
    ///
    /// # Errors
    /// Names what no calculation of barriers gives.
    pub fn check(&self) -> Result<()> {
        if self.format != FORMAT {
            return Err(Error::input(format!("is of format {}, not {FORMAT}", self.format)));
        }
        let share = |value: f64| (0.0..=1.0).contains(&value);
        for Barrier { from, to, density, errors, barrier } in &self.barriers {
            let name = || format!("the line from {} round {} to {} round {}", from.arm, from.round, to.arm, to.round);
            if !share(*density) || *density < LEAST_DENSITY {
                return Err(Error::input(format!("{} has a density of {density}", name())));
            }
            if !share(*barrier) || !errors.iter().all(|&error| share(error)) {
                return Err(Error::input(format!("{} has errors that are no shares", name())));
            }
        }
        match self.barriers.is_empty() {
            true => Err(Error::input("holds no barrier")),
            false => Ok(()),
        }
    }
}

/// One weight of more than any network has.
const LEAST_DENSITY: f64 = 1e-12;

/// The line between two networks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Barrier {
    /// One end.
    pub from: RoundId,
    /// The other: the same ticket or dense network with another data order, or the ticket of the next round.
    pub to: RoundId,
    /// Share of prunable weights kept in `to`.
    pub density: f64,
    /// Share of the test images that each point gets wrong, from one end to the other.
    pub errors: Vec<f64>,
    /// How far the errors rise above the line between those of the ends, at most.
    pub barrier: f64,
}

impl Barrier {
    /// Whether the ends are of one round, so that they differ by their data order alone.
    pub fn of_one_round(&self) -> bool {
        self.from.round == self.to.round
    }
}
