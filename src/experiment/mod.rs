//! A study: plan, rounds, run folder, and what follows from the records.

pub mod as_published;
mod calibration;
mod calls;
mod checks;
pub mod config;
mod drift;
mod explanations;
pub mod records;
mod rounds;
mod setup;
mod store;
mod study;

pub use as_published::AsPublished;
pub use config::{Arm, Plan};
pub use rounds::{explain_checkpoints, round_ids, run};
pub use setup::{ConceptRows, Setup};
pub use store::{Store, write_atomically};
pub use study::derive;
