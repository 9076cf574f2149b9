//! One dense array inside a `.safetensors` or `.npy` file, read range by range: only the header is read to open it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;
use serde::Deserialize;

use super::impostor::what_is;
use crate::error::{Error, Result, first_fault, near_miss};

/// The longest header that is read, some 50,000 tensors; NumPy's headers are far shorter.
const LIMIT_HEADER: u64 = 8 << 20;

/// The element types that images and labels come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Element {
    F16,
    Bf16,
    F32,
    F64,
    U8,
    I32,
    U32,
    I64,
}

impl Element {
    fn size(self) -> usize {
        match self {
            Element::U8 => 1,
            Element::F16 | Element::Bf16 => 2,
            Element::F32 | Element::I32 | Element::U32 => 4,
            Element::F64 | Element::I64 => 8,
        }
    }
}

/// Where an array lies: row-major, little-endian, at `offset` in the file.
#[derive(Debug, Clone)]
pub(crate) struct ArrayFile {
    path: PathBuf,
    /// The tensor's name, or "array" in a NumPy file.
    key: String,
    element: Element,
    shape: Vec<usize>,
    offset: u64,
}

#[derive(Deserialize)]
struct TensorEntry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

impl ArrayFile {
    /// The array that `FILE.safetensors:KEY` or a NumPy file names.
    ///
    /// # Errors
    /// As [`ArrayFile::safetensors`] and [`ArrayFile::npy`]; a safetensors file without a key.
    pub(crate) fn open(argument: &str) -> Result<Self> {
        let path = Path::new(argument);
        if let Some((file, key)) = split_key(argument).filter(|_| !path.exists()) {
            return Self::safetensors(&file, key);
        }
        let mut start = Vec::new();
        open(path)?.0.take(9).read_to_end(&mut start).map_err(|e| Error::io(path, e))?;
        if Self::is_safetensors(&start) || argument.ends_with(".safetensors") {
            let keys = Self::keys(path)?;
            return Err(Error::input(format!("{argument}: say which tensor, as {argument}:KEY; it holds {keys}")));
        }
        Self::npy(path)
    }

    /// The tensor `key` of a safetensors file. Lengths and offsets are checked against the file
    /// before anything is allocated.
    pub(crate) fn safetensors(path: &Path, key: &str) -> Result<Self> {
        let (entries, start) = safetensors_header(path)?;
        let Some(entry) = entries.get(key) else {
            let near = near_miss(key, entries.keys().map(String::as_str));
            return Err(Error::format(path, format!("no tensor `{key}`; it holds {}{near}", listed(&entries))));
        };
        let element = match entry.dtype.as_str() {
            "F16" => Element::F16,
            "BF16" => Element::Bf16,
            "F32" => Element::F32,
            "F64" => Element::F64,
            "U8" => Element::U8,
            "I32" => Element::I32,
            "U32" => Element::U32,
            "I64" => Element::I64,
            other => {
                return Err(Error::format(path, format!("tensor `{key}` is {other}, which is not read here")));
            }
        };
        let (begin, end) = entry.data_offsets;
        let needed = bytes_of(&entry.shape, element);
        if needed != end.checked_sub(begin) {
            return Err(Error::format(
                path,
                format!("tensor `{key}` of shape {:?} does not fit its offsets {begin} to {end}", entry.shape),
            ));
        }
        Ok(Self { path: path.into(), key: key.into(), element, shape: entry.shape.clone(), offset: start + begin })
    }

    /// Whether a file that begins so is one of safetensors: the length of a header, and its brace.
    pub(crate) fn is_safetensors(start: &[u8]) -> bool {
        match start.split_first_chunk::<8>() {
            Some((length, rest)) => rest.first() == Some(&b'{') && u64::from_le_bytes(*length) <= LIMIT_HEADER,
            None => false,
        }
    }

    /// Names of the tensors of a safetensors file, for a message.
    pub(crate) fn keys(path: &Path) -> Result<String> {
        Ok(listed(&safetensors_header(path)?.0))
    }

