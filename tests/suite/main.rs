//! Fast tests by topic.

mod stats_calibration;
mod stats_coverage;
mod stats_oracle;
