// Package standard is the guest list: it imports every module of Sallyport and
// of Caddy's standard distribution.
package standard

import (
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/sallyport-gateway/sallyport/modules/admin"
	_ "github.com/sallyport-gateway/sallyport/modules/audit"
	_ "github.com/sallyport-gateway/sallyport/modules/audit/kafka"
	_ "github.com/sallyport-gateway/sallyport/modules/audit/otlp"
	_ "github.com/sallyport-gateway/sallyport/modules/audit/redis"
	_ "github.com/sallyport-gateway/sallyport/modules/audit/syslog"
	_ "github.com/sallyport-gateway/sallyport/modules/breaker"
	_ "github.com/sallyport-gateway/sallyport/modules/cache"
	_ "github.com/sallyport-gateway/sallyport/modules/certificate"
	_ "github.com/sallyport-gateway/sallyport/modules/flags"
	_ "github.com/sallyport-gateway/sallyport/modules/flags/launchdarkly"
	_ "github.com/sallyport-gateway/sallyport/modules/flags/ofrep"
	_ "github.com/sallyport-gateway/sallyport/modules/flags/redis"
	_ "github.com/sallyport-gateway/sallyport/modules/flags/rollout"
	_ "github.com/sallyport-gateway/sallyport/modules/flags/unleash"
	_ "github.com/sallyport-gateway/sallyport/modules/handover"
	_ "github.com/sallyport-gateway/sallyport/modules/health"
	_ "github.com/sallyport-gateway/sallyport/modules/jwtauth"
	_ "github.com/sallyport-gateway/sallyport/modules/ratelimit"
	_ "github.com/sallyport-gateway/sallyport/modules/redispool"
	_ "github.com/sallyport-gateway/sallyport/modules/reject"
	_ "github.com/sallyport-gateway/sallyport/modules/routeindex"
	_ "github.com/sallyport-gateway/sallyport/modules/telemetry"
)
