// A pretend CUDA device on the CPU: libcuda, cuDNN and NVRTC in one library, with what ticketlens calls of them and no more.
// ci/gpu-pretend.sh builds it and runs the device program on it, so that all that the host does is tested without a GPU: addresses,
// sizes, orders of operations, reuse of memory; and the device's kernels, whose very text is compiled here for the CPU.
//
// It is strict where a GPU is lenient. Work is asynchronous: nothing runs before something waits for it (PRETEND=lazy, the default) or
// everything runs at once (PRETEND=eager). New memory is NaN. Writing past the end of an allocation, or using one that was freed, aborts.
// cuDNN's heuristics offer algorithms that are not deterministic or fail when run, odd numbers of channels are refused where they lie
// innermost, and convolutions cut their factors off to TF32 (some of cuDNN's round) unless they were told not to.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>
#include <csetjmp>
#include <ucontext.h>

static void fault(const char* what) {
  fprintf(stderr, "pretend GPU: %s\n", what);
  abort();
}

// ---- Kernels: the text of kernels.cu, twice. Threads of a block that waits are fibres; other blocks are loops.
struct Dim { unsigned x, y, z; };
static Dim threadIdx, blockIdx, blockDim, gridDim;
#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__ static
static inline float __uint_as_float(unsigned bits) { float value; memcpy(&value, &bits, 4); return value; }
static inline unsigned __float_as_uint(float value) { unsigned bits; memcpy(&bits, &value, 4); return bits; }

static const size_t STACK = 1 << 16;
struct Fibre { ucontext_t start; jmp_buf place; std::vector<char> stack; bool started, done; };
static std::vector<Fibre> fibres;
static jmp_buf scheduler;
static unsigned current;
static const std::function<void()>* body;

// Jumps, not swapcontext, which asks the kernel each time.
static void __syncthreads() {
  if (!_setjmp(fibres[current].place)) _longjmp(scheduler, 1);
}
static void fibre_main() {
  (*body)();
  fibres[current].done = true;
  _longjmp(scheduler, 1);
}
static void resume(Fibre& fibre) {
  if (_setjmp(scheduler)) return;
  if (fibre.started) _longjmp(fibre.place, 1);
  fibre.started = true;
  setcontext(&fibre.start);
}

static void run_kernel(const std::function<void()>& kernel, bool waits, Dim grid, Dim block) {
  unsigned threads = block.x * block.y * block.z;
  if (threads == 0 || threads > 1024 || grid.x == 0 || grid.y == 0 || grid.y > 65535 || grid.z != 1) fault("a launch of an impossible size");
  gridDim = grid, blockDim = block;
  auto place = [&](unsigned thread) { threadIdx = {thread % block.x, thread / block.x % block.y, thread / block.x / block.y}; };
  for (unsigned y = 0; y < grid.y; y++)
    for (unsigned x = 0; x < grid.x; x++) {
      blockIdx = {x, y, 0};
      if (!waits) {
        for (unsigned thread = 0; thread < threads; thread++) { place(thread); kernel(); }
        continue;
      }
      body = &kernel;
      if (fibres.size() < threads) fibres.resize(threads);
      for (unsigned thread = 0; thread < threads; thread++) {
        Fibre& fibre = fibres[thread];
        fibre.stack.resize(STACK);
        fibre.started = fibre.done = false;
        getcontext(&fibre.start);
        fibre.start.uc_stack.ss_sp = fibre.stack.data();
        fibre.start.uc_stack.ss_size = STACK;
        fibre.start.uc_link = nullptr;
        makecontext(&fibre.start, fibre_main, 0);
      }
      // Backwards on every second turn: the order of threads must not matter.
      for (unsigned turn = 0, left = threads; left > 0; turn++)
        for (unsigned i = 0; i < threads; i++) {
          current = turn % 2 ? threads - 1 - i : i;
          if (fibres[current].done) continue;
          place(current);
          resume(fibres[current]);
          if (fibres[current].done) left--;
        }
    }
}

