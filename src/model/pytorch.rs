//! Files that `torch.save` writes: the zip archive since PyTorch 1.6, and the stream before it.
//! Only descriptions of tensors are taken from the pickle; nothing in it is executed.
//!
//! Long: two containers of one description of tensors.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Cursor};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use crate::error::{Error, first_fault};

use super::pickle::{Fault, Id, Pickle, Value};

/// How the archive begins.
const ZIP: &[u8] = b"PK";
/// How the end of its list of entries begins.
const DIRECTORY_END: &[u8] = b"PK\x05\x06";
/// It is followed by 18 bytes and a comment of 65,535 at most.
const LONGEST_END: usize = 66_000;
/// How the stream begins: protocol 2, and PyTorch's magic number as a long integer.
const STREAM: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
/// Keys under which training scripts keep the dictionary of tensors, those that are meant first.
/// Any other key will do where only one dictionary of tensors is there.
const NESTED: [&str; 9] = [
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "module",
    "state_dict_ema",
    "model_ema",
];
/// Tensors of a file, and dimensions of one: no network has so many.
const MOST_TENSORS: usize = 50_000;
const MOST_DIMENSIONS: usize = 16;
/// Tensors may share their storage, as tied weights do; all together take no more than the file so many times.
const MOST_SHARED: usize = 8;
/// Dictionaries inside dictionaries are looked into this deep.
const DEPTH: usize = 3;

/// Names and values.
type Tensors = Vec<(String, Tensor)>;

/// Whether a file that begins with these bytes comes from `torch.save`.
pub(super) fn is_pytorch(bytes: &[u8]) -> bool {
    bytes.starts_with(ZIP) || bytes.starts_with(STREAM)
}

/// Names and tensors in the order of the dictionary.
///
/// # Errors
/// The file is named, and the entry where one is at fault.
pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<Tensors, Error> {
    let result = if bytes.starts_with(ZIP) { read_archive(bytes) } else { read_stream(bytes) };
    result.map_err(|fault| {
        let fault = if fault == "is truncated" || fault == "its pickle is truncated" {
            "is truncated: it ends before its last tensor".into()
        } else {
            fault
        };
        Error::format(path, fault)
    })
}

fn read_archive(bytes: &[u8]) -> Result<Tensors, Fault> {
    let broken = |error: zip::result::ZipError| format!("is not a PyTorch archive: {error}");
    // The list of entries stands at the end, after a mark of its own.
    let end = &bytes[bytes.len().saturating_sub(LONGEST_END)..];
    if !end.windows(DIRECTORY_END.len()).any(|window| window == DIRECTORY_END) {
        return Err("is truncated: the end of the archive is missing, as after a download that was cut off".into());
    }
    // 65,535 stands for more, in an extension of the format.
    let most = |window: &[u8]| window.starts_with(DIRECTORY_END) && window[10..12] == [0xff; 2];
    if end.windows(12).any(most) {
        return Err("is an archive of more than 65,534 entries, which no network's checkpoint is".into());
    }
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(broken)?;
    let mut names = Vec::new();
    for index in 0..archive.len() {
        names.push(archive.by_index_raw(index).map_err(broken)?.name().map_err(broken)?.into_owned());
    }
    if names.iter().any(|name| name.ends_with("constants.pkl") || name.contains("/code/__torch__")) {
        return Err(
            "is a TorchScript archive (torch.jit.save), which holds code: load it with torch.jit.load and save \
                    model.state_dict()"
                .into(),
        );
    }
    if !names.is_empty() && names.iter().all(|name| name.ends_with(".npy")) {
        return Err("is a NumPy archive (.npz), not a checkpoint: save the tensors as safetensors".into());
    }
    let folder = names
        .iter()
        .find_map(|name| name.strip_suffix("data.pkl").filter(|folder| folder.matches('/').count() <= 1))
        .ok_or_else(|| {
            let entries: Vec<&str> = names.iter().map(String::as_str).take(3).collect();
            format!("is a zip archive, but not one of torch.save: it has no data.pkl, but {}", entries.join(", "))
        })?;
    let mut entries = Entries { archive, bytes };
    if names.contains(&format!("{folder}byteorder")) && entries.content(&format!("{folder}byteorder"))? != b"little" {
        return Err("is big-endian".into());
    }
    let content = entries.content(&format!("{folder}data.pkl"))?;
    let described = describe(&Pickle::read(&mut &*content)?)?;
    check_total(&described, bytes.len())?;
    let keys: BTreeSet<&str> = described.iter().map(|tensor| tensor.storage.key.as_str()).collect();
    let keys: Vec<(&str, String)> = keys.into_iter().map(|key| (key, format!("{folder}data/{key}"))).collect();
    let mut left = bytes.len().saturating_sub(content.len()) as u64;
    for (_, name) in &keys {
        // Entries may be said to lie over each other.
        left = left
            .checked_sub(entries.size(name)?)
            .ok_or_else(|| format!("its entry {name} overlaps others: together they are longer than the file"))?;
    }
    let contents = keys
        .par_iter()
        .map_init(|| entries.clone(), |entries, (key, name)| entries.content(name).map(|content| (*key, content)));
    let storages: BTreeMap<&str, &[u8]> = first_fault(contents)?.into_iter().collect();
    first_fault(described.par_iter().map(|tensor| tensor.build(storages[tensor.storage.key.as_str()])))
}

