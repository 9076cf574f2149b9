//! Names, shapes and places of a network's parameters and buffers, and the [`Weights`] that hold their values.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{Device, Storage, Tensor};
use rayon::prelude::*;

use crate::error::{Error, Result, first_fault};

/// What a trainable parameter is; only the two `*Weight` kinds of convolution and linear layers are prunable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterKind {
    /// Convolution weight `(O, I, kh, kw)`.
    ConvolutionWeight,
    /// Convolution bias `(O)`.
    ConvolutionBias,
    /// Linear weight `(O, I)`.
    LinearWeight,
    /// Linear bias `(O)`.
    LinearBias,
    /// Batch-norm scale γ `(C)`.
    NormScale,
    /// Batch-norm shift β `(C)`.
    NormShift,
}

impl ParameterKind {
    /// Whether magnitude pruning may take weights of this kind (by layer type, never by name).
    pub fn prunable(self) -> bool {
        matches!(self, Self::ConvolutionWeight | Self::LinearWeight)
    }

    /// Whether PyTorch names it `bias`.
    pub fn named_bias(self) -> bool {
        matches!(self, Self::ConvolutionBias | Self::LinearBias | Self::NormShift)
    }
}

/// What a buffer (state that is not trained) is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BufferKind {
    /// Batch-norm running mean `(C)`.
    RunningMean,
    /// Batch-norm running variance `(C)`, unbiased.
    RunningVariance,
}

/// One named tensor in a flat vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec<K> {
    /// torchvision's name, such as `layer1.0.conv1.weight`.
    pub name: String,
    /// What it is.
    pub kind: K,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Where it stands in the flat vector.
    pub range: Range<usize>,
}

/// The parameters and buffers of a network, in torchvision's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Trainable parameters.
    pub parameters: Vec<TensorSpec<ParameterKind>>,
    /// Batch-norm buffers.
    pub buffers: Vec<TensorSpec<BufferKind>>,
    /// Names in the order of PyTorch's state dict: (is a buffer, index).
    order: Vec<(bool, usize)>,
}

impl Layout {
    /// Number of trainable scalars.
    pub fn parameter_count(&self) -> usize {
        self.parameters.last().map_or(0, |spec| spec.range.end)
    }

    /// Number of buffer scalars.
    pub fn buffer_count(&self) -> usize {
        self.buffers.last().map_or(0, |spec| spec.range.end)
    }

    /// The same tensors, where the parameters of which `length` knows one have that many values.
    pub(super) fn shortened(&self, length: impl Fn(usize) -> Option<usize>) -> Self {
        let mut layout = self.clone();
        let mut start = 0;
        for (index, spec) in layout.parameters.iter_mut().enumerate() {
            if let Some(length) = length(index) {
                (spec.shape, spec.range) = (vec![length], 0..length);
            }
            spec.range = start..start + spec.range.len();
            start = spec.range.end;
        }
        layout
    }

    /// Names and shapes of all tensors in state-dict order.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.order.iter().map(|&(buffer, index)| {
            if buffer {
                (self.buffers[index].name.as_str(), self.buffers[index].shape.as_slice())
            } else {
                (self.parameters[index].name.as_str(), self.parameters[index].shape.as_slice())
            }
        })
    }
}

/// Builds a [`Layout`]; each method returns the index of the tensor it added.
#[derive(Default)]
pub struct LayoutBuilder(Layout);

impl LayoutBuilder {
    /// Adds a trainable parameter.
    pub fn parameter(&mut self, name: String, kind: ParameterKind, shape: &[usize]) -> usize {
        let start = self.0.parameter_count();
        let range = start..start + shape.iter().product::<usize>();
        self.0.parameters.push(TensorSpec { name, kind, shape: shape.to_vec(), range });
        self.0.order.push((false, self.0.parameters.len() - 1));
        self.0.parameters.len() - 1
    }

    /// Adds a buffer.
    pub fn buffer(&mut self, name: String, kind: BufferKind, shape: &[usize]) -> usize {
        let start = self.0.buffer_count();
        let range = start..start + shape.iter().product::<usize>();
        self.0.buffers.push(TensorSpec { name, kind, shape: shape.to_vec(), range });
        self.0.order.push((true, self.0.buffers.len() - 1));
        self.0.buffers.len() - 1
    }

    /// The finished layout.
    pub fn finish(self) -> Layout {
        self.0
    }
}

/// Values of every parameter and buffer of one network: a checkpoint in memory.
#[derive(Clone, Debug)]
pub struct Weights {
    layout: Arc<Layout>,
    /// Trainable parameters, flat, in the order of [`Layout::parameters`].
    pub parameters: Vec<f32>,
    /// Batch-norm buffers, flat, in the order of [`Layout::buffers`].
    pub buffers: Vec<f32>,
}

