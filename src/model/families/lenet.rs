//! LeNet-300-100 (LeCun et al. 1998; Frankle & Carbin 2019), linear layers only, with open_lth's names. It has no maps.

use crate::error::Result;
use crate::nn::Initialisation;

use super::super::Model;
use super::super::builder::{Builder, Label};
use super::{Family, Tensors, Wish, any};

/// Its line in the table.
pub(super) const FAMILY: Family = Family {
    names: &["lenet-300-100"],
    build,
    claims: |names| names.contains("fc_layers.0.weight") && !any(names, "layers."),
    infer,
};

struct LeNet {
    /// Values of an image.
    features: usize,
    hidden: Vec<usize>,
    channels: usize,
    classes: usize,
}

fn build(name: &str, wish: &Wish) -> Result<Model> {
    wish.without_stem(name)?;
    wish.without_width(name)?;
    let (features, channels, classes) = (wish.images.len(), wish.images.channels, wish.classes);
    Ok(LeNet { features, hidden: vec![300, 100], channels, classes }.model())
}

fn infer(tensors: &Tensors<'_>) -> Result<Model> {
    let (features, hidden, classes) = tensors.fully_connected()?;
    // Square images, of three channels where the values say so.
    let square = |values: usize| values.isqrt() * values.isqrt() == values;
    let channels = if !square(features) && features % 3 == 0 && square(features / 3) { 3 } else { 1 };
    Ok(LeNet { features, hidden, channels, classes }.model())
}

impl LeNet {
    fn model(&self) -> Model {
        let mut builder = Builder::default();
        builder.flatten();
        builder.fully_connected(self.features, &self.hidden, self.classes);
        let hidden: Vec<String> = self.hidden.iter().map(usize::to_string).collect();
        builder.finish(Label {
            name: format!("LeNet-{}", hidden.join("-")),
            channels: self.channels,
            classes: self.classes,
            head: "fc",
            default_stage: format!("fc_layers.{}", self.hidden.len() - 1),
            initialisation: Initialisation::Glorot,
        })
    }
}
