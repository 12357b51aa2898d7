package topology_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/reflect/protoreflect"

	"kafkagrpc/topology"
)

const registryProtos = `name: shop
catalogs:
  registry: {type: schema-registry, options: {url: "http://registry:8081", max-age: 60}}
  apicurio: {type: apicurio, options: {url: "http://apicurio:8080", group-id: shop, use-id: contentId, id-encoding: legacy}}
bindings:
  tcp0: {type: tcp, kind: server, options: {host: 127.0.0.1, port: 7151}, exit: http0}
  http0: {type: http, kind: server, exit: grpc0}
  grpc0: {type: grpc, kind: server, catalog: {registry: [{subject: orders}, {subject: orders, version: latest}], apicurio: [{id: 7}]}, routes: [{when: [{method: shop.v1.Orders/*}], exit: grpc1}]}
  grpc1: {type: grpc, kind: client, catalog: {registry: [{subject: items, version: 3}]}, exit: http1}
  http1: {type: http, kind: client, exit: tcp1}
  tcp1: {type: tcp, kind: client, options: {host: orders, port: 8080}}
`

// ask answers protos of two registries, which have a name in common that is not the same.
func ask(of *topology.Registry, ref topology.SchemaRef) (topology.RegistryProto, error) {
	money := func(field string) topology.ProtoImport {
		return topology.ProtoImport{Name: "common/money.proto", Source: "money/" + field, Text: `syntax = "proto3"; package common.` + field + `; import "common/currency.proto"; message Money { currency.Currency ` + field + ` = 1; }`}
	}
	currency := topology.ProtoImport{Name: "common/currency.proto", Source: "currency/1", Text: `syntax = "proto3"; package currency; enum Currency { EUR = 0; }`}
	service := func(name, field string) string {
		return `syntax = "proto3"; package shop.v1; import "common/money.proto"; import "google/protobuf/timestamp.proto";
service ` + name + ` { rpc Do(Ask) returns (stream google.protobuf.Timestamp); } message Ask { common.` + field + `.Money price = 1; }`
	}
	switch fmt.Sprint(of.Catalog, " ", ref) {
	case "registry subject orders":
		return topology.RegistryProto{ID: 1, Version: 1, Text: service("Orders", "a"), Imports: []topology.ProtoImport{money("a"), currency}}, nil
	case "registry subject items version 3":
		return topology.RegistryProto{ID: 2, Version: 3, Text: strings.ReplaceAll(service("Items", "b"), "Ask", "AskItem"), Imports: []topology.ProtoImport{money("b"), currency}}, nil
	case "apicurio schema 7":
		return topology.RegistryProto{ID: 7, Text: `syntax = "proto3"; package stock; service Stock { rpc Get(M) returns (M); } message M {}`}, nil
	}
	return topology.RegistryProto{}, errors.New("it is unknown")
}

func TestProtosOfRegistries(t *testing.T) {
	t.Parallel()
	loaded, err := topology.Load(write(t, "zilla.yaml", registryProtos), topology.Options{Protos: ask})
	if err != nil {
		t.Fatal(err)
	}
	want := topology.Methods{"shop.v1.Orders/Do": {ServerStreams: true}, "shop.v1.Items/Do": {ServerStreams: true}, "stock.Stock/Get": {}}
	if diff := cmp.Diff(want, loaded.Methods); diff != "" {
		t.Errorf("methods -want +got:\n%s", diff)
	}
	for name, field := range map[protoreflect.FullName]string{"shop.v1.Ask": "a", "shop.v1.AskItem": "b"} {
		m, err := loaded.Protos.FindDescriptorByName(name)
		if err != nil {
			t.Fatal(err)
		}
		if inner := m.(protoreflect.MessageDescriptor).Fields().Get(0).Message().Fields().Get(0); string(inner.Name()) != field || inner.Enum().FullName() != "currency.Currency" {
			t.Errorf("the price of %s has %v", name, inner)
		}
	}
	var got []string
	for _, p := range loaded.RegistryProtos {
		got = append(got, fmt.Sprint(p.Registry.Catalog, " ", p.Ref, " ", p.ID))
	}
	if diff := cmp.Diff([]string{"registry subject orders 1", "apicurio schema 7 7", "registry subject items version 3 2"}, got); diff != "" {
		t.Errorf("protos -want +got:\n%s", diff)
	}
	r := loaded.Registries[1]
	if !r.Apicurio || r.Group != "shop" || !r.ContentID || r.IDBytes != 4 || r.MaxAge != 5*time.Minute {
		t.Errorf("%+v", r)
	}
	if len(loaded.Warnings) != 0 {
		t.Errorf("%v", loaded.Warnings)
	}
}

// Whoever asks no registry goes on without, and says so; what a registry answers wrongly is an error at the place that names it.
func TestProtosOfRegistriesThatCannotBeHad(t *testing.T) {
	t.Parallel()
	path := write(t, "zilla.yaml", registryProtos)
	loaded, err := topology.Load(path, topology.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(loaded.Warnings) != 3 || !strings.Contains(loaded.Warnings[0].String(), "8:68: `catalog.registry[0].subject` of binding `grpc0`: the methods of subject orders are not known here") {
		t.Errorf("warnings %v", loaded.Warnings)
	}
	events := strings.Replace(registryProtos, "bindings:\n", `bindings:
  cache0: {type: kafka, kind: cache_client, exit: cache1}
  cache1: {type: kafka, kind: cache_server, exit: kafka0}
  kafka0: {type: kafka, kind: client, options: {servers: ["kafka:9092"]}, exit: tcp2}
  tcp2: {type: tcp, kind: client}
  remote0:
    type: kafka-grpc
    kind: remote_server
    entry: cache0
    exit: grpc1
    routes: [{when: [{topic: events, reply-to: replies}], with: {method: shop.v1.Orders/Do, idempotency-key: "${message.value.id}", reply: {catalog: {registry: [{strategy: record}]}}}}]
`, 1)
	if loaded, err = topology.Load(write(t, "events.yaml", events), topology.Options{}); err != nil {
		t.Fatal(err)
	}
	if text := loaded.Text(); !strings.Contains(text, "shop.v1.Orders/Do -> http://orders:8080") || !strings.Contains(text, "`shop.v1.Orders/Do` is not checked") {
		t.Errorf("a method that is not known yet:\n%s", text)
	}
	for name, tt := range map[string]struct {
		answer topology.RegistryProto
		err    error
		want   string
	}{
		"gone":           {err: errors.New("connection refused"), want: "8:68: `catalog.registry[0].subject` of binding `grpc0`: no proto: connection refused"},
		"no proto":       {answer: topology.RegistryProto{Text: "{}"}, want: "8:68: subject `orders` does not compile: orders.proto:1:1"},
		"import missing": {answer: topology.RegistryProto{Text: `syntax = "proto3"; import "x.proto"; service S { rpc D(X) returns (X); }`}, want: "import `x.proto` is none of what the registry says that it refers to"},
		"two disagree":   {answer: topology.RegistryProto{Text: `syntax = "proto3"; package stock; service Stock { rpc Get(stream M) returns (M); } message M {}`}, want: "disagree on whether method `stock.Stock/Get` streams"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := topology.Load(path, topology.Options{Protos: func(of *topology.Registry, ref topology.SchemaRef) (topology.RegistryProto, error) {
				if ref.Subject == "orders" {
					return tt.answer, tt.err
				}
				return ask(of, ref)
			}})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}
