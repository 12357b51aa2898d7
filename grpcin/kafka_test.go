package grpcin_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"kafkagrpc/grpcin"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
	"kafkagrpc/wire/rawcodec"
)

func TestMain(m *testing.M) {
	// go-metrics, below sarama, starts one ticker for the whole process and has no way to stop it.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

// patience bounds every wait for something that should happen at once.
const patience = 60 * time.Second

const (
	service  = "grpc.examples.echo.Echo"
	requests = "echo-requests"
	replies  = "echo-responses"

	unary        = service + "/UnaryEcho"
	serverStream = service + "/ServerStreamingEcho"
	clientStream = service + "/ClientStreamingEcho"
	bidi         = service + "/BidirectionalStreamingEcho"
	unknown      = service + "/New" // no catalog knows it
)

func withPatience(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// kafka is a Sender that keeps what it is given. What the test has set decides what happens to a record.
type kafka struct {
	fail func(wire.Record) error // nil: no record fails
	sent chan wire.Record        // every record, after its acknowledgement; nil: none
	on   func(wire.Record)       // called for each record before its acknowledgement; nil: nothing

	mu        sync.Mutex
	records   []wire.Record
	replies   []wire.Record
	reads     int   // of replies
	readError error // what they end with; nil: none
}

func (k *kafka) SendPinned(r wire.Record, _ *wire.Pin, done func(int64, error)) {
	if k.fail != nil {
		if err := k.fail(r); err != nil {
			done(-1, err)
			return
		}
	}
	k.mu.Lock()
	k.records = append(k.records, r)
	offset := int64(len(k.records))
	k.mu.Unlock()
	if k.on != nil {
		k.on(r)
	}
	done(offset, nil)
	if k.sent != nil {
		k.sent <- r
	}
}

func (k *kafka) written() []wire.Record {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]wire.Record(nil), k.records...)
}

func request(t testing.TB, r wire.Record) wire.Request {
	t.Helper()
	request, err := wire.DefaultContract().DecodeRequest(r.Headers, r.Timestamp)
	if err != nil {
		t.Errorf("our own record: %v", err)
	}
	return request
}

// fields makes metadata of "name", "value", ...
func fields(s ...string) wire.Metadata {
	m := make(wire.Metadata, 0, len(s)/2)
	for i := 0; i < len(s); i += 2 {
		m = append(m, wire.Field{Name: s[i], Value: s[i+1]})
	}
	return m
}

// message and end are reply records.
func message(reply wire.Reply, value string) wire.Record {
	return wire.Record{
		Topic: replies, Partition: 3, Offset: 41, Key: []byte(reply.CorrelationID), Value: []byte(value),
		Headers: wire.DefaultContract().EncodeReplyMessage(reply),
	}
}

func end(reply wire.Reply) wire.Record {
	return wire.Record{
		Topic: replies, Partition: 3, Offset: 42, Key: []byte(reply.CorrelationID),
		Headers: wire.DefaultContract().EncodeReplyEnd(reply),
	}
}

// echo answers each call with its own message when it is complete.
func echo(t testing.TB, calls *grpcin.Calls) func(wire.Record) {
	var mu sync.Mutex
	open := map[string][]byte{}
	return func(r wire.Record) {
		request := request(t, r)
		if r.Value != nil {
			mu.Lock()
			open[request.Call] = r.Value
			mu.Unlock()
			return
		}
		mu.Lock()
		value := open[request.Call]
		delete(open, request.Call)
		mu.Unlock()
		reply := wire.Reply{CorrelationID: request.CorrelationID, Call: request.Call}
		calls.Deliver(message(reply, string(value)))
		calls.Deliver(end(reply))
	}
}

func listener() topology.Listener {
	echo := topology.NorthRoute{
		Binding: "north_grpc_kafka", Methods: []topology.MethodPattern{"*", service + "/*"},
		Cluster: &topology.Cluster{Binding: "kafka_client"}, Topic: requests, ReplyTo: replies,
		Contract: wire.DefaultContract(),
	}
	neighbour := echo
	neighbour.Methods, neighbour.ReplyTo = []topology.MethodPattern{"neighbour.Service/*"}, "neighbour-responses"
	return topology.Listener{Binding: "north_tcp_server", Routes: []topology.NorthRoute{echo, neighbour}}
}

