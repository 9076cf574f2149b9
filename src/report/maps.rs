//! Grad-CAM in the report: which images are shown, a grid over the rounds, and the data of the explorer.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{Markup, html};
use serde::Serialize;

use super::chart::n;
use super::format;
use super::picture::{self, Picture};
use super::view::{Network, View};
use crate::error::{Error, Result};
use crate::model::Stage;
use crate::records::RoundId;

/// At most so many images in the explorer.
const MOST_IMAGES: usize = 64;
/// At most so many bytes of quantised maps, before base64; keeps a report of many networks below 15 MB.
const MOST_BYTES: usize = 7 << 20;
/// Longest side of a shown image.
const LONGEST_SIDE: usize = 112;

/// The maps of a study, ready for drawing.
pub(crate) struct Gallery<'a> {
    view: &'a View<'a>,
    /// Indices into the fixed images, by class as given, then index.
    pub(crate) shown: Vec<usize>,
    /// Each shown image, reduced to at most [`LONGEST_SIDE`].
    pictures: Vec<Picture>,
    photographs: bool,
}

impl<'a> Gallery<'a> {
    /// Chooses and prepares images; `None` where the study has no maps.
    ///
    /// # Errors
    /// When pixels or maps do not have the size that the manifest promises.
    pub(crate) fn new(view: &'a View<'a>) -> Result<Option<Self>> {
        let study = view.study;
        let [channels, height, width] = study.manifest.image_shape;
        let images = study.manifest.cam_images.len();
        if images == 0 || study.maps.raw.is_empty() {
            return Ok(None);
        }
        let volume = channels * height * width;
        if volume == 0 || study.maps.pixels.len() != images * volume {
            let what = format!("{} bytes for {images} images of {channels}×{height}×{width}", study.maps.pixels.len());
            return Err(Error::tensor("pixels", what));
        }
        let mut bytes_per_image = 0;
        for ((id, stage), maps) in &study.maps.raw {
            let [h, w] = maps.size;
            if h * w == 0 || maps.values.len() != images * h * w {
                let name = format!("{stage} maps of {} replicate {} round {}", id.arm, id.replicate, id.round);
                return Err(Error::tensor(name, format!("{} values for {images} maps of {h}×{w}", maps.values.len())));
            }
            bytes_per_image += h * w;
        }
        let shown = choose(view, (MOST_BYTES / bytes_per_image).clamp(10, MOST_IMAGES));
        let pictures: Vec<Picture> = shown
            .iter()
            .map(|&index| reduced(&study.maps.pixels[index * volume..(index + 1) * volume], study.manifest.image_shape))
            .collect();
        Ok(Some(Self { view, shown, pictures, photographs: channels >= 3 && height.max(width) > 64 }))
    }

    /// Label of a shown image: its class as given and, where that differs, the class that is learned.
    fn label(&self, position: usize) -> String {
        let image = &self.view.study.manifest.cam_images[self.shown[position]];
        let class = self.view.class(image.class);
        if image.fine == class { class.to_owned() } else { format!("{} ({class})", image.fine) }
    }