namespace floats {
#include "kernels_for_cpu.inc"
}
#define MAP_BF16
namespace bfloats {
#undef EACH
#include "kernels_for_cpu.inc"
}

struct Function {
  std::function<std::function<void()>(void**)> bind;
  bool waits;
};
template <class... A, size_t... I>
static std::function<void()> bind_arguments(void (*kernel)(A...), void** values, std::index_sequence<I...>) {
  std::tuple<A...> copies(*static_cast<std::decay_t<A>*>(values[I])...);
  return [=] { kernel(std::get<I>(copies)...); };
}
template <class... A>
static Function function(void (*kernel)(A...), bool waits) {
  return {[=](void** values) { return bind_arguments(kernel, values, std::index_sequence_for<A...>()); }, waits};
}
static std::map<std::string, Function> modules[2] = {
#define KERNEL(name, waits) {#name, function(floats::name, waits)},
    {
#include "kernel_names.inc"
    },
#undef KERNEL
#define KERNEL(name, waits) {#name, function(bfloats::name, waits)},
    {
#include "kernel_names.inc"
    },
#undef KERNEL
};

// ---- Memory: a guard behind every allocation, NaN inside.
static std::recursive_mutex lock;
#define LOCKED std::lock_guard<std::recursive_mutex> guard(lock)
static std::map<char*, size_t> allocations, pinned;
static const size_t GUARD = 256;
static size_t bytes_alive, bytes_peak;

static char* allocate(size_t size) {
  char* memory = static_cast<char*>(aligned_alloc(512, (size + GUARD + 511) / 512 * 512));
  memset(memory, 0xff, size);
  memset(memory + size, 0xa5, GUARD);
  allocations[memory] = size;
  bytes_peak = std::max(bytes_peak, bytes_alive += size);
  return memory;
}
static void check_guards() {
  for (auto& [memory, size] : allocations)
    for (size_t i = 0; i < GUARD; i++)
      if ((unsigned char)memory[size + i] != 0xa5) fault("something wrote past the end of an allocation");
}
static void release(char* memory) {
  auto found = allocations.find(memory);
  if (found == allocations.end()) fault("memory freed twice, or never allocated");
  for (size_t i = 0; i < GUARD; i++)
    if ((unsigned char)memory[found->second + i] != 0xa5) fault("something wrote past the end of an allocation");
  bytes_alive -= found->second;
  memset(memory, 0xff, found->second);
  allocations.erase(found);
  free(memory);
}
static void within(const std::map<char*, size_t>& known, const void* address, size_t size, const char* what) {
  char* start = (char*)address;
  auto after = known.upper_bound(start);
  if (after == known.begin()) fault(what);
  --after;
  if (start + size > after->first + after->second) fault(what);
}
static bool is_pinned(const void* address) {
  auto after = pinned.upper_bound((char*)address);
  if (after == pinned.begin()) return false;
  --after;
  return (char*)address < after->first + after->second;
}

// ---- Streams: queues that run when something waits.
struct Event;
struct Operation { std::function<void()> run; Event* waits; };
struct Stream { std::deque<Operation> queue; };
struct Event { Stream* stream = nullptr; uint64_t recorded = 0, done = 0; double time = 0; };
static const bool eager = getenv("PRETEND") && !strcmp(getenv("PRETEND"), "eager");
static void drain(Stream* stream, Event* until = nullptr, uint64_t version = 0) {
  while (!stream->queue.empty()) {
    if (until && until->done >= version) return;
    Operation operation = std::move(stream->queue.front());
    stream->queue.pop_front();
    operation.run();
  }
}
static void push(Stream* stream, std::function<void()> run) {
  stream->queue.push_back({std::move(run), nullptr});
  if (eager) drain(stream);
}
static void reach(Event* event, uint64_t version) {
  if (event->done < version) drain(event->stream, event, version);
}
static double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

