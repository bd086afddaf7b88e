#!/bin/sh
# Asks the gateway as one of a thousand callers after the other, ten times each.
set -u
n=0
while :; do
	n=$(((n + 1) % 1000))
	curl -s -o /dev/null -H "X-User: caller-$n" "http://gateway:8080/orders/[1-10]"
done
