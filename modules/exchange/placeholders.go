package exchange

import "strings"

func (x *Exchange) placeholder(key string) (any, bool) {
	name, ours := strings.CutPrefix(key, "sallyport.")
	if !ours {
		if x.Proxied != nil {
			return x.Proxied.Placeholder(key)
		}
		return nil, false
	}
	switch name {
	case "subject":
		return x.Identity.Subject, true
	case "issuer":
		return x.Identity.Issuer, true
	case "zone":
		return x.tightest(), true
	case "refusal":
		return x.Refusal.Code, true
	case "upstream":
		if n := len(x.Attempts); n > 0 {
			return x.Attempts[n-1].Upstream, true
		}
		return "", true
	case "fallback":
		return x.Fallback, true
	case "fallback_reason":
		return x.FallbackReason, true
	case "route":
		return x.Route, true
	case "trace_id":
		return x.TraceID, true
	case "cache.status":
		return x.Cache.Status, true
	case "cache.reason":
		return x.Cache.Reason, true
	}
	if flag, ok := strings.CutPrefix(name, "flag."); ok && x.Flags != nil {
		return x.Flags.Variant(flag), true
	}
	return nil, false
}

func (x *Exchange) tightest() string {
	var name string
	least := int64(-1)
	for _, z := range x.Zones {
		if z.Result == "refused" {
			return z.Name
		}
		if least < 0 || z.Remaining < least {
			name, least = z.Name, z.Remaining
		}
	}
	return name
}