func methods() topology.Methods {
	return topology.Methods{
		unary: {}, serverStream: {ServerStreams: true}, clientStream: {ClientStreams: true}, bidi: {ClientStreams: true, ServerStreams: true},
	}
}

// front is a server under test with a connection to it.
type front struct {
	kafka   *kafka
	calls   *grpcin.Calls
	server  *grpcin.Server
	conn    *grpc.ClientConn
	address string
	stop    func() error // stops the server and waits for it; later calls give the first one's error
}

type setting func(*grpcin.Options, *front)

func limit(n int) setting {
	return func(o *grpcin.Options, f *front) {
		f.calls = grpcin.NewCalls([]topology.Listener{o.Listener}, grpcin.Limits{Calls: n})
		o.Calls = f.calls
	}
}

func start(t testing.TB, settings ...setting) *front {
	t.Helper()
	f := &front{kafka: &kafka{}}
	o := grpcin.Options{
		Listener: listener(), Methods: methods(), Senders: map[string]grpcin.Sender{"kafka_client": f.kafka},
		Readers:  map[string]grpcin.Reader{"kafka_client": f.kafka},
		Rejected: func(err error) bool { return errors.Is(err, errRejected) },
	}
	limit(0)(&o, f)
	for _, set := range settings {
		set(&o, f)
	}
	server, err := grpcin.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	f.server = server
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.address = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, l) }()
	f.stop = sync.OnceValue(func() error {
		cancel()
		return <-served
	})
	f.conn = dial(t, f.address, nil)
	t.Cleanup(func() {
		if err := f.stop(); err != nil {
			t.Errorf("Serve: %v", err)
		}
		if n := f.calls.Waiting(); n != 0 {
			t.Errorf("%d calls are still waiting after the stop", n)
		}
	})
	return f
}

var errRejected = errors.New("message too large")

func dial(t testing.TB, address string, config *tls.Config) *grpc.ClientConn {
	t.Helper()
	transport := insecure.NewCredentials()
	if config != nil {
		transport = credentials.NewTLS(config)
	}
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(transport),
		grpc.WithNoProxy(), grpc.WithDisableRetry(),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawcodec.Codec{})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return conn
}

// result is what a caller sees.
type result struct {
	Status  codes.Code
	Text    string
	Header  metadata.MD
	Trailer metadata.MD
	Message string
}

func (f *front) call(ctx context.Context, method, value string, md ...string) result {
	return call(ctx, f.conn, method, value, md...)
}

func call(ctx context.Context, conn *grpc.ClientConn, method, value string, md ...string) result {
	ctx = metadata.AppendToOutgoingContext(ctx, md...)
	in := []byte(value)
	var out []byte
	var r result
	err := conn.Invoke(ctx, "/"+method, &in, &out, grpc.Header(&r.Header), grpc.Trailer(&r.Trailer))
	delete(r.Header, "content-type")
	delete(r.Trailer, "content-type")
	r.Status, r.Text, r.Message = status.Code(err), status.Convert(err).Message(), string(out)
	return r
}

// eventually waits until a condition holds that no event announces.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not in time: %s", what)
		}
	}
}

// reply delivers records of a reply topic as a tail does, and keeps them for readers. Their offsets are the order of
// their delivery; their partition is 3.
func (k *kafka) reply(calls *grpcin.Calls, records ...wire.Record) {
	for _, r := range records {
		k.mu.Lock()
		r.Offset = int64(len(k.replies))
		k.replies = append(k.replies, r)
		k.mu.Unlock()
		calls.Deliver(r)
	}
}

// Read implements grpcin.Reader.
func (k *kafka) Read(ctx context.Context, topic string, partition int32, from, to int64, each func(wire.Record) error) error {
	k.mu.Lock()
	records := k.replies[from:to]
	k.reads++
	err := k.readError
	k.mu.Unlock()
	for _, r := range records {
		if err := ctx.Err(); err != nil {
			return err
		}
		if r.Topic != topic || r.Partition != partition {
			return fmt.Errorf("asked for %s/%d, where offset %d is of %s/%d", topic, partition, r.Offset, r.Topic, r.Partition)
		}
		if err := each(r); err != nil {
			return err
		}
	}
	return err
}
