//! Studies: plans and records.

pub mod config;
pub mod records;
