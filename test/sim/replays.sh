#!/bin/sh
# One seed, played twice, tells one story to the letter. usage: replays.sh SIM SEED...
set -eu
sim=$1
shift
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
for seed in "$@"; do
    "$sim" --seed "$seed" --trace >"$dir/first"
    "$sim" --seed "$seed" --trace >"$dir/second"
    [ -s "$dir/first" ] || { echo "seed $seed tells nothing"; exit 1; }
    cmp "$dir/first" "$dir/second" || { echo "seed $seed does not replay"; exit 1; }
done
