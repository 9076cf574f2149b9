//! Picture files (PNG, JPEG, WebP, BMP, TIFF, GIF) to byte images: decode, resize, centre crop.

use std::borrow::Cow;
use std::io::{Cursor, Read};
use std::path::Path;

use image::imageops;
use image::{DynamicImage, GrayImage, ImageFormat, ImageReader, Limits, RgbImage};

use crate::data::Normalisation;
use crate::data::impostor::what_is;
use crate::data::listing::{is_read, named_picture};
use crate::data::resample::resize_part;
use crate::error::{Error, Result};
use crate::input;

/// No picture file may be larger, nor need more memory when decoded.
pub(super) const LIMIT_FILE: u64 = 256 << 20;
const LIMIT_DECODED: u64 = 512 << 20;
const LIMIT_SIDE: u32 = 20_000;
const SIGNATURE_OF_PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
/// Sides of what a network sees, in pixels: its maps take up to a gigabyte for each image then.
const LIMIT_INPUT: usize = 4_096;

/// How pictures become network input.
#[derive(Debug, Clone, PartialEq)]
pub struct Preprocess {
    /// The short side after resizing (bilinear, antialiased), in pixels; `None` keeps the size.
    pub resize: Option<usize>,
    /// Side of the square cut from the centre after resizing, in pixels; `None` cuts nothing.
    pub crop: Option<usize>,
    /// Mean and standard deviation; one channel makes grey images, three make RGB.
    pub normalisation: Normalisation,
}

impl Preprocess {
    /// Short side to `size` pixels, then the centre square; without a size pictures keep theirs.
    pub fn new(size: Option<usize>, normalisation: Normalisation) -> Self {
        Self { resize: size, crop: size, normalisation }
    }

    /// torchvision's evaluation transform for ImageNet: short side 256, centre 224, RGB.
    pub fn imagenet() -> Self {
        Self { resize: Some(256), crop: Some(224), normalisation: Normalisation::imagenet() }
    }

    /// MNIST: grey, as large as the pictures are.
    pub fn mnist() -> Self {
        Self::new(None, Normalisation::mnist())
    }

    /// Checks what must hold before a picture is read.
    ///
    /// # Errors
    /// If a size is 0 or above 4,096, the crop exceeds the side, or channels are not one or three.
    pub fn check(&self) -> Result<()> {
        let side = 1..=LIMIT_INPUT;
        if let Some(bad) = [self.resize, self.crop].into_iter().flatten().find(|s| !side.contains(s)) {
            return Err(Error::input(format!("--size: {bad} pixels is not from 1 to {LIMIT_INPUT}")));
        }
        match (self.resize, self.crop) {
            (Some(resize), Some(crop)) if crop > resize => {
                return Err(Error::input(format!("--size: a crop of {crop} pixels from a short side of {resize}")));
            }
            _ => {}
        }
        match self.normalisation.channels() {
            1 | 3 => Ok(()),
            n => Err(Error::input(format!("--mean: {n} values; one makes grey images, three make RGB"))),
        }
    }

    /// The place, in a `width` × `height` picture, of what the network sees.
    pub fn placement(&self, width: usize, height: usize) -> Placement {
        let (resized_width, resized_height) = match self.resize {
            None => (width, height),
            // The long side is truncated, as torchvision does.
            Some(short) if width <= height => (short, (short * height / width).max(1)),
            Some(short) => ((short * width / height).max(1), short),
        };
        let (crop_width, crop_height) = match self.crop {
            None => (resized_width, resized_height),
            Some(side) => (side, side),
        };
        // Half to even, as Python's round, on which torchvision's centre crop rests.
        let margin = |whole: usize, part: usize| {
            let spare = whole.saturating_sub(part);
            spare / 2 + usize::from(spare % 4 == 3)
        };
        Placement {
            picture: (width, height),
            resized: (resized_width, resized_height),
            left: margin(resized_width, crop_width),
            top: margin(resized_height, crop_height),
            size: (crop_width, crop_height),
        }
    }

