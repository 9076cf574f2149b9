//! The device of a build with the feature `cuda`. One stream computes, one copies images ahead;
//! everything on the computing stream runs in the order in which it was asked for, which is what
//! makes sharing its memory safe.

mod convolution;
mod memory;
mod operations;
mod products;
mod tape;
mod timing;
mod training;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::cudnn::result as cudnn;
use cudarc::driver::sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
use cudarc::driver::{CudaContext, CudaFunction, CudaStream, result as driver, sys as driver_sys};
use cudarc::nvrtc::{self, CompileError};

use super::{Pass, Precision, Program, Rule, Wanted};
use crate::error::{Error, Result};
use convolution::Convolutions;
use memory::{Memory, Pool};

pub use tape::{DeviceTape, DeviceWeights};
pub use training::Trainer;

/// The device code. NVRTC compiles it when a device is opened.
const SOURCE: &str = include_str!("kernels.cu");

/// An opened device with a way to compute; clones share it.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    pool: Arc<Pool>,
    copies: Arc<CudaStream>,
    kernels: BTreeMap<&'static str, Kernel>,
    convolutions: Mutex<Convolutions>,
    /// Convolutions of planar floats, for what cuDNN does not take otherwise.
    planar: Mutex<Convolutions>,
    precision: Precision,
    ordinal: usize,
    name: String,
    libraries: String,
    /// Blocks that a pass over many values is spread over.
    blocks: u32,
}

/// A kernel and the kinds of its parameters, as `kernels.cu` declares them.
struct Kernel {
    function: CudaFunction,
    parameters: Vec<Kind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Pointer,
    Unsigned,
    Long,
    Float,
}

/// An argument of a kernel.
#[derive(Clone, Copy)]
enum Argument {
    Pointer(u64),
    Unsigned(u32),
    Long(u64),
    Float(f32),
}

impl Argument {
    fn kind(self) -> Kind {
        match self {
            Argument::Pointer(_) => Kind::Pointer,
            Argument::Unsigned(_) => Kind::Unsigned,
            Argument::Long(_) => Kind::Long,
            Argument::Float(_) => Kind::Float,
        }
    }
}

impl From<u64> for Argument {
    /// A device address.
    fn from(pointer: u64) -> Self {
        Argument::Pointer(pointer)
    }
}

impl From<&Memory> for Argument {
    fn from(memory: &Memory) -> Self {
        Argument::Pointer(memory.pointer())
    }
}

impl From<f32> for Argument {
    fn from(value: f32) -> Self {
        Argument::Float(value)
    }
}

impl From<bool> for Argument {
    fn from(value: bool) -> Self {
        Argument::Unsigned(u32::from(value))
    }
}

impl From<usize> for Argument {
    /// Programs are checked: no count reaches 2³¹.
    fn from(value: usize) -> Self {
        Argument::Unsigned(value as u32)
    }
}

/// The arguments of a launch, in the kernel's order.
macro_rules! arguments {
    ($($value:expr),* $(,)?) => { &[$($crate::device::cuda::Argument::from($value)),*] };
}
use arguments;

impl std::fmt::Debug for Engine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.description())
    }
}

impl Engine {
    /// Opens the device number `ordinal`.
    ///
    /// # Errors
    /// What is missing: the driver, a library or the device.
    pub fn open(ordinal: usize, precision: Precision) -> Result<Self> {
        // SAFETY: looking for a library runs nothing but its initialisers.
        let present = unsafe {
            [
                ("the CUDA driver (libcuda.so.1)", driver_sys::is_culib_present()),
                ("cuDNN 9 (libcudnn.so.9)", cudarc::cudnn::sys::is_culib_present()),
                ("NVRTC (libnvrtc.so.13)", nvrtc::sys::is_culib_present()),
            ]
        };
        if let Some((missing, _)) = present.iter().find(|(_, present)| !present) {
            return Err(Error::input(format!("{missing} was not found on this machine")));
        }
        let count = CudaContext::device_count().map_err(failed("the CUDA driver"))?;
        if ordinal >= count.max(0) as usize {
            return Err(Error::input(format!("there is no CUDA device {ordinal}: the driver has {count}")));
        }
        let context = CudaContext::new(ordinal).map_err(failed("opening the device"))?;
        Self::on(&context, ordinal, precision)
    }

    /// Another engine on the same device, which computes in another way and shares nothing but the context.
    ///
    /// # Errors
    /// As [`Engine::open`].
    pub fn with_precision(&self, precision: Precision) -> Result<Self> {
        if precision == self.0.precision {
            return Ok(self.clone());
        }
        Self::on(self.0.pool.stream().context(), self.0.ordinal, precision)
    }

