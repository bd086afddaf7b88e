package dashboards

const (
	requests = `sallyport_http_request_duration_seconds_count{job="$job"`
	buckets  = `sallyport_http_request_duration_seconds_bucket{job="$job"`
	rate     = `[$__rate_interval]`
)

var overview = board{
	uid: "sallyport-overview", title: "Sallyport: overview", about: "Throughput, latency, cache and dependencies of the gateway.",
	rows: []row{
		{"Throughput", []panel{
			q("Requests by status", "reqps", `sum by (status) (rate(`+requests+`}`+rate+`))`, "{{status}}"),
			q("Requests by route", "reqps", `topk(10, sum by (route) (rate(`+requests+`}`+rate+`)))`, "{{route}}"),
			q("Requests in flight", "short", `sum by (instance) (sallyport_http_requests_in_flight{job="$job"})`, "{{instance}}"),
		}},
		{"Latency", []panel{
			{kind: heat, title: "Latency of all requests", unit: "s", queries: []query{{`sum by (le) (rate(` + buckets + `}` + rate + `))`, "{{le}}"}}},
			q("p95 by class: light under 150 ms, proxied under 300 ms", "s", `histogram_quantile(0.95, sum by (class, le) (rate(`+buckets+`}`+rate+`)))`, "{{class}}"),
			q("p95 by route", "s", `topk(10, histogram_quantile(0.95, sum by (route, le) (rate(`+buckets+`}`+rate+`))))`, "{{route}}"),
		}},
		{"Cache and refusals", []panel{
			q("Cache hit ratio", "percentunit", `sum by (cache) (rate(sallyport_cache_requests_total{job="$job",status=~"hit|stale|revalidated|collapsed"}`+rate+`)) / sum by (cache) (rate(sallyport_cache_requests_total{job="$job"}`+rate+`))`, "{{cache}}"),
			q("Cache size", "bytes", `sum by (cache) (sallyport_cache_bytes{job="$job"})`, "{{cache}}"),
			q("Refusals by code", "reqps", `sum by (room, code) (rate(sallyport_refusals_total{job="$job"}`+rate+`))`, "{{room}} {{code}}"),
		}},
		{"Dependencies", []panel{
			q("Checks: 1 is ready", "short", `min by (dependency) (sallyport_dependency_up{job="$job"})`, "{{dependency}}"),
			q("Redis p95", "s", `histogram_quantile(0.95, sum by (client, db_operation_name, le) (rate(db_client_operation_duration_seconds_bucket{job="$job"}`+rate+`)))`, "{{client}} {{db_operation_name}}"),
			q("Age of key sets", "s", `max by (issuer) (sallyport_jwt_keyset_age_seconds{job="$job"})`, "{{issuer}}"),
		}},
		{"Calls", []panel{
			q("gRPC calls by code", "reqps", `sum by (grpc_service, grpc_code) (rate(sallyport_grpc_requests_total{job="$job"}`+rate+`))`, "{{grpc_service}} {{grpc_code}}"),
			q("Versions", "short", `count by (version) (sallyport_build_info{job="$job"})`, "{{version}}"),
			q("Configurations, as numbers: one line is one configuration", "short", `count by (instance) (sallyport_config_hash{job="$job"}) * on (instance) sallyport_config_hash{job="$job"}`, "{{instance}}"),
		}},
	},
}

var guards = board{
	uid: "sallyport-guards", title: "Sallyport: guards", about: "Tokens, limits and circuits.",
	rows: []row{
		{"Tokens", []panel{
			q("Verifications", "reqps", `sum by (issuer, result) (rate(sallyport_jwt_verifications_total{job="$job"}`+rate+`))`, "{{issuer}} {{result}}"),
			q("Verified before, by lookups", "percentunit", `sum by (issuer) (rate(sallyport_jwt_cache_requests_total{job="$job",result="hit"}`+rate+`)) / sum by (issuer) (rate(sallyport_jwt_cache_requests_total{job="$job"}`+rate+`))`, "{{issuer}}"),
			q("Fetches of key sets in an hour", "short", `sum by (issuer, result) (increase(sallyport_jwt_keyset_fetches_total{job="$job"}[1h]))`, "{{issuer}} {{result}}"),
		}},
		{"Limits", []panel{
			q("Decisions by zone", "reqps", `sum by (zone, result) (rate(sallyport_ratelimit_decisions_total{job="$job"}`+rate+`))`, "{{zone}} {{result}}"),
			q("Decided where", "reqps", `sum by (source) (rate(sallyport_ratelimit_decisions_total{job="$job"}`+rate+`))`, "{{source}}"),
			q("Batches to Redis, p95", "s", `histogram_quantile(0.95, sum by (shard, le) (rate(sallyport_ratelimit_redis_batch_seconds_bucket{job="$job"}`+rate+`)))`, "{{shard}}"),
			q("Redis given up: 1 is yes", "short", `max by (shard) (sallyport_ratelimit_redis_breaker_open{job="$job"}) or vector(0)`, "{{shard}}"),
		}},
		{"Circuits", []panel{
			q("Circuits by state", "short", `sum by (breaker, state) (sallyport_breaker_circuits{job="$job"})`, "{{breaker}} {{state}}"),
			q("Attempts", "reqps", `sum by (breaker, upstream, class) (rate(sallyport_breaker_results_total{job="$job"}`+rate+`))`, "{{breaker}} {{upstream}} {{class}}"),
			q("Transitions in an hour", "short", `sum by (breaker, upstream, to) (increase(sallyport_breaker_transitions_total{job="$job"}[1h]))`, "{{upstream}} {{to}}"),
			q("Fallbacks", "reqps", `sum by (breaker, kind, result) (rate(sallyport_breaker_fallbacks_total{job="$job"}`+rate+`))`, "{{breaker}} {{kind}} {{result}}"),
		}},
	},
}

