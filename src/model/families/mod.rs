//! The table of families: each builds its networks for a plan, and reads them off the names and shapes of a checkpoint.

mod cifar_resnet;
mod conv_k;
mod lenet;
pub(super) mod resnet;
mod vgg;

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Result};
use crate::nn::Shape3;

use super::{Forward, Model};
use resnet::Stem;

/// Every family. A new one is a file and a line.
static FAMILIES: [Family; 5] = [resnet::FAMILY, vgg::FAMILY, cifar_resnet::FAMILY, lenet::FAMILY, conv_k::FAMILY];

/// A family of networks.
pub struct Family {
    /// Their names in plans.
    pub names: &'static [&'static str],
    /// One of them, by its name, for a plan.
    build: fn(&str, &Wish) -> Result<Model>,
    /// Whether a file's names are those of the family, though some may be missing.
    claims: fn(&BTreeSet<&str>) -> bool,
    /// The network that a file's names and shapes say.
    infer: fn(&Tensors<'_>) -> Result<Model>,
}

/// What a plan says of a network, and what follows from its data.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Channels of the first convolution; the family's own where absent.
    pub width: Option<usize>,
    /// First layers, where a family has a choice.
    pub stem: Option<Stem>,
    /// Shape of the images.
    pub images: Shape3,
    /// Number of classes K.
    pub classes: usize,
}

/// Largest number of channels that is accepted from outside; real networks stay far below.
const LIMIT: usize = 1 << 16;
/// Largest number of inputs of a linear layer.
const FEATURES_LIMIT: usize = 1 << 24;

impl Wish {
    /// The width, or `usual`.
    fn width(&self, usual: usize) -> Result<usize> {
        let width = self.width.unwrap_or(usual);
        for (field, value) in [("model.width", width), ("channels", self.images.channels), ("classes", self.classes)] {
            if value == 0 || value > LIMIT {
                return Err(Error::config(field, format!("{value} is not between 1 and {LIMIT}")));
            }
        }
        Ok(width)
    }

    /// Refuses a stem for a family that has one kind only.
    fn without_stem(&self, name: &str) -> Result<()> {
        match self.stem {
            Some(_) => {
                Err(Error::config("model.stem", format!("`{name}` has no choice of first layers: leave it out")))
            }
            None => Ok(()),
        }
    }

    /// Refuses a width for a family whose sizes its name says.
    fn without_width(&self, name: &str) -> Result<()> {
        match self.width {
            Some(_) => Err(Error::config("model.width", format!("`{name}` has no width: leave it out"))),
            None => self.width(1).map(|_| ()),
        }
    }
}

/// The names of all families' networks, for people.
pub fn family_names() -> String {
    let names: Vec<&str> = FAMILIES.iter().flat_map(|family| family.names).copied().collect();
    names.join(", ")
}

/// The network that a plan's `model.family` names.
///
/// # Errors
/// For an unknown name, or what the family has not.
pub fn build(name: &str, wish: &Wish) -> Result<Model> {
    let family = FAMILIES
        .iter()
        .find(|family| family.names.contains(&name))
        .ok_or_else(|| Error::config("model.family", format!("`{name}` is not known; there are {}", family_names())))?;
    (family.build)(name, wish)
}

/// The network that a file's names and shapes say, and `forward` where they do not tell; `None`
/// where no family has such names.
///
/// # Errors
/// The tensor of `origin` that does not fit is named, or the family that has no such choice.
pub(super) fn infer<'a>(
    origin: &str,
    forward: Forward,
    shapes: impl Iterator<Item = (&'a str, &'a [usize])>,
) -> Result<Option<Model>> {
    let tensors = Tensors { origin, forward, shapes: shapes.collect() };
    let Some(family) = claimant(&tensors.shapes.keys().copied().collect()) else { return Ok(None) };
    let model = (family.infer)(&tensors)?;
    if model.assumptions.is_none() && forward != Forward::default() {
        let what = format!("{origin}: is a {}, whose strides and pools are known: leave those flags out", model.name);
        return Err(Error::input(what));
    }
    Ok(Some(model))
}

