package schemaregistry_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"kafkagrpc/internal/payload"
	"kafkagrpc/topology"
)

// artifact is a version of one in Apicurio's registry.
type artifact struct {
	group, name, version, kind, content string
	global, contentID                   int
	references                          []map[string]string
}

// apicurio is the core API of Apicurio's registry, as its documentation has it.
func apicurio(t *testing.T, all ...artifact) string {
	t.Helper()
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, what string, find func(artifact) bool) {
		for i := len(all) - 1; i >= 0; i-- { // the latest comes first
			a := all[i]
			if !find(a) {
				continue
			}
			switch what {
			case "meta":
				_ = json.NewEncoder(w).Encode(map[string]any{"id": a.name, "groupId": a.group, "type": a.kind, "version": a.version, "globalId": a.global, "contentId": a.contentID})
			case "references":
				_ = json.NewEncoder(w).Encode(a.references)
			default:
				_, _ = w.Write([]byte(a.content))
			}
			return
		}
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"error_code": 404, "message": "No artifact", "name": "ArtifactNotFoundException"}`)
	}
	const api = "GET /apis/registry/v2"
	for _, what := range []string{"", "references"} {
		path := strings.TrimSuffix("/"+what, "/")
		mux.HandleFunc(api+"/ids/globalIds/{id}"+path, func(w http.ResponseWriter, r *http.Request) {
			answer(w, what, func(a artifact) bool { return fmt.Sprint(a.global) == r.PathValue("id") })
		})
		mux.HandleFunc(api+"/ids/contentIds/{id}"+path, func(w http.ResponseWriter, r *http.Request) {
			answer(w, what, func(a artifact) bool { return fmt.Sprint(a.contentID) == r.PathValue("id") })
		})
	}
	for _, what := range []string{"", "meta", "references"} {
		mux.HandleFunc(api+"/groups/{group}/artifacts/{name}/versions/{version}"+strings.TrimSuffix("/"+what, "/"), func(w http.ResponseWriter, r *http.Request) {
			answer(w, what, func(a artifact) bool {
				return a.group == r.PathValue("group") && a.name == r.PathValue("name") && a.version == r.PathValue("version")
			})
		})
	}
	mux.HandleFunc(api+"/groups/{group}/artifacts/{name}/meta", func(w http.ResponseWriter, r *http.Request) {
		answer(w, "meta", func(a artifact) bool { return a.group == r.PathValue("group") && a.name == r.PathValue("name") })
	})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret-word" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestApicurio(t *testing.T) {
	t.Parallel()
	item := `{"type":"record","name":"Item","fields":[{"name":"value","type":"string"}]}`
	url := apicurio(t,
		artifact{group: "shop", name: "items", version: "1", kind: "AVRO", content: `"string"`, global: 10, contentID: 1},
		artifact{group: "shop", name: "items", version: "2", kind: "AVRO", content: item, global: 11, contentID: 2},
		artifact{group: "shop", name: "boxes", version: "1", kind: "AVRO", content: `{"type":"record","name":"Box","fields":[{"name":"item","type":"Item"}]}`, global: 12, contentID: 3,
			references: []map[string]string{{"groupId": "shop", "artifactId": "items", "version": "2", "name": "Item"}}},
		artifact{group: "common", name: "money", version: "first", kind: "PROTOBUF", content: `syntax = "proto3"; message Money {}`, global: 20, contentID: 20},
		artifact{group: "shop", name: "orders", version: "1", kind: "PROTOBUF", content: `syntax = "proto3"; import "money.proto"; service S { rpc D(Money) returns (Money); }`, global: 21, contentID: 21,
			references: []map[string]string{{"groupId": "common", "artifactId": "money", "version": "first", "name": "money.proto"}}},
		artifact{group: "shop", name: "json", version: "1", kind: "JSON", content: `{"type": "object"}`, global: 30, contentID: 30},
	)
	ofContents := topology.Registry{URL: url, Apicurio: true, Group: "shop", ContentID: true, IDBytes: 4, Authorization: "Bearer secret-word"}
	ofAll := ofContents
	ofAll.ContentID, ofAll.IDBytes = false, 8
	contents, global := open(t, ofContents), open(t, ofAll)
	if err := global.Ping(t.Context()); err != nil {
		t.Error(err)
	}

	t.Run("protos with references", func(t *testing.T) {
		p, err := global.Proto(t.Context(), topology.SchemaRef{Subject: "orders"})
		if err != nil || p.ID != 21 || p.Version != 1 || len(p.Imports) != 1 || p.Imports[0].Name != "money.proto" || !strings.Contains(p.Imports[0].Text, "Money") {
			t.Errorf("%+v, %v", p, err)
		}
		if p, err = global.Proto(t.Context(), topology.SchemaRef{ID: 21}); err != nil || len(p.Imports) != 1 {
			t.Errorf("%+v, %v", p, err)
		}
		if _, err = global.Proto(t.Context(), topology.SchemaRef{Subject: "items"}); err == nil || !strings.Contains(err.Error(), "is no proto") {
			t.Error(err)
		}
		if _, err = global.Proto(t.Context(), topology.SchemaRef{Subject: "none"}); err == nil || !strings.Contains(err.Error(), "subject none is unknown") {
			t.Error(err)
		}
	})

	t.Run("schemas", func(t *testing.T) {
		for _, tt := range []struct {
			ref     topology.SchemaRef
			id      int
			content int
			format  payload.Format
		}{
			{topology.SchemaRef{Subject: "items"}, 11, 2, payload.FormatAvro},
			{topology.SchemaRef{Subject: "items", Version: 1}, 10, 1, payload.FormatAvro},
			{topology.SchemaRef{Subject: "boxes"}, 12, 3, payload.FormatAvro},
			{topology.SchemaRef{Subject: "json"}, 30, 30, payload.FormatJSON},
			{topology.SchemaRef{Subject: "orders"}, 21, 21, payload.FormatProtobuf},
		} {
			s, err := global.Find(t.Context(), tt.ref)
			if err != nil && tt.format != payload.FormatProtobuf || s.ID != tt.id || s.Format != tt.format {
				t.Errorf("%s: %+v, %v", tt.ref, s, err)
			}
			if s, err = contents.Find(t.Context(), tt.ref); s.ID != tt.content {
				t.Errorf("%s: %+v, %v", tt.ref, s, err)
			}
			if s, err = contents.Schema(t.Context(), tt.content); s == nil || s.Format != tt.format {
				t.Errorf("%s: %+v, %v", tt.ref, s, err)
			}
		}
	})

	// The id has 8 bytes, or 4.
	text := append([]byte{4}, "hi"...)
	long := append(binary.BigEndian.AppendUint64([]byte{0}, 11), text...)
	short := append(binary.BigEndian.AppendUint32([]byte{0}, 2), text...)
	of := (&wrapperspb.StringValue{}).ProtoReflect().Descriptor()
	for name, tt := range map[string]struct {
		schemas payload.Schemas
		id      int
		value   []byte
	}{"8 bytes": {global, 11, long}, "4 bytes": {contents, 2, short}} {
		t.Run(name, func(t *testing.T) {
			message, err := payload.FramedAvro(tt.schemas, of, payload.RefuseUnknown).Decode(t.Context(), tt.value)
			if err != nil || string(message) != "\x0a\x02hi" {
				t.Fatalf("%q, %v", message, err)
			}
			schema, err := tt.schemas.Schema(t.Context(), tt.id)
			if err != nil {
				t.Fatal(err)
			}
			value, err := payload.FramedAvroEncoder(of, func() *payload.Schema { return schema }).Encode(message)
			if err != nil || string(value) != string(tt.value) {
				t.Errorf("%q, %v, want %q", value, err, tt.value)
			}
		})
	}
	if _, err := payload.FramedAvro(global, of, payload.RefuseUnknown).Decode(t.Context(), short); !errors.As(err, new(*payload.Error)) {
		t.Errorf("a frame of 4 bytes: %v", err)
	}

	stranger := ofAll
	stranger.Authorization = "Bearer other"
	if err := open(t, stranger).Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "401") || strings.Contains(err.Error(), "other") {
		t.Error(err)
	}
}
