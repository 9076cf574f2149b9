//! Fast tests by topic, one binary.

mod oracle;
mod plain_candle;
mod report;
mod stats_oracle;
mod support;
mod training;
