//! The loops of F(4×4, 3×3): transforms of 16 images at a time, products of matrices, and the
//! turning of a position's values from `(C, N)` to `(N, C)`. Written once over [`Simd`] and
//! compiled for every instruction set.
//!
//! With a 6×6 piece `d` of a map, a kernel `g` and the 4×4 outputs `y`:
//! `y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A` (Lavin and Gray, CVPR 2016, section 4.1). Read backwards,
//! `∂g = Gᵀ[Σ (A ∂y Aᵀ) ⊙ (Bᵀ d B)]G`. The matrices are those of Cook and Toom at the points 0, ∞,
//! ±[`NEAR`], ±[`FAR`], in this order, whose squares ½ and 2 keep rounding near that of a direct
//! sum: with the usual ±1, ±2 its largest error is four to six times as large (on the choice of
//! points: Barabasz et al., ACM TOMS 2020).
//!
//! Long: the matrices and their transforms in three directions, which must agree.

#![expect(
    clippy::needless_range_loop,
    reason = "the second pass of a transform reads what the first left across its lines"
)]

use crate::simd::{LANES, Simd, prefetch};

/// Steps of a sum between those whose weights are read and those whose weights the first-level cache
/// is asked for.
pub(super) const WEIGHTS_AHEAD: usize = 16;
/// Points of a transformed tile, row after row of [`SIDE`].
pub(super) const POINTS: usize = SIDE * SIDE;
pub(super) const SIDE: usize = 6;
/// Rows of points come in pairs that share what they are made of: 0 and ∞, ±[`NEAR`], ±[`FAR`].
pub(super) const PAIRS: usize = SIDE / 2;
/// Outputs of a tile, row after row of [`STEP`].
pub(super) const OUTPUTS: usize = STEP * STEP;
pub(super) const STEP: usize = 4;
/// Points of evaluation, √½ and √2.
pub(super) const NEAR: f32 = std::f32::consts::FRAC_1_SQRT_2;
pub(super) const FAR: f32 = std::f32::consts::SQRT_2;

/// Rows of `length` floats, `stride` apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    pub rows: usize,
    pub length: usize,
    pub stride: usize,
}

/// `sums (+)= weightᵀ · panel` for some points: of `(depth, rows)` and `(depth, vectors·LANES)`, rows by [`LANES`].
pub(super) struct Products {
    pub points: usize,
    pub depth: usize,
    pub rows: usize,
    pub vectors: usize,
    pub weight: *const f32,
    /// floats from a point's weights to the next one's, from [`LANES`] rows to the next, and from
    /// one step of the sum to the next
    pub weight_strides: [usize; 3],
    /// `(points, depth, vectors·LANES)`, points `panel_stride` apart
    pub panel: *const f32,
    pub panel_stride: usize,
    /// `(points, rows, vectors·LANES)`, points `sums_stride` apart
    pub sums: *mut f32,
    pub sums_stride: usize,
    pub accumulate: bool,
}

/// `factor·a + b`.
///
/// # Safety
/// The machine has the instruction set.
#[inline(always)]
unsafe fn times_plus<S: Simd>(factor: f32, a: S::Vector, b: S::Vector) -> S::Vector {
    // SAFETY: the caller's promise.
    unsafe { S::multiply_add(S::broadcast(factor), a, b) }
}

/// `even ± point·odd`.
///
/// # Safety
/// As [`times_plus`].
#[inline(always)]
unsafe fn plus_minus<S: Simd>(point: f32, odd: S::Vector, even: S::Vector) -> [S::Vector; 2] {
    // SAFETY: the caller's promise.
    unsafe { [times_plus::<S>(point, odd, even), times_plus::<S>(-point, odd, even)] }
}

/// A pair of rows of `Bᵀ` times a column.
///
/// # Safety
/// As [`times_plus`].
#[inline(always)]
unsafe fn source_pair<S: Simd>(pair: usize, d: [S::Vector; SIDE]) -> [S::Vector; 2] {
    // SAFETY: the caller's promise.
    unsafe {
        match pair {
            0 => [S::add(times_plus::<S>(-2.5, d[2], d[4]), d[0]), S::add(times_plus::<S>(-2.5, d[3], d[5]), d[1])],
            1 => plus_minus::<S>(NEAR, times_plus::<S>(-2.0, d[1], d[3]), times_plus::<S>(-2.0, d[2], d[4])),
            _ => plus_minus::<S>(FAR, times_plus::<S>(-0.5, d[1], d[3]), times_plus::<S>(-0.5, d[2], d[4])),
        }
    }
}

