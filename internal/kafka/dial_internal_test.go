package kafka

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

const far = "broker.example:9092" // nobody is there

// greeted is a connection whose other end, the broker's, has answered the first request.
func greeted(t *testing.T, d *dialer) (client net.Conn, broker net.Conn) {
	t.Helper()
	d.connect = func(context.Context, string) (net.Conn, error) {
		near, other := net.Pipe()
		broker = other
		return near, nil
	}
	client, err := d.Dial("tcp", far)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); broker.Close() })
	go func() {
		_, _ = io.ReadFull(broker, make([]byte, len(request(kmsg.ApiVersions)))) // what fails here shows below
		_, _ = broker.Write([]byte("hello"))
	}()
	if err := ask(client, kmsg.ApiVersions, 5); err != nil {
		t.Fatal(err)
	}
	return client, broker
}

func request(key kmsg.Key) []byte {
	frame := binary.BigEndian.AppendUint32(nil, 4)
	return append(binary.BigEndian.AppendUint16(frame, uint16(key)), 0, 0)
}

// ask writes a request and reads an answer.
func ask(client net.Conn, key kmsg.Key, size int) error {
	if _, err := client.Write(request(key)); err != nil {
		return err
	}
	_, err := io.ReadFull(client, make([]byte, size))
	return err
}

// Brokers that are slow, but there, are waited for as long as what was asked of them may take.
func TestSlowBroker(t *testing.T) {
	t.Parallel()
	group := Membership{Drain: 2 * time.Minute}
	tests := map[string]struct {
		key   kmsg.Key
		parts int           // of the answer
		pause time.Duration // before each of them
		fails bool
	}{
		"metadata":                  {kmsg.Metadata, 1, 4 * time.Second, false},
		"metadata, never":           {kmsg.Metadata, 1, time.Hour, true},
		"a heartbeat, never":        {kmsg.Heartbeat, 1, time.Hour, true},
		"a large fetch, slowly":     {kmsg.Fetch, 100, 4 * time.Second, false},
		"half a fetch":              {kmsg.Fetch, 2, 8 * time.Second, true},
		"a fetch, never":            {kmsg.Fetch, 1, time.Hour, true},
		"a produce, late followers": {kmsg.Produce, 1, ackTimeout + time.Second, false},
		"a produce, never":          {kmsg.Produce, 1, time.Hour, true},
		"a commit, late followers":  {kmsg.OffsetCommit, 1, ackTimeout + time.Second, false},
		"a topic":                   {kmsg.CreateTopics, 1, topicsPatience + time.Second, false},
		"a join":                    {kmsg.JoinGroup, 1, group.rebalance(), false},
		"a sync":                    {kmsg.SyncGroup, 1, group.rebalance(), false},
		"a join, never":             {kmsg.JoinGroup, 1, time.Hour, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := *Cluster{}.dialer(group.joinPatience())
				d.alive = func(string) error { return nil }
				client, broker := greeted(t, &d)
				done := make(chan struct{})
				defer func() { <-done }()
				go func() {
					defer close(done)
					_, _ = io.ReadFull(broker, make([]byte, len(request(tt.key))))
					for range tt.parts {
						time.Sleep(tt.pause)
						_, _ = broker.Write([]byte("answer")) // into a closed pipe where it is too late
					}
				}()
				begun := time.Now()
				err := ask(client, tt.key, tt.parts*len("answer"))
				if tt.fails == (err == nil) {
					t.Errorf("after %v: %v", time.Since(begun), err)
				}
				var silent *silentError
				if tt.fails && (!errors.As(err, &silent) || !errors.Is(err, io.EOF)) {
					t.Errorf("%v, want the end of the connection of a silent broker", err)
				}
				if took := time.Since(begun); tt.fails && tt.key != kmsg.JoinGroup && tt.parts == 1 && took >= 8*time.Second {
					t.Errorf("took %v, which leaves no time to look for another one within 10 s", took)
				}
			})
		})
	}
}

// A coordinator that is asked to wait for others, and is gone meanwhile, is not waited for.
func TestBrokerThatIsGoneIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	for _, key := range []kmsg.Key{kmsg.JoinGroup, kmsg.SyncGroup, kmsg.Produce} {
		synctest.Test(t, func(t *testing.T) {
			d := *Cluster{}.dialer(Membership{Drain: time.Minute}.joinPatience())
			checks := 0
			d.alive = func(address string) error {
				if checks++; checks > 1 || key == kmsg.Produce {
					return &silentError{address: address}
				}
				return nil
			}
			client, broker := greeted(t, &d)
			go func() { _, _ = io.Copy(io.Discard, broker) }()
			begun := time.Now()
			var silent *silentError
			if err := ask(client, key, 1); !errors.As(err, &silent) {
				t.Errorf("%s: %v", key.Name(), err)
			}
			if took := time.Since(begun); took > 2*d.patience.check {
				t.Errorf("%s: took %v", key.Name(), took)
			}
		})
	}
}

