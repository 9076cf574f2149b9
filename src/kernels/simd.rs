//! Vectors of 16 `f32` on three instruction sets, chosen at run time.
//!
//! The loops are written once, generic over [`Simd`], and compiled once per set by [`crate::kernels::conv2d`]'s tables.

/// Number of `f32` in a vector of every instruction set: one AVX-512 register, two AVX2 registers, or an array.
pub(crate) const LANES: usize = 16;

/// Instruction sets with their own compiled kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// 512-bit vectors
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// 256-bit vectors with fused multiply-add
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// whatever the compiler makes of plain arrays
    Portable,
}

impl Path {
    /// Every path this machine can run, best first.
    pub(crate) fn available() -> Vec<Self> {
        let mut paths = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            // VL lets the compiler use all 32 registers for narrower pieces too; without it sums spill.
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
            {
                paths.push(Self::Avx512);
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                paths.push(Self::Avx2);
            }
        }
        paths.push(Self::Portable);
        paths
    }

    /// Its name, as [`VARIABLE`] holds it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }

    /// The path of this process: the one that [`VARIABLE`] names if this machine can run it, otherwise the best.
    pub(crate) fn detect() -> Self {
        static CHOSEN: std::sync::OnceLock<Path> = std::sync::OnceLock::new();
        *CHOSEN.get_or_init(|| {
            let wanted = std::env::var(VARIABLE).unwrap_or_default();
            let available = Self::available();
            available.iter().copied().find(|path| path.name() == wanted).unwrap_or(available[0])
        })
    }
}

/// Environment variable that narrows the vectors to `avx512`, `avx2` or `portable`, so that tests compare the paths and
/// callgrind, which knows no AVX-512, can count instructions.
const VARIABLE: &str = "TICKETLENS_SIMD";

/// A vector of [`LANES`] floats.
///
/// # Safety
/// Callers run on a machine with the instruction set; pointers are valid for the lanes read or written.
pub(crate) unsafe trait Simd {
    type Vector: Copy;
    unsafe fn zero() -> Self::Vector;
    unsafe fn broadcast(value: f32) -> Self::Vector;
    unsafe fn load(from: *const f32) -> Self::Vector;
    unsafe fn store(to: *mut f32, vector: Self::Vector);
    /// `a·b + c`
    unsafe fn multiply_add(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    unsafe fn sum(vector: Self::Vector) -> f32;
}

/// Defines a function whose body is compiled once per [`Path`] and called on the best one. The body's arithmetic is the
/// same on all of them (nothing is fused or reordered), so are its results.
macro_rules! versions {
    ($(#[$doc:meta])* fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block) => {
        $(#[$doc])*
        fn $name($($argument: $type),*) $(-> $result)? {
            #[inline(always)]
            fn body($($argument: $type),*) $(-> $result)? $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512vl,avx512dq")]
            fn avx512($($argument: $type),*) $(-> $result)? { body($($argument),*) }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($argument: $type),*) $(-> $result)? { body($($argument),*) }
            match $crate::kernels::simd::Path::detect() {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: `detect` returns a path this machine has.
                $crate::kernels::simd::Path::Avx512 => unsafe { avx512($($argument),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                $crate::kernels::simd::Path::Avx2 => unsafe { avx2($($argument),*) },
                $crate::kernels::simd::Path::Portable => body($($argument),*),
            }
        }
    };
}
pub(crate) use versions;

pub(crate) struct Portable;

// SAFETY: plain arithmetic on arrays; loads and stores are the caller's promise.
unsafe impl Simd for Portable {
    type Vector = [f32; LANES];
    #[inline(always)]
    unsafe fn zero() -> Self::Vector {
        [0.0; LANES]
    }
    #[inline(always)]
    unsafe fn broadcast(value: f32) -> Self::Vector {
        [value; LANES]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::Vector {
        // SAFETY: the caller promises LANES readable floats.
        unsafe { from.cast::<[f32; LANES]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, vector: Self::Vector) {
        // SAFETY: the caller promises LANES writable floats.
        unsafe { to.cast::<[f32; LANES]>().write_unaligned(vector) }
    }
    #[inline(always)]
    unsafe fn multiply_add(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
        std::array::from_fn(|lane| a[lane] * b[lane] + c[lane])
    }
    #[inline(always)]
    unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector {
        std::array::from_fn(|lane| a[lane] + b[lane])
    }
    #[inline(always)]
    unsafe fn sum(vector: Self::Vector) -> f32 {
        let quarter: [f32; 4] =
            std::array::from_fn(|lane| (vector[lane] + vector[lane + 8]) + (vector[lane + 4] + vector[lane + 12]));
        (quarter[0] + quarter[2]) + (quarter[1] + quarter[3])
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Simd;
    use std::arch::x86_64::*;

    pub(crate) struct Avx512;

    // SAFETY: the methods are the instructions of the same name; the caller promises AVX-512F and valid pointers.
    unsafe impl Simd for Avx512 {
        type Vector = __m512;
        #[inline(always)]
        unsafe fn zero() -> __m512 {
            // SAFETY: see the impl.
            unsafe { _mm512_setzero_ps() }
        }
        #[inline(always)]
        unsafe fn broadcast(value: f32) -> __m512 {
            // SAFETY: see the impl.
            unsafe { _mm512_set1_ps(value) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> __m512 {
            // SAFETY: see the impl.
            unsafe { _mm512_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, vector: __m512) {
            // SAFETY: see the impl.
            unsafe { _mm512_storeu_ps(to, vector) }
        }
        #[inline(always)]
        unsafe fn multiply_add(a: __m512, b: __m512, c: __m512) -> __m512 {
            // SAFETY: see the impl.
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn add(a: __m512, b: __m512) -> __m512 {
            // SAFETY: see the impl.
            unsafe { _mm512_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn sum(vector: __m512) -> f32 {
            // SAFETY: see the impl.
            unsafe { _mm512_reduce_add_ps(vector) }
        }
    }

    pub(crate) struct Avx2;

    // SAFETY: the methods are the instructions of the same name; the caller promises AVX2, FMA and valid pointers.
    unsafe impl Simd for Avx2 {
        type Vector = (__m256, __m256);
        #[inline(always)]
        unsafe fn zero() -> Self::Vector {
            // SAFETY: see the impl.
            unsafe { (_mm256_setzero_ps(), _mm256_setzero_ps()) }
        }
        #[inline(always)]
        unsafe fn broadcast(value: f32) -> Self::Vector {
            // SAFETY: see the impl.
            unsafe { (_mm256_set1_ps(value), _mm256_set1_ps(value)) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self::Vector {
            // SAFETY: see the impl.
            unsafe { (_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))) }
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, vector: Self::Vector) {
            // SAFETY: see the impl.
            unsafe {
                _mm256_storeu_ps(to, vector.0);
                _mm256_storeu_ps(to.add(8), vector.1);
            }
        }
        #[inline(always)]
        unsafe fn multiply_add(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
            // SAFETY: see the impl.
            unsafe { (_mm256_fmadd_ps(a.0, b.0, c.0), _mm256_fmadd_ps(a.1, b.1, c.1)) }
        }
        #[inline(always)]
        unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector {
            // SAFETY: see the impl.
            unsafe { (_mm256_add_ps(a.0, b.0), _mm256_add_ps(a.1, b.1)) }
        }
        #[inline(always)]
        unsafe fn sum(vector: Self::Vector) -> f32 {
            // SAFETY: see the impl.
            unsafe {
                let eight = _mm256_add_ps(vector.0, vector.1);
                let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
                let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
                _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)))
            }
        }
    }
}
