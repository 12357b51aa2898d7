package conformance_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"kafkagrpc/wire"
)

// stage is the world as one scenario uses it. Its methods end the scenario where something is not as it should be.
type stage struct {
	*world
	t      *testing.T
	ctx    context.Context // bounds everything that the scenario waits for
	slug   string
	golden []wire.Record
	put    int // records of the golden file that were written by hand
}

// key is the scenario's nth idempotency key.
func (s *stage) key(n int) string { return fmt.Sprintf("%s.%d", s.slug, n) }

func (s *stage) script(n int, h handler) { s.service.script(s.key(n), h) }

func (s *stage) must(err error) {
	s.t.Helper()
	must(s.t, err)
}

// expect fails the scenario where two values differ.
func expect[T comparable](s *stage, what string, got, want T) {
	s.t.Helper()
	if got != want {
		s.t.Fatalf("%s: %v, not %v", what, got, want)
	}
}

// begun waits until n calls of a key have reached the service.
func (s *stage) begun(key, n int) {
	s.t.Helper()
	s.until(fmt.Sprintf("%d calls of %s", n, s.key(key)), func() bool {
		begun, _ := s.service.callsOf(s.key(key))
		return begun >= n
	})
}

// executed expects that a key was executed n times, and that none of the calls is still open.
func (s *stage) executed(key, n int) {
	s.t.Helper()
	s.until("the end of all calls of "+s.key(key), func() bool {
		_, open := s.service.callsOf(s.key(key))
		return open == 0
	})
	begun, _ := s.service.callsOf(s.key(key))
	expect(s, "calls of "+s.key(key), begun, n)
}

func (s *stage) until(what string, condition func() bool) {
	s.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-s.ctx.Done():
			s.t.Fatalf("did not see %s", what)
		}
	}
}

// wait is for a service that is to go on later.
func (s *stage) wait(c <-chan struct{}) {
	select {
	case <-c:
	case <-s.ctx.Done():
	}
}

// seen waits until n records of the scenario are on a topic.
func (s *stage) seen(topic string, n int) []wire.Record {
	s.t.Helper()
	on := func(all []wire.Record) (some []wire.Record) {
		for _, r := range all {
			if r.Topic == topic {
				some = append(some, r)
			}
		}
		return some
	}
	all, err := s.tap.await(s.ctx, s.slug, fmt.Sprintf("%d records on %s", n, topic), func(r []wire.Record) bool { return len(on(r)) >= n })
	s.must(err)
	return on(all)
}

// written are the records of the golden file on a topic.
func (s *stage) written(topic string) (some []wire.Record) {
	for _, r := range s.golden {
		if r.Topic == topic {
			some = append(some, r)
		}
	}
	return some
}

// write writes records by hand, to the partitions that their keys have.
func (s *stage) write(all ...wire.Record) {
	s.t.Helper()
	for _, r := range all {
		s.must(s.kafka.ProduceSync(s.ctx, produced(r)).FirstErr())
	}
}

// writeTo writes records by hand to a partition.
func (s *stage) writeTo(partition int32, all ...wire.Record) {
	s.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(s.brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	s.must(err)
	defer client.Close()
	for _, r := range all {
		k := produced(r)
		k.Partition = partition
		s.must(client.ProduceSync(s.ctx, k).FirstErr())
	}
}

func produced(r wire.Record) *kgo.Record {
	k := &kgo.Record{Topic: r.Topic, Key: r.Key, Value: r.Value}
	for _, h := range r.Headers {
		k.Headers = append(k.Headers, kgo.RecordHeader{Key: h.Name, Value: h.Value})
	}
	return k
}

// writeNext writes the next n records of the golden file on a topic.
func (s *stage) writeNext(topic string, n int) {
	s.t.Helper()
	all := s.written(topic)
	if s.put+n > len(all) {
		s.t.Fatalf("the golden file has %d records on %s, not %d", len(all), topic, s.put+n)
	}
	s.write(all[s.put : s.put+n]...)
	s.put += n
}

// replay writes all records of the golden file on a topic.
func (s *stage) replay(topic string) {
	s.t.Helper()
	s.writeNext(topic, len(s.written(topic)))
}

// call is one call as its caller sees it.
type call struct {
	grpc.ClientStream
	s      *stage
	cancel context.CancelFunc
}

// call begins a call of one of the suite's services with the scenario's nth key, and metadata in pairs.
func (s *stage) call(method string, n int, metadata ...string) *call {
	s.t.Helper()
	return s.callWith(s.ctx, method, n, metadata)
}

// callWith is call with a context for its deadline and with options. A call of s.ctx has no deadline.
func (s *stage) callWith(ctx context.Context, method string, n int, pairs []string, options ...grpc.CallOption) *call {
	s.t.Helper()
	if ctx == s.ctx {
		// The scenario's own bound is not the caller's deadline.
		detached, cancel := context.WithCancel(context.WithoutCancel(ctx))
		context.AfterFunc(s.ctx, cancel)
		ctx = detached
	}
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(ctx, append([]string{"idempotency-key", s.key(n)}, pairs...)...))
	s.t.Cleanup(cancel)
	stream, err := s.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/conformance."+method,
		append(options, grpc.WaitForReady(true))...)
	s.must(err)
	return &call{stream, s, cancel}
}

