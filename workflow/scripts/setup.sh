#!/usr/bin/env bash
# Creates the Python environment of this checkout in .venv/. Run by `make`; safe to run again.
#   PYTHON       Python 3.11 to use (default: python3.11, else python3)
#   TORCH_INDEX  package index that has a CPU build of torch, where pip itself finds none
set -euo pipefail
cd "$(dirname "$0")/../.."
started=$SECONDS
# What installers say goes to a log, which is shown where one fails
log=$PWD/.setup.log
exec 3>&1 4>&2 > "$log" 2>&1
say() { printf '[setup %4d s] %s\n' $((SECONDS - started)) "$*" >&3; }
fail() { trap - ERR; printf 'setup: %s\n' "$@" >&4; exit 1; }
trap 'tail -n 20 "$log" >&4; printf "setup: failed; all that was said: %s\n" "$log" >&4' ERR

python=${PYTHON:-$(command -v python3.11 || command -v python3 || true)}
[ -n "$python" ] || fail "no Python found. Install Python 3.11, or name it: make PYTHON=/path/to/python3.11"
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
[ "$version" = 3.11 ] || fail "expected Python 3.11, found $version at $python." \
  "The locked packages are for 3.11. Name another one: make PYTHON=/path/to/python3.11"
command -v "${CXX:-g++}" > /dev/null || fail "no C++ compiler (${CXX:-g++}): kernels are compiled with it, by the tests too." \
  "Install one (Debian and Ubuntu: apt-get install g++; Fedora: dnf install gcc-c++), or name it: CXX=clang++"

# Compiled bytecode makes every later start several times faster, and a dozen processes start in a training run
unset PYTHONDONTWRITEBYTECODE
if [ ! -x .venv/bin/uv ]; then
  say "creating .venv with $python"
  "$python" -m venv .venv
  .venv/bin/python -m pip install --quiet uv==0.13.8
fi
say "installing torch (CPU build)"
index=${TORCH_INDEX:+--index-url $TORCH_INDEX}
# shellcheck disable=SC2086
.venv/bin/python -m pip install --quiet --progress-bar off $index -r requirements/torch.txt || fail \
  "pip finds no CPU build of torch ($(tail -1 requirements/torch.txt))." \
  "Name PyTorch's CPU package index (pytorch.org, Get started, Linux, Pip, CPU shows it): make TORCH_INDEX=<address>"
say "installing $(grep -c '^[a-z0-9].*==' requirements/cpu.lock) locked packages"
.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --require-hashes -r requirements/cpu.lock
.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --editable .
say "installing the grading process's own packages"
.venv/bin/uv pip install --quiet --python .venv/bin/python --target .venv/grader-packages --no-deps --require-hashes \
  -r requirements/grader.lock
say "compiling bytecode"
.venv/bin/python -m compileall -q -j 2 .venv/lib .venv/grader-packages > /dev/null || true # some packages ship files for other Pythons
touch .venv/.installed
say "environment ready in .venv"
