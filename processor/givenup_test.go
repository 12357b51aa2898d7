package processor_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc/codes"

	"kafkagrpc/topology"
)

// spanCount holds the spans that began against those that ended.
type spanCount struct{ begun, ended atomic.Int64 }

func (c *spanCount) OnStart(context.Context, sdktrace.ReadWriteSpan) { c.begun.Add(1) }
func (c *spanCount) OnEnd(sdktrace.ReadOnlySpan)                     { c.ended.Add(1) }
func (c *spanCount) Shutdown(context.Context) error                  { return nil }
func (c *spanCount) ForceFlush(context.Context) error                { return nil }

// What is in flight or waits when its partition is given up is told so, and leaves no span without an end: the executed
// request, the parked ones, and the stream whose request goes on.
func TestSpansEndWithThePartition(t *testing.T) {
	t.Parallel()
	tests := map[string]func(b *testbench, i *instance) (requests int){
		"to another instance": func(b *testbench, _ *instance) int {
			b.ready(b.start(b.t.TempDir()))
			return 0
		},
		"with the processor": func(b *testbench, i *instance) int {
			b.kafka.Cluster().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: b.remote.Table, Err: kerr.PolicyViolation, Count: 1})
			b.send(attempt("other", "other"), "other")
			b.eventually("the processor has ended", func() bool { return i.State().Err != nil })
			return 1
		},
	}
	type source struct {
		correlationID string
		offset        int64
	}
	for name, move := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 2, func(r *topology.Remote) { r.Processing.Drain = 50 * time.Millisecond })
			spans, _ := b.watched()
			count := &spanCount{}
			b.telemetry.Tracers.(*sdktrace.TracerProvider).RegisterSpanProcessor(count)
			var moved atomic.Bool
			b.service.answers(func(ctx context.Context, call received) ([]byte, error) {
				if !moved.Load() && call.message == "wait" {
					<-ctx.Done()
					return nil, errors.New("nobody waits for it")
				}
				return []byte(call.message), nil
			})
			ids := []string{"executed", "parked", "parked too"}
			i := b.started()
			for _, id := range ids {
				b.send(attempt("k", id), "wait")
			}
			stream := streaming("Client", "s", "stream")
			b.produce(message(stream, "wait"))
			ids = append(ids, stream.Call)
			const calls = 2
			for range calls {
				<-b.service.arrived
			}
			b.eventually("all have begun", func() bool { return count.begun.Load() >= int64(len(ids))+calls })
			moved.Store(true)
			more := move(b, i)
			b.produce(end(stream))
			got := b.results(len(ids) + more)
			for _, id := range ids {
				got[id].check(t, codes.OK, "", "wait")
			}
			b.committed()
			i.stop()
			b.eventually("all spans have ended", func() bool { return count.begun.Load() == count.ended.Load() })

			given, answered := map[source]int{}, map[source]int{}
			for _, s := range spans.GetSpans() {
				if s.Name != "process "+requests {
					continue
				}
				of := attribute.NewSet(s.Attributes...)
				id, _ := of.Value("messaging.message.conversation_id")
				if id.AsString() != request("k").CorrelationID && id.AsString() != stream.CorrelationID {
					continue
				}
				offset, _ := of.Value("messaging.kafka.offset")
				at := source{id.AsString(), offset.AsInt64()}
				switch result, _ := of.Value("kafka_grpc.result"); result.AsString() {
				case "given-up":
					given[at]++
					if s.Status.Code != otelcodes.Error || s.Status.Description != "the partition was given up before the request was answered: its next owner reads it again" {
						t.Errorf("%v: %+v", at, s.Status)
					}
				default:
					answered[at]++
				}
			}
			if len(answered) != len(ids) {
				t.Errorf("%d requests were answered", len(answered))
			}
			for at, n := range answered {
				if n != 1 || given[at] < 1 {
					t.Errorf("%v: %d spans were given up, and %d were answered", at, given[at], n)
				}
			}
		})
	}
}
