//! Heatmaps painted over their images.

use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::Context;
use candle_core::Tensor;
use image::{Rgb, RgbImage};
use rayon::prelude::*;
use ticketlens::data::{ImageSource, Normalisation};

/// Images smaller than this are enlarged by a whole factor, so that a digit can be looked at.
const SMALLEST_SIDE: usize = 224;
/// Pixels between the image and its overlay.
const GAP: usize = 8;
/// Share of the heatmap in an overlay where the map is at its maximum.
const OPACITY: f32 = 0.75;

/// How normalised pixels become visible again.
pub(crate) struct Painter {
    /// Mean and standard deviation that were applied; without them each image is stretched from its
    /// least to its largest value.
    normalisation: Option<Normalisation>,
}

impl Painter {
    /// Pictures were normalised here; of an array it is known only if the user `said` so.
    pub(crate) fn new(source: &ImageSource, said: bool, normalisation: &Normalisation) -> Self {
        let known = (said || !source.is_array()) && normalisation.channels() == source.shape().0;
        Self { normalisation: known.then(|| normalisation.clone()) }
    }

    /// Red, green and blue of a pixel of an image `(C, H, W)` of `plane` pixels, mostly from 0 to 1.
    fn shown<'a>(&'a self, pixels: &'a [f32], plane: usize) -> impl Fn(usize, usize) -> f32 + 'a {
        let channels = pixels.len() / plane;
        let (low, high) = pixels.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), &v| (l.min(v), h.max(v)));
        move |channel, at| {
            // Of two channels, or more than three, the first stands for all.
            let channel = if channels == 3 { channel } else { 0 };
            let value = pixels[channel * plane + at];
            match &self.normalisation {
                Some(n) => value * n.std()[channel] + n.mean()[channel],
                None if high > low => (value - low) / (high - low),
                None => 0.5,
            }
        }
    }

    /// The image `(C, H, W)` of `plane` pixels as bytes: three channels where it has three, else one.
    pub(crate) fn bytes(&self, pixels: &[f32], plane: usize) -> Vec<u8> {
        let shown = self.shown(pixels, plane);
        let channels = if pixels.len() / plane == 3 { 3 } else { 1 };
        (0..channels)
            .flat_map(|channel| (0..plane).map(move |at| (channel, at)))
            .map(|(c, at)| byte(shown(c, at)))
            .collect()
    }

    /// The image `(C, H, W)` with its map `(H, W)` of values from 0 to 1: original at the left, overlay at the right.
    fn paint(&self, pixels: &[f32], map: &[f32], height: usize, width: usize) -> RgbImage {
        let shown = self.shown(pixels, height * width);
        let scale = SMALLEST_SIDE.div_ceil(height.min(width)).max(1);
        let size = ((2 * width * scale + GAP) as u32, (height * scale) as u32);
        let mut panel = RgbImage::from_pixel(size.0, size.1, Rgb([255; 3]));
        for y in 0..height * scale {
            for x in 0..width * scale {
                let at = y / scale * width + x / scale;
                let heat = map[at].clamp(0.0, 1.0);
                let colour = inferno(heat);
                let original = [0, 1, 2].map(|channel| shown(channel, at));
                let share = OPACITY * heat.sqrt();
                let mixed = [0, 1, 2].map(|c| original[c].clamp(0.0, 1.0) * (1.0 - share) + colour[c] * share);
                panel.put_pixel(x as u32, y as u32, Rgb(original.map(byte)));
                panel.put_pixel((width * scale + GAP + x) as u32, y as u32, Rgb(mixed.map(byte)));
            }
        }
        panel
    }
}

fn byte(value: f32) -> u8 {
    (value.clamp(0.0, 1.0) * 255.0).round() as u8
}

/// Writes one PNG for each image of a batch; `path` gives its place by the image's number.
pub(crate) fn write(
    painter: &Painter,
    images: &Range<usize>,
    pixels: &Tensor,
    normalised: &Tensor,
    path: impl Fn(usize) -> anyhow::Result<PathBuf> + Sync,
) -> anyhow::Result<()> {
    let (_, height, width) = normalised.dims3()?;
    let maps = normalised.flatten_all()?.to_vec1::<f32>()?;
    let pixels = pixels.flatten_all()?.to_vec1::<f32>()?;
    let size = pixels.len() / images.len();
    let written: Vec<anyhow::Result<()>> = images
        .clone()
        .into_par_iter()
        .zip(pixels.par_chunks_exact(size).zip(maps.par_chunks_exact(height * width)))
        .map(|(image, (pixels, map))| {
            let path = path(image)?;
            painter.paint(pixels, map, height, width).save(&path).with_context(|| path.display().to_string())
        })
        .collect();
    written.into_iter().collect()
}