impl PartialEq for Weights {
    /// Bit equality, so that a rewound state can be compared with θ_k (NaN equals itself, −0 differs from 0).
    fn eq(&self, other: &Self) -> bool {
        let same =
            |a: &[f32], b: &[f32]| a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x.to_bits() == y.to_bits());
        self.layout == other.layout && same(&self.parameters, &other.parameters) && same(&self.buffers, &other.buffers)
    }
}

impl Weights {
    pub(super) fn new(layout: Arc<Layout>, parameters: Vec<f32>, buffers: Vec<f32>) -> Self {
        Self { layout, parameters, buffers }
    }

    /// All zeros, for a layout.
    pub fn zeros(layout: Arc<Layout>) -> Self {
        let (parameters, buffers) = (vec![0.0; layout.parameter_count()], vec![0.0; layout.buffer_count()]);
        Self { layout, parameters, buffers }
    }

    /// The layout these values belong to.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Values of the parameter with this index.
    pub fn parameter(&self, index: usize) -> &[f32] {
        &self.parameters[self.layout.parameters[index].range.clone()]
    }

    /// Values of the buffer with this index.
    pub fn buffer(&self, index: usize) -> &[f32] {
        &self.buffers[self.layout.buffers[index].range.clone()]
    }

    /// Fills every tensor from `lookup(name)`, checking names and shapes.
    ///
    /// # Errors
    /// `origin` and the tensor are named when it is missing, has another shape, or is not finite.
    pub fn from_lookup(
        layout: Arc<Layout>,
        origin: &str,
        mut lookup: impl FnMut(&str) -> Result<Option<Tensor>>,
    ) -> Result<Self> {
        let mut tensors = Vec::with_capacity(layout.order.len());
        // All shapes are checked before memory is taken for any of them.
        for (name, shape) in layout.tensors() {
            let tensor = lookup(name)?.ok_or_else(|| Error::tensor(format!("{origin}:{name}"), "is missing"))?;
            if tensor.dims() != shape {
                let what = format!("has shape {:?}, expected {:?}", tensor.dims(), shape);
                return Err(Error::tensor(format!("{origin}:{name}"), what));
            }
            tensors.push(tensor);
        }
        let mut weights = Self::zeros(layout.clone());
        let (mut parameters, mut buffers) = (weights.parameters.as_mut_slice(), weights.buffers.as_mut_slice());
        let named = layout.order.iter().zip(layout.tensors()).zip(tensors);
        let tasks: Vec<_> = named
            .map(|((&(buffer, _), (name, _)), tensor)| {
                let rest = if buffer { &mut buffers } else { &mut parameters };
                let slot = rest.split_off_mut(..tensor.elem_count()).expect("tensors lie one after the other");
                (format!("{origin}:{name}"), tensor, slot)
            })
            .collect();
        first_fault(tasks.into_par_iter().map(|(name, tensor, slot)| fill(&name, tensor, slot)))?;
        Ok(weights)
    }

    /// All tensors with their names, in state-dict order.
    ///
    /// # Errors
    /// Only when Candle cannot make a tensor.
    pub fn tensors(&self) -> Result<Vec<(String, Tensor)>> {
        self.layout
            .order
            .iter()
            .map(|&(buffer, index)| {
                let (name, shape, values) = if buffer {
                    let spec = &self.layout.buffers[index];
                    (&spec.name, &spec.shape, &self.buffers[spec.range.clone()])
                } else {
                    let spec = &self.layout.parameters[index];
                    (&spec.name, &spec.shape, &self.parameters[spec.range.clone()])
                };
                Ok((name.clone(), Tensor::from_slice(values, shape.as_slice(), &Device::Cpu)?))
            })
            .collect()
    }

    /// SHA-256 of names, shapes and values, in hexadecimal: the identity of a checkpoint.
    pub fn digest(&self) -> String {
        use sha2::{Digest, Sha256};
        let mut hash = Sha256::new();
        for (name, shape) in self.layout.tensors() {
            hash.update(name.as_bytes());
            for &extent in shape {
                hash.update((extent as u64).to_le_bytes());
            }
        }
        for value in self.parameters.iter().chain(&self.buffers) {
            hash.update(value.to_le_bytes());
        }
        crate::digest::hex(hash)
    }
}

/// Writes a tensor's values to `slot`, which has as many; `name` is for messages.
fn fill(name: &str, tensor: Tensor, slot: &mut [f32]) -> Result<()> {
    let tensor = tensor.to_dtype(candle_core::DType::F32)?.contiguous()?;
    let (storage, place) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        return Err(Error::tensor(name, "is on a device"));
    };
    let values = &storage.as_slice::<f32>()?[place.start_offset()..][..slot.len()];
    if let Some(at) = values.iter().position(|value| !value.is_finite()) {
        return Err(Error::tensor(name, format!("holds {} at flat index {at}", values[at])));
    }
    slot.copy_from_slice(values);
    Ok(())
}
