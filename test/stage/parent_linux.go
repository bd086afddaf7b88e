package stage

import "syscall"

// withParent has a process end with the test that started it, even if the
// test is killed.
func withParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