    /// The place that the network sees of a `width` × `height` picture, which must hold it.
    ///
    /// # Errors
    /// If the picture is too small for the crop, or the input would have a side above 4,096 pixels.
    pub(crate) fn input(&self, width: usize, height: usize, name: impl AsRef<Path>) -> Result<Placement> {
        let place = self.placement(width, height);
        let (w, h) = place.size;
        let fault = match self.crop {
            Some(crop) if w > place.resized.0 || h > place.resized.1 => {
                format!("{width}×{height} pixels is too small for a crop of {crop}")
            }
            _ if w.max(h) > LIMIT_INPUT => {
                format!("{width}×{height} pixels make an input of {w}×{h}, a side may have {LIMIT_INPUT}: give --size")
            }
            _ => return Ok(place),
        };
        Err(Error::format(name.as_ref(), fault))
    }

    /// The byte image `(C, H, W)` that the network sees of a decoded picture, with its height and width.
    pub(crate) fn apply(&self, picture: &Picture, name: &str) -> Result<(Vec<u8>, usize, usize)> {
        let (width, height) = picture.size();
        let place = self.input(width, height, name)?;
        let seen = picture.resized_part(place.resized, (place.left, place.top), place.size);
        Ok((seen, place.size.1, place.size.0))
    }
}

/// Where the network's input lies in a picture: resized as a whole, then cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// Width and height of the picture, in its own pixels.
    pub picture: (usize, usize),
    /// Width and height after resizing.
    pub resized: (usize, usize),
    /// Columns cut off at the left after resizing.
    pub left: usize,
    /// Rows cut off at the top after resizing.
    pub top: usize,
    /// Width and height of what is left.
    pub size: (usize, usize),
}

impl Placement {
    /// A point of the picture, in input coordinates (it may lie outside the input).
    pub fn point(&self, x: f64, y: f64) -> (f64, f64) {
        (
            x * self.resized.0 as f64 / self.picture.0 as f64 - self.left as f64,
            y * self.resized.1 as f64 / self.picture.1 as f64 - self.top as f64,
        )
    }
}

/// A decoded picture, grey or RGB.
#[derive(Debug, Clone)]
pub(crate) enum Picture {
    Grey(GrayImage),
    Rgb(RgbImage),
}

impl Picture {
    /// Decodes a picture file, told apart by content (of a GIF or TIFF the first frame), to one channel or three.
    pub(crate) fn read(path: &Path, channels: usize) -> Result<Self> {
        Self::decode(&input::read(path, LIMIT_FILE)?, channels, path)
    }

    pub(crate) fn decode(bytes: &[u8], channels: usize, path: &Path) -> Result<Self> {
        if bytes.is_empty() {
            return Err(Error::format(path, "is empty"));
        }
        let fault = |e: image::ImageError| Error::format(path, format!("cannot be decoded: {e}"));
        let bytes = &without_colour_profile(bytes)[..];
        let mut reader = ImageReader::new(Cursor::new(bytes));
        reader = reader.with_guessed_format().map_err(|e| Error::io(path, e))?;
        check_format(reader.format(), bytes, path)?;
        if reader.format() == Some(ImageFormat::Jpeg) && !jpeg_ends(bytes) {
            return Err(Error::format(path, "is a truncated JPEG: it has no end marker"));
        }
        let mut limits = Limits::default();
        limits.max_image_width = Some(LIMIT_SIDE);
        limits.max_image_height = Some(LIMIT_SIDE);
        limits.max_alloc = Some(LIMIT_DECODED);
        reader.limits(limits);
        let decoded = reader.decode().map_err(fault)?;
        check_size(decoded.width(), decoded.height(), path)?;
        Ok(match (channels, decoded) {
            (1, DynamicImage::ImageLuma8(grey)) => Picture::Grey(grey),
            (1, other) => Picture::Grey(grey(&other.to_rgb8())),
            (_, other) => Picture::Rgb(other.into_rgb8()),
        })
    }

    /// A grey picture from its bytes, repeated to three channels if asked.
    pub(crate) fn from_grey(width: usize, height: usize, bytes: &[u8], channels: usize) -> Option<Self> {
        let (w, h) = (u32::try_from(width).ok()?, u32::try_from(height).ok()?);
        match channels {
            1 => GrayImage::from_raw(w, h, bytes.to_vec()).map(Picture::Grey),
            _ => RgbImage::from_raw(w, h, bytes.iter().flat_map(|&b| [b; 3]).collect()).map(Picture::Rgb),
        }
    }

