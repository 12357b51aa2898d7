package app_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	reflection "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"kafkagrpc/internal/logtest"
	"kafkagrpc/internal/schemaregistry"
	"kafkagrpc/topology"
)

const registryProtoFile = `name: x
catalogs:
  registry: {type: schema-registry, options: {url: %q, max-age: 1}}
bindings:
  tcp0: {type: tcp, kind: server, options: {host: 127.0.0.1, port: 7151}, exit: http0}
  http0: {type: http, kind: server, exit: grpc0}
  grpc0: {type: grpc, kind: server, catalog: {registry: [{subject: orders}]}, routes: [{when: [{method: shop.v1.Orders/*}], exit: grpc1}]}
  grpc1: {type: grpc, kind: client, exit: http1}
  http1: {type: http, kind: client, exit: tcp1}
  tcp1: {type: tcp, kind: client, options: {host: 127.0.0.1, port: 1}}
`

// A newer version of a proto is told by reflection while the app runs. While the registry is away the last one stays, and the log says so once.
func TestNewerProtosOfARegistry(t *testing.T) {
	t.Parallel()
	registry := srfake.New()
	t.Cleanup(registry.Close)
	version := func(methods ...string) sr.Schema {
		text := `syntax = "proto3"; package shop.v1; import "common/item.proto"; service Orders {`
		for _, m := range methods {
			text += " rpc " + m + "(Item) returns (Item);"
		}
		return sr.Schema{Type: sr.TypeProtobuf, Schema: text + " }", References: []sr.SchemaReference{{Name: "common/item.proto", Subject: "items", Version: 1}}}
	}
	registry.SeedSchema("items", 1, 1, sr.Schema{Type: sr.TypeProtobuf, Schema: `syntax = "proto3"; package shop.v1; message Item {}`})
	registry.SeedSchema("orders", 1, 2, version("Place"))
	path := writeFile(t, fmt.Sprintf(registryProtoFile, registry.URL()))
	load := func(ctx context.Context) (*topology.Topology, error) {
		return topology.Load(path, topology.Options{Protos: schemaregistry.Protos(ctx, patience, nil)})
	}
	top, err := load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	top.Listeners[0].Port = 0
	c := seed(t)
	var log logtest.Lines
	c.Topology, c.Admin, c.Log = top, nil, slog.New(slog.NewJSONHandler(&log, nil))
	c.Protos = func(ctx context.Context) (topology.Protos, error) {
		again, err := load(ctx)
		if err != nil {
			return topology.Protos{}, err
		}
		return again.Protos, nil
	}
	a := start(t, c)
	conn, err := grpc.NewClient("passthrough:///"+a.Addrs()[0].String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if got := told(t, conn); got != "Place" {
		t.Errorf("reflection tells of %s", got)
	}
	until := func(what string, ok func() bool) {
		t.Helper()
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		over := time.After(patience)
		for !ok() {
			select {
			case <-ticker.C:
			case <-over:
				t.Fatalf("it never came to that: %s\n%s", what, log.String())
			}
		}
	}

	registry.SeedSchema("orders", 2, 3, version("Place", "Cancel"))
	until("another version", func() bool { return told(t, conn) == "Place Cancel" })

	var down atomic.Bool
	var asked atomic.Int32
	down.Store(true)
	registry.Intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		if !down.Load() {
			return false
		}
		asked.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	until("asked while it is away", func() bool { return asked.Load() > 4 }) // each time a few attempts are made
	if got := told(t, conn); got != "Place Cancel" {
		t.Errorf("reflection tells of %s", got)
	}
	down.Store(false)
	until("it is back", func() bool { return log.Count("can be looked up again\"") == 1 })
	if n := log.Count("cannot be looked up again; the last ones stay"); n != 1 {
		t.Errorf("told %d times:\n%s", n, log.String())
	}
	registry.SeedSchema("orders", 3, 4, version("Place", "Cancel", "Track"))
	until("the version after", func() bool { return told(t, conn) == "Place Cancel Track" })
}

// told are the methods of the service, as reflection tells them.
func told(t *testing.T, conn *grpc.ClientConn) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stream, err := reflection.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ask := &reflection.ServerReflectionRequest{MessageRequest: &reflection.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: "shop.v1.Orders"}}
	if err := stream.Send(ask); err != nil {
		t.Fatal(err)
	}
	answer, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	var methods []string
	for _, encoded := range answer.GetFileDescriptorResponse().GetFileDescriptorProto() {
		var file descriptorpb.FileDescriptorProto
		if err := proto.Unmarshal(encoded, &file); err != nil {
			t.Fatal(err)
		}
		for _, s := range file.GetService() {
			for _, m := range s.GetMethod() {
				methods = append(methods, m.GetName())
			}
		}
	}
	return strings.Join(methods, " ")
}
