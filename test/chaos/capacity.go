package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// model says what one gateway needs: straight lines through what was measured.
type model struct {
	// cpu is microseconds a request; each further gateway, key, route and
	// connection adds to it.
	cpu, cpuGateway, cpuKey, cpuRoute, cpuConnection float64
	// memory is mebibytes that live, and what each key, route and connection adds.
	memory, memoryKey, memoryRoute, memoryConnection float64
	// redis is microseconds a request at the primary and its replica.
	redis float64
}

// fit draws each line from the smallest size to the largest of its dimension.
// What a line would take away is noise: nothing gets cheaper by being more.
func fit(all []usage) (m model) {
	at := func(z size) usage {
		for _, u := range all {
			if u.size == z {
				return u
			}
		}
		return usage{}
	}
	base := at(small)
	m.cpu, m.memory = base.cpu, base.memory
	slope := func(big usage, by int) (cpu, memory float64) {
		return max(0, (big.cpu-base.cpu)/float64(by)), max(0, (big.memory-base.memory)/float64(by))
	}
	m.cpuGateway, _ = slope(at(size{3, 100, 1, 0}), 2)
	m.cpuKey, m.memoryKey = slope(at(size{1, 10000, 1, 0}), 9900)
	m.cpuRoute, m.memoryRoute = slope(at(size{1, 100, 1000, 0}), 999)
	m.cpuConnection, m.memoryConnection = slope(at(size{1, 100, 1, 4000}), 4000)
	for _, u := range all {
		m.redis = max(m.redis, u.redis)
	}
	return m
}

// of predicts a size.
func (m model) of(z size) (cpu, memory float64) {
	n := float64(z.gateways)
	// Gateways do not talk to each other: what more of them cost is taken as constant beyond those measured.
	cpu = m.cpu + m.cpuGateway*min(n-1, 2) + m.cpuKey*float64(z.keys) + m.cpuRoute*float64(z.routes) + m.cpuConnection*float64(z.connections)/n
	return cpu, m.memory + m.memoryKey*float64(z.keys) + m.memoryRoute*float64(z.routes) + m.memoryConnection*float64(z.connections)/n
}

// demand is a load to carry and the pods to carry it with.
type demand struct {
	rate, keys, routes, connections int
	// cpu is the cores of a pod, memory its mebibytes, price that of a core and hour.
	cpu, memory, price float64
}

// The assumptions of a prediction. Deployment and autoscaler have the first two.
const (
	busy   = 0.6     // the autoscaler's target
	room   = 0.45    // of the memory limit may live: half of GOMEMLIMIT, so that collections stay rare
	zones  = 3       // with one of them lost the others must do
	month  = 730     // hours
	thread = 1e6 / 2 // microseconds a second of one primary's thread that may be used
)

// replicas is the least number of pods that carries the demand with one zone lost.
func (m model) replicas(d demand) (n int, why string) {
	for n = zones; ; n++ {
		left := n - (n+zones-1)/zones // a zone has at most this part of them
		cpu, memory := m.of(size{max(1, left), d.keys, d.routes, d.connections})
		switch {
		case float64(d.rate)*cpu/1e6 > float64(left)*d.cpu*busy:
			why = "processor"
		case memory > d.memory*room:
			why = "memory"
		default:
			if why == "" {
				why = "one in each zone"
			}
			return n, why
		}
		if n == 10000 {
			return 0, "no number of pods has the memory: " + fmt.Sprintf("%.0f MiB live in each", memory)
		}
	}
}

