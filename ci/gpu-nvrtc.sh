#!/usr/bin/env bash
# src/kernels/device/cuda/kernels.cu through the real NVRTC (nvidia-cuda-nvrtc, a Python package), down to machine code, as a GPU machine
# will compile it. No GPU needed. Prints registers and what is spilled.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$(mkdir -p "${CARGO_TARGET_DIR:-target}/gpu-nvrtc" && cd "${CARGO_TARGET_DIR:-target}/gpu-nvrtc" && pwd)
[ -d "$dir/nvidia" ] || python3 -m pip install -q --no-deps --no-compile --only-binary=:all: --target "$dir" nvidia-cuda-nvrtc==13.0.88
LD_LIBRARY_PATH=$dir/nvidia/cu13/lib python3 - src/kernels/device/cuda/kernels.cu <<'PY'
import ctypes, re, sys
nvrtc = ctypes.CDLL("libnvrtc.so.13")
source = open(sys.argv[1], "rb").read()
for define in [b"", b"#define MAP_BF16\n"]:
    for arch in [b"compute_90", b"sm_80", b"sm_90"]:
        program, size = ctypes.c_void_p(), ctypes.c_size_t()
        assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), define + source, b"kernels.cu", 0, None, None) == 0
        options = [b"--gpu-architecture=" + arch, b"--fmad=false"] + ([b"--ptxas-options=-v"] if arch.startswith(b"sm") else [])
        failed = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
        nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        nvrtc.nvrtcGetProgramLog(program, log)
        text = log.value.decode()
        registers = [int(n) for n in re.findall(r"Used (\d+) registers", text)]
        spilled = [n for n in re.findall(r"(\d+) bytes spill", text) if n != "0"]
        print(f"{'bf16' if define else 'f32 '} {arch.decode():10} {'FAILED' if failed else 'compiled'}",
              f"{len(registers)} kernels, at most {max(registers)} registers, {len(spilled)} spills" if registers else "")
        if failed or spilled or "warning" in text:
            sys.exit(text)
PY