    /// Width and height.
    pub(crate) fn size(&self) -> (usize, usize) {
        let (width, height) = match self {
            Picture::Grey(grey) => grey.dimensions(),
            Picture::Rgb(rgb) => rgb.dimensions(),
        };
        (width as usize, height as usize)
    }

    /// Bytes it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        let (width, height) = self.size();
        width * height * if matches!(self, Picture::Grey(_)) { 1 } else { 3 }
    }

    /// The part at `corner` (left, top) of `size`, as a picture of its own.
    pub(crate) fn cropped(&self, corner: (usize, usize), size: (usize, usize)) -> Self {
        let ((x, y), (w, h)) = ((corner.0 as u32, corner.1 as u32), (size.0 as u32, size.1 as u32));
        match self {
            Picture::Grey(grey) => Picture::Grey(imageops::crop_imm(grey, x, y, w, h).to_image()),
            Picture::Rgb(rgb) => Picture::Rgb(imageops::crop_imm(rgb, x, y, w, h).to_image()),
        }
    }

    /// Resized to `resized` (width, height), then cut at `corner` (left, top) to `size`: `(C, H, W)` bytes.
    pub(crate) fn resized_part(
        &self,
        resized: (usize, usize),
        corner: (usize, usize),
        size: (usize, usize),
    ) -> Vec<u8> {
        let source = self.size();
        match self {
            Picture::Grey(grey) if source == resized => part(grey.as_raw(), 1, source.0, corner, size),
            Picture::Rgb(rgb) if source == resized => part(rgb.as_raw(), 3, source.0, corner, size),
            Picture::Grey(grey) => resize_part::<1>(grey.as_raw(), source, resized, corner, size),
            Picture::Rgb(rgb) => resize_part::<3>(rgb.as_raw(), source, resized, corner, size),
        }
    }
}

/// A PNG without its colour profile, which is not used, and which the decoder would inflate
/// whatever its size. Other bytes, and a PNG whose chunks do not fit, are left as they are.
fn without_colour_profile(bytes: &[u8]) -> Cow<'_, [u8]> {
    let Some(mut rest) = bytes.strip_prefix(SIGNATURE_OF_PNG) else { return Cow::Borrowed(bytes) };
    let mut kept = SIGNATURE_OF_PNG.to_vec();
    while let Some((head, _)) = rest.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        // Length, type and checksum take twelve bytes.
        let Some((chunk, after)) = length.checked_add(12).and_then(|whole| rest.split_at_checked(whole)) else { break };
        if &head[4..] != b"iCCP" {
            kept.extend_from_slice(chunk);
        }
        rest = after;
    }
    kept.extend_from_slice(rest);
    match kept.len() == bytes.len() {
        true => Cow::Borrowed(bytes),
        false => Cow::Owned(kept),
    }
}

/// Width and height of a picture file, from its header alone.
pub(crate) fn dimensions(path: &Path) -> Result<(usize, usize)> {
    // Decoders read all of it.
    input::check(path, LIMIT_FILE)?;
    let mut start = Vec::new();
    let file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
    file.take(4096).read_to_end(&mut start).map_err(|e| Error::io(path, e))?;
    if start.is_empty() {
        return Err(Error::format(path, "is empty"));
    }
    check_format(image::guess_format(&start).ok(), &start, path)?;
    let reader = || ImageReader::open(path)?.with_guessed_format();
    let (width, height) = match png_size(&start) {
        Some(size) => size,
        None => reader()
            .map_err(|e| Error::io(path, e))?
            .into_dimensions()
            .map_err(|e| Error::format(path, format!("cannot be decoded: {e}")))?,
    };
    check_size(width, height, path)?;
    Ok((width as usize, height as usize))
}

/// Width and height of a PNG, from its first chunk: the decoder would inflate a colour profile too.
fn png_size(start: &[u8]) -> Option<(u32, u32)> {
    let header = start.strip_prefix(SIGNATURE_OF_PNG)?.get(4..16)?.strip_prefix(b"IHDR")?;
    let (width, height) = header.split_first_chunk()?;
    Some((u32::from_be_bytes(*width), u32::from_be_bytes(*height.first_chunk()?)))
}

