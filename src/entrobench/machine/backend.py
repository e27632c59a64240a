"""Whether this machine can run vLLM's CPU build, or transformers has to stand in."""

import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from entrobench.errors import UnsupportedPlatform

Backend = Literal["vllm", "transformers"]

# For every process on a CPU that it shares. Threads that spin while they wait for each other take
# the cores that they wait for: beside a second busy process a step takes ten times as long.
CPU_ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    # vLLM would compile its sampler, seconds in each process, for what are milliseconds here
    "TORCH_COMPILE_DISABLE": "1",
}


# Of CUDA 13, which the locked torch and vLLM are built for
OLDEST_DRIVER = 580
OLD_DRIVER = (
    f"the images' CUDA 13 wants {OLDEST_DRIVER} or newer. Ask for it, or, on a data-centre GPU with a driver "
    "from 535 on, put NVIDIA's cuda-compat-13-0 first on LD_LIBRARY_PATH (APPTAINERENV_LD_LIBRARY_PATH)"
)


def choose_backend() -> Backend:
    """`vllm` where its CPU build runs, else `transformers`, with a notice on standard error.

    ENTROBENCH_BACKEND=transformers asks for the stand-in.
    """
    wanted = os.environ.get("ENTROBENCH_BACKEND", "")
    reason = "ENTROBENCH_BACKEND asks for it" if wanted == "transformers" else why_not_vllm()
    if reason is None:
        return "vllm"
    print(
        f"entrobench: notice: transformers generates in place of vLLM, more slowly: {reason}", file=sys.stderr
    )
    return "transformers"


def why_not_vllm() -> str | None:
    """Why vLLM's CPU build does not run here, or None if it does."""
    if sys.platform != "linux":
        return f"vLLM's CPU build is for Linux, this is {platform.system()}"
    if platform.machine() != "x86_64":
        return f"vLLM's CPU build is for x86_64, this is {platform.machine()}"
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    if "avx2" not in flags and "avx512f" not in flags:
        return "this processor has neither AVX2 nor AVX-512"
    try:
        importlib.metadata.version("vllm-cpu")
    except importlib.metadata.PackageNotFoundError:
        return "vLLM's CPU build (vllm-cpu) is not installed"
    return None


def gpus() -> list[dict[str, str]]:
    """Model, driver and memory of each GPU by nvidia-smi; empty where there is none."""
    fields = ("name", "driver_version", "memory.total")
    try:
        done = subprocess.run(
            ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [line.split(", ") for line in done.stdout.splitlines() if line.strip()]
    return [dict(zip(("name", "driver", "memory"), row, strict=True)) for row in rows if len(row) == 3]


def gpu_memory_gb() -> float:
    """GiB of the smallest GPU of this machine.

    Raises UnsupportedPlatform where nvidia-smi names none, or a driver that is too old for the images.
    """
    found = gpus()
    try:
        memory = min(float(gpu["memory"].removesuffix("MiB")) for gpu in found) / 1024
    except ValueError as error:
        raise UnsupportedPlatform(
            f"nvidia-smi: expected GPUs and their memory in MiB; found {found or 'none'}. In a container: "
            "is it started with --nv?"
        ) from error
    driver = found[0]["driver"]
    if is_too_old(driver) and not _has_newer_libcuda():
        raise UnsupportedPlatform(f"NVIDIA driver {driver}: {OLD_DRIVER}")
    return memory


def is_too_old(driver: str) -> bool:
    """Whether an NVIDIA driver, such as 570.124.06, cannot run the CUDA of the images."""
    return int(driver.split(".")[0]) < OLDEST_DRIVER


def _has_newer_libcuda() -> bool:
    """Whether cuda-compat's libcuda comes first: then the driver below it may be older."""
    first = os.environ.get("LD_LIBRARY_PATH", "").split(":")[0]
    return "compat" in first and (Path(first) / "libcuda.so.1").exists()


def alias_vllm_cpu() -> None:
    """Let importlib.metadata answer for "vllm" with the version of "vllm-cpu", marked "+cpu" for vLLM."""
    original = importlib.metadata.version
    if getattr(original, "knows_vllm_cpu", False):
        return

    def version(name: str) -> str:
        try:
            return original(name)
        except importlib.metadata.PackageNotFoundError:
            if name == "vllm":
                return original("vllm-cpu") + "+cpu"
            raise

    version.knows_vllm_cpu = True  # type: ignore[attr-defined]
    importlib.metadata.version = version  # type: ignore[assignment]


def gpu_state() -> dict[str, Any]:
    """Clocks, power limit and links of the GPUs, and their wiring, by nvidia-smi; empty without GPUs."""
    fields = ("clocks.max.sm", "clocks.applications.graphics", "power.limit", "pcie.link.gen.max")
    found: dict[str, Any] = {}
    with suppress(OSError, subprocess.SubprocessError):
        listed = _nvidia_smi(f"--query-gpu={','.join(fields)}", "--format=csv,noheader")
        rows = [line.split(", ") for line in listed.splitlines() if line.strip()]
        found["state"] = [dict(zip(fields, row, strict=False)) for row in rows]
        found["topology"] = _nvidia_smi("topo", "-m").splitlines()
    return found


def _nvidia_smi(*arguments: str) -> str:
    done = subprocess.run(["nvidia-smi", *arguments], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


def raise_file_limit(wanted: int = 65536) -> None:
    """Let this process and what it starts open as many files as they may, up to `wanted`: Ray and vLLM have
    thousands of sockets on a large node.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
