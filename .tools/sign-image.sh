#!/usr/bin/env bash
# sign-image.sh NAME@sha256:DIGEST
# Signs a pushed image, and attests the SBOM and the provenance that
# `make release` left in dist/. SIGNING_KEY names a private key; without one the
# signature is keyless, by the workflow's own identity, and in the public log.
set -euo pipefail
cd "$(dirname "$0")/.."

image=${1:?usage: sign-image.sh NAME@sha256:DIGEST}
[[ $image =~ ^[^@]+@sha256:[0-9a-f]{64}$ ]] || { echo "$image is no image by digest: NAME@sha256:DIGEST" >&2; exit 2; }
dist=${DIST:-dist}
sboms=("$dist"/*linux_amd64.cdx.json)
if [ ! -f "${sboms[0]}" ] || [ ! -f "$dist/provenance.json" ]; then
	echo "no SBOM and provenance in $dist; run make release" >&2
	exit 1
fi
by=(--yes)
[ -z "${SIGNING_KEY:-}" ] || by+=(--key "$SIGNING_KEY" --tlog-upload=false)
cosign() { go tool -modfile=.tools/cosign/go.mod cosign "$@"; }
cosign sign "${by[@]}" --recursive "$image"
cosign attest "${by[@]}" --type cyclonedx --predicate "${sboms[0]}" "$image"
# The attestation of the image has the predicate alone; its subject is the image.
go -C .tools/release run ./provenance -predicate "$(realpath "$dist")" >"$dist/predicate.json"
cosign attest "${by[@]}" --type slsaprovenance1 --predicate "$dist/predicate.json" "$image"
echo "signed $image"
