//! Pixels: the colour map, overlays, and pictures as data URLs.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};

use crate::error::{Error, Result};

/// An 8-bit RGB picture.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Picture {
    /// Pixels a row.
    pub(crate) width: usize,
    /// Rows.
    pub(crate) height: usize,
    /// `(height, width, 3)`.
    pub(crate) rgb: Vec<u8>,
}

/// Viridis (Smith & van der Walt 2015: perceptually even, safe for colour-blind readers) by
/// Zucker's sixth-degree fit, in `[0, 1]`.
pub(crate) fn viridis(value: f64) -> [u8; 3] {
    const FIT: [[f64; 3]; 7] = [
        [0.277_727_327_223_417_7, 0.005_407_344_544_966_578, 0.334_099_805_335_306_1],
        [0.105_093_043_108_577_4, 1.404_613_529_898_575, 1.384_590_162_594_685],
        [-0.330_861_828_725_556_3, 0.214_847_559_468_213, 0.095_095_163_028_236_59],
        [-4.634_230_498_983_486, -5.799_100_973_351_585, -19.332_440_956_279_87],
        [6.228_269_936_347_081, 14.179_933_366_805_09, 56.690_552_600_681_05],
        [4.776_384_997_670_288, -13.745_145_377_746_01, -65.353_032_633_372_34],
        [-5.435_455_855_934_631, 4.645_852_612_178_535, 26.312_435_249_583_2],
    ];
    let t = value.clamp(0.0, 1.0);
    std::array::from_fn(|channel| {
        let polynomial = FIT.iter().rev().fold(0.0, |sum, coefficients| sum * t + coefficients[channel]);
        (polynomial.clamp(0.0, 1.0) * 255.0).round() as u8
    })
}

/// 256 colours of [`viridis`], `(256, 3)`.
pub(crate) fn colour_table() -> Vec<u8> {
    (0..256).flat_map(|level| viridis(f64::from(level) / 255.0)).collect()
}

/// How much an overlay covers its picture where the map, scaled to a maximum of 1, has this value.
pub(crate) fn opacity(value: f64) -> f64 {
    0.12 + 0.68 * value.clamp(0.0, 1.0)
}

/// Maps quantised to 0..=255 of each map's own maximum; a map without a positive value becomes all zero.
pub(crate) fn quantised(map: &[f32]) -> Vec<u8> {
    let greatest = map.iter().copied().filter(|value| value.is_finite()).fold(0.0f32, f32::max);
    if greatest <= 0.0 {
        return vec![0; map.len()];
    }
    map.iter().map(|&value| (value.max(0.0) / greatest * 255.0).round() as u8).collect()
}

/// Bilinear value at the centre of target cell (x, y) of a target of `size`, half-pixel centres, from a map `(h, w)`.
pub(crate) fn bilinear(map: &[u8], [h, w]: [usize; 2], [height, width]: [usize; 2], y: usize, x: usize) -> f64 {
    let place = |index: usize, target: usize, source: usize| {
        let at = ((index as f64 + 0.5) * source as f64 / target as f64 - 0.5).clamp(0.0, source as f64 - 1.0);
        let low = at.floor() as usize;
        (low, (low + 1).min(source - 1), at - at.floor())
    };
    let (y0, y1, fy) = place(y, height, h);
    let (x0, x1, fx) = place(x, width, w);
    let value = |y: usize, x: usize| f64::from(map[y * w + x]);
    let upper = value(y0, x0) * (1.0 - fx) + value(y0, x1) * fx;
    let lower = value(y1, x0) * (1.0 - fx) + value(y1, x1) * fx;
    upper * (1.0 - fy) + lower * fy
}

impl Picture {
    /// Black.
    pub(crate) fn new(width: usize, height: usize) -> Self {
        Self { width, height, rgb: vec![0; width * height * 3] }
    }

    /// Sets one pixel.
    pub(crate) fn set(&mut self, y: usize, x: usize, colour: [u8; 3]) {
        let at = (y * self.width + x) * 3;
        self.rgb[at..at + 3].copy_from_slice(&colour);
    }

    /// One pixel.
    pub(crate) fn get(&self, y: usize, x: usize) -> [u8; 3] {
        let at = (y * self.width + x) * 3;
        [self.rgb[at], self.rgb[at + 1], self.rgb[at + 2]]
    }

    /// A data URL: PNG for small pictures, JPEG for photographs, where PNG would be many times larger.
    ///
    /// # Errors
    /// When the encoder fails.
    pub(crate) fn data_url(&self, photograph: bool) -> Result<String> {
        let (width, height) = (self.width as u32, self.height as u32);
        let mut bytes = Vec::new();
        let (kind, written) = if photograph {
            let encoder = JpegEncoder::new_with_quality(&mut bytes, 82);
            ("jpeg", encoder.write_image(&self.rgb, width, height, ExtendedColorType::Rgb8))
        } else {
            let grey = self.rgb.chunks_exact(3).all(|pixel| pixel[0] == pixel[1] && pixel[1] == pixel[2]);
            let encoder = PngEncoder::new_with_quality(&mut bytes, CompressionType::Default, FilterType::Adaptive);
            (
                "png",
                if grey {
                    let luminance: Vec<u8> = self.rgb.iter().copied().step_by(3).collect();
                    encoder.write_image(&luminance, width, height, ExtendedColorType::L8)
                } else {
                    encoder.write_image(&self.rgb, width, height, ExtendedColorType::Rgb8)
                },
            )
        };
        written.map_err(|error| Error::input(format!("report picture of {width}×{height} pixels: {error}")))?;
        Ok(format!("data:image/{kind};base64,{}", STANDARD.encode(&bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn viridis_equals_matplotlibs_within_two_percent() {
        for (value, expected) in
            [(0.0, [68, 1, 84]), (0.25, [59, 82, 139]), (0.5, [33, 145, 140]), (1.0, [253, 231, 37])]
        {
            for (got, want) in viridis(value).into_iter().zip(expected) {
                assert!((i32::from(got) - want).abs() <= 5, "{value}: {got} for {want}");
            }
        }
    }

    #[test]
    fn an_empty_map_stays_empty() {
        assert_eq!(quantised(&[0.0, 0.0]), [0, 0]);
        assert_eq!(quantised(&[0.5, 2.0, 1.0]), [64, 255, 128]);
    }

    #[test]
    fn bilinear_agrees_with_the_definition() {
        // Two cells stretched to four: quarter points, clamped at the ends (align_corners = false).
        let got: Vec<f64> = (0..4).map(|x| bilinear(&[0, 100], [1, 2], [1, 4], 0, x)).collect();
        assert_eq!(got, [0.0, 25.0, 75.0, 100.0]);
    }
}
