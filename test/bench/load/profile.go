package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// profiled is how long a profile is taken.
const profiled = 5 * time.Second

// control speaks to a contestant's admin socket.
func (a *actor) control() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", a.admin)
	}}}
}

// profile loads the gateway once more, in a run that counts for nothing, and
// writes what it computes with.
func (s *set) profile(a *actor, c contestant, sc scenario, dir string) error {
	if dir == "" || c.kind != "sallyport" {
		return nil
	}
	admin := a.control()
	defer admin.CloseIdleConnections()
	got := make(chan error, 1)
	go func() { got <- save(admin, filepath.Join(dir, sc.letter+", "+c.name+".pprof")) }()
	_, err := s.shoot(a, c, sc, profiled+time.Second)
	return errors.Join(err, <-got)
}

func save(admin *http.Client, file string) error {
	res, err := admin.Get(fmt.Sprintf("http://admin/debug/pprof/profile?seconds=%d", int(profiled.Seconds())))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("profile: %s", res.Status)
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, res.Body)
	return errors.Join(err, f.Close())
}