/// Some formats allow a picture without pixels, which nothing can be made of, and a header can claim any size.
fn check_size(width: u32, height: u32, path: &Path) -> Result<()> {
    let fault = match (width.min(height), width.max(height)) {
        (0, _) => format!("is a picture without pixels ({width}×{height})"),
        (_, side) if side > LIMIT_SIDE => format!("has {width}×{height} pixels, a side may have {LIMIT_SIDE}"),
        _ => return Ok(()),
    };
    Err(Error::format(path, fault))
}

/// Part of interleaved bytes in rows of `columns` pixels, as planes.
fn part(bytes: &[u8], channels: usize, columns: usize, corner: (usize, usize), size: (usize, usize)) -> Vec<u8> {
    let mut planes = Vec::with_capacity(channels * size.0 * size.1);
    for channel in 0..channels {
        for y in corner.1..corner.1 + size.1 {
            let start = (y * columns + corner.0) * channels;
            planes.extend(bytes[start..start + size.0 * channels].iter().skip(channel).step_by(channels));
        }
    }
    planes
}

/// ITU-R 601 luma in fixed point, as Pillow converts to "L".
fn grey(rgb: &RgbImage) -> GrayImage {
    GrayImage::from_fn(rgb.width(), rgb.height(), |x, y| {
        let [r, g, b] = rgb.get_pixel(x, y).0.map(u32::from);
        image::Luma([((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16) as u8])
    })
}

/// Refuses what is no picture, or one of a format that is not read; `bytes` begin the file, and
/// `format` is what they look like.
fn check_format(format: Option<ImageFormat>, bytes: &[u8], path: &Path) -> Result<()> {
    let what = match format {
        // A GIF may be a film, of which only the first frame is read: its name must say what it is.
        Some(ImageFormat::Gif) if named_picture(path) && !is_named_gif(path) => {
            "is a GIF under another name: rename it to .gif, and its first frame is read".into()
        }
        Some(format) if is_read(format) => return Ok(()),
        Some(format) => format!("is a {format:?} picture, which is not read: convert it to PNG or JPEG"),
        None => what_is(bytes).map_or_else(|| "is not a picture".into(), |what| format!("{what}, not a picture")),
    };
    Err(Error::format(path, what))
}

fn is_named_gif(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gif"))
}

/// Whether a JPEG's own end marker comes before the end of the file. Segments are walked by their
/// lengths, so that neither a thumbnail inside nor a film behind the picture is mistaken for it.
/// The decoder fills what is missing of a truncated file with grey and says nothing.
fn jpeg_ends(bytes: &[u8]) -> bool {
    let mut rest = bytes.get(2..).unwrap_or_default();
    loop {
        // Data, padding or nothing up to the next marker; FF 00 is data, D0 to D7 and 01 stand alone.
        let Some(at) = rest.iter().position(|&byte| byte == 0xff) else { return false };
        rest = &rest[at + 1..];
        match rest.first() {
            None => return false,
            Some(0xd9) => return true,
            Some(0xff) => {}
            Some(0x00 | 0x01 | 0xd0..=0xd8) => rest = &rest[1..],
            Some(_) => {
                let length = rest.get(1..3).map(|pair| usize::from(u16::from_be_bytes([pair[0], pair[1]])));
                match length.and_then(|length| rest.get(1 + length..)) {
                    Some(after) => rest = after,
                    None => return false,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colour_profile_is_left_out_and_nothing_else() {
        let mut png = Vec::new();
        GrayImage::from_fn(3, 2, |x, y| image::Luma([(40 * x + 7 * y) as u8]))
            .write_to(&mut Cursor::new(&mut png), ImageFormat::Png)
            .unwrap();
        assert!(matches!(without_colour_profile(&png), Cow::Borrowed(_)));
        // Behind signature and header, 8 and 25 bytes; nobody looks at its checksum.
        let profile = [&5u32.to_be_bytes()[..], b"iCCP", b"x\0\0ab", &[0; 4]].concat();
        let with = [&png[..33], &profile, &png[33..]].concat();
        assert_eq!(*without_colour_profile(&with), png);
        assert_eq!(png_size(&png), Some((3, 2)));
        let cut = &with[..40];
        assert_eq!(*without_colour_profile(cut), *cut);
    }
}
