//! Making the networks of a plan: what all rounds share, the rounds themselves, their explanations and checks.

mod as_published;
mod barriers;
mod calibration;
mod checks;
mod estimate;
mod explanations;
mod keeping;
mod lanes;
mod localisation;
mod looks;
mod representations;
mod rounds;
mod setup;
mod unit;
mod verify;

pub use as_published::EPSILON;
pub use barriers::{STATISTICS_IMAGES, barriers};
pub use estimate::{Estimate, estimate};
pub use rounds::{Checkpoints, Options, rounds};
pub use setup::{ConceptRows, GroupRows, Setup};
pub use unit::{unit, units};
pub use verify::{Recomputed, recompute};
