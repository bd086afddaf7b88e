//go:build !linux

package stage

import "syscall"

func withParent() *syscall.SysProcAttr { return nil }
