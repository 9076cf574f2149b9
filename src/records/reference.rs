//! A recorded reference: what the dense networks of the drift gate say of the images, so that a
//! gate needs neither their checkpoints nor their explanations again. A JSON file, and the tensors
//! beside it.
//!
//! Tensors: `maps/I` `(N, h, w)` f32 and, where predictions are known, `predicted/I` `(N)` i64 of
//! network I, the reference first; `targets` and, where there are labels, `labels`, `(N)` i64.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use super::Seal;
use super::seal::{Refused, sealed, unsealed};
use crate::digest::sha256;
use crate::error::{Error, Result};
use crate::model::{Assumptions, Stage};

/// What the JSON file says it is.
pub const REFERENCE_KIND: &str = "ticketlens explanations";
/// Its version; another is refused.
pub const REFERENCE_VERSION: u32 = 1;

/// The JSON file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReferenceRecord {
    /// [`REFERENCE_KIND`].
    pub kind: String,
    /// [`REFERENCE_VERSION`].
    pub version: u32,
    /// Version of the program that wrote it.
    pub made_by: String,
    /// SHA-256 of the tensors' file.
    pub tensors: String,
    /// How networks were explained.
    pub setting: Setting,
    /// Classes of the networks.
    pub classes: usize,
    /// The images.
    pub images: ImageSet,
    /// Names of the images.
    pub names: Vec<String>,
    /// Concepts by name.
    pub concepts: Vec<(String, ImageSet)>,
    /// Random sets.
    pub random: Vec<ImageSet>,
    /// Reference and floor.
    pub networks: Vec<NetworkRecord>,
}

/// How networks were explained; candidates are explained alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// Where they were cut.
    pub stage: Stage,
    /// Classes that concepts are tested for: `present`, `all` or a list.
    pub tested: String,
    /// Images in memory at a time, which decides in which order numbers are added.
    pub batch: usize,
    /// How pictures became input, as said by flags.
    pub preparation: BTreeMap<String, String>,
}

/// A set of images: how it was named, and what it held.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageSet {
    /// The argument that named it.
    pub argument: String,
    /// How many images.
    pub count: usize,
    /// `(C, H, W)` of each.
    pub shape: [usize; 3],
    /// SHA-256 of the values that the networks saw.
    pub sha256: String,
}

/// One network, but for its maps and predictions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkRecord {
    /// Its name.
    pub name: String,
    /// SHA-256 of its weights.
    pub weights: String,
    /// Share of its prunable weights that are not zero.
    pub density: Option<f64>,
    /// How it computes, as far as names and shapes do not tell.
    pub assumed: Option<Assumptions>,
    /// Concept effects by class and concept.
    pub effects: Vec<EffectRecord>,
}

/// One concept's effect on one class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EffectRecord {
    /// The class.
    pub class: usize,
    /// The concept.
    pub concept: String,
    /// Standardised effect; absent where nothing varies.
    pub standardised: Option<f64>,
    /// Whether it is significant after adjustment, and decodable.
    pub significant: bool,
}

/// The tensors' file.
#[derive(Clone, Debug, PartialEq)]
pub struct ReferenceTensors {
    /// Height and width of the maps, and the maps of each network.
    pub maps: Vec<([usize; 2], Vec<Vec<f32>>)>,
    /// Predictions of each network, where they are known.
    pub predicted: Vec<Option<Vec<usize>>>,
    /// The class explained, for each image.
    pub targets: Vec<usize>,
    /// The true classes, where they are known.
    pub labels: Option<Vec<usize>>,
}

