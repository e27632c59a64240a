"""Measures the token statistics, and log-probability and entropy with their gradient, against verl's
log-probability and entropy: time, bandwidth, extra memory.

    python benchmarks/kernels.py        (about five minutes; nothing else should run on the machine)

Each ratio is of medians over repetitions of one run in which the two take turns. Memory on a CPU is the peak
resident memory of a process of its own beyond what it held once the logits existed. What needs a GPU is not
run where there is none.
"""

import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import psutil
import torch

from entrobench.kernels import log_prob_and_entropy, token_stats, token_stats_from_hidden

VOCABULARY = 151_936
CPU_ROWS = 1024
GPU_ROWS = 16_384
DEPTH = 3584
# Of the passes with gradient, whose gradient is as large as the logits
GRADIENT_ROWS = 512
REPETITIONS = 5
THREADS = 2


Pair = tuple[torch.Tensor, torch.Tensor]


def verl_pass() -> Callable[[torch.Tensor, torch.Tensor], Pair]:
    """verl's own pass over logits: log-probability of the tokens, then entropy."""
    if not torch.cuda.is_available():
        # Both are read when verl is imported
        os.environ["VERL_PLATFORM"] = "cpu"
        os.environ["VERL_USE_EXTERNAL_MODULES"] = "entrobench.training.cpu_platform"
    from verl.utils.torch_functional import entropy_from_logits, logprobs_from_logits

    def run(logits: torch.Tensor, tokens: torch.Tensor) -> Pair:
        return logprobs_from_logits(logits, tokens, inplace_backward=False), entropy_from_logits(logits)

    return run


def our_pass(logits: torch.Tensor, tokens: torch.Tensor) -> Pair:
    """Log-probability and entropy that carry a gradient."""
    return log_prob_and_entropy(logits, tokens, 1.0)


def backward(
    run: Callable[[torch.Tensor, torch.Tensor], Pair], logits: torch.Tensor, tokens: torch.Tensor
) -> None:
    """Forward and backward of a policy loss with an entropy bonus."""
    logp, entropy = run(logits, tokens)
    loss = -(logp.float().mean() + 0.01 * entropy.float().mean())
    torch.autograd.grad(loss, logits)


def seconds_of(run: Callable[[], object]) -> float:
    """Wall seconds of one call, the GPU's work included."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    started = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def medians(*runs: Callable[[], object]) -> list[float]:
    """Median seconds of each, taking turns, after one call each that is not counted."""
    for run in runs:
        run()
    seconds = [[seconds_of(run) for run in runs] for _ in range(REPETITIONS)]
    return [statistics.median(of_run) for of_run in zip(*seconds, strict=True)]


def row(name: str, figure: float, limit: float, unit: str = "", at_least: bool = False) -> None:
    """One line of the table."""
    reached = figure >= limit if at_least else figure <= limit
    target = f"{'>=' if at_least else '<='} {limit:g}{unit}"
    print(f"{name:66s} {figure:9.3f}{unit:3s} {target:>12s}   {'yes' if reached else 'no'}", flush=True)


def note(name: str, text: str) -> None:
    """A line without a target."""
    print(f"{name:66s} {text}", flush=True)


def cpu_inputs(rows: int = CPU_ROWS, dtype: torch.dtype = torch.float32) -> Pair:
    """Logits (rows, VOCABULARY) and tokens."""
    torch.set_num_threads(THREADS)
    generator = torch.Generator().manual_seed(0)
    logits = torch.empty(rows, VOCABULARY, dtype=dtype).normal_(0, 2.5, generator=generator)
    return logits, torch.randint(VOCABULARY, (rows,), generator=generator)


def peak_memory() -> int:
    """Bytes of this program's peak resident memory; getrusage has its parent's where that is larger."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])  # type: ignore[index]


def print_extra_memory(which: str, dtype_name: str) -> None:
    """In a process of its own: MB of peak resident memory that one call adds to the logits'.

    With a dtype of the logits the call is one with gradient, and the gradient's own MB do not count.
    """
    run = verl_pass() if which == "verl" else our_pass
    dtype = getattr(torch, dtype_name or "float32")
    logits, tokens = cpu_inputs(GRADIENT_ROWS if dtype_name else CPU_ROWS, dtype)

    def call(x: torch.Tensor, t: torch.Tensor) -> None:
        if dtype_name:
            backward(run, x.requires_grad_(), t)
        elif which == "verl":
            run(x, t)
        else:
            token_stats(x, t, 1.0)

    # Loads what the first call loads (threads, libraries), at a size that needs no memory
    call(logits[:2, :1000].clone(), tokens[:2] % 1000)
    before = psutil.Process().memory_info().rss
    call(logits, tokens)
    extra = peak_memory() - before
    print((extra - (logits.nbytes if dtype_name else 0)) / 1e6)


def extra_memory(which: str, dtype_name: str = "") -> float:
    """`print_extra_memory` of "ours" or "verl"."""
    command = [sys.executable, str(Path(__file__).resolve()), "--extra-memory", which, dtype_name]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(found.stdout.split()[-1])


