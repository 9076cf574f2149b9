//! Images in: datasets with labels, splits that never overlap, concept sets, and image arguments of the command line.

mod array_file;
pub mod concepts;
mod dataset;
mod images;
pub mod idx;
mod picture;
pub mod source;
mod splits;

pub use concepts::{
    ConceptPlan, ConceptSet, ConceptSets, ConceptTable, Pool, RandomKind, RandomSet, class_images,
    concept_sets,
};
pub use dataset::{Dataset, Labels, Normalisation, Origin};
pub use images::{Images, Subset};
pub use idx::{Family, builtin_mnist};
pub use picture::{Placement, Preprocess};
pub use source::{ImageSource, read_label_argument};
pub use splits::{SplitSizes, Splits, Task, split};
