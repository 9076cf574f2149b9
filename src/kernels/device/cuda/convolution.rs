//! cuDNN's convolutions: descriptors and algorithms are chosen once for each shape, one workspace serves all.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr::from_ref;
use std::sync::Arc;

use cudarc::cudnn::result::{self as cudnn, CudnnError};
use cudarc::cudnn::sys::{
    self, cudnnConvolutionBwdDataAlgo_t as DataAlgorithm, cudnnConvolutionBwdFilterAlgo_t as FilterAlgorithm,
    cudnnConvolutionFwdAlgo_t as ForwardAlgorithm, cudnnConvolutionMode_t, cudnnDataType_t, cudnnDeterminism_t,
    cudnnMathType_t, cudnnStatus_t, cudnnTensorFormat_t,
};

use super::memory::{Memory, Pool};
use super::{failed, innermost};
use crate::conv2d::Conv2dShape;
use crate::device::Precision;
use crate::error::Result;

/// A workspace may not be larger, in bytes.
const WORKSPACE: usize = 4 << 30;
/// Candidates that cuDNN's heuristics are asked for.
const CANDIDATES: usize = 10;

/// Which of the three products.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Direction {
    Forward,
    GradInput,
    GradWeight,
}

/// The device addresses of one product: input, weight and output or their gradients.
#[derive(Clone, Copy)]
pub(super) struct Addresses {
    pub(super) input: u64,
    pub(super) weight: u64,
    pub(super) output: u64,
}

/// cuDNN's handle on the computing stream, and what was chosen so far.
pub(super) struct Convolutions {
    handle: sys::cudnnHandle_t,
    pool: Arc<Pool>,
    precision: Precision,
    shapes: BTreeMap<[usize; 8], Described>,
    /// What no algorithm takes.
    refused: BTreeSet<([usize; 8], Direction)>,
    workspace: Option<Memory>,
}

// SAFETY: the handle may move between threads as long as one uses it at a time, which the engine's mutex sees to.
unsafe impl Send for Convolutions {}

/// The descriptors of a shape, and the algorithm of each direction.
struct Described {
    input: sys::cudnnTensorDescriptor_t,
    output: sys::cudnnTensorDescriptor_t,
    weight: sys::cudnnFilterDescriptor_t,
    convolution: sys::cudnnConvolutionDescriptor_t,
    chosen: BTreeMap<Direction, Candidate>,
}

/// An algorithm (of the direction's own enumeration) with the mathematics and the workspace that it needs.
#[derive(Clone, Copy)]
struct Candidate {
    algorithm: Algorithm,
    math: cudnnMathType_t,
    workspace: usize,
}

#[derive(Clone, Copy)]
enum Algorithm {
    Forward(ForwardAlgorithm),
    Data(DataAlgorithm),
    Filter(FilterAlgorithm),
}

impl Convolutions {
    pub(super) fn new(pool: &Arc<Pool>, precision: Precision) -> Result<Self> {
        pool.stream().context().bind_to_thread().map_err(failed("cuDNN"))?;
        let handle = cudnn::create_handle().map_err(failed("cuDNN"))?;
        // SAFETY: the handle was just made and the pool keeps the stream.
        unsafe { cudnn::set_stream(handle, pool.stream().cu_stream().cast()) }.map_err(failed("cuDNN"))?;
        Ok(Self {
            handle,
            pool: pool.clone(),
            precision,
            shapes: BTreeMap::new(),
            refused: BTreeSet::new(),
            workspace: None,
        })
    }

    /// One product. `Forward` writes `output`, `GradInput` `input`, `GradWeight` `weight`; the other
    /// two are read. `false`: no deterministic algorithm of cuDNN takes the shape, as the maps lie.
    ///
    /// # Errors
    /// When cuDNN fails otherwise.
    pub(super) fn run(&mut self, shape: &Conv2dShape, direction: Direction, addresses: Addresses) -> Result<bool> {
        self.pool.stream().context().bind_to_thread().map_err(failed("cuDNN"))?;
        let key = key(shape);
        if self.refused.contains(&(key, direction)) {
            return Ok(false);
        }
        if !self.shapes.contains_key(&key) {
            let described = Described::new(shape, self.precision).map_err(failed("cuDNN's descriptors"))?;
            self.shapes.insert(key, described);
        }
        if let Some(candidate) = self.shapes[&key].chosen.get(&direction).copied() {
            return self.attempt(key, candidate, addresses)?.map(|()| true).map_err(failed("cuDNN"));
        }
        for candidate in self.shapes[&key].candidates(self.handle, direction, self.precision) {
            // A workspace for which there is no room refuses its algorithm, not the convolution.
            if matches!(self.attempt(key, candidate, addresses), Ok(Ok(()))) {
                if let Some(described) = self.shapes.get_mut(&key) {
                    described.chosen.insert(direction, candidate);
                }
                return Ok(true);
            }
        }
        self.refused.insert((key, direction));
        Ok(false)
    }

