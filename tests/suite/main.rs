//! Fast tests by topic.
mod cav;
mod tcav;
