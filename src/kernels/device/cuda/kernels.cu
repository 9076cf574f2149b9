// The device's own kernels: everything but convolutions, which are cuDNN's. Compiled by NVRTC when a device is opened, without any
// header, once with map_t = float and once with map_t = bfloat16 (MAP_BF16). ci/gpu-pretend.sh compiles the same text for the CPU.
//
// A map (N, C, positions) lies planar, (N, C, positions), or with the channels innermost, (N, positions, C): `inner` is 0 or 1.
// Indices are 32-bit: the host refuses tensors of 2^31 values. No atomics: every sum has one order, so results repeat.

#ifdef MAP_BF16
typedef unsigned short map_t;
static __device__ __forceinline__ float load(map_t value) { return __uint_as_float(((unsigned)value) << 16); }
static __device__ __forceinline__ map_t store(float value) {
  unsigned bits = __float_as_uint(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return (map_t)((bits >> 16) | 0x40u);
  return (map_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
#else
typedef float map_t;
static __device__ __forceinline__ float load(map_t value) { return value; }
static __device__ __forceinline__ map_t store(float value) { return value; }
#endif

#define EACH(i, total) \
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < (total); i += gridDim.x * blockDim.x)

static __device__ __forceinline__ unsigned channel_of(unsigned i, unsigned channels, unsigned positions, unsigned inner) {
  return inner ? i % channels : (i / positions) % channels;
}

static __device__ __forceinline__ unsigned place(
    unsigned n, unsigned c, unsigned p, unsigned channels, unsigned positions, unsigned inner) {
  return inner ? (n * positions + p) * channels + c : (n * channels + c) * positions + p;
}

// (N, C, H, W) floats to a map.
extern "C" __global__ void import_map(
    const float* in, map_t* out, unsigned channels, unsigned positions, unsigned inner, unsigned total) {
  EACH(i, total) {
    unsigned from = i;
    if (inner) {
      unsigned row = i / channels;
      from = ((row / positions) * channels + i % channels) * positions + row % positions;
    }
    out[i] = store(in[from]);
  }
}

// A map to (N, C, H, W) floats.
extern "C" __global__ void export_map(
    const map_t* in, float* out, unsigned channels, unsigned positions, unsigned inner, unsigned total) {
  EACH(i, total) {
    unsigned p = i % positions, plane = i / positions;
    out[i] = load(in[place(plane / channels, plane % channels, p, channels, positions, inner)]);
  }
}

// Convolution weights (O, I, k, k) to what cuDNN reads: the same order, or (O, k, k, I).
extern "C" __global__ void pack_weight(
    const float* in, map_t* out, unsigned channels, unsigned area, unsigned inner, unsigned total) {
  EACH(i, total) {
    unsigned from = i;
    if (inner) {
      unsigned row = i / channels;
      from = ((row / area) * channels + i % channels) * area + row % area;
    }
    out[i] = store(in[from]);
  }
}

// The inverse, for the weight's gradient.
extern "C" __global__ void unpack_gradient(
    const map_t* in, float* out, unsigned channels, unsigned area, unsigned inner, unsigned total) {
  EACH(i, total) {
    unsigned k = i % area, plane = i / area;
    out[i] = load(in[place(plane / channels, plane % channels, k, channels, area, inner)]);
  }
}

extern "C" __global__ void add_maps(map_t* sum, const map_t* term, unsigned total) {
  EACH(i, total) sum[i] = store(load(sum[i]) + load(term[i]));
}

extern "C" __global__ void add_floats(float* sum, const float* term, unsigned total) {
  EACH(i, total) sum[i] += term[i];
}

// ---- Batch norm. Sums of each channel in f64, in two stages; blocks are (32, 8).

struct Pair {
  double first, second;
};

struct Moments {
  const map_t* z;
  __device__ __forceinline__ Pair operator()(unsigned i, unsigned) const {
    double value = (double)load(z[i]);
    Pair pair = {value, value * value};
    return pair;
  }
};

// The gradient, where the ReLU let something through, and its product with the centred input.
struct GradientSums {
  const map_t* z;
  const map_t* grad;
  const map_t* out;
  const float* mean;
  unsigned relu;
  __device__ __forceinline__ Pair operator()(unsigned i, unsigned c) const {
    float g = relu && load(out[i]) <= 0.0f ? 0.0f : load(grad[i]);
    Pair pair = {(double)g, (double)g * (double)(load(z[i]) - mean[c])};
    return pair;
  }
};

// partial[(split * channels + c) * 2 ..]; the grid is (channel blocks, splits).
template <class Term>
static __device__ void sum_channels(
    const Term& term, double* partial, unsigned batch, unsigned channels, unsigned positions, unsigned inner) {
  __shared__ double first[256], second[256];
  unsigned thread = threadIdx.y * 32 + threadIdx.x;
  double a = 0.0, b = 0.0;
  if (inner) {
    unsigned c = blockIdx.x * 32 + threadIdx.x, rows = batch * positions;
    if (c < channels)
      for (unsigned row = blockIdx.y * 8 + threadIdx.y; row < rows; row += gridDim.y * 8) {
        Pair pair = term(row * channels + c, c);
        a += pair.first;
        b += pair.second;
      }
  } else {
    unsigned c = blockIdx.x, values = batch * positions;
    for (unsigned j = blockIdx.y * 256 + thread; j < values; j += gridDim.y * 256) {
      Pair pair = term(((j / positions) * channels + c) * positions + j % positions, c);
      a += pair.first;
      b += pair.second;
    }
  }
  first[thread] = a;
  second[thread] = b;
  __syncthreads();
  // Over all threads for planes, over the rows of the block (y) for innermost channels.
  for (unsigned half = 128; half >= (inner ? 32u : 1u); half /= 2) {
    if (thread < half) {
      first[thread] += first[thread + half];
      second[thread] += second[thread + half];
    }
    __syncthreads();
  }
  unsigned c = inner ? blockIdx.x * 32 + threadIdx.x : blockIdx.x;
  if ((inner ? threadIdx.y == 0 : thread == 0) && c < channels) {
    partial[(blockIdx.y * channels + c) * 2] = first[thread];
    partial[(blockIdx.y * channels + c) * 2 + 1] = second[thread];
  }
}

extern "C" __global__ void norm_moments(
    const map_t* z, double* partial, unsigned batch, unsigned channels, unsigned positions, unsigned inner) {
  Moments term = {z};
  sum_channels(term, partial, batch, channels, positions, inner);
}

extern "C" __global__ void norm_gradient_sums(
    const map_t* z, const map_t* grad, const map_t* out, const float* mean, unsigned relu, double* partial, unsigned batch,
    unsigned channels, unsigned positions, unsigned inner) {
  GradientSums term = {z, grad, out, mean, relu};
  sum_channels(term, partial, batch, channels, positions, inner);
}

// The parts of a channel's sums added up: 32 threads for each of the 8 channels of a block, then a tree.
static __device__ __forceinline__ Pair total_of(const double* partial, unsigned splits, unsigned channels, unsigned c) {
  __shared__ double first[256], second[256];
  unsigned thread = threadIdx.y * 32 + threadIdx.x;
  double a = 0.0, b = 0.0;
  if (c < channels)
    for (unsigned split = threadIdx.x; split < splits; split += 32) {
      a += partial[(split * channels + c) * 2];
      b += partial[(split * channels + c) * 2 + 1];
    }
  first[thread] = a;
  second[thread] = b;
  __syncthreads();
  for (unsigned half = 16; half > 0; half /= 2) {
    if (threadIdx.x < half) {
      first[thread] += first[thread + half];
      second[thread] += second[thread + half];
    }
    __syncthreads();
  }
  Pair total = {first[threadIdx.y * 32], second[threadIdx.y * 32]};
  return total;
}

// Mean and biased variance from the partial sums; the running statistics take them over (the variance unbiased), as in PyTorch.
extern "C" __global__ void norm_finish_moments(
    const double* partial, unsigned splits, unsigned channels, unsigned count, const float* gamma, float epsilon,
    float momentum, float* mean, float* variance, float* scale, float* running_mean, float* running_variance) {
  unsigned c = blockIdx.x * 8 + threadIdx.y;
  Pair total = total_of(partial, splits, channels, c);
  if (threadIdx.x != 0 || c >= channels) return;
  double centre = total.first / count, spread = total.second / count - centre * centre;
  // A NaN stays one.
  if (spread < 0.0) spread = 0.0;
  mean[c] = (float)centre;
  variance[c] = (float)spread;
  scale[c] = gamma[c] / sqrtf((float)spread + epsilon);
  if (momentum > 0.0f) {
    float unbiased = (float)count / (count > 1 ? (float)count - 1.0f : 1.0f);
    running_mean[c] += momentum * ((float)centre - running_mean[c]);
    running_variance[c] += momentum * ((float)spread * unbiased - running_variance[c]);
  }
}

extern "C" __global__ void norm_scale(
    const float* gamma, const float* variance, float epsilon, float* scale, unsigned channels) {
  EACH(c, channels) scale[c] = gamma[c] / sqrtf(variance[c] + epsilon);
}

// out = relu((z - mean) scale + shift + residual); the residual may be null. `out` may be `z`.
extern "C" __global__ void norm_apply(
    const map_t* z, const float* mean, const float* scale, const float* shift, const map_t* residual, unsigned relu,
    map_t* out, unsigned channels, unsigned positions, unsigned inner, unsigned total) {
  EACH(i, total) {
    unsigned c = channel_of(i, channels, positions, inner);
    float value = (load(z[i]) - mean[c]) * scale[c] + shift[c];
    if (residual) value += load(residual[i]);
    out[i] = store(relu && value <= 0.0f ? 0.0f : value);
  }
}

// The gradients of scale and shift, and the coefficients of norm_spread: scale, mean gradient, slope.
extern "C" __global__ void norm_finish_sums(
    const double* partial, unsigned splits, unsigned channels, unsigned count, const float* gamma, const float* variance,
    float epsilon, float* grad_gamma, float* grad_beta, float* coefficients) {
  unsigned c = blockIdx.x * 8 + threadIdx.y;
  Pair total = total_of(partial, splits, channels, c);
  if (threadIdx.x != 0 || c >= channels) return;
  double inverse = 1.0 / sqrt((double)variance[c] + (double)epsilon);
  grad_beta[c] = (float)total.first;
  grad_gamma[c] = (float)(total.second * inverse);
  coefficients[c * 3] = gamma[c] * (float)inverse;
  coefficients[c * 3 + 1] = (float)(total.first / count);
  coefficients[c * 3 + 2] = (float)(total.second * inverse * inverse / count);
}

// z becomes its own gradient; grad becomes the masked gradient, which is the residual's.
extern "C" __global__ void norm_spread(
    map_t* z, map_t* grad, const map_t* out, const float* mean, const float* coefficients, unsigned relu, unsigned channels,
    unsigned positions, unsigned inner, unsigned total) {
  EACH(i, total) {
    unsigned c = channel_of(i, channels, positions, inner);
    float g = relu && load(out[i]) <= 0.0f ? 0.0f : load(grad[i]);
    grad[i] = store(g);
    z[i] = store((g - coefficients[c * 3 + 1] - (load(z[i]) - mean[c]) * coefficients[c * 3 + 2]) * coefficients[c * 3]);
  }
}

// The same with constant statistics.
extern "C" __global__ void norm_eval_backward(
    map_t* grad, const map_t* out, const float* scale, unsigned relu, map_t* grad_z, unsigned channels, unsigned positions,
    unsigned inner, unsigned total) {
  EACH(i, total) {
    float g = relu && load(out[i]) <= 0.0f ? 0.0f : load(grad[i]);
    grad[i] = store(g);
    grad_z[i] = store(g * scale[channel_of(i, channels, positions, inner)]);
  }
}

// A convolution without a norm: out = relu(out + residual).
extern "C" __global__ void finish_plain(map_t* out, const map_t* residual, unsigned relu, unsigned total) {
  EACH(i, total) {
    float value = load(out[i]);
    if (residual) value += load(residual[i]);
    out[i] = store(relu && value <= 0.0f ? 0.0f : value);
  }
}

extern "C" __global__ void mask_by_output(map_t* grad, const map_t* out, unsigned total) {
  EACH(i, total) if (load(out[i]) <= 0.0f) grad[i] = store(0.0f);
}

// ---- Pooling.

extern "C" __global__ void max_pool(
    const map_t* in, map_t* out, unsigned char* winner, unsigned channels, unsigned in_height, unsigned in_width,
    unsigned out_height, unsigned out_width, unsigned kernel, unsigned stride, unsigned padding, unsigned inner,
    unsigned total) {
  EACH(i, total) {
    unsigned c, p, n, positions = out_height * out_width;
    if (inner) {
      c = i % channels;
      p = (i / channels) % positions;
      n = i / channels / positions;
    } else {
      p = i % positions;
      c = (i / positions) % channels;
      n = i / positions / channels;
    }
    unsigned top = (p / out_width) * stride, left = (p % out_width) * stride;
    float best = 0.0f;
    unsigned which = 0, seen = 0;
    for (unsigned k = 0; k < kernel * kernel; k++) {
      // Below zero wraps round and is too large, too.
      unsigned row = top + k / kernel - padding, column = left + k % kernel - padding;
      if (row >= in_height || column >= in_width) continue;
      float value = load(in[place(n, c, row * in_width + column, channels, in_height * in_width, inner)]);
      if (!seen || value > best || value != value) {
        best = value;
        which = k;
      }
      seen = 1;
    }
    out[i] = store(best);
    winner[i] = (unsigned char)which;
  }
}

// Each input collects from the windows that it won: no two threads write one place.
extern "C" __global__ void max_pool_backward(
    const unsigned char* winner, const map_t* grad, map_t* grad_in, unsigned channels, unsigned in_height, unsigned in_width,
    unsigned out_height, unsigned out_width, unsigned kernel, unsigned stride, unsigned padding, unsigned inner,
    unsigned total) {
  EACH(i, total) {
    unsigned c, p, n, positions = in_height * in_width;
    if (inner) {
      c = i % channels;
      p = (i / channels) % positions;
      n = i / channels / positions;
    } else {
      p = i % positions;
      c = (i / positions) % channels;
      n = i / positions / channels;
    }
    unsigned row = p / in_width + padding, column = p % in_width + padding;
    unsigned first_row = row < kernel ? 0 : (row - kernel) / stride + 1;
    unsigned first_column = column < kernel ? 0 : (column - kernel) / stride + 1;
    float sum = 0.0f;
    for (unsigned y = first_row; y < out_height && y * stride <= row; y++)
      for (unsigned x = first_column; x < out_width && x * stride <= column; x++) {
        unsigned from = place(n, c, y * out_width + x, channels, out_height * out_width, inner);
        if (winner[from] == (row - y * stride) * kernel + (column - x * stride)) sum += load(grad[from]);
      }
    grad_in[i] = store(sum);
  }
}

// Means (N, C) as floats, whatever a map holds.
extern "C" __global__ void average_pool(
    const map_t* in, float* out, unsigned channels, unsigned positions, unsigned inner, unsigned total) {
  EACH(i, total) {
    float sum = 0.0f;
    for (unsigned p = 0; p < positions; p++) sum += load(in[place(i / channels, i % channels, p, channels, positions, inner)]);
    out[i] = sum / (float)positions;
  }
}

extern "C" __global__ void average_pool_backward(
    const float* grad, map_t* grad_in, unsigned channels, unsigned positions, unsigned inner, unsigned total) {
  EACH(i, total) {
    unsigned c = channel_of(i, channels, positions, inner), n = i / channels / positions;
    grad_in[i] = store(grad[n * channels + c] / (float)positions);
  }
}

// ---- The linear layer and the loss, always in floats. Blocks of `linear` are (32, 8): a row of threads for each output.

extern "C" __global__ void linear(
    const float* in, const float* weight, const float* bias, float* out, unsigned features, unsigned classes, unsigned total) {
  __shared__ float sums[256];
  unsigned thread = threadIdx.y * 32 + threadIdx.x, output = blockIdx.x * 8 + threadIdx.y;
  float sum = 0.0f;
  if (output < total) {
    const float* row = in + (output / classes) * features;
    const float* weights = weight + (output % classes) * features;
    for (unsigned c = threadIdx.x; c < features; c += 32) sum += row[c] * weights[c];
  }
  sums[thread] = sum;
  __syncthreads();
  for (unsigned half = 16; half > 0; half /= 2) {
    if (threadIdx.x < half) sums[thread] += sums[thread + half];
    __syncthreads();
  }
  if (threadIdx.x == 0 && output < total) out[output] = sums[thread] + bias[output % classes];
}

extern "C" __global__ void linear_grad_input(
    const float* grad, const float* weight, float* grad_in, unsigned features, unsigned classes, unsigned total) {
  EACH(i, total) {
    float sum = 0.0f;
    for (unsigned k = 0; k < classes; k++) sum += grad[(i / features) * classes + k] * weight[k * features + i % features];
    grad_in[i] = sum;
  }
}

// `total` weights (K, C), then K biases.
extern "C" __global__ void linear_grad_weight(
    const float* grad, const float* in, float* grad_weight, float* grad_bias, unsigned features, unsigned classes,
    unsigned batch, unsigned total) {
  EACH(i, total + classes) {
    unsigned k = i < total ? i / features : i - total;
    float sum = 0.0f;
    for (unsigned n = 0; n < batch; n++) sum += grad[n * classes + k] * (i < total ? in[n * features + i % features] : 1.0f);
    if (i < total) grad_weight[i] = sum;
    else grad_bias[k] = sum;
  }
}

// Cross-entropy of each image in nats, and the gradient of their mean.
extern "C" __global__ void cross_entropy(
    const float* logits, const unsigned* labels, double* losses, float* gradient, unsigned classes, unsigned batch) {
  EACH(n, batch) {
    const float* row = logits + n * classes;
    double largest = (double)row[0], sum = 0.0;
    for (unsigned k = 1; k < classes; k++) largest = (double)row[k] > largest ? (double)row[k] : largest;
    for (unsigned k = 0; k < classes; k++) sum += exp((double)row[k] - largest);
    losses[n] = largest + log(sum) - (double)row[labels[n]];
    for (unsigned k = 0; k < classes; k++) {
      double share = exp((double)row[k] - largest) / sum - (k == labels[n] ? 1.0 : 0.0);
      gradient[n * classes + k] = (float)(share / (double)batch);
    }
  }
}

// ---- Optimisers (PyTorch's formulas): where the mask is 0, weight and state become exactly 0.

extern "C" __global__ void sgd_step(
    float* weight, const float* grad, const unsigned char* mask, float* buffer, float rate, float momentum, float decay,
    unsigned first_step, unsigned total) {
  EACH(i, total) {
    float gradient = grad[i] + decay * weight[i];
    float moved = first_step ? gradient : momentum * buffer[i] + gradient;
    unsigned kept = !mask || mask[i];
    buffer[i] = kept ? moved : 0.0f;
    weight[i] = kept ? weight[i] - rate * moved : 0.0f;
  }
}

extern "C" __global__ void adam_step(
    float* weight, const float* grad, const unsigned char* mask, float* first, float* second, float step_size, float beta1,
    float beta2, float epsilon, float root_correction, float keep, float decay, unsigned total) {
  EACH(i, total) {
    float gradient = grad[i] + decay * weight[i];
    float a = beta1 * first[i] + (1.0f - beta1) * gradient;
    float b = beta2 * second[i] + (1.0f - beta2) * gradient * gradient;
    float moved = weight[i] * keep - step_size * a / (sqrtf(b) / root_correction + epsilon);
    unsigned kept = !mask || mask[i];
    first[i] = kept ? a : 0.0f;
    second[i] = kept ? b : 0.0f;
    weight[i] = kept ? moved : 0.0f;
  }
}

// ---- Inner products of rows: out (m, n) = left (m, d) right (n, d)^T. Products of floats, which are exact in f64, and sums in f64.
// Blocks are (16, 16) for tiles of 64 x 64, four by four sums a thread.

extern "C" __global__ void row_products(
    const float* left, const float* right, double* out, unsigned m, unsigned n, unsigned long long d) {
  __shared__ double a[16][65], b[16][65];
  unsigned thread = threadIdx.y * 16 + threadIdx.x, top = blockIdx.y * 64, side = blockIdx.x * 64;
  double sums[4][4];
  for (unsigned i = 0; i < 4; i++)
    for (unsigned j = 0; j < 4; j++) sums[i][j] = 0.0;
  for (unsigned long long start = 0; start < d; start += 16) {
    // 64 rows of 16 values for each side; neighbouring threads read neighbouring values.
    for (unsigned i = 0; i < 4; i++) {
      unsigned row = thread / 16 + i * 16, k = thread % 16;
      unsigned inside = start + k < d;
      a[k][row] = inside && top + row < m ? (double)left[(top + row) * d + start + k] : 0.0;
      b[k][row] = inside && side + row < n ? (double)right[(side + row) * d + start + k] : 0.0;
    }
    __syncthreads();
    for (unsigned k = 0; k < 16; k++)
      for (unsigned i = 0; i < 4; i++)
        for (unsigned j = 0; j < 4; j++)
          sums[i][j] = fma(a[k][threadIdx.y + i * 16], b[k][threadIdx.x + j * 16], sums[i][j]);
    __syncthreads();
  }
  for (unsigned i = 0; i < 4; i++)
    for (unsigned j = 0; j < 4; j++) {
      unsigned row = top + threadIdx.y + i * 16, column = side + threadIdx.x + j * 16;
      if (row < m && column < n) out[(unsigned long long)row * n + column] = sums[i][j];
    }
}
