#!/bin/sh
# Breaks one thing after the other for a minute each, once.
set -eu
redis=http://toxiproxy:8474/proxies/redis
faults=http://stubs:9200/fault
drill() {
	echo "$1"
	eval "$2"
	sleep "${SECONDS_EACH:-60}"
	eval "$3"
	sleep "${SECONDS_EACH:-60}"
}
# Whatever ends this, the faults end too.
trap 'curl -sf -X DELETE $faults; curl -sf -X POST -d "{\"enabled\":true}" $redis' EXIT
drill "Redis answers 100 ms later" \
	"curl -sf -d '{\"name\":\"slow\",\"type\":\"latency\",\"attributes\":{\"latency\":100}}' $redis/toxics" \
	"curl -sf -X DELETE $redis/toxics/slow"
drill "Redis is away" \
	"curl -sf -X POST -d '{\"enabled\":false}' $redis" \
	"curl -sf -X POST -d '{\"enabled\":true}' $redis"
drill "one in three answers comes 500 ms later" \
	"curl -sf -X PUT '$faults?latency=500ms&share=33%'" \
	"curl -sf -X DELETE $faults"
drill "the services fail" \
	"curl -sf -X PUT '$faults?status=503'" \
	"curl -sf -X DELETE $faults"
echo "all is mended"