/// A pair of rows of `A` times a column, the first [`STEP`] values.
///
/// # Safety
/// As [`times_plus`].
#[inline(always)]
unsafe fn gradient_pair<S: Simd>(pair: usize, g: [S::Vector; SIDE]) -> [S::Vector; 2] {
    // SAFETY: the caller's promise.
    unsafe {
        match pair {
            0 => [g[0], g[3]],
            1 => plus_minus::<S>(NEAR, times_plus::<S>(0.5, g[3], g[1]), times_plus::<S>(0.5, g[2], g[0])),
            _ => plus_minus::<S>(FAR, times_plus::<S>(2.0, g[3], g[1]), times_plus::<S>(2.0, g[2], g[0])),
        }
    }
}

/// [`source_pair`] (`TAPS` = [`SIDE`]) or [`gradient_pair`] (`TAPS` = [`STEP`]).
///
/// # Safety
/// As [`times_plus`].
#[inline(always)]
unsafe fn pair_of<S: Simd, const TAPS: usize>(pair: usize, values: [S::Vector; SIDE]) -> [S::Vector; 2] {
    // SAFETY: the caller's promise.
    unsafe {
        match TAPS {
            SIDE => source_pair::<S>(pair, values),
            _ => gradient_pair::<S>(pair, values),
        }
    }
}

/// `Aᵀ` times six values.
///
/// # Safety
/// As [`times_plus`].
#[inline(always)]
unsafe fn output_line<S: Simd>(m: [S::Vector; SIDE]) -> [S::Vector; STEP] {
    // SAFETY: the caller's promise.
    unsafe {
        let (near, far) = (S::add(m[2], m[3]), S::add(m[4], m[5]));
        let near_odd = times_plus::<S>(NEAR, S::subtract(m[2], m[3]), S::zero());
        let far_odd = times_plus::<S>(FAR, S::subtract(m[4], m[5]), S::zero());
        [
            S::add(m[0], S::add(near, far)),
            S::add(near_odd, far_odd),
            times_plus::<S>(0.5, near, S::add(far, far)),
            S::add(times_plus::<S>(0.5, near_odd, S::add(far_odd, far_odd)), m[1]),
        ]
    }
}

/// `share·(a ± point·b + point²·c)`.
///
/// # Safety
/// As [`times_plus`].
#[inline(always)]
unsafe fn kernel_pair<S: Simd>(point: f32, share: f32, [a, b, c]: [S::Vector; 3]) -> [S::Vector; 2] {
    // SAFETY: the caller's promise.
    unsafe {
        let even = times_plus::<S>(share, a, times_plus::<S>(share * point * point, c, S::zero()));
        plus_minus::<S>(share * point, b, even)
    }
}

/// `G` times three values.
///
/// # Safety
/// As [`times_plus`].
#[inline(always)]
unsafe fn kernel_line<S: Simd>([a, b, c]: [S::Vector; 3]) -> [S::Vector; SIDE] {
    // SAFETY: the caller's promise.
    unsafe {
        let near = kernel_pair::<S>(NEAR, -2.0 / 3.0, [a, b, c]);
        let far = kernel_pair::<S>(FAR, 1.0 / 6.0, [a, b, c]);
        [a, c, near[0], near[1], far[0], far[1]]
    }
}

/// `Gᵀ` times six values.
///
/// # Safety
/// As [`times_plus`].
#[inline(always)]
unsafe fn kernel_gradient_line<S: Simd>(m: [S::Vector; SIDE]) -> [S::Vector; 3] {
    // SAFETY: the caller's promise.
    unsafe {
        let (near, far) = (S::add(m[2], m[3]), S::add(m[4], m[5]));
        let (near_odd, far_odd) = (S::subtract(m[2], m[3]), S::subtract(m[4], m[5]));
        [
            times_plus::<S>(1.0 / 6.0, far, times_plus::<S>(-2.0 / 3.0, near, m[0])),
            times_plus::<S>(FAR / 6.0, far_odd, times_plus::<S>(-2.0 / 3.0 * NEAR, near_odd, S::zero())),
            times_plus::<S>(1.0 / 3.0, far, times_plus::<S>(-1.0 / 3.0, near, m[1])),
        ]
    }
}