/// An archive over its bytes; each thread has one of its own.
#[derive(Clone)]
struct Entries<'a> {
    archive: zip::ZipArchive<Cursor<&'a [u8]>>,
    bytes: &'a [u8],
}

impl<'a> Entries<'a> {
    fn open(&mut self, name: &str) -> Result<zip::read::ZipFile<'_, Cursor<&'a [u8]>>, Fault> {
        let entry = self.archive.by_name(name).map_err(|error| format!("its entry {name}: {error}"))?;
        // Stored as it is, an entry is no longer than the file; a compressed one could claim anything.
        if entry.compression() != zip::CompressionMethod::Stored || entry.size() > self.bytes.len() as u64 {
            return Err(format!("its entry {name}: is compressed, which torch.save never does"));
        }
        Ok(entry)
    }

    /// Bytes of an entry.
    fn size(&mut self, name: &str) -> Result<u64, Fault> {
        Ok(self.open(name)?.size())
    }

    /// The bytes themselves, once their checksum is right.
    fn content(&mut self, name: &str) -> Result<&'a [u8], Fault> {
        let bytes = self.bytes;
        let mut entry = self.open(name)?;
        // Read to its end for the checksum; the bytes are there already.
        let length = io::copy(&mut entry, &mut io::sink()).map_err(|error| format!("its entry {name}: {error}"))?;
        let start = entry.data_start().ok_or_else(|| format!("its entry {name}: has no place"))?;
        let place = usize::try_from(start).ok().zip(usize::try_from(length).ok());
        let content = place.and_then(|(start, length)| bytes.get(start..)?.get(..length));
        content.ok_or_else(|| format!("its entry {name}: reaches beyond the file"))
    }
}

fn read_stream(bytes: &[u8]) -> Result<Tensors, Fault> {
    let mut rest = bytes;
    for _ in ["magic number", "protocol", "system"] {
        Pickle::read(&mut rest)?;
    }
    let pickle = Pickle::read(&mut rest)?;
    let described = describe(&pickle)?;
    check_total(&described, bytes.len())?;
    let widths = storage_widths(&pickle);
    let keys = Pickle::read(&mut rest)?;
    let Value::List(listed) = keys.root() else {
        return Err("its list of storages is missing".into());
    };
    let mut storages = BTreeMap::new();
    for &id in listed {
        let Value::Text(key) = keys.get(id) else {
            return Err("a storage's key is not text".into());
        };
        // Of a storage that nothing refers to the width is unknown, and so is where the next begins.
        let Some(width) = widths.get(key.as_str()) else {
            return Err(format!("its storage {key} belongs to no tensor: save model.state_dict() alone"));
        };
        let (length, after) = rest.split_first_chunk::<8>().ok_or("is truncated")?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok().and_then(|count| count.checked_mul(*width));
        let (content, after) = length.and_then(|length| after.split_at_checked(length)).ok_or("is truncated")?;
        storages.insert(key.clone(), content);
        rest = after;
    }
    first_fault(described.par_iter().map(|tensor| {
        let content = storages.get(&tensor.storage.key).ok_or("a storage is missing")?;
        tensor.build(content)
    }))
}

/// Refuses tensors that are built from a file of `length` bytes by repeating what is in it.
fn check_total(described: &[Described], length: usize) -> Result<(), Fault> {
    let bytes = described.iter().map(|tensor| {
        let count = tensor.shape.iter().fold(1usize, |product, &extent| product.saturating_mul(extent));
        count.saturating_mul(tensor.storage.element.width())
    });
    match bytes.fold(0, usize::saturating_add) {
        total if total > MOST_SHARED.saturating_mul(length) => {
            Err(format!("its tensors claim {total} bytes together, but the file has {length}"))
        }
        _ => Ok(()),
    }
}

