package schemaregistry_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/sr"

	"kafkagrpc/internal/logtest"
	"kafkagrpc/internal/schemaregistry"
	"kafkagrpc/topology"
)

func proto(text string, references ...sr.SchemaReference) sr.Schema {
	return sr.Schema{Type: sr.TypeProtobuf, Schema: text, References: references}
}

// A proto comes with all that it imports, also through others, under the names of the imports.
func TestProto(t *testing.T) {
	t.Parallel()
	f := fake(t)
	f.SeedSchema("currency", 1, 1, proto(`syntax = "proto3"; enum Currency { EUR = 0; }`))
	f.SeedSchema("money", 1, 2, proto(`syntax = "proto3"; import "currency.proto"; message Money {}`, sr.SchemaReference{Name: "currency.proto", Subject: "currency", Version: 1}))
	f.SeedSchema("orders", 1, 3, proto(`syntax = "proto3"; message Old {}`))
	f.SeedSchema("orders", 2, 4, proto(`syntax = "proto3"; import "common/money.proto"; import "currency.proto";`,
		sr.SchemaReference{Name: "common/money.proto", Subject: "money", Version: 1}, sr.SchemaReference{Name: "currency.proto", Subject: "currency", Version: 1}))
	f.SeedSchema("values", 1, 5, sr.Schema{Schema: `"string"`})
	f.SeedSchema("gone", 1, 7, proto(`syntax = "proto3"; message Gone {}`))
	f.SeedSchema("strays", 1, 6, proto(`syntax = "proto3"; import "gone.proto";`, sr.SchemaReference{Name: "gone.proto", Subject: "gone", Version: 1}))
	f.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/subjects/gone/") {
			return false
		}
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"error_code": 40401, "message": "Subject not found"}`)
		return true
	})
	r := open(t, topology.Registry{URL: f.URL()})
	for name, tt := range map[string]struct {
		ref     topology.SchemaRef
		id      int
		imports []string
		wrong   string
	}{
		"latest":          {ref: topology.SchemaRef{Subject: "orders"}, id: 4, imports: []string{"common/money.proto money/1", "currency.proto currency/1"}},
		"version":         {ref: topology.SchemaRef{Subject: "orders", Version: 1}, id: 3},
		"id":              {ref: topology.SchemaRef{ID: 2}, id: 2, imports: []string{"currency.proto currency/1"}},
		"unknown subject": {ref: topology.SchemaRef{Subject: "none"}, wrong: "subject none is unknown to catalog `registry`"},
		"unknown id":      {ref: topology.SchemaRef{ID: 99}, wrong: "schema 99 is unknown to catalog `registry`"},
		"no proto":        {ref: topology.SchemaRef{Subject: "values"}, wrong: "subject values of catalog `registry` is no proto"},
		"stray":           {ref: topology.SchemaRef{Subject: "strays"}, wrong: "subject strays of catalog `registry` refers to a schema that is unknown there"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := r.Proto(t.Context(), tt.ref)
			if tt.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wrong) {
					t.Errorf("got %v, want %s", err, tt.wrong)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var imports []string
			for _, i := range p.Imports {
				imports = append(imports, i.Name+" "+i.Source)
			}
			if diff := cmp.Diff(tt.imports, imports); diff != "" || p.ID != tt.id {
				t.Errorf("id %d, imports -want +got:\n%s", p.ID, diff)
			}
		})
	}
}

// A registry that is not there yet is waited for, and no longer than that; what it does not have is not.
func TestProtosAreWaitedFor(t *testing.T) {
	t.Parallel()
	f := fake(t)
	f.SeedSchema("orders", 1, 3, proto(`syntax = "proto3"; message Old {}`))
	var asked atomic.Int32
	f.Intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		if asked.Add(1) > 2 {
			return false
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	of := &topology.Registry{Catalog: "registry", URL: f.URL()}
	var log logtest.Lines
	get := schemaregistry.Protos(t.Context(), time.Minute, slog.New(slog.NewJSONHandler(&log, nil)))
	if p, err := get(of, topology.SchemaRef{Subject: "orders"}); err != nil || p.ID != 3 {
		t.Errorf("%v, %v", p, err)
	}
	if n := log.Count("trying again"); n != 1 {
		t.Errorf("told %d times", n)
	}
	if _, err := get(of, topology.SchemaRef{Subject: "none"}); err == nil || errors.As(err, new(*schemaregistry.AwayError)) {
		t.Errorf("an unknown subject: %v", err)
	}
	gone := &topology.Registry{Catalog: "gone", URL: "http://127.0.0.1:1"} // not a port that was free: another process may have it by now
	short := schemaregistry.Protos(t.Context(), 4*time.Second, nil)
	for range 2 { // the second one is not waited for
		if _, err := short(gone, topology.SchemaRef{Subject: "orders"}); err == nil || !strings.Contains(err.Error(), "connection refused") || !errors.As(err, new(*schemaregistry.AwayError)) {
			t.Errorf("away: %v", err)
		}
	}
	_, err := schemaregistry.Protos(t.Context(), time.Millisecond, nil)(gone, topology.SchemaRef{Subject: "orders"})
	if err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("gone: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := schemaregistry.Protos(ctx, time.Hour, nil)(gone, topology.SchemaRef{Subject: "orders"}); err == nil {
		t.Error("nobody waits, and there is a proto: " + fmt.Sprint(err))
	}
}
