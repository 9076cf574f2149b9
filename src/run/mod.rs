//! Making the networks of a plan: what all rounds share, the rounds themselves, their explanations and checks.

mod as_published;
mod birds;
mod calibration;
mod checks;
mod explanations;
mod localisation;
mod representations;
mod rounds;
mod setup;

pub use as_published::EPSILON;
pub use rounds::{Checkpoints, rounds};
pub use setup::{ConceptRows, GroupRows, Setup, TestedConcepts};
