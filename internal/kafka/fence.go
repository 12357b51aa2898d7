package kafka

import (
	"context"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"
)

// fencePoll is how often the fence is asked when nothing is sent: what was given to the kernel before, and has not reached
// the broker because the network is gone, must not reach it when the network is back.
const fencePoll = 100 * time.Millisecond

// fenceDialer makes connections on which nothing is sent any more once the fence answers an error. A record may wait
// inside franz-go for long, also over retries, so that what holds when it is handed over need not hold when it is sent.
type fenceDialer struct {
	fence func() error

	mu    sync.Mutex
	conns map[*fenceConn]struct{} // open ones
}

func newFenceDialer(fence func() error) *fenceDialer {
	return &fenceDialer{fence: fence, conns: make(map[*fenceConn]struct{})}
}

// cut closes all connections. The kernel forgets what it has not sent yet.
func (d *fenceDialer) cut() {
	d.mu.Lock()
	var open []*fenceConn
	for c := range d.conns {
		open = append(open, c)
	}
	d.mu.Unlock()
	for _, c := range open {
		_ = c.Close() // it is of no use any more
	}
}

// connect is connectTCP behind the fence.
func (d *fenceDialer) connect(ctx context.Context, address string) (net.Conn, error) {
	if err := d.fence(); err != nil {
		return nil, err
	}
	conn, err := connectTCP(ctx, address)
	if err != nil {
		return nil, err
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		_ = conn.Close() // the error says more
		return nil, fmt.Errorf("a connection to %s cannot be fenced, only one of TCP", conn.RemoteAddr())
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		_ = conn.Close() // the error says more
		return nil, err
	}
	// At the end of an orderly stop everything is acknowledged; else nothing may be sent after Close.
	if err := tcp.SetLinger(0); err != nil {
		_ = conn.Close() // the error says more
		return nil, err
	}
	c := &fenceConn{TCPConn: tcp, raw: raw, dialer: d}
	d.mu.Lock()
	d.conns[c] = struct{}{}
	d.mu.Unlock()
	return c, nil
}

// fenceConn asks the fence before each single write to the kernel, also when one Write takes several because the
// kernel's buffer is full. A broker does nothing with a request whose last byte is missing.
type fenceConn struct {
	*net.TCPConn
	raw    syscall.RawConn
	dialer *fenceDialer
}

// Close implements net.Conn.
func (c *fenceConn) Close() error {
	c.dialer.mu.Lock()
	delete(c.dialer.conns, c)
	c.dialer.mu.Unlock()
	return c.TCPConn.Close()
}

// Write implements net.Conn.
func (c *fenceConn) Write(b []byte) (n int, err error) {
	waited := c.raw.Write(func(fd uintptr) (done bool) {
		for n < len(b) {
			if err = c.dialer.fence(); err != nil {
				return true
			}
			var written int
			written, err = syscall.Write(int(fd), b[n:])
			switch err {
			case nil:
				n += written
			case syscall.EINTR:
			case syscall.EAGAIN:
				err = nil
				return false // until there is room, or the deadline has passed
			default:
				return true
			}
		}
		return true
	})
	if err == nil {
		err = waited
	}
	if err != nil {
		// What is half written must not be completed by another Write.
		_ = c.Close()
	}
	return n, err
}
