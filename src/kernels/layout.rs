//! Conversion between the batch-outermost layout of the public API and the kernels' batch-innermost one.

/// Transposes a `(rows, cols)` matrix into `(cols, rows)`.
///
/// With `rows = N` and `cols = C·H·W` this turns `(N, C, H, W)` into `(C, H, W, N)`; swap the two to go back.
pub fn transpose(rows: usize, cols: usize, input: &[f32], output: &mut [f32]) {
    assert_eq!(input.len(), rows * cols, "transpose: input length");
    assert_eq!(output.len(), rows * cols, "transpose: output length");
    const TILE: usize = 16;
    for row_start in (0..rows).step_by(TILE) {
        for col_start in (0..cols).step_by(TILE) {
            for col in col_start..(col_start + TILE).min(cols) {
                for row in row_start..(row_start + TILE).min(rows) {
                    output[col * rows + row] = input[row * cols + col];
                }
            }
        }
    }
}