    /// The array of a NumPy file (versions 1 to 3, C order).
    pub(crate) fn npy(path: &Path) -> Result<Self> {
        let (mut file, length) = open(path)?;
        let fault = |what: &str| Error::format(path, what);
        let mut start = [0u8; 10];
        read_exact(&mut file, &mut start, path)?;
        if &start[..6] != b"\x93NUMPY" {
            let mut more = start.to_vec();
            // For the message alone: what can be read will do.
            let _ = (&mut file).take(512).read_to_end(&mut more);
            return Err(fault(&match what_is(&more) {
                Some(what) => format!("{what}, not a NumPy file"),
                None => "is not a NumPy file (bad magic)".into(),
            }));
        }
        let (header_length, header_start) = match start[6] {
            1 => (u64::from(u16::from_le_bytes([start[8], start[9]])), 10),
            2 | 3 => {
                let mut rest = [0u8; 2];
                read_exact(&mut file, &mut rest, path)?;
                (u64::from(u32::from_le_bytes([start[8], start[9], rest[0], rest[1]])), 12)
            }
            version => {
                return Err(fault(&format!("NumPy format version {version} is not known")));
            }
        };
        if header_length > LIMIT_HEADER || header_start + header_length > length {
            return Err(fault(&format!("claims a header of {header_length} bytes, but has {length} in all")));
        }
        let mut header = vec![0u8; header_length as usize];
        read_exact(&mut file, &mut header, path)?;
        let header = String::from_utf8(header).map_err(|_| fault("its header is not text"))?;
        let element = match npy_field(&header, "descr").map(|d| d.trim_matches(['\'', '"'])) {
            Some("<f2") => Element::F16,
            Some("<f4") => Element::F32,
            Some("<f8") => Element::F64,
            Some("|u1") => Element::U8,
            Some("<i4") => Element::I32,
            Some("<u4") => Element::U32,
            Some("<i8") => Element::I64,
            Some(other) => return Err(fault(&format!("element type {other} is not read here"))),
            None => return Err(fault("its header has no `descr`")),
        };
        if npy_field(&header, "fortran_order") != Some("False") {
            return Err(fault("must be in C order (fortran_order is not False)"));
        }
        let shape = npy_field(&header, "shape").and_then(|text| {
            let inside = text.strip_prefix('(')?.strip_suffix(')')?;
            let sizes = inside.split(',').map(str::trim).filter(|size| !size.is_empty());
            sizes.map(|size| size.parse().ok()).collect::<Option<Vec<usize>>>()
        });
        let shape = shape.ok_or_else(|| fault("its header has no readable `shape`"))?;
        let offset = header_start + header_length;
        if bytes_of(&shape, element) != Some(length - offset) {
            return Err(fault(&format!("shape {shape:?} does not fit the {} bytes of data", length - offset)));
        }
        Ok(Self { path: path.into(), key: "array".into(), element, shape, offset })
    }

    /// The sizes of its dimensions.
    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The type of its elements.
    pub(crate) fn element(&self) -> Element {
        self.element
    }

    /// `FILE:KEY`, for messages.
    pub(crate) fn name(&self) -> String {
        format!("{}:{}", self.path.display(), self.key)
    }

    /// An error about this array.
    pub(crate) fn fault(&self, what: impl Into<String>) -> Error {
        Error::format(self.name(), what)
    }

    /// Whether its elements are floating-point numbers.
    pub(crate) fn is_float(&self) -> bool {
        matches!(self.element, Element::F16 | Element::Bf16 | Element::F32 | Element::F64)
    }

    /// Images `range`, of `size` elements each, as f32 (f64 is rounded). All threads read, as
    /// nothing else is done meanwhile.
    ///
    /// # Errors
    /// When they are no floating-point numbers, or one is NaN or infinite.
    pub(crate) fn images(&self, range: Range<usize>, size: usize) -> Result<Vec<f32>> {
        /// Elements at a time, of which bytes and values stay in a thread's cache.
        const PIECE: usize = 1 << 16;
        if !self.is_float() {
            return Err(self.fault(format!("holds {:?}, floating-point values are needed", self.element)));
        }
        let first = range.start * size;
        let mut values = vec![0.0; range.len() * size];
        let pieces = values.par_chunks_mut(PIECE).enumerate();
        first_fault(pieces.map(|(nth, values)| {
            let start = first + nth * PIECE;
            self.convert(&self.bytes(start..start + values.len())?, values)?;
            match values.iter().position(|value| !value.is_finite()) {
                Some(at) => {
                    let (value, at) = (values[at], start + at);
                    Err(self.fault(format!("image {} holds {value} at its value {}", at / size, at % size)))
                }
                None => Ok(()),
            }
        }))?;
        Ok(values)
    }

    /// The floating-point numbers that `bytes` are.
    fn convert(&self, bytes: &[u8], values: &mut [f32]) -> Result<()> {
        match self.element {
            Element::F64 => {
                let wide = bytes.as_chunks().0.iter().map(|&bytes| f64::from_le_bytes(bytes));
                values.iter_mut().zip(wide).for_each(|(value, wide)| *value = wide as f32);
            }
            Element::F16 | Element::Bf16 => {
                let dtype = if self.element == Element::F16 { DType::F16 } else { DType::BF16 };
                let half = Tensor::from_raw_buffer(bytes, dtype, &[values.len()], &Device::Cpu)?;
                values.copy_from_slice(&half.to_dtype(DType::F32)?.to_vec1()?);
            }
            _ => {
                let read = bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
                values.iter_mut().zip(read).for_each(|(value, read)| *value = read);
            }
        }
        Ok(())
    }

    /// Elements `range` of the flat array, as integers.
    pub(crate) fn integers(&self, range: Range<usize>) -> Result<Vec<i64>> {
        let bytes = self.bytes(range)?;
        match self.element {
            Element::U8 => Ok(bytes.iter().map(|&b| i64::from(b)).collect()),
            Element::I32 => Ok(bytes.as_chunks::<4>().0.iter().map(|&b| i64::from(i32::from_le_bytes(b))).collect()),
            Element::U32 => Ok(bytes.as_chunks::<4>().0.iter().map(|&b| i64::from(u32::from_le_bytes(b))).collect()),
            Element::I64 => Ok(bytes.as_chunks::<8>().0.iter().map(|&b| i64::from_le_bytes(b)).collect()),
            other => Err(self.fault(format!("holds {other:?}, whole numbers are needed"))),
        }
    }

