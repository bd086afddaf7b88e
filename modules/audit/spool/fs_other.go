//go:build !linux

package spool

// Reserve does nothing: the file grows as it is written.
func (f diskFile) Reserve(int64) error { return nil }

// Volume knows no volumes here.
func Volume(string) string { return "" }
