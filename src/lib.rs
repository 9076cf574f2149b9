//! When a network is pruned to a lottery ticket, does it still look at the same pixels and use the
//! same concepts, and is that why the ticket wins or loses?
//!
//! ticketlens prunes networks by the Lottery Ticket Hypothesis (iterative magnitude pruning with
//! rewinding), explains every network on the way (saliency maps such as Grad-CAM; TCAV with tests
//! that hold their level), and measures how far the explanations moved beyond what retraining alone
//! moves them. [`study::run`] does all of it from a [`plan::Plan`]; each part also works by itself
//! on checkpoints from PyTorch.
//!
//! # Example
//! A dense network, the ticket that was pruned from it, and a *twin*: the same initial weights
//! retrained without pruning.
//!
//! ```
//! use ticketlens::data::{ImageSource, Preprocess};
//! use ticketlens::explain::tcav::checkpoint::{Question, Settings, test_concepts};
//! use ticketlens::explain::{CheckpointMaps, Targets};
//! use ticketlens::model::{Stage, load_checkpoint};
//! use ticketlens::stats::{descriptive::known_mean, similarity::Measure};
//!
//! let trained = |name: &str| load_checkpoint(format!("fixtures/trained/replicate-0-{name}.safetensors").as_ref());
//! let (parent, ticket, twin) = (trained("round-0")?, trained("round-4")?, trained("twin-1-round-0")?);
//! let digits = ImageSource::open("fixtures/mnist/t10k-images-idx3-ubyte.gz", &Preprocess::mnist())?;
//! let stage: Stage = "layer3".parse()?;
//!
//! // Grad-CAM maps: all networks explain the logit of the class that the parent predicts.
//! let of_parent = CheckpointMaps::new(&parent, &digits, stage, Targets::Predicted, 100, |_| ())?;
//! let same = Targets::PerImage(&of_parent.predicted);
//! let of_ticket = CheckpointMaps::new(&ticket, &digits, stage, same, 100, |_| ())?;
//! let of_twin = CheckpointMaps::new(&twin, &digits, stage, same, 100, |_| ())?;
//! assert_eq!((of_parent.maps.len(), of_parent.size), (2000, [7, 7]));
//!
//! // Drift: how far pruning moved the maps, beside how far retraining moves them.
//! let drift = |other| Ok::<_, ticketlens::error::Error>(known_mean(&of_parent.drift(other, Measure::Spearman)?));
//! println!("ticket {:.2?}, twin {:.2?}", drift(&of_ticket)?, drift(&of_twin)?);
//!
//! // A tested concept: do stripes change the logit of class 1?
//! let inputs = |key: &str| {
//!     let file = format!("fixtures/oracle/resnet18_mnist/inputs.safetensors:{key}");
//!     ImageSource::open(&file, &Preprocess::mnist())
//! };
//! let concepts = [("striped".to_owned(), inputs("concept_striped")?)];
//! let random = [inputs("random_00")?, inputs("random_01")?, inputs("random_02")?];
//! let question =
//!     Question { checkpoint: &ticket, stage, images: &digits, classes: &[1], concepts: &concepts, random: &random };
//! let tests = test_concepts(&question, &Settings::default(), &|_| ())?;
//! let effect = tests.classes[0].concepts[0].effect();
//! println!("effect {:+.2} logits, p = {:.4}", effect.value, effect.p_value);
//! # assert!(drift(&of_ticket)?.is_some_and(|drift| drift > 0.0) && effect.p_value > 0.0);
//! # Ok::<(), ticketlens::error::Error>(())
//! ```
//!
//! Products with pruned weights are up to 1.5 times faster where large buffers begin at cache
//! lines, as with the allocator that the program uses (mimalloc); glibc's begins them 16 bytes
//! later.
//!
//! Programs to start from are in `examples/`: a study, a map, a tested concept, drift, pruning.
//!
//! # Modules
//! | module | what it is |
//! | --- | --- |
//! | [`plan`] | a study as data: TOML, presets, checks |
//! | [`run`] | trains, explains and records every network of a plan |
//! | [`records`] | what a run writes, and the run folder |
//! | [`study`] | records in, conclusions out: drift beyond retraining, calls, ranges, verdicts |
//! | [`report`] | a study as text, HTML, Markdown, JSON and CSV; several studies side by side |
//! | [`explain`] | the network cut at a stage; saliency maps; TCAV |
//! | [`prune`], [`train`] | masks of least magnitudes; training from step k to step n |
//! | [`model`], [`nn`] | networks with PyTorch's names, checkpoints; layers, gradients, optimisers |
//! | [`data`] | data sets, splits, concept sets, images from files |
//! | [`stats`] | tests and intervals on plain numbers |
//! | [`kernels`] | convolution, pooling and optimiser steps on slices; the device |
//! | [`output`], [`progress`], [`error`], [`seed`] | whole files or none; events; errors; named random streams |
//!
//! Shapes are written `(N, C, H, W)`: images, channels, rows, columns. What the numbers mean is in
//! `docs/statistics.md`, the words in `docs/glossary.md`.
#![forbid(unsafe_code)]

pub mod data;
pub mod digest;
pub mod error;
pub mod explain;
pub mod input;
pub mod model;
pub mod nn;
pub mod output;
pub mod plan;
pub mod progress;
pub mod prune;
pub mod records;
pub mod report;
pub mod run;
pub mod study;
pub mod train;

/// Convolution, pooling, batch norm and optimiser steps on plain slices, and the device: the one
/// package that holds `unsafe`.
pub use ticketlens_kernels as kernels;
/// Tests, intervals and verdicts on plain numbers.
pub use ticketlens_stats as stats;
pub use ticketlens_stats::seed;