/// Whether the names are those of a known network, though some may be missing.
pub(super) fn known(names: &BTreeSet<&str>) -> bool {
    claimant(names).is_some()
}

fn claimant(names: &BTreeSet<&str>) -> Option<&'static Family> {
    FAMILIES.iter().find(|family| (family.claims)(names))
}

/// Whether a name begins so.
fn any(names: &BTreeSet<&str>, start: &str) -> bool {
    names.range(start..).next().is_some_and(|name| name.starts_with(start))
}

/// Names and shapes of a file.
pub(super) struct Tensors<'a> {
    origin: &'a str,
    /// What names and shapes do not tell.
    forward: Forward,
    shapes: BTreeMap<&'a str, &'a [usize]>,
}

impl<'a> Tensors<'a> {
    fn has(&self, name: &str) -> bool {
        self.shapes.contains_key(name)
    }

    fn any(&self, start: &str) -> bool {
        self.shapes.range(start..).next().is_some_and(|(name, _)| name.starts_with(start))
    }

    fn fault(&self, name: &str, what: impl Into<String>) -> Error {
        Error::tensor(format!("{}:{name}", self.origin), what)
    }

    fn need(&self, name: &str, rank: usize, most: usize) -> Result<&'a [usize]> {
        let dims = *self.shapes.get(name).ok_or_else(|| self.fault(name, "is missing"))?;
        if dims.len() != rank || dims.iter().any(|&extent| extent == 0 || extent > most) {
            return Err(self.fault(name, format!("has shape {dims:?}, expected {rank} dimensions")));
        }
        Ok(dims)
    }

    /// `(O, I, k, k)` of a convolution, with a square kernel.
    fn convolution(&self, name: &str) -> Result<(usize, usize, usize)> {
        let dims = self.need(name, 4, LIMIT)?;
        if dims[2] != dims[3] {
            return Err(self.fault(name, format!("has a {}×{} kernel, which is not square", dims[2], dims[3])));
        }
        Ok((dims[0], dims[1], dims[2]))
    }

    /// [`Tensors::convolution`] with a 3×3 kernel: `(O, I)`.
    fn convolution3(&self, name: &str) -> Result<(usize, usize)> {
        match self.convolution(name)? {
            (out, from, 3) => Ok((out, from)),
            (_, _, kernel) => Err(self.fault(name, format!("has a {kernel}×{kernel} kernel, expected 3×3"))),
        }
    }

    /// `(O, I)` of a linear layer.
    fn linear(&self, name: &str) -> Result<(usize, usize)> {
        let dims = self.need(name, 2, FEATURES_LIMIT)?;
        Ok((dims[0], dims[1]))
    }

    /// Inputs of `fc_layers.0`, outputs of all hidden layers `fc_layers.*`, outputs of `fc`.
    fn fully_connected(&self) -> Result<(usize, Vec<usize>, usize)> {
        let (_, features) = self.linear("fc_layers.0.weight")?;
        let mut hidden = Vec::new();
        while self.has(&format!("fc_layers.{}.weight", hidden.len())) {
            hidden.push(self.linear(&format!("fc_layers.{}.weight", hidden.len()))?.0);
        }
        Ok((features, hidden, self.linear("fc.weight")?.0))
    }

    /// The numbers `n` for which `{before}.n.{after}` is there, in order.
    fn numbers(&self, before: &str, after: &str) -> Vec<usize> {
        let number = |name: &&str| {
            let rest = name.strip_prefix(before)?.strip_prefix('.')?;
            rest.strip_suffix(after)?.strip_suffix('.')?.parse().ok()
        };
        let mut found: Vec<usize> = self.shapes.keys().filter_map(number).collect();
        found.sort_unstable();
        found
    }
}
