package kafka

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// patience is how long brokers may be silent, which is not how long an answer may take that is on its way: a large one on a
// slow network comes in parts, and each of them is waited for anew.
type patience struct {
	greet  time.Duration // to connect, to shake hands, and to answer the first request of a connection
	answer time.Duration // before a request is answered, or more of it is taken
	disk   time.Duration // the same for a request whose answer waits for a disk, or for the followers
	join   time.Duration // the same for one that waits for the other members of a group

	// A broker that lets a request wait for longer than answer is asked on another connection, this often, whether it is there.
	check time.Duration
}

// usualPatience leaves time for another broker within 10 seconds, whatever it was that was asked of the silent one.
var usualPatience = patience{greet: greetTimeout, answer: 5 * time.Second, disk: ackTimeout + 2*time.Second, check: 4 * time.Second}

// hasty is the patience of somebody who waits for no answer longer than most.
func hasty(most time.Duration) patience {
	return patience{greet: min(greetTimeout, most), answer: most, disk: most}
}

// of is how long the answer to a request may take.
func (p patience) of(key kmsg.Key) time.Duration {
	switch key {
	case kmsg.JoinGroup, kmsg.SyncGroup:
		return max(p.join, p.disk)
	case kmsg.Fetch, kmsg.Produce, kmsg.OffsetCommit, kmsg.CreateTopics, kmsg.DeleteTopics, kmsg.DeleteGroups:
		return p.disk
	}
	return p.answer
}

// dialer makes the connections of a client: with TLS where the cluster has it, and such that no broker is waited for
// longer than patience says. sarama takes it as a proxy.Dialer of golang.org/x/net, franz-go takes its DialContext.
//
// sarama has one time-out for all answers of a client. It also begins anew after
// some time-outs: a broker that takes connections and says nothing is waited for three times before it counts as dead.
// franz-go's bounds whole answers, so that a large one on a slow network never comes.
type dialer struct {
	patience patience
	connect  func(ctx context.Context, address string) (net.Conn, error) // TCP
	tls      func() *tls.Config                                          // nil: none
	alive    func(address string) error                                  // asks on another connection whether a broker answers
	shaken   func(tls.ConnectionState)                                   // is told of each handshake; nil: nobody is
}

// keepAlive makes the kernel find out within half a minute that a connection on which nothing is said is dead, and keeps what
// is between us and a broker from forgetting it.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}

func connectTCP(ctx context.Context, address string) (net.Conn, error) {
	return (&net.Dialer{KeepAliveConfig: keepAlive}).DialContext(ctx, "tcp", address)
}

// dialer is one for a client with that patience.
func (c Cluster) dialer(p patience) *dialer {
	d := &dialer{patience: p, connect: connectTCP, alive: c.alive}
	if c.connect != nil {
		d.connect = c.connect
	}
	if c.TLS != nil {
		d.tls = c.TLSNow
		if d.tls == nil {
			d.tls = func() *tls.Config { return c.TLS }
		}
	}
	return d
}

// Dial implements proxy.Dialer.
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

// DialContext connects to a broker.
func (d *dialer) DialContext(caller context.Context, _, address string) (net.Conn, error) {
	greet := d.patience.greet
	if silent.lately(address) {
		greet = min(greet, briefly)
	}
	ctx, cancel := context.WithTimeout(caller, greet)
	defer cancel()
	inner, err := d.connect(ctx, address)
	if err != nil {
		if caller.Err() != nil {
			return nil, caller.Err() // which says nothing of the broker
		}
		if ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, silenced(&silentError{address: address, what: "take a connection", within: greet, greeting: true})
		}
		return nil, err
	}
	if d.tls != nil {
		config := d.named(address)
		var verified bool
		var unfit error
		if verify := config.VerifyConnection; verify != nil {
			config.VerifyConnection = func(s tls.ConnectionState) error { // on this goroutine
				verified, unfit = true, verify(s)
				return unfit
			}
		}
		shaking := tls.Client(inner, config)
		if err := shaking.HandshakeContext(ctx); err != nil {
			_ = inner.Close() // the error says more
			if caller.Err() != nil {
				return nil, caller.Err()
			}
			if unfit != nil {
				return nil, unfit
			}
			if ctx.Err() != nil && verified { // the broker was not silent
				return nil, fmt.Errorf("fetching the revocation lists for the certificate of %s took longer than %v", address, greet)
			}
			if ctx.Err() != nil {
				return nil, silenced(&silentError{address: address, what: "do its part of a TLS handshake", within: greet, connected: true, greeting: true})
			}
			return nil, err
		}
		if d.shaken != nil {
			d.shaken(shaking.ConnectionState())
		}
		inner = shaking
	}
	return &conn{Conn: inner, address: address, dialer: d, greet: greet}, nil
}