// A large request gets through a slow network, and does not wait for a broker that takes no more of it.
func TestSlowWrite(t *testing.T) {
	t.Parallel()
	large := make([]byte, 16<<20)
	copy(large, request(kmsg.Produce))
	for name, stops := range map[string]bool{"slow": false, "stopped": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				client, broker := greeted(t, Cluster{}.dialer(usualPatience))
				var taken bytes.Buffer
				done := make(chan struct{})
				go func() {
					defer close(done)
					for taken.Len() < len(large) {
						time.Sleep(time.Second)
						if n, _ := io.CopyN(&taken, broker, writePart); n == 0 || stops { // 0: the other end is closed
							return
						}
					}
				}()
				begun := time.Now()
				n, err := client.Write(large)
				if stops {
					var silent *silentError
					if !errors.As(err, &silent) || time.Since(begun) > 8*time.Second {
						t.Errorf("after %v: %v", time.Since(begun), err)
					}
					return
				}
				<-done
				if err != nil || n != len(large) || !bytes.Equal(taken.Bytes(), large) {
					t.Errorf("%d of %d bytes, %d taken: %v", n, len(large), taken.Len(), err)
				}
			})
		})
	}
}

// A broker that was silent is given less time to greet, until it has answered or that is long ago.
func TestSilenceIsRemembered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const address = "silent.example:9092"
		greet := func(answers bool) time.Duration {
			d := Cluster{}.dialer(usualPatience)
			d.connect = func(context.Context, string) (net.Conn, error) {
				near, broker := net.Pipe()
				go func() {
					_, _ = io.ReadFull(broker, make([]byte, len(request(kmsg.ApiVersions))))
					if answers {
						_, _ = broker.Write([]byte("hello"))
					}
				}()
				return near, nil
			}
			begun := time.Now()
			conn, err := d.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := ask(conn, kmsg.ApiVersions, 5); (err == nil) != answers {
				t.Fatal(err)
			}
			return time.Since(begun)
		}
		for i, step := range []struct {
			answers bool
			after   time.Duration // it rests for this long before
			want    time.Duration
		}{
			{false, 0, greetTimeout},
			{false, 0, briefly},
			{false, 0, briefly},
			{true, 0, 0},
			{false, 0, greetTimeout},
			{false, time.Second, briefly},
			{false, silenceMemory, greetTimeout},
		} {
			time.Sleep(step.after)
			if got := greet(step.answers); got != step.want {
				t.Errorf("step %d took %v, want %v", i, got, step.want)
			}
		}
	})
}

// Who does not wait any longer has found out nothing of a broker, and gets back what it waited for at once.
func TestDialIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const address = "slow.example:9092"
		d := Cluster{}.dialer(usualPatience)
		d.connect = func(ctx context.Context, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := d.DialContext(ctx, "tcp", address); !errors.Is(err, context.DeadlineExceeded) || silent.lately(address) {
			t.Errorf("%v, silent: %v", err, silent.lately(address))
		}
	})
}

// franz-go sets deadlines: those to come, which are not its to set, and now for what is to end at once.
func TestDeadlines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, broker := greeted(t, Cluster{}.dialer(usualPatience))
		for _, set := range []func(time.Time) error{client.SetDeadline, client.SetReadDeadline, client.SetWriteDeadline} {
			if err := errors.Join(set(time.Now().Add(time.Second)), set(time.Time{})); err != nil {
				t.Fatal(err)
			}
		}
		go func() {
			_, _ = io.ReadFull(broker, make([]byte, len(request(kmsg.Metadata))))
			time.Sleep(2 * time.Second)
			_, _ = broker.Write([]byte("answer"))
			_, _ = io.Copy(io.Discard, broker)
		}()
		if err := ask(client, kmsg.Metadata, len("answer")); err != nil {
			t.Errorf("behind a deadline: %v", err)
		}
		time.AfterFunc(time.Second, func() { _ = client.SetReadDeadline(time.Now()) })
		begun := time.Now()
		if err := ask(client, kmsg.Metadata, 1); err == nil || time.Since(begun) != time.Second {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
	})
}
