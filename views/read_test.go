package views_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/bufbuild/protocompile"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"

	"kafkagrpc/processor/rowpb"
	"kafkagrpc/views"
	"kafkagrpc/views/viewspb"
)

// echoProtos is a catalog that has the method of aRow.
func echoProtos(t testing.TB) protodesc.Resolver {
	t.Helper()
	compiler := protocompile.Compiler{Resolver: &protocompile.SourceResolver{Accessor: protocompile.SourceAccessorFromMap(map[string]string{
		"echo.proto": `syntax = "proto3"; package grpc.examples.echo;
message EchoResponse { string message = 1; int64 number = 2; }
service Echo { rpc UnaryEcho(EchoResponse) returns (EchoResponse); }`,
	})}}
	files, err := compiler.Compile(context.Background(), "echo.proto")
	if err != nil {
		t.Fatal(err)
	}
	set, err := protodesc.NewFiles(&descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{protodesc.ToFileDescriptorProto(files[0])}})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestGetTellsTheWholeStory(t *testing.T) {
	t.Parallel()
	b := newBench(t, 3)
	b.config = func(c *views.Config) { c.Protos, c.Masked = echoProtos(t), []string{"X-Secret"} }
	b.put("a", aRow(func(r *rowpb.Row) {
		r.TraceId = "0af7651916cd43dd8448eb211c80319c"
		r.Metadata = []*rowpb.Field{
			{Name: "authorization", Value: []byte("Bearer hidden")}, {Name: "x-secret", Value: []byte("hidden")}, {Name: "set-cookie", Value: []byte("hidden")},
			{Name: "x-plain", Value: []byte("shown")}, {Name: "x-bin", Value: []byte{0, 0xff}},
		}
		r.Trailers = []*rowpb.Field{{Name: "x-trailer", Value: []byte("shown too")}, {Name: "cookie", Value: []byte("hidden")}}
		r.Messages = [][]byte{{0x0a, 0x02, 'h', 'i', 0x10, 0x05}, {0xff}}
	}))
	b.put("failed", aRow(func(r *rowpb.Row) {
		r.Status, r.Message, r.Messages, r.Method = 5, "no such thing", [][]byte{{1}}, "Other"
	}))
	b.putRaw("broken", []byte{0xff})
	i := b.started()

	response, err := i.client.Get(t.Context(), connect.NewRequest(&viewspb.GetRequest{Key: "a"}))
	if err != nil {
		t.Fatal(err)
	}
	e := response.Msg.Entry
	if e.Group != group || e.State != "final" || e.Status != "OK" || e.Service != service || e.Method != "UnaryEcho" || e.Attempts != 1 ||
		e.Target != "127.0.0.1:50051" || e.Source.Topic != "echo-requests" || e.Source.Offset != 7 || e.TraceId == "" || e.MessageCount != 2 {
		t.Errorf("entry %v", e)
	}
	if age := time.Since(response.Msg.Freshness.AsOf.AsTime()); age < 0 || age > patience {
		t.Errorf("freshness %v", response.Msg.Freshness)
	}
	var shown []string
	for _, m := range append(e.Metadata, e.Trailers...) {
		shown = append(shown, fmt.Sprintf("%s=%s%x/%v", m.Name, m.Value, m.RawValue, m.Masked))
	}
	if want := []string{"authorization=***/true", "x-secret=***/true", "set-cookie=***/true", "x-plain=shown/false", "x-bin=00ff/false",
		"x-trailer=shown too/false", "cookie=***/true"}; !slices.Equal(shown, want) {
		t.Errorf("metadata\n%q, want\n%q", shown, want)
	}
	if got := e.Messages[0].Json.GetStructValue().AsMap(); got["message"] != "hi" || got["number"] != "5" {
		t.Errorf("message %v", got)
	}
	if m := e.Messages[1]; m.Json != nil || m.Undecoded == "" || string(m.Data) != "\xff" || m.Type != "grpc.examples.echo.EchoResponse" {
		t.Errorf("broken message %v", m)
	}

	var rest struct {
		Entry struct {
			Status, Message string
			Messages        []struct{ Data, Undecoded string }
		}
		Freshness struct{ AsOf string }
	}
	if status, body := i.get(t, "/v1/keys/failed", &rest); status != http.StatusOK || rest.Entry.Status != "NOT_FOUND" || rest.Entry.Message != "no such thing" ||
		rest.Entry.Messages[0].Data != "AQ==" || rest.Entry.Messages[0].Undecoded == "" || rest.Freshness.AsOf == "" {
		t.Errorf("status %d: %s", status, body)
	}
	_, body := i.get(t, "/v1/keys/a", nil)
	if strings.Contains(body, "hidden") {
		t.Errorf("a credential is shown: %s", body)
	}
	_, body = i.get(t, "/v1/keys/broken", nil)
	contains(t, body, `"unreadable":`, "proto")
}

func TestGetSaysWhyThereIsNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t, 3)
	const md5 = "479f2c3fb58bc3f04bbe15440a657670"
	b.put("old", aRow(func(r *rowpb.Row) { r.ExpiresMs = time.Now().Add(-time.Minute).UnixMilli() }))
	b.put("removed", aRow())
	b.put("removed", nil)
	b.put("order-"+md5, aRow())
	for _, key := range []string{"many-a", "many-b", "many-c", "many-\x1b", "many-" + strings.Repeat("x", 300)} {
		b.put(key, aRow())
	}
	i := b.started()
	tests := []struct{ name, key, want string }{
		{"never seen", "never", "never seen"},
		{"expired", "old", "expired at 20"},
		{"removed", "removed", "expired and was removed"},
		{"scoped", "order", `did you mean "order-` + md5 + `"?`},
		{"cut, as a list is", "order-47", `did you mean "order-` + md5 + `"?`},
		{"of several", "many", `did you mean "many-\x1b" or "many-a" or "many-b"?`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var body struct{ Code, Message string }
			if status, _ := i.get(t, "/v1/keys/"+test.key, &body); status != http.StatusNotFound || body.Code != "not_found" {
				t.Errorf("status %d: %v", status, body)
			}
			contains(t, body.Message, test.want)
			_, err := i.client.Get(t.Context(), connect.NewRequest(&viewspb.GetRequest{Key: test.key, Group: group}))
			if connect.CodeOf(err) != connect.CodeNotFound {
				t.Errorf("gRPC: %v", err)
			}
		})
	}
}

func TestKeysOfAnyBytes(t *testing.T) {
	t.Parallel()
	b := newBench(t, 3)
	keys := []string{"__offset", "a b", "a/b", "käse", "\xff\x00raw", "q?x=1&y", "a//b", "a/../b", "/a/", "a%2Fb"}
	for _, key := range keys {
		b.put(key, aRow())
	}
	i := b.started()
	for _, key := range keys {
		var body struct {
			Entry struct {
				Key    string
				RawKey []byte
			}
		}
		status, text := i.get(t, "/v1/keys/"+url.PathEscape(key), &body)
		if status != http.StatusOK || body.Entry.Key != key && string(body.Entry.RawKey) != key {
			t.Errorf("%q: status %d: %s", key, status, text)
		}
	}
	if got := len(i.keys(t, "")); got != len(keys) {
		t.Errorf("%d keys are listed, want %d", got, len(keys))
	}
}

func TestListFilters(t *testing.T) {
	t.Parallel()
	b := newBench(t, 3)
	now := time.Now().Truncate(time.Second)
	b.put("a1", aRow(func(r *rowpb.Row) { r.FinishedMs = now.Add(-2 * time.Hour).UnixMilli() }))
	b.put("a2", aRow(func(r *rowpb.Row) { r.Status = 5 }))
	b.put("a3", aRow(func(r *rowpb.Row) { r.State, r.Status = rowpb.State_STATE_RETRYABLE, 14 }))
	b.put("b1", aRow(func(r *rowpb.Row) { r.Method = "Other" }))
	b.put("b2", aRow(func(r *rowpb.Row) { r.Service = "x.Y" }))
	b.put("b3", aRow(func(r *rowpb.Row) {
		r.State, r.FinishedMs, r.StartedMs = rowpb.State_STATE_OPEN, 0, now.Add(-time.Minute).UnixMilli()
	}))
	b.put("b4", aRow(func(r *rowpb.Row) { r.ExpiresMs = now.Add(-time.Minute).UnixMilli() }))
	b.putRaw("b5", []byte{0xff})
	i := b.started()
	at := func(ago time.Duration) string { return url.QueryEscape(now.Add(-ago).Format(time.RFC3339)) }
	tests := []struct{ query, want string }{
		{"", "a1 a2 a3 b1 b2 b3 b5"},
		{"limit=2", "a1 a2 a3 b1 b2 b3 b5"},
		{"group=" + group, "a1 a2 a3 b1 b2 b3 b5"},
		{"prefix=a", "a1 a2 a3"},
		{"prefix=b&limit=1", "b1 b2 b3 b5"},
		{"prefix=zz", ""},
		{"status=not_found", "a2"},
		{"status=OK", "a1 b1 b2 b3"},
		{"state=retryable", "a3"},
		{"state=open", "b3"},
		{"method=Other", "b1"},
		{"service=x.Y", "b2"},
		{"service=x.Y&method=Other", ""},
		{"until=" + at(time.Hour), "a1"},
		{"since=" + at(time.Hour) + "&until=" + at(30*time.Second), "b3"},
		{"since=" + at(3*time.Hour) + "&until=" + at(time.Hour), "a1"},
	}
	for _, test := range tests {
		t.Run(test.query, func(t *testing.T) {
			if got := strings.Join(i.keys(t, test.query), " "); got != test.want {
				t.Errorf("keys %q, want %q", got, test.want)
			}
		})
	}
}

