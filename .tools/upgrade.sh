#!/usr/bin/env bash
# Takes every module of the tree to the newest patch release of what it
# requires. What that breaks, `make check test` says.
set -euo pipefail
cd "$(dirname "$0")/.."

while read -r file; do
	dir=$(dirname "$file")
	echo "== $dir"
	go -C "$dir" get -u=patch ./... tool 2>/dev/null || go -C "$dir" get -u=patch tool
	go -C "$dir" mod tidy
done < <(git ls-files 'go.mod' '*/go.mod')
git --no-pager diff --stat
