//! Laying a network out: layers, their tensors, and the names of their outputs.

use std::sync::Arc;

use crate::nn::{
    BufferKind, Compute, Convolution, Initialisation, Inside, Layer, Layout, LayoutBuilder, Network, Norm,
    ParameterKind,
};

use super::{Model, Part, Place, Stage};

/// Builds a [`Model`]; each method that adds a layer returns the slot of its output.
#[derive(Default)]
pub(super) struct Builder {
    layout: LayoutBuilder,
    layers: Vec<Layer>,
    places: Vec<Place>,
    blocks: Vec<Part>,
    counts: (usize, usize),
}

/// A convolution and batch norm whose tensors have their place in the layout, but which is not yet a layer.
pub(super) struct Laid {
    convolution: Convolution,
    norm: Option<Norm>,
    names: (String, Option<String>),
}

/// What there is to know of a convolution.
pub(super) struct Spec<'a> {
    pub(super) name: &'a str,
    pub(super) norm: Option<&'a str>,
    pub(super) bias: bool,
    /// In and out.
    pub(super) channels: (usize, usize),
    /// Kernel, stride, padding.
    pub(super) window: (usize, usize, usize),
}

/// What a finished model is called and made for.
pub(super) struct Label<'a> {
    pub(super) name: String,
    pub(super) channels: usize,
    pub(super) classes: usize,
    pub(super) head: &'a str,
    pub(super) default_stage: String,
    pub(super) initialisation: Initialisation,
}

impl Builder {
    /// The slot that the last layer wrote.
    pub(super) fn slot(&self) -> usize {
        self.layers.len()
    }

    /// All tensors from here on belong to this part.
    pub(super) fn part(&mut self, name: &str) {
        self.close_part();
        let (parameters, buffers) = self.counts;
        self.blocks.push(Part { name: name.to_owned(), parameters: parameters..parameters, buffers: buffers..buffers });
    }

    fn close_part(&mut self) {
        if let Some(last) = self.blocks.last_mut() {
            (last.parameters.end, last.buffers.end) = self.counts;
        }
    }

    /// Names the output of the last layer.
    pub(super) fn stage(&mut self, name: &str) {
        self.place(name, None);
    }

    fn place(&mut self, name: &str, inside: Option<Inside>) {
        self.places.push(Place { stage: Stage::interned(name), layers: self.layers.len(), inside });
    }

    fn parameter(&mut self, name: String, kind: ParameterKind, shape: &[usize]) -> usize {
        self.counts.0 += 1;
        self.layout.parameter(name, kind, shape)
    }

    fn buffer(&mut self, name: String, kind: BufferKind, shape: &[usize]) -> usize {
        self.counts.1 += 1;
        self.layout.buffer(name, kind, shape)
    }

    /// Gives a convolution's tensors their place in the layout.
    pub(super) fn lay(&mut self, spec: &Spec<'_>) -> Laid {
        let Spec { name, channels: (in_channels, out_channels), window: (kernel, stride, padding), .. } = *spec;
        let (shape, c) = ([out_channels, in_channels, kernel, kernel], [out_channels]);
        let weight = self.parameter(format!("{name}.weight"), ParameterKind::ConvolutionWeight, &shape);
        let bias = spec.bias.then(|| self.parameter(format!("{name}.bias"), ParameterKind::ConvolutionBias, &c));
        let norm = spec.norm.map(|norm| Norm {
            scale: self.parameter(format!("{norm}.weight"), ParameterKind::NormScale, &c),
            shift: self.parameter(format!("{norm}.bias"), ParameterKind::NormShift, &c),
            mean: self.buffer(format!("{norm}.running_mean"), BufferKind::RunningMean, &c),
            variance: self.buffer(format!("{norm}.running_var"), BufferKind::RunningVariance, &c),
        });
        let convolution = Convolution { weight, bias, in_channels, out_channels, kernel, stride, padding };
        Laid { convolution, norm, names: (name.to_owned(), spec.norm.map(str::to_owned)) }
    }

