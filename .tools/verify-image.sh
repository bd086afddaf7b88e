#!/usr/bin/env bash
# verify-image.sh NAME@sha256:DIGEST
# Is the image signed, and does it have a signed SBOM and provenance?
# VERIFY_KEY names a public key; without one the signature must be of this
# project's release workflow, and in the public log.
set -euo pipefail
cd "$(dirname "$0")/.."

image=${1:?usage: verify-image.sh NAME@sha256:DIGEST}
[[ $image =~ ^[^@]+@sha256:[0-9a-f]{64}$ ]] || { echo "$image is no image by digest: NAME@sha256:DIGEST" >&2; exit 2; }
repository=${REPOSITORY:-sallyport-gateway/sallyport}
if [ -n "${VERIFY_KEY:-}" ]; then
	by=(--key "$VERIFY_KEY" --insecure-ignore-tlog=true)
else
	by=(--certificate-oidc-issuer https://token.actions.githubusercontent.com
		--certificate-identity-regexp "^https://github.com/$repository/\.github/workflows/release\.yml@refs/tags/v[0-9.]+$")
fi
cosign() { go tool -modfile=.tools/cosign/go.mod cosign "$@"; }
cosign verify "${by[@]}" "$image" >/dev/null
cosign verify-attestation "${by[@]}" --type cyclonedx "$image" >/dev/null
cosign verify-attestation "${by[@]}" --type slsaprovenance1 "$image" >/dev/null
echo "$image is signed, with SBOM and provenance"
