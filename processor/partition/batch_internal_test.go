package partition

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/IBM/sarama"

	"kafkagrpc/internal/consumergroup"
	"kafkagrpc/processor/outbox"
	"kafkagrpc/processor/rowpb"
	"kafkagrpc/wire"
)

// oneClaim is a consumer group of one session with one empty partition; its handler is the callback of the test.
type oneClaim struct {
	sarama.ConsumerGroup
	sarama.ConsumerGroupSession
	sarama.ConsumerGroupClaim
	ctx context.Context
}

func (*oneClaim) Claims() map[string][]int32               { return map[string][]int32{"requests": {0}} }
func (c *oneClaim) Context() context.Context               { return c.ctx }
func (*oneClaim) MarkOffset(string, int32, int64, string)  {}
func (*oneClaim) Topic() string                            { return "requests" }
func (*oneClaim) Partition() int32                         { return 0 }
func (*oneClaim) InitialOffset() int64                     { return 0 }
func (*oneClaim) HighWaterMarkOffset() int64               { return 0 }
func (*oneClaim) Messages() <-chan *sarama.ConsumerMessage { return nil }
func (*oneClaim) Records() <-chan []wire.Record            { return nil }
func (*oneClaim) Close() error                             { return nil }
func (c *oneClaim) Consume(ctx context.Context, _ []string, h sarama.ConsumerGroupHandler) error {
	c.ctx = ctx
	if err := h.Setup(c); err != nil {
		return err
	}
	err := h.ConsumeClaim(c, c)
	<-ctx.Done()
	return errors.Join(err, h.Cleanup(c))
}

// handler takes the tokens of the claim, one at each value of token.
type handler struct {
	codec consumergroup.Codec
	take  func(*consumergroup.Batch)
	token chan struct{}
}

func (handler) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (handler) Cleanup(sarama.ConsumerGroupSession) error { return nil }
func (h handler) ConsumeClaim(_ sarama.ConsumerGroupSession, c sarama.ConsumerGroupClaim) error {
	for m := range c.Messages() {
		<-h.token
		batch, err := h.codec.Decode(m.Value)
		if err != nil {
			return err
		}
		h.take(batch.(*consumergroup.Batch))
	}
	return nil
}

// work is an event that does something in its turn, and notes when it is acknowledged.
type work struct {
	name  string
	do    func(*turn)
	acked func(string)
}

func (s work) happen(t *turn) { s.do(t) }
func (s work) Acknowledged()  { s.acked(s.name) }

// fakeRows are rows in memory.
type fakeRows map[string][]byte

func (fakeRows) Ends(string) (string, string, int64, bool, error) { return "", "", 0, false, nil }
func (fakeRows) Count(string) int64                               { return 0 }

func (r fakeRows) Get(key string) ([]byte, error)      { return r[key], nil }
func (r fakeRows) Set(key string, row []byte) error    { r[key] = row; return nil }
func (r fakeRows) Delete(key string) error             { delete(r, key); return nil }
func (r fakeRows) Confirm(string, []byte, int64) error { return nil }

func TestHandleABatch(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	// What the steps of a batch do, by name. later answers are given by the test, one after the other.
	tests := []struct {
		name   string
		steps  []string
		first  []string // acknowledged in the callback
		acked  []string // and after the later answers
		failed bool
		done   bool
		handed int
	}{
		{"nothing is written", []string{"a", "b"}, []string{"a", "b"}, []string{"a", "b"}, false, true, 2},
		{"each is acknowledged alone", []string{"later 1", "a", "later 2"}, []string{"a"}, []string{"a", "later 1", "later 2"}, false, true, 3},
		{"one fails later", []string{"later 1", "broken 2", "later 3"}, nil, []string{"later 1", "later 3"}, true, true, 3},
		{"one is refused at once", []string{"later 1", "refused", "a"}, []string{"a"}, []string{"a", "later 1"}, true, true, 3},
		{"all fail", []string{"refused", "broken 1"}, nil, nil, true, true, 2},
		{"one panics", []string{"later 1", "panic", "a"}, nil, []string{"later 1"}, false, false, 2},
		{"the context ends", []string{"later 1", "end", "a"}, []string{"end"}, []string{"end", "later 1"}, false, true, 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				running, end := context.WithCancel(ctx)
				claim := &oneClaim{}
				group := consumergroup.New(consumergroup.Options{Log: slog.New(slog.NewTextHandler(io.Discard, nil))}).Wrap(claim)
				p := (&Binding{}).Assign(0)
				rows := fakeRows{}
				out := &outbox.Outbox{Lost: func() error { return consumergroup.ErrStoodStill }}
				var acked []string
				var result []error
				done := func(err error) { result = append(result, err) }
				h := handler{codec: group.Codec(), token: make(chan struct{})}
				h.take = func(b *consumergroup.Batch) {
					defer func() { _ = recover() }() // as goka does
					p.Handle(running, b, rows, out, done)
				}
				consumed := make(chan struct{})
				go func() {
					defer close(consumed)
					_ = group.Consume(ctx, []string{"requests"}, h)
				}()
				synctest.Wait()
				var answers []func()
				handled := 0
				for _, name := range test.steps {
					s := work{name: name, acked: func(name string) { acked = append(acked, name) }}
					s.do = func(t *turn) {
						handled++
						var n int
						switch {
						case name == "panic":
							panic(name)
						case name == "end":
							end()
						case name == "refused":
							t.setRow("key of refused", &rowpb.Row{Version: rowpb.Version})
						case scan(name, "later %d", &n):
							t.unacked.Add(1)
							answers = append(answers, func() { t.answered(nil) })
						case scan(name, "broken %d", &n):
							t.unacked.Add(2)
							answers = append(answers, func() { t.answered(broken); t.answered(nil) })
						}
					}
					if !group.Inject("requests", 0, "key of "+name, s) {
						t.Fatal("not injected")
					}
				}
				h.token <- struct{}{}
				synctest.Wait()
				if !slices.Equal(acked, test.first) {
					t.Errorf("acknowledged in the callback: %q, want %q", acked, test.first)
				}
				if handled != test.handed {
					t.Errorf("%d were handled, want %d", handled, test.handed)
				}
				for _, answer := range answers {
					if len(result) > 0 {
						t.Error("the batch is done before all is answered")
					}
					answer()
				}
				if !slices.Equal(acked, test.acked) {
					t.Errorf("acknowledged %q, want %q", acked, test.acked)
				}
				switch {
				case !test.done && len(result) > 0, test.done && len(result) != 1:
					t.Errorf("done was called %d times", len(result))
				case test.done && (result[0] != nil) != test.failed:
					t.Errorf("done(%v)", result[0])
				}
				if slices.Contains(test.steps, "refused") {
					if !errors.Is(result[0], consumergroup.ErrStoodStill) || rows["key of refused"] == nil {
						t.Errorf("done(%v), and the local row is %q", result[0], rows["key of refused"])
					}
				}
				end()
				cancel()
				select {
				case h.token <- struct{}{}: // another token
				case <-consumed:
				}
				<-consumed
			})
		})
	}
}

func scan(name, format string, n *int) bool {
	_, err := fmt.Sscanf(name, format, n)
	return err == nil
}

func TestAnswersOfWritesAreCheap(t *testing.T) {
	written := new(turn)
	written.unacked.Store(1000)
	if n := testing.AllocsPerRun(100, func() { written.answered(nil) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
