//! Fast tests by topic.

mod stats_calibration;
mod stats_oracle;
