//! The cut: activations at a stage, and the gradient of a class logit with respect to them.
//!
//! The model is run in two parts, and the activation between them is the second part's input.

use std::ops::Range;
use std::sync::Arc;

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::model::{Halves, Model, Stage};
use crate::nn::{Fixed, Mode, Network, Weights, predicted_class};

/// A network cut in two after some layer: Φ before, h after.
#[derive(Clone)]
pub struct Cut {
    fixed: Fixed,
    features: Range<usize>,
    head: Range<usize>,
}

/// Logits and the gradient of each image's target logit.
pub struct LogitGradient {
    /// `(N, K)`.
    pub logits: Tensor,
    /// `∂ logit_k / ∂A`, shaped like the activation `(N, C, H, W)`.
    pub gradient: Tensor,
}

impl Cut {
    /// Cuts `model` after `stage`. The weights are only read: explaining changes no parameter and no buffer.
    ///
    /// # Errors
    /// When the model has no such stage.
    pub fn new(model: &Model, weights: Arc<Weights>, stage: Stage) -> Result<Self> {
        let Halves { network, layers } = model.halves(stage)?;
        let (features, head) = (0..layers, layers..network.layers.len());
        Ok(Self::of(model, network, weights, features, head))
    }

    /// Cuts `model` before its first layer: the activation is the images.
    pub fn before(model: &Model, weights: Arc<Weights>) -> Self {
        Self::of(model, model.network.clone(), weights, 0..0, model.network.whole())
    }

    fn of(
        model: &Model,
        network: Arc<Network>,
        weights: Arc<Weights>,
        features: Range<usize>,
        head: Range<usize>,
    ) -> Self {
        // Of a network that is mostly zeros, on the CPU.
        let on_cpu = model.compute.device().is_none();
        let patterns = on_cpu.then(|| network.patterns_at_rest(&weights)).flatten();
        Self { fixed: Fixed::new(&model.compute, &network, &weights, patterns), features, head }
    }

    /// Φ(images): the activation `(N, C, H, W)` at the cut, in eval mode.
    ///
    /// # Errors
    /// When images do not fit the network.
    pub fn activation(&self, images: &Tensor) -> Result<Tensor> {
        self.fixed.section(self.features.clone(), Mode::Eval, images)
    }

    /// h(activation): logits `(N, K)`, in eval mode.
    ///
    /// # Errors
    /// When the activation does not fit.
    pub fn logits(&self, activation: &Tensor) -> Result<Tensor> {
        self.fixed.section(self.head.clone(), Mode::Eval, activation)
    }

    /// Logits, and the gradient of image n's logit `targets[n]` with respect to `activation`.
    ///
    /// # Errors
    /// When a target is not a class, or the counts differ.
    pub fn gradient(&self, activation: &Tensor, targets: Targets<'_>) -> Result<LogitGradient> {
        self.gradient_along(activation, |image, logits| {
            let class = match targets {
                Targets::Class(class) => class,
                Targets::PerImage(labels) => *labels
                    .get(image)
                    .ok_or_else(|| Error::input(format!("{} target classes, too few for the images", labels.len())))?,
                Targets::Predicted => predicted_class(logits),
            };
            let mut choice = vec![0.0; logits.len()];
            *choice.get_mut(class).ok_or_else(|| no_such_class(class, logits.len()))? = 1.0;
            Ok(choice)
        })
    }

    /// Logits, and for image n the gradient of `direction(n, logits) · logits` with respect to
    /// `activation`, the direction held fixed. With the gradient of any function of the logits as
    /// the direction, that is the function's own gradient.
    ///
    /// # Errors
    /// Those of `direction`.
    pub fn gradient_along(
        &self,
        activation: &Tensor,
        direction: impl Fn(usize, &[f32]) -> Result<Vec<f32>>,
    ) -> Result<LogitGradient> {
        // Each image's logit depends on that image alone, so one backward pass of the sum serves all of them.
        let (logits, gradient) = self.fixed.section_gradient(self.head.clone(), activation, |logits| {
            let (count, classes) = logits.dims2()?;
            let mut choice = Vec::with_capacity(count * classes);
            for (image, row) in logits.to_vec2::<f32>()?.iter().enumerate() {
                choice.extend(direction(image, row)?);
            }
            Ok(Tensor::from_vec(choice, (count, classes), logits.device())?)
        })?;
        Ok(LogitGradient { logits, gradient })
    }
}

/// What is said of a class beyond the network's.
fn no_such_class(class: usize, classes: usize) -> Error {
    Error::input(format!("class {class} does not exist: the network has {classes} classes"))
}

/// Whose logit is explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Targets<'a> {
    /// The same class for every image.
    Class(usize),
    /// A class for each image, such as its label.
    PerImage(&'a [usize]),
    /// The class that the network predicts for the image.
    Predicted,
}

impl<'a> Targets<'a> {
    /// The targets of some of the images.
    pub(super) fn of(self, images: &Range<usize>) -> Targets<'a> {
        match self {
            Targets::PerImage(labels) => Targets::PerImage(&labels[images.clone()]),
            same => same,
        }
    }
}
