package main

import (
	"bufio"
	"fmt"
	"net"
	"time"
)

// crowd are connections that have asked once and stay.
type crowd []net.Conn

func gather(a *actor, n int) (crowd, error) {
	var c crowd
	request := []byte("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
	for range n {
		one, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", a.port), 10*time.Second)
		if err != nil {
			return c, err
		}
		c = append(c, one)
		_ = one.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := one.Write(request); err != nil {
			return c, err
		}
		if _, err := answered(bufio.NewReaderSize(one, 1024)); err != nil {
			return c, err
		}
	}
	return c, nil
}

func (c crowd) leave() {
	for _, one := range c {
		_ = one.Close()
	}
}