// named is the TLS configuration for a broker: its host must be in its certificate, unless another name is configured.
func (d *dialer) named(address string) *tls.Config {
	config := d.tls().Clone()
	if config.MinVersion == 0 {
		config.MinVersion = tls.VersionTLS12
	}
	if config.ServerName != "" {
		return config
	}
	config.ServerName, _, _ = net.SplitHostPort(address) // it was dialed
	return config
}

// conn is a connection to a broker. It ends when the broker is silent for too long; the deadlines that clients set for that
// are not its own.
type conn struct {
	net.Conn
	address string
	dialer  *dialer
	greet   time.Duration

	asked atomic.Int32 // the key of the last request. What follows another one before it is answered may take as long, or is a commit
	heard atomic.Bool  // something was answered
}

// SetReadDeadline and its like do nothing with a time to come: see Read and Write. One that has come is how franz-go ends what is on its way,
// and the connection with it.
func (c *conn) SetReadDeadline(t time.Time) error  { return c.SetDeadline(t) }
func (c *conn) SetWriteDeadline(t time.Time) error { return c.SetDeadline(t) }
func (c *conn) SetDeadline(t time.Time) error {
	if t.IsZero() || time.Until(t) > 0 {
		return nil
	}
	return c.Close()
}

// writePart is what must be taken within the patience for an answer. A slow network has time for a large request.
const writePart = 64 << 10

// Write sends one whole request, as the clients do.
func (c *conn) Write(b []byte) (n int, err error) {
	if key, ok := requestKey(b); ok {
		c.asked.Store(int32(key))
	}
	for n < len(b) && err == nil {
		if err = c.Conn.SetWriteDeadline(time.Now().Add(c.dialer.patience.answer)); err != nil {
			break
		}
		var written int
		written, err = c.Conn.Write(b[n:min(n+writePart, len(b))])
		n += written
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = c.silent("take all of a request of "+c.request(), c.dialer.patience.answer)
	}
	return n, err
}

// requestKey is the key that a request frame begins with, behind its length.
func requestKey(frame []byte) (kmsg.Key, bool) {
	if len(frame) < 6 {
		return 0, false
	}
	return kmsg.Key(binary.BigEndian.Uint16(frame[4:])), true
}

func (c *conn) request() string { return kmsg.Key(c.asked.Load()).Name() }

// Read waits for the answer to a request.
func (c *conn) Read(b []byte) (int, error) {
	begun := time.Now()
	for {
		patience := c.dialer.patience
		most := c.greet
		if c.heard.Load() {
			most = patience.of(kmsg.Key(c.asked.Load()))
		}
		now, until := time.Now(), begun.Add(most)
		check := patience.check > 0 && most > patience.answer && until.Sub(now) > patience.check
		if check {
			until = now.Add(patience.check)
		}
		if err := c.Conn.SetReadDeadline(until); err != nil {
			return 0, err
		}
		n, err := c.Conn.Read(b)
		switch {
		case n > 0:
			if c.heard.CompareAndSwap(false, true) {
				silent.forget(c.address)
			}
			return n, err
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return n, err
		case !check:
			return 0, c.silent("answer "+c.request(), most)
		}
		if err := c.dialer.alive(c.address); err != nil {
			return 0, c.silent("answer "+c.request()+", nor on another connection,", time.Since(begun))
		}
	}
}

// silent ends the connection. Another attempt begins with a new one.
func (c *conn) silent(what string, within time.Duration) error {
	_ = c.Close() // it is of no use any more
	return silenced(&silentError{address: c.address, what: what, within: within, connected: true, greeting: !c.heard.Load()})
}

// silenced is for each silence that was found. Somebody hasty has not waited for long enough to tell others of it.
func silenced(e *silentError) error {
	if e.within >= greetTimeout {
		silent.remember(e.address)
	}
	return e
}

// silentError is what becomes of a connection to a broker that was waited for in vain.
type silentError struct {
	address, what string
	within        time.Duration
	connected     bool
	greeting      bool // nothing was answered on the connection
}

func (e *silentError) Error() string {
	return fmt.Sprintf("%s did not %s within %v", e.address, e.what, e.within.Round(time.Millisecond))
}

// Unwrap makes it the end of a connection, and not a time-out. After a time-out sarama goes on with the same connection; at an
// end it opens another one, and its admin client looks for another broker. franz-go asks a coordinator again until it cannot be
// dialed, so that one that does not answer at all counts as such.
func (e *silentError) Unwrap() []error {
	if e.greeting {
		return []error{io.EOF, &net.OpError{Op: "dial", Net: "tcp", Err: io.EOF}}
	}
	return []error{io.EOF}
}
