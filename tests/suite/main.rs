//! Fast tests by topic, one binary.

mod architecture;
mod as_published;
mod calibration;
mod cav;
mod concept_statistics;
mod cub;
mod device;
mod explain;
mod families;
mod gate;
mod golden;
mod integrity;
mod oracle;
mod order;
mod plain_candle;
mod properties;
mod report;
mod representation;
mod run;
mod saliency;
mod stats_calibration;
mod stats_coverage;
mod stats_oracle;
mod store;
mod study;
mod study_statistics;
mod support;
mod sweep;
mod tcav;
mod training;
mod training_steps;

#[path = "../reseal.rs"]
mod reseal;
#[path = "../tiny_cub/mod.rs"]
mod tiny_cub;
