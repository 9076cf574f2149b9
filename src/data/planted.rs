//! Generated images with known truth: an explanation of them can be wrong, and be seen to be.
//!
//! Each image shows one object on a textured background. Four factors with two values each are
//! drawn independently and evenly; the class is the combination of the factors that the plan calls
//! used, and of nothing else. So the concepts of used factors matter, those of unused ones do not
//! although they are just as visible, and the box that holds the object is known.

use rand::Rng;
use rand_distr::{Distribution, Normal};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::data::{BoundingBox, ConceptTable, Dataset, Labels, Normalisation, Origin};
use crate::error::{Error, Result};
use crate::seed::stream;

/// What varies between images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Factor {
    /// The object: disc or cross.
    Shape,
    /// The object's colour: red or blue (in grey images, bright or dark).
    Colour,
    /// The background: stripes or a grid.
    Texture,
    /// The object's half of the image: left or right.
    Position,
}

impl Factor {
    /// All factors.
    pub const ALL: [Factor; 4] = [Factor::Shape, Factor::Colour, Factor::Texture, Factor::Position];

    /// The names of its two values, which are also the names of its two concepts.
    pub fn values(self, channels: usize) -> [&'static str; 2] {
        match (self, channels) {
            (Factor::Shape, _) => ["disc", "cross"],
            (Factor::Colour, 1) => ["bright", "dark"],
            (Factor::Colour, _) => ["red", "blue"],
            (Factor::Texture, _) => ["stripes", "grid"],
            (Factor::Position, _) => ["left", "right"],
        }
    }
}

/// What to generate.
#[derive(Debug, Clone, PartialEq)]
pub struct PlantedPlan {
    /// Height and width, in pixels; at least 16.
    pub side: usize,
    /// 3 for RGB, 1 for grey.
    pub channels: usize,
    /// Images of the official training set.
    pub train: usize,
    /// Images of the official test set.
    pub test: usize,
    /// The factors that make the class, at least one: with `[Shape]` the classes are disc and
    /// cross; with `[Shape, Colour]` disc red, disc blue, cross red and cross blue.
    pub used: Vec<Factor>,
    /// Standard deviation of the noise on each pixel, in byte units.
    pub noise: f32,
}

impl Default for PlantedPlan {
    /// 32×32 RGB, class by shape.
    fn default() -> Self {
        Self { side: 32, channels: 3, train: 2_000, test: 1_000, used: vec![Factor::Shape], noise: 12.0 }
    }
}

/// Generated images and the truth about them.
#[derive(Debug, Clone)]
pub struct Planted {
    /// The images; labels are the classes that the used factors make.
    pub data: Dataset,
    /// The smallest box around each image's object, in pixels.
    pub boxes: Vec<BoundingBox>,
    /// The value, 0 or 1, of each factor, in the order of [`Factor::ALL`], for each image.
    pub factors: Vec<[u8; 4]>,
    /// Each value of each factor as a concept: eight in all.
    pub concepts: ConceptTable,
    /// For each concept, whether the class depends on it.
    pub used: Vec<bool>,
}

/// Generates a data set, a function of plan and seed.
///
/// # Errors
/// If a size is too small, the channels are neither 1 nor 3, or the used factors are none or named twice.
pub fn planted(plan: &PlantedPlan, seed: u64) -> Result<Planted> {
    check(plan)?;
    let count = plan.train + plan.test;
    let images: Vec<Image> =
        (0..count as u64).into_par_iter().map(|index| draw(plan, &mut stream(seed, "planted", index))).collect();
    let positions: Vec<usize> = plan.used.iter().map(|used| *used as usize).collect();
    let class_of = |factors: &[u8; 4]| positions.iter().fold(0, |class, &p| 2 * class + u32::from(factors[p]));
    let class_name = |class: usize| {
        let bits =
            plan.used.iter().enumerate().map(|(i, f)| f.values(plan.channels)[class >> (plan.used.len() - 1 - i) & 1]);
        bits.collect::<Vec<_>>().join(" ")
    };
    let values = images.iter().map(|image| class_of(&image.factors)).collect();
    let labels = Labels::new(values, (0..1 << plan.used.len()).map(class_name).collect())?;
    let mut origins = vec![Origin::Train; plan.train];
    origins.resize(count, Origin::Test);
    let factors: Vec<[u8; 4]> = images.iter().map(|image| image.factors).collect();
    let having = |factor: usize, value: u8| (0..count).filter(|&i| factors[i][factor] == value).collect::<Vec<_>>();
    let (mut names, mut members, mut others, mut used) = (vec![], vec![], vec![], vec![]);
    for factor in Factor::ALL {
        for (value, concept) in [0, 1].into_iter().zip(factor.values(plan.channels)) {
            names.push(concept.to_string());
            members.push(having(factor as usize, value));
            others.push(having(factor as usize, 1 - value));
            used.push(plan.used.contains(&factor));
        }
    }
    let boxes = images.iter().map(|image| image.object).collect();
    let pixels = images.into_iter().flat_map(|image| image.pixels).collect();
    // Bytes are centred on the mean background and scaled to about unit variance.
    let normalisation = Normalisation::new(&vec![0.43; plan.channels], &vec![0.2; plan.channels])?;
    let shape = (plan.channels, plan.side, plan.side);
    let data = Dataset::new("planted", shape, pixels, normalisation, labels, origins)?;
    Ok(Planted { data, boxes, factors, concepts: ConceptTable::new(names, members, others)?, used })
}

