//! Checkpoints on disk: safetensors and PyTorch pickles with PyTorch names, in; safetensors, out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use crate::data::impostor::what_is;
use crate::error::{Error, Result, first_fault};
use crate::nn::Weights;

use super::{Forward, Model, families, names, pruned, pytorch};

/// Named tensors of a file, under the names of docs/models.md where they are known.
pub struct TensorFile {
    origin: String,
    tensors: BTreeMap<String, Tensor>,
    /// Names in the order in which the file stores them.
    order: Vec<String>,
    /// The file's own name of each.
    own: BTreeMap<String, String>,
}

/// A network with the weights of a file.
pub struct Checkpoint {
    /// The network, read off names and shapes.
    pub model: Model,
    /// The weights, for as many as read them.
    pub weights: Arc<Weights>,
}

impl TensorFile {
    /// Reads safetensors, or what `torch.save` wrote of a dictionary of tensors, alone or inside
    /// others (nothing in it is executed). Which of the two it is, the content says. Names become
    /// those of the families where they are known: prefixes of wrappers and those that all names
    /// share are dropped, other libraries' names are translated. `NAME_orig` with `NAME_mask` is
    /// their product. What profilers and averaging leave beside the weights is left out.
    ///
    /// # Errors
    /// The file is named when it is missing, is neither format, or claims more than it holds.
    pub fn open(path: &Path) -> Result<Self> {
        let metadata = std::fs::metadata(path).map_err(|source| Error::io(path, source))?;
        if !metadata.is_file() {
            return Err(Error::format(path, "is not a file"));
        }
        let bytes = read(path, metadata.len()).map_err(|source| Error::io(path, source))?;
        Self::of_bytes(path, &bytes)
    }

    /// [`TensorFile::open`] of bytes that were read before; messages name `path`.
    ///
    /// # Errors
    /// As [`TensorFile::open`].
    pub fn of_bytes(path: &Path, bytes: &[u8]) -> Result<Self> {
        if bytes.is_empty() {
            return Err(Error::format(path, "is empty"));
        }
        let named =
            if pytorch::is_pytorch(bytes) { pytorch::read(path, bytes)? } else { read_safetensors(path, bytes)? };
        let origin = path.display().to_string();
        let named: Vec<(String, Tensor)> = named.into_iter().filter(|(name, _)| !names::beside(name)).collect();
        let (given, values): (Vec<String>, Vec<Tensor>) = pruned::multiply(&origin, named)?.into_iter().unzip();
        let (mut tensors, mut order, mut own) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
        for ((name, tensor), given) in names::canonical(&given, families::known).into_iter().zip(values).zip(&given) {
            if tensors.insert(name.clone(), tensor).is_some() {
                let what = format!("tensor `{name}` stands twice (as `{given}` too) once prefixes are dropped");
                return Err(Error::format(path, what));
            }
            own.insert(name.clone(), given.clone());
            order.push(name);
        }
        Ok(Self { origin, tensors, order, own })
    }

