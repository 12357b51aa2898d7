package schemaregistry_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"
	"go.uber.org/goleak"

	"kafkagrpc/internal/payload"
	"kafkagrpc/internal/pkitest"
	"kafkagrpc/internal/schemaregistry"
	"kafkagrpc/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func fake(t *testing.T, options ...srfake.Option) *srfake.Registry {
	t.Helper()
	r := srfake.New(options...)
	t.Cleanup(r.Close)
	return r
}

func open(t *testing.T, c topology.Registry) *schemaregistry.Registry {
	t.Helper()
	c.Catalog = "registry"
	r, err := schemaregistry.Open(&c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

const text = `{"type":"record","name":"Order","fields":[{"name":"id","type":"string"}]}`

func TestASchemaIsAskedForOnce(t *testing.T) {
	t.Parallel()
	f := fake(t)
	f.SeedSchema("orders-value", 1, 7, sr.Schema{Schema: text})
	var asked atomic.Int32
	come, release := make(chan struct{}), make(chan struct{})
	f.Intercept(func(http.ResponseWriter, *http.Request) bool {
		if asked.Add(1) == 1 {
			close(come)
			<-release
		}
		return false
	})
	r := open(t, topology.Registry{URL: f.URL()})
	if r.Known(7) {
		t.Error("a schema is known before it is asked for")
	}
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			s, err := r.Schema(t.Context(), 7)
			if err != nil || s.ID != 7 || s.Text != text || s.Format != payload.FormatAvro {
				t.Error(s, err)
			}
		})
	}
	<-come
	if r.Known(7) {
		t.Error("a schema is known while it is asked for")
	}
	close(release)
	all.Wait()
	f.Close() // what is known needs no registry
	if _, err := r.Schema(t.Context(), 7); err != nil || !r.Known(7) || asked.Load() != 1 {
		t.Errorf("it was asked for %d times, %v", asked.Load(), err)
	}
}

// Who asks for all may be called off: the others do not fail for it.
func TestWaitersOutliveWhoAsks(t *testing.T) {
	t.Parallel()
	f := fake(t)
	f.SeedSchema("orders-value", 1, 7, sr.Schema{Schema: text})
	var came atomic.Int32
	first := make(chan struct{})
	f.Intercept(func(_ http.ResponseWriter, request *http.Request) bool {
		if came.Add(1) == 1 {
			close(first)
			<-request.Context().Done()
		}
		return false
	})
	r := open(t, topology.Registry{URL: f.URL()})
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() {
		if _, err := r.Schema(ctx, 7); !errors.Is(err, context.Canceled) || errors.As(err, new(*payload.Error)) {
			t.Error(err)
		}
	})
	<-first
	all.Go(func() {
		if _, err := r.Schema(t.Context(), 7); err != nil {
			t.Error(err)
		}
	})
	cancel()
	all.Wait()
}

func TestUnknownSchemas(t *testing.T) {
	t.Parallel()
	f := fake(t)
	var asked atomic.Int32
	f.Intercept(func(http.ResponseWriter, *http.Request) bool { asked.Add(1); return false })
	r := open(t, topology.Registry{URL: f.URL()})
	for range 3 {
		_, err := r.Schema(t.Context(), 9)
		if !errors.As(err, new(*payload.Error)) || err.Error() != "its schema 9 is unknown to catalog `registry`" {
			t.Error(err)
		}
	}
	if asked.Load() != 1 || !r.Known(9) {
		t.Errorf("an unknown id was asked for %d times", asked.Load())
	}
}

