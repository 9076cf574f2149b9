//! Fast tests by topic, one binary.

mod oracle;
mod plain_candle;
mod stats_calibration;
mod run;
mod stats_oracle;
mod support;
mod training;
//! Fast tests by topic.
mod cav;
mod tcav;