impl ReferenceTensors {
    /// The bytes of the file.
    ///
    /// # Errors
    /// When maps of one network differ in size.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut tensors = BTreeMap::new();
        let whole = |values: &[usize]| {
            let values: Vec<i64> = values.iter().map(|&value| value as i64).collect();
            Tensor::from_slice(&values, values.len(), &Device::Cpu)
        };
        for (place, ([height, width], maps)) in self.maps.iter().enumerate() {
            let shape = (maps.len(), *height, *width);
            tensors.insert(format!("maps/{place}"), Tensor::from_vec(maps.concat(), shape, &Device::Cpu)?);
        }
        for (place, predicted) in self.predicted.iter().enumerate() {
            if let Some(predicted) = predicted {
                tensors.insert(format!("predicted/{place}"), whole(predicted)?);
            }
        }
        tensors.insert("targets".into(), whole(&self.targets)?);
        if let Some(labels) = &self.labels {
            tensors.insert("labels".into(), whole(labels)?);
        }
        safetensors::serialize(tensors.iter(), None)
            .map_err(|error| Error::input(format!("tensors cannot be stored: {error}")))
    }

    /// Reads the file of `networks` networks and `images` images.
    fn from_bytes(bytes: &[u8], networks: usize, images: usize) -> Result<Self> {
        let tensors = candle_core::safetensors::load_buffer(bytes, &Device::Cpu)
            .map_err(|error| Error::input(format!("is not a safetensors file: {error}")))?;
        let fault = |name: &str| Error::tensor(name, "is missing, or not of the record's type and shape");
        let whole = |name: &str| -> Result<Option<Vec<usize>>> {
            let Some(tensor) = tensors.get(name) else { return Ok(None) };
            if tensor.dtype() != DType::I64 || tensor.dims() != [images] {
                return Err(fault(name));
            }
            let values = tensor.to_vec1::<i64>()?.into_iter().map(|value| usize::try_from(value).ok());
            values.collect::<Option<Vec<usize>>>().map(Some).ok_or_else(|| fault(name))
        };
        let (mut maps, mut predicted) = (Vec::new(), Vec::new());
        for place in 0..networks {
            let name = format!("maps/{place}");
            let tensor = tensors.get(&name).filter(|tensor| tensor.dtype() == DType::F32);
            let of = tensor.and_then(|tensor| tensor.dims3().ok().map(|dims| (tensor, dims)));
            let Some((tensor, (count, height, width))) = of else { return Err(fault(&name)) };
            if count != images || height == 0 || width == 0 {
                return Err(fault(&name));
            }
            maps.push(([height, width], tensor.flatten_from(1)?.to_vec2::<f32>()?));
            predicted.push(whole(&format!("predicted/{place}"))?);
        }
        let targets = whole("targets")?.ok_or_else(|| fault("targets"))?;
        Ok(Self { maps, predicted, targets, labels: whole("labels")? })
    }
}

impl ReferenceRecord {
    /// Whether a file that begins so may be one: JSON.
    pub fn is_json(start: &[u8]) -> bool {
        start.trim_ascii_start().first() == Some(&b'{')
    }

    /// The bytes of the JSON file, which ends with a seal: a digest of all that is said in it.
    ///
    /// # Errors
    /// When serialisation fails.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut text = sealed(self, Seal::default()).map_err(|error| Error::input(format!("record: {error}")))?;
        text.push(b'\n');
        Ok(text)
    }

    /// Reads the JSON file.
    ///
    /// # Errors
    /// When it is no such record, or of another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Head {
            kind: String,
            version: u32,
        }
        let head: Option<Head> = serde_json::from_slice(bytes).ok().filter(|head: &Head| head.kind == REFERENCE_KIND);
        let Some(head) = head else {
            return Err(Error::input("is no recorded reference (`ticketlens record` writes them)"));
        };
        if head.version != REFERENCE_VERSION {
            let what = format!("has version {}, this program reads {REFERENCE_VERSION}: record it anew", head.version);
            return Err(Error::input(what));
        }
        let damaged = |refused| match refused {
            Refused::Damaged(what) => Error::input(format!("is a damaged record: it {what}")),
            Refused::Format(format) => Error::input(format!("is a damaged record: it has format {format}")),
        };
        let (record, _): (Self, Seal) = unsealed(bytes).map_err(damaged)?;
        if record.networks.is_empty() || record.names.is_empty() || record.names.len() != record.images.count {
            return Err(Error::input("is a damaged record: networks or names of images are missing"));
        }
        Ok(record)
    }

    /// Reads the tensors' file, which must be the one that was written with this record.
    ///
    /// # Errors
    /// When it is another one, or damaged.
    pub fn tensors(&self, bytes: &[u8]) -> Result<ReferenceTensors> {
        if sha256(bytes) != self.tensors {
            return Err(Error::input("is not the file that was recorded: damaged, or of another recording"));
        }
        ReferenceTensors::from_bytes(bytes, self.networks.len(), self.images.count)
    }
}
