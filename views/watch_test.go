package views_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"kafkagrpc/processor/rowpb"
	"kafkagrpc/views/viewspb"
)

// watching is one watch as a test sees it.
type watching struct {
	t      *testing.T
	stream *connect.ServerStreamForClient[viewspb.WatchResponse]
	cursor string
	stop   func()
}

// watch returns when the watch has begun.
func (i *instance) watch(t *testing.T, request *viewspb.WatchRequest) *watching {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	stream, err := i.client.Watch(ctx, connect.NewRequest(request))
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	w := &watching{t: t, stream: stream}
	w.stop = sync.OnceFunc(func() {
		cancel()
		_ = stream.Close()
	})
	t.Cleanup(w.stop)
	if !stream.Receive() || stream.Msg().Change != nil {
		t.Fatalf("the first answer is %v, %v", stream.Msg(), stream.Err())
	}
	w.cursor = stream.Msg().Cursor
	return w
}

// receive is the next message.
func (w *watching) receive() *viewspb.WatchResponse {
	w.t.Helper()
	if !w.stream.Receive() {
		w.t.Fatalf("the watch ended: %v", w.stream.Err())
	}
	w.cursor = w.stream.Msg().Cursor
	return w.stream.Msg()
}

// next is the next change: a key, or -key for a removal.
func (w *watching) next() string {
	w.t.Helper()
	for {
		switch c := w.receive().Change.(type) {
		case *viewspb.WatchResponse_Entry:
			return c.Entry.Key
		case *viewspb.WatchResponse_Removed:
			return "-" + c.Removed.Key
		}
	}
}

func (w *watching) expect(want ...string) {
	w.t.Helper()
	for _, key := range want {
		if got := w.next(); got != key {
			w.t.Errorf("change %q, want %q", got, key)
		}
	}
}

func TestWatchFromNow(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.put("before", aRow())
	i := b.started()
	all := i.watch(t, &viewspb.WatchRequest{})
	some := i.watch(t, &viewspb.WatchRequest{Filter: &viewspb.Filter{Prefix: "a", Status: "NOT_FOUND"}})
	b.put("a1", aRow())
	b.put("a2", aRow(func(r *rowpb.Row) { r.Status = 5 }))
	b.put("b1", aRow(func(r *rowpb.Row) { r.Status = 5 }))
	b.put("a1", nil)
	b.put("a3", aRow(func(r *rowpb.Row) { r.Status = 5 }))
	all.expect("a1", "a2", "b1", "-a1", "a3")
	some.expect("a2", "a3")
}

// A watcher goes on where it was: from the feed, at an instance that was restarted, and at one that has never had the
// changes in memory.
func TestWatchFromACursor(t *testing.T) {
	t.Parallel()
	b := newBench(t, 3)
	b.put("before", aRow())
	i := b.started()
	w := i.watch(t, &viewspb.WatchRequest{})
	b.put("k1", aRow())
	w.expect("k1")
	w.stop()
	b.put("k2", aRow())
	b.has(i, "k2")

	again := i.watch(t, &viewspb.WatchRequest{Cursor: w.cursor})
	again.expect("k2")
	again.stop()
	i.stop()
	b.put("k3", aRow())
	i = b.start(i.dir)
	b.ready(i)
	for name, at := range map[string]*instance{"restarted": i, "new": b.started()} {
		t.Run(name, func(t *testing.T) {
			later := at.watch(t, &viewspb.WatchRequest{Cursor: w.cursor})
			seen := map[string]bool{}
			for range 2 { // of two partitions
				seen[later.next()] = true
			}
			if !seen["k2"] || !seen["k3"] {
				t.Errorf("seen %v", seen)
			}
			b.put("live-"+name, aRow())
			for later.next() != "live-"+name {
			}
		})
	}
}