/// One value of each of [`LANES`] kernels, for each of its taps.
pub(super) type Taps = [[f32; LANES]; 9];

/// `G g Gᵀ` of kernels; point `p` goes to `to + p·distance`.
///
/// # Safety
/// 36 points of [`LANES`] floats lie inside the buffer, and the machine has the instruction set.
#[inline(always)]
pub(super) unsafe fn kernel_points<S: Simd>(taps: &Taps, to: *mut f32, distance: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut rows = [[S::zero(); SIDE]; 3];
        for (row, taps) in rows.iter_mut().zip(taps.chunks_exact(3)) {
            *row = kernel_line::<S>([S::load(taps[0].as_ptr()), S::load(taps[1].as_ptr()), S::load(taps[2].as_ptr())]);
        }
        for x in 0..SIDE {
            for (y, value) in kernel_line::<S>([rows[0][x], rows[1][x], rows[2][x]]).into_iter().enumerate() {
                S::store(to.add((SIDE * y + x) * distance), value);
            }
        }
    }
}

/// `Gᵀ m G` of 36 points, `distance` apart, each the sum of `parts` parts, `part_distance` apart, in order.
///
/// # Safety
/// As [`kernel_points`].
#[inline(always)]
pub(super) unsafe fn kernel_gradients<S: Simd>(
    from: *const f32,
    distance: usize,
    parts: usize,
    part_distance: usize,
    taps: &mut Taps,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut rows = [[S::zero(); 3]; SIDE];
        for (y, row) in rows.iter_mut().enumerate() {
            let mut line = [S::zero(); SIDE];
            for (x, value) in line.iter_mut().enumerate() {
                let from = from.add((SIDE * y + x) * distance);
                *value = S::load(from);
                for part in 1..parts {
                    *value = S::add(*value, S::load(from.add(part * part_distance)));
                }
            }
            *row = kernel_gradient_line::<S>(line);
        }
        for x in 0..3 {
            let line =
                kernel_gradient_line::<S>([rows[0][x], rows[1][x], rows[2][x], rows[3][x], rows[4][x], rows[5][x]]);
            for (y, value) in line.into_iter().enumerate() {
                S::store(taps[3 * y + x].as_mut_ptr(), value);
            }
        }
    }
}

/// `Bᵀ` times column `x` of the values at `offset`, in pairs.
///
/// # Safety
/// As [`source`].
#[inline(always)]
unsafe fn source_column<S: Simd>(from: &[*const f32; POINTS], x: usize, offset: usize) -> [[S::Vector; 2]; PAIRS] {
    // SAFETY: the caller's promise.
    unsafe {
        let [a, b, c, d, e, f] = [x, SIDE + x, 2 * SIDE + x, 3 * SIDE + x, 4 * SIDE + x, 5 * SIDE + x];
        let value = [
            S::load(from.get_unchecked(a).add(offset)),
            S::load(from.get_unchecked(b).add(offset)),
            S::load(from.get_unchecked(c).add(offset)),
            S::load(from.get_unchecked(d).add(offset)),
            S::load(from.get_unchecked(e).add(offset)),
            S::load(from.get_unchecked(f).add(offset)),
        ];
        [source_pair::<S>(0, value), source_pair::<S>(1, value), source_pair::<S>(2, value)]
    }
}

/// `Aᵀ` times column `x` of points.
///
/// # Safety
/// As [`output`].
#[inline(always)]
unsafe fn output_column<S: Simd>(from: *const f32, x: usize, distance: usize) -> [S::Vector; STEP] {
    // SAFETY: the caller's promise.
    unsafe {
        output_line::<S>([
            S::load(from.add(x * distance)),
            S::load(from.add((SIDE + x) * distance)),
            S::load(from.add((2 * SIDE + x) * distance)),
            S::load(from.add((3 * SIDE + x) * distance)),
            S::load(from.add((4 * SIDE + x) * distance)),
            S::load(from.add((5 * SIDE + x) * distance)),
        ])
    }
}

