//! Fast tests by topic, one binary.

mod oracle;
mod plain_candle;
mod support;
mod training;