    fn network(&self, id: &RoundId) -> Option<&Network<'a>> {
        self.view.networks.iter().find(|network| network.id == id)
    }

    fn degenerate(&self, id: &RoundId, stage: Stage, image: usize) -> bool {
        let cam = self.network(id).and_then(|network| network.cam(stage));
        cam.and_then(|cam| cam.degenerate.get(image)).copied().unwrap_or(false)
    }

    /// Images × rounds of the first replicate's lottery tickets, overlays, with more columns on
    /// wide screens than on phones.
    ///
    /// # Errors
    /// When a picture cannot be encoded.
    pub(crate) fn grids(&self, stage: Stage) -> Result<Option<Markup>> {
        let (wide, narrow) = (self.grid(stage, 12, "wide")?, self.grid(stage, 5, "narrow")?);
        Ok(wide.zip(narrow).map(|(wide, narrow)| html! { (wide) (narrow) }))
    }

    fn grid(&self, stage: Stage, most_columns: usize, class: &str) -> Result<Option<Markup>> {
        let raw = &self.view.study.maps.raw;
        let networks: Vec<&Network> = self.view.networks.iter().collect();
        let Some(first) = networks.iter().find(|network| raw.contains_key(&(network.id.clone(), stage))) else {
            return Ok(None);
        };
        let line: Vec<&Network> = networks
            .iter()
            .copied()
            .filter(|network| network.id.arm == first.id.arm && network.id.replicate == first.id.replicate)
            .filter(|network| raw.contains_key(&(network.id.clone(), stage)))
            .collect();
        let columns = spaced(line.len(), most_columns);
        let rows = self.one_of_each(10);
        let (cell_height, cell_width) = self.cell_size();
        let mut sheet = Picture::new(columns.len() * cell_width, rows.len() * cell_height);
        for (row, &position) in rows.iter().enumerate() {
            for (column, &network) in columns.iter().enumerate() {
                let maps = &raw[&(line[network].id.clone(), stage)];
                let volume = maps.size[0] * maps.size[1];
                let image = self.shown[position];
                let map = picture::quantised(&maps.values[image * volume..(image + 1) * volume]);
                let origin = (row * cell_height, column * cell_width);
                overlay(&mut sheet, origin, (cell_height, cell_width), &self.pictures[position], &map, maps.size);
            }
        }
        let unit = if most_columns > 6 { 68.0 } else { 54.0 };
        let ratio = cell_height as f64 / cell_width as f64;
        let (left, top) = (92.0, 40.0);
        let (width, height) = (unit * columns.len() as f64, unit * ratio * rows.len() as f64);
        let alt = format!(
            "Grad-CAM overlays at {stage} of {} images (rows) in {} rounds (columns), replicate {}.",
            rows.len(),
            columns.len(),
            first.id.replicate
        );
        let url = sheet.data_url(self.photographs)?;
        Ok(Some(html! {
            svg.chart.(class) xmlns="http://www.w3.org/2000/svg" role="img" aria-label=(alt)
                viewBox=(format!("0 0 {} {}", n(left + width + 4.0), n(top + height + 4.0))) {
                image href=(url) x=(n(left)) y=(n(top)) width=(n(width)) height=(n(height)) preserveAspectRatio="none" {}
                @for (column, &network) in columns.iter().enumerate() {
                    @let middle = left + unit * (column as f64 + 0.5);
                    text.tick x=(n(middle)) y="16" text-anchor="middle" { (line[network].id.round) }
                    text.tick x=(n(middle)) y="32" text-anchor="middle" { (format::percent(line[network].record.density, usize::from(line[network].record.density < 0.0995))) }
                }
                text.tick x="4" y="16" { "round" }
                text.tick x="4" y="32" { "weights kept" }
                @for (row, &position) in rows.iter().enumerate() {
                    @let y = top + unit * ratio * row as f64;
                    text.tick x=(n(left - 6.0)) y=(n(y + unit * ratio / 2.0 + 4.0)) text-anchor="end" { (short(&self.label(position))) }
                    @for (column, &network) in columns.iter().enumerate() {
                        @let x = left + unit * column as f64;
                        rect.cell x=(n(x)) y=(n(y)) width=(n(unit)) height=(n(unit * ratio)) {}
                        @if self.degenerate(line[network].id, stage, self.shown[position]) {
                            path.no-map d=(format!("M{} {}l{} {}m0 {}l{} {}", n(x + 4.0), n(y + 4.0), n(unit - 8.0), n(unit * ratio - 8.0), n(8.0 - unit * ratio), n(8.0 - unit), n(unit * ratio - 8.0))) {
                                title { "the map is zero everywhere" }
                            }
                        }
                    }
                }
            }
        }))
    }

    /// Positions of one shown image of each class as given, at most so many.
    fn one_of_each(&self, most: usize) -> Vec<usize> {
        let images = &self.view.study.manifest.cam_images;
        let mut first: BTreeMap<&str, usize> = BTreeMap::new();
        for (position, &index) in self.shown.iter().enumerate() {
            first.entry(&images[index].fine).or_insert(position);
        }
        let mut rows: Vec<usize> = first.into_values().take(most).collect();
        for position in 0..self.shown.len() {
            if rows.len() < most.min(6) && !rows.contains(&position) {
                rows.push(position);
            }
        }
        rows.sort_unstable();
        rows
    }

    /// Height and width of a drawn cell in pixels: small images are drawn twice as large, so that maps look smooth.
    fn cell_size(&self) -> (usize, usize) {
        let (height, width) = (self.pictures[0].height, self.pictures[0].width);
        let factor = if height.max(width) <= 48 { 2 } else { 1 };
        (factor * height, factor * width)
    }

    /// The explorer's data as JSON that is safe inside a script element.
    ///
    /// # Errors
    /// When a picture cannot be encoded.
    pub(crate) fn json(&self) -> Result<String> {
        let view = self.view;
        let (height, width) = (self.pictures[0].height, self.pictures[0].width);
        let columns = (self.shown.len() as f64).sqrt().ceil() as usize;
        let mut sprite = Picture::new(columns * width, self.shown.len().div_ceil(columns) * height);
        for (position, picture) in self.pictures.iter().enumerate() {
            let (top, left) = (position / columns * height, position % columns * width);
            for y in 0..height {
                for x in 0..width {
                    sprite.set(top + y, left + x, picture.get(y, x));
                }
            }
        }
        let mut lines: Vec<Line> = Vec::new();
        for &stage in &view.plan.explain.stages {
            for network in &view.networks {
                let Some(maps) = view.study.maps.raw.get(&(network.id.clone(), stage)) else { continue };
                let id = network.id;
                let volume = maps.size[0] * maps.size[1];
                let quantised = |&image: &usize| picture::quantised(&maps.values[image * volume..(image + 1) * volume]);
                let bytes: Vec<u8> = self.shown.iter().flat_map(quantised).collect();
                let cam = network.cam(stage);
                let predicted =
                    |&image: &usize| cam.and_then(|cam| cam.predicted.get(image)).map(|&class| view.class(class));
                let round = MapRound {
                    round: id.round,
                    density: format::density(network.record.density),
                    maps: STANDARD.encode(&bytes),
                    predicted: self.shown.iter().map(predicted).collect(),
                    degenerate: self.shown.iter().map(|&image| self.degenerate(id, stage, image)).collect(),
                };
                match lines.last_mut() {
                    Some(line)
                        if line.arm == id.arm && line.replicate == id.replicate && line.stage == stage.name() =>
                    {
                        line.rounds.push(round);
                    }
                    _ => lines.push(Line {
                        name: format!("{}, replicate {}", format::arm_name(&id.arm), id.replicate),
                        arm: &id.arm,
                        replicate: id.replicate,
                        stage: stage.name(),
                        size: maps.size,
                        rounds: vec![round],
                    }),
                }
            }
        }
        let image = |position: usize| ShownJson {
            label: self.label(position),
            class: view.class(view.study.manifest.cam_images[self.shown[position]].class),
        };
        let data = Explorer {
            width,
            height,
            columns,
            sprite: sprite.data_url(self.photographs)?,
            colours: STANDARD.encode(picture::colour_table()),
            images: (0..self.shown.len()).map(image).collect(),
            lines,
        };
        script_json(&data)
    }

    /// Whether the study holds more maps than are shown.
    pub(crate) fn left_out(&self) -> usize {
        self.view.study.manifest.cam_images.len() - self.shown.len()
    }
}

