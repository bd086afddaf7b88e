SHELL := bash
.SHELLFLAGS := -euo pipefail -c
export PATH := $(PATH):/usr/sbin
.DEFAULT_GOAL := help

BINARY := bin/sallyport
TOOL := go tool -modfile=.tools/go.mod
FUZZTIME ?= 10s
SOAKFUZZ ?= 5m
# A copy of the Go vulnerability database, file:///DIR. Default: the public one.
VULNDB ?=
# Further flags of the load benchmark.
BENCH ?=

.PHONY: help
help: ## print this
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: build ## build and run the demo: a gateway, its issuer, upstreams and sink, and the commands to try
	$(BINARY) demo

.PHONY: build
build: ## build bin/sallyport
	CGO_ENABLED=0 go build -trimpath -mod=readonly -o $(BINARY) ./cmd/sallyport

# What the tests of all rooms need beside Go.
TEST_NEEDS := redis-server=redis-server curl=curl cc='gcc libc6-dev' promtool=prometheus prometheus=prometheus amtool=prometheus-alertmanager docker-compose=docker-compose rsyslogd='rsyslog rsyslog-gnutls' haproxy=haproxy socat=socat

.PHONY: test
test: build ## run all tests, installing what they need; the last line counts them
	@.tools/need.sh $(TEST_NEEDS)
	CACHE_TESTS="$$(.tools/cache-tests.sh)" go run ./test/tally -race -shuffle=on -timeout 20m ./... -- \
		SALLYPORT=$(CURDIR)/$(BINARY) -count=1 -run TestStories ./test/e2e -- \
		-C test/deploy -count=1 ./... -- \
		-C test/bench/receiver -count=1 ./...

.PHONY: unit
unit: ## run the tests of all rooms
	@.tools/need.sh $(TEST_NEEDS)
	CACHE_TESTS="$$(.tools/cache-tests.sh)" go run ./test/tally -shuffle=on -timeout 20m ./...

.PHONY: race
race: ## run the tests of all rooms under the race detector
	@.tools/need.sh $(TEST_NEEDS)
	CACHE_TESTS="$$(.tools/cache-tests.sh)" go run ./test/tally -race -shuffle=on -timeout 30m ./...

.PHONY: e2e
e2e: build ## run the stories of test/e2e against bin/sallyport
	@.tools/need.sh $(TEST_NEEDS)
	go run ./test/tally SALLYPORT=$(CURDIR)/$(BINARY) -count=1 -run TestStories ./test/e2e

.PHONY: check
check: modules lint vet ## what a change must pass before review: modules, lint, vet, and vuln where VULNDB is given
	@if [ -n "$(VULNDB)" ]; then $(MAKE) vuln; else echo "skipped: govulncheck, for VULNDB names no copy of the vulnerability database"; fi

.PHONY: modules
modules: ## compare what is required with what is used and with its checksums
	go mod verify
	go mod tidy -diff
	cd .tools && go mod verify && go mod tidy -diff

.PHONY: lint
lint: ## check format, staticcheck, shell scripts and workflows
	@.tools/need.sh shellcheck=shellcheck
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); \
		if [ -n "$$unformatted" ]; then echo "not gofmt-ed: $$unformatted"; exit 1; fi
	$(TOOL) staticcheck ./...
	shellcheck $$(git grep --untracked --files-with-matches --extended-regexp '^#!.*sh$$')
	$(TOOL) actionlint

.PHONY: vet
vet: ## run go vet
	go vet ./...

.PHONY: vuln
vuln: ## look for known vulnerabilities in what the gateway calls; VULNDB=file:///DIR without a network
	$(TOOL) govulncheck $(if $(VULNDB),-db $(VULNDB)) ./...

.PHONY: smoke
smoke: build ## start bin/sallyport, wait until it is ready, expect one 200 and one 401
	go run ./test/smoke $(BINARY)

.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME (10s)
	.tools/fuzz.sh $(FUZZTIME)

.PHONY: xcaddy
xcaddy: ## build a stock Caddy with each guard alone and send a request through each; ROOMS="jwtauth health" for some
	go run ./test/xcaddy $(ROOMS)