    fn on(context: &Arc<CudaContext>, ordinal: usize, precision: Precision) -> Result<Self> {
        // SAFETY: memory is used on one stream alone, but for the images of a training run, whose
        // order is kept by events.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream().map_err(failed("a stream"))?;
        let copies = context.new_stream().map_err(failed("a stream"))?;
        let processors =
            context.attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT).map_err(failed("asking the device"))?;
        let name = context.name().map_err(failed("asking the device"))?;
        let pool = Arc::new(Pool::new(stream));
        Ok(Self(Arc::new(Inner {
            kernels: compile(context, precision)?,
            convolutions: Mutex::new(Convolutions::new(&pool, precision)?),
            planar: Mutex::new(Convolutions::new(&pool, Precision::F32)?),
            copies,
            precision,
            ordinal,
            name,
            libraries: format!("driver {}, cuDNN {}", driver_version(), cudnn::get_version()),
            blocks: processors.max(1) as u32 * 16,
            pool,
        })))
    }

    /// The device's name, such as `NVIDIA H100 80GB HBM3`.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Device, driver, libraries and precision, in one line.
    pub fn description(&self) -> String {
        format!("{} ({}, {})", self.0.name, self.0.libraries, self.0.precision.name())
    }

    /// How it computes.
    pub fn precision(&self) -> Precision {
        self.0.precision
    }

    /// Whether maps lie with the channels innermost.
    fn innermost(&self) -> bool {
        innermost(self.0.precision)
    }

    /// Bytes of a value in a map.
    fn map_bytes(&self) -> usize {
        if self.0.precision == Precision::Bf16 { 2 } else { 4 }
    }

    fn take_map(&self, len: usize) -> Result<Memory> {
        self.0.pool.take(len * self.map_bytes())
    }

    fn take_floats(&self, len: usize) -> Result<Memory> {
        self.0.pool.take(len * 4)
    }

    fn convolutions(&self) -> MutexGuard<'_, Convolutions> {
        self.0.convolutions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn planar(&self) -> MutexGuard<'_, Convolutions> {
        self.0.planar.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One pass over `total` values in blocks of 256.
    fn each(&self, name: &'static str, total: usize, arguments: &[Argument]) -> Result<()> {
        let blocks = (total.div_ceil(256) as u32).clamp(1, self.0.blocks);
        self.launch(name, (blocks, 1), (256, 1), arguments)
    }

    fn launch(&self, name: &'static str, grid: (u32, u32), block: (u32, u32), arguments: &[Argument]) -> Result<()> {
        let kernel = self.0.kernels.get(name).ok_or_else(|| Error::input(format!("no kernel is called {name}")))?;
        assert!(
            kernel.parameters.iter().copied().eq(arguments.iter().map(|argument| argument.kind())),
            "{name}: arguments of other kinds than its parameters"
        );
        let mut addresses: Vec<*mut std::ffi::c_void> = arguments
            .iter()
            .map(|argument| match argument {
                Argument::Pointer(value) | Argument::Long(value) => std::ptr::from_ref(value).cast_mut().cast(),
                Argument::Unsigned(value) => std::ptr::from_ref(value).cast_mut().cast(),
                Argument::Float(value) => std::ptr::from_ref(value).cast_mut().cast(),
            })
            .collect();
        let stream = self.0.pool.stream();
        stream.context().bind_to_thread().map_err(failed(name))?;
        // SAFETY: the arguments are of the kinds that the kernel declares; their sizes follow from a checked program.
        unsafe {
            driver::launch_kernel(
                kernel.function.cu_function(),
                (grid.0, grid.1, 1),
                (block.0, block.1, 1),
                0,
                stream.cu_stream(),
                &mut addresses,
            )
        }
        .map_err(failed(name))
    }
}

fn innermost(precision: Precision) -> bool {
    precision != Precision::F32
}

fn driver_version() -> String {
    let mut version = 0;
    // SAFETY: writes one integer.
    match unsafe { driver_sys::cuDriverGetVersion(&mut version) }.result() {
        Ok(()) => format!("CUDA {}.{}", version / 1000, version % 1000 / 10),
        Err(_) => "of an unknown version".into(),
    }
}

/// An error of the driver or a library as this crate's.
fn failed<E: std::fmt::Display>(what: &str) -> impl Fn(E) -> Error {
    move |error| Error::input(format!("CUDA, {what}: {error}"))
}

fn compile(context: &Arc<CudaContext>, precision: Precision) -> Result<BTreeMap<&'static str, Kernel>> {
    let (major, minor) = context.compute_capability().map_err(failed("asking the device"))?;
    let options = nvrtc::CompileOptions {
        // Sums and products as they are written, as on the CPU.
        fmad: Some(false),
        options: vec![format!("--gpu-architecture=compute_{major}{minor}")],
        name: Some("kernels.cu".into()),
        ..Default::default()
    };
    let define = if precision == Precision::Bf16 { "#define MAP_BF16\n" } else { "" };
    let compiled = nvrtc::compile_ptx_with_opts(format!("{define}{SOURCE}"), options).map_err(|error| match error {
        CompileError::CompileError { log, .. } => Error::input(format!("kernels.cu: {}", log.to_string_lossy())),
        other => failed("NVRTC")(other),
    })?;
    let module = context.load_module(compiled).map_err(failed("loading the kernels"))?;
    signatures(SOURCE)
        .into_iter()
        .map(|(name, parameters)| {
            let function = module.load_function(name).map_err(failed(name))?;
            Ok((name, Kernel { function, parameters }))
        })
        .collect()
}

/// The name and the kinds of the parameters of each kernel of a source text.
fn signatures(source: &'static str) -> Vec<(&'static str, Vec<Kind>)> {
    source
        .split("extern \"C\" __global__ void ")
        .skip(1)
        .filter_map(|text| {
            let (name, rest) = text.split_once('(')?;
            let (parameters, _) = rest.split_once(')')?;
            let kinds = parameters.split(',').map(|parameter| {
                let words: Vec<&str> = parameter.split_whitespace().collect();
                match words[..] {
                    _ if parameter.contains('*') => Kind::Pointer,
                    ["float", _] => Kind::Float,
                    ["unsigned", "long", "long", _] => Kind::Long,
                    _ => Kind::Unsigned,
                }
            });
            Some((name, kinds.collect()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_read_off_the_source() {
        let found: BTreeMap<_, _> = signatures(SOURCE).into_iter().collect();
        assert_eq!(found.len(), 27);
        assert_eq!(found["norm_scale"], [Kind::Pointer, Kind::Pointer, Kind::Float, Kind::Pointer, Kind::Unsigned]);
        assert_eq!(found["row_products"][3..], [Kind::Unsigned, Kind::Unsigned, Kind::Long]);
        assert_eq!(found["sgd_step"].iter().filter(|kind| **kind == Kind::Float).count(), 3);
    }
}