/// `Bᵀ d B` of blocks at 36 positions, row after row. Point `p` goes to `to + p·distance`, its rows
/// one after the other.
///
/// # Safety
/// The blocks lie inside their buffers, `length` is a multiple of [`LANES`], and the machine has the instruction set.
#[inline(always)]
pub(super) unsafe fn source<S: Simd>(from: &[*const f32; POINTS], block: Block, to: *mut f32, distance: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        for row in 0..block.rows {
            for at in (0..block.length).step_by(LANES) {
                let offset = row * block.stride + at;
                let columns = [
                    source_column::<S>(from, 0, offset),
                    source_column::<S>(from, 1, offset),
                    source_column::<S>(from, 2, offset),
                    source_column::<S>(from, 3, offset),
                    source_column::<S>(from, 4, offset),
                    source_column::<S>(from, 5, offset),
                ];
                let to = to.add(row * block.length + at);
                let [a, b, c, d, e, f] = columns;
                for pair in 0..PAIRS {
                    for y in 0..2 {
                        let to = to.add((2 * pair + y) * SIDE * distance);
                        let values = [a[pair][y], b[pair][y], c[pair][y], d[pair][y], e[pair][y], f[pair][y]];
                        for other in 0..PAIRS {
                            let [one, two] = source_pair::<S>(other, values);
                            S::store(to.add(2 * other * distance), one);
                            S::store(to.add((2 * other + 1) * distance), two);
                        }
                    }
                }
            }
        }
    }
}

/// Pair `PAIR` of rows of `Bᵀ d B` (`TAPS` = [`SIDE`]) or `A ∂y Aᵀ` (`TAPS` = [`STEP`]).
///
/// # Safety
/// As [`rows`].
#[inline(always)]
unsafe fn rows_of<S: Simd, const N: usize, const TAPS: usize, const PAIR: usize>(
    from: &[*const f32; N],
    length: usize,
    to: *mut f32,
    distance: usize,
) {
    const { assert!(N == TAPS * TAPS && (TAPS == SIDE || TAPS == STEP)) };
    // SAFETY: the caller's promise.
    unsafe {
        for at in (0..length).step_by(LANES) {
            let mut columns = [[S::zero(); SIDE]; 2];
            for x in 0..TAPS {
                let mut values = [S::zero(); SIDE];
                for y in 0..TAPS {
                    values[y] = S::load(from.get_unchecked(TAPS * y + x).add(at));
                }
                [columns[0][x], columns[1][x]] = pair_of::<S, TAPS>(PAIR, values);
            }
            for (y, values) in columns.into_iter().enumerate() {
                let to = to.add(y * SIDE * distance + at);
                for other in 0..PAIRS {
                    let [one, two] = pair_of::<S, TAPS>(other, values);
                    S::store(to.add(2 * other * distance), one);
                    S::store(to.add((2 * other + 1) * distance), two);
                }
            }
        }
    }
}

/// A pair of rows of `Bᵀ d B` of `length` floats at 36 positions, or of `A ∂y Aᵀ` at 16 positions
/// (`TAPS` a side); the rest as [`source`].
///
/// # Safety
/// As [`source`].
#[inline(always)]
pub(super) unsafe fn rows<S: Simd, const N: usize, const TAPS: usize>(
    from: &[*const f32; N],
    length: usize,
    pair: usize,
    to: *mut f32,
    distance: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        match pair {
            0 => rows_of::<S, N, TAPS, 0>(from, length, to, distance),
            1 => rows_of::<S, N, TAPS, 1>(from, length, to, distance),
            _ => rows_of::<S, N, TAPS, 2>(from, length, to, distance),
        }
    }
}

/// `Aᵀ m A` of 36 points, `distance` apart and each row after row, into (or, with `accumulate`,
/// added to) blocks at 16 positions; null where a position lies outside the map.
///
/// # Safety
/// As [`source`].
#[inline(always)]
pub(super) unsafe fn output<S: Simd>(
    from: *const f32,
    distance: usize,
    to: &[*mut f32; OUTPUTS],
    block: Block,
    accumulate: bool,
) {
    // SAFETY: the caller's promise.
    unsafe {
        for row in 0..block.rows {
            for at in (0..block.length).step_by(LANES) {
                let from = from.add(row * block.length + at);
                let columns = [
                    output_column::<S>(from, 0, distance),
                    output_column::<S>(from, 1, distance),
                    output_column::<S>(from, 2, distance),
                    output_column::<S>(from, 3, distance),
                    output_column::<S>(from, 4, distance),
                    output_column::<S>(from, 5, distance),
                ];
                for y in 0..STEP {
                    let [a, b, c, d, e, f] = columns;
                    let line = output_line::<S>([a[y], b[y], c[y], d[y], e[y], f[y]]);
                    for (x, value) in line.into_iter().enumerate() {
                        let to = to[STEP * y + x];
                        if !to.is_null() {
                            let to = to.add(row * block.stride + at);
                            S::store(to, if accumulate { S::add(S::load(to), value) } else { value });
                        }
                    }
                }
            }
        }
    }
}

