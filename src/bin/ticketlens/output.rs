//! What the commands write: files of tensors part by part, texts whole, none of them over an input.

use std::path::Path;
use std::sync::Once;

use anyhow::{Context, bail};
use candle_core::{DType, Tensor};
use serde_json::{Map, json};
use ticketlens::output::{Inputs, Output, OutputFolder, remove_unfinished};

use crate::{signals, terminal};

/// Exit code of a process ended by Ctrl-C, as shells count it; by SIGTERM and SIGHUP too.
const INTERRUPTED: i32 = 130;

/// Removes unfinished outputs when the user interrupts.
fn handle_interrupts() {
    static HANDLER: Once = Once::new();
    HANDLER.call_once(|| {
        // Without the handler an interrupted command would leave its temporary file; nothing else depends on it.
        let _ = signals::on_end(|| {
            remove_unfinished();
            std::process::exit(INTERRUPTED);
        });
    });
}

/// Opens the output that `flag` names, for a command that reads `inputs`.
pub(crate) fn create(flag: &str, path: &Path, inputs: &Inputs) -> anyhow::Result<Output> {
    handle_interrupts();
    let output = Output::create(path, inputs).with_context(|| flag.to_owned())?;
    if output.is_stdout() {
        // The file is the result; a summary in the midst of it would break it.
        terminal::results_to_stderr();
    }
    Ok(output)
}

/// As [`create`], for a folder.
pub(crate) fn create_folder(flag: &str, path: &Path, inputs: &Inputs) -> anyhow::Result<OutputFolder> {
    handle_interrupts();
    OutputFolder::create(path, inputs).with_context(|| flag.to_owned())
}

/// Writes a whole text file.
pub(crate) fn write_text(mut output: Output, text: &str) -> anyhow::Result<()> {
    output.write_at(0, text.as_bytes())?;
    Ok(output.finish()?)
}

/// A text to the file that `--out` names, or to stdout.
pub(crate) fn deliver(out: Option<&Path>, text: &str, inputs: &Inputs) -> anyhow::Result<()> {
    match out {
        Some(out) => write_text(create("--out", out, inputs)?, text),
        None => {
            terminal::print(text);
            Ok(())
        }
    }
}

/// A safetensors file whose tensors are written part by part, so that it never has to be in memory.
pub(crate) struct TensorWriter {
    file: Output,
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
    pub(crate) fn new(mut file: Output, tensors: &[(String, DType, Vec<usize>)]) -> anyhow::Result<Self> {
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
            None => Ok(self.file.finish()?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

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
        let mut writer = TensorWriter::new(Output::create(&path, &Inputs::none()).unwrap(), &announced).unwrap();
        writer.append("a", &part(&[1.0, 2.0])).unwrap();
        assert!(writer.finish().unwrap_err().to_string().contains("not written"));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);

        let mut writer = TensorWriter::new(Output::create(&path, &Inputs::none()).unwrap(), &announced).unwrap();
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