/// `0007-bird.png` for image 7 named `photos/bird.jpg`, `0007.png` for one of an array.
pub(crate) fn file_name(image: &str, index: usize, count: usize) -> String {
    let digits = count.saturating_sub(1).to_string().len().max(4);
    match Path::new(image).file_stem() {
        Some(stem) if !image.ends_with(']') => {
            format!("{index:0digits$}-{}.png", stem.to_string_lossy())
        }
        _ => format!("{index:0digits$}.png"),
    }
}

/// The colour map "inferno" (Smith and van der Walt 2015, perceptually uniform; matplotlib, CC0):
/// its colours at sixteenths, linear between them; `at` from 0 to 1.
fn inferno(at: f32) -> [f32; 3] {
    const KNOTS: [[f32; 3]; 17] = [
        [0.001_462, 0.000_466, 0.013_866],
        [0.042_253, 0.028_139, 0.141_141],
        [0.129_285, 0.047_293, 0.290_788],
        [0.238_273, 0.036_621, 0.396_353],
        [0.341_500, 0.062_325, 0.429_425],
        [0.441_207, 0.099_338, 0.431_594],
        [0.540_920, 0.134_729, 0.415_123],
        [0.640_135, 0.171_438, 0.381_065],
        [0.735_683, 0.215_906, 0.330_245],
        [0.822_386, 0.275_197, 0.266_085],
        [0.894_305, 0.353_399, 0.193_584],
        [0.946_965, 0.449_191, 0.115_272],
        [0.978_422, 0.557_937, 0.034_931],
        [0.987_874, 0.675_267, 0.065_257],
        [0.974_638, 0.797_692, 0.206_332],
        [0.947_594, 0.917_399, 0.410_665],
        [0.988_362, 0.998_364, 0.644_924],
    ];
    let place = at.clamp(0.0, 1.0) * 16.0;
    let below = (place as usize).min(15);
    let share = place - below as f32;
    [0, 1, 2].map(|channel| KNOTS[below][channel] * (1.0 - share) + KNOTS[below + 1][channel] * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_colour_map_grows_lighter_and_equals_matplotlibs_where_it_is_known() {
        let lightness = |[r, g, b]: [f32; 3]| 0.2126 * r + 0.7152 * g + 0.0722 * b;
        let steps: Vec<f32> = (0..=50).map(|i| lightness(inferno(i as f32 / 50.0))).collect();
        assert!(steps.is_sorted(), "{steps:?}");
        // matplotlib.colormaps["inferno"](0.5) and (0.75).
        for (at, known) in [(0.5, [0.735_683, 0.215_906, 0.330_245]), (0.75, [0.978_422, 0.557_937, 0.034_931])] {
            for (ours, theirs) in inferno(at).iter().zip(known) {
                assert!((ours - theirs).abs() < 1e-5, "{at}: {:?}", inferno(at));
            }
        }
    }

    #[test]
    fn names_count_images_and_keep_theirs() {
        assert_eq!(file_name("photos/a.b.jpg", 7, 20), "0007-a.b.png");
        assert_eq!(file_name("x.safetensors:images[7]", 7, 123_456), "000007.png");
    }

    #[test]
    fn a_zero_map_leaves_the_image_as_it_is() {
        let painter = Painter { normalisation: None };
        let panel = painter.paint(&[0.0, 1.0, 2.0, 4.0], &[0.0, 0.0, 0.0, 1.0], 2, 2);
        assert_eq!((panel.width(), panel.height()), (2 * 224 + 8, 224));
        assert_eq!(panel.get_pixel(0, 0).0, [0; 3]);
        assert_eq!(panel.get_pixel(224 + 8 + 112, 0).0, [64; 3]);
        assert_ne!(panel.get_pixel(224 + 8 + 112, 112).0, [255; 3]);
    }
}
