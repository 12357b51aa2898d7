package telemetry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	noopmetric "go.opentelemetry.io/otel/metric/noop"
	"google.golang.org/grpc/stats"

	"kafkagrpc/topology"
)

// recorder records what a grpc binding selects. What it does not goes nowhere.
type recorder struct {
	attributes metric.MeasurementOption

	active                            metric.Int64UpDownCounter
	duration                          metric.Float64Histogram
	requestSize, responseSize         metric.Int64Histogram
	requestMessages, responseMessages metric.Int64Histogram
}

// newRecorders makes one for each binding that selects metrics. namespace is the name of the file.
func newRecorders(p metric.MeterProvider, namespace string, all []topology.Recorded) (map[string]*recorder, error) {
	if _, nowhere := p.(noopmetric.MeterProvider); nowhere {
		return nil, nil
	}
	out := make(map[string]*recorder, len(all))
	for _, selected := range all {
		r, err := newRecorder(p, selected.Names)
		if err != nil {
			return nil, fmt.Errorf("metrics of binding %s: %w", selected.Binding, err)
		}
		r.attributes = metric.WithAttributeSet(attribute.NewSet(attribute.String("namespace", namespace), attribute.String("binding", selected.Binding)))
		out[selected.Binding] = r
	}
	return out, nil
}

func newRecorder(p metric.MeterProvider, names []string) (*recorder, error) {
	r := &recorder{}
	meter := func(s *Spec) metric.Meter {
		if slices.Contains(names, s.name) {
			return p.Meter("kafkagrpc")
		}
		return noopmetric.Meter{}
	}
	var problems []error
	made := func(err error) { problems = append(problems, err) }
	var err error
	r.active, err = meter(&active).Int64UpDownCounter(active.name, metric.WithUnit(active.unit), metric.WithDescription(active.description))
	made(err)
	r.duration, err = meter(&duration).Float64Histogram(duration.name, metric.WithUnit(duration.unit), metric.WithDescription(duration.description), durations)
	made(err)
	sizes := metric.WithExplicitBucketBoundaries(0, 64, 256, 1<<10, 4<<10, 16<<10, 64<<10, 256<<10, 1<<20, 4<<20, 16<<20)
	counts := metric.WithExplicitBucketBoundaries(0, 1, 2, 5, 10, 20, 50, 100, 1000, 10_000, 100_000)
	for _, h := range []struct {
		spec    *Spec
		to      *metric.Int64Histogram
		buckets metric.HistogramOption
	}{
		{&requestSize, &r.requestSize, sizes}, {&responseSize, &r.responseSize, sizes},
		{&requestMessages, &r.requestMessages, counts}, {&responseMessages, &r.responseMessages, counts},
	} {
		*h.to, err = meter(h.spec).Int64Histogram(h.spec.name, metric.WithUnit(h.spec.unit), metric.WithDescription(h.spec.description), h.buckets)
		made(err)
	}
	return r, errors.Join(problems...)
}

// recorded is a call while it is recorded. Its messages are counted on the goroutines that read and write them.
type recorded struct {
	*recorder
	requests, responses messages
}

type messages struct{ n, bytes atomic.Int64 }

func (m *messages) add(bytes int) {
	m.n.Add(1)
	m.bytes.Add(int64(bytes))
}

// tag is the context of a call that is recorded.
func (r *recorder) tag(ctx context.Context) context.Context {
	return context.WithValue(ctx, recordedCall{}, &recorded{recorder: r})
}

func (r *recorded) end(took time.Duration) {
	ctx := context.Background()
	r.active.Add(ctx, -1, r.attributes)
	r.duration.Record(ctx, took.Seconds(), r.attributes)
	r.requestSize.Record(ctx, r.requests.bytes.Load(), r.attributes)
	r.responseSize.Record(ctx, r.responses.bytes.Load(), r.attributes)
	r.requestMessages.Record(ctx, r.requests.n.Load(), r.attributes)
	r.responseMessages.Record(ctx, r.responses.n.Load(), r.attributes)
}

// recordedCall is the key of a call's context for what is recorded of it.
type recordedCall struct{}

// recording has what both sides do in the same way, as stats.Handler.
type recording struct{}

// HandleRPC implements stats.Handler.
func (recording) HandleRPC(ctx context.Context, s stats.RPCStats) {
	r, ok := ctx.Value(recordedCall{}).(*recorded)
	if !ok {
		return
	}
	switch s := s.(type) {
	case *stats.Begin: // a server tags calls that do not begin
		r.active.Add(context.Background(), 1, r.attributes)
	case *stats.InPayload:
		if s.Client {
			r.responses.add(s.Length)
		} else {
			r.requests.add(s.Length)
		}
	case *stats.OutPayload:
		if s.Client {
			r.requests.add(s.Length)
		} else {
			r.responses.add(s.Length)
		}
	case *stats.End:
		r.end(s.EndTime.Sub(s.BeginTime))
	}
}

// TagConn implements stats.Handler.
func (recording) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (recording) HandleConn(context.Context, stats.ConnStats) {}

// serverRecorder records the calls of a server.
type serverRecorder struct {
	recording
	*recorder
}

// TagRPC implements stats.Handler.
func (h serverRecorder) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	if aboutServer(info.FullMethodName) {
		return ctx
	}
	return h.tag(ctx)
}

// clientRecorder records the attempts of a client whose contexts name a binding.
type clientRecorder struct{ recording }

// TagRPC implements stats.Handler.
func (clientRecorder) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	if r, ok := ctx.Value(bindingOf{}).(*recorder); ok {
		return r.tag(ctx)
	}
	if ctx.Value(recordedCall{}) != nil {
		// A call that a server passes on, which records it already, and would as often as both sides tell of it.
		return context.WithValue(ctx, recordedCall{}, nil)
	}
	return ctx
}

// bindingOf is the key of a context for the recorder of a grpc client binding.
type bindingOf struct{}

// WithBinding is ctx for calls through a grpc client binding.
func (t *Telemetry) WithBinding(ctx context.Context, binding string) context.Context {
	if r := t.recorders[binding]; r != nil {
		return context.WithValue(ctx, bindingOf{}, r)
	}
	return ctx
}
