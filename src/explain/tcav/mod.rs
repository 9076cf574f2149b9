//! Testing with concept activation vectors (Kim et al. 2018): one pipeline, from activations and
//! gradients to tested numbers.
//!
//! | module | holds |
//! | --- | --- |
//! | [`gram`] | inner products of activations and gradients: all that TCAV needs of them |
//! | [`activations`], [`products`] | the same of more than fits into memory |
//! | [`cav`], [`held_out`] | the vector of one pair of sets; whether the sets can be told apart |
//! | [`pairs`] | the vectors of every pair of sets, and what a class's gradients say about each |
//! | [`region`] | concept activation regions: concepts that lie apart, in no one direction |
//! | [`statistics`] | the table of concept statistics, each with its test |
//! | [`test`](mod@test) | the pipeline: [`ConceptCavs`] once per (checkpoint, stage), [`ConceptCavs::test`] once per class |
//! | [`checkpoint`], [`arrays`] | the pipeline on a checkpoint and image files, or on activations and gradients from outside |
//! | [`by_target`] | maps and concepts of a checkpoint from one pass of gradients |
//! | [`geometry`] | how concept directions lie to each other |

pub mod activations;
pub mod arrays;
pub mod by_target;
pub mod cav;
pub mod checkpoint;
mod copies;
pub mod geometry;
pub mod gram;
pub mod held_out;
pub mod pairs;
mod pooled;
pub mod products;
pub mod region;
mod scoring;
pub mod settings;
pub mod statistics;
pub mod test;

pub use pairs::{
    ClassScores, ConceptScores, Effect, PairCavs, PairScore, Run, Sets, concept_effect, fit_pairs, score, sensitivities,
};
pub use scoring::score_class;
pub use settings::Tests;
pub use statistics::{Finding, STATISTICS, Statistic};
pub use test::{ClassTests, ConceptCavs, ConceptImages, ConceptTest, Samples, design};
