package kafka

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"kafkagrpc/wire"
)

// A record that finds the connections ended, as brokers end those that were idle for ten minutes, is sent again at once, and
// so are those after it.
func TestProducerAfterIdleConnectionsEnded(t *testing.T) {
	const partitions = 4
	for _, brokers := range []int{1, 3} {
		t.Run(fmt.Sprint(brokers), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network := &idleNetwork{}
				cluster, err := kfake.NewCluster(kfake.Ports([]int{9092, 9093, 9094}[:brokers]...), kfake.ListenFn(network.Listen),
					kfake.SeedTopics(partitions, "t"), kfake.BrokerConfigs(map[string]string{"default.replication.factor": "1"}))
				if err != nil {
					t.Fatal(err)
				}
				defer cluster.Close()
				p, err := NewProducer(Cluster{Brokers: cluster.ListenAddrs(), connect: network.connect})
				if err != nil {
					t.Fatal(err)
				}
				produce := func() time.Duration {
					begun := time.Now()
					for i := range 4 * partitions { // some to each
						answer := make(chan error, 1)
						p.Send(wire.Record{Topic: "t", Key: fmt.Append(nil, i)}, func(_ int64, err error) { answer <- err })
						if err := <-answer; err != nil {
							t.Error(err)
						}
					}
					return time.Since(begun)
				}
				produce()
				for range 3 {
					time.Sleep(10*time.Minute + time.Second) // not while metadata is refreshed, each minute
					network.endAll()
					if took := produce(); took != 0 {
						t.Errorf("rested for %v", took)
					}
				}
				if err := p.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// idleNetwork is a network whose brokers end connections, or which fails.
type idleNetwork struct {
	kfake.VirtualNetwork
	mu       sync.Mutex
	accepted []net.Conn
	down     bool        // no connection is made
	mute     atomic.Bool // what brokers answer is lost
}

func (n *idleNetwork) Listen(network, address string) (net.Listener, error) {
	l, err := n.VirtualNetwork.Listen(network, address)
	return idleListener{l, n}, err
}

func (n *idleNetwork) connect(ctx context.Context, address string) (net.Conn, error) {
	n.mu.Lock()
	down := n.down
	n.mu.Unlock()
	if down {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	}
	return n.DialContext(ctx, "tcp", address)
}

func (n *idleNetwork) setDown(down bool) {
	n.mu.Lock()
	n.down = down
	n.mu.Unlock()
	n.endAll()
}

func (n *idleNetwork) endAll() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.accepted {
		_ = c.Close()
	}
	n.accepted = nil
}

type idleListener struct {
	net.Listener
	network *idleNetwork
}

func (l idleListener) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	c := net.Conn(muteConn{accepted, l.network})
	if err == nil {
		l.network.mu.Lock()
		l.network.accepted = append(l.network.accepted, c)
		l.network.mu.Unlock()
	}
	return c, err
}

type muteConn struct {
	net.Conn
	network *idleNetwork
}

func (c muteConn) Write(b []byte) (int, error) {
	if c.network.mute.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}