    fn attempt(
        &mut self,
        key: [usize; 8],
        candidate: Candidate,
        addresses: Addresses,
    ) -> Result<std::result::Result<(), CudnnError>> {
        if self.workspace.as_ref().is_none_or(|workspace| workspace.bytes() < candidate.workspace) {
            self.workspace = None;
            self.workspace = Some(self.pool.take(candidate.workspace)?);
        }
        let workspace = self.workspace.as_ref().map_or(0, Memory::pointer);
        Ok(self.shapes[&key].run(self.handle, candidate, workspace, addresses))
    }
}

impl Drop for Convolutions {
    fn drop(&mut self) {
        // The descriptors go first; what the stream still does no longer needs them.
        self.shapes.clear();
        // SAFETY: made by `new`, used by nothing else. What could be said of a failure has no reader.
        let _ = unsafe { cudnn::destroy_handle(self.handle) };
    }
}

fn key(shape: &Conv2dShape) -> [usize; 8] {
    let Conv2dShape { batch, in_channels, out_channels, in_height, in_width, kernel, stride, padding } = *shape;
    [batch, in_channels, out_channels, in_height, in_width, kernel, stride, padding]
}

impl Described {
    fn new(shape: &Conv2dShape, precision: Precision) -> std::result::Result<Self, CudnnError> {
        let format = match innermost(precision) {
            true => cudnnTensorFormat_t::CUDNN_TENSOR_NHWC,
            false => cudnnTensorFormat_t::CUDNN_TENSOR_NCHW,
        };
        let value = match precision {
            Precision::Bf16 => cudnnDataType_t::CUDNN_DATA_BFLOAT16,
            Precision::F32 | Precision::Tf32 => cudnnDataType_t::CUDNN_DATA_FLOAT,
        };
        let int = |value: usize| value as i32;
        let tensor = |channels, height, width| {
            let descriptor = cudnn::create_tensor_descriptor()?;
            let extents = [int(shape.batch), int(channels), int(height), int(width)];
            // SAFETY: the descriptor was just made.
            unsafe { cudnn::set_tensor4d_descriptor(descriptor, format, value, extents) }?;
            Ok(descriptor)
        };
        let input = tensor(shape.in_channels, shape.in_height, shape.in_width)?;
        let output = tensor(shape.out_channels, shape.out_height(), shape.out_width())?;
        let weight = cudnn::create_filter_descriptor()?;
        let extents = [int(shape.out_channels), int(shape.in_channels), int(shape.kernel), int(shape.kernel)];
        // SAFETY: the descriptor was just made.
        unsafe { cudnn::set_filter4d_descriptor(weight, value, format, extents) }?;
        let convolution = cudnn::create_convolution_descriptor()?;
        let (padding, stride) = (int(shape.padding), int(shape.stride));
        // SAFETY: the descriptor was just made.
        unsafe {
            cudnn::set_convolution2d_descriptor(
                convolution,
                padding,
                padding,
                stride,
                stride,
                1,
                1,
                cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION,
                cudnnDataType_t::CUDNN_DATA_FLOAT,
            )?;
            cudnn::set_convolution_math_type(convolution, math(precision))?;
        }
        Ok(Self { input, output, weight, convolution, chosen: BTreeMap::new() })
    }

