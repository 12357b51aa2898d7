package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"kafkagrpc/processor/rowpb"
)

const (
	benchTable = "example-west_kafka_grpc_remote_server-table"
	benchRows  = 1_000_000
)

func benchKey(n int) string { return fmt.Sprintf("order-%07d-132e6a3c3cd99bf490609dd2718acc8a", n) }

// BenchmarkViews is a process that has only views, on a table of a million rows in a real Kafka. What it reports is once for all,
// whatever b.N is.
func BenchmarkViews(b *testing.B) {
	w := newWorld(b)
	compact := "compact"
	w.create(8, map[string]*string{"cleanup.policy": &compact}, benchTable)
	w.fillTable(benchRows)
	state := b.TempDir()
	begin := func() (p *process, took time.Duration) {
		begun := time.Now()
		p = start(b, w.command("views", "-c", filepath.Join(w.dir, "zilla.yaml"), "--state-dir", state))
		p.await("ready ")
		return p, time.Since(begun)
	}
	end := func(p *process) {
		p.signal(syscall.SIGTERM)
		if code := p.wait(); code != 0 {
			b.Fatalf("exit code %d: %s", code, p.output())
		}
	}

	p, cold := begin()
	b.ReportMetric(cold.Seconds(), "s/catch-up-from-nothing")
	b.ReportMetric(p.memory("VmHWM:"), "MiB/peak-while-catching-up")
	end(p)
	p, warm := begin()
	b.ReportMetric(warm.Seconds(), "s/catch-up-from-store")
	b.ReportMetric(size(b, state)/(1<<20), "MiB/on-disk")
	client := &http.Client{Timeout: patience}
	base := "http://" + p.admin()
	ask := func(path string, entries int) {
		response, err := client.Get(base + path)
		if err != nil {
			b.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusOK {
			b.Fatalf("%s: %s, %v: %s", path, response.Status, err, body)
		}
		if entries < 0 {
			return
		}
		var page struct{ Entries []json.RawMessage }
		if err := json.Unmarshal(body, &page); err != nil || len(page.Entries) != entries {
			b.Fatalf("%s: %d entries, %v", path, len(page.Entries), err)
		}
	}
	measure := func(name string, times int, one func()) {
		took := make([]time.Duration, times)
		for i := range took {
			begun := time.Now()
			one()
			took[i] = time.Since(begun)
		}
		slices.Sort(took)
		b.ReportMetric(float64(took[times/2].Microseconds())/1000, "ms/"+name+"-p50")
		b.ReportMetric(float64(took[times*99/100].Microseconds())/1000, "ms/"+name+"-p99")
	}
	measure("get", 20_000, func() { ask("/v1/keys/"+benchKey(rand.IntN(benchRows)), -1) })
	measure("list-100", 1000, func() { ask(fmt.Sprintf("/v1/keys?limit=100&prefix=order-%05d", rand.IntN(benchRows/100)), 100) })
	measure("scan-100000", 20, func() { ask("/v1/keys?status=NOT_FOUND", 0) })
	b.ReportMetric(p.memory("VmHWM:"), "MiB/peak-while-asked")
	end(p)
}

// BenchmarkViewsOfAnInstance is an instance alone, with a table of half a million rows in a real Kafka and each mode of views, from an
// empty state folder on. What it reports is once for all, whatever b.N is.
func BenchmarkViewsOfAnInstance(b *testing.B) {
	w := newWorld(b)
	w.createTopics(8)
	compact := "compact"
	w.create(8, map[string]*string{"cleanup.policy": &compact}, benchTable)
	w.fillTable(benchRows / 2)
	for _, mode := range []string{"off", "local", "all"} {
		b.Run(mode, func(b *testing.B) {
			state, begun := b.TempDir(), time.Now()
			p := w.run("--views="+mode, "--listen", "127.0.0.7", "--state-dir", state)
			b.ReportMetric(time.Since(begun).Seconds(), "s/to-ready")
			if mode != "off" {
				get := func(path string) (body string) {
					response, err := http.Get("http://" + p.admin() + path)
					if err != nil {
						b.Fatal(err)
					}
					defer response.Body.Close()
					text, err := io.ReadAll(response.Body)
					if err != nil {
						b.Fatal(err)
					}
					return string(text)
				}
				for deadline := time.Now().Add(patience); !strings.Contains(strings.ReplaceAll(get("/v1/stats"), " ", ""), `"ready":true`); {
					if time.Now().After(deadline) {
						b.Fatal(get("/v1/stats"))
					}
				}
				b.ReportMetric(time.Since(begun).Seconds(), "s/to-views")
				for name, path := range map[string]string{"get": "/v1/keys/" + benchKey(7), "list-100": "/v1/keys?limit=100", "scan-100000": "/v1/keys?status=NOT_FOUND"} {
					took := make([]time.Duration, 20)
					for i := range took {
						begun := time.Now()
						if body := get(path); !strings.Contains(body, "freshness") {
							b.Fatal(body)
						}
						took[i] = time.Since(begun)
					}
					slices.Sort(took)
					b.ReportMetric(float64(took[10].Microseconds())/1000, "ms/"+name+"-p50")
				}
			}
			b.ReportMetric(p.memory("VmHWM:"), "MiB/peak")
			b.ReportMetric(p.memory("VmRSS:"), "MiB/after")
			p.signal(syscall.SIGTERM)
			if code := p.wait(); code != 0 {
				b.Fatalf("exit code %d: %s", code, p.output())
			}
			b.ReportMetric(size(b, state)/(1<<20), "MiB/on-disk")
		})
	}
}

// fillTable writes rows as the processor does.
func (w *world) fillTable(rows int) {
	w.t.Helper()
	client := w.client(kgo.MaxBufferedRecords(50_000))
	now := time.Now()
	var mu sync.Mutex
	var failed error
	for n := range rows {
		row, err := proto.Marshal(&rowpb.Row{
			Version: 1, State: rowpb.State_STATE_FINAL, Fingerprint: make([]byte, 32), Service: echo, Method: "UnaryEcho", CorrelationId: benchKey(n),
			Messages: [][]byte{make([]byte, 100)}, Attempts: 1, Target: "127.0.0.1:50051", Source: &rowpb.Source{Topic: requestTopic, Offset: int64(n)},
			StartedMs: now.UnixMilli(), FinishedMs: now.UnixMilli(), ExpiresMs: now.Add(24 * time.Hour).UnixMilli(),
		})
		if err != nil {
			w.t.Fatal(err)
		}
		client.Produce(context.Background(), &kgo.Record{Topic: benchTable, Key: []byte(benchKey(n)), Value: row}, func(_ *kgo.Record, err error) {
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = err
			}
		})
	}
	if err := client.Flush(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if failed != nil {
		w.t.Fatal(failed)
	}
}

func size(b *testing.B, dir string) (bytes float64) {
	b.Helper()
	err := filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			bytes += float64(info.Size())
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return bytes
}