/// Bytes of an element of every storage that is referred to anywhere, an optimiser's too.
fn storage_widths(pickle: &Pickle) -> BTreeMap<&str, usize> {
    let width = |class: &str| match Element::of_storage(class) {
        Some(element) => Some(element.width()),
        None => OTHER_WIDTHS.iter().find(|(name, _)| *name == class).map(|(_, width)| *width),
    };
    let storage = |value| match value {
        &Value::Persistent(id) => match pickle.get(id) {
            Value::Tuple(parts) => match parts[..] {
                [_, class, key, ..] => match (pickle.get(class), pickle.get(key)) {
                    (Value::Global(_, class), Value::Text(key)) => Some((key.as_str(), width(class)?)),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        },
        _ => None,
    };
    pickle.values().filter_map(storage).collect()
}

/// Storages of elements that no weight here is made of, and how wide those are.
const OTHER_WIDTHS: [(&str, usize); 7] = [
    ("ComplexFloatStorage", 8),
    ("ComplexDoubleStorage", 16),
    ("QInt8Storage", 1),
    ("QUInt8Storage", 1),
    ("QInt32Storage", 4),
    ("UntypedStorage", 1),
    ("_UntypedStorage", 1),
];

/// Element type of a storage.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Element {
    Float(DType),
    Integer(usize),
}

impl Element {
    fn of_storage(class: &str) -> Option<Self> {
        Some(match class {
            "FloatStorage" => Element::Float(DType::F32),
            "DoubleStorage" => Element::Float(DType::F64),
            "HalfStorage" => Element::Float(DType::F16),
            "BFloat16Storage" => Element::Float(DType::BF16),
            "ByteStorage" | "CharStorage" | "BoolStorage" => Element::Integer(1),
            "ShortStorage" => Element::Integer(2),
            "IntStorage" => Element::Integer(4),
            "LongStorage" => Element::Integer(8),
            _ => return None,
        })
    }

    fn width(self) -> usize {
        match self {
            Element::Float(dtype) => dtype.size_in_bytes(),
            Element::Integer(width) => width,
        }
    }
}

struct Storage {
    key: String,
    element: Element,
}

/// A tensor before its values are read.
struct Described {
    name: String,
    storage: Storage,
    /// In elements, as are the strides.
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

impl Described {
    /// The tensor, from the bytes of its storage. Integers of every width but one byte become i64.
    fn build(&self, storage: &[u8]) -> Result<(String, Tensor), Fault> {
        let Self { name, offset, shape, strides, .. } = self;
        let offset = *offset;
        let width = self.storage.element.width();
        let held = storage.len() / width;
        let count = shape.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent));
        let last = shape
            .iter()
            .zip(strides)
            .try_fold(offset, |sum, (&extent, &stride)| sum.checked_add(extent.saturating_sub(1).checked_mul(stride)?));
        let count = match (count, last) {
            // An expanded tensor may repeat elements; more of them than are stored would be a claim, not a weight.
            (Some(count), Some(last)) if count == 0 || (count <= held && last < held) => count,
            _ => {
                return Err(format!("tensor `{name}` of shape {shape:?} is larger than its storage"));
            }
        };
        let mut index = vec![0; shape.len()];
        let mut contiguous = 1;
        let dense = shape.iter().zip(strides).rev().all(|(&extent, &stride)| {
            let fits = extent == 1 || stride == contiguous;
            contiguous *= extent;
            fits
        });
        let bytes: Cow<'_, [u8]> = if dense && count > 0 {
            Cow::Borrowed(&storage[offset * width..(offset + count) * width])
        } else {
            let mut bytes = Vec::with_capacity(count * width);
            for _ in 0..count {
                let at = offset + index.iter().zip(strides).map(|(i, stride)| i * stride).sum::<usize>();
                bytes.extend_from_slice(&storage[at * width..(at + 1) * width]);
                for (place, &extent) in index.iter_mut().zip(shape).rev() {
                    *place += 1;
                    if *place < extent {
                        break;
                    }
                    *place = 0;
                }
            }
            Cow::Owned(bytes)
        };
        let tensor = match self.storage.element {
            Element::Float(dtype) => Tensor::from_raw_buffer(&bytes, dtype, shape, &Device::Cpu),
            Element::Integer(1) => Tensor::from_vec(bytes.into_owned(), shape.as_slice(), &Device::Cpu),
            Element::Integer(width) => {
                let wide = |digits: &[u8]| {
                    let mut wide = [if digits[width - 1] & 0x80 == 0 { 0 } else { 0xff }; 8];
                    wide[..width].copy_from_slice(digits);
                    i64::from_le_bytes(wide)
                };
                let values: Vec<i64> = bytes.chunks_exact(width).map(wide).collect();
                Tensor::from_vec(values, shape.as_slice(), &Device::Cpu)
            }
        };
        let tensor = tensor.map_err(|error| format!("tensor `{name}`: {error}"))?;
        Ok((name.clone(), tensor))
    }
}

