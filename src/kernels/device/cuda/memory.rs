//! Device memory that is used again: the same sizes come with every step, so after the first nothing is allocated.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::{CudaSlice, CudaStream, DevicePtr, result as driver};

use super::failed;
use crate::error::{Error, Result};

/// Sizes are rounded up to this, in bytes.
const GRAIN: usize = 512;

/// The computing stream and what memory of it is free.
pub(super) struct Pool {
    stream: Arc<CudaStream>,
    free: Mutex<BTreeMap<usize, Vec<CudaSlice<u8>>>>,
}

/// A piece of device memory; it goes back to its pool when dropped. What was asked of the stream
/// before may still use it then: so will all that comes after, in the stream's order.
pub(super) struct Memory {
    slice: Option<CudaSlice<u8>>,
    pointer: u64,
    pool: Arc<Pool>,
}

impl Pool {
    pub(super) fn new(stream: Arc<CudaStream>) -> Self {
        Self { stream, free: Mutex::default() }
    }

    pub(super) fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    fn free(&self) -> MutexGuard<'_, BTreeMap<usize, Vec<CudaSlice<u8>>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `bytes` of memory with arbitrary content.
    pub(super) fn take(self: &Arc<Self>, bytes: usize) -> Result<Memory> {
        let size = bytes.max(1).next_multiple_of(GRAIN);
        let found = self.free().get_mut(&size).and_then(Vec::pop);
        let slice = match found {
            Some(slice) => slice,
            None => self.allocate(size)?,
        };
        let (pointer, _) = slice.device_ptr(&self.stream);
        Ok(Memory { pointer, slice: Some(slice), pool: self.clone() })
    }

    fn allocate(&self, size: usize) -> Result<CudaSlice<u8>> {
        // SAFETY: memory with arbitrary content; whoever takes it writes it before it is read.
        if let Ok(slice) = unsafe { self.stream.alloc::<u8>(size) } {
            return Ok(slice);
        }
        // Other sizes may lie idle.
        self.release()?;
        // SAFETY: as above.
        unsafe { self.stream.alloc::<u8>(size) }.map_err(|error| {
            let free = self.stream.context().mem_get_info().map_or(0, |(free, _)| free);
            Error::input(format!("CUDA, no room for {size} bytes beside what is in use ({free} free): {error}"))
        })
    }

    /// Gives idle memory back to the device.
    pub(super) fn release(&self) -> Result<()> {
        let idle = std::mem::take(&mut *self.free());
        drop(idle);
        self.synchronize()
    }

    /// Waits until everything that was asked for is done.
    pub(super) fn synchronize(&self) -> Result<()> {
        self.stream.synchronize().map_err(failed("waiting for the device"))
    }

    /// A copy of host values on the device.
    pub(super) fn upload<T: Copy>(self: &Arc<Self>, values: &[T]) -> Result<Memory> {
        let memory = self.take(size_of_val(values))?;
        self.write(memory.pointer(), values)?;
        Ok(memory)
    }

    /// Copies host values to a device address that has room for them.
    pub(super) fn write<T: Copy>(&self, pointer: u64, values: &[T]) -> Result<()> {
        self.stream.context().bind_to_thread().map_err(failed("copying to the device"))?;
        // SAFETY: the caller's memory has room; the driver has read pageable host memory when the call returns.
        unsafe { driver::memcpy_htod_async(pointer, values, self.stream.cu_stream()) }
            .map_err(failed("copying to the device"))
    }

    /// Copies from a device address that holds so many values, and waits.
    pub(super) fn read<T: Copy>(&self, pointer: u64, values: &mut [T]) -> Result<()> {
        self.stream.context().bind_to_thread().map_err(failed("copying from the device"))?;
        // SAFETY: the caller's memory holds so many values, and the host's is not touched before the wait is over.
        unsafe { driver::memcpy_dtoh_async(values, pointer, self.stream.cu_stream()) }
            .map_err(failed("copying from the device"))?;
        self.synchronize()
    }

    /// Writes zero bytes.
    pub(super) fn clear(&self, pointer: u64, bytes: usize) -> Result<()> {
        self.stream.context().bind_to_thread().map_err(failed("clearing memory"))?;
        // SAFETY: the caller's memory has so many bytes.
        unsafe { driver::memset_d8_async(pointer, 0, bytes, self.stream.cu_stream()) }
            .map_err(failed("clearing memory"))
    }
}

impl Memory {
    /// The device address.
    pub(super) fn pointer(&self) -> u64 {
        self.pointer
    }

    /// Bytes, at least those asked for.
    pub(super) fn bytes(&self) -> usize {
        self.slice.as_ref().map_or(0, CudaSlice::len)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Some(slice) = self.slice.take() {
            self.pool.free().entry(slice.len()).or_default().push(slice);
        }
    }
}
