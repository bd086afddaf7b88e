#!/usr/bin/env bash
# push-image.sh REGISTRY/NAME:TAG
# Builds the image for both architectures, pushes it, and writes its digest to
# dist/image as NAME@sha256:DIGEST. It needs a builder that can push several
# platforms (docker buildx).
set -euo pipefail
cd "$(dirname "$0")/.."

image=${1:?usage: push-image.sh REGISTRY/NAME:TAG}
mkdir -p dist
export SOURCE_DATE_EPOCH
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
docker buildx build --platform linux/amd64,linux/arm64 --file docker/Dockerfile --tag "$image" \
	--build-arg "BUILDER_IMAGE=${BUILDER_IMAGE:-golang:1.26-bookworm}" --build-arg "REVISION=$(git rev-parse HEAD)" \
	--build-arg "VERSION=$(git describe --tags --always)" --build-arg "CREATED=$(git log -1 --format=%cI)" \
	--output type=image,push=true,rewrite-timestamp=true --provenance=mode=max --sbom=true \
	--metadata-file dist/image.json .
digest=$(grep --only-matching '"containerimage.digest": *"sha256:[0-9a-f]*"' dist/image.json | grep --only-matching 'sha256:[0-9a-f]*')
name=${image%:*}
echo "$name@$digest" | tee dist/image
