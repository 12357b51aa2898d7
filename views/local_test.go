package views_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"google.golang.org/protobuf/proto"

	"kafkagrpc/internal/kafka"
	"kafkagrpc/internal/tablestore"
	"kafkagrpc/processor/rowpb"
	"kafkagrpc/views"
	"kafkagrpc/views/viewspb"
	"kafkagrpc/wire"
)

// noRows are those of an instance that works on nothing.
type noRows struct{}

func (noRows) Owned() ([]int32, int32)                       { return nil, 1 }
func (noRows) Stores([]int32) ([]*tablestore.Store, error)   { return nil, errors.ErrUnsupported }
func (noRows) RetryNow(context.Context, string, int32) error { return errors.ErrUnsupported }
func (noRows) GiveUp(context.Context, string, int32) error   { return errors.ErrUnsupported }

// The broker that knows the members of a group may become another one.
func TestOwnersAreAskedOfTheCoordinatorOfNow(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	local := views.NewLocal(views.LocalConfig{
		Group: group, Topic: topic, Input: topic, Cluster: kafka.Cluster{Brokers: b.kafka.Brokers(), ClientID: "test"}, Rows: noRows{},
		Peers: http.DefaultTransport,
	})
	t.Cleanup(func() {
		if err := local.Close(); err != nil {
			t.Error(err)
		}
	})
	server := httptest.NewServer(views.Handler(local))
	t.Cleanup(server.Close)
	reason := func() string {
		response, err := server.Client().Get(server.URL + "/v1/keys/a")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusServiceUnavailable {
			t.Fatalf("%s, %v: %s", response.Status, err, text)
		}
		return string(text)
	}
	const known = "no instance works on partition 0"
	b.eventually("the owners are known", func() bool { return strings.Contains(reason(), known) })
	for range 3 {
		var found atomic.Bool
		b.kafka.Cluster().ControlKey(int16(kmsg.FindCoordinator), func(kmsg.Request) (kmsg.Response, error, bool) {
			found.Store(true)
			return nil, nil, false
		})
		b.kafka.Cluster().ControlKey(int16(kmsg.DescribeGroups), func(request kmsg.Request) (kmsg.Response, error, bool) {
			if found.Load() {
				return nil, nil, false
			}
			b.kafka.Cluster().KeepControl()
			response := request.ResponseKind().(*kmsg.DescribeGroupsResponse)
			g := kmsg.NewDescribeGroupsResponseGroup()
			g.Group, g.ErrorCode = group, kerr.NotCoordinator.Code
			response.Groups = append(response.Groups, g)
			return response, nil, true
		})
		b.eventually("another coordinator is found, and asked", func() bool { return strings.Contains(reason(), known) && found.Load() })
	}
}

// local is an instance without a copy, that works on nothing, behind a server.
func (b *bench) local() *instance {
	b.t.Helper()
	local := views.NewLocal(views.LocalConfig{
		Group: group, Topic: topic, Input: topic, Cluster: kafka.Cluster{Brokers: b.kafka.Brokers(), ClientID: "test"}, Rows: noRows{},
		Peers: http.DefaultTransport, Log: slog.New(slog.NewTextHandler(b.t.Output(), nil)),
	})
	server := httptest.NewServer(views.Handler(local))
	end := sync.OnceFunc(func() {
		if err := local.Close(); err != nil {
			b.t.Error(err)
		}
	})
	b.t.Cleanup(func() {
		end()
		server.CloseClientConnections()
		server.Close()
	})
	return &instance{url: server.URL, server: server, client: viewspb.NewViewsClient(server.Client(), server.URL), end: end}
}

// A watch needs no copy: it has the same changes, and its cursors are good where there is one, and the other way round.
func TestWatchWithoutACopy(t *testing.T) {
	t.Parallel()
	const rows = 2500 // of which those who want the last ones read less
	b := newBench(t, 2)
	whole := b.started()
	before := whole.watch(t, &viewspb.WatchRequest{})
	var records []*kgo.Record
	want := map[string]int{}
	add := func(key string, finished int64) *kgo.Record {
		value, err := proto.Marshal(aRow(func(r *rowpb.Row) { r.FinishedMs = finished }))
		if err != nil {
			t.Fatal(err)
		}
		want[key]++
		return &kgo.Record{Topic: topic, Partition: wire.Partition([]byte(key), 2), Key: []byte(key), Value: value}
	}
	for n := range rows {
		records = append(records, add(fmt.Sprintf("key-%d", n), time.Now().UnixMilli()+int64(n)))
	}
	b.produce(records...)
	local := b.local()
	now := local.watch(t, &viewspb.WatchRequest{Recent: 3})
	now.expect("key-2497", "key-2498", "key-2499")
	b.produce(add("late", time.Now().UnixMilli()))
	now.expect("late")
	if status, body := local.get(t, "/v1/stats", nil); status != http.StatusOK || !strings.Contains(strings.ReplaceAll(body, " ", ""), `"watchers":1,`) {
		t.Errorf("stats: %d, %s", status, body)
	}

	again := local.watch(t, &viewspb.WatchRequest{Cursor: before.cursor})
	got := map[string]int{}
	for range rows + 1 {
		got[again.next()]++
	}
	if !maps.Equal(got, want) {
		t.Errorf("from the cursor of a copy there are %d of %d changes, or some of them twice", len(got), len(want))
	}
	b.produce(add("later", time.Now().UnixMilli()))
	whole.watch(t, &viewspb.WatchRequest{Cursor: again.cursor}).expect("later")
	again.expect("later")
	again.stop()
	now.expect("later")

	local.end()
	for now.stream.Receive() {
	}
	if err := now.stream.Err(); connect.CodeOf(err) != connect.CodeUnavailable || !strings.Contains(err.Error(), "being stopped") {
		t.Errorf("the watch has ended by %v", err)
	}
	if _, body := local.get(t, "/v1/keys:watch", nil); !strings.Contains(body, "being stopped") {
		t.Errorf("another one begins: %s", body)
	}
}

// What is wrong with a question is told before anything is read for it.
func TestWrongQuestionsWithoutACopy(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	local := b.local()
	for path, says := range map[string]string{
		"/v1/keys:watch?state=odd": "state: it takes open, final, retryable or waiting", "/v1/keys:watch?recent=2&cursor=abc": "cursor: it is none of this API",
		"/v1/keys?limit=1001": "limit: it takes a number from 1 to 1000", "/v1/keys?cursor=abc": "cursor: it is none of this API",
	} {
		if status, body := local.get(t, path, nil); status != http.StatusBadRequest || !strings.Contains(body, says) {
			t.Errorf("%s: %d, %s", path, status, body)
		}
	}
	for _, partitions := range []string{"x", "-1", "0,0", "0,", "99999999999"} {
		request := connect.NewRequest(&viewspb.ListRequest{})
		request.Header().Set("Kafka-Grpc-Forwarded", partitions)
		if _, err := local.client.List(t.Context(), request); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("asked for partitions %q: %v", partitions, err)
		}
	}
}
