//! Max pooling and global average pooling in the batch-innermost layout, with their backward passes.

/// Geometry of a max pool over `(C, H, W, N)`; windows may overlap, padding counts as −∞.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolShape {
    /// N
    pub batch: usize,
    /// C
    pub channels: usize,
    /// H of the input
    pub in_height: usize,
    /// W of the input
    pub in_width: usize,
    /// side of the square window, at most 15
    pub kernel: usize,
    /// step of the window in both directions
    pub stride: usize,
    /// rows and columns of −∞ on each side, less than `kernel`
    pub padding: usize,
}

impl PoolShape {
    /// H of the output.
    #[must_use]
    pub fn out_height(&self) -> usize {
        (self.in_height + 2 * self.padding - self.kernel) / self.stride + 1
    }
    /// W of the output.
    #[must_use]
    pub fn out_width(&self) -> usize {
        (self.in_width + 2 * self.padding - self.kernel) / self.stride + 1
    }
    fn input_len(&self) -> usize {
        self.channels * self.in_height * self.in_width * self.batch
    }
    fn output_len(&self) -> usize {
        self.channels * self.out_height() * self.out_width() * self.batch
    }
    fn check(&self) {
        assert!(
            self.kernel <= 15,
            "pool: kernel above 15 does not fit the argmax byte"
        );
        assert!(
            self.padding < self.kernel,
            "pool: padding must be below kernel"
        );
    }
}

/// Max pool; `argmax` gets the winner's offset `kh·kernel + kw` in its window (the first maximum wins, as in PyTorch).
pub fn max_pool(shape: &PoolShape, input: &[f32], output: &mut [f32], argmax: &mut [u8]) {
    shape.check();
    assert_eq!(input.len(), shape.input_len(), "max_pool: input length");
    assert_eq!(output.len(), shape.output_len(), "max_pool: output length");
    assert_eq!(argmax.len(), shape.output_len(), "max_pool: argmax length");
    let (height, width, batch) = (shape.in_height, shape.in_width, shape.batch);
    let (out_height, out_width) = (shape.out_height(), shape.out_width());
    for channel in 0..shape.channels {
        for out_row in 0..out_height {
            for out_col in 0..out_width {
                let at = ((channel * out_height + out_row) * out_width + out_col) * batch;
                let (best, winner) = (&mut output[at..at + batch], &mut argmax[at..at + batch]);
                let mut first = true;
                for kernel_row in 0..shape.kernel {
                    let row = out_row * shape.stride + kernel_row;
                    if row < shape.padding || row - shape.padding >= height {
                        continue;
                    }
                    for kernel_col in 0..shape.kernel {
                        let col = out_col * shape.stride + kernel_col;
                        if col < shape.padding || col - shape.padding >= width {
                            continue;
                        }
                        let from = ((channel * height + row - shape.padding) * width + col
                            - shape.padding)
                            * batch;
                        let offset = (kernel_row * shape.kernel + kernel_col) as u8;
                        for n in 0..batch {
                            let value = input[from + n];
                            if first || value > best[n] || value.is_nan() {
                                best[n] = value;
                                winner[n] = offset;
                            }
                        }
                        first = false;
                    }
                }
            }
        }
    }
}

/// Gradient of [`max_pool`]: each output's gradient goes to its winner. `grad_input` is overwritten.
pub fn max_pool_backward(
    shape: &PoolShape,
    argmax: &[u8],
    grad_output: &[f32],
    grad_input: &mut [f32],
) {
    shape.check();
    assert_eq!(
        argmax.len(),
        shape.output_len(),
        "max_pool_backward: argmax length"
    );
    assert_eq!(
        grad_output.len(),
        shape.output_len(),
        "max_pool_backward: grad_output length"
    );
    assert_eq!(
        grad_input.len(),
        shape.input_len(),
        "max_pool_backward: grad_input length"
    );
    let (height, width, batch) = (shape.in_height, shape.in_width, shape.batch);
    let (out_height, out_width) = (shape.out_height(), shape.out_width());
    grad_input.fill(0.0);
    for channel in 0..shape.channels {
        for out_row in 0..out_height {
            for out_col in 0..out_width {
                for n in 0..batch {
                    let at = ((channel * out_height + out_row) * out_width + out_col) * batch + n;
                    let offset = argmax[at] as usize;
                    let row = out_row * shape.stride + offset / shape.kernel - shape.padding;
                    let col = out_col * shape.stride + offset % shape.kernel - shape.padding;
                    grad_input[((channel * height + row) * width + col) * batch + n] +=
                        grad_output[at];
                }
            }
        }
    }
}

/// Mean over the `positions = H·W` of each map: `(C, H, W, N)` to `(C, N)`.
pub fn global_average_pool(
    channels: usize,
    positions: usize,
    batch: usize,
    input: &[f32],
    output: &mut [f32],
) {
    assert_eq!(
        input.len(),
        channels * positions * batch,
        "global_average_pool: input length"
    );
    assert_eq!(
        output.len(),
        channels * batch,
        "global_average_pool: output length"
    );
    let scale = 1.0 / positions as f32;
    for channel in 0..channels {
        let sums = &mut output[channel * batch..(channel + 1) * batch];
        sums.fill(0.0);
        for position in 0..positions {
            let from = (channel * positions + position) * batch;
            for (sum, value) in sums.iter_mut().zip(&input[from..from + batch]) {
                *sum += value;
            }
        }
        for sum in sums {
            *sum *= scale;
        }
    }
}

/// Gradient of [`global_average_pool`]: `(C, N)` to `(C, H, W, N)`. `grad_input` is overwritten.
pub fn global_average_pool_backward(
    channels: usize,
    positions: usize,
    batch: usize,
    grad_output: &[f32],
    grad_input: &mut [f32],
) {
    assert_eq!(
        grad_output.len(),
        channels * batch,
        "global_average_pool_backward: grad_output length"
    );
    assert_eq!(
        grad_input.len(),
        channels * positions * batch,
        "global_average_pool_backward: grad_input length"
    );
    let scale = 1.0 / positions as f32;
    for channel in 0..channels {
        for position in 0..positions {
            let to = (channel * positions + position) * batch;
            for n in 0..batch {
                grad_input[to + n] = grad_output[channel * batch + n] * scale;
            }
        }
    }
}
