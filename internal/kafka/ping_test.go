package kafka_test

import (
	"context"
	"crypto/tls"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"kafkagrpc/internal/kafka"
	"kafkagrpc/internal/pkitest"
)

func TestPing(t *testing.T) {
	t.Parallel()
	_, cluster := start(t, nil)
	if err := cluster.Ping(within(t)); err != nil {
		t.Error(err)
	}
	// One broker of several is enough.
	gone := closedPort(t)
	if err := (kafka.Cluster{Brokers: []string{gone, cluster.Brokers[0]}}).Ping(within(t)); err != nil {
		t.Error(err)
	}
	err := kafka.Cluster{Brokers: []string{gone}}.Ping(within(t))
	if err == nil || !strings.Contains(err.Error(), gone) {
		t.Errorf("no broker: %v", err)
	}
}

// Something that takes connections and says nothing is no Kafka.
func TestPingEndsAtABrokerThatHangs(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	err = kafka.Cluster{Brokers: []string{l.Addr().String()}}.Ping(within(t))
	if err == nil || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("a broker that hangs: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	<-ctx.Done()
	if err := (kafka.Cluster{Brokers: []string{l.Addr().String()}}).Ping(ctx); err == nil {
		t.Error("no error though the time was over")
	}
}

// The last broker of the list is asked, too, when those before it hang.
func TestPingFindsTheBrokerThatAnswers(t *testing.T) {
	t.Parallel()
	_, cluster := start(t, nil)
	var brokers []string
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		brokers = append(brokers, l.Addr().String())
	}
	for _, most := range []time.Duration{2 * time.Second, 6 * time.Second} {
		ctx, cancel := context.WithTimeout(t.Context(), most)
		defer cancel()
		if err := (kafka.Cluster{Brokers: append(brokers, cluster.Brokers[0])}).Ping(ctx); err != nil {
			t.Errorf("within %v: %v", most, err)
		}
	}
}

// A broker that refuses this client is there, and another try has nothing to gain from asking it again and again.
func TestPingIsAnsweredByARefusal(t *testing.T) {
	t.Parallel()
	authority, other := pkitest.NewAuthority(t, "authority"), pkitest.NewAuthority(t, "other")
	server := &tls.Config{Certificates: []tls.Certificate{authority.Issue(t, "127.0.0.1")}}
	c := kafka.Cluster{Brokers: secured(t, kfake.TLS(server)), TLS: &tls.Config{RootCAs: other.Pool()}}
	if err := c.Ping(within(t)); err != nil {
		t.Error(err)
	}
}

func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