def measure_cpu() -> None:
    """The chunked version against verl."""
    # First, while this process is small: a child's peak starts at its parent's
    row("CPU, extra peak memory", extra_memory("ours"), 64, "MB")
    note("CPU, verl's extra peak memory", f"{extra_memory('verl'):9.3f} MB")
    verl = verl_pass()
    logits, tokens = cpu_inputs()
    ours_s, verl_s = medians(lambda: token_stats(logits, tokens, 1.0), lambda: verl(logits, tokens))
    note("CPU, four statistics", f"{ours_s:9.3f} s")
    note("CPU, verl's log-probability and entropy", f"{verl_s:9.3f} s")
    row("CPU, time against verl", ours_s / verl_s, 0.5)


def measure_cpu_gradient() -> None:
    """Log-probability and entropy, forward and backward, against verl's."""
    verl = verl_pass()
    for dtype_name in ("float32", "bfloat16"):
        name = f"CPU, {dtype_name}, with gradient"
        row(f"{name}: extra peak memory", extra_memory("ours", dtype_name), 100, "MB")
        note(f"{name}: verl's extra peak memory", f"{extra_memory('verl', dtype_name):9.3f} MB")
    for dtype_name in ("float32", "bfloat16"):
        name = f"CPU, {dtype_name}, with gradient"
        logits, tokens = cpu_inputs(GRADIENT_ROWS, getattr(torch, dtype_name))
        logits.requires_grad_()
        ours_s, verl_s = medians(
            lambda x=logits, t=tokens: backward(our_pass, x, t),
            lambda x=logits, t=tokens: backward(verl, x, t),
        )
        note(f"{name}: time", f"{ours_s:9.3f} s")
        note(f"{name}: verl's time", f"{verl_s:9.3f} s")
        row(f"{name}: time against verl", ours_s / verl_s, 0.6)


def gpu_extra_bytes(run: Callable[[], object]) -> int:
    """Peak of allocated GPU memory beyond what was held before."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def measure_gpu_logits() -> None:
    """The kernel over logits against a copy and against verl."""
    verl = verl_pass()
    logits = torch.empty(GPU_ROWS, VOCABULARY, dtype=torch.bfloat16, device="cuda").normal_(0, 2.5)
    tokens = torch.randint(VOCABULARY, (GPU_ROWS,), device="cuda")
    copy = torch.empty_like(logits)
    ours_s, copy_s = medians(lambda: token_stats(logits, tokens, 1.0), lambda: copy.copy_(logits))
    # A copy reads and writes each byte, the kernel reads it
    row("GPU, logits: bandwidth against a copy's", copy_s / (2 * ours_s), 0.85, at_least=True)
    note("GPU, logits: bandwidth", f"{logits.nbytes / ours_s / 1e12:9.3f} TB/s")
    ours_s, verl_s = medians(lambda: token_stats(logits, tokens, 1.0), lambda: verl(logits, tokens))
    note("GPU, logits: time against verl", f"{ours_s / verl_s:9.3f}")


def measure_gpu_hidden() -> None:
    """The fused kernel against verl's."""
    from verl.utils.kernel.linear_cross_entropy import linear_cross_entropy

    tokens = torch.randint(VOCABULARY, (GPU_ROWS,), device="cuda")
    hidden = torch.randn(GPU_ROWS, DEPTH, dtype=torch.bfloat16, device="cuda")
    weight = torch.randn(VOCABULARY, DEPTH, dtype=torch.bfloat16, device="cuda") * 0.04

    def ours() -> object:
        return token_stats_from_hidden(hidden, weight, tokens, 1.0)

    @torch.no_grad()
    def theirs() -> object:
        return linear_cross_entropy(hidden, weight, tokens, 1.0, "none")

    ours_s, verl_s = medians(ours, theirs)
    note("GPU, hidden states: time", f"{ours_s:9.3f} s")
    row("GPU, hidden states: time against verl's fused kernel", ours_s / verl_s, 1.05)
    row("GPU, hidden states: extra peak memory", gpu_extra_bytes(ours) / 1e9, 1, "GB")
    note("GPU, hidden states: verl's extra peak memory", f"{gpu_extra_bytes(theirs) / 1e9:9.3f} GB")


def main() -> None:
    """Print each figure with its target."""
    print(f"{'':66s} {'figure':>9s}    {'target':>12s}   reached")
    measure_cpu_gradient()
    measure_cpu()
    if torch.cuda.is_available():
        measure_gpu_logits()
        measure_gpu_hidden()
        return
    for name in (
        "logits: bandwidth against a copy's",
        "logits: time against verl",
        "hidden states: time against verl's fused kernel",
        "hidden states: extra peak memory",
    ):
        note(f"GPU, {name}", "not run: no GPU")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--extra-memory"]:
        print_extra_memory(*sys.argv[2:4])
    else:
        main()