    /// Makes a layer of it; a ReLU that closes it has no name yet ([`Builder::stage`]).
    pub(super) fn convolve(&mut self, laid: Laid, source: usize, residual: Option<usize>, relu: bool) -> usize {
        let Laid { convolution, norm, names: (product, normed) } = laid;
        self.layers.push(Layer::Convolution { convolution, norm, residual, relu, source });
        self.place(&product, Some(Inside::Product));
        if let Some(normed) = normed {
            self.place(&normed, Some(Inside::Norm));
        }
        self.slot()
    }

    /// [`Builder::lay`] and [`Builder::convolve`], with a ReLU, on what the last layer wrote.
    pub(super) fn convolution(&mut self, spec: &Spec<'_>) -> usize {
        let (laid, source) = (self.lay(spec), self.slot());
        self.convolve(laid, source, None, true)
    }

    /// A linear layer of that name on what the last layer wrote; a ReLU that closes it has no name yet.
    pub(super) fn linear(&mut self, name: &str, in_features: usize, out_features: usize, relu: bool) -> usize {
        let shape = [out_features, in_features];
        let weight = self.parameter(format!("{name}.weight"), ParameterKind::LinearWeight, &shape);
        let bias = self.parameter(format!("{name}.bias"), ParameterKind::LinearBias, &shape[..1]);
        let source = self.slot();
        self.layers.push(Layer::Linear { weight, bias, in_features, out_features, relu, source });
        self.place(name, Some(Inside::Product));
        self.slot()
    }

    /// Hidden linear layers `fc_layers.0`, … with a ReLU, then `fc` without: open_lth's names.
    pub(super) fn fully_connected(&mut self, mut features: usize, hidden: &[usize], classes: usize) {
        for (nth, &width) in hidden.iter().enumerate() {
            let name = format!("fc_layers.{nth}");
            self.part(&name);
            self.linear(&name, features, width, true);
            features = width;
        }
        self.part("fc");
        self.linear("fc", features, classes, false);
    }

    pub(super) fn max_pool(&mut self, kernel: usize, stride: usize, padding: usize) -> usize {
        let source = self.slot();
        self.layers.push(Layer::MaxPool { kernel, stride, padding, source });
        self.slot()
    }

    pub(super) fn global_average_pool(&mut self) -> usize {
        let source = self.slot();
        self.layers.push(Layer::GlobalAveragePool { source });
        self.slot()
    }

    pub(super) fn adaptive_average_pool(&mut self, height: usize, width: usize) -> usize {
        let source = self.slot();
        self.layers.push(Layer::AdaptiveAveragePool { height, width, source });
        self.slot()
    }

    pub(super) fn flatten(&mut self) -> usize {
        let source = self.slot();
        self.layers.push(Layer::Flatten { source });
        self.slot()
    }

    pub(super) fn dropout(&mut self, probability: f32) -> usize {
        let source = self.slot();
        self.layers.push(Layer::Dropout { probability, source });
        self.slot()
    }

    /// The model; of the named outputs those stay at which it can be cut.
    pub(super) fn finish(mut self, label: Label<'_>) -> Model {
        self.close_part();
        let layout: Layout = self.layout.finish();
        let mut network = Network::new(layout, self.layers);
        network.initialisation = label.initialisation;
        let last = network.layers.len();
        let mut places = self.places;
        places.retain(|place| {
            let split = place.inside.and_then(|point| network.split(place.layers - 1, point));
            match split {
                None => place.layers < last && network.can_be_cut(place.layers),
                Some(split) => split.can_be_cut(place.layers) && place.layers < last,
            }
        });
        Model {
            name: label.name,
            network: Arc::new(network),
            compute: Compute::Cpu,
            channels: label.channels,
            classes: label.classes,
            head: label.head.to_owned(),
            assumptions: None,
            places,
            default_stage: Stage::interned(&label.default_stage),
            blocks: self.blocks,
        }
    }
}
