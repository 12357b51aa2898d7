package processor

import (
	"context"
	"errors"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"

	"kafkagrpc/grpcout"
	"kafkagrpc/internal/telemetry"
	"kafkagrpc/processor/rowpb"
	"kafkagrpc/wire"
)

// observed is what telemetry keeps of an attempt. The partition's goroutine owns it, but for what is said otherwise.
type observed struct {
	read   time.Time // when the processor had its first record; zero before
	result telemetry.Result

	// Of an attempt that is traced, else nil. baggage and process are only read after they are made.
	process trace.Span
	baggage baggage.Baggage
	spans   *openSpans // of the partition

	sending sync.Mutex
	reply   trace.Span // of the reply's records; guarded by sending
}

// begin is called when it is clear that the attempt will be answered. It may be called again.
func (p *Processor) begin(a *attempt) {
	if !a.read.IsZero() {
		return
	}
	a.read, a.result = time.Now(), telemetry.ResultRefused
	if a.source.dated() {
		p.telemetry.Metrics.Took(a.method, telemetry.StageTopic, a.read.Sub(a.source.timestamp))
	}
	if !p.telemetry.Tracing {
		return
	}
	ctx := p.telemetry.Extract(context.Background(), a.request.Trace)
	a.baggage = baggage.FromContext(ctx)
	_, a.process = p.tracer.Start(ctx, "process "+a.source.topic, telemetry.Consumer...)
	if a.process.IsRecording() { // most are not, where few are sampled
		a.process.SetAttributes(append(telemetry.Process(a.source.topic, p.remote.Group, telemetry.Call{
			Method: a.method, CorrelationID: a.request.CorrelationID, Key: a.record.Key,
		}), telemetry.Position(a.source.partition, a.source.offset)...)...)
		a.spans.add(a)
	}
}

// traced is ctx within the attempt's span.
func (a *attempt) traced(ctx context.Context) context.Context {
	if a.process == nil {
		return ctx
	}
	if a.baggage.Len() > 0 {
		ctx = baggage.ContextWithBaggage(ctx, a.baggage)
	}
	return trace.ContextWithSpan(ctx, a.process)
}

// link names the execution whose result answers the attempt.
func (a *attempt) link(execution trace.SpanContext) {
	if a.process != nil && execution.IsValid() {
		a.process.AddLink(trace.Link{SpanContext: execution, Attributes: []attribute.KeyValue{attribute.String("kafka_grpc.link", "execution")}})
	}
}

// executionOf is the span that executed a row's key.
func executionOf(row *rowpb.Row) trace.SpanContext {
	id, err := trace.TraceIDFromHex(row.TraceId)
	if err != nil {
		return trace.SpanContext{}
	}
	span, err := trace.SpanIDFromHex(row.SpanId)
	if err != nil {
		return trace.SpanContext{}
	}
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: span, TraceFlags: trace.FlagsSampled, Remote: true})
}

// execution is the span of a call; not valid where it is not traced.
func (a *attempt) execution() trace.SpanContext {
	if a.process == nil {
		return trace.SpanContext{}
	}
	return a.process.SpanContext()
}

// replyTrace is the trace context of the records of the attempt's reply. Safe for concurrent use.
func (p *Processor) replyTrace(a *attempt) wire.Trace {
	if a.process == nil {
		return wire.Trace{}
	}
	a.sending.Lock()
	defer a.sending.Unlock()
	ctx := a.traced(context.Background())
	if a.reply == nil {
		_, a.reply = p.tracer.Start(ctx, "send "+a.replyTo, telemetry.Producer...)
		if a.reply.IsRecording() {
			a.reply.SetAttributes(telemetry.Send(a.replyTo, telemetry.Call{
				Method: a.method, CorrelationID: a.request.CorrelationID, Key: []byte(a.request.CorrelationID),
			})...)
		}
	}
	return p.telemetry.Inject(trace.ContextWithSpan(ctx, a.reply), wire.Trace{})
}

// observeReply ends the attempt's span with the outcome that is on its way, and answers what to call when Kafka has it, or has
// refused it.
func (p *Processor) observeReply(a *attempt, status codes.Code, message string) (sent func(partition int32, offset int64, err error)) {
	result, emitted := a.result, time.Now()
	if a.process != nil && a.process.IsRecording() {
		a.process.SetAttributes(attribute.String("kafka_grpc.result", string(result)))
		telemetry.SetStatus(a.process, status, message)
		a.process.End()
	}
	return func(partition int32, offset int64, err error) {
		a.sending.Lock()
		span := a.reply
		a.sending.Unlock()
		if span != nil && span.IsRecording() {
			if err != nil {
				telemetry.Fail(span, err)
			} else {
				span.SetAttributes(telemetry.Position(partition, offset)...)
			}
			span.End()
			a.spans.remove(a)
		}
		if err != nil {
			return
		}
		now, method := time.Now(), a.method
		p.telemetry.Metrics.Took(method, telemetry.StageReply, now.Sub(emitted))
		if a.source.dated() {
			p.telemetry.Metrics.Took(method, telemetry.StageWhole, now.Sub(a.source.timestamp))
		}
		p.telemetry.Metrics.Answered(method, a.source.topic, result, status)
		p.telemetry.Events.Print(telemetry.Event{
			Name: "request", Binding: p.remote.Binding, Method: method, CorrelationID: a.request.CorrelationID,
			Topic: a.source.topic, Partition: a.source.partition, Offset: a.source.offset, Result: result, Status: status,
			Took: now.Sub(a.read), Span: a.execution(), Caller: a.request.Trace,
		})
	}
}

