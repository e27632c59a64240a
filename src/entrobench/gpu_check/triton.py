"""Our Triton kernels down to machine code, and the compiler that Triton starts them with. Needs no GPU."""

import os
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

ARCHITECTURES = (80, 90)  # A100, H100
POINTERS = {"logits_ptr": "*bf16", "gradient_ptr": "*bf16", "tokens_ptr": "*i64"}
NUMBERS = {"rows": "i32", "vocabulary": "i32", "row_stride": "i32"}
BLOCKS = {"BLOCK": 4096, "STAGES": 3}
# Triton compiles a launcher of this kind for each kernel, with the compiler that it finds in this order
LAUNCHER = "#include <Python.h>\nvoid launch(void) { Py_Initialize(); }\n"
COMPILERS = ("gcc", "clang")


def check_triton() -> dict[str, float]:
    """Bytes of machine code by kernel and architecture. Raises what Triton or its assembler raises, and
    AssertionError where a launcher cannot be compiled.
    """
    from entrobench.kernels import triton_stats

    figures = {}
    for kernel in (triton_stats._row_kernel, triton_stats._gradient_kernel):
        for architecture in ARCHITECTURES:
            name, size = _machine_code(kernel, architecture)
            figures[f"sm_{architecture}: bytes of {name}"] = float(size)
    _compile_launcher()
    return figures


def _machine_code(kernel: Any, architecture: int) -> tuple[str, int]:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    function = kernel.fn if isinstance(kernel, triton.runtime.Autotuner) else kernel
    types = {
        name: "constexpr" if name in BLOCKS else POINTERS.get(name) or NUMBERS.get(name) or _of_floats(name)
        for name in function.arg_names
    }
    source = ASTSource(fn=function, signature=types, constexprs=BLOCKS)
    with triton.knobs.compilation.scope():
        triton.knobs.compilation.always_compile = True  # what an earlier compilation has left proves nothing
        compiled = triton.compile(source, target=GPUTarget("cuda", architecture, 32))
    return function.__name__.strip("_"), len(compiled.asm["cubin"])


def _of_floats(name: str) -> str:
    return "*fp32" if name.endswith("_ptr") else "fp32"


def _compile_launcher() -> None:
    compiler = os.environ.get("CC") or next(filter(None, map(shutil.which, COMPILERS)), None)
    assert compiler, f"no C compiler on PATH: Triton wants one of {', '.join(COMPILERS)}, or CC"
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "launcher.c"
        source.write_text(LAUNCHER)
        include = f"-I{sysconfig.get_paths()['include']}"
        command = [compiler, str(source), "-shared", "-fPIC", include, "-o", f"{folder}/launcher.so"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{compiler}: {done.stderr.strip()}"
