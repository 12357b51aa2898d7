package processor_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"kafkagrpc/internal/payload"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

func TestTombstones(t *testing.T) {
	t.Parallel()
	b := newShop(t, 1, eventRoute("{topic: "+requests+", headers: {type: kept}, reply-to: "+replies+"}", "method: shop.v1.Orders/Place", "tombstones: dead-letter")+ordersRoute(), requestsOnly)
	_, scrape := b.watched()
	b.started()
	b.produce(wire.Record{Key: []byte("a")}, wire.Record{}, wire.Record{Key: []byte("b"), Headers: []wire.Header{header("type", "kept")}}, event("c", `{}`))
	got := map[string]string{}
	for _, r := range b.read(2) {
		got[r.Topic] = string(r.Key)
	}
	if d := cmp.Diff(map[string]string{b.remote.Processing.DeadLetter: "b", replies: "c"}, got); d != "" {
		t.Error(d)
	}
	b.committed()
	b.has(scrape, `kafka_grpc_skipped_total{reason="tombstone",topic="echo-requests"} 2`, `kafka_grpc_dead_letters_total{reason="tombstone",topic="echo-requests"} 1`)
}

// A topic of plain events may be compacted, as topics with tombstones are, and that of their replies where each is one record.
func TestEventsOfCompactedTopics(t *testing.T) {
	t.Parallel()
	b := newShop(t, 1, ordersRoute(), requestsOnly)
	for _, topic := range []string{requests, replies} {
		if err := b.cleanup(topic, "compact"); err != nil {
			t.Fatal(err)
		}
	}
	b.started()
	b.produce(event("a", `{"id":"1"}`), wire.Record{Key: []byte("a")}, event("b", `{"id":"2"}`))
	got := map[string]string{}
	for _, r := range b.read(2) {
		got[string(r.Key)] = string(r.Value)
	}
	if d := cmp.Diff(map[string]string{"a": `{"id":"1"}`, "b": `{"id":"2"}`}, got); d != "" {
		t.Error(d)
	}
}