typedef int R;
#define API extern "C" R
API cuInit(unsigned) { return getenv("PRETEND_NO_DEVICE") ? 100 : 0; }
API cuDriverGetVersion(int* version) { *version = 13000; return 0; }
API cuDeviceGetCount(int* count) { *count = 1; return 0; }
API cuDeviceGet(int* device, int ordinal) { *device = ordinal; return ordinal ? 101 : 0; }
API cuDeviceGetName(char* name, int size, int) { snprintf(name, size, "Pretend GPU"); return 0; }
API cuDeviceTotalMem_v2(size_t* size, int) { *size = 1ull << 34; return 0; }
API cuDeviceGetAttribute(int* value, int attribute, int) {
  switch (attribute) {
    case 16: *value = 2; break;    // multiprocessors: few, so that blocks make more than one turn
    case 75: *value = 9; break;    // compute capability
    case 76: *value = 0; break;
    case 115: *value = 1; break;   // memory pools
    default: *value = 0;
  }
  return 0;
}
static int context;
API cuDevicePrimaryCtxRetain(void** out, int) { *out = &context; return 0; }
API cuDevicePrimaryCtxRelease_v2(int) { return 0; }
static thread_local void* bound;
API cuCtxSetCurrent(void* to) { bound = to; return 0; }
API cuCtxGetCurrent(void** out) { *out = bound; return 0; }
API cuCtxSynchronize() { return 0; }
API cuGetErrorName(int, const char** name) { *name = "pretend"; return 0; }
API cuGetErrorString(int, const char** name) { *name = "pretend"; return 0; }
API cuMemGetInfo_v2(size_t* free, size_t* total) { *total = 1ull << 34; *free = *total - bytes_alive; return 0; }

API cuStreamCreate(void** out, unsigned) { *out = new Stream; return 0; }
API cuStreamDestroy_v2(void* stream) { LOCKED; drain((Stream*)stream); return 0; }
API cuStreamSynchronize(void* stream) { LOCKED; drain((Stream*)stream); check_guards(); return 0; }
API cuEventCreate(void** out, unsigned) { *out = new Event; return 0; }
API cuEventDestroy_v2(void*) { return 0; }
API cuEventRecord(void* out, void* stream) {
  LOCKED;
  Event* event = (Event*)out;
  event->stream = (Stream*)stream;
  uint64_t version = ++event->recorded;
  push((Stream*)stream, [=] { event->done = version; event->time = now(); });
  return 0;
}
API cuStreamWaitEvent(void* stream, void* in, unsigned) {
  LOCKED;
  Event* event = (Event*)in;
  if (!event->stream) return 0;
  uint64_t version = event->recorded;
  push((Stream*)stream, [=] { reach(event, version); });
  return 0;
}
API cuEventSynchronize(void* in) {
  LOCKED;
  Event* event = (Event*)in;
  if (event->stream) reach(event, event->recorded);
  return 0;
}
API cuEventQuery(void* in) { return ((Event*)in)->done < ((Event*)in)->recorded ? 600 : 0; }
API cuEventElapsedTime_v2(float* ms, void* a, void* b) { *ms = (float)((((Event*)b)->time - ((Event*)a)->time) * 1e3); return 0; }

