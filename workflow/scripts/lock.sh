#!/usr/bin/env bash
# Resolves requirements/*.lock anew from pyproject.toml and requirements/*.in.
set -euo pipefail
cd "$(dirname "$0")/../.."
compile() { .venv/bin/uv pip compile --quiet --generate-hashes --python-version 3.11 --no-header "$@" > /dev/null; }
compile pyproject.toml requirements/cpu.in --extra train --extra eval --extra data --extra cluster --extra report --extra dev \
  --excludes requirements/excludes.txt --overrides requirements/overrides.txt -o requirements/cpu.lock
compile requirements/slice.in --no-deps -o requirements/slice.lock
compile requirements/grader.in --no-deps -o requirements/grader.lock
