//! The `ticketlens` program.
fn main() {}