API cuMemAllocAsync(uint64_t* out, size_t size, void*) {
  LOCKED;
  static const char* most = getenv("PRETEND_MEMORY");
  if (most && bytes_alive + size > strtoull(most, nullptr, 10)) return 2;
  *out = (uint64_t)allocate(size);
  return 0;
}
API cuMemFreeAsync(uint64_t memory, void* stream) { LOCKED; push((Stream*)stream, [=] { release((char*)memory); }); return 0; }
API cuMemAlloc_v2(uint64_t* out, size_t size) { return cuMemAllocAsync(out, size, nullptr); }
API cuMemFree_v2(uint64_t memory) { LOCKED; release((char*)memory); return 0; }
API cuMemHostAlloc(void** out, size_t size, unsigned) {
  LOCKED;
  *out = aligned_alloc(512, (size + 511) / 512 * 512);
  pinned[(char*)*out] = size;
  return 0;
}
API cuMemFreeHost(void* memory) { LOCKED; pinned.erase((char*)memory); free(memory); return 0; }
API cuMemsetD8Async(uint64_t memory, unsigned char value, size_t size, void* stream) {
  LOCKED;
  push((Stream*)stream, [=] { within(allocations, (void*)memory, size, "memset outside an allocation"); memset((void*)memory, value, size); });
  return 0;
}
API cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t size, void* stream) {
  LOCKED;
  auto check = [=] { within(allocations, (void*)to, size, "copy outside an allocation"); };
  if (is_pinned(from)) {
    // Pinned memory is read when the copy runs.
    push((Stream*)stream, [=] { check(); memcpy((void*)to, from, size); });
  } else {
    std::vector<char> staged((const char*)from, (const char*)from + size);
    push((Stream*)stream, [=] { check(); memcpy((void*)to, staged.data(), size); });
  }
  return 0;
}
API cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t size, void* stream) {
  LOCKED;
  auto copy = [=] { within(allocations, (void*)from, size, "copy outside an allocation"); memcpy(to, (void*)from, size); };
  if (is_pinned(to)) {
    push((Stream*)stream, copy);
  } else {
    drain((Stream*)stream);
    copy();
  }
  return 0;
}

API cuModuleLoadData(void** out, const void* image) {
  *out = &modules[!strcmp((const char*)image, "bf16")];
  return 0;
}
API cuModuleUnload(void*) { return 0; }
API cuModuleGetFunction(void** out, void* module, const char* name) {
  auto& functions = *(std::map<std::string, Function>*)module;
  auto found = functions.find(name);
  if (found == functions.end()) return 500;
  *out = &found->second;
  return 0;
}
API cuLaunchKernel(void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned,
                   void* stream, void** values, void**) {
  LOCKED;
  if (bound != &context) fault("a launch from a thread without the context");
  Function* kernel = (Function*)function;
  auto run = kernel->bind(values);
  bool waits = kernel->waits;
  push((Stream*)stream, [=] { run_kernel(run, waits, {gx, gy, gz}, {bx, by, bz}); });
  return 0;
}

// ---- NVRTC: the text was compiled already; what is left is which of the two it is.
struct Source { bool bf16; };
API nvrtcCreateProgram(void** out, const char* text, const char*, int, const char* const*, const char* const*) {
  *out = new Source{!strncmp(text, "#define MAP_BF16", 16)};
  return 0;
}
API nvrtcCompileProgram(void*, int, const char* const*) { return 0; }
API nvrtcDestroyProgram(void**) { return 0; }
API nvrtcGetProgramLogSize(void*, size_t* size) { *size = 1; return 0; }
API nvrtcGetProgramLog(void*, char* text) { *text = 0; return 0; }
API nvrtcGetPTXSize(void*, size_t* size) { *size = 5; return 0; }
API nvrtcGetPTX(void* in, char* text) { strcpy(text, ((Source*)in)->bf16 ? "bf16" : "f32"); return 0; }