func (c *call) send(messages ...string) *call {
	c.s.t.Helper()
	for _, m := range messages {
		message := text(m)
		if err := c.SendMsg(&message); err != nil && !errors.Is(err, io.EOF) { // the end tells why
			c.s.t.Fatal(err)
		}
	}
	return c
}

// halfClose says that no message follows.
func (c *call) halfClose() *call {
	c.s.t.Helper()
	c.s.must(c.CloseSend())
	return c
}

// receives expects these messages next.
func (c *call) receives(want ...string) *call {
	c.s.t.Helper()
	for _, w := range want {
		var message []byte
		if err := c.RecvMsg(&message); err != nil {
			c.s.t.Fatalf("no message came, but %v", err)
		}
		if got := textOf(message); got != w {
			c.s.t.Fatalf("the message is %.100q, not %.100q", got, w)
		}
	}
	return c
}

// ends expects the end of the call.
func (c *call) ends(code codes.Code, message string) *call {
	c.s.t.Helper()
	var unexpected []byte
	err := c.RecvMsg(&unexpected)
	if err == nil {
		c.s.t.Fatalf("a message came, and not the end: %.100q", unexpected)
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	got := status.Convert(err)
	if got.Code() != code || !strings.Contains(got.Message(), message) || message == "" && code == codes.OK && got.Message() != "" {
		c.s.t.Fatalf("the call ended with %v %q, not with %v %q", got.Code(), got.Message(), code, message)
	}
	return c
}

// header expects values of the initial metadata.
func (c *call) header(name string, want ...string) *call {
	c.s.t.Helper()
	md, err := c.Header()
	c.s.must(err)
	if got := md.Get(name); !slices.Equal(got, want) {
		c.s.t.Fatalf("initial metadata %s is %q, not %q", name, got, want)
	}
	return c
}

// trailer expects values of the trailing metadata.
func (c *call) trailer(name string, want ...string) *call {
	c.s.t.Helper()
	if got := c.Trailer().Get(name); !slices.Equal(got, want) {
		c.s.t.Fatalf("trailing metadata %s is %q, not %q", name, got, want)
	}
	return c
}

// answer is what a request by hand gets.
type answer struct {
	status          int // of HTTP
	header, trailer http.Header
	body            []byte
}

// grpcStatus is where gRPC has it: in the trailers, or in the header of an answer without a message.
func (a answer) grpcStatus() string {
	if s := a.trailer.Get("Grpc-Status"); s != "" {
		return s
	}
	return a.header.Get("Grpc-Status")
}

// request sends an HTTP/2 request by hand.
func (s *stage) request(verb, path string, headers map[string]string, body []byte) answer {
	s.t.Helper()
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &protocols, DisableCompression: true}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(s.ctx, verb, "http://"+s.north+path, bytes.NewReader(body))
	s.must(err)
	for name, value := range headers {
		r.Header.Set(name, value)
	}
	response, err := transport.RoundTrip(r)
	s.must(err)
	defer response.Body.Close()
	a := answer{status: response.StatusCode, header: response.Header}
	a.body, err = io.ReadAll(response.Body)
	s.must(err)
	a.trailer = response.Trailer
	return a
}

// frame is a message as gRPC puts it on HTTP/2.
func frame(message []byte) []byte {
	n := len(message)
	return append([]byte{0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, message...)
}
