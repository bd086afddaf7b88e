#!/usr/bin/env bash
# Runs every fuzz target of the tree, or of a folder, for a time each:
# fuzz.sh 10s [modules/jwtauth]
set -euo pipefail

targets=0
while IFS=: read -r file line; do
	name=${line#func }
	name=${name%%(*}
	echo "== $name in ${file%/*}"
	go test "./${file%/*}" -run '^$' -fuzz "^$name\$" -fuzztime "$1"
	targets=$((targets + 1))
done < <(git grep --fixed-strings --untracked 'func Fuzz' -- "${2:+$2/}*_test.go" | grep -E ':func Fuzz[A-Za-z0-9_]*\(')
echo "$targets fuzz targets held for $1 each"
[ "$targets" -gt 0 ]