// Only the registry itself can say that there is no schema; whatever else goes wrong may pass, and is not kept.
func TestARegistryThatCannotBeAsked(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer func(http.ResponseWriter)
		want   string
	}{
		"another server": {func(w http.ResponseWriter) { http.Error(w, "<html>no such page</html>", http.StatusNotFound) }, "it answers 404 Not Found"},
		"no right": {func(w http.ResponseWriter) {
			http.Error(w, `{"error_code":40101,"message":"who\nare you"}`, http.StatusUnauthorized)
		}, "it answers 401 Unauthorized, error 40101: who are you"},
		"broken": {func(w http.ResponseWriter) {
			http.Error(w, `{"error_code":50001,"message":"store"}`, http.StatusInternalServerError)
		}, "it answers 500 Internal Server Error, error 50001: store"},
		"no JSON": {func(w http.ResponseWriter) { fmt.Fprint(w, "<html>") }, "unable to decode"},
		"endless": {func(w http.ResponseWriter) { fmt.Fprint(w, `{"schema":"`, strings.Repeat("x", 5<<20), `"}`) }, "longer than 4194304 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := fake(t)
			f.SeedSchema("orders-value", 1, 7, sr.Schema{Schema: text})
			f.Intercept(func(w http.ResponseWriter, _ *http.Request) bool { c.answer(w); return true })
			r := open(t, topology.Registry{URL: f.URL()})
			_, err := r.Schema(t.Context(), 7)
			if err == nil || errors.As(err, new(*payload.Error)) || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "schema 7 of catalog `registry`: ") || r.Known(7) {
				t.Errorf("the error is %v, want %s", err, c.want)
			}
			f.ClearInterceptors()
			if _, err := r.Schema(t.Context(), 7); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestNoRegistry(t *testing.T) {
	t.Parallel()
	f := fake(t)
	url := f.URL()
	f.Close()
	_, err := open(t, topology.Registry{URL: url, Authorization: "Basic secret-word"}).Schema(t.Context(), 7)
	if err == nil || errors.As(err, new(*payload.Error)) || !strings.Contains(err.Error(), "connection refused") || strings.Contains(err.Error(), "secret-word") {
		t.Error(err)
	}
}

func TestReferences(t *testing.T) {
	t.Parallel()
	f := fake(t)
	f.SeedSchema("money", 1, 1, sr.Schema{Schema: `{"type":"record","name":"Money","fields":[{"name":"cents","type":"long"}]}`})
	f.SeedSchema("item", 1, 2, sr.Schema{Schema: `{"type":"record","name":"Item","fields":[{"name":"price","type":"Money"}]}`, References: []sr.SchemaReference{{Name: "Money", Subject: "money", Version: 1}}})
	f.SeedSchema("order", 1, 3, sr.Schema{
		Schema:     `{"type":"record","name":"Order","fields":[{"name":"item","type":"Item"},{"name":"tip","type":"Money"}]}`,
		References: []sr.SchemaReference{{Name: "Item", Subject: "item", Version: 1}, {Name: "Money", Subject: "money", Version: 1}},
	})
	f.SeedSchema("broken", 1, 4, sr.Schema{Schema: `{"type":"record","name":"B","fields":[{"name":"item","type":"Gone"}]}`})
	f.SeedSchema("message", 1, 5, sr.Schema{Schema: `syntax = "proto3"; message M {}`, Type: sr.TypeProtobuf})
	r := open(t, topology.Registry{URL: f.URL()})
	s, err := r.Schema(t.Context(), 3)
	if err != nil || len(s.References) != 2 || !strings.Contains(s.References[0], "Money") || !strings.Contains(s.References[1], "Item") {
		t.Error(s, err)
	}
	if _, err := r.Schema(t.Context(), 4); !errors.As(err, new(*payload.Error)) || !strings.Contains(err.Error(), "its schema 4 cannot be used: ") {
		t.Error(err)
	}
	if s, err := r.Schema(t.Context(), 5); err != nil || s.Format != payload.FormatProtobuf {
		t.Error(s, err)
	}
}

func TestCredentialsAndTLS(t *testing.T) {
	t.Parallel()
	authorization := "Basic " + base64.StdEncoding.EncodeToString([]byte("ann:secret-word"))
	f := fake(t, srfake.WithAuth(authorization))
	f.SeedSchema("orders-value", 1, 7, sr.Schema{Schema: text})
	authority := pkitest.NewAuthority(t, "ours")
	secured := httptest.NewUnstartedServer(f.Handler())
	secured.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	secured.TLS = &tls.Config{Certificates: []tls.Certificate{authority.Issue(t, "127.0.0.1")}}
	secured.StartTLS()
	t.Cleanup(secured.Close)
	trusting := &tls.Config{RootCAs: authority.Pool()}
	if _, err := open(t, topology.Registry{URL: secured.URL, TLS: &topology.ClientTLS{Config: trusting}, Authorization: topology.Secret(authorization)}).Schema(t.Context(), 7); err != nil {
		t.Error(err)
	}
	if _, err := open(t, topology.Registry{URL: secured.URL, TLS: &topology.ClientTLS{Config: trusting}, Authorization: "Basic other-word"}).Schema(t.Context(), 7); err == nil || !strings.Contains(err.Error(), "it answers 403") || strings.Contains(err.Error(), "word") {
		t.Error(err)
	}
	if _, err := open(t, topology.Registry{URL: secured.URL, Authorization: topology.Secret(authorization)}).Schema(t.Context(), 7); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Error(err)
	}
}

