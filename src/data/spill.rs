//! Numbers that do not fit into memory: in a file without a name, which is gone when the program ends, however it ends.

use std::env;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};

/// Numbers read from and written to the file at once.
const AT_ONCE: usize = 1 << 14;

/// What can be kept.
pub(crate) trait Number: Copy + Default {
    /// Its bytes, of which there are [`size_of`] many.
    fn put(self, to: &mut Vec<u8>);
    /// The number of these bytes.
    fn get(bytes: &[u8]) -> Self;
}

impl Number for f32 {
    fn put(self, to: &mut Vec<u8>) {
        to.extend(self.to_ne_bytes());
    }

    fn get(bytes: &[u8]) -> Self {
        bytes.try_into().map_or(f32::NAN, f32::from_ne_bytes)
    }
}

impl Number for f64 {
    fn put(self, to: &mut Vec<u8>) {
        to.extend(self.to_ne_bytes());
    }

    fn get(bytes: &[u8]) -> Self {
        bytes.try_into().map_or(f64::NAN, f64::from_ne_bytes)
    }
}

/// Numbers by their place, in a file of the folder for temporary files (`TMPDIR`). What was not written is 0.
#[derive(Debug)]
pub(crate) struct Spill<T> {
    file: Mutex<File>,
    numbers: PhantomData<T>,
}

impl<T: Number> Spill<T> {
    /// None yet.
    ///
    /// # Errors
    /// The folder for temporary files cannot be written to; as all below: it is full.
    pub(crate) fn new(numbers: usize) -> Result<Self> {
        let file = tempfile::tempfile().map_err(failed)?;
        file.set_len((numbers * size_of::<T>()) as u64).map_err(failed)?;
        Ok(Self { file: Mutex::new(file), numbers: PhantomData })
    }

    /// Keeps numbers from place `at` on.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn write(&self, at: usize, numbers: &[T]) -> Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start((at * size_of::<T>()) as u64)).map_err(failed)?;
        let mut bytes = Vec::with_capacity(numbers.len().min(AT_ONCE) * size_of::<T>());
        for part in numbers.chunks(AT_ONCE) {
            bytes.clear();
            part.iter().for_each(|number| number.put(&mut bytes));
            file.write_all(&bytes).map_err(failed)?;
        }
        Ok(())
    }

    /// The numbers from place `at` on, as many as `numbers` has room for.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn read(&self, at: usize, numbers: &mut [T]) -> Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start((at * size_of::<T>()) as u64)).map_err(failed)?;
        let mut bytes = vec![0; numbers.len().min(AT_ONCE) * size_of::<T>()];
        for part in numbers.chunks_mut(AT_ONCE) {
            let bytes = &mut bytes[..size_of_val(part)];
            file.read_exact(bytes).map_err(failed)?;
            part.iter_mut().zip(bytes.chunks_exact(size_of::<T>())).for_each(|(number, bytes)| *number = T::get(bytes));
        }
        Ok(())
    }
}

fn failed(error: std::io::Error) -> Error {
    let folder = env::temp_dir();
    Error::input(format!(
        "{}: what does not fit into the memory allowed is kept here meanwhile: {error} (allow more memory, or name another folder in \
         TMPDIR)",
        folder.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_from_their_places() {
        let spill = Spill::<f32>::new(100_000).unwrap();
        let numbers: Vec<f32> = (0..40_000).map(|n| n as f32 * 0.1 - 7.0).collect();
        spill.write(50_000, &numbers).unwrap();
        spill.write(3, &[f32::MIN_POSITIVE, -0.0]).unwrap();
        let mut all = vec![1.0; 100_000];
        spill.read(0, &mut all).unwrap();
        assert_eq!(all[50_000..90_000], numbers);
        assert!(all[..3].iter().chain(&all[5..50_000]).all(|&number| number == 0.0));
        assert_eq!(all[3].to_bits(), f32::MIN_POSITIVE.to_bits());
        assert_eq!(all[4].to_bits(), (-0.0f32).to_bits());
        assert!(spill.read(99_999, &mut [0.0; 2]).is_err());
    }
}
