//! Vectors of 16 `f32` on three instruction sets, chosen at run time.
//!
//! The loops are written once, generic over [`Simd`], and compiled once per set by [`crate::conv2d`]'s tables.
//!
//! Long: the same operations on three instruction sets.

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

/// Checks what the environment variable `TICKETLENS_SIMD` holds: nothing, or a path that this machine can run.
///
/// # Errors
/// The message names the variable and what it may hold.
pub fn check_vectors() -> Result<(), String> {
    let Some(wanted) = std::env::var_os(VARIABLE).filter(|wanted| !wanted.is_empty()) else { return Ok(()) };
    let names: Vec<&str> = Path::available().iter().map(|path| path.name()).collect();
    match names.iter().any(|name| wanted == **name) {
        true => Ok(()),
        false => Err(format!("{VARIABLE}={}: this machine has {}", wanted.display(), names.join(", "))),
    }
}

/// Environment variable that narrows the vectors to `avx512`, `avx2` or `portable`, so that tests compare the paths and
/// callgrind, which knows no AVX-512, can count instructions.
const VARIABLE: &str = "TICKETLENS_SIMD";

/// Bytes of a line of the caches.
pub(crate) const LINE: usize = 64;

/// Asks for the lines of `floats` floats from `at` on, which are written or read soon; `at` need not be valid.
#[inline(always)]
pub(crate) fn prefetch(at: *const f32, floats: usize) {
    #[cfg(target_arch = "x86_64")]
    for first in (0..floats).step_by(LANES) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint, which neither reads nor faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(first).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (at, floats);
}

/// The same into the second-level cache.
#[inline(always)]
pub(crate) fn prefetch_far(at: *const f32, floats: usize) {
    #[cfg(target_arch = "x86_64")]
    for first in (0..floats).step_by(LANES) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: as in `prefetch`.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.wrapping_add(first).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (at, floats);
}

/// Orders what this thread streamed before all that it writes later, so that who sees the one sees the other.
pub(crate) fn fence() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: an instruction of every x86-64 machine.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}

