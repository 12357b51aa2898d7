package kafka

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkagrpc/wire"
)

// What is not acknowledged fails after a while, whether a broker has it or not. What is written after that is written once, and not taken
// for a repetition of what failed.
func TestProducerGivesUp(t *testing.T) {
	for _, test := range []struct {
		name       string
		fail, heal func(*idleNetwork)
		written    string
		why        string
	}{
		{"brokers that cannot be reached", func(n *idleNetwork) { n.setDown(true) }, func(n *idleNetwork) { n.setDown(false) }, "before after", syscall.ECONNREFUSED.Error()},
		{"answers that are lost", func(n *idleNetwork) { n.mute.Store(true) }, func(n *idleNetwork) { n.mute.Store(false); n.endAll() }, "before during during after", "did not answer "},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network := &idleNetwork{}
				cluster, err := kfake.NewCluster(kfake.Ports(9092), kfake.ListenFn(network.Listen), kfake.SeedTopics(1, "t"))
				if err != nil {
					t.Fatal(err)
				}
				defer cluster.Close()
				p, err := NewProducer(Cluster{Brokers: cluster.ListenAddrs(), connect: network.connect})
				if err != nil {
					t.Fatal(err)
				}
				answers := make(chan error, 2)
				send := func(value string) {
					// An old time, as that of a record that is passed on, says nothing about how long it waits.
					p.Send(wire.Record{Topic: "t", Value: []byte(value), Timestamp: time.Now().Add(-time.Hour)}, func(_ int64, err error) { answers <- err })
				}
				send("before")
				if err := <-answers; err != nil {
					t.Fatal(err)
				}
				test.fail(network)
				begun := time.Now()
				send("during")
				send("during")
				for range 2 {
					if err := <-answers; err == nil || Rejected(err) || Gone(err) || !strings.Contains(err.Error(), test.why) {
						t.Errorf("ended with %v, want one that says %q", err, test.why)
					}
				}
				if took := time.Since(begun); took < producerPatience || took > producerPatience+10*time.Second {
					t.Errorf("given up after %v", took)
				}
				test.heal(network)
				send("after")
				if err := <-answers; err != nil {
					t.Error(err)
				}
				if err := p.Close(); err != nil {
					t.Error(err)
				}
				if got := strings.Join(values(t, cluster, network), " "); got != test.written {
					t.Errorf("written: %s, want %s", got, test.written)
				}
			})
		})
	}
}

// More than some bytes are not taken in while none are acknowledged. Whoever waits is let go by Close.
func TestSendWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := &idleNetwork{}
		cluster, err := kfake.NewCluster(kfake.Ports(9092), kfake.ListenFn(network.Listen), kfake.SeedTopics(1, "t"))
		if err != nil {
			t.Fatal(err)
		}
		defer cluster.Close()
		p, err := NewProducer(Cluster{Brokers: cluster.ListenAddrs(), connect: network.connect})
		if err != nil {
			t.Fatal(err)
		}
		network.setDown(true)
		var sent, answered atomic.Int64
		var sending sync.WaitGroup
		sending.Go(func() {
			value := make([]byte, 1<<20-1024)
			for range mostUnderWay>>20 + 2 {
				p.Send(wire.Record{Topic: "t", Value: value}, func(_ int64, err error) {
					if !errors.Is(err, ErrProducerClosed) {
						t.Error(err)
					}
					answered.Add(1)
				})
				sent.Add(1)
			}
		})
		synctest.Wait()
		const most = mostUnderWay>>20 + 1 // the last of them is taken in while there is some room
		if n := sent.Load(); n != most {
			t.Errorf("%d records were taken in, want %d", n, most)
		}
		if err := p.Close(); err == nil || !strings.Contains(err.Error(), fmt.Sprint(most, " records")) {
			t.Error(err)
		}
		sending.Wait()
		if sent.Load() != answered.Load() {
			t.Errorf("%d were sent, %d answered", sent.Load(), answered.Load())
		}
	})
}

// values are those of partition 0 of topic t.
func values(t *testing.T, cluster *kfake.Cluster, network *idleNetwork) (values []string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.Dialer(network.DialContext), kgo.ConsumeTopics("t"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) { values = append(values, string(r.Value)) })
	}
	return values
}
