package main

import (
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
)

// The ports that freePort gives begin anywhere among these, as other processes look for some, too. They are below those that systems
// take for outgoing connections: nobody gets one before an instance listens on it, or while it is started again.
const firstPort, numPorts = 10000, 10000

var nextPort = sync.OnceValue(func() *atomic.Uint32 {
	next := new(atomic.Uint32)
	next.Store(rand.Uint32N(numPorts))
	return next
})

// freePort is one on which nobody listens. The tests of this process get different ones.
func freePort(t testing.TB) string {
	t.Helper()
	var err error
	for range 100 {
		port := strconv.Itoa(firstPort + int(nextPort().Add(1)%numPorts))
		var l net.Listener
		if l, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", port)); err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return port
	}
	t.Fatalf("found no free port: %v", err)
	return ""
}
