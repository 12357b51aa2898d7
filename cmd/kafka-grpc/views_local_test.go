package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"kafkagrpc/processor/rowpb"
	"kafkagrpc/views/viewspb"
)

// Each of two instances answers for all keys, of which it has but a part; and for all of them alone when the other one is gone.
func TestLocalViewsAskTheInstanceThatWorksOnTheKey(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"local", "all"} { // of the other one
		for _, order := range []string{"none", "key"} { // with one, keys may be in any partition
			t.Run(mode+", order "+order, func(t *testing.T) {
				t.Parallel()
				askEachOther(t, mode, order)
			})
		}
	}
}

func askEachOther(t *testing.T, mode, order string) {
	b := newLettersBench(t)
	text, err := os.ReadFile(b.file)
	if err != nil {
		t.Fatal(err)
	}
	options := []byte("    entry: north_kafka_cache_client\n    options:\n")
	if !bytes.Contains(text, options) {
		t.Fatalf("no %q in\n%s", options, text)
	}
	if err := os.WriteFile(b.file, bytes.Replace(text, options, append(options, "      processing: {order: "+order+"}\n"...), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(secret, []byte("a-token-of-more-than-16-bytes"), 0o600); err != nil {
		t.Fatal(err)
	}
	token := []string{"--admin-token-file", secret}
	folders := map[string]string{"127.0.0.1": t.TempDir(), "127.0.0.2": t.TempDir()}
	run := func(listen string, mode ...string) (string, func()) {
		return b.running(append(append([]string{"run", "--listen", listen, "--state-dir", folders[listen]}, token...), mode...)...)
	}
	one, stopOne := run("127.0.0.1")
	other, stopOther := run("127.0.0.2", "--views", mode) // as two cannot listen on the same ports
	defer stopOther()
	var keys []string
	for n := range 8 {
		key := fmt.Sprintf("key-%d", n)
		keys = append(keys, key)
		record := call(key)
		record.Key = fmt.Appendf(nil, "record %d", n)
		b.produce(record)
	}
	for _, at := range []string{one, other} {
		for _, key := range keys {
			b.await(at, "status         OK (0)", append([]string{"get", key}, token...)...)
		}
		_, notes := b.keys(at, 1, append([]string{"get", "never"}, token...)...)
		b.expect(notes, "never seen")
		b.await(at, keys[7], append([]string{"list"}, token...)...) // a copy may lag
		out, notes := b.keys(at, 0, append([]string{"list"}, token...)...)
		b.expect(out, keys...)
		b.expect(notes, "8 keys, as of")
		_, notes = b.keys(at, 0, append([]string{"list", "--limit", "3"}, token...)...)
		b.expect(notes, "3 keys")
	}
	stopOne()
	for _, key := range keys {
		b.await(other, "status         OK (0)", append([]string{"get", key}, token...)...)
	}
	out, notes := b.keys(other, 0, append([]string{"list"}, token...)...)
	b.expect(out, keys...)
	b.expect(notes, "8 keys, as of")
	for listen, folder := range folders {
		tables, err := filepath.Glob(filepath.Join(folder, "*", "*-table.*"))
		if err != nil || len(tables) == 0 || len(tables) > 2 {
			t.Errorf("the stores are %q, %v", tables, err)
		}
		_, err = os.Stat(filepath.Join(folder, "views"))
		if has := err == nil; has != (mode == "all" && listen == "127.0.0.2") || err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("of the copy for views: %v", err)
		}
	}
}

// An instance that cannot be asked is named, and nothing that lacks its keys is shown.
func TestLocalViewsNameTheInstanceThatCannotBeAsked(t *testing.T) {
	t.Parallel()
	b := newLettersBench(t)
	at, stop := b.running("run", "--listen", "127.0.0.1", "--state-dir", t.TempDir())
	defer stop()
	ctx, cancel := context.WithCancel(t.Context())
	stderr, code := newOutput(), make(chan int, 1)
	go func() {
		code <- execute(ctx, []string{"run", "-c", b.file, "--brokers", b.brokers, "--listen", "127.0.0.2", "--state-dir", t.TempDir(),
			"--instance-id", "the-mute-one", "--admin-addr", "off"}, newOutput(), stderr, b.env)
	}()
	defer func() {
		cancel()
		<-code
	}()
	stderr.await(t, "ready grpc://")
	b.produce(call("a"), call("b"), call("c"), call("d"))
	for _, path := range []string{"/v1/keys", "/v1/stats"} {
		deadline := time.Now().Add(patience)
		for {
			body := fetch(t, "http://"+at+path)
			if strings.Contains(body, "instance the-mute-one on host 127.0.0.1") {
				b.expect(body, "works on partition ", "--advertise-addr", "--views=all", "kafka-grpc views")
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: %s", path, body)
			}
		}
	}
	named := 0
	for _, key := range []string{"a", "b", "c", "d"} {
		body := fetch(t, "http://"+at+"/v1/keys/"+key)
		if strings.Contains(body, "the-mute-one") {
			named++
		} else {
			b.await(at, "status         OK (0)", "get", key)
		}
	}
	if named == 0 || named == 4 {
		t.Errorf("%d of 4 keys are said to be at the other instance", named)
	}
	cancel()
	<-code
	code <- 0                                         // for the other wait
	b.await(at, "echo.Echo", "list", "--prefix", "d") // once the partitions are here
}

// fetch is what a path answers, whatever the status.
func fetch(t *testing.T, url string) string {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestAdvertisedAddressIsOne(t *testing.T) {
	t.Parallel()
	seed := seedFile(t)
	for _, address := range []string{"nowhere", "10.0.0.7:0", ":7190"} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		var stdout, stderr bytes.Buffer
		args := []string{"run", "-c", seed, "--brokers", "127.0.0.1:1", "--state-dir", t.TempDir(), "--advertise-addr", address}
		if code := execute(ctx, args, &stdout, &stderr, environment()); code != 2 || !strings.Contains(stderr.String(), "--advertise-addr") {
			t.Errorf("%q: exit code %d: %s", address, code, &stderr)
		}
		cancel()
	}
}

// Pages that follow one another have each row once that was there throughout, and a watch each change, while calls are made and
// partitions go from instance to instance.
func TestLocalViewsThroughRebalances(t *testing.T) {
	t.Parallel()
	const rows, calls, passes = 10_000, 200, 2
	b := newLettersBench(t)
	b.run(b.file)() // makes the topics
	var seeds []*kgo.Record
	for n := range rows {
		row, err := proto.Marshal(&rowpb.Row{Version: 1, State: rowpb.State_STATE_FINAL, ExpiresMs: time.Now().Add(time.Hour).UnixMilli()})
		if err != nil {
			t.Fatal(err)
		}
		seeds = append(seeds, &kgo.Record{Topic: "example-west_kafka_grpc_remote_server-table", Key: fmt.Appendf(nil, "seed-%05d", n), Value: row})
	}
	b.produce(seeds...)
	stays, stop := b.running("run", "--listen", "127.0.0.1", "--state-dir", b.state)
	defer stop()
	folder := t.TempDir()
	comes := func() (string, func()) { return b.running("run", "--listen", "127.0.0.2", "--state-dir", folder) }
	address, leave := comes()

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	seen, watched := make(map[string]int), make(chan struct{})
	begun := make(chan struct{})
	go func() { // first at the one that leaves
		defer close(watched)
		cursor := ""
		for at := address; len(seen) < calls && ctx.Err() == nil; at = stays {
			client := viewspb.NewViewsClient(http.DefaultClient, "http://"+at)
			stream, err := client.Watch(ctx, connect.NewRequest(&viewspb.WatchRequest{Filter: &viewspb.Filter{Prefix: "call-"}, Cursor: cursor}))
			if err != nil {
				continue
			}
			for len(seen) < calls && stream.Receive() {
				if cursor == "" {
					close(begun)
				}
				cursor = stream.Msg().Cursor
				if e := stream.Msg().GetEntry(); e != nil {
					seen[e.Key]++
				}
			}
			if err := stream.Err(); err != nil {
				t.Logf("the watch at %s goes on: %v", at, err)
			}
			_ = stream.Close()
		}
	}()
	select {
	case <-begun:
	case <-ctx.Done():
		t.Fatal("the watch does not begin")
	}
	var work sync.WaitGroup
	defer work.Wait()
	work.Go(func() {
		for n := range calls {
			if err := b.client.ProduceSync(ctx, call(fmt.Sprintf("call-%d", n))).FirstErr(); err != nil {
				t.Error(err)
				return
			}
		}
	})
	client := viewspb.NewViewsClient(http.DefaultClient, "http://"+stays)
	refused, again := 0, time.NewTicker(20*time.Millisecond)
	defer again.Stop()
	for pass := range passes {
		got, cursor := make(map[string]int), ""
		for page := 0; ; page++ {
			if page == 3 { // in the middle
				if pass%2 == 0 {
					leave()
				} else {
					_, leave = comes()
				}
			}
			response, err := client.List(ctx, connect.NewRequest(&viewspb.ListRequest{Limit: 1000, Cursor: cursor}))
			if connect.CodeOf(err) == connect.CodeUnavailable && ctx.Err() == nil {
				page, refused = max(page, 3), refused+1
				<-again.C
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range response.Msg.Entries {
				got[e.Key]++
			}
			if cursor = response.Msg.NextCursor; cursor == "" {
				break
			}
		}
		once := 0
		for key, n := range got {
			if n != 1 {
				t.Errorf("pass %d: %s comes %d times", pass, key, n)
			}
			if strings.HasPrefix(key, "seed-") {
				once++
			}
		}
		if once != rows {
			t.Errorf("pass %d has %d of %d rows", pass, once, rows)
		}
	}
	leave()
	<-watched
	if len(seen) != calls {
		t.Errorf("the watch has %d of %d keys", len(seen), calls)
	}
	t.Logf("%d pages were refused and asked for again", refused)
}