fn check(plan: &PlantedPlan) -> Result<()> {
    if !(16..=1024).contains(&plan.side) {
        return Err(Error::config("data.planted.side", format!("{} is not in 16..=1024", plan.side)));
    }
    if !matches!(plan.channels, 1 | 3) {
        return Err(Error::config("data.channels", format!("{} is neither 1 nor 3", plan.channels)));
    }
    if plan.train == 0 {
        return Err(Error::config("data.train", "no image is asked for"));
    }
    if !(plan.noise.is_finite() && plan.noise >= 0.0) {
        return Err(Error::config("data.noise", format!("{} is not a standard deviation", plan.noise)));
    }
    let mut used = plan.used.clone();
    used.sort_unstable();
    used.dedup();
    match used.len() == plan.used.len() && !used.is_empty() {
        true => Ok(()),
        false => Err(Error::config("data.used", format!("{:?}: name each used factor once, at least one", plan.used))),
    }
}

struct Image {
    pixels: Vec<u8>,
    object: BoundingBox,
    factors: [u8; 4],
}

fn draw(plan: &PlantedPlan, random: &mut impl Rng) -> Image {
    let factors = [0u8; 4].map(|_| u8::from(random.random_bool(0.5)));
    let [shape, colour, texture, position] = factors;
    let side = plan.side as i64;
    let radius = random.random_range(side * 5 / 32..=side * 7 / 32);
    let from_edge = random.random_range(radius..side / 2);
    let centre_x = if position == 0 { from_edge } else { side - 1 - from_edge };
    let centre_y = random.random_range(radius..side - radius);
    let paint: [i32; 3] = match (plan.channels, colour) {
        (1, 0) => [215; 3],
        (1, _) => [25; 3],
        (_, 0) => [210, 50, 50],
        (_, _) => [50, 50, 210],
    };
    let brightness: i32 = random.random_range(-15..=15);
    let period = (side / 5).max(4);
    let (phase_x, phase_y) = (random.random_range(0..period), random.random_range(0..period));
    let is_object = |x: i64, y: i64| {
        let (dx, dy) = ((x - centre_x).abs(), (y - centre_y).abs());
        match shape {
            0 => dx * dx + dy * dy <= radius * radius,
            _ => dx.max(dy) <= radius && dx.min(dy) <= radius / 4,
        }
    };
    let background = |x: i64, y: i64| {
        let (in_x, in_y) = ((x + phase_x) % period, (y + phase_y) % period);
        let lit = if texture == 0 { 2 * in_y < period } else { 3 * in_x < 2 * period && 3 * in_y < 2 * period };
        if lit { 140 } else { 80 }
    };
    let noise = Normal::new(0.0f32, plan.noise).expect("checked: finite and not negative");
    let mut pixels = Vec::with_capacity(plan.channels * plan.side * plan.side);
    for channel in paint.iter().take(plan.channels) {
        for y in 0..side {
            for x in 0..side {
                let level = if is_object(x, y) { *channel } else { background(x, y) };
                let value = (level + brightness) as f32 + noise.sample(random);
                pixels.push(value.round().clamp(0.0, 255.0) as u8);
            }
        }
    }
    let (x, y, r) = (centre_x as f64, centre_y as f64, radius as f64);
    let object = BoundingBox { left: x - r, top: y - r, right: x + r + 1.0, bottom: y + r + 1.0 };
    Image { pixels, object, factors }
}

#[cfg(test)]
mod tests {

    use super::*;

    fn plan(used: &[Factor], channels: usize) -> PlantedPlan {
        PlantedPlan { train: 400, test: 100, used: used.to_vec(), channels, noise: 0.0, ..PlantedPlan::default() }
    }

