//! # ticketlens
//!
//! When a network is pruned to a lottery ticket, does it still look at the same pixels and use the same concepts, and is
//! that why the ticket wins or loses?
#![warn(missing_docs)]

pub mod data;
pub mod error;
pub mod explain;
pub mod kernels;
pub mod model;
pub mod nn;
pub mod output;
pub mod plan;
pub mod progress;
pub mod prune;
pub mod records;
pub mod report;
pub mod run;
pub mod seed;
pub mod stats;
pub mod study;
pub mod train;