.PHONY: reproducible
reproducible: ## build the current commit twice and compare the binaries byte by byte
	.tools/reproducible.sh

.PHONY: release
release: ## make dist/ of the current tag: archives, SBOM, provenance, checksums, signatures; SNAPSHOT=1 of any commit, SIGNING_KEY=FILE
	.tools/release.sh $(if $(SNAPSHOT),--snapshot)

.PHONY: verify-release
verify-release: ## check signature, checksums and provenance of DIST (dist); VERIFY_KEY=FILE, or keyless
	.tools/verify-release.sh $(DIST)

.PHONY: push
push: ## build the image for amd64 and arm64, push it, write its digest to dist/image; IMAGE=registry/name:tag
	.tools/push-image.sh $(IMAGE)

.PHONY: sign
sign: ## sign the pushed image and attest its SBOM and provenance; IMAGE=registry/name@sha256:…
	.tools/sign-image.sh $(IMAGE)

.PHONY: verify-image
verify-image: ## check signature, SBOM and provenance of a published image; IMAGE=registry/name@sha256:…
	.tools/verify-image.sh $(IMAGE)

.PHONY: scan
scan: ## look with Trivy for vulnerabilities in IMAGE; without it, in what the overlays run
	.tools/scan.sh $(if $(filter-out file undefined default,$(origin IMAGE)),$(IMAGE))

.PHONY: promote
promote: ## write the digest of a verified image into an overlay; OVERLAY=dev|staging|canary|production IMAGE=registry/name@sha256:…
	.tools/promote.sh $(OVERLAY) $(IMAGE)

.PHONY: upgrade
upgrade: ## take every module to the newest patch release of what it requires
	.tools/upgrade.sh

.PHONY: bench
bench: build ## measure the chain in memory, and under load beside stock Caddy, nginx and HAProxy, in 15 minutes; BENCH="-only A,D" for some
	@.tools/need.sh wrk=wrk nginx=nginx-light haproxy=haproxy redis-server=redis-server taskset=util-linux
	go test -run '^$$' -bench . ./test/bench
	go test -run '^$$' -bench 'Take|ServeHTTP|Decide' ./modules/ratelimit
	cd test/bench/ratelimit && go test -run '^$$' -bench .
	go run ./test/bench/load -markdown docs/benchmarks.md -plot docs/benchmarks.svg -json bin/benchmarks.json $(BENCH) $(BINARY)

.PHONY: bench-short
bench-short: ## count what a request allocates, beside a bare reverse_proxy; part of make test
	go test -count=1 -v -run TestWhatARequestAllocates ./test/bench

# The image's name, and the image that it is built in.
IMAGE ?= sallyport:local
BUILDER_IMAGE ?= golang:1.26-bookworm
COMPOSE ?= $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)

.PHONY: image
image: ## build the container image; IMAGE=sallyport:local BUILDER_IMAGE=golang:1.26-bookworm
	DOCKER_BUILDKIT=1 docker build --file docker/Dockerfile --tag $(IMAGE) \
		--build-arg BUILDER_IMAGE=$(BUILDER_IMAGE) --build-arg REVISION=$(shell git rev-parse HEAD) \
		--build-arg VERSION=$(shell git describe --tags --always) --build-arg CREATED=$(shell git log -1 --format=%cI) .

.PHONY: up
up: ## start the local stack in containers: gateway, Redis, stubs, collector, Prometheus, Grafana
	SALLYPORT_IMAGE=$(IMAGE) BUILDER_IMAGE=$(BUILDER_IMAGE) $(COMPOSE) -f docker/docker-compose.yml up --build

.PHONY: observe
observe: build ## start gateway, Redis, stubs and Prometheus from installed programs, and serve plots on 127.0.0.1:9400
	@.tools/need.sh redis-server=redis-server prometheus=prometheus
	go run ./test/observe $(BINARY)

