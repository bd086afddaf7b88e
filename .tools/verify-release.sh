#!/usr/bin/env bash
# verify-release.sh [DIR]
# What a user of a release does: the signature of the checksums, the checksums
# of the files, the provenance of each archive. VERIFY_KEY names a public key;
# without one the signer must be this project's release workflow.
set -euo pipefail
cd "$(dirname "$0")/.."

dist=${1:-dist}
repository=${REPOSITORY:-sallyport-gateway/sallyport}
if [ -n "${VERIFY_KEY:-}" ]; then
	by=(--key "$VERIFY_KEY" --insecure-ignore-tlog=true)
else
	by=(--certificate-oidc-issuer https://token.actions.githubusercontent.com
		--certificate-identity-regexp "^https://github.com/$repository/\.github/workflows/release\.yml@refs/tags/v[0-9.]+$")
fi
cosign() { go tool -modfile=.tools/cosign/go.mod cosign "$@"; }
cosign verify-blob "${by[@]}" --bundle "$dist/checksums.txt.bundle" "$dist/checksums.txt"
(cd "$dist" && sha256sum --check --strict checksums.txt)
for archive in "$dist"/*.tar.gz; do
	cosign verify-blob-attestation "${by[@]}" --type slsaprovenance1 --bundle "$archive.provenance.bundle" "$archive"
done
