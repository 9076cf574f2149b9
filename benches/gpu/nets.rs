//! Small networks of a few layers, and images of noise.

use rand::Rng;
use ticketlens::kernels::layout::transpose;
use ticketlens::nn::{
    BufferKind, Convolution, Gradients, Layer, LayoutBuilder, Mode, Network, Norm, ParameterKind, Shape3, Weights,
    Workspace,
};
use ticketlens::seed;

/// Geometry of a convolution: channels in and out, kernel, stride, padding.
pub(crate) type Sizes = [usize; 5];

pub(crate) fn noise(name: &str, count: usize) -> Vec<f32> {
    let mut stream = seed::stream(7, name, 0);
    (0..count).map(|_| stream.random_range(-1.0..1.0)).collect()
}

/// −1, 0 and 1: what rounding to TF32 or bfloat16 leaves as it is, and so are sums of some dozens
/// of their products. Then no value can fall on the other side of a ReLU or lose a maximum by
/// rounding, and an operation's own faults show.
pub(crate) fn whole(name: &str, count: usize) -> Vec<f32> {
    noise(name, count).into_iter().map(f32::round).collect()
}

/// Weights of a network, none of them at a value that hides something; with `rounded`, convolutions of whole numbers.
pub(crate) fn weights(network: &Network, rounded: bool) -> Weights {
    let mut weights = Weights::zeros(network.layout.clone());
    for (spec, place) in network.layout.parameters.iter().map(|spec| (spec, spec.range.clone())) {
        let fan_in = spec.shape[1..].iter().product::<usize>().max(1) as f32;
        let (centre, scale) = if spec.kind == ParameterKind::NormScale { (1.0, 0.5) } else { (0.0, 1.0) };
        if rounded && spec.kind == ParameterKind::ConvolutionWeight {
            weights.parameters[place].copy_from_slice(&whole(&spec.name, spec.range.len()));
            continue;
        }
        let values = noise(&spec.name, place.len());
        for (weight, value) in weights.parameters[place].iter_mut().zip(values) {
            *weight = centre + scale * value * (3.0 / fan_in).sqrt();
        }
    }
    for spec in &network.layout.buffers {
        let values = noise(&spec.name, spec.range.len());
        for (buffer, value) in weights.buffers[spec.range.clone()].iter_mut().zip(values) {
            *buffer = if spec.kind == BufferKind::RunningVariance { 1.0 + 0.5 * value } else { 0.3 * value };
        }
    }
    weights
}

/// One convolution, with what may follow it; a residual is the input itself.
pub(crate) fn convolution(sizes: Sizes, norm: bool, residual: bool, relu: bool) -> Network {
    let mut layout = LayoutBuilder::default();
    let layer = layer(&mut layout, "one", sizes, norm, residual.then_some(0), relu, 0);
    Network::new(layout.finish(), vec![layer])
}

fn layer(
    layout: &mut LayoutBuilder,
    name: &str,
    [in_channels, out_channels, kernel, stride, padding]: Sizes,
    norm: bool,
    residual: Option<usize>,
    relu: bool,
    source: usize,
) -> Layer {
    let shape = [out_channels, in_channels, kernel, kernel];
    let weight = layout.parameter(format!("{name}.weight"), ParameterKind::ConvolutionWeight, &shape);
    let norm = norm.then(|| Norm {
        scale: layout.parameter(format!("{name}.norm.weight"), ParameterKind::NormScale, &[out_channels]),
        shift: layout.parameter(format!("{name}.norm.bias"), ParameterKind::NormShift, &[out_channels]),
        mean: layout.buffer(format!("{name}.norm.running_mean"), BufferKind::RunningMean, &[out_channels]),
        variance: layout.buffer(format!("{name}.norm.running_var"), BufferKind::RunningVariance, &[out_channels]),
    });
    let convolution = Convolution { weight, bias: None, in_channels, out_channels, kernel, stride, padding };
    Layer::Convolution { convolution, norm, residual, relu, source }
}

/// One max pool.
pub(crate) fn max_pool(kernel: usize, stride: usize, padding: usize) -> Network {
    let layers = vec![Layer::MaxPool { kernel, stride, padding, source: 0 }];
    Network::new(LayoutBuilder::default().finish(), layers)
}

/// Average pool and linear layer.
pub(crate) fn head(channels: usize, classes: usize) -> Network {
    let mut layout = LayoutBuilder::default();
    let weight = layout.parameter("fc.weight".into(), ParameterKind::LinearWeight, &[classes, channels]);
    let bias = layout.parameter("fc.bias".into(), ParameterKind::LinearBias, &[classes]);
    let linear = Layer::Linear { weight, bias, in_features: channels, out_features: classes, relu: false, source: 1 };
    Network::new(layout.finish(), vec![Layer::GlobalAveragePool { source: 0 }, linear])
}

/// What a network gives for images `(N, C, H, W)` and the gradient of its output.
pub(crate) struct Result3 {
    pub(crate) output: Vec<f32>,
    pub(crate) grad_parameters: Vec<f32>,
    pub(crate) grad_input: Vec<f32>,
}

/// On the CPU, in `(N, C, H, W)`. In eval mode the parameters get no gradient.
pub(crate) fn on_cpu(
    network: &Network,
    mode: Mode,
    weights: &Weights,
    images: &[f32],
    shape: Shape3,
    batch: usize,
    grad_output: impl Fn(usize) -> Vec<f32>,
) -> ticketlens::error::Result<Result3> {
    let mut workspace = Workspace::default();
    let mut inner = vec![0.0; images.len()];
    transpose(batch, shape.len(), images, &mut inner);
    let whole = network.whole();
    let tape = network.forward(whole, mode, weights, None, inner.into(), shape, batch, &mut workspace)?;
    let values = tape.output().len();
    let mut output = vec![0.0; values];
    transpose(values / batch, batch, tape.output(), &mut output);
    let mut grad = vec![0.0; values];
    transpose(batch, values / batch, &grad_output(values), &mut grad);
    let mut grad_parameters = vec![0.0; weights.parameters.len()];
    let parameters = (mode.trains()).then_some(&mut grad_parameters[..]);
    let wanted = Gradients { parameters, input: true };
    let inner = network.backward(tape, weights, None, grad.into(), wanted, &mut workspace).unwrap_or_default();
    let mut grad_input = vec![0.0; inner.len()];
    transpose(shape.len(), batch, &inner, &mut grad_input);
    Ok(Result3 { output, grad_parameters, grad_input })
}
