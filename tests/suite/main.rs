//! Fast tests by topic.

mod stats_oracle;
