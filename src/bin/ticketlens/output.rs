//! Output files that appear whole or not at all: written under a temporary name beside their place, then renamed.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once};

use anyhow::{Context, bail};
use candle_core::{DType, Tensor};
use serde_json::{Map, json};

/// Temporary paths to remove if the user interrupts.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Exit code of a process ended by Ctrl-C, as shells count it.
const INTERRUPTED: i32 = 130;

fn unfinished() -> std::sync::MutexGuard<'static, Vec<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn remove(path: &Path) {
    let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
}

fn register(path: &Path) {
    static HANDLER: Once = Once::new();
    HANDLER.call_once(|| {
        // Without the handler an interrupted command would leave its temporary file; nothing else depends on it.
        let _ = ctrlc::set_handler(|| {
            unfinished().iter().for_each(|path| remove(path));
            std::process::exit(INTERRUPTED);
        });
    });
    unfinished().push(path.into());
}

fn forget(path: &Path) {
    unfinished().retain(|other| other != path);
}

/// A temporary name beside `target`, hidden, of this process.
fn temporary_beside(target: &Path) -> anyhow::Result<PathBuf> {
    let name = target.file_name().with_context(|| format!("{}: is not a file name", target.display()))?;
    Ok(target.with_file_name(format!(".{}.{}.part", name.to_string_lossy(), std::process::id())))
}

/// A file that takes its name when it is finished; dropped before that, it leaves nothing.
pub(crate) struct AtomicFile {
    target: PathBuf,
    temporary: PathBuf,
    file: File,
    /// A device or pipe cannot be replaced, so it is written to at the end.
    copy: bool,
}

impl AtomicFile {
    /// Opens the temporary file: a place that cannot be written to is found before any work is done.
    pub(crate) fn create(target: &Path) -> anyhow::Result<Self> {
        let named = || target.display().to_string();
        if target.is_dir() {
            bail!("{}: is a folder", named());
        }
        let real = if target.exists() { fs::canonicalize(target).with_context(named)? } else { target.to_path_buf() };
        let copy = real.exists() && !real.is_file();
        if !copy && real.exists() && fs::metadata(&real).with_context(named)?.permissions().readonly() {
            bail!("{}: is read-only", named());
        }
        let temporary = match copy {
            true => temporary_beside(&std::env::temp_dir().join("ticketlens"))?,
            false => temporary_beside(&real)?,
        };
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&temporary)
            .with_context(|| format!("{}: cannot be written", named()))?;
        register(&temporary);
        Ok(Self { target: real, temporary, file, copy })
    }

    fn named<T>(&self, result: std::io::Result<T>) -> anyhow::Result<T> {
        result.with_context(|| format!("{}: cannot be written", self.target.display()))
    }

    /// Writes `bytes` at `offset`.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> anyhow::Result<()> {
        let written = self.file.seek(SeekFrom::Start(offset)).and_then(|_| self.file.write_all(bytes));
        self.named(written)
    }

    /// Gives the file its name.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        if self.copy {
            let mut bytes = Vec::new();
            let read = self.file.seek(SeekFrom::Start(0)).and_then(|_| self.file.read_to_end(&mut bytes));
            self.named(read)?;
            let written = File::options().write(true).open(&self.target).and_then(|mut file| file.write_all(&bytes));
            return self.named(written);
        }
        let placed = self.file.sync_all().and_then(|()| fs::rename(&self.temporary, &self.target));
        self.named(placed)
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        // After a rename there is nothing left under this name.
        let _ = fs::remove_file(&self.temporary);
        forget(&self.temporary);
    }
}

/// Writes a whole text file.
pub(crate) fn write_text(file: AtomicFile, text: &str) -> anyhow::Result<()> {
    let mut file = file;
    file.write_at(0, text.as_bytes())?;
    file.finish()
}

/// A safetensors file whose tensors are written part by part, so that it never has to be in memory.
pub(crate) struct TensorWriter {
    file: AtomicFile,
    slots: Vec<Slot>,
}

struct Slot {
    name: String,
    dtype: DType,
    next: u64,
    end: u64,
}

impl TensorWriter {
    /// Writes the header: name, type and shape of every tensor.
    pub(crate) fn new(mut file: AtomicFile, tensors: &[(String, DType, Vec<usize>)]) -> anyhow::Result<Self> {
        let mut order: Vec<_> = tensors.iter().collect();
        // Large elements first, so that every tensor is aligned.
        order.sort_by_key(|(_, dtype, _)| std::cmp::Reverse(dtype.size_in_bytes()));
        let mut header = Map::new();
        let (mut slots, mut offset) = (Vec::new(), 0u64);
        for (name, dtype, shape) in order {
            let bytes = shape.iter().product::<usize>() as u64 * dtype.size_in_bytes() as u64;
            let tag = match dtype {
                DType::F32 => "F32",
                DType::I64 => "I64",
                DType::U8 => "U8",
                other => bail!("tensor `{name}`: {other:?} is not written here"),
            };
            header.insert(
                name.clone(),
                json!({ "dtype": tag, "shape": shape, "data_offsets": [offset, offset + bytes] }),
            );
            slots.push(Slot { name: name.clone(), dtype: *dtype, next: offset, end: offset + bytes });
            offset += bytes;
        }
        let mut text = serde_json::Value::Object(header).to_string();
        while !text.len().is_multiple_of(8) {
            text.push(' ');
        }
        file.write_at(0, &(text.len() as u64).to_le_bytes())?;
        file.write_at(8, text.as_bytes())?;
        let start = 8 + text.len() as u64;
        for slot in &mut slots {
            slot.next += start;
            slot.end += start;
        }
        Ok(Self { file, slots })
    }

