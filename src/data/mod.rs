//! Images in: datasets with labels, splits that never overlap, concept sets, and image arguments of the command line.

mod array_file;
mod boxes;
pub mod concepts;
pub mod cub;
mod dataset;
mod folder;
pub mod idx;
mod images;
pub(crate) mod impostor;
mod labels;
mod listing;
mod normalisation;
mod picture;
mod pictures;
pub mod planted;
mod prefetch;
mod resample;
pub mod source;
pub mod sources;
mod splits;

pub use boxes::{BoundingBox, ShownPart};
pub use concepts::{
    ConceptNote, ConceptPlan, ConceptSet, ConceptSets, ConceptTable, Pool, RandomKind, RandomSet, TestedConcepts,
    class_images, concept_sets,
};
pub use dataset::{Dataset, Labels, Origin};
pub use folder::read_class_folders;
pub use idx::{Family, builtin_mnist};
pub use images::{Images, Subset};
pub use labels::read_label_argument;
pub use normalisation::Normalisation;
pub use picture::{Placement, Preprocess};
pub use pictures::Augmentation;
pub use planted::{Factor, Planted, PlantedPlan, planted, planted_concept};
pub use prefetch::for_each_batch;
pub use source::{ImageSource, argument_path};
pub use splits::{SplitSizes, Splits, Task, split};
