#!/usr/bin/env bash
# Prints the path of the server of Unleash, with what it needs installed: of the
# package that UNLEASH_SERVER names, or else of the edition in unleash/package.json.
set -euo pipefail

here=$(dirname "$(realpath "$0")")/unleash
if [ -n "${UNLEASH_SERVER:-}" ]; then
	realpath "$UNLEASH_SERVER"
	exit
fi
if [ ! -f "$here/node_modules/unleash-server/package.json" ] || [ "$here/package.json" -nt "$here/node_modules" ]; then
	npm install --prefix "$here" --ignore-scripts --no-package-lock --no-audit --no-fund >&2
	touch "$here/node_modules"
fi
echo "$here/node_modules/unleash-server"
