#!/usr/bin/env bash
# The proof of a repair: audit, train, audit again, compare.
#
#   bash runs/repair.sh                    # Hans by our recipe, in four rounds: 27 minutes on two CPU cores
#   bash runs/repair.sh qwen2.5-omni:PATH "mma mma-sft" -- my_train_clips/ my_test_clips/
#   bash runs/repair.sh hans "thud-sft hans-thud-sft" "thud-dpo-all hans-thud-dpo"
#
# MODEL, then rounds ("MIXTURE RECIPE [CLIPS [SEED]]"), then after -- the clips to train on and those to test on. Everything
# is written below $OUT (runs/repair); each step goes on where it was stopped. LIMIT: clips to test on; TRAIN: to train
# on, where a round does not say how many.
set -euo pipefail
OUT=${OUT:-runs/repair} LIMIT=${LIMIT:-120} TRAIN=${TRAIN:-1000}
EARWITNESS=${EARWITNESS:-$(cd "$(dirname "$0")/.." && pwd)/.venv/bin/earwitness}
MODEL=${1:-hans}
shift || true
ROUNDS=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do ROUNDS+=("$1"); shift; done
[ ${#ROUNDS[@]} -gt 0 ] || ROUNDS=(
  "hans-sync hans-sync 3000" "hans hans-sft 2000" "hans-hard hans-more 2000" "hans-last hans-last 2000 520"
)
TRAINED=${2:-foley} TESTED=${3:-foley}
FAMILY=${MODEL%%:*}
case $FAMILY in hans*) FAMILY=qwen2.5-omni ;; esac
audit() { "$EARWITNESS" audit -m "$1" --clips "$TESTED" --limit "$LIMIT" --seed 0 --set seeds=0 --out "$2"; }

audit "$MODEL" "$OUT/before"
NOW=$MODEL SEED=480
for round in "${ROUNDS[@]}"; do
  read -r mixture recipe clips seed <<< "$round"
  case $recipe in *dpo) stage=dpo ;; *grpo) stage=grpo ;; *ansco) stage=ansco ;; *) stage=sft ;; esac
  # Clips of another seed than the test's; one that is tested all the same is refused.
  [ -e "$OUT/set-$recipe/set.json" ] || "$EARWITNESS" sft-data "$TRAINED" --limit "${clips:-$TRAIN}" --seed "${seed:-$SEED}" \
    --mixture "$mixture" --against "$OUT/before" --out "$OUT/set-$recipe"
  [ -e "$OUT/$recipe/model/config.json" ] || "$EARWITNESS" align "$stage" "$recipe" --data "$OUT/set-$recipe" -m "$NOW" \
    --out "$OUT/$recipe"
  NOW=$FAMILY:$OUT/$recipe/model SEED=$((SEED + 20))
done
audit "$NOW" "$OUT/after"
"$EARWITNESS" compare "$OUT/before" "$OUT/after" --out "$OUT/compare"
