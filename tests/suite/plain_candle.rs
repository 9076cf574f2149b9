//! The same network in Candle's own operations: an independent check of every gradient, and the benches' baseline.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor, Var};
use ticketlens::nn::{Layer, Network, Weights};

/// Parameters as Candle variables of a type, by name.
pub(crate) fn variables(weights: &Weights, dtype: DType) -> BTreeMap<String, Var> {
    let parameters: Vec<&str> = weights.layout().parameters.iter().map(|spec| spec.name.as_str()).collect();
    weights
        .tensors()
        .unwrap()
        .into_iter()
        .filter(|(name, _)| parameters.contains(&name.as_str()))
        .map(|(name, tensor)| (name, Var::from_tensor(&tensor.to_dtype(dtype).unwrap()).unwrap()))
        .collect()
}

/// Logits `(N, K)` in training mode (batch statistics).
pub(crate) fn forward(
    network: &Network,
    variables: &BTreeMap<String, Var>,
    images: &Tensor,
) -> candle_core::Result<Tensor> {
    let parameter = |index: usize| variables[&network.layout.parameters[index].name].as_tensor();
    let mut slots = vec![images.clone()];
    for layer in &network.layers {
        let output = match layer {
            Layer::Convolution { convolution: c, norm, residual, relu, source } => {
                let mut value = slots[*source].conv2d(parameter(c.weight), c.padding, c.stride, 1, 1)?;
                if let Some(bias) = c.bias {
                    value = value.broadcast_add(&parameter(bias).reshape((1, c.out_channels, 1, 1))?)?;
                }
                if let Some(norm) = norm {
                    let mean = value.mean_keepdim((0, 2, 3))?;
                    let centred = value.broadcast_sub(&mean)?;
                    let variance = centred.sqr()?.mean_keepdim((0, 2, 3))?;
                    let scaled = centred.broadcast_div(&(variance + f64::from(network.norm_epsilon))?.sqrt()?)?;
                    let column = |index: usize| parameter(index).reshape((1, c.out_channels, 1, 1));
                    value = scaled.broadcast_mul(&column(norm.scale)?)?.broadcast_add(&column(norm.shift)?)?;
                }
                if let Some(residual) = residual {
                    value = (value + &slots[*residual])?;
                }
                if *relu { value.relu()? } else { value }
            }
            Layer::MaxPool { kernel, stride, padding, source } => {
                max_pool(&slots[*source], *kernel, *stride, *padding)?
            }
            Layer::GlobalAveragePool { source } => slots[*source].mean((2, 3))?,
            Layer::Linear { weight, bias, relu, source, .. } => {
                let value = slots[*source].matmul(&parameter(*weight).t()?)?.broadcast_add(parameter(*bias))?;
                if *relu { value.relu()? } else { value }
            }
            Layer::Flatten { source } => slots[*source].flatten_from(1)?,
            Layer::AdaptiveAveragePool { height, width, source } => adaptive(&slots[*source], *height, *width)?,
            Layer::Dropout { probability: 0.0, source } => slots[*source].clone(),
            other => panic!("no plain form of {other:?}"),
        };
        slots.push(output);
    }
    Ok(slots.pop().unwrap())
}

/// Means over windows that cover the map.
fn adaptive(input: &Tensor, height: usize, width: usize) -> candle_core::Result<Tensor> {
    let (_, _, from_height, from_width) = input.dims4()?;
    let window = |at: usize, from: usize, to: usize| (at * from / to, ((at + 1) * from).div_ceil(to));
    let mut rows = Vec::new();
    for row in 0..height {
        let (top, bottom) = window(row, from_height, height);
        let mut columns = Vec::new();
        for column in 0..width {
            let (left, right) = window(column, from_width, width);
            let inside = input.narrow(2, top, bottom - top)?.narrow(3, left, right - left)?;
            columns.push(inside.mean_keepdim((2, 3))?);
        }
        rows.push(Tensor::cat(&columns, 3)?);
    }
    Tensor::cat(&rows, 2)
}

/// Max pooling of a non-negative map from strided slices (Candle's own has neither padding nor this backward).
fn max_pool(input: &Tensor, kernel: usize, stride: usize, padding: usize) -> candle_core::Result<Tensor> {
    let (_, _, height, width) = input.dims4()?;
    let out = |extent: usize| (extent + 2 * padding - kernel) / stride + 1;
    let room = kernel + stride;
    let padded = input.pad_with_zeros(2, padding, padding + room)?.pad_with_zeros(3, padding, padding + room)?;
    let mut best: Option<Tensor> = None;
    for dy in 0..kernel {
        for dx in 0..kernel {
            let rows: Vec<u32> = (0..out(height)).map(|y| (y * stride + dy) as u32).collect();
            let columns: Vec<u32> = (0..out(width)).map(|x| (x * stride + dx) as u32).collect();
            let rows = Tensor::new(rows, input.device())?;
            let columns = Tensor::new(columns, input.device())?;
            let window = padded.index_select(&rows, 2)?.index_select(&columns, 3)?;
            best = Some(match best {
                None => window,
                Some(best) => best.maximum(&window)?,
            });
        }
    }
    Ok(best.unwrap())
}
