package preflight_test

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"
	"google.golang.org/protobuf/types/known/timestamppb"

	"kafkagrpc/internal/pkitest"
	"kafkagrpc/topology"
)

func TestRegistries(t *testing.T) {
	t.Parallel()
	authority := pkitest.NewAuthority(t, "authority")
	w := newWorld(t, authority, authority.Issue(t, "server.example"), time.Now().Add(100*24*time.Hour), "requests", "replies")
	registry := srfake.New(srfake.WithAuth("Bearer secret-word"))
	t.Cleanup(registry.Close)
	registry.SeedSchema("replies-value", 1, 7, sr.Schema{Schema: `{"type":"record","name":"R","fields":[]}`})
	registry.SeedSchema("texts-value", 1, 8, sr.Schema{Schema: `"string"`})
	ours := &topology.Registry{Catalog: "ours", URL: registry.URL(), Authorization: "Bearer secret-word"}
	w.topology.Registries = []*topology.Registry{
		ours, {Catalog: "strange", URL: registry.URL(), Authorization: "Bearer other"}, {Catalog: "gone", URL: "http://127.0.0.1:1"},
	}
	remote := &w.topology.Remotes[0]
	route := remote.Routes[0]
	for _, subject := range []string{"replies-value", "replies-value", "texts-value", "none-value"} {
		route.Event = &topology.Event{
			Output: (&timestamppb.Timestamp{}).ProtoReflect().Descriptor(),
			Reply:  topology.Encoding{Name: topology.EncodingAvro, Registry: ours, Schema: topology.SchemaRef{Subject: subject}},
		}
		remote.Routes = append(remote.Routes, route)
	}
	found := w.run(t)
	expect(t, found[len(found)-7:],
		[3]string{"registry", "ok", "ours at " + registry.URL() + ": answers"},
		[3]string{"schema", "ok", "subject replies-value of ours: Avro schema 7"},
		[3]string{"schema", "FAILED", "subject texts-value of ours: subject texts-value of catalog `ours`: schema 8 is of a string, not of a record"},
		[3]string{"schema", "FAILED", "subject none-value is unknown to catalog `ours`"},
		[3]string{"registry", "FAILED", "catalog `strange`: it answers 403 Forbidden"},
		[3]string{"registry", "FAILED", "gone at http://127.0.0.1:1: catalog `gone`: dial tcp 127.0.0.1:1: connect: connection refused"},
		[3]string{"target", "ok", ""})
}
