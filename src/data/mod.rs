//! Images in: datasets with labels, splits that never overlap, concept sets, and image arguments of the command line.

mod activations;
mod array_file;
mod attributes;
mod boxes;
mod cifar;
mod classes;
pub mod concepts;
pub mod cub;
mod dataset;
mod faults;
mod folder;
pub mod idx;
mod images;
pub(crate) mod impostor;
mod labels;
mod listing;
mod maps_file;
mod normalisation;
mod picture;
mod pictures;
pub mod planted;
mod prefetch;
mod resample;
pub mod source;
pub mod sources;
mod spill;
mod splits;
mod task;

pub use activations::{ActivationSource, Tokens};
pub use boxes::{BoundingBox, ShownPart};
pub use cifar::read_cifar10;
pub use classes::{Labels, Origin};
pub use concepts::{
    ConceptNote, ConceptPlan, ConceptSet, ConceptSets, ConceptTable, Pool, RandomKind, RandomSet, TestedConcepts,
    class_images, concept_sets,
};
pub use dataset::Dataset;
pub use folder::{ClassFolders, ClassPicture, read_class_folders};
pub use idx::{Family, builtin_mnist};
pub use images::{Images, Subset};
pub use labels::read_label_argument;
pub use maps_file::{Maps, read_maps};
pub use normalisation::Normalisation;
pub use picture::{Placement, Preprocess};
pub use pictures::{Augmentation, Crop};
pub use planted::{Factor, Planted, PlantedPlan, planted};
pub use prefetch::for_each_batch;
pub use source::{ImageSource, argument_path};
pub(crate) use spill::Spill;
pub use splits::{SplitSizes, Splits, split};
pub use task::Task;