func TestWatchTheLastChanges(t *testing.T) {
	t.Parallel()
	b := newBench(t, 3)
	i := b.started()
	for n := range 5 {
		key := fmt.Sprintf("k%d", n)
		b.put(key, aRow())
		b.has(i, key) // one after the other, as partitions have no order among them
	}
	w := i.watch(t, &viewspb.WatchRequest{Recent: 2})
	w.expect("k3", "k4")
	b.put("k5", aRow())
	w.expect("k5")
}

// Whoever takes nothing is told and dropped; nobody else notices.
func TestSlowWatcherIsToldAndDropped(t *testing.T) {
	t.Parallel()
	const rows = 800
	b := newBench(t, 1)
	i := b.started()
	slow := i.watch(t, &viewspb.WatchRequest{})
	fast := i.watch(t, &viewspb.WatchRequest{Filter: &viewspb.Filter{Prefix: "last"}})
	// More than what the feed and all buffers on the way keep: messages of errors are in what is watched.
	noise := make([]byte, 32<<10) // which no compression makes smaller
	_, _ = rand.Read(noise)
	text := hex.EncodeToString(noise)
	value, err := proto.Marshal(aRow(func(r *rowpb.Row) { r.Message = text }))
	if err != nil {
		t.Fatal(err)
	}
	var records []*kgo.Record
	for n := range rows {
		records = append(records, &kgo.Record{Topic: topic, Key: fmt.Appendf(nil, "k%03d", n), Value: value})
	}
	b.produce(records...)
	b.put("last", aRow())
	fast.expect("last")
	seen := 0
	for slow.stream.Receive() {
		if seen++; seen > rows {
			t.Fatal("the slow watcher got everything")
		}
		slow.cursor = slow.stream.Msg().Cursor
	}
	if err := slow.stream.Err(); connect.CodeOf(err) != connect.CodeResourceExhausted || !strings.Contains(err.Error(), "go on from the cursor") {
		t.Errorf("the slow watcher was told %v after %d changes", err, seen)
	}
	// As it says.
	again := i.watch(t, &viewspb.WatchRequest{Cursor: slow.cursor})
	if got, want := again.next(), fmt.Sprintf("k%03d", seen); got != want {
		t.Errorf("it goes on with %s, want %s", got, want)
	}
}

// overHTTP2 is a client that has some hundreds of streams to a connection.
func (i *instance) overHTTP2(t *testing.T) viewspb.ViewsClient {
	t.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	return viewspb.NewViewsClient(&http.Client{Transport: transport}, i.url, connect.WithGRPC())
}

func TestThousandWatchers(t *testing.T) {
	t.Parallel()
	const watchers, changes = 1000, 10
	b := newBench(t, 3)
	i := b.started()
	client := i.overHTTP2(t)
	var begun, done sync.WaitGroup
	var failed atomic.Int32
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for n := range watchers {
		begun.Add(1)
		done.Go(func() {
			started := sync.OnceFunc(begun.Done)
			defer started()
			request := connect.NewRequest(&viewspb.WatchRequest{})
			request.Header().Set(clientHeader, fmt.Sprintf("10.0.0.%d:4711", n%10))
			stream, err := client.Watch(ctx, request)
			if err != nil {
				failed.Add(1)
				return
			}
			defer stream.Close()
			seen := 0
			for seen < changes && stream.Receive() {
				started()
				if stream.Msg().Change != nil {
					seen++
				}
			}
			if seen != changes {
				failed.Add(1)
			}
		})
	}
	begun.Wait()
	var stats struct{ Tables []struct{ Watchers int } }
	i.get(t, "/v1/stats", &stats)
	if stats.Tables[0].Watchers != watchers {
		t.Errorf("%d watchers", stats.Tables[0].Watchers)
	}
	for n := range changes {
		b.put(fmt.Sprintf("k%d", n), aRow())
	}
	done.Wait()
	if n := failed.Load(); n > 0 {
		t.Errorf("%d of %d watchers failed", n, watchers)
	}
	b.eventually("all watchers are gone", func() bool {
		i.get(t, "/v1/stats", &stats)
		return stats.Tables[0].Watchers == 0
	})
}

