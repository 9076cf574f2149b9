//! What a network looks at and what it uses: concept activation vectors and TCAV.
pub mod cav;
pub mod gram;
pub mod held_out;
mod logistic;
pub mod tcav;
