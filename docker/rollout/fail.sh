#!/bin/sh
# After a minute, one in five answers of the canary is an error, until this ends.
set -eu
fault=http://stubs:9200/fault/orders-2
trap 'curl -sf -X DELETE $fault' EXIT
sleep "${HEALTHY_SECONDS:-60}"
curl -sf -X PUT "$fault?status=503&share=20%"
echo "the canary fails"
sleep 86400
