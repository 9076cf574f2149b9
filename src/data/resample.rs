//! Bilinear resizing with antialiasing, as Pillow and torchvision do: a triangle filter as wide as
//! the shrinking factor.
//!
//! Only the part that is wanted is computed. Values are exact f32 sums until they are rounded once.

/// For each wanted output position, the first source position and the weights from there on.
fn taps(source: usize, resized: usize, from: usize, count: usize) -> Vec<(usize, Vec<f32>)> {
    let scale = source as f64 / resized as f64;
    let support = scale.max(1.0);
    let one = |position: usize| {
        let centre = (position as f64 + 0.5) * scale;
        let first = ((centre - support + 0.5).floor().max(0.0) as usize).min(source - 1);
        let last = ((centre + support + 0.5).floor() as usize).clamp(first + 1, source);
        let weight = |at: usize| (1.0 - ((at as f64 + 0.5 - centre) / support).abs()).max(0.0);
        let weights: Vec<f64> = (first..last).map(weight).collect();
        let total: f64 = weights.iter().sum();
        (first, weights.into_iter().map(|w| (w / total) as f32).collect())
    };
    (from..from + count).map(one).collect()
}

/// Resizes interleaved bytes `(H, W, C)` of `source` (width, height) to `resized`, and returns the
/// part at `corner` (left, top) of `size`, as planes `(C, H, W)`.
pub(crate) fn resize_part<const C: usize>(
    bytes: &[u8],
    source: (usize, usize),
    resized: (usize, usize),
    corner: (usize, usize),
    size: (usize, usize),
) -> Vec<u8> {
    let columns = taps(source.0, resized.0, corner.0, size.0);
    let rows = taps(source.1, resized.1, corner.1, size.1);
    let row_length = source.0 * C;
    let mut row = vec![0.0f32; row_length];
    let plane = size.0 * size.1;
    let mut planes = vec![0u8; C * plane];
    for (y, (first, weights)) in rows.iter().enumerate() {
        // Down first: whole rows are summed, which the compiler turns into vector instructions.
        row.fill(0.0);
        for (&weight, line) in weights.iter().zip(bytes[first * row_length..].chunks_exact(row_length)) {
            for (sum, &byte) in row.iter_mut().zip(line) {
                *sum += weight * f32::from(byte);
            }
        }
        let pixels: &[[f32; C]] = row.as_chunks().0;
        for (x, (first, weights)) in columns.iter().enumerate() {
            let mut sums = [0.0f32; C];
            for (&weight, pixel) in weights.iter().zip(&pixels[*first..]) {
                for (sum, value) in sums.iter_mut().zip(pixel) {
                    *sum += weight * value;
                }
            }
            for (channel, sum) in sums.into_iter().enumerate() {
                // The sum is in 0..=255 but for rounding, and the conversion saturates.
                planes[channel * plane + y * size.0 + x] = (sum + 0.5) as u8;
            }
        }
    }
    planes
}

#[cfg(test)]
mod tests {
    use image::imageops::{self, FilterType};
    use proptest::prelude::*;
    use rand::Rng;

    use super::*;

    #[test]
    fn known_values() {
        // Halving: each output is the triangle (1, 3, 3, 1) / 8 over its neighbours, cut and normalised at the edges.
        let halved = resize_part::<1>(&[0, 80, 160, 240], (4, 1), (2, 1), (0, 0), (2, 1));
        assert_eq!(
            halved,
            [
                ((80.0f32 * 3.0 + 160.0) / 7.0).round() as u8,
                ((80.0f32 + 160.0 * 3.0 + 240.0 * 3.0) / 7.0).round() as u8
            ]
        );
        // Doubling: half-pixel centres, 1/4 and 3/4.
        assert_eq!(resize_part::<1>(&[0, 100], (2, 1), (4, 1), (0, 0), (4, 1)), [0, 25, 75, 100]);
        assert_eq!(resize_part::<1>(&[9, 7, 5, 3], (2, 2), (2, 2), (1, 0), (1, 2)), [7, 3]);
    }

    proptest! {
        #[test]
        fn agrees_with_the_image_crate(w in 1u32..40, h in 1u32..40, new_w in 1u32..40, new_h in 1u32..40, seed: u64) {
            let mut random = crate::seed::stream(seed, "test", 0);
            let picture = image::RgbImage::from_fn(w, h, |_, _| image::Rgb([random.random(), random.random(), random.random()]));
            let expected = imageops::resize(&picture, new_w, new_h, FilterType::Triangle);
            let corner = (new_w as usize / 4, new_h as usize / 3);
            let size = (new_w as usize - corner.0, new_h as usize - corner.1);
            let resized = (new_w as usize, new_h as usize);
            let ours = resize_part::<3>(picture.as_raw(), (w as usize, h as usize), resized, corner, size);
            for (i, &value) in ours.iter().enumerate() {
                let (channel, y, x) = (i / (size.0 * size.1), i / size.0 % size.1, i % size.0);
                let theirs = expected.get_pixel((x + corner.0) as u32, (y + corner.1) as u32)[channel];
                prop_assert!(value.abs_diff(theirs) <= 1, "{value} against {theirs} at {channel}, {y}, {x}");
            }
        }
    }
}