    /// Appends the values of `part` to the tensor `name`.
    pub(crate) fn append(&mut self, name: &str, part: &Tensor) -> anyhow::Result<()> {
        let part = part.flatten_all()?;
        let bytes = match part.dtype() {
            DType::F32 => part.to_vec1::<f32>()?.iter().flat_map(|value| value.to_le_bytes()).collect(),
            DType::I64 => part.to_vec1::<i64>()?.iter().flat_map(|value| value.to_le_bytes()).collect(),
            _ => part.to_vec1::<u8>()?,
        };
        let slot = self.slots.iter_mut().find(|slot| slot.name == name && slot.dtype == part.dtype());
        match slot {
            Some(slot) if slot.next + bytes.len() as u64 <= slot.end => {
                self.file.write_at(slot.next, &bytes)?;
                slot.next += bytes.len() as u64;
                Ok(())
            }
            _ => bail!("tensor `{name}`: {part} does not fit what was announced"),
        }
    }

    /// Gives the file its name.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        match self.slots.iter().find(|slot| slot.next != slot.end) {
            Some(slot) => bail!("tensor `{}`: was not written to its end", slot.name),
            None => self.file.finish(),
        }
    }
}

/// A folder whose new files appear together when it is finished; dropped before that, it leaves nothing new.
pub(crate) struct AtomicFolder {
    target: PathBuf,
    temporary: PathBuf,
}

impl AtomicFolder {
    /// Makes a temporary folder beside `target`.
    pub(crate) fn create(target: &Path) -> anyhow::Result<Self> {
        if target.exists() && !target.is_dir() {
            bail!("{}: is not a folder", target.display());
        }
        let target = if target.exists() { fs::canonicalize(target)? } else { target.to_path_buf() };
        let temporary = temporary_beside(&target)?;
        fs::create_dir(&temporary).with_context(|| format!("{}: cannot be written", target.display()))?;
        register(&temporary);
        Ok(Self { target, temporary })
    }

    /// Where a file is to be written for now.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.temporary.join(name)
    }

    /// Moves all files to their place; files of the same names are replaced.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        let named = || format!("{}: cannot be written", self.target.display());
        fs::create_dir_all(&self.target).with_context(named)?;
        for entry in fs::read_dir(&self.temporary).with_context(named)? {
            let entry = entry.with_context(named)?;
            fs::rename(entry.path(), self.target.join(entry.file_name())).with_context(named)?;
        }
        Ok(())
    }
}

impl Drop for AtomicFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.temporary);
        forget(&self.temporary);
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn tensors_written_in_parts_are_read_back_and_nothing_is_left_of_an_unfinished_file() {
        let folder = std::env::temp_dir().join(format!("ticketlens-output-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("x.safetensors");
        let announced = [
            ("m".to_owned(), DType::U8, vec![3]),
            ("a".to_owned(), DType::F32, vec![2, 2]),
            ("t".to_owned(), DType::I64, vec![1]),
        ];
        let part = |values: &[f32]| Tensor::from_slice(values, (1, 2), &Device::Cpu).unwrap();
        let mut writer = TensorWriter::new(AtomicFile::create(&path).unwrap(), &announced).unwrap();
        writer.append("a", &part(&[1.0, 2.0])).unwrap();
        assert!(writer.finish().unwrap_err().to_string().contains("not written"));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);

        let mut writer = TensorWriter::new(AtomicFile::create(&path).unwrap(), &announced).unwrap();
        writer.append("a", &part(&[1.0, 2.0])).unwrap();
        writer.append("m", &Tensor::new(&[1u8, 0, 1], &Device::Cpu).unwrap()).unwrap();
        writer.append("t", &Tensor::new(&[-5i64], &Device::Cpu).unwrap()).unwrap();
        writer.append("a", &part(&[3.0, 4.0])).unwrap();
        assert!(writer.append("a", &part(&[3.0, 4.0])).is_err());
        assert!(!path.exists());
        writer.finish().unwrap();
        let read = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
        assert_eq!(read["a"].to_vec2::<f32>().unwrap(), [[1.0, 2.0], [3.0, 4.0]]);
        assert_eq!(read["m"].to_vec1::<u8>().unwrap(), [1, 0, 1]);
        assert_eq!(read["t"].to_vec1::<i64>().unwrap(), [-5]);
        fs::remove_dir_all(&folder).unwrap();
    }
}
