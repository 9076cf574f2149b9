//! Explanations of many images in bounded memory: a source is read batch by batch, and each batch
//! is handed on and forgotten.

use std::ops::Range;

use candle_core::{Device, Tensor};

use crate::data::ImageSource;
use crate::error::{Error, Result};
use crate::model::{Checkpoint, Stage};
use crate::nn::{Shape3, predicted_class};

use super::cut::{Cut, Targets};
use super::saliency::{Input, Method, Settings};

/// One batch of explained images.
pub struct ExplainedBatch {
    /// Which images of the source.
    pub images: Range<usize>,
    /// The images themselves, `(n, C, H, W)`.
    pub pixels: Tensor,
    /// Activation at the stage, `(n, C, H, W)`.
    pub activation: Tensor,
    /// Logits, `(n, K)`.
    pub logits: Tensor,
    /// `∂ logit_k / ∂A`, shaped like the activation.
    pub gradient: Tensor,
}

/// One batch of images with attributions of their pixels.
pub struct AttributedBatch {
    /// Which images of the source.
    pub images: Range<usize>,
    /// The images themselves, `(n, C, H, W)`.
    pub pixels: Tensor,
    /// The class explained, for each image.
    pub classes: Vec<usize>,
    /// Attribution, `(n, C, H, W)`.
    pub attribution: Tensor,
}

/// The shape of the activation at `stage` for images of `source`, after checking that they fit the network.
///
/// # Errors
/// The source is named when its channels or sizes do not fit.
pub fn activation_shape(checkpoint: &Checkpoint, source: &ImageSource, stage: Stage) -> Result<Shape3> {
    check_fits(checkpoint, source)?;
    checkpoint.model.activation_shape(stage, source.shape().into())
}

/// # Errors
/// The source is named when its channels or sizes do not fit the network.
fn check_fits(checkpoint: &Checkpoint, source: &ImageSource) -> Result<()> {
    let network = &checkpoint.model.network;
    network
        .shapes(network.whole(), Shape3::from(source.shape()))
        .map(|_| ())
        .map_err(|error| Error::input(format!("{}: {error}", source.name())))
}

/// Logits `(n, K)` of the images of `source`, `batch` at a time, in order.
///
/// # Errors
/// When images do not fit; from the iterator, when they cannot be read or a logit is not finite (the image is named).
pub fn logits_in_batches<'a>(
    checkpoint: &'a Checkpoint,
    source: &'a ImageSource,
    batch: usize,
) -> Result<impl Iterator<Item = Result<(Range<usize>, Tensor)>> + 'a> {
    check_fits(checkpoint, source)?;
    let cut = Cut::before(&checkpoint.model, checkpoint.weights.clone());
    Ok(source.ranges(batch).map(move |images| {
        let pixels = source.batch(images.clone(), &Device::Cpu)?;
        let logits = cut.logits(&pixels)?;
        check_finite(source, &images, "logit", &logits)?;
        Ok((images, logits))
    }))
}

/// Activations at `stage`, logits and gradients of the targets' logits, `batch` images at a time, in order.
///
/// # Errors
/// When images do not fit or there is not one label for each; from the iterator, when images cannot
/// be read, a target is not a class, or a value is not finite (the image is named).
pub fn explain_in_batches<'a>(
    checkpoint: &'a Checkpoint,
    source: &'a ImageSource,
    stage: Stage,
    targets: Targets<'a>,
    batch: usize,
) -> Result<impl Iterator<Item = Result<ExplainedBatch>> + 'a> {
    activation_shape(checkpoint, source, stage)?;
    check_labels(source, targets)?;
    let cut = Cut::new(&checkpoint.model, checkpoint.weights.clone(), stage)?;
    Ok(source.ranges(batch).map(move |images| {
        let targets = targets.of(&images);
        explain_batch(&cut, source, images, targets)
    }))
}

/// Attributions of the images' pixels by a method on the input, `batch` images at a time, in order.
/// [`Targets::Predicted`] is the class predicted for the image itself, wherever the method takes
/// gradients.
///
/// # Errors
/// As [`explain_in_batches`]; from the iterator, when the method works at a stage.
pub fn attribute_in_batches<'a>(
    checkpoint: &'a Checkpoint,
    source: &'a ImageSource,
    method: Method,
    settings: Settings,
    targets: Targets<'a>,
    batch: usize,
) -> Result<impl Iterator<Item = Result<AttributedBatch>> + 'a> {
    check_fits(checkpoint, source)?;
    check_labels(source, targets)?;
    let cut = Cut::before(&checkpoint.model, checkpoint.weights.clone());
    Ok(source.ranges(batch).map(move |images| {
        let pixels = source.batch(images.clone(), &Device::Cpu)?;
        let classes = match targets.of(&images) {
            Targets::Class(class) => vec![class; images.len()],
            Targets::PerImage(labels) => labels.to_vec(),
            Targets::Predicted => {
                let logits = cut.logits(&pixels)?;
                check_finite(source, &images, "logit", &logits)?;
                logits.to_vec2::<f32>()?.iter().map(|row| predicted_class(row)).collect()
            }
        };
        let gradient = |at: &Tensor| Ok(cut.gradient(at, Targets::PerImage(&classes))?.gradient);
        let input = Input { images: &pixels, numbers: images.clone(), settings, gradient: &gradient };
        let attribution = method.on_input(&input)?;
        check_finite(source, &images, "attribution", &attribution)?;
        Ok(AttributedBatch { images, pixels, classes, attribution })
    }))
}

/// # Errors
/// When there is not one label for each image.
pub(super) fn check_labels(source: &ImageSource, targets: Targets<'_>) -> Result<()> {
    match targets {
        Targets::PerImage(labels) if labels.len() != source.len() => {
            let what = format!("{}: {} images, but {} labels", source.name(), source.len(), labels.len());
            Err(Error::input(what))
        }
        _ => Ok(()),
    }
}

/// [`explain_in_batches`] for one batch; the labels of [`Targets::PerImage`] are those of `images` alone.
///
/// # Errors
/// As there.
pub fn explain_batch(
    cut: &Cut,
    source: &ImageSource,
    images: Range<usize>,
    targets: Targets<'_>,
) -> Result<ExplainedBatch> {
    let pixels = source.batch(images.clone(), &Device::Cpu)?;
    let activation = cut.activation(&pixels)?;
    check_finite(source, &images, "activation", &activation)?;
    let explained = cut.gradient(&activation, targets)?;
    check_finite(source, &images, "logit", &explained.logits)?;
    check_finite(source, &images, "gradient", &explained.gradient)?;
    Ok(ExplainedBatch { images, pixels, activation, logits: explained.logits, gradient: explained.gradient })
}

/// Activations `(n, C, H, W)` at the cut of some images of a source.
///
/// # Errors
/// When images cannot be read or do not fit, or a value is not finite (the image is named).
pub fn activation_batch(cut: &Cut, source: &ImageSource, images: Range<usize>) -> Result<Tensor> {
    let activation = cut.activation(&source.batch(images.clone(), &Device::Cpu)?)?;
    check_finite(source, &images, "activation", &activation)?;
    Ok(activation)
}

/// Finite weights and pixels can still overflow, or divide by a variance that is negative: then no
/// number may be reported.
fn check_finite(source: &ImageSource, images: &Range<usize>, what: &str, values: &Tensor) -> Result<()> {
    let values = values.flatten_all()?.to_vec1::<f32>()?;
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(at) => {
            let image = images.start + at / (values.len() / images.len());
            let what = format!("{}: its {what} is {}", source.image_name(image), values[at]);
            Err(Error::input(what))
        }
    }
}
