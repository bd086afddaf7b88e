package main

import (
	"math"
	"testing"
	"time"

	"github.com/sallyport-gateway/sallyport/test/stage"
)

// The lines go through what was measured, and nothing gets cheaper by noise.
func TestFit(t *testing.T) {
	var all []usage
	for _, z := range sizes {
		all = append(all, usage{size: z, redis: 10,
			cpu:    100 + 5*float64(z.gateways-1) + 0.01*float64(z.keys-100) + 0.2*float64(z.routes-1) - 0.1*float64(z.connections),
			memory: 50 + 0.002*float64(z.keys-100) + 0.01*float64(z.routes-1) + 0.02*float64(z.connections)})
	}
	m := fit(all)
	for _, c := range []struct {
		name      string
		got, want float64
	}{
		{"a request", m.cpu, 100}, {"a gateway", m.cpuGateway, 5}, {"a key", m.cpuKey, 0.01}, {"a route", m.cpuRoute, 0.2},
		{"a connection that seems to save", m.cpuConnection, 0},
		{"memory", m.memory, 50}, {"memory of a key", m.memoryKey, 0.002}, {"of a route", m.memoryRoute, 0.01}, {"of a connection", m.memoryConnection, 0.02},
	} {
		if math.Abs(c.got-c.want) > 1e-9 {
			t.Errorf("%s: got %v, want %v", c.name, c.got, c.want)
		}
	}
}

// With a zone lost the others carry the load, by processor and by memory.
func TestReplicas(t *testing.T) {
	m := model{cpu: 200, memory: 100, memoryConnection: 0.02}
	for _, c := range []struct {
		name string
		d    demand
		want int
	}{
		{"little: one in each zone", demand{rate: 10, cpu: 1, memory: 1000}, 3},
		// 6000/s take 1.2 cores; at 60 % that is two pods of one core, and a third for the zone.
		{"processor", demand{rate: 6000, cpu: 1, memory: 1000}, 3},
		{"more processor", demand{rate: 12000, cpu: 1, memory: 1000}, 6},
		// 450 MiB may live, 100 do without connections: 17500 of them in each pod.
		{"memory", demand{rate: 10, connections: 70000, cpu: 1, memory: 1000}, 6},
		{"no pod is large enough", demand{rate: 10, cpu: 1, memory: 200}, 0},
	} {
		if got, why := m.replicas(c.d); got != c.want {
			t.Errorf("%s: got %d (%s), want %d", c.name, got, why, c.want)
		}
	}
}

// A size is measured on real processes: every figure is there.
func TestMeasure(t *testing.T) {
	binary, err := stage.Binary(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	u, err := measure(t.Context(), options{binary: binary, root: "../..", dir: t.TempDir(), rate: 60}, size{1, 20, 10, 20}, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if u.requests == 0 || u.cpu <= 0 || u.memory <= 0 || u.resident < u.memory {
		t.Errorf("got %+v", u)
	}
}