/// JSON in which nothing can end a script element.
///
/// # Errors
/// When serialisation fails.
pub(crate) fn script_json(data: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string(data).map_err(|error| Error::input(format!("report data: {error}")))?;
    Ok(text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026"))
}

#[derive(Serialize)]
struct Explorer<'a> {
    width: usize,
    height: usize,
    columns: usize,
    sprite: String,
    colours: String,
    images: Vec<ShownJson<'a>>,
    lines: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct ShownJson<'a> {
    label: String,
    class: &'a str,
}

#[derive(Serialize)]
struct Line<'a> {
    name: String,
    arm: &'a str,
    replicate: usize,
    stage: &'static str,
    size: [usize; 2],
    rounds: Vec<MapRound<'a>>,
}

#[derive(Serialize)]
struct MapRound<'a> {
    round: usize,
    density: String,
    maps: String,
    predicted: Vec<Option<&'a str>>,
    degenerate: Vec<bool>,
}

/// Up to `most` images, taken in turn from each class as given, so that every class is seen.
fn choose(view: &View, most: usize) -> Vec<usize> {
    let images = &view.study.manifest.cam_images;
    let mut by_class: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, image) in images.iter().enumerate() {
        by_class.entry(&image.fine).or_default().push(index);
    }
    let deepest = by_class.values().map(Vec::len).max().unwrap_or(0);
    let in_turn = (0..deepest).flat_map(|depth| by_class.values().filter_map(move |class| class.get(depth)));
    let mut shown: Vec<usize> = in_turn.copied().take(most).collect();
    shown.sort_by_key(|&index| (images[index].fine.as_str(), index));
    shown
}

