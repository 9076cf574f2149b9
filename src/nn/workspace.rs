//! The memory of forward and backward passes. Buffers come from a [`Workspace`] and go back to it,
//! so a training step allocates nothing after the first.

use std::ops::{Deref, DerefMut};

/// Bytes of a line of the caches, and of the longest vectors.
const LINE: usize = 64;

/// Floats of a map. There may be room for more: what a larger map left is not cleared.
#[derive(Default)]
pub struct Buffer {
    room: Vec<f32>,
    start: usize,
    len: usize,
}

impl Buffer {
    /// Zeros from the start of a line on, whatever the allocator: sparse products read a vector for
    /// each multiplication, and take up to twice as long where it lies across two lines.
    fn zeros(len: usize) -> Self {
        // As the system gives them: no page is touched before the kernels write it, with all threads.
        let room = vec![0.0; len + LINE / size_of::<f32>() - 1];
        let start = room.as_ptr().addr().wrapping_neg() % LINE / size_of::<f32>();
        Self { room, start, len }
    }

    /// The longest map that there is room for.
    fn most(&self) -> usize {
        self.room.len() - self.start
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.room[self.start..][..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.room[self.start..][..self.len]
    }
}

impl From<Vec<f32>> for Buffer {
    fn from(room: Vec<f32>) -> Self {
        Self { len: room.len(), start: 0, room }
    }
}

/// Buffers for reuse. One per thread of control.
#[derive(Default)]
pub struct Workspace {
    free: Vec<Buffer>,
}

impl Workspace {
    /// A buffer of `len` floats with arbitrary content.
    pub fn take(&mut self, len: usize) -> Buffer {
        // The smallest free buffer that is large enough keeps large ones for large maps; of equal
        // ones the last to be freed, as its values may still be in the caches.
        let fit = self
            .free
            .iter()
            .enumerate()
            .rev()
            .filter(|(_, buffer)| buffer.most() >= len)
            .min_by_key(|(_, buffer)| buffer.most())
            .map(|(index, _)| index);
        match fit {
            None => Buffer::zeros(len),
            Some(index) => Buffer { len, ..self.free.remove(index) },
        }
    }

    /// Takes a buffer back.
    pub fn give(&mut self, buffer: Buffer) {
        if !buffer.room.is_empty() {
            self.free.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_buffer_that_is_large_enough_comes_back_with_what_it_held() {
        let mut workspace = Workspace::default();
        for len in [8, 3, 5] {
            workspace.give(vec![len as f32; len].into());
        }
        workspace.give(Vec::new().into());
        let mut taken = workspace.take(4);
        assert_eq!(*taken, [5.0; 4]);
        taken.fill(1.0);
        workspace.give(taken);
        assert_eq!(*workspace.take(5), [1.0, 1.0, 1.0, 1.0, 5.0]);
        assert_eq!([workspace.take(9).len(), workspace.take(1).len(), workspace.take(1).len()], [9, 1, 1]);
    }

    #[test]
    fn new_buffers_begin_with_a_line() {
        let mut workspace = Workspace::default();
        let taken: Vec<Buffer> = (0..50).map(|len| workspace.take(len * 37)).collect();
        for (buffer, len) in taken.iter().zip(0..) {
            assert_eq!((buffer.as_ptr().addr() % LINE, buffer.len()), (0, len * 37));
            assert!(buffer.iter().all(|value| *value == 0.0));
        }
    }
}
