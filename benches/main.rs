//! The benches: one criterion target, one module per topic. Sizes and density are in the ids.
mod kernels;

// Maps begin where the program's do: sparse products take longer on vectors of the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

criterion::criterion_main!(kernels::kernels);