    #[test]
    fn class_is_the_used_factors_and_nothing_else() {
        let made = planted(&plan(&[Factor::Shape, Factor::Colour], 3), 1).unwrap();
        assert_eq!(made.data.labels().names(), ["disc red", "disc blue", "cross red", "cross blue"]);
        for (label, factors) in made.data.labels().values().iter().zip(&made.factors) {
            assert_eq!(*label, 2 * u32::from(factors[0]) + u32::from(factors[1]));
        }
        assert_eq!(made.used, [true, true, true, true, false, false, false, false]);
        assert_eq!(made.data.origins().iter().filter(|&&o| o == Origin::Test).count(), 100);
        // Unused factors are independent of the class: every cell of class × texture × position is filled evenly.
        let mut cells = [0usize; 16];
        for (label, factors) in made.data.labels().values().iter().zip(&made.factors) {
            cells[*label as usize * 4 + 2 * factors[2] as usize + factors[3] as usize] += 1;
        }
        let expected = 500.0 / 16.0;
        let chi_squared: f64 = cells.iter().map(|&c| (c as f64 - expected).powi(2) / expected).sum();
        assert!(chi_squared < 30.6, "χ²(15) = {chi_squared}, 1 % point 30.6");
    }

    #[test]
    fn the_box_is_exactly_the_object_in_its_half() {
        for channels in [1, 3] {
            let made = planted(&plan(&[Factor::Shape], channels), 2).unwrap();
            for (i, (object, factors)) in made.boxes.iter().zip(&made.factors).enumerate() {
                let pixels = made.data.bytes(i).unwrap();
                // Without noise a background byte is one of two levels apart by 60 in every channel alike.
                let plane = 32 * 32;
                let paint: &[u8] = &pixels[(object.top as usize + object.bottom as usize) / 2 * 32
                    + (object.left as usize + object.right as usize) / 2..];
                let paint: Vec<u8> = (0..channels).map(|c| paint[c * plane]).collect();
                let is_paint = |p: usize| (0..channels).all(|c| pixels[c * plane + p] == paint[c]);
                let found: Vec<(usize, usize)> =
                    (0..plane).filter(|&p| is_paint(p)).map(|p| (p % 32, p / 32)).collect();
                let x = (found.iter().map(|f| f.0).min().unwrap(), found.iter().map(|f| f.0).max().unwrap());
                let y = (found.iter().map(|f| f.1).min().unwrap(), found.iter().map(|f| f.1).max().unwrap());
                assert_eq!((object.left, object.right), (x.0 as f64, x.1 as f64 + 1.0));
                assert_eq!((object.top, object.bottom), (y.0 as f64, y.1 as f64 + 1.0));
                assert!(found.iter().all(|&(column, row)| object.contains_pixel(column, row)));
                assert_eq!((object.left + object.right) / 2.0 > 16.0, factors[3] == 1);
            }
        }
    }

    #[test]
    fn concepts_show_their_value() {
        let made = planted(&plan(&[Factor::Shape], 3), 3).unwrap();
        let names = ["disc", "cross", "red", "blue", "stripes", "grid", "left", "right"];
        assert_eq!(made.concepts.names(), names);
        for concept in 0..8 {
            let shows = |i: &usize| usize::from(made.factors[*i][concept / 2]) == concept % 2;
            assert!(made.concepts.members(concept).iter().all(shows));
            assert!(!made.concepts.others(concept).iter().any(shows));
            assert!(made.concepts.members(concept).len() > 180);
        }
    }

    #[test]
    fn seeded_and_free_of_the_thread_count() {
        let with = |threads: usize, seed| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                planted(&PlantedPlan { train: 50, test: 10, ..Default::default() }, seed).unwrap().data.fingerprint()
            })
        };
        assert_eq!(with(1, 5), with(3, 5));
        assert_ne!(with(1, 5), with(1, 6));
        let error = |plan: PlantedPlan| planted(&plan, 0).unwrap_err().to_string();
        let some = || PlantedPlan { train: 5, ..Default::default() };
        assert!(error(PlantedPlan { used: vec![], ..some() }).contains("data.used"));
        assert!(error(PlantedPlan { used: vec![Factor::Shape; 2], ..some() }).contains("data.used"));
        assert!(error(PlantedPlan { side: 8, ..some() }).contains("data.planted.side"));
        assert!(error(PlantedPlan { channels: 2, ..some() }).contains("data.channels"));
        assert!(error(PlantedPlan { noise: f32::NAN, ..some() }).contains("data.noise"));
        assert!(error(PlantedPlan { train: 0, ..some() }).contains("data.train"));
    }
}
