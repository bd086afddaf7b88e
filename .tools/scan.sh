#!/usr/bin/env bash
# scan.sh [IMAGE…]
# Looks with Trivy for known vulnerabilities that have a fix. Without images it
# scans what the overlays run: their digests do not change, what is known of
# them does. A digest of zeros is a place that nothing was promoted to yet.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v trivy >/dev/null || { echo "trivy is missing; install it, or leave this to the workflow" >&2; exit 1; }
images=("$@")
if [ ${#images[@]} -eq 0 ]; then
	while read -r name digest; do
		[[ $digest =~ ^sha256:(.)\1{63}$ ]] || images+=("$name@$digest")
	done < <(awk '/newName:/ { name = $2 } /digest:/ { print name, $2 }' \
		deploy/kubernetes/overlays/*/kustomization.yaml deploy/kubernetes/overlays/canary/release/kustomization.yaml | sort -u)
	[ ${#images[@]} -gt 0 ] || { echo "no overlay names a published image"; exit 0; }
fi
for image in "${images[@]}"; do
	trivy image --scanners vuln,secret,misconfig --severity HIGH,CRITICAL --ignore-unfixed --exit-code 1 "$image"
done
