#!/usr/bin/env bash
# Each published recipe on Hans beside ours, with the steps left out one by one: the table of docs/repair.md.
#
#   bash runs/recipes.sh                     # all classes: other clips than those tested
#   HELD=1 bash runs/recipes.sh              # trained on six of the twelve classes, tested on the other six
#   HELD=2 bash runs/recipes.sh              # the halves exchanged
#
# Everything is written below $OUT (runs/recipes); each step goes on where it was stopped. LIMIT: clips to test on.
set -euo pipefail
OUT=${OUT:-runs/recipes} LIMIT=${LIMIT:-120} TRAIN=${TRAIN:-1000}
EARWITNESS=${EARWITNESS:-$(cd "$(dirname "$0")/.." && pwd)/.venv/bin/earwitness}
TRAINED=foley TESTED=foley
[ -z "${HELD:-}" ] || {
  OUT=$OUT/held TRAINED=foley:bell+drum+bird+siren+horn+clock TESTED=foley:guitar+whistle+frog+phone+hammer+bee
  [ "$HELD" != 2 ] || { one=$TRAINED OUT=${OUT}2; TRAINED=$TESTED TESTED=$one; }
}
mkdir -p "$OUT/runs"
compared=()
audit() {
  [ -e "$OUT/runs/$2/report.html" ] ||
    "$EARWITNESS" audit -m "$1" --clips "$TESTED" --limit "$LIMIT" --seed 0 --set seeds=0 --out "$OUT/runs/$2"
}
data() { # NAME MIXTURE PAIRS
  [ -e "$OUT/set-$1/set.json" ] ||
    "$EARWITNESS" sft-data "$TRAINED" --limit "$TRAIN" --seed 500 --mixture "$2" --n "$3" --against "$OUT/runs/hans" \
      --out "$OUT/set-$1"
}
train() { # NAME STAGE RECIPE SET FROM [--set ...]
  local name=$1 stage=$2 recipe=$3 set=$4 from=$5
  shift 5
  [ "$from" = hans ] || from=qwen2.5-omni:$OUT/$from/model
  [ -e "$OUT/$name/model/config.json" ] ||
    "$EARWITNESS" align "$stage" "$recipe" --data "$OUT/set-$set" -m "$from" --out "$OUT/$name" "$@"
  audit "qwen2.5-omni:$OUT/$name/model" "$name"
}

audit hans hans
# Some Modalities Are More Equal Than Others: all linear layers, or the two that its Table 8 names
data mma mma 8000
train mma sft hans-mma mma hans
[ -n "${HELD:-}" ] || train mma-qv sft hans-mma mma hans --set targets=qv
# When Vision Speaks for Sound: warm-up alone, then preferences of one kind, two, three, and with mute and swap
data thud-sft thud-sft 4000
train thud-sft sft hans-thud-sft thud-sft hans
if [ -z "${HELD:-}" ]; then
  data thud-ctp ctp 4000
  train thud-ctp dpo hans-thud-dpo thud-ctp thud-sft
  data thud-ctp-general ctp=57,general=43 4000
  train thud-ctp-general dpo hans-thud-dpo thud-ctp-general thud-sft
  data thud-dpo thud-dpo 4000
  train thud-dpo dpo hans-thud-dpo thud-dpo thud-sft
fi
data thud-all thud-dpo-all 4000
train thud-all dpo hans-thud-dpo thud-all thud-sft
# When Eyes and Ears Disagree (its Table 7): warm-up, format and accuracy alone, Step-RR, then Ans-CO
data comm-warmup warm-up 4000
data comm questions 4000
[ -e "$OUT/set-comm/references.json" ] || "$EARWITNESS" references "$OUT/set-comm" -m truth
train comm-warmup sft hans-warmup comm-warmup hans
[ -n "${HELD:-}" ] || train comm-accuracy grpo hans-grpo comm comm-warmup --set rewards=format,correct
train comm-step grpo hans-grpo comm comm-warmup
train comm-ansco ansco hans-ansco comm-warmup comm-step
# Ours on what was never taught: a small addition, words frozen, few rows
if [ -n "${HELD:-}" ]; then
  data carry hans-carry 14000
  train carry sft hans-carry carry hans
  compared=("$OUT"/runs/carry)
fi

"$EARWITNESS" compare "$OUT"/runs/hans "$OUT"/runs/mma "$OUT"/runs/thud-sft "$OUT"/runs/thud-all \
  "$OUT"/runs/comm-warmup "$OUT"/runs/comm-step "$OUT"/runs/comm-ansco "${compared[@]}" --out "$OUT"
