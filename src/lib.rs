//! # ticketlens
//!
//! When a network is pruned to a lottery ticket, does it still look at the same pixels and use the same concepts, and is
//! that why the ticket wins or loses?
#![warn(missing_docs)]
pub mod explain;
pub mod seed;
