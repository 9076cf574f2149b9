//! CIFAR-10 ([`crate::data::read_cifar10`]); its classes are its concepts.

use serde::{Deserialize, Serialize};

use crate::data::{Augmentation, Crop, read_cifar10};

use super::{Loaded, Source};

/// The folder of CIFAR-10's binary version.
pub const CIFAR10: Source = Source {
    name: "cifar10",
    path: Some("the folder cifar-10-batches-bin"),
    check: |_, _| Ok(()),
    load: |plan, seed| {
        let loaded = Loaded::of_classes(read_cifar10(plan.path()?)?, &plan.task)?;
        let augment = plan.cifar10.clone().unwrap_or_default().augment;
        // He et al. 2016, section 4.2, and open_lth.
        let augmentation = augment.then_some(Augmentation { crop: Crop::Shift { padding: 4 }, flip: true, seed });
        Ok(Loaded { augmentation, ..loaded })
    },
};

/// The plan's table `data.cifar10`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cifar10Data {
    /// Whether training images are moved by up to 4 pixels each way, and mirrored in half of the cases.
    pub augment: bool,
}

impl Default for Cifar10Data {
    /// Augmented.
    fn default() -> Self {
        Self { augment: true }
    }
}