    fn bytes(&self, range: Range<usize>) -> Result<Vec<u8>> {
        let size = self.element.size();
        let mut file = File::open(&self.path).map_err(|e| Error::io(&self.path, e))?;
        let start = self.offset + (range.start * size) as u64;
        file.seek(SeekFrom::Start(start)).map_err(|e| Error::io(&self.path, e))?;
        let mut bytes = vec![0u8; range.len() * size];
        read_exact(&mut file, &mut bytes, &self.path)?;
        Ok(bytes)
    }
}

fn listed(entries: &BTreeMap<String, TensorEntry>) -> String {
    let keys: Vec<&str> = entries.keys().map(String::as_str).take(8).collect();
    let more = if entries.len() > 8 { ", …" } else { "" };
    keys.join(", ") + more
}

/// The tensors a safetensors file says it holds, and where its data begin.
fn safetensors_header(path: &Path) -> Result<(BTreeMap<String, TensorEntry>, u64)> {
    let (mut file, length) = open(path)?;
    let mut claim = [0u8; 8];
    read_exact(&mut file, &mut claim, path)?;
    let claim = u64::from_le_bytes(claim);
    if !(2..=LIMIT_HEADER).contains(&claim) || 8 + claim > length {
        let mut start = claim.to_le_bytes().to_vec();
        // For the message alone: what can be read will do.
        let _ = file.take(512).read_to_end(&mut start);
        return Err(Error::format(
            path,
            match what_is(&start) {
                Some(what) => format!("{what}, not a safetensors file"),
                None => format!("claims a header of {claim} bytes, but has {length} in all"),
            },
        ));
    }
    let mut header = vec![0u8; claim as usize];
    read_exact(&mut file, &mut header, path)?;
    let fault = |what: String| Error::format(path, format!("its safetensors header is broken: {what}"));
    let raw: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&header).map_err(|e| fault(e.to_string()))?;
    let mut entries = BTreeMap::new();
    for (name, value) in raw {
        if name != "__metadata__" {
            let entry: TensorEntry =
                serde_json::from_value(value).map_err(|e| fault(format!("tensor `{name}`: {e}")))?;
            entries.insert(name, entry);
        }
    }
    // The format allows no holes, overlaps or trailing bytes.
    let mut ordered: Vec<(&String, (u64, u64))> = entries.iter().map(|(n, e)| (n, e.data_offsets)).collect();
    ordered.sort_by_key(|&(_, offsets)| offsets);
    let mut expected = 0;
    for (name, (begin, end)) in ordered {
        if begin != expected || end < begin {
            return Err(fault(format!("tensor `{name}` lies at {begin} to {end}, expected at {expected}")));
        }
        expected = end;
    }
    let data = length - 8 - claim;
    if expected != data {
        return Err(Error::format(path, format!("its tensors need {expected} bytes of data, but it has {data}")));
    }
    Ok((entries, 8 + claim))
}

/// The value of `'name':` in a NumPy header, up to the comma or brace that ends it.
fn npy_field<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    let quoted = [format!("'{name}'"), format!("\"{name}\"")];
    let after = quoted.iter().find_map(|q| header.split_once(q.as_str()))?.1;
    let value = after.trim_start().strip_prefix(':')?.trim_start();
    let end = match value.starts_with('(') {
        true => value.find(')')? + 1,
        false => value.find([',', '}'])?,
    };
    Some(value[..end].trim_end())
}

fn bytes_of(shape: &[usize], element: Element) -> Option<u64> {
    let bytes = shape.iter().try_fold(element.size(), |product, &size| product.checked_mul(size))?;
    u64::try_from(bytes).ok()
}

fn open(path: &Path) -> Result<(File, u64)> {
    // Opening a pipe would wait for its writer.
    let metadata = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
    let open = || File::open(path).map_err(|e| Error::io(path, e));
    match metadata.is_file() {
        true if metadata.len() == 0 => Err(Error::format(path, "is empty")),
        true => Ok((open()?, metadata.len())),
        false => Err(Error::format(path, "is not a file")),
    }
}

fn read_exact(file: &mut File, buffer: &mut [u8], path: &Path) -> Result<()> {
    file.read_exact(buffer).map_err(|e| match e.kind() {
        std::io::ErrorKind::UnexpectedEof => Error::format(path, "is truncated"),
        _ => Error::io(path, e),
    })
}

/// `FILE.safetensors:KEY` in its two parts.
pub(super) fn split_key(argument: &str) -> Option<(PathBuf, &str)> {
    let (file, key) = argument.split_once(".safetensors:")?;
    Some((PathBuf::from(format!("{file}.safetensors")), key))
}