/// So many of `0..count`, evenly spaced, the first and the last among them.
fn spaced(count: usize, most: usize) -> Vec<usize> {
    if count <= most {
        return (0..count).collect();
    }
    (0..most).map(|index| (index * (count - 1) + (most - 1) / 2) / (most - 1)).collect()
}

/// An image `(C, H, W)` as RGB, box-averaged by a whole factor until it is small enough.
pub(crate) fn reduced(pixels: &[u8], [channels, height, width]: [usize; 3]) -> Picture {
    let factor = height.max(width).div_ceil(LONGEST_SIDE);
    let (rows, columns) = ((height / factor).max(1), (width / factor).max(1));
    let mut out = Picture::new(columns, rows);
    for y in 0..rows {
        for x in 0..columns {
            let colour = std::array::from_fn(|channel| {
                let plane = if channels >= 3 { channel * height * width } else { 0 };
                let mut sum = 0usize;
                for dy in 0..factor.min(height) {
                    let row = plane + (y * factor + dy) * width + x * factor;
                    sum += pixels[row..row + factor.min(width)].iter().map(|&value| usize::from(value)).sum::<usize>();
                }
                (sum / (factor.min(height) * factor.min(width))) as u8
            });
            out.set(y, x, colour);
        }
    }
    out
}

/// Draws `picture` under `map` into a cell of `sheet`.
pub(crate) fn overlay(
    sheet: &mut Picture,
    (top, left): (usize, usize),
    (height, width): (usize, usize),
    picture: &Picture,
    map: &[u8],
    size: [usize; 2],
) {
    let empty = map.iter().all(|&value| value == 0);
    for y in 0..height {
        for x in 0..width {
            let under = picture.get(y * picture.height / height, x * picture.width / width);
            let value = picture::bilinear(map, size, [height, width], y, x) / 255.0;
            let opacity = if empty { 0.0 } else { picture::opacity(value) };
            let over = picture::viridis(value);
            let mixed = std::array::from_fn(|channel| {
                (f64::from(under[channel]) * (1.0 - opacity) + f64::from(over[channel]) * opacity).round() as u8
            });
            sheet.set(top + y, left + x, mixed);
        }
    }
}

fn short(label: &str) -> String {
    if label.chars().count() <= 11 { label.to_owned() } else { label.chars().take(10).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaced_keeps_the_ends() {
        assert_eq!(spaced(3, 8), [0, 1, 2]);
        let eight = spaced(35, 8);
        assert_eq!((eight.len(), eight[0], eight[7]), (8, 0, 34));
        assert!(eight.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn script_json_cannot_leave_its_element() {
        let text = script_json(&"</script><!--&").unwrap();
        assert!(!text.contains(['<', '>', '&']));
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), "</script><!--&");
    }
}
