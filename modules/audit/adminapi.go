package audit

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
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

// Config returns the active configuration. It waits while one is being loaded.
func (a *AdminAPI) Config(ctx context.Context) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.Base+"/config/", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set(CallHeader, ownCall)
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
// so that the log tap does not record them again. Its value cannot be guessed.
const CallHeader = "Sallyport-Call"

var ownCall = string(appendUUID(nil, time.Now())) + "-" + string(appendUUID(nil, time.Now()))

// OwnCall is the header's value for requests that this process makes.
func OwnCall() string { return ownCall }
