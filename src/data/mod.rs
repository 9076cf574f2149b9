//! Images in: datasets with labels, splits that never overlap, concept sets, and image arguments of the command line.

mod array_file;
mod boxes;
pub mod concepts;
mod dataset;
pub mod idx;
mod images;
mod picture;
mod pictures;
pub mod planted;
pub mod source;
mod splits;

pub use boxes::BoundingBox;
pub use concepts::{
    ConceptPlan, ConceptSet, ConceptSets, ConceptTable, Pool, RandomKind, RandomSet, class_images,
    concept_sets,
};
pub use dataset::{Dataset, Labels, Normalisation, Origin};
pub use idx::{Family, builtin_mnist};
pub use images::{Images, Subset};
pub use picture::{Placement, Preprocess};
pub use pictures::Augmentation;
pub use planted::{Factor, Planted, PlantedPlan, planted, planted_concept};
pub use source::{ImageSource, read_label_argument};
pub use splits::{SplitSizes, Splits, Task, split};
