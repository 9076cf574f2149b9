//! Checkpoints on disk: safetensors and PyTorch pickles with PyTorch names, in; safetensors, out.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};

use crate::error::{Error, Result};
use crate::nn::Weights;

use super::{Model, families, pytorch};

/// Named tensors of a file, prefixes dropped.
pub struct TensorFile {
    origin: String,
    tensors: BTreeMap<String, Tensor>,
    /// Names in the order in which the file stores them.
    order: Vec<String>,
}

/// A network with the weights of a file.
pub struct Checkpoint {
    /// The network, read off names and shapes.
    pub model: Model,
    /// The weights.
    pub weights: Weights,
}

/// Prefixes that wrappers put before every name.
const PREFIXES: [&str; 2] = ["model.", "module."];

impl TensorFile {
    /// Reads safetensors, or what `torch.save` wrote of a dictionary of tensors (nothing in it is executed). Which of the two it
    /// is, the content says.
    ///
    /// # Errors
    /// The file is named when it is missing, is neither format, or claims more than it holds.
    pub fn open(path: &Path) -> Result<Self> {
        let metadata = std::fs::metadata(path).map_err(|source| Error::io(path, source))?;
        if !metadata.is_file() {
            return Err(Error::format(path, "is not a file"));
        }
        let bytes = std::fs::read(path).map_err(|source| Error::io(path, source))?;
        if bytes.is_empty() {
            return Err(Error::format(path, "is empty"));
        }
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or("");
        let named = if pytorch::is_pytorch(&bytes) {
            pytorch::read(path, &bytes)?
        } else if matches!(extension, "pth" | "pt" | "bin" | "pkl") {
            return Err(Error::format(path, "was not written by torch.save"));
        } else {
            read_safetensors(path, &bytes)?
        };
        let (mut tensors, mut order) = (BTreeMap::new(), Vec::new());
        for (name, tensor) in named {
            let name = strip_prefixes(&name).to_owned();
            if tensors.insert(name.clone(), tensor).is_some() {
                let what = format!("tensor `{name}` stands twice once prefixes are dropped");
                return Err(Error::format(path, what));
            }
            order.push(name);
        }
        Ok(Self { origin: path.display().to_string(), tensors, order })
    }

    /// Names and tensors in file order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.order.iter().map(|name| (name.as_str(), &self.tensors[name]))
    }

    /// The tensor of that name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// Its path, for messages.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Whether the names are those of a known network, though some may be missing.
    pub fn is_checkpoint(&self) -> bool {
        families::known(&self.order.iter().map(String::as_str).collect())
    }

    fn shapes(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.dims()))
    }
}

fn strip_prefixes(name: &str) -> &str {
    let mut rest = name;
    while let Some(shorter) = PREFIXES.iter().find_map(|prefix| rest.strip_prefix(prefix)) {
        rest = shorter;
    }
    rest
}

fn read_safetensors(path: &Path, bytes: &[u8]) -> Result<Vec<(String, Tensor)>> {
    let file = safetensors::SafeTensors::deserialize(bytes)
        .map_err(|error| Error::format(path, format!("is not a safetensors file: {error}")))?;
    let mut views = file.tensors();
    views.sort_by_key(|(name, view)| (view.data().as_ptr() as usize, name.clone()));
    views
        .into_iter()
        .map(|(name, view)| {
            let fault = |what: String| Error::tensor(format!("{}:{name}", path.display()), what);
            let dtype = DType::try_from(view.dtype()).map_err(|_| fault(format!("has type {:?}", view.dtype())))?;
            let tensor = Tensor::from_raw_buffer(view.data(), dtype, view.shape(), &Device::Cpu)?;
            Ok((name, tensor))
        })
        .collect()
}

/// Reads a checkpoint whose network follows from its names and shapes. `num_batches_tracked` is ignored; any other
/// tensor that does not belong to the network is an error.
///
/// # Errors
/// The file and the tensor are named.
pub fn load_checkpoint(path: &Path) -> Result<Checkpoint> {
    checkpoint_of(&TensorFile::open(path)?)
}

/// The checkpoint that `file` holds, as [`load_checkpoint`].
///
/// # Errors
/// The file and the tensor are named.
pub fn checkpoint_of(file: &TensorFile) -> Result<Checkpoint> {
    let model = families::infer(&file.origin, file.shapes())?;
    let weights = load_into(&model, file)?;
    Ok(Checkpoint { model, weights })
}

/// Fills the weights of `model` from a file.
///
/// # Errors
/// The file and the tensor are named when it is missing, surplus, or has another shape.
pub fn load_into(model: &Model, file: &TensorFile) -> Result<Weights> {
    let layout = &model.network.layout;
    let lookup = |name: &str| match file.get(name) {
        Some(tensor) if !tensor.dtype().is_float() => {
            let what = format!("holds {:?}, not floating-point numbers", tensor.dtype());
            Err(Error::tensor(format!("{}:{name}", file.origin), what))
        }
        found => Ok(found.cloned()),
    };
    let weights = Weights::from_lookup(layout.clone(), &file.origin, lookup)?;
    let known: std::collections::BTreeSet<&str> = layout.tensors().map(|(name, _)| name).collect();
    for (name, _) in file.iter() {
        if !known.contains(name) && !name.ends_with("num_batches_tracked") {
            let what = format!("does not belong to a {}", model.name);
            return Err(Error::tensor(format!("{}:{name}", file.origin), what));
        }
    }
    Ok(weights)
}

/// A trunk from a file under a new head: every tensor but those of the layer that gives the logits is the file's; that layer is
/// `head`'s, and the file's own (of any number of classes, or none) is not looked at.
///
/// # Errors
/// As [`load_into`].
pub fn load_trunk(model: &Model, file: &TensorFile, head: &Weights) -> Result<Weights> {
    let mut trunk =
        TensorFile { origin: file.origin.clone(), tensors: file.tensors.clone(), order: file.order.clone() };
    let layout = &model.network.layout;
    for (index, spec) in layout.parameters.iter().enumerate() {
        if model.in_head(&spec.name) {
            let tensor = Tensor::from_slice(head.parameter(index), spec.shape.as_slice(), &Device::Cpu)?;
            trunk.tensors.insert(spec.name.clone(), tensor);
        }
    }
    load_into(model, &trunk)
}

/// The bytes of a safetensors file that PyTorch's `load_state_dict(strict=True)` accepts for the network's original.
///
/// # Errors
/// Only when serialisation fails.
pub fn save_weights(weights: &Weights) -> Result<Vec<u8>> {
    let mut tensors = weights.tensors()?;
    let trackers: Vec<String> = tensors
        .iter()
        .filter_map(|(name, _)| name.strip_suffix("running_mean"))
        .map(|stem| format!("{stem}num_batches_tracked"))
        .collect();
    for name in trackers {
        tensors.push((name, Tensor::zeros((), DType::I64, &Device::Cpu)?));
    }
    safetensors::serialize(tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)), None)
        .map_err(|error| Error::input(format!("weights cannot be serialised: {error}")))
}