func TestContexts(t *testing.T) {
	t.Parallel()
	f := fake(t)
	var path atomic.Value
	f.Intercept(func(_ http.ResponseWriter, r *http.Request) bool { path.Store(r.URL.Path); return false })
	open(t, topology.Registry{URL: f.URL(), Context: ".staging"}).Schema(t.Context(), 7)
	if got := path.Load(); got != "/contexts/.staging/schemas/ids/7" {
		t.Error(got)
	}
}

// What is kept is bounded.
func TestSchemasAreForgotten(t *testing.T) {
	t.Parallel()
	f := fake(t)
	f.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		fmt.Fprint(w, `{"schema":"\"string\""}`)
		return true
	})
	r := open(t, topology.Registry{URL: f.URL()})
	for id := range 1010 {
		if _, err := r.Schema(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		r.Schema(t.Context(), 0)
	}
	if r.Known(5) || !r.Known(0) || !r.Known(1009) || !r.Known(500) {
		t.Error("it is not the oldest that is forgotten")
	}
}

func TestFollowing(t *testing.T) {
	t.Parallel()
	f := fake(t)
	f.SeedSchema("replies-value", 1, 7, sr.Schema{Schema: text})
	r := open(t, topology.Registry{URL: f.URL()})
	follow := func(ref topology.SchemaRef) (*schemaregistry.Followed, error) {
		return r.Follow(t.Context(), topology.Encoding{Name: topology.EncodingAvro, Schema: ref}, "Order")
	}
	for _, c := range []struct {
		ref  topology.SchemaRef
		want string
	}{
		{topology.SchemaRef{Subject: "gone"}, "subject gone is unknown to catalog `registry`"},
		{topology.SchemaRef{Subject: "replies-value", Version: 2}, "subject replies-value version 2 is unknown to catalog `registry`"},
		{topology.SchemaRef{ID: 8}, "its schema 8 is unknown to catalog `registry`"},
		{topology.SchemaRef{ID: 7}, ""},
		{topology.SchemaRef{Subject: "replies-value", Version: 1}, ""},
	} {
		followed, err := follow(c.ref)
		if c.want != "" && (err == nil || err.Error() != c.want) || c.want == "" && (err != nil || followed.Schema().ID != 7) {
			t.Errorf("%v: the error is %v, want %s", c.ref, err, c.want)
		}
	}
	followed, err := follow(topology.SchemaRef{Subject: "replies-value"})
	if err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 100)
	log := slog.New(slog.NewTextHandler(lineWriter(lines), nil))
	ctx, cancel := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() { followed.Run(ctx, time.Millisecond, log) })
	next := func(want string, id int) {
		t.Helper()
		if line := <-lines; !strings.Contains(line, want) || followed.Schema().ID != id {
			t.Errorf("the log says %s, want %s and schema %d, not %d", line, want, id, followed.Schema().ID)
		}
	}
	f.SeedSchema("replies-value", 2, 8, sr.Schema{Schema: text})
	next("there is another schema", 8)
	var asked atomic.Int32
	often := make(chan struct{})
	f.Intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		if asked.Add(1) == 5 {
			close(often)
		}
		http.Error(w, "", http.StatusServiceUnavailable)
		return true
	})
	next("the last one stays", 8)
	<-often
	f.SeedSchema("replies-value", 3, 9, sr.Schema{Schema: `"string"`}) // none for messages
	f.ClearInterceptors()
	f.SeedSchema("replies-value", 4, 10, sr.Schema{Schema: text})
	next("can be looked up again", 10)
	cancel()
	run.Wait()
}

type lineWriter chan string

func (w lineWriter) Write(line []byte) (int, error) {
	w <- string(line)
	return len(line), nil
}