// ---- cuDNN: convolutions by their definition.
struct Tensor { int format = 0, type = 0, n = 0, c = 0, h = 0, w = 0; };
struct Convolution { int padding = 0, stride = 1, math = 0; };
// A handle works on a stream of its own.
struct Handle { Stream* stream = nullptr; };
extern "C" size_t cudnnGetVersion() { return 91900; }
API cudnnCreate(void** out) { *out = new Handle; return bound == &context ? 0 : 1001; }
API cudnnDestroy(void* handle) { delete (Handle*)handle; return 0; }
API cudnnSetStream(void* handle, void* stream) { ((Handle*)handle)->stream = (Stream*)stream; return 0; }
API cudnnCreateTensorDescriptor(void** out) { *out = new Tensor; return 0; }
API cudnnCreateFilterDescriptor(void** out) { *out = new Tensor; return 0; }
API cudnnCreateConvolutionDescriptor(void** out) { *out = new Convolution; return 0; }
API cudnnDestroyTensorDescriptor(void* it) { delete (Tensor*)it; return 0; }
API cudnnDestroyFilterDescriptor(void* it) { delete (Tensor*)it; return 0; }
API cudnnDestroyConvolutionDescriptor(void* it) { delete (Convolution*)it; return 0; }
API cudnnSetTensor4dDescriptor(void* it, int format, int type, int n, int c, int h, int w) { *(Tensor*)it = {format, type, n, c, h, w}; return 0; }
API cudnnSetFilter4dDescriptor(void* it, int type, int format, int n, int c, int h, int w) { *(Tensor*)it = {format, type, n, c, h, w}; return 0; }
API cudnnSetConvolution2dDescriptor(void* it, int ph, int pw, int sh, int sw, int dh, int dw, int mode, int type) {
  if (ph != pw || sh != sw || dh != 1 || dw != 1 || mode != 1 || type != 0) return 2000;
  *(Convolution*)it = {ph, sh, 0};
  return 0;
}
API cudnnSetConvolutionMathType(void* it, int math) { ((Convolution*)it)->math = math; return 0; }

struct Performance { int algorithm, status; float time; size_t memory; int determinism, math, reserved[3]; };
static const size_t ROOM = 1000;
// Not deterministic; not supported; fails when it is run (4); works (1).
static R algorithms(int asked, int* found, Performance* out, int math) {
  Performance offers[4] = {{0, 0, 1, ROOM, 0, math, {}}, {3, 3000, -1, 0, 1, math, {}}, {4, 0, 2, ROOM, 1, math, {}}, {1, 0, 3, ROOM, 1, math, {}}};
  *found = std::min(asked, 4);
  memcpy(out, offers, sizeof(Performance) * *found);
  return 0;
}
#define HEURISTICS(name) \
  API name(void*, void*, void*, void* convolution, void*, int asked, int* found, void* out) { \
    return algorithms(asked, found, (Performance*)out, ((Convolution*)convolution)->math); \
  }
HEURISTICS(cudnnGetConvolutionForwardAlgorithm_v7)
HEURISTICS(cudnnGetConvolutionBackwardDataAlgorithm_v7)
HEURISTICS(cudnnGetConvolutionBackwardFilterAlgorithm_v7)
#define WORKSPACE_SIZE(name) \
  API name(void*, void*, void*, void*, void*, int, size_t* size) { *size = ROOM; return 0; }
WORKSPACE_SIZE(cudnnGetConvolutionForwardWorkspaceSize)
WORKSPACE_SIZE(cudnnGetConvolutionBackwardDataWorkspaceSize)
WORKSPACE_SIZE(cudnnGetConvolutionBackwardFilterWorkspaceSize)

static size_t bytes(const Tensor& t) { return (size_t)t.n * t.c * t.h * t.w * (t.type == 9 ? 2 : 4); }
static size_t place(const Tensor& t, int n, int c, int h, int w) {
  return t.format == 1 ? (((size_t)n * t.h + h) * t.w + w) * t.c + c : (((size_t)n * t.c + c) * t.h + h) * t.w + w;
}
static float rounded(float value, int math) {
  if (math == 3) return value;
  return __uint_as_float(__float_as_uint(value) & ~0x1fffu);
}
static float get(const Tensor& t, const void* data, size_t at, int math) {
  return t.type == 9 ? bfloats::load(((const uint16_t*)data)[at]) : rounded(((const float*)data)[at], math);
}
static void put(const Tensor& t, void* data, const std::vector<double>& values) {
  for (size_t i = 0; i < values.size(); i++)
    if (t.type == 9) ((uint16_t*)data)[i] = bfloats::store((float)values[i]);
    else ((float*)data)[i] = (float)values[i];
}

