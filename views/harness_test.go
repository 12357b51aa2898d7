package views_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"kafkagrpc/internal/embedded"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/processor/rowpb"
	"kafkagrpc/views"
	"kafkagrpc/views/viewspb"
	"kafkagrpc/wire"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// One for the whole process, started by sarama's metrics and never stopped.
		goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"),
		// Ends by itself within a second after its store is closed; Close does not wait for it.
		goleak.IgnoreTopFunction("github.com/syndtr/goleveldb/leveldb.(*DB).mpoolDrain"),
	)
}

const (
	group    = "test-remote"
	topic    = "test-remote-table"
	service  = "grpc.examples.echo.Echo"
	patience = time.Minute
)

// bench is an embedded Kafka with a table's topic, and whatever a test starts on them.
type bench struct {
	t          testing.TB
	kafka      *embedded.Kafka
	client     *kgo.Client
	admin      *kadm.Client
	partitions int32
	config     func(*views.Config)
}

func newBench(t testing.TB, partitions int32) *bench {
	t.Helper()
	broker, err := embedded.StartKafka(embedded.KafkaOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	b := &bench{t: t, kafka: broker, partitions: partitions}
	b.client, err = kgo.NewClient(kgo.SeedBrokers(broker.Brokers()...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(0), kgo.ProducerBatchMaxBytes(1_048_588), kgo.MetadataMinAge(10*time.Millisecond), kgo.MetadataMaxAge(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.client.Close)
	b.admin = kadm.NewClient(b.client)
	b.createTable()
	return b
}

func (b *bench) createTable() {
	b.t.Helper()
	b.client.PurgeTopicsFromClient(topic) // it may know another one of that name
	compact := "compact"
	b.eventually("the table's topic is created", func() bool {
		created, err := b.admin.CreateTopic(context.Background(), b.partitions, 1, map[string]*string{"cleanup.policy": &compact}, topic)
		return err == nil && created.Err == nil
	})
}

// put writes rows, a nil row as the removal of its key.
func (b *bench) put(key string, row *rowpb.Row) {
	b.t.Helper()
	var value []byte
	if row != nil {
		var err error
		if value, err = proto.Marshal(row); err != nil {
			b.t.Fatal(err)
		}
	}
	b.putRaw(key, value)
}

func (b *bench) putRaw(key string, value []byte) {
	b.t.Helper()
	b.produce(&kgo.Record{Topic: topic, Partition: wire.Partition([]byte(key), b.partitions), Key: []byte(key), Value: value})
}

func (b *bench) produce(records ...*kgo.Record) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := b.client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		b.t.Fatal(err)
	}
}

// aRow is a final, successful result that a test changes to its needs.
func aRow(change ...func(*rowpb.Row)) *rowpb.Row {
	now := time.Now()
	row := &rowpb.Row{
		Version: 1, State: rowpb.State_STATE_FINAL, Service: service, Method: "UnaryEcho", CorrelationId: "c",
		Messages: [][]byte{{0x0a, 0x02, 'h', 'i'}}, Attempts: 1, Target: "127.0.0.1:50051",
		Source:    &rowpb.Source{Topic: "echo-requests", Partition: 1, Offset: 7, TimestampMs: now.Add(-time.Second).UnixMilli()},
		StartedMs: now.Add(-time.Second).UnixMilli(), FinishedMs: now.UnixMilli(), ExpiresMs: now.Add(time.Hour).UnixMilli(),
	}
	for _, f := range change {
		f(row)
	}
	return row
}

// clientHeader is the address that a request is to come from.
const clientHeader = "Test-Client"

// instance is one running table behind a server.
type instance struct {
	*views.Table
	dir    string
	url    string
	server *httptest.Server
	client viewspb.ViewsClient
	end    func() // ends the table alone
	stop   func() // also the server
}

func (b *bench) start(dir string) *instance {
	b.t.Helper()
	config := views.Config{
		Group: group, Topic: topic, Cluster: kafka.Cluster{Brokers: b.kafka.Brokers(), ClientID: "test"}, Dir: dir,
		Log: slog.New(slog.NewTextHandler(b.t.Output(), nil)),
	}
	if b.config != nil {
		b.config(&config)
	}
	table := views.New(config)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- table.Run(ctx) }()
	mux, handler := http.NewServeMux(), views.Handler(table)
	for _, path := range views.Paths() {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			if at := r.Header.Get(clientHeader); at != "" {
				r.RemoteAddr = at
			}
			handler.ServeHTTP(w, r)
		})
	}
	server := httptest.NewUnstartedServer(mux)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	end := sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				b.t.Error(err)
			}
		case <-time.After(patience):
			b.t.Error("the view did not stop")
		}
	})
	stop := sync.OnceFunc(func() {
		end()
		server.CloseClientConnections()
		server.Close()
	})
	b.t.Cleanup(stop)
	return &instance{table, dir, server.URL, server, viewspb.NewViewsClient(server.Client(), server.URL), end, stop}
}

func (b *bench) ready(i *instance) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := i.WaitReady(ctx); err != nil {
		b.t.Fatal(err)
	}
}

// started is an instance with a new state folder that is ready.
func (b *bench) started() *instance {
	b.t.Helper()
	i := b.start(b.t.TempDir())
	b.ready(i)
	return i
}

func (b *bench) eventually(what string, is func() bool) {
	b.t.Helper()
	deadline := time.Now().Add(patience)
	for !is() {
		if time.Now().After(deadline) {
			b.t.Fatalf("not within %s: %s", patience, what)
		}
		tick := time.NewTimer(10 * time.Millisecond)
		<-tick.C
	}
}

// get asks a path, and decodes a JSON answer to out.
func (i *instance) get(t testing.TB, path string, out any) (status int, body string) {
	t.Helper()
	response, err := i.server.Client().Get(i.url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if out != nil {
		if err := json.Unmarshal(text, out); err != nil {
			t.Fatalf("%s: %v in %s", path, err, text)
		}
	}
	return response.StatusCode, string(text)
}

// keys lists all keys, over as many pages as it takes.
func (i *instance) keys(t testing.TB, query string) []string {
	t.Helper()
	var keys []string
	cursor := ""
	for {
		var page struct {
			Entries    []struct{ Key string }
			NextCursor string
		}
		if status, body := i.get(t, "/v1/keys?"+query+"&cursor="+cursor, &page); status != http.StatusOK {
			t.Fatalf("status %d: %s", status, body)
		}
		for _, e := range page.Entries {
			keys = append(keys, e.Key)
		}
		if cursor = page.NextCursor; cursor == "" {
			return keys
		}
	}
}

// has waits until a key is seen.
func (b *bench) has(i *instance, key string) {
	b.t.Helper()
	b.eventually(fmt.Sprintf("key %s is seen", key), func() bool {
		status, _ := i.get(b.t, "/v1/keys/"+key, nil)
		return status == http.StatusOK
	})
}

func contains(t testing.TB, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in %q", part, text)
		}
	}
}

// cut makes the broker answer nothing about offsets and records, until heal.
func (b *bench) cut() (heal func()) {
	var healed atomic.Bool
	for _, key := range []kmsg.Key{kmsg.Fetch, kmsg.ListOffsets} {
		b.kafka.Cluster().ControlKey(int16(key), func(kmsg.Request) (kmsg.Response, error, bool) {
			if healed.Load() {
				return nil, nil, false
			}
			b.kafka.Cluster().KeepControl()
			return nil, errors.New("cut"), true
		})
	}
	return func() { healed.Store(true) }
}
