package demo

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"
)

// server is one HTTP and h2c listener with an owner who stops it.
type server struct {
	http   *http.Server
	addr   string
	cancel context.CancelFunc
	served chan error
}

// serve answers requests on l until stop.
func serve(l net.Listener, h http.Handler) *server {
	ctx, cancel := context.WithCancel(context.Background())
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	s := &server{
		http: &http.Server{
			Handler:           h,
			Protocols:         &protocols,
			ReadHeaderTimeout: 10 * time.Second,
			BaseContext:       func(net.Listener) context.Context { return ctx },
		},
		addr:   l.Addr().String(),
		cancel: cancel,
		served: make(chan error, 1),
	}
	go func() { s.served <- s.http.Serve(l) }()
	return s
}

// stop ends the server: requests in flight have until ctx is done, those that
// only wait for their caller to leave end at once.
func (s *server) stop(ctx context.Context) error {
	s.cancel()
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.http.Close())
	}
	if served := <-s.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
