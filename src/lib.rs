//! # ticketlens
//!
//! When a network is pruned to a lottery ticket, does it still look at the same pixels and use the same concepts, and is
//! that why the ticket wins or loses?
#![warn(missing_docs)]

pub mod data;
pub mod error;
pub mod experiment;
pub mod explain;
pub mod kernels;
pub mod model;
pub mod nn;
pub mod progress;
pub mod prune;
pub mod report;
pub mod seed;
pub mod stats;
pub mod train;
