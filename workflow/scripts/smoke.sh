#!/usr/bin/env bash
# smoke.sh: the main job on CPU, a line a step; everything else goes to a log, which is named where a step fails.
set -euo pipefail
cd "$(dirname "$0")/../.."
results=results/smoke log=$PWD/results/smoke/logs/smoke.log
mkdir -p "$(dirname "$log")"
export PATH=$PWD/.venv/bin:$PATH ENTROBENCH_PROGRESS_FD=3
echo "Everything that is not shown: $log; a run's curve while it trains: entrobench watch papo/7b-math/dapo/seed0"

# A command with its output in the log; where it fails the log's end is shown
logged() {
  "$@" 3>&1 >> "$log" 2>&1 && return
  printf '\nThe end of %s:\n' "$log"
  tail -n 30 "$log"
  exit 1
}
snakemake_() {
  logged snakemake --profile workflow/profiles/local --logger entrobench \
    --logger-entrobench-expected configs/scales/smoke.yaml --config scale=smoke "$@"
}
: > "$log"
cells=(papo/7b-math/dapo/seed0 papo/7b-math/papo_polarity/seed0)
trained=("${cells[@]/#/$results/}")
# Both beside each other where there is memory for them: a step of one waits half of its time
available=$(awk '/MemAvailable/ {print int($2 / 1024)}' /proc/meminfo)
snakemake_ --set-threads train_cell=1 --set-resources train_cell:mem_mb=6000 --resources mem_mb="$available" \
  -- "${trained[@]/%//train.done.json}"
before=$SECONDS
logged entrobench evaluate --scale smoke papo/7b-math/base/seed0 "${cells[@]}"
echo "         evaluated in $((SECONDS - before)) s"
snakemake_
printf '\n%s\n' "$(cat $results/papo/table1.md)"
printf '\n%-10s%s\n' "Table 1:" "$results/papo/table1.md (.tex, .csv); Table 2 beside it" \
  "Figures:" "$results/papo/figure5.png (.pdf); 1, 3, 4, 7, 8, 9 beside it" "Site:" "$results/site/index.html" | sed '/^$/d'