.PHONY: verify-deploy
verify-deploy: build ## hold manifests, image, stack, alerts, runbooks and dashboards against schemas, promises and a running gateway
	@.tools/need.sh promtool=prometheus amtool=prometheus-alertmanager docker-compose=docker-compose prometheus=prometheus redis-server=redis-server
	cd test/deploy && go vet ./... && go test -count=1 ./...
	SALLYPORT=$(CURDIR)/$(BINARY) go test -count=1 ./test/observe

.PHONY: verify-deploy-full
verify-deploy-full: verify-deploy ## verify-deploy, and: a real API server, the image built and run by a real engine, the stack up, a release made, signed and verified, signed images only
	CGO_ENABLED=0 GOOS=linux GOARCH=arm64 go build -trimpath -mod=readonly -o /dev/null ./cmd/sallyport
	@.tools/need.sh etcd=etcd-server kubectl=kubernetes-client dockerd=docker.io busybox=busybox-static docker-compose=docker-compose curl=curl redis-server=redis-server
	test/deploy/engine.sh
	cd test/deploy && go test -count=1 -tags apiserver -timeout 40m -run TestAPIServer .
	cd test/deploy && go test -count=1 -tags admission,release -timeout 60m -run 'TestSignedImagesOnly|TestReleaseSnapshot' .

.PHONY: accuracy
accuracy: ## the long form of the limiter's tests: what is admitted against what is promised
	go run ./test/tally SALLYPORT_ACCURACY=full -count=1 -timeout 60m ./modules/ratelimit/...

.PHONY: durability
durability: ## the long form of the spool's tests: kills, power losses, full disks
	go run ./test/tally SALLYPORT_DURABILITY=full -count=1 -timeout 60m ./modules/audit/...

.PHONY: cache-suite
cache-suite: ## run the public suite of HTTP caches: CACHE_TESTS=CHECKOUT, or the edition that is a package
	CACHE_TESTS="$$(.tools/cache-tests.sh)" go test -count=1 -v -run TestPublicSuite ./modules/cache

.PHONY: unleash
unleash: ## run the flag source against a real server of Unleash with PostgreSQL; UNLEASH_SERVER=DIR for one that is installed
	@.tools/need.sh npm=npm pg_ctlcluster=postgresql
	UNLEASH_SERVER="$$(.tools/unleash.sh)" go test -count=1 -v -run TestRealServer ./modules/flags/unleash

.PHONY: soak
soak: build ## the long form of jwt's tests: an outage of ten minutes, a flood of one, a thousand reloads, fuzzing for SOAKFUZZ (5m) a target
	SALLYPORT_SOAK=1 SALLYPORT=$(CURDIR)/$(BINARY) go test -count=1 -v -timeout 60m ./modules/jwtauth/... | \
		grep --line-buffered -vE '^ *(=== |--- PASS|[{])'
	.tools/fuzz.sh $(SOAKFUZZ) modules/jwtauth

.PHONY: rolling
rolling: build ## the long form of the tests of reloads and restarts: 100,000 requests over restarts, 300 reloads of each kind
	SALLYPORT=$(CURDIR)/$(BINARY) SALLYPORT_ROLLING=100000 SALLYPORT_RELOADS=300 \
		go test -v -count=1 -timeout 30m ./modules/handover ./test/rolling

# Flags of the drills: CHAOS="--only redis", or "--short" for the form that tests run.
CHAOS ?= $(CHAOS_REPORT)
CHAOS_REPORT := --report docs/drill-report.md

.PHONY: chaos
chaos: build ## break Redis, services, issuer, sink, collector and gateways under load and judge the objectives; CHAOS="--only redis" for some
	@.tools/need.sh redis-server=redis-server prometheus=prometheus haproxy=haproxy socat=socat
	go run ./test/chaos $(CHAOS) $(BINARY)

# A load of your own: SCALE="--rate 5000 --keys 20000 --routes 100 --connections 20000 --cpu 1 --memory 512".
SCALE ?= --report docs/capacity.md

.PHONY: scale
scale: build ## measure how cost and memory grow with gateways, keys, routes and connections, and predict replicas; SCALE="--rate 5000 ..." for a load of your own
	@.tools/need.sh redis-server=redis-server
	go run ./test/chaos --scale $(SCALE) $(BINARY)
