//! CPU kernels on plain `f32` slices.
//!
//! Activations are batch-innermost, `(C, H, W, N)` with `N` fastest ("CHWN"); convolution weights are in PyTorch's order
//! `(O, I, kh, kw)`. Every kernel runs on the current rayon pool and gives bit-equal results for any number of threads.
pub mod conv2d;
pub mod device;
pub mod layout;
pub mod norm;
pub mod optim;
pub mod pool;
mod scratch;
mod simd;

/// The vector instructions that the kernels of this process use: `avx512`, `avx2` or `portable`. The environment variable
/// `TICKETLENS_SIMD` chooses among those of the machine; any other value leaves the best.
pub fn vector_path() -> &'static str {
    simd::Path::detect().name()
}
