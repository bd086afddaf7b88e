#!/usr/bin/env bash
# config-backup.sh REPOSITORY FILE [FLAG OF sallyport config export…]
# Commits the active configuration of a running gateway to FILE of a checkout.
# Exits with 1 when it is another than the last one, so that a schedule tells.
set -euo pipefail

repository=${1:?usage: config-backup.sh REPOSITORY FILE [FLAG…]} file=${2:?usage: config-backup.sh REPOSITORY FILE [FLAG…]}
shift 2
sallyport=${SALLYPORT:-sallyport}
first=yes
[ ! -f "$repository/$file" ] || first=""
next=$(mktemp)
trap 'rm -f "$next"' EXIT
"$sallyport" config export --output "$next" "$@"
if [ -z "$first" ] && cmp --quiet "$next" "$repository/$file"; then
	echo "$file is what runs"
	exit
fi
mkdir -p "$(dirname "$repository/$file")"
cp "$next" "$repository/$file"
git -C "$repository" add -- "$file"
git -C "$repository" -c user.name="sallyport backup" -c user.email="backup@users.noreply.github.com" \
	commit --quiet --message "$file: what runs since $(date --utc +%FT%TZ)" -- "$file"
if [ -n "$first" ]; then
	echo "$file is kept from now on"
	exit
fi
git -C "$repository" --no-pager show --stat --format=%s >&2
echo "$file has changed: what runs is not what was kept" >&2
exit 1
