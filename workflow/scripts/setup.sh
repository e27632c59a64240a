#!/usr/bin/env bash
# Creates a Python environment of this checkout. Run by `make`; safe to run again.
#   setup.sh             .venv/: everything, on a CPU
#   setup.sh controller  .venv/: what a cluster's login node needs, whose jobs run in images
#   setup.sh cuda        .venv-cuda/: training and evaluation on GPUs, where no images are used
#   setup.sh appworld    .venv-appworld/: AppWorld's engine, whose pins contradict those of all others
#   PYTHON       Python 3.11 to use (default: the system's own, else python3.11, else python3)
#   TORCH_INDEX  package index that has a CPU build of torch, where pip itself finds none
set -euo pipefail
cd "$(dirname "$0")/../.."
started=$SECONDS
kind=${1:-cpu} environment=.venv mark=.installed
[ "$kind" != cuda ] || environment=.venv-cuda
[ "$kind" != appworld ] || environment=.venv-appworld
is_ours=true # whether this project's own code runs in it
[ "$kind" != appworld ] || is_ours=false
[ "$kind" != controller ] || mark=.controller
# What installers say goes to a log, which is shown where one fails
log=$PWD/.setup.log
exec 3>&1 4>&2 > "$log" 2>&1
say() { printf '[setup %4d s] %s\n' $((SECONDS - started)) "$*" >&3; }
fail() { trap - ERR; printf 'setup: %s\n' "$@" >&4; exit 1; }
trap 'tail -n 20 "$log" >&4; printf "setup: failed; all that was said: %s\n" "$log" >&4' ERR

# The system's own first, where it can make an environment and kernels can be compiled for it: distributions build
# theirs with a profile of its use, a tenth faster than most others, and Debian's is the images'
system_python() {
  local python=/usr/bin/python3.11
  "$python" -c 'import ensurepip, sysconfig; open(sysconfig.get_path("include") + "/Python.h").close()' &&
    echo "$python"
}
python=${PYTHON:-$(system_python || command -v python3.11 || command -v python3 || true)}
[ -n "$python" ] || fail "no Python found. Install Python 3.11, or name it: make PYTHON=/path/to/python3.11"
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
[ "$version" = 3.11 ] || fail "expected Python 3.11, found $version at $python." \
  "The locked packages are for 3.11. Name another one: make PYTHON=/path/to/python3.11"
[ "$kind" = controller ] || [ $is_ours = false ] || command -v "${CXX:-g++}" > /dev/null || fail "no C++ compiler (${CXX:-g++}): kernels are compiled with it, by the tests too." \
  "Install one (Debian and Ubuntu: apt-get install g++; Fedora: dnf install gcc-c++), or name it: CXX=clang++"

# Compiled bytecode makes every later start several times faster, and a dozen processes start in a training run
unset PYTHONDONTWRITEBYTECODE
if [ ! -x $environment/bin/uv ]; then
  say "creating $environment with $python"
  "$python" -m venv $environment
  $environment/bin/python -m pip install --quiet uv==0.13.8
fi
install() { $environment/bin/uv pip install --quiet --python $environment/bin/python --no-deps "$@"; }
if [ "$kind" = cpu ]; then
  say "installing torch (CPU build)"
  index=${TORCH_INDEX:+--index-url $TORCH_INDEX}
  # shellcheck disable=SC2086
  .venv/bin/python -m pip install --quiet --progress-bar off $index -r requirements/torch.txt || fail \
    "pip finds no CPU build of torch ($(tail -1 requirements/torch.txt))." \
    "Name PyTorch's CPU package index (pytorch.org, Get started, Linux, Pip, CPU shows it): make TORCH_INDEX=<address>"
fi
lock=requirements/$kind.lock
say "installing $(grep -c '^[a-z0-9].*==' "$lock") locked packages"
install --require-hashes -r "$lock"
[ $is_ours = false ] || install --editable .
if [ "$kind" != controller ] && [ $is_ours = true ]; then
  say "installing the grading process's own packages"
  install --target $environment/grader-packages --require-hashes -r requirements/grader.lock
fi
# CUDA's packages lack the names that a linker asks for, and the folder where it looks for them (as in install.sh)
for home in $environment/lib/python3*/site-packages/nvidia/cu13; do
  [ -d "$home/lib" ] || continue
  ln -sfn lib "$home/lib64"
  for library in "$home"/lib/lib*.so.*; do
    name="${library%%.so.*}.so"
    [ -e "$name" ] || ln -s "${library##*/}" "$name"
  done
done
say "compiling bytecode"
$environment/bin/python -m compileall -q -j 2 $environment/lib $environment/grader-packages > /dev/null 2>&1 || true # some packages ship files for other Pythons
# A login node's quota is small, and nothing else is installed there
[ "$kind" != controller ] || $environment/bin/python -m pip uninstall --quiet --yes uv
touch $environment/$mark
say "environment ready in $environment"
