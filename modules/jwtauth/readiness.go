package jwtauth

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// await waits for the first keys: for as long as the configuration demands, or
// else until moment ends.
func (i *Issuer) await(moment context.Context) error {
	if i.source == nil {
		return nil
	}
	if i.Require == 0 {
		select {
		case <-i.source.First():
		case <-moment.Done():
		}
		return nil
	}
	timeout := time.NewTimer(time.Duration(i.Require))
	defer timeout.Stop()
	select {
	case <-i.source.First():
		return nil
	case <-timeout.C:
		return fmt.Errorf("no keys after %s, and 'startup require' is written: %w", time.Duration(i.Require), i.source.LastError())
	}
}

// ready is the issuer's part of readiness.
func (i *Issuer) ready(now time.Time) error {
	if err := i.revocationErr.Load(); err != nil && *err != nil {
		return staleError{fmt.Sprintf("revocations of issuer %s may have changed: %v", i.name, *err)}
	}
	if i.source == nil || i.source.IsStatic() {
		return nil
	}
	snap := i.source.Current()
	if snap == nil {
		return fmt.Errorf("keys of issuer %s are not to be had: %w", i.name, orPending(i.source.LastError()))
	}
	age := now.Sub(snap.Fetched)
	switch err := i.source.LastError(); {
	case age > i.maxStale:
		return fmt.Errorf("keys of issuer %s are %s old, more than max_stale: %w", i.name, rough(age), orPending(err))
	case err != nil && now.After(snap.Fresh):
		return staleError{fmt.Sprintf("keys of issuer %s are %s old: %v", i.name, rough(age), err)}
	}
	return nil
}

func orPending(err error) error {
	if err == nil {
		return errors.New("no fetch has ended yet")
	}
	return err
}

func rough(d time.Duration) string {
	if d >= time.Hour {
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return d.Round(time.Second).String()
}