    /// Deterministic algorithms, cuDNN's guess at the fastest first, one for every shape last.
    fn candidates(&self, handle: sys::cudnnHandle_t, direction: Direction, precision: Precision) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        let mut found = 0;
        // Any error leaves the last resorts.
        macro_rules! ask {
            ($ask:path, $one:expr, $two:expr, $three:expr, $kind:path, $perf:ty, $last:expr) => {{
                let mut results = [const { MaybeUninit::<$perf>::zeroed() }; CANDIDATES];
                // SAFETY: the descriptors are alive; there is room for as many results as are asked for.
                let asked = unsafe {
                    $ask(
                        handle,
                        $one,
                        $two,
                        self.convolution,
                        $three,
                        CANDIDATES as i32,
                        &mut found,
                        results.as_mut_ptr().cast(),
                    )
                };
                let count = if asked.is_ok() { found.clamp(0, CANDIDATES as i32) } else { 0 };
                for result in &results[..count as usize] {
                    // SAFETY: cuDNN wrote the first `found` results.
                    let result = unsafe { result.assume_init_ref() };
                    if result.status == cudnnStatus_t::CUDNN_STATUS_SUCCESS
                        && result.determinism == cudnnDeterminism_t::CUDNN_DETERMINISTIC
                    {
                        candidates.push(($kind(result.algo), result.mathType));
                    }
                }
                candidates.extend($last.map(|algorithm| ($kind(algorithm), math(precision))));
            }};
        }
        match direction {
            Direction::Forward => ask!(
                cudnn::get_convolution_forward_algorithm,
                self.input,
                self.weight,
                self.output,
                Algorithm::Forward,
                sys::cudnnConvolutionFwdAlgoPerf_t,
                [
                    ForwardAlgorithm::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM,
                    ForwardAlgorithm::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM,
                ]
            ),
            Direction::GradInput => ask!(
                cudnn::get_convolution_backward_data_algorithm,
                self.weight,
                self.output,
                self.input,
                Algorithm::Data,
                sys::cudnnConvolutionBwdDataAlgoPerf_t,
                [DataAlgorithm::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1]
            ),
            Direction::GradWeight => ask!(
                cudnn::get_convolution_backward_filter_algorithm,
                self.input,
                self.output,
                self.weight,
                Algorithm::Filter,
                sys::cudnnConvolutionBwdFilterAlgoPerf_t,
                [FilterAlgorithm::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1]
            ),
        }
        candidates
            .into_iter()
            .filter_map(|(algorithm, found)| {
                // f32 means f32, whatever the heuristics allow.
                let math = if precision == Precision::F32 { math(precision) } else { found };
                let workspace = self.workspace(handle, algorithm, math).ok()?;
                (workspace <= WORKSPACE).then_some(Candidate { algorithm, math, workspace })
            })
            .collect()
    }

    fn workspace(
        &self,
        handle: sys::cudnnHandle_t,
        algorithm: Algorithm,
        math: cudnnMathType_t,
    ) -> std::result::Result<usize, CudnnError> {
        // SAFETY: handle and descriptors are alive.
        unsafe {
            cudnn::set_convolution_math_type(self.convolution, math)?;
            match algorithm {
                Algorithm::Forward(algorithm) => cudnn::get_convolution_forward_workspace_size(
                    handle,
                    self.input,
                    self.weight,
                    self.convolution,
                    self.output,
                    algorithm,
                ),
                Algorithm::Data(algorithm) => cudnn::get_convolution_backward_data_workspace_size(
                    handle,
                    self.weight,
                    self.output,
                    self.convolution,
                    self.input,
                    algorithm,
                ),
                Algorithm::Filter(algorithm) => cudnn::get_convolution_backward_filter_workspace_size(
                    handle,
                    self.input,
                    self.output,
                    self.convolution,
                    self.weight,
                    algorithm,
                ),
            }
        }
    }

    fn run(
        &self,
        handle: sys::cudnnHandle_t,
        candidate: Candidate,
        workspace: u64,
        addresses: Addresses,
    ) -> std::result::Result<(), CudnnError> {
        let (one, zero) = (1.0f32, 0.0f32);
        let (one, zero): (*const c_void, *const c_void) = (from_ref(&one).cast(), from_ref(&zero).cast());
        let Addresses { input, weight, output } = addresses;
        let (room, size) = (workspace as *mut c_void, candidate.workspace);
        // SAFETY: descriptors and memory are of one checked shape, the workspace as large as asked.
        unsafe {
            cudnn::set_convolution_math_type(self.convolution, candidate.math)?;
            match candidate.algorithm {
                Algorithm::Forward(algorithm) => cudnn::convolution_forward(
                    handle,
                    one,
                    self.input,
                    input as *const c_void,
                    self.weight,
                    weight as *const c_void,
                    self.convolution,
                    algorithm,
                    room,
                    size,
                    zero,
                    self.output,
                    output as *mut c_void,
                ),
                Algorithm::Data(algorithm) => cudnn::convolution_backward_data(
                    handle,
                    one,
                    self.weight,
                    weight as *const c_void,
                    self.output,
                    output as *const c_void,
                    self.convolution,
                    algorithm,
                    room,
                    size,
                    zero,
                    self.input,
                    input as *mut c_void,
                ),
                Algorithm::Filter(algorithm) => cudnn::convolution_backward_filter(
                    handle,
                    one,
                    self.input,
                    input as *const c_void,
                    self.output,
                    output as *const c_void,
                    self.convolution,
                    algorithm,
                    room,
                    size,
                    zero,
                    self.weight,
                    weight as *mut c_void,
                ),
            }
        }
    }
}

impl Drop for Described {
    fn drop(&mut self) {
        // SAFETY: made by `new`, used by nothing else. What could be said of a failure has no reader.
        unsafe {
            let _ = cudnn::destroy_tensor_descriptor(self.input);
            let _ = cudnn::destroy_tensor_descriptor(self.output);
            let _ = cudnn::destroy_filter_descriptor(self.weight);
            let _ = cudnn::destroy_convolution_descriptor(self.convolution);
        }
    }
}

/// Which mathematics a convolution may use: exact products alone, or tensor cores.
fn math(precision: Precision) -> cudnnMathType_t {
    match precision {
        Precision::F32 => cudnnMathType_t::CUDNN_FMA_MATH,
        Precision::Tf32 => cudnnMathType_t::CUDNN_DEFAULT_MATH,
        Precision::Bf16 => cudnnMathType_t::CUDNN_TENSOR_OP_MATH,
    }
}
