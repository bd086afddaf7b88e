#!/usr/bin/env bash
# Builds the image with a real Docker engine, runs it as hardened as the cluster
# does, and starts the stack of docker/docker-compose.yml with a request through
# it. An engine that is not running is started for the time, as root. Base images
# that no registry can be asked for are replaced by stand-ins of this machine's
# own Go, busybox and redis-server.
set -euo pipefail
cd "$(dirname "$0")/../.."

work=$(mktemp -d)
: >"$work/stand-in.yml"
engine=""
containers=()
stack=(docker-compose --project-name sallyport-verify -f docker/docker-compose.yml -f "$work/stand-in.yml")
finish() {
	status=$?
	set +e
	[ $status -eq 0 ] || { docker ps -a; for c in "${containers[@]}"; do docker logs --tail 30 "$c"; done; "${stack[@]}" logs --tail 30; } 2>&1
	"${stack[@]}" down --volumes --remove-orphans >/dev/null 2>&1
	[ ${#containers[@]} -eq 0 ] || docker rm --force "${containers[@]}" >/dev/null 2>&1
	if [ -n "$engine" ]; then
		kill "$engine"
		wait "$engine" 2>/dev/null
	fi
	rm -rf "$work"
	exit $status
}
trap finish EXIT
step() { echo "— $*"; }
fail() { echo "failed: $*" >&2; exit 1; }
# await COMMAND… tries for a minute.
await() { for _ in $(seq 120); do "$@" >/dev/null 2>&1 && return; sleep 0.5; done; fail "$*"; }

# Debian's client has the builder that the Dockerfile is written for.
docker() { if [ -x /usr/bin/docker ]; then /usr/bin/docker "$@"; else command docker "$@"; fi; }

if ! docker info >/dev/null 2>&1; then
	step "start an engine"
	export DOCKER_HOST=unix://$work/docker.sock
	dockerd --host "$DOCKER_HOST" --data-root "$work/engine" --exec-root "$work/exec" --pidfile "$work/pid" >"$work/engine.log" 2>&1 &
	engine=$!
	for _ in $(seq 120); do docker info >/dev/null 2>&1 && break; sleep 0.5; done
	docker info >/dev/null || { tail -20 "$work/engine.log"; fail "the engine does not start"; }
fi

# stand_in NAME FOLDER imports a folder as an image.
stand_in() { tar --create --directory "$2" . | docker import --change 'ENV PATH=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' - "$1" >/dev/null; }
builder=${BUILDER_IMAGE:-golang:1.26-bookworm}
redis=${REDIS_IMAGE:-redis:7.4-alpine}
if ! docker image inspect "$builder" >/dev/null 2>&1 && ! timeout 60 docker pull --quiet "$builder" >/dev/null 2>&1; then
	step "$builder is not to be had: a stand-in of this machine's Go"
	builder=sallyport-verify/builder
	base=$work/builder
	mkdir -p "$base"/{bin,etc/ssl/certs,tmp,root,usr/local}
	cp "$(command -v busybox)" "$base/bin/busybox"
	for applet in $("$base/bin/busybox" --list | grep -vx busybox); do ln -sf busybox "$base/bin/$applet"; done
	cp -L /etc/ssl/certs/ca-certificates.crt "$base/etc/ssl/certs/"
	cp -r "$(go env GOROOT)" "$base/usr/local/go"
	stand_in "$builder" "$base"
fi
if ! docker image inspect "$redis" >/dev/null 2>&1 && ! timeout 60 docker pull --quiet "$redis" >/dev/null 2>&1; then
	step "$redis is not to be had: a stand-in of this machine's redis-server"
	redis=sallyport-verify/redis
	base=$work/redis
	mkdir -p "$base"/{bin,tmp,usr/bin}
	for program in redis-server redis-cli; do
		cp -L "$(command -v $program)" "$base/usr/bin/"
		ldd "$(command -v $program)" | grep -o '/[^ ]*' | while read -r lib; do mkdir -p "$base$(dirname "$lib")"; cp -L "$lib" "$base$lib"; done
	done
	stand_in "$redis" "$base"
fi

step "build"
image=sallyport-verify/gateway
arguments=(--build-arg "BUILDER_IMAGE=$builder" --build-arg "REVISION=$(git rev-parse HEAD)" --build-arg VERSION=verify)
proxy=$(go env GOPROXY)
DOCKER_BUILDKIT=1 docker build --quiet --network host --file docker/Dockerfile --tag "$image" "${arguments[@]}" \
	--build-arg "GOPROXY=$proxy" . >/dev/null
[ "$(docker inspect --format '{{.Config.User}}' "$image")" = 65532:65532 ] || fail "the image's user"
[ "$(docker inspect --format '{{index .Config.Labels "org.opencontainers.image.revision"}}' "$image")" = "$(git rev-parse HEAD)" ] || fail "the revision's label"
size=$(docker inspect --format '{{.Size}}' "$image")
[ "$size" -lt 120000000 ] || fail "the image has $size bytes"
echo "  $((size / 1000000)) MB"

step "run hardened"
hardened=(--read-only --cap-drop ALL --security-opt no-new-privileges --tmpfs /tmp:uid=65532 --tmpfs /data:uid=65532 --tmpfs /config:uid=65532 --tmpfs /run/sallyport:uid=65532)
docker run --detach --name sallyport-verify-stubs "${hardened[@]}" --env JWT_ISSUER=http://127.0.0.1:9100 --env AUDIT_EVENT_SINK_TOKEN=verify \
	--no-healthcheck --publish 127.0.0.1::9180 --publish 127.0.0.1::8080 --publish 127.0.0.1::9100 "$image" demo --stubs 0.0.0.0 >/dev/null
containers+=(sallyport-verify-stubs)
# In the stubs' network, so that dev.Caddyfile reaches them on loopback.
docker run --detach --name sallyport-verify-gateway "${hardened[@]}" --network container:sallyport-verify-stubs --env PREVIEW_HOST=127.0.0.1 \
	--env JWT_ISSUER=http://127.0.0.1:9100 --env JWKS_URL=http://127.0.0.1:9100/jwks.json --env JWT_AUDIENCE=orders-api \
	--env UPSTREAMS=127.0.0.1:9201 --env REDIS_URL=redis://127.0.0.1:6379 --env REDIS_PASSWORD=none --env AUDIT_EVENT_SINK_URL=http://127.0.0.1:9300 \
	--env AUDIT_EVENT_SINK_TOKEN=verify "$image" run --config /etc/sallyport/dev.Caddyfile --adapter caddyfile >/dev/null
containers+=(sallyport-verify-gateway)
healthy() { [ "$(docker inspect --format '{{.State.Health.Status}}' sallyport-verify-gateway)" = healthy ]; }
await healthy
address() { docker port sallyport-verify-stubs "$1/tcp" | head -1; }
token=$(curl --silent --fail "http://$(address 9100)/token?sub=ada")
site=$(address 8080)
status() { curl --silent --output /dev/null --write-out '%{http_code}' --header "Host: 127.0.0.1" "$@"; }
[ "$(status --header "Authorization: Bearer $token" "http://$site/orders")" = 200 ] || fail "200 with a token"
[ "$(status "http://$site/orders")" = 401 ] || fail "401 without one"
docker stop --time 60 sallyport-verify-gateway >/dev/null
[ "$(docker inspect --format '{{.State.ExitCode}}' sallyport-verify-gateway)" = 0 ] || fail "exit code after SIGTERM"
docker rm --force sallyport-verify-gateway sallyport-verify-stubs >/dev/null
containers=()

step "compose up, and a request through it"
# What is on this machine only has no ports of its own to collide with others.
cat >"$work/stand-in.yml" <<-YAML
	services:
	  gateway: {image: $image}
	  stubs: {image: $image}
	  redis: {image: $redis}
YAML
SALLYPORT_IMAGE=$image REDIS_IMAGE=$redis "${stack[@]}" up --detach --no-build gateway redis stubs >/dev/null 2>&1
await curl --silent --fail http://127.0.0.1:9180/health/ready
token=$(curl --silent --fail "http://127.0.0.1:9100/token?sub=ada")
[ "$(curl --silent --output /dev/null --write-out '%{http_code}' --header "Authorization: Bearer $token" http://127.0.0.1:8080/orders)" = 200 ] || fail "200 through the stack"
await eval "curl --silent --fail http://127.0.0.1:9180/health/ready | grep -q '\"redis\":{\"status\":\"ready\"}'"
echo "image and stack: all is well"
