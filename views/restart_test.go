package views_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"kafkagrpc/views"
	"kafkagrpc/views/viewspb"
)

// position is how far the view has read the topic, over all partitions.
func position(t *testing.T, i *instance) (read int64) {
	t.Helper()
	response, err := i.client.Stats(t.Context(), connect.NewRequest(&viewspb.StatsRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range response.Msg.Tables[0].Partitions {
		read += p.Position
	}
	return read
}

func TestRestartGoesOnFromTheLocalStore(t *testing.T) {
	t.Parallel()
	b := newBench(t, 3)
	for n := range 50 {
		b.put(fmt.Sprintf("k%02d", n), aRow())
	}
	i := b.started()
	i.stop()
	b.put("k10", nil)
	b.put("later", aRow())
	i = b.start(i.dir)
	b.ready(i)
	if n := position(t, i); n != 52 {
		t.Errorf("position %d, want 52", n)
	}
	response, err := i.client.Stats(t.Context(), connect.NewRequest(&viewspb.StatsRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	if n := response.Msg.Tables[0].Changes; n != 2 {
		t.Errorf("%d changes were read, want the 2 that are new", n)
	}
	keys := i.keys(t, "")
	if len(keys) != 50 || slices.Contains(keys, "k10") || !slices.Contains(keys, "later") {
		t.Errorf("keys %q", keys)
	}
}

func TestCorruptStoreIsRecovered(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.put("a", aRow())
	i := b.started()
	i.stop()
	store := filepath.Join(i.dir, group, topic+".0")
	damaged := 0
	files, err := os.ReadDir(store)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if strings.HasPrefix(f.Name(), "MANIFEST") {
			damaged++
			if err := os.WriteFile(filepath.Join(store, f.Name()), []byte("this is no manifest"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if damaged == 0 {
		t.Fatal("no manifest was found")
	}
	i = b.start(i.dir)
	b.ready(i)
	if keys := i.keys(t, ""); !slices.Equal(keys, []string{"a"}) {
		t.Errorf("keys %q", keys)
	}
	if left, err := os.ReadDir(filepath.Dir(store)); err != nil || len(left) != 1 {
		t.Errorf("beside the store there is %v, %v", left, err)
	}
}

// A topic that was made anew takes with it what the view knew; watchers are told.
func TestTableThatIsMadeAnew(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	for n := range 5 {
		b.put(fmt.Sprintf("old%d", n), aRow())
	}
	i := b.started()
	w := i.watch(t, &viewspb.WatchRequest{})
	if _, err := b.admin.DeleteTopics(context.Background(), topic); err != nil {
		t.Fatal(err)
	}
	b.createTable()
	b.put("new", aRow())
	b.has(i, "new")
	if keys := i.keys(t, ""); !slices.Equal(keys, []string{"new"}) {
		t.Errorf("keys %q", keys)
	}
	for w.stream.Receive() {
	}
	if err := w.stream.Err(); connect.CodeOf(err) != connect.CodeAborted {
		t.Errorf("the watcher was told %v", err)
	}
	_, err := drain(i.client.Watch(t.Context(), connect.NewRequest(&viewspb.WatchRequest{Cursor: w.cursor})))
	if connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("a cursor of the deleted topic: %v", err)
	}
}

// drain reads a stream to its end.
func drain(stream *connect.ServerStreamForClient[viewspb.WatchResponse], err error) (n int, _ error) {
	if err != nil {
		return 0, err
	}
	defer stream.Close()
	for stream.Receive() {
		n++
	}
	return n, stream.Err()
}

// Without Kafka answers grow old, which they say, and past a limit there are none. It comes back by itself.
func TestOutageMakesAnswersOldAndThenEndsThem(t *testing.T) {
	t.Parallel()
	b := newBench(t, 2)
	b.config = func(c *views.Config) { c.MaxAge = 4 * time.Second }
	b.put("a", aRow())
	i := b.started()
	heal := b.cut()
	aged := int64(0)
	var body struct {
		Code, Message string
		Freshness     struct {
			AgeMs int64 `json:",string"`
		}
	}
	b.eventually("there are no answers", func() bool {
		body.Code = ""
		status, _ := i.get(t, "/v1/keys/a", &body)
		aged = max(aged, body.Freshness.AgeMs)
		return status == http.StatusServiceUnavailable && body.Code == "unavailable"
	})
	contains(t, body.Message, "has not caught up", "is Kafka reachable?")
	if aged < 1500 {
		t.Errorf("the oldest answer said that it was %d ms old", aged)
	}
	heal()
	b.put("b", aRow())
	b.has(i, "b")
}

// Before the topic exists there is a reason, and when it does, an answer.
func TestTopicThatIsMissing(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	if _, err := b.admin.DeleteTopics(context.Background(), topic); err != nil {
		t.Fatal(err)
	}
	i := b.start(t.TempDir())
	b.eventually("the reason names the topic", func() bool {
		status, body := i.get(t, "/v1/keys/a", nil)
		return status == http.StatusServiceUnavailable && strings.Contains(body, topic) && strings.Contains(body, "does not exist")
	})
	b.createTable()
	b.ready(i)
	b.put("a", aRow())
	b.has(i, "a")
}
