//! Fast tests by topic, one binary.

mod architecture;
mod calibration;
mod cav;
mod cub;
mod explain;
mod oracle;
mod order;
mod plain_candle;
mod report;
mod run;
mod stats_calibration;
mod stats_coverage;
mod stats_oracle;
mod support;
mod tcav;
mod training;

#[path = "../tiny_cub/mod.rs"]
mod tiny_cub;