var audit = board{
	uid: "sallyport-audit", title: "Sallyport: audit and telemetry", about: "What is recorded, what waits, what was lost.",
	rows: []row{
		{"Events", []panel{
			q("Events by class", "cps", `sum by (class, result) (rate(sallyport_audit_events_total{job="$job"}`+rate+`))`, "{{class}} {{result}}"),
			q("Delivered", "cps", `sum by (sink) (rate(sallyport_audit_sink_events_total{job="$job"}`+rate+`))`, "{{sink}}"),
			q("Batches by result", "cps", `sum by (sink, result) (rate(sallyport_audit_sink_requests_total{job="$job"}`+rate+`))`, "{{sink}} {{result}}"),
		}},
		{"What waits", []panel{
			q("Age of the oldest event that waits", "s", `max by (sink) (sallyport_audit_sink_lag_seconds{job="$job"})`, "{{sink}}"),
			q("Spool, share of its limit", "percentunit", `max by (instance) (sallyport_audit_spool_bytes{job="$job"}) / max by (instance) (sallyport_audit_spool_limit_bytes{job="$job"})`, "{{instance}}"),
			{kind: number, title: "Lost in 24 h: gaps, dead letters, dropped", unit: "short", queries: []query{
				{`sum(increase(sallyport_audit_gaps_total{job="$job"}[1d])) or vector(0)`, "gaps"},
				{`sum(increase(sallyport_audit_dead_letters_total{job="$job"}[1d])) or vector(0)`, "dead letters"},
				{`sum(increase(sallyport_audit_events_total{job="$job",result="dropped"}[1d])) or vector(0)`, "dropped"},
			}},
		}},
		{"Telemetry", []panel{
			q("Coverage: 95 % of the requests with both signals", "percentunit", `sum by (signals) (rate(sallyport_coverage_requests_total{job="$job"}`+rate+`)) / on () group_left () sum(rate(sallyport_coverage_requests_total{job="$job"}`+rate+`))`, "{{signals}}"),
			q("Taken by the collector", "cps", `sum by (signal) (rate(sallyport_telemetry_delivered_total{job="$job"}`+rate+`))`, "{{signal}}"),
			q("Waiting for the collector", "short", `sum by (signal) (sallyport_telemetry_waiting{job="$job"})`, "{{signal}}"),
		}},
	},
}

var objectives = board{
	uid: "sallyport-objectives", title: "Sallyport: objectives", about: "Service levels, their budgets, and a canary beside the stable version.",
	rows: []row{
		{"Availability, 99.95 % in 30 days", []panel{
			{kind: number, title: "Error budget left of 21.6 minutes", unit: "percentunit", queries: []query{{
				`1 - ((sum(increase(` + requests + `,status="5xx"}[30d])) or vector(0)) + (sum(increase(sallyport_grpc_requests_total{job="$job",grpc_code=~"UNKNOWN|DEADLINE_EXCEEDED|INTERNAL|UNAVAILABLE|DATA_LOSS"}[30d])) or vector(0))) / sum(increase(` + requests + `}[30d])) / 0.0005`, "left",
			}}},
			q("Share of errors", "percentunit", `sallyport:error_ratio:rate5m{job="$job"}`, "5 min"),
			panel{title: "Burn rate: 1 uses the budget up in 30 days", unit: "short", queries: []query{
				{`sallyport:error_ratio:rate1h{job="$job"} / 0.0005`, "1 h"},
				{`sallyport:error_ratio:rate6h{job="$job"} / 0.0005`, "6 h"},
				{`sallyport:error_ratio:rate3d{job="$job"} / 0.0005`, "3 d"},
			}},
		}},
		{"Latency, 95 % within 150 ms (light) and 300 ms (proxied)", []panel{
			q("Share of slow requests", "percentunit", `sallyport:slow_ratio:rate5m{job="$job"}`, "{{class}}"),
			q("Burn rate", "short", `sallyport:slow_ratio:rate1h{job="$job"} / 0.05`, "{{class}} 1 h"),
		}},
		{"Canary and stable", []panel{
			q("Share of errors", "percentunit", `(sum by (track) (rate(`+requests+`,status="5xx"}`+rate+`)) or 0 * sum by (track) (rate(`+requests+`}`+rate+`))) / sum by (track) (rate(`+requests+`}`+rate+`))`, "{{track}}"),
			q("p95", "s", `histogram_quantile(0.95, sum by (track, le) (rate(`+buckets+`}`+rate+`)))`, "{{track}}"),
			q("Share of the traffic", "percentunit", `sum by (track) (rate(`+requests+`}`+rate+`)) / on () group_left () sum(rate(`+requests+`}`+rate+`))`, "{{track}}"),
		}},
		{"Other objectives", []panel{
			q("Limiter: false positives, under 1 %", "percentunit", `sum(rate(sallyport_ratelimit_false_positives_total{job="$job"}[1h])) / clamp_min(sum(rate(sallyport_ratelimit_audited_total{job="$job"}[1h])), 0.000001)`, "false positives"),
			q("Coverage, over 95 %", "percentunit", `sallyport:coverage_ratio:rate15m{job="$job"}`, "both signals"),
		}},
	},
}
