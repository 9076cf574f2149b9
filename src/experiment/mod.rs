//! A study: plan, rounds, run folder, and what follows from the records.

pub mod as_published;
mod birds;
mod calibration;
mod calls;
mod checks;
pub mod config;
mod drift;
mod explanations;
mod localisation;
pub mod records;
mod rounds;
mod setup;
mod store;
mod study;

pub use as_published::AsPublished;
pub use birds::{ConceptChoice, CubData, LabelChoice, NamedConcepts, SpeciesChoice};
pub use config::{Arm, DevicePlan, Plan};
pub use rounds::{explain_checkpoints, round_ids, run, run_on};
pub use setup::{ConceptRows, GroupRows, Setup, TestedConcepts};
pub use store::{Store, write_atomically};
pub use study::derive;
