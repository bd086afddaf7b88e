package port

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"testing"
)

// TestMain hands out ports for the test below when it is the second process.
func TestMain(m *testing.M) {
	if os.Getenv("HAND_OUT") == "" {
		os.Exit(m.Run())
	}
	for range 200 {
		n, err := Free()
		if err != nil {
			panic(err)
		}
		fmt.Println(n)
	}
	_, _ = bufio.NewReader(os.Stdin).ReadByte()
}

func TestTwoProcessesNeverGetTheSamePort(t *testing.T) {
	other := exec.Command(os.Args[0])
	other.Env = append(os.Environ(), "HAND_OUT=1")
	hold, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = hold.Close()
		_ = other.Wait()
	})
	taken := map[int]bool{}
	for lines := bufio.NewScanner(out); len(taken) < 200 && lines.Scan(); {
		n, err := strconv.Atoi(lines.Text())
		if err != nil || taken[n] {
			t.Fatalf("the other process got %q, %v", lines.Text(), err)
		}
		taken[n] = true
	}
	for range 200 {
		n := Of(t)
		if taken[n] {
			t.Fatalf("both processes got port %d", n)
		}
		taken[n] = true
	}
}

func TestAPortInUseIsNotHandedOut(t *testing.T) {
	addr := Addr(t)
	if !silent(portOf(t, addr)) {
		t.Fatalf("%s was handed out and cannot be had", addr)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if silent(portOf(t, addr)) {
		t.Errorf("%s counts as free although somebody listens on it", addr)
	}
}

func portOf(t *testing.T, addr string) int {
	t.Helper()
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return a.Port
}
