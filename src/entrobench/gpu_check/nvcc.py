"""A kernel that nvcc compiles and links, as vLLM and flashinfer have it do when they start. Needs no GPU."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from entrobench.gpu_check.triton import ARCHITECTURES

# Headers of the runtime and of cccl, and a symbol of the runtime's library, which is looked for where torch's
# and flashinfer's builds look, in lib64
SOURCE = """\
#include <cuda/std/type_traits>
#include <cuda_bf16.h>
#include <cuda_runtime.h>
__global__ void twice(__nv_bfloat16* x) { x[threadIdx.x] = x[threadIdx.x] + x[threadIdx.x]; }
extern "C" int devices(void) { int count = 0; return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0; }
extern "C" void run(__nv_bfloat16* x) { twice<<<1, 32>>>(x); }
"""


def find_nvcc() -> str | None:
    """nvcc of CUDA_HOME, where the images have it, or of PATH."""
    home = os.environ.get("CUDA_HOME")
    return shutil.which("nvcc", path=f"{home}/bin") if home else shutil.which("nvcc")


def check_nvcc() -> dict[str, float]:
    """Bytes of a linked library for each architecture. Raises AssertionError with what nvcc says."""
    nvcc = find_nvcc()
    assert nvcc, "CUDA_HOME and PATH have no nvcc"
    figures = {}
    for architecture in ARCHITECTURES:
        with tempfile.TemporaryDirectory() as folder:
            source, library = Path(folder) / "twice.cu", Path(folder) / "twice.so"
            source.write_text(SOURCE)
            command = [
                nvcc,
                f"-arch=sm_{architecture}",
                "-shared",
                "-Xcompiler",
                "-fPIC",
                "-cudart",
                "shared",
            ]
            command += [f"-L{Path(nvcc).parents[1] / 'lib64'}", "-o", str(library), str(source)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
            figures[f"sm_{architecture}: bytes of a library"] = float(library.stat().st_size)
    return figures
