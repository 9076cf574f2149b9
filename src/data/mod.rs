//! Images in: datasets with labels, splits that never overlap, concept sets, and image arguments of the command line.

mod dataset;
mod images;
pub mod idx;

pub use dataset::{Dataset, Labels, Normalisation, Origin};
pub use images::{Images, Subset};
pub use idx::{Family, builtin_mnist};
