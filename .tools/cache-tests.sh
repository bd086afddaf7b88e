#!/usr/bin/env bash
# Prints the path of the public suite of HTTP caches, with what it needs
# installed: of the checkout that CACHE_TESTS names, or else of the edition that
# is a package. Where there is no npm it says so and prints nothing.
set -euo pipefail

here=$(dirname "$(realpath "$0")")
if ! command -v npm >/dev/null; then
	echo "npm is missing: the public suite of HTTP caches is not run" >&2
	exit
fi
if [ -n "${CACHE_TESTS:-}" ]; then
	if [ ! -d "$CACHE_TESTS/node_modules" ]; then
		npm install --prefix "$CACHE_TESTS" --ignore-scripts --no-save --no-audit --no-fund >&2
	fi
	realpath "$CACHE_TESTS"
	exit
fi
if [ ! "$here/cache-tests/node_modules" -nt "$here/cache-tests/package-lock.json" ]; then
	npm ci --prefix "$here/cache-tests" --ignore-scripts --no-audit --no-fund >&2
fi
echo "$here/cache-tests/node_modules/http-cache-tests"
