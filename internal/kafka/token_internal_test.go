package kafka

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkagrpc/internal/logtest"
)

// source is where tokens come from, or do not.
type source struct {
	asked atomic.Int32
	down  atomic.Bool
	life  time.Duration
}

func (s *source) fetch(context.Context) (string, time.Time, error) {
	n := s.asked.Add(1)
	if s.down.Load() {
		return "", time.Time{}, errors.New("it is down")
	}
	return "token-" + string('a'+n-1), time.Now().Add(s.life), nil
}

// A token is renewed with a quarter of its life left. As long as that fails the last one is shown, and once that has expired none; the log
// has a line for the first failure and one for the end of them.
func TestTokensAreRenewedInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &source{life: 100 * time.Second}
		tokens := newTokens("the source", s.fetch)
		if err := tokens.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "the source") {
			t.Errorf("before there is one: %v", err)
		}
		var log logtest.Lines
		ctx, cancel := context.WithCancel(t.Context())
		var keeping sync.WaitGroup
		keeping.Go(func() { tokens.Keep(ctx, slog.New(slog.NewJSONHandler(&log, nil))) })
		defer keeping.Wait()
		defer cancel()
		expect := func(after time.Duration, token string, asked int32) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			got, err := tokens.Get(t.Context())
			if got != token || (err == nil) == (token == "") || s.asked.Load() != asked {
				t.Errorf("%q, %v, asked %d times, want %q, %d", got, err, s.asked.Load(), token, asked)
			}
		}
		expect(0, "token-a", 1)
		expect(74*time.Second, "token-a", 1)
		expect(2*time.Second, "token-b", 2)
		s.down.Store(true)
		expect(80*time.Second, "token-b", 5) // after 1, 2 and 4 seconds
		if note := tokens.Note(); !strings.Contains(note, "it is down") || tokens.Check(t.Context()) != nil {
			t.Errorf("note %q, %v", note, tokens.Check(t.Context()))
		}
		expect(9*time.Second, "", 7) // it is about to expire, and one more has asked
		for range 100 {
			expect(0, "", 7)
		}
		if err := tokens.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "no token from the source: it is down") {
			t.Errorf("expired: %v", err)
		}
		s.down.Store(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got, err := tokens.Get(t.Context()); err != nil || tokens.Note() != "" {
			t.Errorf("%q, %v, %q", got, err, tokens.Note())
		}
		if n := log.Count("cannot be renewed"); n != 1 {
			t.Errorf("told %d times:\n%s", n, log.String())
		}
		if n := log.Count("can be renewed again"); n != 1 {
			t.Errorf("told %d times:\n%s", n, log.String())
		}
		if strings.Contains(log.String(), "token-") {
			t.Errorf("a token is in the log:\n%s", log.String())
		}
	})
}

// A token that a broker refuses is asked for again, unless it is new; it is shown as long as there is no other.
func TestTokensThatBrokersRefuse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &source{life: time.Hour}
		tokens := newTokens("the source", s.fetch)
		c := Cluster{SASL: &SASL{Mechanism: sarama.SASLTypeOAuth, Tokens: tokens}}
		expect := func(token string, asked int32) {
			t.Helper()
			if got, err := tokens.Get(t.Context()); got != token || err != nil || s.asked.Load() != asked {
				t.Errorf("%q, %v, asked %d times, want %q, %d", got, err, s.asked.Load(), token, asked)
			}
		}
		refuse := func(after time.Duration) {
			t.Helper()
			time.Sleep(after)
			if why, final := c.refusal(kerr.SaslAuthenticationFailed); !final || !strings.Contains(why, "token") {
				t.Errorf("%s, %v", why, final)
			}
		}
		expect("token-a", 1)
		refuse(time.Second)
		expect("token-a", 1)
		refuse(time.Minute)
		expect("token-b", 2)
		expect("token-b", 2)
		s.down.Store(true)
		refuse(time.Minute)
		expect("token-b", 3)
		expect("token-b", 3)
		s.down.Store(false)
		time.Sleep(time.Second)
		expect("token-d", 4)
		expect("token-d", 4)
	})
}

// Whoever needs a token while one is asked for waits for that.
func TestTokensAreAskedForOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		tokens := newTokens("the source", func(context.Context) (string, time.Time, error) {
			asked++
			time.Sleep(time.Second)
			return "token", time.Time{}, nil
		})
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				if got, err := tokens.Get(t.Context()); got != "token" || err != nil {
					t.Errorf("%q, %v", got, err)
				}
			})
		}
		all.Wait()
		if asked != 1 {
			t.Errorf("asked %d times", asked)
		}
	})
}

// Before a broker ends a session the clients show a token again, on the same connection (KIP-368).
func TestSessionsAreProlonged(t *testing.T) {
	t.Parallel()
	for name, connect := range map[string]func(*testing.T, Cluster) (ask func() error){
		"sarama": func(t *testing.T, c Cluster) func() error {
			client, err := sarama.NewClient(c.Brokers, c.ConsumerConfig())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = client.Close() })
			return func() error { return client.RefreshMetadata("t") }
		},
		"franz-go": func(t *testing.T, c Cluster) func() error {
			client, err := kgo.NewClient(c.producerOptions(DefaultMaxRecordBytes)...)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(client.Close)
			return func() error {
				return client.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: []byte("v")}).FirstErr()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"), kfake.BrokerConfigs(map[string]string{"default.replication.factor": "1"}))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(k.Close)
			var connections, shown atomic.Int32
			k.ControlKey(kmsg.SASLHandshake.Int16(), func(r kmsg.Request) (kmsg.Response, error, bool) {
				k.KeepControl()
				return r.ResponseKind(), nil, true
			})
			k.ControlKey(kmsg.SASLAuthenticate.Int16(), func(r kmsg.Request) (kmsg.Response, error, bool) {
				k.KeepControl()
				answer := r.ResponseKind().(*kmsg.SASLAuthenticateResponse)
				answer.SessionLifetimeMillis = 1200
				if !strings.Contains(string(r.(*kmsg.SASLAuthenticateRequest).SASLAuthBytes), "auth=Bearer token-") {
					t.Error("what is shown is no token")
				}
				shown.Add(1)
				return answer, nil, true
			})
			s := &source{life: time.Hour}
			c := Cluster{Brokers: k.ListenAddrs(), SASL: &SASL{Mechanism: sarama.SASLTypeOAuth, Tokens: newTokens("the source", s.fetch)}}
			c.connect = func(ctx context.Context, address string) (net.Conn, error) {
				connections.Add(1)
				return connectTCP(ctx, address)
			}
			ask := connect(t, c)
			if err := ask(); err != nil {
				t.Fatal(err)
			}
			opened, ends := connections.Load(), time.Now().Add(time.Minute)
			for shown.Load() < opened+5 {
				if err := ask(); err != nil || time.Now().After(ends) {
					t.Fatalf("shown %d times: %v", shown.Load(), err)
				}
			}
			if n := connections.Load(); n != opened {
				t.Errorf("%d connections, and %d at first", n, opened)
			}
			if n := s.asked.Load(); n != 1 {
				t.Errorf("%d tokens for a session after the other", n)
			}
		})
	}
}