func TestCompactable(t *testing.T) {
	t.Parallel()
	place, watch := "method: shop.v1.Orders/Place", "method: shop.v1.Orders/Watch"
	for name, c := range map[string]struct {
		routes string
		want   []string
	}{
		"events and their replies": {eventRoute("{topic: a, reply-to: r}", place), []string{"a", "r"}},
		"no replies":               {eventRoute("{topic: a}", watch), []string{"a"}},
		"a stream of replies":      {eventRoute("{topic: a, reply-to: r}", place) + eventRoute("{topic: b, reply-to: r}", watch), []string{"a", "b"}},
		"requests":                 {eventRoute("{topic: a, reply-to: r}", "scheme: http"), nil},
		"requests beside events":   {eventRoute("{topic: a, headers: {type: placed}}", place) + eventRoute("{topic: a, reply-to: r}", "scheme: http"), nil},
	} {
		if d := cmp.Diff(c.want, newShop(t, 1, c.routes, requestsOnly).remote.Compactable()); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func TestEventsWithoutReplies(t *testing.T) {
	t.Parallel()
	b := newShop(t, 2, eventRoute("{topic: "+requests+"}", "method: shop.v1.Orders/Place", "request: {encoding: protobuf}")+
		eventRoute("{topic: "+requests+", headers: {type: watch}}", "method: shop.v1.Orders/Watch"), requestsOnly)
	spans, scrape := b.watched()
	b.started()
	b.service.answers(func(_ context.Context, c received) ([]byte, error) {
		if c.message == b.order(`{"id":"bad"}`) {
			return nil, status.Error(codes.NotFound, "nobody")
		}
		return []byte("no message at all"), nil
	})
	bad := b.order(`{"id":"bad"}`)
	b.produce(event("a", b.order(`{"id":"1"}`)), event("", bad), wire.Record{Value: []byte{}})
	if letter := b.letters(1)[0]; letter.Cause.Code != codes.NotFound || string(letter.Value) != bad || letter.Key == nil {
		t.Errorf("letter %+v", letter)
	}
	b.committed()
	if n := len(b.service.received()); n != 3 {
		t.Errorf("%d calls", n)
	}
	b.has(scrape, `kafka_grpc_dead_letters_total{reason="event_failed",topic="echo-requests"} 1`,
		`kafka_grpc_requests_total{method="Place",result="executed",service="shop.v1.Orders",status="NOT_FOUND",topic="echo-requests"} 1`,
		`kafka_grpc_requests_total{method="Place",result="executed",service="shop.v1.Orders",status="OK",topic="echo-requests"} 2`)
	if n := len(b.log(replies)); n != 0 {
		t.Errorf("%d replies", n)
	}
	for _, s := range spans.GetSpans() {
		if strings.HasPrefix(s.Name, "send") {
			t.Errorf("span %s", s.Name)
		}
	}
}

func TestRoutesOfEvents(t *testing.T) {
	t.Parallel()
	typed := func(name, method string) string {
		return eventRoute("{topic: "+requests+", headers: {type: "+name+"}, reply-to: "+replies+"}", "method: shop.v1.Orders/"+method)
	}
	t.Run("alone", func(t *testing.T) {
		t.Parallel()
		b := newShop(t, 1, typed("placed", "Place"), requestsOnly)
		_, scrape := b.watched()
		b.started()
		b.produce(event("a", `hi`, header("type", "shown")), event("b", `{}`, header("type", "placed")), message(request("k"), "hi"))
		for _, r := range b.read(2) {
			if r.Topic == replies && string(r.Key) != "b" || r.Topic != replies && !strings.Contains(fmt.Sprint(describe([]wire.Record{r})), "reply topic") {
				t.Error(describe([]wire.Record{r}))
			}
		}
		b.committed()
		b.has(scrape, `kafka_grpc_skipped_total{reason="no_route",topic="echo-requests"} 1`)
	})
	t.Run("with requests", func(t *testing.T) {
		t.Parallel()
		b := newShop(t, 1, typed("placed", "Place"))
		b.started()
		b.call(attempt("k", "k"), "hi").check(t, codes.OK, "", "hi")
		b.produce(event("a", `hi`, header("type", "shown")))
		if l := b.letters(1)[0]; !strings.Contains(l.Cause.Reason, "no zilla:correlation-id header") {
			t.Errorf("letter %+v", l)
		}
		b.produce(event("a", `{"id":"1"}`, header("type", "placed")))
		b.wantWritten(b.read(1)[0], written{"a", `{"id":"1"}`, []string{"zilla:correlation-id=" + requests + "/0/3", "zilla:status=0"}})
		b.committed()
	})
}

func TestEventWithAStreamOfReplies(t *testing.T) {
	t.Parallel()
	b := newShop(t, 2, eventRoute("{topic: "+requests+", reply-to: "+replies+"}", "method: shop.v1.Orders/Watch", "idempotency-key: '${message.headers.id}'"), requestsOnly)
	i := b.started()
	one, two, broken := b.order(`{"id":"1"}`), b.order(`{"id":"2"}`), false
	b.service.serves(func(s grpc.ServerStream) error {
		var m []byte
		if err := s.RecvMsg(&m); err != nil {
			return err
		}
		if err := s.RecvMsg(&m); err == nil {
			return status.Error(codes.Internal, "a second message")
		}
		for _, answer := range []string{one, two} {
			m := []byte(answer)
			if err := s.SendMsg(&m); err != nil {
				return err
			}
			if broken {
				return status.Error(codes.Aborted, "cut")
			}
		}
		return nil
	})
	id := func(id string, more ...string) []string {
		return append([]string{"zilla:correlation-id=" + id}, more...)
	}
	want := []written{
		{"k", `{"id":"1"}`, id("w1", "grpc:message=0")}, {"k", `{"id":"2"}`, id("w1", "grpc:message=1")}, {"k", "null", id("w1", "zilla:status=0", "grpc:message=2")},
	}
	for range 2 { // and once more from the table
		b.produce(event("k", `{}`, header("id", "w1")))
		for n, r := range b.read(3) {
			b.wantWritten(r, want[n])
		}
	}
	b.committed()
	if n := len(b.service.received()); n != 1 {
		t.Errorf("%d calls", n)
	}
	i.stop()
	broken = true
	b.ready(b.start(i.dir))
	b.produce(event("k", `{}`, header("id", "w2")))
	var replied []written
	for _, r := range b.read(3) {
		if r.Topic == replies {
			replied = append(replied, writtenOf(r))
		} else if !strings.Contains(fmt.Sprint(describe([]wire.Record{r})), "the call failed: Aborted cut") {
			t.Error(describe([]wire.Record{r}))
		}
	}
	if d := cmp.Diff([]written{{"k", `{"id":"1"}`, id("w2", "grpc:message=0")}, {"k", "null", id("w2", "zilla:status=10", "zilla:message=cut")}}, replied); d != "" {
		t.Error(d)
	}
	b.committed()
}

// slowDecoder fetches something before it decodes, which fails as often as it is told.
type slowDecoder struct {
	payload.Decoder
	gate chan struct{}

	mu    sync.Mutex
	fails int
	calls int
}

func (*slowDecoder) Ready([]byte) bool { return false }

func (d *slowDecoder) Decode(ctx context.Context, value []byte) ([]byte, error) {
	select {
	case <-d.gate:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	d.mu.Lock()
	d.calls++
	fails := d.calls <= d.fails
	d.mu.Unlock()
	if fails {
		return nil, errors.New("the registry is down")
	}
	return d.Decoder.Decode(ctx, value)
}

// A value for which something has to be fetched blocks nothing, and is waited for however long that fails.
func TestDecoderThatFetches(t *testing.T) {
	t.Parallel()
	const slow = "{topic: " + requests + ", headers: {type: slow}, reply-to: " + replies + "}"
	b := newShop(t, 2, eventRoute(slow, "method: shop.v1.Orders/Place", "idempotency-key: '${message.value.id}'")+ordersRoute())
	decoder := &slowDecoder{gate: make(chan struct{}), fails: 3}
	plain, first := b.codecs, true
	b.codecs = func(e topology.Event) (payload.Decoder, payload.Encoder, error) {
		d, w, err := plain(e)
		if first {
			decoder.Decoder, d, first = d, decoder, false
		}
		return d, w, err
	}
	i := b.started()
	const n = 20
	for k := range n {
		b.produceTo(requests, 0, event("s", fmt.Sprintf(`{"id":"%d"}`, k), header("type", "slow")))
	}
	b.produceTo(requests, 0, event("s", `{"id":7}`, header("type", "slow")))
	b.produceTo(requests, 0, event("fast", `{"id":"fast"}`)) // behind them
	if r := b.read(1)[0]; string(r.Key) != "fast" {
		t.Fatal(describe([]wire.Record{r}))
	}
	i.stop() // nothing is lost that waits
	b.codecs = func(e topology.Event) (payload.Decoder, payload.Encoder, error) {
		d, w, err := plain(e)
		if e.Key != nil {
			d = decoder
		}
		return d, w, err
	}
	b.ready(b.start(i.dir))
	close(decoder.gate)
	var ids []string
	letters := 0
	for _, r := range b.read(n + 1) {
		if r.Topic != replies {
			letters++
			if !strings.Contains(fmt.Sprint(describe([]wire.Record{r})), "$.id: invalid value for string field id: 7") {
				t.Error(describe([]wire.Record{r}))
			}
			continue
		}
		ids = append(ids, string(r.Headers[0].Value))
	}
	slices.Sort(ids)
	if len(slices.Compact(ids)) != n || letters != 1 {
		t.Errorf("%d letters, replies to %v", letters, ids)
	}
	b.committed()
	if calls := len(b.service.received()); calls != n+1 {
		t.Errorf("%d calls", calls)
	}
}

// What is read again after it has failed is not executed again: only another record is.
func TestFailedEventThatIsReadAgain(t *testing.T) {
	t.Parallel()
	b := newShop(t, 1, ordersRoute("idempotency-key: '${message.key}'"), requestsOnly)
	i := b.started()
	b.service.answers(func(context.Context, received) ([]byte, error) { return nil, status.Error(codes.NotFound, "no") })
	b.produce(event("a", `{}`))
	b.read(2)
	b.committed()
	i.stop()
	b.evict(i.dir)
	back := kadm.Offsets{}
	back.AddOffset(requests, 0, 0, -1)
	if err := b.admin.CommitAllOffsets(context.Background(), b.remote.Group, back); err != nil {
		t.Fatal(err)
	}
	b.service.answers(nil)
	b.ready(b.start(i.dir))
	for _, r := range b.read(2) {
		if r.Topic == replies {
			b.wantWritten(r, written{"a", "null", []string{"zilla:correlation-id=a", "zilla:status=5", "zilla:message=no"}})
		}
	}
	b.committed()
	b.produce(event("a", `{}`))
	b.wantWritten(b.read(1)[0], written{"a", `{}`, []string{"zilla:correlation-id=a", "zilla:status=0"}})
	if calls := len(b.service.received()); calls != 2 {
		t.Errorf("%d calls", calls)
	}
}

// Two events with one key at the same time are one call.
func TestSameEventInFlight(t *testing.T) {
	t.Parallel()
	b := newShop(t, 2, ordersRoute("idempotency-key: 'x-${message.value.id}'"), requestsOnly)
	b.started()
	open := b.service.gate()
	b.produceTo(requests, 0, event("a", `{"id":"1"}`), event("b", `{"id":"1"}`), event("c", `{"id":"1","amount":2}`))
	b.service.wait(t, 1)
	for _, r := range b.read(2) { // the other message under the same key
		if r.Topic == replies {
			b.wantWritten(r, written{"c", "null", []string{"zilla:correlation-id=x-1", "zilla:status=9", "zilla:message=idempotency key was used with another request"}})
		}
	}
	open()
	keys := ""
	for _, r := range b.read(2) {
		keys += string(r.Key)
	}
	if keys != "ab" && keys != "ba" {
		t.Errorf("answered: %s", keys)
	}
	b.committed()
	if calls := len(b.service.received()); calls != 1 {
		t.Errorf("%d calls", calls)
	}
}

func TestReplyThatIsNoMessage(t *testing.T) {
	t.Parallel()
	b := newShop(t, 1, ordersRoute()+eventRoute("{topic: "+requests+"}", "method: shop.v1.Orders/Place"), requestsOnly)
	b.started()
	b.service.answers(func(context.Context, received) ([]byte, error) { return []byte("\xff"), nil })
	b.produce(event("a", `{}`))
	seen := 0
	for _, r := range b.read(2) {
		text := fmt.Sprint(describe([]wire.Record{r}))
		if strings.Contains(text, "cannot be written as an event") && r.Topic == replies == (r.Value == nil) {
			seen++
		}
	}
	if seen != 2 {
		t.Errorf("%d", seen)
	}
	b.committed()
}

func TestEventsThatAreTooLarge(t *testing.T) {
	t.Parallel()
	b := newShop(t, 3, ordersRoute("idempotency-key: '${message.headers.id}'"), requestsOnly)
	b.started()
	b.service.answers(func(_ context.Context, c received) ([]byte, error) {
		if c.message == b.order(`{"id":"big"}`) {
			return []byte(b.order(`{"id":"` + strings.Repeat("x", 1_000_000) + `"}`)), nil
		}
		return []byte(c.message), nil
	})
	for _, test := range []struct {
		record wire.Record
		reason string
	}{
		{event(strings.Repeat("k", 17<<10), `{}`, header("id", "1")), "the key of the record, which is that of its reply, has 17408 bytes"},
		{event("k", `{}`, header("id", strings.Repeat("x", 17<<10))), "idempotency-key: it has 17408 bytes"},
		{event("k", `{}`, header("id", "a\nb")), "idempotency-key: it has control characters"},
	} {
		b.produce(test.record)
		if l := b.letters(1)[0]; !strings.Contains(l.Cause.Reason, test.reason) {
			t.Errorf("%+v, want %s", l.Cause, test.reason)
		}
	}
	for _, digits := range []int{500_000, 1_048_300} { // the reason repeats what it says of them, and there is no room for both
		b.produce(event("k", `{"id":`+strings.Repeat("1", digits)+`}`, header("id", "n")))
		if l := b.letters(1)[0]; !strings.Contains(l.Cause.Reason, "$.id: invalid value for string field id: 11") || len(l.Cause.Reason) > 4000 || l.Kept() != (digits < 1_000_000) {
			t.Errorf("%d digits: %.200s... (%d bytes), kept: %v", digits, l.Cause.Reason, len(l.Cause.Reason), l.Kept())
		}
	}
	b.produce(event("k", `{"id":"big"}`, header("id", "b")))
	for _, r := range b.read(2) {
		if r.Topic == replies && !slices.ContainsFunc(r.Headers, func(h wire.Header) bool { return h.Name == "zilla:status" && string(h.Value) == "8" }) {
			t.Error(describe([]wire.Record{r}))
		}
	}
	b.committed()
}

// Partitions that the table lacks, and a null key: the event is what it was.
func TestEventOfAFurtherPartition(t *testing.T) {
	t.Parallel()
	b := newShop(t, 2, ordersRoute("idempotency-key: '${message.headers.id}'", "metadata: {partition: '${message.headers.x}'}"), requestsOnly)
	b.started()
	b.produceTo(requests, 0, wire.Record{Key: []byte("before")})
	b.grow(requests, 2)
	b.learned(3)
	for n := range 8 {
		b.produceTo(requests, 3, wire.Record{Value: []byte(`{}`), Headers: []wire.Header{header("id", fmt.Sprint(n)), header("x", "y")}})
		r := b.read(1)[0]
		b.wantWritten(r, written{"", `{}`, []string{"zilla:correlation-id=" + fmt.Sprint(n), "zilla:status=0"}})
		if r.Key != nil {
			t.Errorf("key %q", r.Key)
		}
	}
	if calls := b.service.received(); len(calls) != 8 || calls[0].metadata.Get("partition")[0] != "y" {
		t.Errorf("%d calls", len(calls))
	}
}

func TestEventIsTraced(t *testing.T) {
	t.Parallel()
	b := newShop(t, 2, ordersRoute("idempotency-key: '${message.headers.id}'"), requestsOnly)
	spans, _ := b.watched()
	b.started()
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	b.produce(event("k", `{}`, header("id", "1"), header("traceparent", parent)))
	r := b.read(1)[0]
	if last := r.Headers[len(r.Headers)-1]; last.Name != "traceparent" || !strings.HasPrefix(string(last.Value), parent[:36]) {
		t.Error(describe([]wire.Record{r}))
	}
	b.committed()
	for _, s := range spans.GetSpans() {
		if s.SpanContext.TraceID().String() != parent[3:35] {
			t.Errorf("span %s is of another trace", s.Name)
		}
	}
	if len(spans.GetSpans()) == 0 {
		t.Error("no span")
	}
}
