//! Saliency methods: which pixels or positions a class logit depends on. One table, each method a file of its own.
//!
//! Methods at a stage make a map `(N, h, w)` from the activation and the gradient of the logit with
//! respect to it, so one gradient pass serves all of them. Methods on the input make an attribution
//! `(N, C, H, W)` from gradients at images.

mod grad_cam;
mod grad_cam_plus_plus;
mod gradient;
mod hires_cam;
mod input_x_gradient;
mod integrated_gradients;
mod layer_cam;
mod maps;
mod smooth_grad;
mod xgrad_cam;

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use candle_core::Tensor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};

pub use grad_cam::{GRAD_CAM, grad_cam};
pub use maps::{Maps, normalise, split_maps, upsample, upsample_map};

/// Every method, by name.
pub const METHODS: [Method; 9] = [
    GRAD_CAM,
    hires_cam::HIRES_CAM,
    layer_cam::LAYER_CAM,
    xgrad_cam::XGRAD_CAM,
    grad_cam_plus_plus::GRAD_CAM_PLUS_PLUS,
    gradient::GRADIENT,
    input_x_gradient::INPUT_X_GRADIENT,
    integrated_gradients::INTEGRATED_GRADIENTS,
    smooth_grad::SMOOTH_GRAD,
];

/// A saliency method. Plans and commands name it by [`Method::name`]; two methods of one name are equal.
#[derive(Clone, Copy)]
pub struct Method {
    /// Its name in plans, commands and records.
    pub name: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// Who described it.
    pub source: &'static str,
    /// Which fields of [`Settings`] it reads.
    pub settings: &'static [&'static str],
    /// How and where it works.
    pub map: Map,
}

/// Where a method works, and its function.
#[derive(Clone, Copy)]
pub enum Map {
    /// Maps from an activation `(N, C, h, w)` and the gradient of a class logit with respect to it.
    AtStage(fn(activation: &Tensor, gradient: &Tensor) -> Result<Maps>),
    /// An attribution `(N, C, H, W)` of images, as large as they are.
    OnInput(fn(&Input<'_>) -> Result<Tensor>),
}

impl Method {
    /// Whether it works on the input, not at a stage.
    pub fn is_on_input(&self) -> bool {
        matches!(self.map, Map::OnInput(_))
    }

    /// Maps at a stage.
    ///
    /// # Errors
    /// When the method works on the input, or the shapes differ.
    pub fn at_stage(&self, activation: &Tensor, gradient: &Tensor) -> Result<Maps> {
        match self.map {
            Map::AtStage(map) => map(activation, gradient),
            Map::OnInput(_) => Err(Error::input(format!("{} works on the input, not at a stage", self.name))),
        }
    }

    /// An attribution of images.
    ///
    /// # Errors
    /// When the method works at a stage, or the images do not fit the network.
    pub fn on_input(&self, input: &Input<'_>) -> Result<Tensor> {
        match self.map {
            Map::OnInput(map) => map(input),
            Map::AtStage(_) => Err(Error::input(format!("{} works at a stage, not on the input", self.name))),
        }
    }

    /// Names of all methods, or of those on the input or at a stage, for people.
    pub fn names(on_input: Option<bool>) -> String {
        let chosen = METHODS.iter().filter(|method| on_input.is_none_or(|wanted| method.is_on_input() == wanted));
        chosen.map(|method| method.name).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Method {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Method {}

impl FromStr for Method {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let method = METHODS.into_iter().find(|method| method.name == name);
        method.ok_or_else(|| Error::input(format!("no saliency method is called `{name}`: {}", Self::names(None))))
    }
}

impl Serialize for Method {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name)
    }
}

impl<'de> Deserialize<'de> for Method {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Constants of the methods on the input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Gradients that integrated gradients and SmoothGrad average, at least 1.
    pub steps: usize,
    /// Standard deviation of SmoothGrad's noise, as a share of the image's range of values.
    pub noise: f32,
    /// Seed of that noise.
    pub seed: u64,
}

impl Default for Settings {
    /// 50 steps, noise of 0.15, seed 0.
    fn default() -> Self {
        Self { steps: 50, noise: 0.15, seed: 0 }
    }
}

/// Images whose pixels are asked about.
pub struct Input<'a> {
    /// `(N, C, H, W)`.
    pub images: &'a Tensor,
    /// Their numbers, which their draws depend on.
    pub numbers: Range<usize>,
    /// Constants.
    pub settings: Settings,
    /// The gradient of each image's class logit at other images `(N, C, H, W)` in the place of the images.
    pub gradient: &'a dyn Fn(&Tensor) -> Result<Tensor>,
}

impl Input<'_> {
    fn gradient_at(&self, images: &Tensor) -> Result<Tensor> {
        (self.gradient)(images)
    }

    /// `Σ weight · gradient(images)` over points `(images, weight)`; one point is in memory at a time.
    fn mean_gradient(&self, points: impl Iterator<Item = Result<(Tensor, f64)>>) -> Result<Tensor> {
        let mut sum = vec![0.0; self.images.elem_count()];
        for point in points {
            let (images, weight) = point?;
            let gradient = self.gradient_at(&images)?.flatten_all()?.to_vec1::<f32>()?;
            for (sum, value) in sum.iter_mut().zip(gradient) {
                *sum += weight * f64::from(value);
            }
        }
        let sum: Vec<f32> = sum.into_iter().map(|value| value as f32).collect();
        Ok(Tensor::from_vec(sum, self.images.shape(), self.images.device())?)
    }
}
