//! Conversion between the batch-outermost layout of the public API and the kernels' batch-innermost one.

use rayon::prelude::*;

/// Side of the squares that are turned in registers or the first-level cache.
const TILE: usize = 16;

/// Transposes a `(rows, cols)` matrix into `(cols, rows)`.
///
/// With `rows = N` and `cols = C·H·W` this turns `(N, C, H, W)` into `(C, H, W, N)`; swap the two to go back.
pub fn transpose(rows: usize, cols: usize, input: &[f32], output: &mut [f32]) {
    assert_eq!(input.len(), rows * cols, "transpose: input length");
    assert_eq!(output.len(), rows * cols, "transpose: output length");
    if output.is_empty() {
        return;
    }
    output.par_chunks_mut(TILE * rows).enumerate().for_each(|(nth, output)| {
        let col_start = nth * TILE;
        let width = TILE.min(cols - col_start);
        for row_start in (0..rows).step_by(TILE) {
            let height = TILE.min(rows - row_start);
            let mut tile = [[0.0f32; TILE]; TILE];
            for (row, tile) in tile.iter_mut().enumerate().take(height) {
                tile[..width].copy_from_slice(&input[(row_start + row) * cols + col_start..][..width]);
            }
            for (col, output) in output.chunks_exact_mut(rows).enumerate() {
                for (row, output) in output[row_start..row_start + height].iter_mut().enumerate() {
                    *output = tile[row][col];
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposing_moves_every_value_and_twice_is_the_identity() {
        for (rows, cols) in [(1, 1), (3, 40), (128, 49), (17, 16), (70, 1)] {
            let input: Vec<f32> = (0..rows * cols).map(|value| value as f32).collect();
            let (mut output, mut back) = (vec![f32::NAN; input.len()], vec![f32::NAN; input.len()]);
            transpose(rows, cols, &input, &mut output);
            for row in 0..rows {
                for col in 0..cols {
                    assert_eq!(output[col * rows + row], input[row * cols + col]);
                }
            }
            transpose(cols, rows, &output, &mut back);
            assert_eq!(back, input);
        }
    }
}
