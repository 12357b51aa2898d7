package grpcin

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"kafkagrpc/internal/telemetry"
	"kafkagrpc/wire"
)

// observed is what telemetry keeps of a call. Its spans are nil where the call is not traced.
type observed struct {
	since time.Time
	done  func(error) // counts the call

	send    trace.Span // of the call's records
	receive trace.Span // of those of its reply

	mu        sync.Mutex
	partition int32 // of the first record
	offset    int64 // negative before it is acknowledged
}

// observe begins with what telemetry tells of a call. Its records belong to the trace that the request then names.
func (s *Server) observe(stream grpc.ServerStream, c *call) {
	t := s.options.Telemetry
	name := c.request.FullMethod()
	c.since, c.offset = time.Now(), -1
	counted := t.Metrics.Begun(name, c.route.Topic)
	c.done = func(err error) {
		code := status.Code(err)
		counted(code)
		partition, offset := c.position()
		t.Events.Print(telemetry.Event{
			Name: "call", Binding: s.options.Listener.Binding, Method: name, CorrelationID: c.request.CorrelationID, Topic: c.route.Topic,
			Partition: partition, Offset: offset, Status: code, Took: time.Since(c.since), Span: trace.SpanContextFromContext(stream.Context()),
			Caller: c.request.Trace,
		})
	}
	if !t.Tracing {
		return
	}
	var ctx context.Context
	ctx, c.send = s.tracer.Start(stream.Context(), "send "+c.route.Topic, telemetry.Producer...)
	if c.send.IsRecording() { // most are not, where few are sampled
		c.send.SetAttributes(telemetry.Send(c.route.Topic, c.described(c.key()))...)
	}
	c.request.Trace = t.Inject(ctx, c.request.Trace)
}

func (c *call) described(key []byte) telemetry.Call {
	return telemetry.Call{Method: c.request.FullMethod(), CorrelationID: c.request.CorrelationID, Key: key}
}

// position is where the call's first record lies. The offset is negative before it is known.
func (c *call) position() (partition int32, offset int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.partition, c.offset
}

// sent is called when Kafka has the first record of the call, or has refused it.
func (c *call) sent(partition int32, offset int64, err error) {
	c.mu.Lock()
	c.partition, c.offset = partition, offset
	c.mu.Unlock()
	if c.send == nil || !c.send.IsRecording() {
		return
	}
	if err != nil {
		telemetry.Fail(c.send, err)
	} else {
		c.send.SetAttributes(telemetry.Position(partition, offset)...)
	}
	c.send.End()
}

// observeReply is called with the first record of the reply.
func (s *Server) observeReply(ctx context.Context, c *call, r wire.Record, reply wire.Trace) {
	if !s.options.Telemetry.Tracing {
		return
	}
	ctx = s.options.Telemetry.Extract(ctx, reply)
	_, c.receive = s.tracer.Start(ctx, "receive "+r.Topic, telemetry.Client...)
	if c.receive.IsRecording() {
		c.receive.SetAttributes(append(telemetry.Receive(r.Topic, c.described([]byte(c.request.CorrelationID))), telemetry.Position(r.Partition, r.Offset)...)...)
	}
}

// observeEnd ends what was begun, with the status of the call.
func (c *call) observeEnd(err error) {
	if c.receive != nil && c.receive.IsRecording() {
		s := status.Convert(err)
		telemetry.SetClientStatus(c.receive, s.Code(), s.Message())
		c.receive.End()
	}
	if c.send != nil && !c.out.begun() {
		c.send.End() // else the acknowledgement does, which may come after the reply
	}
	c.done(err)
}

// warn logs what went wrong with a call. In an outage that is every call: one line a second says how many there were.
func (s *Server) warn(c *call, what string, attributes ...any) {
	s.logged.Of(what).Log(s.options.Log, slog.LevelWarn, what, append(attributes, slog.Any("", c))...)
}

// warnOfKafka logs a call whose deadline passed before Kafka had acknowledged its first record: no service is to blame.
func (s *Server) warnOfKafka(ctx context.Context, c *call, err error) {
	code := status.Code(err)
	passed := code == codes.DeadlineExceeded || code == codes.Canceled && !leaves(ctx)
	if !passed || c.out == nil || !c.out.begun() {
		return
	}
	if _, offset := c.position(); offset < 0 {
		s.warn(c, "the deadline of a call passed before Kafka had acknowledged its record", "topic", c.route.Topic)
	}
}

// LogValue implements slog.LogValuer. It is what each line about the call says of it.
func (c *call) LogValue() slog.Value {
	all := []slog.Attr{slog.String("method", c.request.FullMethod())}
	if c.request.CorrelationID != "" {
		all = append(all, slog.String("correlation_id", c.request.CorrelationID))
	}
	if partition, offset := c.position(); offset >= 0 {
		all = append(all, slog.String("source", fmt.Sprintf("%s/%d@%d", c.route.Topic, partition, offset)))
	}
	var span trace.SpanContext
	if c.send != nil {
		span = c.send.SpanContext()
	}
	if span = telemetry.OwnOrCaller(span, c.request.Trace); span.IsValid() {
		all = append(all, slog.String("trace_id", span.TraceID().String()))
	}
	return slog.GroupValue(all...)
}