// One client cannot take the places of the others; a host of IPv6 is its network.
func TestWatchersOfOneClient(t *testing.T) {
	t.Parallel()
	const most = 200
	b := newBench(t, 1)
	i := b.started()
	client := i.overHTTP2(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	watch := func(address string) (func(), error) {
		request := connect.NewRequest(&viewspb.WatchRequest{})
		request.Header().Set(clientHeader, address)
		ctx, cancel := context.WithCancel(ctx)
		stream, err := client.Watch(ctx, request)
		if err != nil {
			t.Fatal(err)
		}
		end := sync.OnceFunc(func() {
			cancel()
			_ = stream.Close()
		})
		t.Cleanup(end)
		if !stream.Receive() {
			return end, stream.Err()
		}
		return end, nil
	}
	var ends []func()
	for n := range most {
		end, err := watch(fmt.Sprintf("[2001:db8::%x]:%d", n+1, 1000+n))
		if err != nil {
			t.Fatalf("watcher %d: %v", n, err)
		}
		ends = append(ends, end)
	}
	_, err := watch("[2001:db8::ffff]:1")
	if connect.CodeOf(err) != connect.CodeResourceExhausted || !strings.Contains(err.Error(), "2001:db8::/64 has 200 watchers") {
		t.Errorf("one more is told %v", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, i.url+"/v1/keys:watch", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set(clientHeader, "[2001:db8::1]:1")
	response, err := i.server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusTooManyRequests {
		t.Errorf("one more has the status %d", response.StatusCode)
	}
	for _, other := range []string{"[2001:db8:0:1::1]:1", "192.0.2.1:1"} {
		if _, err := watch(other); err != nil {
			t.Errorf("%s: %v", other, err)
		}
	}
	ends[0]()
	b.eventually("a watcher that has ended leaves its place", func() bool {
		_, err := watch("[2001:db8::ffff]:1")
		return err == nil
	})
}

// All messages say how fresh the watch is, and when nothing changes some are sent for that.
func TestWatchIsFresh(t *testing.T) {
	t.Parallel()
	b := newBench(t, 3)
	b.put("before", aRow())
	begun := time.Now()
	i := b.started()
	w := i.watch(t, &viewspb.WatchRequest{})
	first := w.stream.Msg().Freshness
	if first.GetAsOf() == nil || first.AsOf.AsTime().Before(begun) || first.Lag != 0 {
		t.Errorf("the first message is as of %v, after %s", first, begun)
	}
	b.put("k1", aRow())
	changed := w.receive()
	if changed.GetEntry().GetKey() != "k1" || changed.Freshness.GetAsOf().AsTime().Before(first.AsOf.AsTime()) {
		t.Errorf("the change is %v after %v", changed, first)
	}
	silent := time.Now()
	still := w.receive()
	if still.Change != nil || still.Freshness.GetAsOf().AsTime().Before(silent) || still.Freshness.Lag != 0 || still.Cursor != changed.Cursor {
		t.Errorf("without a change, from %s on, there is %v", silent, still)
	}

	// One whose filter lets nothing through has come as far, which its cursor says.
	none := i.watch(t, &viewspb.WatchRequest{Filter: &viewspb.Filter{Prefix: "none"}})
	b.put("k2", aRow())
	w.expect("k2")
	if m := none.receive(); m.Change != nil || m.Cursor != w.cursor {
		t.Errorf("without a change that passes there is %v, and the cursor of the other one is %s", m, w.cursor)
	}

	// Without Kafka the moment stays where it is, and the watch goes on.
	heal := b.cut()
	defer heal()
	old := w.receive()
	for {
		m := w.receive()
		if m.Change != nil {
			t.Fatalf("a change: %v", m)
		}
		if m.Freshness.AsOf.AsTime().Equal(old.Freshness.AsOf.AsTime()) && m.Freshness.AgeMs > old.Freshness.AgeMs {
			break
		}
		old = m
	}
}

// Before it has caught up a watch says that it does not know as of when it is, and what is to come; then it tells at once.
func TestWatchFromACursorIsFreshAtItsEnd(t *testing.T) {
	t.Parallel()
	const rows = 3
	b := newBench(t, 1)
	i := b.started()
	w := i.watch(t, &viewspb.WatchRequest{})
	w.stop()
	for n := range rows {
		b.put(fmt.Sprintf("k%d", n), aRow())
	}
	b.has(i, fmt.Sprintf("k%d", rows-1))
	i.stop()
	i = b.started() // with none of it in memory
	later := i.watch(t, &viewspb.WatchRequest{Cursor: w.cursor})
	if first := later.stream.Msg().Freshness; first.AsOf != nil {
		t.Errorf("the first message is as of %v", first)
	}
	for n := range rows {
		m := later.receive()
		if m.GetEntry().GetKey() != fmt.Sprintf("k%d", n) || m.Freshness.AsOf != nil || m.Freshness.Lag != int64(rows-1-n) {
			t.Errorf("change %d is %v", n, m)
		}
	}
	if m := later.receive(); m.Change != nil || m.Freshness.AsOf == nil || m.Freshness.Lag != 0 {
		t.Errorf("at the end there is %v", m)
	}
}

// The way of a browser: it connects again by itself, with the id of the last event.
func TestWatchByServerSentEvents(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	i := b.started()
	events := func(last string) (*bufio.Scanner, func()) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, i.url+"/v1/keys:watch?prefix=a", nil)
		if err != nil {
			t.Fatal(err)
		}
		if last != "" {
			request.Header.Set("Last-Event-ID", last)
		}
		response, err := i.server.Client().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		if got := response.Header.Get("Content-Type"); got != "text/event-stream" {
			t.Errorf("content type %s", got)
		}
		return bufio.NewScanner(response.Body), func() {
			cancel()
			_ = response.Body.Close()
		}
	}
	event := func(lines *bufio.Scanner) map[string]string {
		fields := map[string]string{}
		for lines.Scan() && lines.Text() != "" {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			fields[name] = value
		}
		return fields
	}
	lines, stop := events("")
	if got := event(lines); got["event"] != "cursor" || got["id"] == "" {
		t.Errorf("the first event is %v", got)
	}
	b.put("b1", aRow())
	b.put("a1", aRow())
	got := event(lines)
	if got["event"] != "entry" {
		t.Errorf("event %v", got)
	}
	contains(t, got["data"], `"key":"a1"`, `"freshness":{"asOf":"20`)
	stop()
	b.put("a1", nil)
	b.put("a2", aRow())
	lines, stop = events(got["id"])
	defer stop()
	if got := event(lines); got["event"] != "cursor" {
		t.Errorf("the first event is %v", got)
	}
	for _, want := range []string{"removed", "entry"} {
		got := event(lines)
		for got["event"] == "cursor" { // it has caught up
			got = event(lines)
		}
		if got["event"] != want {
			t.Errorf("event %v, want %s", got, want)
		}
	}
}

// A connection that takes nothing costs a watcher at most its write time; the server answers others meanwhile.
func TestStopEndsWatches(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	i := b.started()
	w := i.watch(t, &viewspb.WatchRequest{})
	conn, err := net.Dial("tcp", strings.TrimPrefix(i.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET /v1/keys:watch HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, err := bufio.NewReader(conn).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	i.end()
	for w.stream.Receive() {
		if w.stream.Msg().Change != nil {
			t.Errorf("after the stop: %v", w.stream.Msg())
		}
	}
	if err := w.stream.Err(); connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("the watcher was told %v", err)
	}
}
