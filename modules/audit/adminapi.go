package audit

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

// AdminAPI is Caddy's admin endpoint as seen from inside this process.
type AdminAPI struct {
	// Client reaches it; requests go to URLs that begin with Base.
	Client *http.Client
	Base   string
}

// maxConfig bounds a configuration that is read back.
const maxConfig = 64 << 20

// NewAdminAPI takes the address that the admin endpoint listens on, as Caddy
// writes it; empty means CADDY_ADMIN, or Caddy's default.
func NewAdminAPI(address string) (*AdminAPI, error) {
	if address == "" {
		address = os.Getenv("CADDY_ADMIN")
	}
	if address == "" {
		address = caddy.DefaultAdminListen
	}
	// A socket's address may end in its permissions.
	address, _, _ = strings.Cut(address, "|")
	na, err := caddy.ParseNetworkAddress(address)
	if err != nil {
		return nil, fmt.Errorf("admin address '%s': %w", address, err)
	}
	network, host := na.Network, na.JoinHostPort(0)
	if na.IsUnixNetwork() {
		host = na.Host
	} else {
		network = "tcp"
	}
	t := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, network, host)
		},
		// The endpoint is replaced by a reload: a connection kept open would be
		// one to the past.
		DisableKeepAlives: true, DisableCompression: true,
	}
	base := "http://" + host
	if na.IsUnixNetwork() {
		base = "http://127.0.0.1"
	}
	return &AdminAPI{Client: &http.Client{Transport: t}, Base: base}, nil
}

// AdminAddress is address, or where the configuration being provisioned has
// its admin endpoint; empty where that says nothing either. Caddy tells its
// modules everything about their configuration but this.
func AdminAddress(ctx caddy.Context, address string) string {
	if address != "" {
		return address
	}
	cfg := reflect.Indirect(reflect.ValueOf(ctx).FieldByName("cfg"))
	if !cfg.IsValid() {
		return ""
	}
	settings := reflect.Indirect(cfg.FieldByName("Admin"))
	if !settings.IsValid() {
		return ""
	}
	listen, err := caddy.NewReplacer().ReplaceOrErr(settings.FieldByName("Listen").String(), true, true)
	if err != nil {
		return "" // Caddy refuses the configuration for it
	}
	return listen
}

// Config returns the active configuration. It waits while one is being loaded.
func (a *AdminAPI) Config(ctx context.Context) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.Base+"/config/", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set(CallHeader, OwnCall())
	resp, err := a.Client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxConfig))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("read configuration: %s", resp.Status)
	}
	return text, err
}

// CallHeader marks requests to the admin endpoint that are on record already,
// so that the log tap does not record them again. Caddy logs the header, so
// each value counts once: whoever reads it in the log cannot use it.
const CallHeader = exchange.CallHeader

var ownCalls struct {
	mu    sync.Mutex // guards what follows
	open  map[string]bool
	order []string
}

// maxOwnCalls bounds the values that nobody has looked at, as where there is no tap.
const maxOwnCalls = 1024

// OwnCall returns a new value of the header.
func OwnCall() string {
	o := &ownCalls
	value := rand.Text()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.open == nil {
		o.open = make(map[string]bool)
	}
	if len(o.order) == maxOwnCalls {
		delete(o.open, o.order[0])
		o.order = append(o.order[:0], o.order[1:]...)
	}
	o.open[value] = true
	o.order = append(o.order, value)
	return value
}

// isOwnCall says whether value was given out, and takes it back.
func isOwnCall(value string) bool {
	o := &ownCalls
	o.mu.Lock()
	defer o.mu.Unlock()
	known := o.open[value]
	delete(o.open, value)
	return known
}
