//! Fast tests by topic, one binary.

mod architecture;
mod cav;
mod oracle;
mod plain_candle;
mod run;
mod stats_calibration;
mod stats_coverage;
mod report;
mod stats_oracle;
mod support;
mod tcav;
mod training;