// A cursor holds no state of a process: another instance, after a restart and with other local stores, goes on from it.
func TestCursorSurvivesARestart(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4)
	var want []string
	for n := range 100 {
		key := fmt.Sprintf("key-%03d", n)
		want = append(want, key)
		b.put(key, aRow())
	}
	i := b.started()
	var got []string
	cursor := ""
	for page := 0; ; page++ {
		response, err := i.client.List(t.Context(), connect.NewRequest(&viewspb.ListRequest{Limit: 7, Cursor: cursor}))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range response.Msg.Entries {
			got = append(got, e.Key)
		}
		if cursor = response.Msg.NextCursor; cursor == "" {
			break
		}
		switch page {
		case 3:
			i.stop()
			i = b.start(i.dir)
			b.ready(i)
		case 6:
			i = b.started()
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("pages have\n%q, want\n%q", got, want)
	}
}

// With an order of calls each partition may have a row of one key. No page ends between them.
func TestRowsOfOneKeyAreOnOnePage(t *testing.T) {
	t.Parallel()
	const partitions = 4
	b := newBench(t, partitions)
	b.config = func(c *views.Config) { c.Ordered = true }
	value, err := proto.Marshal(aRow())
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for n := range 10 {
		for p := range int32(partitions) {
			if key := fmt.Sprint("key-", n); n%2 == 0 || p == 1 {
				want = append(want, key)
				b.produce(&kgo.Record{Topic: topic, Partition: p, Key: []byte(key), Value: value})
			}
		}
	}
	i := b.started()
	for _, limit := range []int{1, 2, 3, 4, 5, 24, 25, 100} {
		if got := i.keys(t, fmt.Sprint("limit=", limit)); !slices.Equal(got, want) {
			t.Errorf("pages of %d have\n%q, want\n%q", limit, got, want)
		}
	}
}

// One page costs no more than so many rows or bytes, also where nothing passes; the cursor has the rest.
func TestPageThatFindsNothing(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name          string
		rows, message int
		most          int // rows of a page, which may be fewer as its time is bounded, too
	}{
		{"rows", 100_001, 0, 100_000},
		{"bytes", 72, 1_000_000, 68},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 1)
			value, err := proto.Marshal(aRow(func(r *rowpb.Row) { r.Message = strings.Repeat("x", test.message) }))
			if err != nil {
				t.Fatal(err)
			}
			var records []*kgo.Record
			for n := range test.rows {
				records = append(records, &kgo.Record{Topic: topic, Key: fmt.Appendf(nil, "k%06d", n), Value: value})
			}
			b.produce(records...)
			i := b.started()
			read, cursor := 0, ""
			for first := true; first || cursor != ""; first = false {
				var page struct {
					Entries    []struct{ Key string }
					NextCursor string
					Scanned    int `json:",string"`
				}
				if status, body := i.get(t, "/v1/keys?status=NOT_FOUND&cursor="+cursor, &page); status != http.StatusOK || len(page.Entries) != 0 {
					t.Fatalf("status %d: %s", status, body)
				}
				if page.Scanned > test.most {
					t.Errorf("a page has read %d rows, want %d at most", page.Scanned, test.most)
				}
				read, cursor = read+page.Scanned, page.NextCursor
			}
			if read != test.rows {
				t.Errorf("%d of %d rows were read", read, test.rows)
			}
		})
	}
}

