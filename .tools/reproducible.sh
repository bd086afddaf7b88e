#!/usr/bin/env bash
# Builds the current commit twice, in two folders, the second time with an empty
# build cache, and compares the binaries.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
here=$(git rev-parse --show-toplevel)
for n in 1 2; do
	git clone --quiet --no-hardlinks "$here" "$dir/$n/clone-$n"
	git -C "$dir/$n/clone-$n" checkout --quiet --detach "$(git -C "$here" rev-parse HEAD)"
done
make --silent -C "$dir/1/clone-1" build
GOCACHE=$dir/cache make --silent -C "$dir/2/clone-2" build
sha256sum "$dir"/?/clone-?/bin/sallyport
cmp "$dir/1/clone-1/bin/sallyport" "$dir/2/clone-2/bin/sallyport"
echo "two builds of $(git rev-parse --short HEAD) are byte-identical"