/// A vector of [`LANES`] floats.
///
/// # Safety
/// Callers run on a machine with the instruction set; pointers are valid for the lanes read or written.
pub(crate) unsafe trait Simd {
    type Vector: Copy;
    /// Up to this many vectors of sums wait for each other's additions, and registers hold a second set of them.
    const FEW: usize;
    unsafe fn zero() -> Self::Vector;
    unsafe fn broadcast(value: f32) -> Self::Vector;
    unsafe fn load(from: *const f32) -> Self::Vector;
    unsafe fn store(to: *mut f32, vector: Self::Vector);
    /// [`Self::store`] to the begin of a line ([`LINE`]), past the caches. Other threads see it after [`fence`].
    unsafe fn stream(to: *mut f32, vector: Self::Vector);
    /// `a·b + c`
    unsafe fn multiply_add(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a − b`
    unsafe fn subtract(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    unsafe fn multiply(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// Zero in the place of what is not positive, except for NaN.
    unsafe fn rectify(vector: Self::Vector) -> Self::Vector;
    /// Rows become columns.
    unsafe fn transpose(rows: [Self::Vector; LANES]) -> [Self::Vector; LANES];
    unsafe fn sum(vector: Self::Vector) -> f32;
}

/// Defines a function whose body is compiled once per [`Path`] and called on the best one. The body's arithmetic is the
/// same on all of them (nothing is fused or reordered), so are its results.
macro_rules! versions {
    ($(#[$doc:meta])* $visible:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block) => {
        $(#[$doc])*
        $visible fn $name($($argument: $type),*) $(-> $result)? {
            #[inline(always)]
            fn body($($argument: $type),*) $(-> $result)? $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512vl,avx512dq")]
            fn avx512($($argument: $type),*) $(-> $result)? { body($($argument),*) }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($argument: $type),*) $(-> $result)? { body($($argument),*) }
            match $crate::simd::Path::detect() {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: `detect` returns a path this machine has.
                $crate::simd::Path::Avx512 => unsafe { avx512($($argument),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                $crate::simd::Path::Avx2 => unsafe { avx2($($argument),*) },
                $crate::simd::Path::Portable => body($($argument),*),
            }
        }
    };
}
pub(crate) use versions;

pub(crate) struct Portable;

// SAFETY: plain arithmetic on arrays; loads and stores are the caller's promise.
unsafe impl Simd for Portable {
    type Vector = [f32; LANES];
    const FEW: usize = 1;
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
    unsafe fn stream(to: *mut f32, vector: Self::Vector) {
        // SAFETY: the caller's promise.
        unsafe { Self::store(to, vector) }
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
    unsafe fn subtract(a: Self::Vector, b: Self::Vector) -> Self::Vector {
        std::array::from_fn(|lane| a[lane] - b[lane])
    }
    #[inline(always)]
    unsafe fn multiply(a: Self::Vector, b: Self::Vector) -> Self::Vector {
        std::array::from_fn(|lane| a[lane] * b[lane])
    }
    #[inline(always)]
    unsafe fn rectify(vector: Self::Vector) -> Self::Vector {
        vector.map(|value| if value <= 0.0 { 0.0 } else { value })
    }
    #[inline(always)]
    unsafe fn transpose(rows: [Self::Vector; LANES]) -> [Self::Vector; LANES] {
        std::array::from_fn(|column| std::array::from_fn(|row| rows[row][column]))
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
    use super::{LANES, Simd};
    use std::arch::x86_64::*;

    pub(crate) struct Avx512;

    // SAFETY: the methods are the instructions of the same name; the caller promises AVX-512F and valid pointers.
    unsafe impl Simd for Avx512 {
        type Vector = __m512;
        const FEW: usize = 4;
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
        unsafe fn stream(to: *mut f32, vector: __m512) {
            // SAFETY: see the impl.
            unsafe { _mm512_stream_ps(to, vector) }
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
        unsafe fn subtract(a: __m512, b: __m512) -> __m512 {
            // SAFETY: see the impl.
            unsafe { _mm512_sub_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn multiply(a: __m512, b: __m512) -> __m512 {
            // SAFETY: see the impl.
            unsafe { _mm512_mul_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn rectify(vector: __m512) -> __m512 {
            // SAFETY: see the impl.
            unsafe {
                let kept = _mm512_cmp_ps_mask::<_CMP_NLE_UQ>(vector, _mm512_setzero_ps());
                _mm512_maskz_mov_ps(kept, vector)
            }
        }
        #[inline(always)]
        unsafe fn transpose(mut rows: [__m512; LANES]) -> [__m512; LANES] {
            // SAFETY: see the impl.
            unsafe {
                // Within each 128-bit quarter 4×4 squares are turned: first pairs, then pairs of pairs.
                for pair in 0..8 {
                    let (a, b) = (rows[2 * pair], rows[2 * pair + 1]);
                    rows[2 * pair] = _mm512_unpacklo_ps(a, b);
                    rows[2 * pair + 1] = _mm512_unpackhi_ps(a, b);
                }
                let mut columns = rows;
                for four in 0..4 {
                    for half in 0..2 {
                        let a = _mm512_castps_pd(rows[4 * four + half]);
                        let b = _mm512_castps_pd(rows[4 * four + half + 2]);
                        columns[4 * four + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
                        columns[4 * four + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
                    }
                }
                // Then the quarters themselves: quarter q of columns[4·r + c] is quarter r of result 4·q + c.
                for column in 0..4 {
                    let [a, b, c, d] =
                        [columns[column], columns[column + 4], columns[column + 8], columns[column + 12]];
                    let (low, high) = (_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xDD));
                    let (low_, high_) = (_mm512_shuffle_f32x4(c, d, 0x88), _mm512_shuffle_f32x4(c, d, 0xDD));
                    rows[column] = _mm512_shuffle_f32x4(low, low_, 0x88);
                    rows[column + 8] = _mm512_shuffle_f32x4(low, low_, 0xDD);
                    rows[column + 4] = _mm512_shuffle_f32x4(high, high_, 0x88);
                    rows[column + 12] = _mm512_shuffle_f32x4(high, high_, 0xDD);
                }
                rows
            }
        }
        #[inline(always)]
        unsafe fn sum(vector: __m512) -> f32 {
            // SAFETY: see the impl.
            unsafe { _mm512_reduce_add_ps(vector) }
        }
    }

    pub(crate) struct Avx2;

    /// An 8×8 square with rows and columns exchanged.
    ///
    /// # Safety
    /// The machine has AVX.
    #[inline(always)]
    unsafe fn turn(rows: [__m256; 8]) -> [__m256; 8] {
        // SAFETY: the caller's promise.
        unsafe {
            let mut pairs = rows;
            for pair in 0..4 {
                let (a, b) = (rows[2 * pair], rows[2 * pair + 1]);
                pairs[2 * pair] = _mm256_unpacklo_ps(a, b);
                pairs[2 * pair + 1] = _mm256_unpackhi_ps(a, b);
            }
            let mut fours = pairs;
            for four in 0..2 {
                for half in 0..2 {
                    let (a, b) = (pairs[4 * four + half], pairs[4 * four + half + 2]);
                    fours[4 * four + 2 * half] = _mm256_shuffle_ps(a, b, 0x44);
                    fours[4 * four + 2 * half + 1] = _mm256_shuffle_ps(a, b, 0xEE);
                }
            }
            std::array::from_fn(|column| {
                let (a, b) = (fours[column % 4], fours[column % 4 + 4]);
                if column < 4 { _mm256_permute2f128_ps(a, b, 0x20) } else { _mm256_permute2f128_ps(a, b, 0x31) }
            })
        }
    }

    /// Columns 0 to 7 or 8 to 15 of eight rows, turned. No closure, which a test build would call,
    /// with its vectors in memory.
    ///
    /// # Safety
    /// The machine has AVX.
    #[inline(always)]
    unsafe fn corner(rows: &[(__m256, __m256); LANES], first: usize, half: usize) -> [__m256; 8] {
        // SAFETY: the caller's promise.
        unsafe {
            turn(std::array::from_fn(|row| {
                let (left, right) = rows[first + row];
                if half == 0 { left } else { right }
            }))
        }
    }

    // SAFETY: the methods are the instructions of the same name; the caller promises AVX2, FMA and valid pointers.
    unsafe impl Simd for Avx2 {
        type Vector = (__m256, __m256);
        const FEW: usize = 3;
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
        unsafe fn stream(to: *mut f32, vector: Self::Vector) {
            // SAFETY: see the impl.
            unsafe {
                _mm256_stream_ps(to, vector.0);
                _mm256_stream_ps(to.add(8), vector.1);
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
        unsafe fn subtract(a: Self::Vector, b: Self::Vector) -> Self::Vector {
            // SAFETY: see the impl.
            unsafe { (_mm256_sub_ps(a.0, b.0), _mm256_sub_ps(a.1, b.1)) }
        }
        #[inline(always)]
        unsafe fn multiply(a: Self::Vector, b: Self::Vector) -> Self::Vector {
            // SAFETY: see the impl.
            unsafe { (_mm256_mul_ps(a.0, b.0), _mm256_mul_ps(a.1, b.1)) }
        }
        #[inline(always)]
        unsafe fn rectify(vector: Self::Vector) -> Self::Vector {
            // SAFETY: see the impl.
            unsafe {
                let zero = _mm256_setzero_ps();
                let kept = |half| _mm256_and_ps(_mm256_cmp_ps::<_CMP_NLE_UQ>(half, zero), half);
                (kept(vector.0), kept(vector.1))
            }
        }
        #[inline(always)]
        unsafe fn transpose(rows: [Self::Vector; LANES]) -> [Self::Vector; LANES] {
            // SAFETY: see the impl.
            unsafe {
                let (top, bottom) =
                    ([corner(&rows, 0, 0), corner(&rows, 0, 1)], [corner(&rows, 8, 0), corner(&rows, 8, 1)]);
                std::array::from_fn(|column| (top[column / 8][column % 8], bottom[column / 8][column % 8]))
            }
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