func TestBadInputIsNamed(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.put("a", aRow())
	b.put("b", aRow())
	i := b.started()
	first, err := i.client.List(t.Context(), connect.NewRequest(&viewspb.ListRequest{Limit: 1}))
	if err != nil {
		t.Fatal(err)
	}
	cursor := first.Msg.NextCursor
	tests := []struct{ path, want string }{
		{"/v1/keys?colour=red", "colour: no such parameter: there are cursor, group, limit, method, prefix, service, since, state, status, until"},
		{"/v1/keys?status=FINE", "status: it takes the name of a gRPC status: OK, CANCELLED"},
		{"/v1/keys?status=", ""},
		{"/v1/keys?state=done", "state: it takes open, final, retryable or waiting"},
		{"/v1/keys?since=yesterday", "since: it takes a time in RFC 3339"},
		{"/v1/keys?since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z", "until: it must be after since"},
		{"/v1/keys?limit=1000000", "limit: it takes a number from 1 to 1000"},
		{"/v1/keys?limit=-1", "limit: it takes a number from 1 to 1000"},
		{"/v1/keys?limit=ten", "limit: it takes a number"},
		{"/v1/keys?limit=1&limit=2", "limit: it is given more than once"},
		{"/v1/keys?cursor=%21%21", "cursor: it is none of this API"},
		{"/v1/keys?cursor=bGw", "cursor: it is none of this API"},
		{"/v1/keys?cursor=" + cursor, ""},
		{"/v1/keys?prefix=a&cursor=" + cursor, "cursor: it is of a query with another group or filter"},
		{"/v1/keys?group=other", "group: it takes one of " + group},
		{"/v1/keys?prefix=%ff", "prefix: it is not UTF-8"},
		{"/v1/keys?prefix=%zz", "query: "},
		{"/v1/keys/a?limit=1", "limit: no such parameter: there are group"},
		{"/v1/keys:watch?recent=1001", "recent: it takes a number from 0 to 1000"},
		{"/v1/keys:watch?cursor=" + cursor, "cursor: it is none of this API"},
		{"/v1/keys:watch?cursor=dwAAAAAFAA", "cursor: it is none of this API"},
		{"/v1/keys:watch?limit=1", "limit: no such parameter"},
		{"/v1/stats?x=1", "x: no such parameter: there are none"},
	}
	for _, test := range tests {
		t.Run(test.path, func(t *testing.T) {
			var body struct{ Code, Message string }
			status, text := i.get(t, test.path, &body)
			if test.want == "" {
				if status != http.StatusOK {
					t.Errorf("status %d: %s", status, text)
				}
				return
			}
			if status != http.StatusBadRequest || body.Code != "invalid_argument" {
				t.Errorf("status %d: %s", status, text)
			}
			contains(t, body.Message, test.want)
		})
	}
	calls := []struct {
		name string
		key  string
		want connect.Code
	}{
		{"no key", "", connect.CodeInvalidArgument},
		{"100 KB key", strings.Repeat("x", 100<<10), connect.CodeInvalidArgument},
		{"1 MB key", strings.Repeat("x", 1<<20), connect.CodeResourceExhausted},
	}
	for _, test := range calls {
		t.Run(test.name, func(t *testing.T) {
			_, err := i.client.Get(t.Context(), connect.NewRequest(&viewspb.GetRequest{Key: test.key}))
			if connect.CodeOf(err) != test.want {
				t.Errorf("%v", err)
			}
		})
	}
	_, err = i.client.List(t.Context(), connect.NewRequest(&viewspb.ListRequest{Limit: 1_000_000}))
	var coded *connect.Error
	if !errors.As(err, &coded) || coded.Code() != connect.CodeInvalidArgument {
		t.Errorf("a million rows: %v", err)
	}
	if keys := i.keys(t, ""); len(keys) != 2 {
		t.Errorf("afterwards there are %q", keys)
	}
}

// A key that waits tells until when, and behind what, and nothing of its requests.
func TestKeyThatWaits(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	next, until := time.Now().Add(time.Minute).Truncate(time.Millisecond), time.Now().Add(time.Hour).Truncate(time.Millisecond)
	b.put("a", aRow(func(r *rowpb.Row) {
		r.State, r.Status, r.Message, r.Messages, r.ExpiresMs, r.FinishedMs = rowpb.State_STATE_WAITING, 14, "down", nil, 0, 0
		r.Waiting = &rowpb.Waiting{
			Requests: []*rowpb.Request{{Value: []byte("the secret")}, {}}, NextMs: next.UnixMilli(), UntilMs: until.UnixMilli(),
			InLine: true, IsBehind: true, Behind: []byte("b"),
		}
	}))
	b.put("b", aRow())
	i := b.started()
	var got struct {
		Entry struct {
			State, Status, Behind string
			NextTry, RetriedUntil time.Time
			Waiting               int
		}
	}
	_, body := i.get(t, "/v1/keys/a", &got)
	if e := got.Entry; e.State != "waiting" || e.Status != "UNAVAILABLE" || e.Behind != "b" || !e.NextTry.Equal(next) || !e.RetriedUntil.Equal(until) || e.Waiting != 2 {
		t.Errorf("%s", body)
	}
	if strings.Contains(body, "secret") {
		t.Errorf("the request is shown: %s", body)
	}
	if keys := i.keys(t, "state=waiting"); !slices.Equal(keys, []string{"a"}) {
		t.Errorf("the keys that wait are %q", keys)
	}
}
