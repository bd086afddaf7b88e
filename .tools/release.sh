#!/usr/bin/env bash
# release.sh [--snapshot]
# Makes dist/ of the current tag: an archive for each architecture, an SBOM of
# each, provenance, checksums of all of them, and signatures. It publishes
# nothing. SIGNING_KEY names a private key; without one signatures are keyless, by
# the workflow's own identity. --snapshot needs no tag.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "${1:-}" != --snapshot ] && ! git describe --exact-match --tags HEAD >/dev/null 2>&1; then
	echo "HEAD has no tag; a release is made of one. SNAPSHOT=1 makes one of any commit." >&2
	exit 1
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
go -C .tools/release build -o "$work/cyclonedx-gomod" github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod
PATH=$work:$PATH go tool -modfile=.tools/release/go.mod goreleaser release --config .tools/release/goreleaser.yaml --clean --skip=publish,announce "$@"

# What every archive was made of, by what, and from which commit.
go -C .tools/release run ./provenance "$PWD/dist" >dist/provenance.json
predicate=$work/predicate.json
go -C .tools/release run ./provenance -predicate "$PWD/dist" >"$predicate"
(cd dist && sha256sum provenance.json >>checksums.txt)

by=(--yes)
[ -z "${SIGNING_KEY:-}" ] || by+=(--key "$SIGNING_KEY" --tlog-upload=false)
cosign() { go tool -modfile=.tools/cosign/go.mod cosign "$@"; }
cosign sign-blob "${by[@]}" --bundle dist/checksums.txt.bundle dist/checksums.txt >/dev/null
for archive in dist/*.tar.gz; do
	cosign attest-blob "${by[@]}" --type slsaprovenance1 --predicate "$predicate" --bundle "$archive.provenance.bundle" "$archive" >/dev/null
done
cat dist/checksums.txt
