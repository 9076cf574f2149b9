//! Networks with the names of their PyTorch originals, and checkpoints of them.
//!
//! A family of networks is a file in `families` and a line in its table; everything else knows a [`Model`].

mod builder;
mod checkpoint;
mod families;
mod forward;
mod names;
mod pickle;
mod pruned;
mod pytorch;
mod stage;

use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::nn::{Compute, Inside, Layer, Network, Shape3, Weights};

pub use checkpoint::{
    Checkpoint, TensorFile, checkpoint_of, checkpoint_with, load_checkpoint, load_into, load_trunk, save_weights,
};
pub use families::resnet::{ResNet, Stem, resnet};
pub use families::{Family, Wish, build, family_names};
pub use forward::{Assumptions, Block, BottleneckStride, Forward};
pub use stage::Stage;

/// A network, where it can be cut, and what people call it.
#[derive(Clone, Debug)]
pub struct Model {
    /// For people: `ResNet-18`.
    pub name: String,
    /// Layers and layout.
    pub network: Arc<Network>,
    /// Where it computes.
    pub compute: Compute,
    /// Channels of the images.
    pub channels: usize,
    /// Number of classes K.
    pub classes: usize,
    /// The layer that gives the logits: `fc`, `classifier.6`.
    pub head: String,
    /// What was assumed of it because names and shapes do not tell; absent where they tell everything.
    pub assumptions: Option<Assumptions>,
    /// Where the network can be cut, in order.
    places: Vec<Place>,
    /// The stage that is meant where none is named.
    default_stage: Stage,
    /// The parts that are randomised one by one, from the input to the output.
    blocks: Vec<Part>,
}

/// Where a module's output stands.
#[derive(Clone, Debug)]
struct Place {
    stage: Stage,
    /// Layers up to and including the module's.
    layers: usize,
    /// The point inside the last of them, if the module is only a part of it.
    inside: Option<Inside>,
}

/// A part of a network that owns parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The module's name: `layer3.1`, `fc`; `stem` for the first layers of a residual network.
    pub name: String,
    /// Its parameters in the layout.
    parameters: Range<usize>,
    /// Its buffers in the layout.
    buffers: Range<usize>,
}

/// A network in two parts: its first `layers` layers, and the rest.
pub struct Halves {
    /// The network; a layer inside which it is cut stands in it as two.
    pub network: Arc<Network>,
    /// Layers of the first part.
    pub layers: usize,
}

impl Model {
    /// The same model, computing elsewhere.
    pub fn on(&self, compute: &Compute) -> Self {
        Self { compute: compute.clone(), ..self.clone() }
    }

    /// The modules at whose output it can be cut, in order. Modules inside a residual block are not
    /// among them: a shortcut goes past them.
    pub fn stages(&self) -> impl Iterator<Item = Stage> {
        self.places.iter().map(|place| place.stage)
    }

    /// The stage that is meant where none is named.
    pub fn default_stage(&self) -> Stage {
        self.default_stage
    }

    /// The network cut after `stage`.
    ///
    /// # Errors
    /// When it has no such stage; near misses and all its stages are listed.
    pub fn halves(&self, stage: Stage) -> Result<Halves> {
        let place = self.places.iter().find(|place| place.stage == stage).ok_or_else(|| self.no_such(stage))?;
        let whole = || Halves { network: self.network.clone(), layers: place.layers };
        Ok(match place.inside.and_then(|point| self.network.split(place.layers - 1, point)) {
            None => whole(),
            Some(network) => Halves { network: Arc::new(network), layers: place.layers },
        })
    }

    /// Shape of the activation at `stage` for one image of `images`.
    ///
    /// # Errors
    /// When it has no such stage, or images of that shape do not fit.
    pub fn activation_shape(&self, stage: Stage, images: Shape3) -> Result<Shape3> {
        let Halves { network, layers } = self.halves(stage)?;
        let shapes = network.shapes(network.whole(), images)?;
        Ok(shapes[layers])
    }

    /// Whether the activation at `stage` is a map: not what linear layers compute on.
    pub fn has_map(&self, stage: Stage) -> bool {
        let Ok(Halves { network, layers }) = self.halves(stage) else { return false };
        let flat = |layer: &Layer| {
            matches!(layer, Layer::Flatten { .. } | Layer::Linear { .. } | Layer::GlobalAveragePool { .. })
        };
        !network.layers[..layers].iter().any(flat)
    }

    /// Whether a parameter of this name belongs to the layer that gives the logits.
    pub fn in_head(&self, parameter: &str) -> bool {
        parameter.strip_prefix(&self.head).is_some_and(|rest| rest.starts_with('.'))
    }

    /// The parts that own parameters, from the input to the output.
    pub fn parts(&self) -> &[Part] {
        &self.blocks
    }

    /// Takes the parameters and buffers of one part from other weights.
    pub fn copy_part(&self, part: &Part, from: &Weights, to: &mut Weights) {
        let layout = &self.network.layout;
        for spec in &layout.parameters[part.parameters.clone()] {
            let range = spec.range.clone();
            to.parameters[range.clone()].copy_from_slice(&from.parameters[range]);
        }
        for spec in &layout.buffers[part.buffers.clone()] {
            let range = spec.range.clone();
            to.buffers[range.clone()].copy_from_slice(&from.buffers[range]);
        }
    }

    /// Whether it computes the same function of its weights, and names them alike.
    pub fn same_as(&self, other: &Self) -> bool {
        self.network.layers == other.network.layers && self.network.layout == other.network.layout
    }

    fn no_such(&self, stage: Stage) -> Error {
        let names: Vec<&str> = self.stages().map(Stage::name).collect();
        let within = |name: &&&str| stage.name().strip_prefix(**name).is_some_and(|rest| rest.starts_with('.'));
        let around = names.iter().filter(within).max_by_key(|name| name.len());
        let mut near: Vec<(f64, &str)> =
            names.iter().map(|name| (strsim::jaro_winkler(name, stage.name()), *name)).collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0));
        near.retain(|(likeness, _)| *likeness > 0.8);
        near.truncate(3);
        let near: Vec<String> = near.iter().map(|(_, name)| format!("`{name}`")).collect();
        let hint = match around {
            Some(around) => format!(" (inside `{around}`, if it has such a module, a shortcut goes past it)"),
            None if near.is_empty() => String::new(),
            None => format!(" (near: {})", near.join(", ")),
        };
        let all = names.join(", ");
        Error::input(format!("stage `{stage}` does not exist in this {}{hint}; it can be cut at {all}", self.name))
    }
}