/// `MR` rows × `NR` vectors of a product; gives `MR`.
///
/// # Safety
/// As [`products`].
#[inline(always)]
unsafe fn product<S: Simd, const MR: usize, const NR: usize>(
    part: &Products,
    mut weight: *const f32,
    mut panel: *const f32,
    sums: *mut f32,
) -> usize {
    // SAFETY: the caller's promise.
    unsafe {
        let width = part.vectors * LANES;
        let mut values = [[S::zero(); NR]; MR];
        for _ in 0..part.depth {
            prefetch(weight.wrapping_add(WEIGHTS_AHEAD * part.weight_strides[2]), 1);
            let mut columns = [S::zero(); NR];
            for (nth, column) in columns.iter_mut().enumerate() {
                *column = S::load(panel.add(nth * LANES));
            }
            for (row, values) in values.iter_mut().enumerate() {
                let factor = S::broadcast(*weight.add(row));
                for (value, column) in values.iter_mut().zip(columns) {
                    *value = S::multiply_add(factor, column, *value);
                }
            }
            weight = weight.add(part.weight_strides[2]);
            panel = panel.add(width);
        }
        for (row, values) in values.into_iter().enumerate() {
            for (nth, value) in values.into_iter().enumerate() {
                let to = sums.add(row * width + nth * LANES);
                S::store(to, if part.accumulate { S::add(S::load(to), value) } else { value });
            }
        }
    }
    MR
}

/// All products of `part`. `WIDEST`: vectors that stay in registers beside 8 rows; a single vector takes `TALL` rows.
///
/// # Safety
/// The three matrices lie inside their buffers, `rows` is a multiple of [`LANES`], and the machine
/// has the instruction set.
#[inline(always)]
pub(super) unsafe fn products<S: Simd, const WIDEST: usize, const TALL: usize>(part: &Products) {
    // SAFETY: the caller's promise.
    unsafe {
        let width = part.vectors * LANES;
        for point in 0..part.points {
            for row in (0..part.rows).step_by(LANES) {
                let weight = part.weight.add(point * part.weight_strides[0] + row / LANES * part.weight_strides[1]);
                let panel = part.panel.add(point * part.panel_stride);
                let sums = part.sums.add(point * part.sums_stride + row * width);
                let pieces = part.vectors.div_ceil(WIDEST);
                for piece in 0..pieces {
                    let (first, end) = (part.vectors * piece / pieces, part.vectors * (piece + 1) / pieces);
                    let (panel, sums) = (panel.add(first * LANES), sums.add(first * LANES));
                    let mut row = 0;
                    while row < LANES {
                        let (weight, sums) = (weight.add(row), sums.add(row * width));
                        row += match (end - first, TALL) {
                            // 16 rows are one of 6 and two of 5: as many sums as registers hold, and none for nothing.
                            (1, 6) if row > 0 => product::<S, 5, 1>(part, weight, panel, sums),
                            (1, _) => product::<S, TALL, 1>(part, weight, panel, sums),
                            (2, _) if WIDEST > 1 => product::<S, 8, 2>(part, weight, panel, sums),
                            (3, _) if WIDEST > 1 => product::<S, 8, 3>(part, weight, panel, sums),
                            _ => unreachable!("pieces are at most WIDEST ≤ 3 vectors"),
                        };
                    }
                }
            }
        }
    }
}

/// `rows` rows of `length` floats, `stride` apart, with rows and columns exchanged: `length` rows of `rows` floats.
///
/// # Safety
/// As [`source`], and `rows` is a multiple of [`LANES`] too.
#[inline(always)]
pub(super) unsafe fn turn<S: Simd>(from: *const f32, block: Block, to: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe {
        for row in (0..block.rows).step_by(LANES) {
            for at in (0..block.length).step_by(LANES) {
                let mut square = [S::zero(); LANES];
                for (nth, line) in square.iter_mut().enumerate() {
                    *line = S::load(from.add((row + nth) * block.stride + at));
                }
                for (nth, line) in S::transpose(square).into_iter().enumerate() {
                    S::store(to.add((at + nth) * block.rows + row), line);
                }
            }
        }
    }
}