// abandon ends the attempt's span where the attempt is not answered here.
func (a *attempt) abandon(err error) {
	if a.process == nil {
		return
	}
	a.spans.remove(a)
	if errors.Is(err, errGivenUp) {
		a.process.SetAttributes(attribute.String("kafka_grpc.result", "given-up"))
	}
	telemetry.Fail(a.process, err)
	a.process.End()
	a.sending.Lock()
	defer a.sending.Unlock()
	if a.reply != nil {
		telemetry.Fail(a.reply, err)
		a.reply.End()
	}
}

// openSpans are the attempts of a partition whose spans are recorded and have not ended; at most as many as it has records in
// flight. Safe for concurrent use.
type openSpans struct {
	mu       sync.Mutex
	attempts map[*attempt]struct{}
}

func (o *openSpans) add(a *attempt) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.attempts == nil {
		o.attempts = make(map[*attempt]struct{})
	}
	o.attempts[a] = struct{}{}
}

func (o *openSpans) remove(a *attempt) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.attempts, a)
}

// giveUp ends the spans of a partition in which nothing is answered any more: what waits there comes to nothing.
func (o *openSpans) giveUp() {
	o.mu.Lock()
	left := o.attempts
	o.attempts = nil
	o.mu.Unlock()
	for a := range left {
		a.abandon(errGivenUp)
	}
}

// observer is told by the caller what becomes of calls. What it notes on a span is on that of the attempt's record.
type observer struct{ metrics *telemetry.Metrics }

// Attempt implements grpcout.Observer.
func (observer) Attempt(ctx context.Context, _ string, n int, probe bool) context.Context {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return ctx
	}
	breaker := "closed"
	if probe {
		breaker = "half-open"
	}
	return telemetry.WithClientAttributes(ctx, attribute.Int("kafka_grpc.attempt", n), attribute.String("kafka_grpc.breaker", breaker))
}

// Attempted implements grpcout.Observer.
func (o observer) Attempted(method string, t grpcout.Target, r grpcout.Result) {
	o.metrics.Attempted(method, t.Address, r.Attempts, r.Status)
}

// Held implements grpcout.Observer.
func (observer) Held(ctx context.Context, d time.Duration) {
	trace.SpanFromContext(ctx).AddEvent("held by the breaker", trace.WithAttributes(
		attribute.Float64("kafka_grpc.seconds", d.Seconds()), attribute.String("kafka_grpc.breaker", "open")))
}

// Backoff implements grpcout.Observer.
func (observer) Backoff(ctx context.Context, pause time.Duration, r grpcout.Result) {
	trace.SpanFromContext(ctx).AddEvent("backoff", trace.WithAttributes(
		attribute.Float64("kafka_grpc.seconds", pause.Seconds()), attribute.Int("kafka_grpc.attempt", r.Attempts),
		attribute.String("rpc.response.status_code", wire.StatusName(r.Status))))
}

// flight is what a partition has in flight, for those who look on: its own goroutine has the same elsewhere.
type flight struct {
	mu    sync.Mutex
	calls map[*call]time.Time // when each began

	parked atomic.Int64
}

func (f *flight) begin(c *call) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[c] = c.started
}

func (f *flight) end(c *call) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.calls, c)
}

// oldest answers how many calls there are, and when the first of them began.
func (f *flight) oldest() (n int, since time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range f.calls {
		if since.IsZero() || t.Before(since) {
			since = t
		}
	}
	return len(f.calls), since
}

// look is what the metrics tell of the group. It does not wait.
func (p *Processor) look() telemetry.Group {
	state := p.State()
	g := telemetry.Group{Ready: state.Ready, Recovering: state.Recovering, Recovered: state.Read, ToRecover: state.Total}
	p.mu.RLock()
	group := p.group
	var flights []*flight
	stores := maps.Clone(p.stores)
	for _, part := range p.parts {
		flights = append(flights, part.flight)
		g.Streams += int(part.openStreams.streams.Load())
	}
	p.mu.RUnlock()
	for s, rows := range stores {
		g.Tables = append(g.Tables, telemetry.Table{Partition: s.Partition, Rows: rows.Load(), Bytes: s.Size()})
	}
	now := time.Now()
	for _, f := range flights {
		n, since := f.oldest()
		g.InFlight += n
		if n > 0 {
			g.Oldest = max(g.Oldest, now.Sub(since))
		}
		g.Parked += int(f.parked.Load())
	}
	if group != nil {
		for _, c := range group.Claims() {
			g.Claims = append(g.Claims, telemetry.Claim{
				Topic: c.Topic, Partition: c.Partition, Lag: c.Lag, Uncommitted: c.Uncommitted, Held: c.Held, HeldBytes: c.HeldBytes,
			})
		}
	}
	for t, open := range p.caller.Open() {
		g.Targets = append(g.Targets, t.Address)
		if open {
			g.OpenBreakers = append(g.OpenBreakers, t.Address)
		}
	}
	g.Standby = p.standbyLag()
	return g
}