// capacity measures all sizes and writes the page.
func capacity(ctx context.Context, o options, each time.Duration, own []demand, out io.Writer) (string, error) {
	var all []usage
	for i, z := range append(sizes[:len(sizes):len(sizes)], heldOut) {
		apart := o
		apart.dir = filepath.Join(o.dir, fmt.Sprint(i))
		if err := os.Mkdir(apart.dir, 0o700); err != nil {
			return "", err
		}
		u, err := measure(ctx, apart, z, each)
		if err != nil {
			return "", fmt.Errorf("%s: %w (logs are in %s)", z, err, apart.dir)
		}
		all = append(all, u)
		fmt.Fprintf(out, "%s: %.0f µs of processor a request, %.0f MiB live\n", z, u.cpu, u.memory)
	}
	last := all[len(all)-1]
	m := fit(all[:len(all)-1])
	var b strings.Builder
	fmt.Fprintf(&b, capacityHead, time.Now().UTC().Format("2 January 2006"), each.Seconds())
	b.WriteString("| gateways | keys | routes | connections | requests | processor a request | requests a second of one core | Redis a request | live memory | resident |\n|---|---|---|---|---|---|---|---|---|---|\n")
	for _, u := range all {
		fmt.Fprintf(&b, "| %d | %d | %d | %d | %d | %.0f µs | %.0f | %.1f µs | %.0f MiB | %.0f MiB |\n", u.gateways, u.keys, u.routes, u.connections, u.requests, u.cpu, 1e6/u.cpu, u.redis, u.memory, u.resident)
	}
	cpu, memory := m.of(heldOut)
	fmt.Fprintf(&b, capacityModel, m.cpu, m.cpuGateway, 1000*m.cpuKey, 1000*m.cpuRoute, 1000*m.cpuConnection, m.memory, 1000*m.memoryKey, 1000*m.memoryRoute, 1000*m.memoryConnection,
		heldOut, cpu, last.cpu, memory, last.memory, 100*math.Abs(cpu/last.cpu-1), 100*math.Abs(memory/last.memory-1))
	for _, d := range append([]demand{
		{500, 5000, 50, 2000, 0.5, 512, 0.04}, {2000, 20000, 50, 10000, 0.5, 512, 0.04}, {5000, 20000, 100, 20000, 1, 512, 0.04},
		{20000, 50000, 100, 50000, 2, 2048, 0.04}, {50000, 100000, 200, 100000, 4, 4096, 0.04},
	}, own...) {
		b.WriteString(m.row(d))
	}
	b.WriteString(capacityTail)
	return b.String(), nil
}

func (m model) row(d demand) string {
	n, why := m.replicas(d)
	primaries := math.Ceil(float64(d.rate) * m.redis / thread)
	cpu, _ := m.of(size{max(1, n), d.keys, d.routes, d.connections})
	return fmt.Sprintf("| %d/s | %d | %d | %d | %g cores, %.0f MiB | **%d** (%s) | %.0f | %.0f | %.2f |\n", d.rate, d.keys, d.routes, d.connections, d.cpu, d.memory, n, why, primaries,
		float64(n)*d.cpu*d.price*month, cpu/3600*d.price)
}

const capacityHead = `# Capacity

Written by ` + "`make scale`" + ` on %s. Each size is measured for %.0f seconds on real processes: gateways with the shipped snippets and everything in them
(TLS apart), Redis with a replica and a Sentinel, services that answer at once. Each gateway is asked 400 times a second. What counts is the processor time of the gateways, not
the clock: the machine's two cores are shared by gateways, services, callers and others, so its own throughput says nothing. Processor time grows on a busy machine too, by up to a half; predictions err on the side of more pods.

`

const capacityModel = `
## The model

Straight lines from the smallest size to the largest of each dimension; a slope below zero counts as none.

| one gateway | alone | a further gateway | 1000 keys | 1000 routes | 1000 connections |
|---|---|---|---|---|---|
| processor a request, µs | %.0f | %+.1f | %+.1f | %+.1f | %+.1f |
| live memory, MiB | %.0f | – | %+.1f | %+.1f | %+.1f |

Held against a size that it was not made from (%s): %.0f µs predicted, %.0f measured; %.0f MiB predicted, %.0f measured. It is off by %.0f %% and %.0f %%.

## How many replicas

` + "`make scale SCALE=\"--rate 5000 --keys 20000 --routes 100 --connections 20000 --cpu 1 --memory 512\"`" + ` adds a line for a load of yours, from a new measurement.

| load | keys | routes | connections | a pod | replicas | Redis primaries | a month | a million requests |
|---|---|---|---|---|---|---|---|---|
`

const capacityTail = `
What is assumed:

- Pods are kept at 60 % of their processor, which is the autoscaler's target, with one of three zones lost; three are the least.
- What lives takes at most half of GOMEMLIMIT, which is 90 % of the pod's limit; more is resident, since collections are rare (GOGC 400). Every gateway meets every key; connections spread evenly.
- Gateways do not talk to each other: beyond three of them, what one more costs the others is taken as nothing. Routes are tried in their order, and the one that is asked is the last.
- A primary of Redis is kept under half of its one thread. Most requests need none: limits with credit left are reported in batches. A caller near its limit costs more.
- A core costs 0.04 an hour, whatever the currency, and a month has 730 hours; memory, Redis, traffic and the balancer are not in it. The last column is the processor time of a million requests at that price, without idle capacity.
- Answers are small (400 bytes), one upstream call each, nothing cached, tokens are seen again. Bodies of megabytes, TLS at the gateway and new tokens (one signature check each, [jwt](modules/jwt.md)) come on top.
- Latency is not predicted: below 60 % it is the upstream's.
`