    /// Names and tensors in file order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.order.iter().map(|name| (name.as_str(), &self.tensors[name]))
    }

    /// The tensor of that name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// What the file itself calls the tensor of that name, prefixes and all.
    pub fn own_name<'a>(&'a self, name: &'a str) -> &'a str {
        self.own.get(name).map_or(name, String::as_str)
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

/// The bytes of a file of `length` bytes. All threads read pieces of a long one: most of the time
/// goes into memory that is new to the process.
fn read(path: &Path, length: u64) -> std::io::Result<Vec<u8>> {
    const PIECE: usize = 4 << 20;
    match usize::try_from(length) {
        #[cfg(unix)]
        Ok(length) if length > PIECE => {
            use std::os::unix::fs::FileExt;
            let file = std::fs::File::open(path)?;
            let mut bytes = Vec::new();
            bytes.try_reserve_exact(length)?;
            bytes.par_extend(rayon::iter::repeat_n(0, length));
            let pieces = bytes.par_chunks_mut(PIECE).enumerate();
            pieces.try_for_each(|(nth, piece)| file.read_exact_at(piece, (nth * PIECE) as u64))?;
            Ok(bytes)
        }
        _ => std::fs::read(path),
    }
}

/// The longest header of safetensors that is read: some 50,000 tensors.
const LONGEST_HEADER: u64 = 8 << 20;

fn read_safetensors(path: &Path, bytes: &[u8]) -> Result<Vec<(String, Tensor)>> {
    let header = bytes.first_chunk::<8>().map_or(0, |length| u64::from_le_bytes(*length));
    if header > LONGEST_HEADER && header < bytes.len() as u64 && bytes[8] == b'{' {
        let what =
            format!("has a header of {header} bytes, more than {LONGEST_HEADER}: no network has so many tensors");
        return Err(Error::format(path, what));
    }
    let file = safetensors::SafeTensors::deserialize(bytes).map_err(|error| {
        let cut = cut_off(bytes).or_else(|| what_is(bytes).map(|kind| format!("{kind}, not a checkpoint")));
        Error::format(
            path,
            cut.unwrap_or_else(|| format!("is neither a safetensors file nor one of torch.save: {error}")),
        )
    })?;
    let mut views = file.tensors();
    views.sort_by_key(|(name, view)| (view.data().as_ptr() as usize, name.clone()));
    let tensor = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
        let fault = |what: String| Error::tensor(format!("{}:{name}", path.display()), what);
        let dtype = DType::try_from(view.dtype()).map_err(|_| fault(format!("has type {:?}", view.dtype())))?;
        let tensor = Tensor::from_raw_buffer(view.data(), dtype, view.shape(), &Device::Cpu)?;
        Ok((name, tensor))
    };
    first_fault(views.into_par_iter().map(tensor))
}

/// How much of a safetensors file is missing, if its header is whole and promises more than follows.
fn cut_off(bytes: &[u8]) -> Option<String> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    // A header begins with a brace; of any other file the first eight bytes are no length.
    if rest.first() != Some(&b'{') {
        return None;
    }
    let Some((header, data)) = rest.split_at_checked(length) else {
        return Some(format!("is truncated: its header takes {length} bytes, {} follow", rest.len()));
    };
    let header: BTreeMap<String, serde_json::Value> = serde_json::from_slice(header).ok()?;
    let ends = header.values().filter_map(|entry| entry.get("data_offsets")?.get(1)?.as_u64());
    let promised = ends.max().filter(|&end| end > data.len() as u64)?;
    Some(format!("is truncated: its tensors take {promised} bytes, {} follow", data.len()))
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
    checkpoint_with(file, Forward::default())
}

/// The same, where `forward` says what names and shapes do not tell.
///
/// # Errors
/// The file and the tensor are named; of a network that is not known, what the file holds.
pub fn checkpoint_with(file: &TensorFile, forward: Forward) -> Result<Checkpoint> {
    let Some(model) = families::infer(&file.origin, forward, file.shapes())? else {
        let what = format!(
            "{}; read are {} under the names of docs/models.md: save such a network's state_dict() alone",
            names::describe(&file.order),
            families::family_names()
        );
        return Err(Error::format(&file.origin, what));
    };
    let weights = Arc::new(load_into(&model, file)?);
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
    let known: BTreeSet<&str> = layout.tensors().map(|(name, _)| name).collect();
    for (name, _) in file.iter() {
        if !known.contains(name) && !name.ends_with("num_batches_tracked") {
            let what = format!("does not belong to a {}", model.name);
            return Err(Error::tensor(format!("{}:{name}", file.origin), what));
        }
    }
    Ok(weights)
}

/// A trunk from a file under a new head: every tensor but those of the layer that gives the logits
/// is the file's; that layer is `head`'s, and the file's own (of any number of classes, or none) is
/// not looked at.
///
/// # Errors
/// As [`load_into`].
pub fn load_trunk(model: &Model, file: &TensorFile, head: &Weights) -> Result<Weights> {
    let mut trunk = TensorFile {
        origin: file.origin.clone(),
        tensors: file.tensors.clone(),
        order: file.order.clone(),
        own: file.own.clone(),
    };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_is_read_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("long");
        let bytes: Vec<u8> = (0..9_000_001_u32).map(|place| (place.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        assert!(read(&path, bytes.len() as u64).unwrap() == bytes);
        // It became shorter since its length was asked for.
        assert!(read(&path, bytes.len() as u64 + 1).is_err());
    }
}