/// A dictionary that may be the one of tensors.
struct Candidate<'a> {
    /// The keys that lead to it.
    place: Vec<&'a str>,
    pairs: &'a [(Id, Id)],
    tensors: usize,
}

/// The dictionary of tensors: the object itself, or one that it holds, alone or under one of [`NESTED`].
fn describe(pickle: &Pickle) -> Result<Vec<Described>, Fault> {
    let Value::Dictionary(outer) = pickle.root() else {
        return Err(not_a_dictionary(pickle, pickle.root()));
    };
    let mut found = Vec::new();
    gather(pickle, &[], outer, &mut found, &mut BTreeSet::new());
    // Of each dictionary along the way the nested one is meant; what lies about beside it (a random state) is not.
    let nested = found.iter().filter(|candidate| !candidate.place.is_empty());
    let rank = |candidate: &Candidate<'_>| {
        NESTED.iter().position(|key| candidate.place.last() == Some(key)).unwrap_or(NESTED.len())
    };
    let most = found.iter().map(|candidate| candidate.tensors).max().unwrap_or(0);
    let meant = |candidate: &&Candidate<'_>| rank(candidate) < NESTED.len() && 2 * candidate.tensors >= most;
    let named = nested.filter(meant).min_by_key(|candidate| {
        // Of two under names that are meant, the outer; of those, the one whose name comes first.
        (candidate.place.len(), rank(candidate))
    });
    let pairs = match named {
        Some(candidate) => candidate.pairs,
        None => {
            // As large as half of the largest: any of them could be meant.
            let large: Vec<_> = found.iter().filter(|candidate| 2 * candidate.tensors >= most).collect();
            match large[..] {
                [first, ..] if first.place.is_empty() && first.tensors == most => first.pairs,
                [only] => only.pairs,
                [first, second, ..] => {
                    return Err(format!(
                        "holds two dictionaries of tensors, `{}` and `{}`: save one of them alone",
                        first.place.join("."),
                        second.place.join(".")
                    ));
                }
                [] => outer,
            }
        }
    };
    if pairs.is_empty() {
        return Err("holds no tensors".into());
    }
    if pairs.len() > MOST_TENSORS {
        return Err(format!("holds {} tensors, more than {MOST_TENSORS}: no network has so many", pairs.len()));
    }
    if most == 0
        && let Some((key, value)) = outer.iter().find(|(_, value)| matches!(pickle.get(*value), Value::Call(..)))
        && let Value::Text(key) = pickle.get(*key)
        && NESTED.contains(&key.as_str())
    {
        return Err(format!("its entry `{key}` {}", not_a_dictionary(pickle, pickle.get(*value))));
    }
    pairs
        .iter()
        // A module without a bias may list it as None.
        .filter(|(_, value)| *pickle.get(*value) != Value::Other("nothing"))
        .map(|&(key, value)| {
            let name = match pickle.get(key) {
                Value::Text(name) => name.clone(),
                other => return Err(format!("has {} for a name", pickle.describe(other))),
            };
            describe_tensor(pickle, name, value)
        })
        .collect()
}

/// Why an object is no dictionary of tensors, and what to save in its stead.
fn not_a_dictionary(pickle: &Pickle, value: &Value) -> Fault {
    let what = pickle.describe(value);
    let kind = if matches!(value, Value::Call(..)) { " (a whole model, pickled with its class)" } else { "" };
    format!("holds {what}{kind}, not a dictionary of tensors: save model.state_dict()")
}

