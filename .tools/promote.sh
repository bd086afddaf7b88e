#!/usr/bin/env bash
# promote.sh dev|staging|production|canary NAME@sha256:DIGEST
# Writes the digest of a verified image into an overlay, and nothing else:
# whoever commits that has deployed. canary and production take only what
# staging has run.
set -euo pipefail
cd "$(dirname "$0")/.."

overlay=${1:-} image=${2:-}
case $overlay in
dev | staging | production) file=deploy/kubernetes/overlays/$overlay/kustomization.yaml ;;
canary) file=deploy/kubernetes/overlays/canary/release/kustomization.yaml ;;
*) echo "usage: promote.sh dev|staging|production|canary NAME@sha256:DIGEST" >&2; exit 2 ;;
esac
.tools/verify-image.sh "$image"
name=${image%@*} digest=${image#*@}
case $overlay in
canary | production)
	if ! grep --quiet --line-regexp --fixed-strings "    digest: $digest" deploy/kubernetes/overlays/staging/kustomization.yaml; then
		echo "$digest is not what staging runs; promote it there first" >&2
		exit 1
	fi
	;;
esac
sed --in-place --regexp-extended \
	-e "/^  - name: sallyport$/,/^    digest:/ { s|^(    newName: ).*|\1$name|; s|^(    digest: ).*|\1$digest| }" "$file"
grep --quiet --line-regexp --fixed-strings "    digest: $digest" "$file" || { echo "$file has no image named sallyport" >&2; exit 1; }
echo "$overlay runs $digest once this is committed"
