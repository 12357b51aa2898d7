package kafka

import (
	"fmt"
	"net"
	"syscall"
	"time"
)

// fenceDialer makes connections on which nothing is sent any more once the fence answers an error. A record may wait
// inside sarama for long, also over retries, so that what holds when it is handed over need not hold when it is sent.
type fenceDialer struct {
	fence  func() error
	dialer net.Dialer
}

func newFenceDialer(fence func() error, timeout, keepAlive time.Duration) fenceDialer {
	return fenceDialer{fence: fence, dialer: net.Dialer{Timeout: timeout, KeepAlive: keepAlive}}
}

// Dial implements proxy.Dialer of golang.org/x/net, which is where sarama takes one.
func (d fenceDialer) Dial(network, address string) (net.Conn, error) {
	if err := d.fence(); err != nil {
		return nil, err
	}
	conn, err := d.dialer.Dial(network, address)
	if err != nil {
		return nil, err
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		_ = conn.Close() // the error says more
		return nil, fmt.Errorf("network %s cannot be fenced, only TCP", network)
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		_ = conn.Close() // the error says more
		return nil, err
	}
	return &fenceConn{TCPConn: tcp, raw: raw, fence: d.fence}, nil
}

// fenceConn asks the fence before each single write to the kernel, also when one Write takes several because the
// kernel's buffer is full. A broker does nothing with a request whose last byte is missing.
type fenceConn struct {
	*net.TCPConn
	raw   syscall.RawConn
	fence func() error
}

// Write implements net.Conn.
func (c *fenceConn) Write(b []byte) (n int, err error) {
	waited := c.raw.Write(func(fd uintptr) (done bool) {
		for n < len(b) {
			if err = c.fence(); err != nil {
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