// direction 0: y from x and w; 1: x from w and y; 2: w from x and y. Tensors in (n, c, h, w), the filter as (k, c, kh, kw).
static R convolve(void* handle, int direction, const Tensor& x, void* xs, const Tensor& w, void* ws, const Tensor& y, void* ys,
                  const Convolution& convolution, int algorithm, void* room, size_t size, const void* alpha, const void* beta) {
  if (algorithm != 1) return 3000;
  // Odd numbers of channels that lie innermost.
  if (x.format == 1 && (x.c % 2 || y.c % 2)) return 3000;
  if (!room || size < ROOM || *(float*)alpha != 1.0f || *(float*)beta != 0.0f) return 2000;
  int p = convolution.padding, s = convolution.stride;
  if (w.c != x.c || y.c != w.n || y.n != x.n || y.h != (x.h + 2 * p - w.h) / s + 1 || y.w != (x.w + 2 * p - w.w) / s + 1) return 2000;
  if (x.type != y.type || x.type != w.type || x.format != y.format || x.format != w.format) return 2000;
  LOCKED;
  Convolution how = convolution;
  push(((Handle*)handle)->stream, [=] {
    within(allocations, xs, bytes(x), "cuDNN's input outside an allocation");
    within(allocations, ws, bytes(w), "cuDNN's weight outside an allocation");
    within(allocations, ys, bytes(y), "cuDNN's output outside an allocation");
    within(allocations, room, size, "cuDNN's workspace outside an allocation");
    memset(room, 0xff, size);
    const Tensor& to = direction == 0 ? y : direction == 1 ? x : w;
    std::vector<double> sums((size_t)to.n * to.c * to.h * to.w, 0.0);
    for (int n = 0; n < x.n; n++)
      for (int k = 0; k < w.n; k++)
        for (int oh = 0; oh < y.h; oh++)
          for (int ow = 0; ow < y.w; ow++) {
            size_t at_y = place(y, n, k, oh, ow);
            float grad = direction == 0 ? 0.0f : get(y, ys, at_y, how.math);
            for (int i = 0; i < w.h; i++)
              for (int j = 0; j < w.w; j++) {
                int h = oh * s + i - p, v = ow * s + j - p;
                if (h < 0 || v < 0 || h >= x.h || v >= x.w) continue;
                for (int c = 0; c < x.c; c++) {
                  size_t at_x = place(x, n, c, h, v), at_w = place(w, k, c, i, j);
                  if (direction == 0) sums[at_y] += (double)get(x, xs, at_x, how.math) * get(w, ws, at_w, how.math);
                  if (direction == 1) sums[at_x] += (double)grad * get(w, ws, at_w, how.math);
                  if (direction == 2) sums[at_w] += (double)grad * get(x, xs, at_x, how.math);
                }
              }
          }
    put(to, direction == 0 ? ys : direction == 1 ? xs : ws, sums);
  });
  return 0;
}
API cudnnConvolutionForward(void* handle, const void* alpha, void* x, void* xs, void* w, void* ws, void* convolution, int algorithm,
                            void* room, size_t size, const void* beta, void* y, void* ys) {
  return convolve(handle, 0, *(Tensor*)x, xs, *(Tensor*)w, ws, *(Tensor*)y, ys, *(Convolution*)convolution, algorithm, room, size, alpha, beta);
}
API cudnnConvolutionBackwardData(void* handle, const void* alpha, void* w, void* ws, void* y, void* ys, void* convolution, int algorithm,
                                 void* room, size_t size, const void* beta, void* x, void* xs) {
  return convolve(handle, 1, *(Tensor*)x, xs, *(Tensor*)w, ws, *(Tensor*)y, ys, *(Convolution*)convolution, algorithm, room, size, alpha, beta);
}
API cudnnConvolutionBackwardFilter(void* handle, const void* alpha, void* x, void* xs, void* y, void* ys, void* convolution, int algorithm,
                                   void* room, size_t size, const void* beta, void* w, void* ws) {
  return convolve(handle, 2, *(Tensor*)x, xs, *(Tensor*)w, ws, *(Tensor*)y, ys, *(Convolution*)convolution, algorithm, room, size, alpha, beta);
}
