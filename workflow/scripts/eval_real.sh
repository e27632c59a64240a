#!/usr/bin/env bash
# A real small model on real slices of every kind of benchmark that can be graded. Run by `make eval-real`.
#   EVAL_REAL_LIMIT, EVAL_REAL_TOKENS   problems of each benchmark (default 24), generated tokens (default 512)
set -euo pipefail
cd "$(dirname "$0")/../.."
data=${ENTROBENCH_SHARED_DATA:-../shared/data}
if [ ! -d "$data" ]; then
  echo "eval-real: SKIPPED: no real data at $data."
  echo "  Put the files there or set ENTROBENCH_SHARED_DATA to their folder; configs/benchmarks name them."
  exit 0
fi
.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --require-hashes -r requirements/slice.lock
model=results/slice/models/smollm2_135m
PATH="$PWD/.venv/bin:$PATH" snakemake --profile workflow/profiles/local --quiet -- $model/model.json
.venv/bin/entrobench evaluate --model $model --protocol papo --out results/eval-real \
  --benchmarks math500,ifeval_greedy,mmlu_pro_greedy,cruxeval_greedy,humaneval,bfcl_non_live,bfcl_live,acebench_en,acebench_zh \
  --zero-shot --limit "${EVAL_REAL_LIMIT:-24}" --n-samples 1 --max-tokens "${EVAL_REAL_TOKENS:-512}" 2> results/eval-real.log ||
  { tail -n 20 results/eval-real.log >&2; exit 1; }
