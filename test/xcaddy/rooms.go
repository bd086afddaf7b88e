package main

// room is one package that must work without the others: the Caddyfile to run
// with it, the path to ask for, and the status that proves it was there.
type room struct {
	room, caddyfile, path string
	status                int
}

var alone = []room{
	{"jwtauth", `{
	issuer main {
		issuer {$ISSUER}
		jwks {$ISSUER}jwks.json
		audience orders-api
	}
}

http://:{$PORT} {
	jwt main
	respond "in"
}
`, "/", 401},
	{"ratelimit", `http://:{$PORT} {
	rate_limit {
		zone tight {
			key {client_ip}
			rate 1/1h
			burst 1
		}
	}
	respond "in"
}
`, "/", 200},
	{"breaker", `http://:{$PORT} {
	breaker_proxy 127.0.0.1:1 {
		fallback respond "later" 418
	}
}
`, "/", 418},
	{"reject", `http://:{$PORT} {
	problem
	error "broken" 507
}
`, "/", 507},
	{"handover", `{
	servers {
		listener_wrappers {
			handover
		}
	}
}

http://:{$PORT} {
	respond "in" 206
}
`, "/", 206},
	{"routeindex", `{
	servers {
		listener_wrappers {
			route_index
		}
	}
}

http://:{$PORT} {
	handle /in/* {
		respond "in" 208
	}
}
`, "/in/", 208},
	{"health", `http://:{$PORT} {
	health
}
`, "/health/ready", 200},
	{"audit", `{
	audit {
		sink http http://{$UPSTREAM}/events
	}
}

http://:{$PORT} {
	audit
	respond "written" 202
}
`, "/", 202},
	{"telemetry", `http://:{$PORT} {
	telemetry
	respond "seen" 203
}
`, "/", 203},
}
