//! Reused working memory: one stack of buffers per thread, so that steady-state calls allocate nothing large.

use std::cell::RefCell;

/// A 64-byte line, so that buffers are aligned for full-width vectors.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([f32; 16]);

thread_local! {
    static FREE: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// Runs `body` with `length` floats of unspecified content, aligned to 64 bytes.
///
/// The buffer leaves the thread's stack while `body` runs, so `body` may itself borrow scratch, also through work that
/// rayon steals while it waits.
pub(crate) fn with<R>(length: usize, body: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut lines = FREE.with_borrow_mut(|free| {
        let fitting = free.iter().position(|lines| lines.len() * 16 >= length);
        fitting.map(|at| free.swap_remove(at)).or_else(|| free.pop()).unwrap_or_default()
    });
    if lines.len() * 16 < length {
        lines = vec![Line([0.0; 16]); length.div_ceil(16)];
    }
    // SAFETY: a `Line` is 16 floats without padding, so the vector's memory is `16·len` initialised floats.
    let floats = unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast::<f32>(), lines.len() * 16) };
    let result = body(&mut floats[..length]);
    FREE.with_borrow_mut(|free| {
        free.push(lines);
        // Largest last would waste big buffers on small requests; smallest first finds the tightest fit.
        free.sort_by_key(Vec::len);
    });
    result
}

/// A raw pointer that several threads may hold because they write disjoint parts of what it points to.
pub(crate) struct Shared<T>(*mut T);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<T> {}

// SAFETY: every use writes disjoint elements from different threads; the uses say why.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub(crate) fn new(slice: &mut [T]) -> Self {
        Self(slice.as_mut_ptr())
    }
    pub(crate) fn pointer(self) -> *mut T {
        self.0
    }
}
