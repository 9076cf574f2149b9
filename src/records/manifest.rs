//! What one run is about, once for all rounds.

use serde::{Deserialize, Serialize};

use super::seal::Computed;
pub use crate::data::{ConceptNote, ShownPart};
use crate::digest::sha256;
use crate::stats::localisation::PixelBox;

/// One image of the fixed Grad-CAM set, for showing it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShownImage {
    /// Index in the data set.
    pub index: usize,
    /// Class.
    pub class: usize,
    /// Class as given (the digit).
    pub fine: String,
    /// The object's box in input pixels, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bounding_box: Option<PixelBox>,
    /// The object's parts that can be seen in the input, where they are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<ShownPart>,
}

/// What one run is about, once for all rounds (`manifest.json`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`](super::FORMAT).
    pub format: u32,
    /// Version of this program.
    pub version: String,
    /// Digest of the plan.
    pub plan: String,
    /// Digest of the data.
    pub data: String,
    /// `cpu` or `cuda:0`.
    pub device: String,
    /// Worker threads.
    pub threads: usize,
    /// Vector instructions that the CPU has.
    pub cpu_features: Vec<String>,
    /// The vectors that the kernels used: `avx512`, `avx2` or `portable`. They round differently, so a run is of one.
    pub vectors: String,
    /// Name of the network, such as `ResNet-18`.
    pub network: String,
    /// Channels, height, width of an image.
    pub image_shape: [usize; 3],
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Names of the concepts.
    pub concepts: Vec<String>,
    /// Where their images come from, if not from the images that are learned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concept_note: Option<ConceptNote>,
    /// Digest of the pretrained weights that replicates start from, if they do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pretrained: Option<String>,
    /// Number of training, validation and test images.
    pub images: [usize; 3],
    /// Number of test images of each class.
    pub test_classes: Vec<usize>,
    /// The fixed Grad-CAM images; their pixels stand in `images.safetensors` under `pixels`, `(N, C, H, W)` u8.
    pub cam_images: Vec<ShownImage>,
    /// What the plan's tests cannot reach.
    pub warnings: Vec<String>,
}

impl Manifest {
    /// What run this is: a digest of plan, data and pretrained weights. Runs of the same have the same networks.
    pub fn run(&self) -> String {
        let of = [self.plan.as_str(), &self.data, self.pretrained.as_deref().unwrap_or_default()];
        sha256(of.join("\n").as_bytes())
    }

    /// What computes, where this manifest is made.
    pub fn computed(&self) -> Computed {
        Computed { version: self.version.clone(), vectors: self.vectors.clone(), device: self.device.clone() }
    }
}
