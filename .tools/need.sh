#!/usr/bin/env bash
# Makes sure that the named programs are there. Each argument is a program and
# the Debian package that brings it: `redis-server=redis-server`. Where there
# is apt-get they are installed; elsewhere this says what is missing.
set -euo pipefail

PATH=$PATH:/usr/sbin:/sbin # daemons, where the caller is not root
missing=() packages=()
for need in "$@"; do
	program=${need%%=*}
	if ! command -v "$program" >/dev/null; then
		missing+=("$program")
		# shellcheck disable=SC2206 # a package may be two words
		packages+=(${need#*=})
	fi
done
if [ ${#missing[@]} -eq 0 ]; then
	exit 0
fi

if ! command -v apt-get >/dev/null; then
	echo "missing: ${missing[*]}. Install them with this system's package manager and try again." >&2
	exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
	if ! command -v sudo >/dev/null; then
		echo "missing: ${missing[*]}. As root: apt-get install --yes ${packages[*]}" >&2
		exit 1
	fi
	as_root=(sudo)
fi
echo "missing: ${missing[*]}; installing ${packages[*]}"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update --quiet --quiet
"${as_root[@]}" apt-get install --yes --quiet --quiet --no-install-recommends "${packages[@]}" </dev/null >/dev/null
for program in "${missing[@]}"; do
	command -v "$program" >/dev/null || {
		echo "$program is still missing after installing ${packages[*]}" >&2
		exit 1
	}
done