/// All dictionaries that hold tensors by name, the outermost first.
fn gather<'a>(
    pickle: &'a Pickle,
    place: &[&'a str],
    pairs: &'a [(Id, Id)],
    found: &mut Vec<Candidate<'a>>,
    seen: &mut BTreeSet<Id>,
) {
    let tensors = pairs.iter().filter(|(_, value)| is_tensor(pickle, *value)).count();
    if tensors > 0 {
        found.push(Candidate { place: place.to_vec(), pairs, tensors });
    }
    if place.len() == DEPTH {
        return;
    }
    for (key, value) in pairs {
        // A dictionary that stands in several places, or in itself, is one.
        if let (Value::Text(key), Value::Dictionary(inner)) = (pickle.get(*key), pickle.get(*value))
            && seen.insert(*value)
        {
            gather(pickle, &[place, &[key.as_str()]].concat(), inner, found, seen);
        }
    }
}

/// Whether a value is a tensor, be it of a kind that cannot be read.
fn is_tensor(pickle: &Pickle, value: Id) -> bool {
    call_of(pickle, value).is_some_and(|call| {
        (call.module == "torch._utils" && call.name.starts_with("_rebuild_"))
            || (call.module == "torch._tensor" && call.name == "_rebuild_from_type_v2")
    })
}

/// `torch._utils._rebuild_tensor_v2(storage, offset, size, stride, …)`, or a parameter made of one.
fn describe_tensor(pickle: &Pickle, name: String, value: Id) -> Result<Described, Fault> {
    let not_a_tensor = || format!("entry `{name}` is {}, not a tensor", pickle.describe(pickle.get(value)));
    let mut call = call_of(pickle, value).ok_or_else(not_a_tensor)?;
    if let ("torch._tensor", "_rebuild_from_type_v2") = (call.module, call.name) {
        let [function, _, arguments, ..] = call.arguments else {
            return Err(not_a_tensor());
        };
        call = function_call(pickle, *function, *arguments).ok_or_else(not_a_tensor)?;
    }
    if let ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") = (call.module, call.name) {
        let [inner, ..] = call.arguments else {
            return Err(not_a_tensor());
        };
        call = call_of(pickle, *inner).ok_or_else(not_a_tensor)?;
    }
    if let ("torch._utils", "_rebuild_tensor_v3", Some(&dtype)) = (call.module, call.name, call.arguments.get(6)) {
        let what = pickle.describe(pickle.get(dtype));
        return Err(format!("tensor `{name}` has elements of {what}, which is not read: save it as float32"));
    }
    if !matches!((call.module, call.name), ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor")) {
        return Err(not_a_tensor());
    }
    let [storage, offset, size, stride, ..] = call.arguments else {
        return Err(not_a_tensor());
    };
    let number = |id: Id| match pickle.get(id) {
        Value::Integer(number) => usize::try_from(*number).ok(),
        _ => None,
    };
    let numbers = |id: Id| match pickle.get(id) {
        Value::Tuple(parts) if parts.len() <= MOST_DIMENSIONS => {
            parts.iter().map(|&part| number(part)).collect::<Option<Vec<usize>>>()
        }
        _ => None,
    };
    let malformed = || format!("tensor `{name}` is described in a way that is not known");
    let (offset, shape, strides) = match (number(*offset), numbers(*size), numbers(*stride)) {
        (Some(offset), Some(shape), Some(strides)) if shape.len() == strides.len() => (offset, shape, strides),
        _ => return Err(malformed()),
    };
    let Value::Persistent(id) = pickle.get(*storage) else {
        return Err(malformed());
    };
    let Value::Tuple(parts) = pickle.get(*id) else {
        return Err(malformed());
    };
    let [_, class, key, ..] = parts[..] else {
        return Err(malformed());
    };
    let (Value::Global(_, class), Value::Text(key)) = (pickle.get(class), pickle.get(key)) else {
        return Err(malformed());
    };
    let element = Element::of_storage(class)
        .ok_or_else(|| format!("tensor `{name}` has elements of {class}, which is not read"))?;
    Ok(Described { storage: Storage { key: key.clone(), element }, name, offset, shape, strides })
}

struct Call<'a> {
    module: &'a str,
    name: &'a str,
    arguments: &'a [Id],
}

fn call_of(pickle: &Pickle, value: Id) -> Option<Call<'_>> {
    match pickle.get(value) {
        Value::Call(function, arguments) => function_call(pickle, *function, *arguments),
        _ => None,
    }
}

fn function_call(pickle: &Pickle, function: Id, arguments: Id) -> Option<Call<'_>> {
    match (pickle.get(function), pickle.get(arguments)) {
        (Value::Global(module, name), Value::Tuple(arguments)) => Some(Call { module, name, arguments }),
        _ => None,
    }
}
