#!/bin/sh
# Asks the gateway once a second as one of five callers, now and then without a token.
set -u
while :; do
	for caller in ada bob eve joe zoe; do
		token=$(curl -s "http://stubs:9100/token?sub=$caller&ttl=5m")
		for n in 1 2 3 4; do
			curl -s -o /dev/null -H "Authorization: Bearer $token" "http://gateway:8080/orders/$n?cache=5"
			sleep 1
		done
		curl -s -o /dev/null http://gateway:8080/orders
	done
done
