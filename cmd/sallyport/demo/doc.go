// Package demo is the gateway to try out: `sallyport demo` runs it in one
// process with everything its quickstart Caddyfile names, and `sallyport
// upstream` is the stub service alone. Nothing here belongs in production.
package demo
