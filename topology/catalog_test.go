package topology_test

import (
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"kafkagrpc/topology"
)

// subjectsOf is a configuration with a catalog of files: options of it, then subjects.
func subjectsOf(options string, paths ...string) string {
	var subjects, refs strings.Builder
	for i, path := range paths {
		fmt.Fprintf(&subjects, "        s%d: {path: %s}\n", i, path)
		fmt.Fprintf(&refs, "{subject: s%d}, ", i)
	}
	text := fmt.Sprintf(catalogOf, "filesystem", "{path: X}")
	text = strings.Replace(text, "        s: {path: X}\n", subjects.String(), 1)
	text = strings.Replace(text, "{subject: s, version: latest}", strings.TrimSuffix(refs.String(), ", "), 1)
	return strings.Replace(text, "      subjects:\n", options+"      subjects:\n", 1)
}

// loadFiles loads the first of some files, and tells what it warns of, or what is wrong, with paths from its folder on.
func loadFiles(t *testing.T, files ...string) (*topology.Topology, []string) {
	t.Helper()
	path := write(t, files...)
	got, err := topology.Load(path, topology.Options{})
	var lines []string
	if err != nil {
		lines = strings.Split(err.Error(), "\n")
	} else {
		for _, w := range got.Warnings {
			if !strings.Contains(w.Message, "caches nothing") {
				lines = append(lines, w.Error())
			}
		}
	}
	for i := range lines {
		lines[i] = strings.ReplaceAll(lines[i], filepath.Dir(path)+"/", "")
		lines[i] = strings.ReplaceAll(lines[i], filepath.Dir(path), ".")
		lines[i] = regexp.MustCompile(`^zilla.yaml:\d+:\d+: `).ReplaceAllString(lines[i], "")
	}
	return got, lines
}

func methodNames(t *topology.Topology) []string {
	if t == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(t.Methods))
}

const (
	leftOut = "; it is left out, as nothing of the services needs it"
	roots   = "; name the folder that it is relative to in `options.roots` of the catalog"

	acmeService = `syntax = "proto3";
package acme.v1;
import "acme/v1/types.proto";
service S { rpc Call(Order) returns (Order); }
`
	acmeTypes = `syntax = "proto3";
package acme.v1;
message Order { string id = 1; }
`
	validated = `syntax = "proto3";
package p;
import "buf/validate/validate.proto";
import "nowhere.proto";
option (acme.owner) = "us";
message M {
  string a = 1 [(buf.validate.field).string.min_len = 1, deprecated = true];
  string b = 2 [(buf.validate.field).string = {min_len: 1, max_len: 2}];
  repeated int32 c = 3 [packed = false, json_name = "C", (validate.rules) = {repeated: {min_items: 1}}];
}
service S { option (acme.team) = {name: "x" members: ["y"]}; rpc Call(M) returns (M) { option (acme.cost) = 3; } }
`
)

func TestProtosAsTheyAre(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		files   []string
		methods []string
		lines   []string // warnings, or where there is no method, problems
	}{
		"the root is told by the package": {
			[]string{"zilla.yaml", subjectsOf("", "proto/acme/v1/svc.proto"), "proto/acme/v1/svc.proto", acmeService, "proto/acme/v1/types.proto", acmeTypes},
			[]string{"acme.v1.S/Call"}, nil,
		},
		"the root is the configuration's folder": {
			[]string{"zilla.yaml", subjectsOf("", "acme/v1/svc.proto"), "acme/v1/svc.proto", acmeService, "acme/v1/types.proto", acmeTypes},
			[]string{"acme.v1.S/Call"}, nil,
		},
		"the configuration is inside of the package": {
			[]string{"proto/acme/v1/zilla.yaml", subjectsOf("", "svc.proto"), "proto/acme/v1/svc.proto", acmeService, "proto/acme/v1/types.proto", acmeTypes},
			[]string{"acme.v1.S/Call"}, nil,
		},
		"the root is named": {
			[]string{"zilla.yaml", subjectsOf("      roots: [nothing, third]\n", "services/svc.proto"), "nothing/README", "",
				"services/svc.proto", strings.Replace(acmeService, "package acme.v1", "package other; import \"beside.proto\"", 1) + "message Order { acme.v1.Order o = 1; Beside b = 2; }",
				"services/beside.proto", "syntax = \"proto3\"; package other; message Beside {}", "third/acme/v1/types.proto", acmeTypes},
			[]string{"other.S/Call"}, nil,
		},
		"a named root that is not there": {
			[]string{"zilla.yaml", subjectsOf("      roots: [missing, zilla.yaml]\n", "acme/v1/types.proto"), "acme/v1/types.proto", acmeTypes},
			nil, []string{"`catalogs.c.options.roots[0]` cannot be used: stat missing: no such file or directory", "`catalogs.c.options.roots[1]`: `zilla.yaml` is no folder"},
		},
		"a root is nowhere": {
			[]string{"zilla.yaml", subjectsOf("", "proto/v1/svc.proto"), "proto/v1/svc.proto", acmeService, "proto/acme/v1/types.proto", acmeTypes},
			nil, []string{
				"subject `s0` does not compile: proto/v1/svc.proto:3:8: import `acme/v1/types.proto` is in none of the folders `proto/v1`, `.`" + roots,
				"subject `s0` does not compile: proto/v1/svc.proto:4:22: method acme.v1.S.Call: unknown request type Order",
				"subject `s0` does not compile: proto/v1/svc.proto:4:38: method acme.v1.S.Call: unknown response type Order",
			},
		},
		"one file under two names": {
			[]string{"zilla.yaml", subjectsOf("", "proto/acme/v1/svc.proto"), "proto/acme/v1/svc.proto", strings.Replace(acmeService, "import", "import \"more.proto\";\nimport", 1),
				"proto/acme/v1/more.proto", "syntax = \"proto3\";\npackage acme.v1;\nimport \"types.proto\";\nmessage More { Order o = 1; }\n", "proto/acme/v1/types.proto", acmeTypes},
			[]string{"acme.v1.S/Call"}, nil,
		},
		"googleapis": {
			[]string{"zilla.yaml", subjectsOf("", "s.proto"), "s.proto", `syntax = "proto3";
package p;
import "google/api/annotations.proto";
import "google/api/client.proto";
import "google/api/field_behavior.proto";
import "google/api/field_info.proto";
import "google/api/httpbody.proto";
import "google/api/launch_stage.proto";
import "google/api/resource.proto";
import "google/api/routing.proto";
import "google/api/visibility.proto";
import "google/longrunning/operations.proto";
import "google/rpc/code.proto";
import "google/rpc/error_details.proto";
import "google/rpc/status.proto";
import "google/type/date.proto";
import "google/type/money.proto";
import "protoc-gen-openapiv2/options/annotations.proto";
import "google/protobuf/cpp_features.proto";
option (grpc.gateway.protoc_gen_openapiv2.options.openapiv2_swagger) = {info: {title: "x"}};
message M {
  option (google.api.resource) = {type: "p/M" pattern: "ms/{m}"};
  string a = 1 [(google.api.field_behavior) = REQUIRED, (google.api.field_info).format = UUID4];
  google.type.Date d = 2;
  google.type.Money m = 3;
  google.rpc.Status s = 4;
  google.rpc.Code c = 5;
  google.rpc.ErrorInfo e = 6;
  google.api.LaunchStage l = 7;
}
service S {
  option (google.api.default_host) = "p.example";
  rpc Call(M) returns (google.longrunning.Operation) {
    option (google.api.http) = {post: "/v1/{a=ms/*}" body: "*"};
    option (google.longrunning.operation_info) = {response_type: "M" metadata_type: "M"};
  }
  rpc Raw(M) returns (google.api.HttpBody);
}
`},
			[]string{"p.S/Call", "p.S/Raw"}, nil,
		},
		"a copy of googleapis among the files": {
			[]string{"zilla.yaml", subjectsOf("", "s.proto"), "s.proto", "syntax = \"proto3\"; package p; import \"google/api/annotations.proto\"; import \"google/api/http.proto\";\n" +
				"message M { google.api.HttpRule r = 1; } service S { rpc Call(M) returns (M) { option (google.api.http) = {mine: \"x\"}; } }",
				"google/api/annotations.proto", "syntax = \"proto3\"; package google.api; import \"google/api/http.proto\"; import \"google/protobuf/descriptor.proto\"; extend google.protobuf.MethodOptions { HttpRule http = 72295728; }",
				"google/api/http.proto", "syntax = \"proto3\"; package google.api; message HttpRule { string mine = 1; }"},
			[]string{"p.S/Call"}, nil,
		},
		"options that nobody knows": {
			[]string{"zilla.yaml", subjectsOf("", "s.proto"), "s.proto", validated},
			[]string{"p.S/Call"},
			[]string{
				"subject `s0`: s.proto:11:20: option `(acme.team)`: service p.S: unknown extension acme.team" + leftOut,
				"subject `s0`: s.proto:11:95: option `(acme.cost)`: method p.S.Call: unknown extension acme.cost" + leftOut,
				"subject `s0`: s.proto:3:8: import `buf/validate/validate.proto` is in none of the folders `.`" + leftOut,
				"subject `s0`: s.proto:4:8: import `nowhere.proto` is in none of the folders `.`" + leftOut,
				"subject `s0`: s.proto:5:8: option `(acme.owner)`: unknown extension acme.owner" + leftOut,
				"subject `s0`: s.proto:7:17: option `(buf.validate.field)`, 2 times: field p.M.a: unknown extension buf.validate.field" + leftOut,
				"subject `s0`: s.proto:9:58: option `(validate.rules)`: field p.M.c: unknown extension validate.rules" + leftOut,
			},
		},
		"options that take no such value": {
			[]string{"zilla.yaml", subjectsOf("", "s.proto"), "s.proto", `syntax = "proto3";
package p;
import "google/api/annotations.proto";
message M {}
service S { rpc Call(M) returns (M) {
  option (google.api.http) = {get: "/v1", unknown: 1, other: 2};
  option (google.api.method_signature) = "x";
  option idempotency_level = IDEMPOTENT;
} }
`},
			[]string{"p.S/Call"},
			[]string{
				"subject `s0`: s.proto:6:43: option `(google.api.http)`: method p.S.Call: option (google.api.http): field unknown not found" + leftOut,
				"subject `s0`: s.proto:7:10: option `(google.api.method_signature)`: method p.S.Call: unknown extension google.api.method_signature" + leftOut,
			},
		},
		"files of options that cannot be read": {
			[]string{"zilla.yaml", subjectsOf("", "s.proto"), "s.proto", `syntax = "proto3";
package p;
import "syntax.proto";
import "type.proto";
import "between.proto";
message M { string a = 1 [(p.typed).x = 1]; }
service S { option (p.spoilt) = 1; rpc Call(M) returns (M); }
`, "syntax.proto", "syntax = \"proto3\";\nmessage {\n", "between.proto", "syntax = \"proto3\"; import public \"syntax.proto\";",
				"type.proto", "syntax = \"proto2\"; package p; import \"google/protobuf/descriptor.proto\"; import \"missing.proto\";\nextend google.protobuf.FieldOptions { optional Missing typed = 50000; }"},
			[]string{"p.S/Call"},
			[]string{
				"subject `s0`: s.proto:6:27: option `(p.typed)`: field p.M.a: unknown extension p.typed" + leftOut,
				"subject `s0`: s.proto:7:20: option `(p.spoilt)`: service p.S: unknown extension p.spoilt" + leftOut,
				"subject `s0`: syntax.proto:2:9: syntax error: unexpected '{'" + leftOut,
				"subject `s0`: type.proto:1:81: import `missing.proto` is in none of the folders `.`" + leftOut,
				"subject `s0`: type.proto:2:48: extension p.typed: unknown type Missing" + leftOut,
			},
		},
		"files that are needed and cannot be read": {
			[]string{"zilla.yaml", subjectsOf("", "s.proto"), "s.proto", `syntax = "proto3";
package p;
import "syntax.proto";
import "google/protobuf/nothing.proto";
service S { rpc Call(M) returns (M) { option (acme.cost) = 3; } }
`, "syntax.proto", "syntax = \"proto3\";\npackage p;\nmessage M {\n  string a = ;\n  string b = ;\n}\n"},
			nil, []string{
				"subject `s0` does not compile: s.proto:4:8: import `google/protobuf/nothing.proto` is in none of the folders `.`" + roots,
				"subject `s0` does not compile: s.proto:5:22: method p.S.Call: unknown request type M",
				"subject `s0` does not compile: s.proto:5:34: method p.S.Call: unknown response type M",
				"subject `s0` does not compile: syntax.proto:4:14: syntax error: unexpected ';', expecting int literal",
				"subject `s0` does not compile: syntax.proto:5:14: syntax error: unexpected ';', expecting int literal",
			},
		},
		"cycles, twice the same name, and imports that are not there": {
			[]string{"zilla.yaml", subjectsOf("", "s.proto"), "s.proto", `syntax = "proto3";
package p;
import "a.proto";
import "missing.proto";
import "s.proto";
message M {}
service S { rpc Call(M) returns (M); }
`, "a.proto", "syntax = \"proto3\";\npackage p;\nimport \"b.proto\";\nmessage A {}\nmessage B {}\n",
				"b.proto", "syntax = \"proto3\";\npackage p;\nimport \"a.proto\";\nimport \"s.proto\";\nmessage B {}\n"},
			nil, []string{
				"subject `s0` does not compile: a.proto:5:9: symbol \"p.B\" already defined at b.proto:5:9",
				"subject `s0` does not compile: b.proto:3:8: imports form a cycle: a.proto -> b.proto -> a.proto",
				"subject `s0` does not compile: b.proto:4:8: imports form a cycle: s.proto -> a.proto -> b.proto -> s.proto",
				"subject `s0` does not compile: s.proto:4:8: import `missing.proto` is in none of the folders `.`" + roots,
				"subject `s0` does not compile: s.proto:5:8: imports form a cycle: s.proto -> s.proto",
			},
		},
		"standard options that are wrong": {
			[]string{"zilla.yaml", subjectsOf("", "s.proto"), "s.proto", "syntax = \"proto3\";\noption java_pakage = \"x\";\nmessage M { string a = 1 [deprecated = 3]; }\nservice S { rpc Call(M) returns (M); }\n"},
			nil, []string{
				"subject `s0` does not compile: s.proto:2:8: option java_pakage: field java_pakage of google.protobuf.FileOptions does not exist",
				"subject `s0` does not compile: s.proto:3:40: field M.a: option deprecated: expecting bool, got integer",
			},
		},
		"edition 2024": {
			[]string{"zilla.yaml", subjectsOf("", "proto/acme/v1/svc.proto"), "proto/acme/v1/svc.proto", `// edition = "2023";
edition = "2024";
package acme.v1;
import "acme/v1/types.proto";
import option "acme/v1/options.proto";
import option "missing.proto";
import "google/protobuf/go_features.proto";
option features.(pb.go).api_level = API_OPAQUE;
option features.enforce_naming_style = STYLE_LEGACY;
option features.default_symbol_visibility = LOCAL_ALL;
option features.field_presence = IMPLICIT;
export message Request {
  local enum Kind { KIND_NONE = 0; }
  local message Inner { Kind kind = 1; }
  local message = 1;
  export enum = 2 [(acme.v1.note) = "import option"];
  Inner inner = 3 [features.message_encoding = DELIMITED];
  /* export message Not { */ string text = 4 [default = "local message X {", features.field_presence = EXPLICIT];
}
local message local { string export = 1; }
message export {}
service S { rpc Call(Request) returns (stream Order); }
`, "proto/acme/v1/types.proto", acmeTypes, "proto/acme/v1/options.proto", "edition = '2024'; package acme.v1; import option 'google/protobuf/descriptor.proto'; extend google.protobuf.FieldOptions { string note = 50000; }"},
			[]string{"acme.v1.S/Call"},
			[]string{"subject `s0`: proto/acme/v1/svc.proto:6:15: import `missing.proto` is in none of the folders `proto`, `proto/acme/v1`, `.`" + leftOut},
		},
		"edition 2024, from another editor": {
			[]string{"zilla.yaml", subjectsOf("", "proto/acme/v1/svc.proto"), "proto/acme/v1/svc.proto", "\ufeff" + strings.ReplaceAll(strings.Replace(acmeService, "syntax = \"proto3\"", "edition = \"2024\"", 1), "\n", "\r\n"),
				"proto/acme/v1/types.proto", "\ufeff" + strings.ReplaceAll(acmeTypes, "\n", "\r\n")},
			[]string{"acme.v1.S/Call"}, nil,
		},
		"an error in a file of edition 2024": {
			[]string{"zilla.yaml", subjectsOf("", "s.proto"), "s.proto", "edition = \"2024\";\nexport message M { local enum E { A = 0; } Nothing n = 1; }\nservice S { rpc Call(M) returns (M); }\n"},
			nil, []string{"subject `s0` does not compile: s.proto:2:44: field M.n: unknown type Nothing"},
		},
		"editions that are not known": {
			[]string{"zilla.yaml", subjectsOf("", "s.proto", "t.proto"), "s.proto", "edition = \"2026\";\nmessage M {}\nservice S { rpc Call(M) returns (M); }\n", "t.proto", "syntax = \"proto4\";"},
			nil, []string{
				"subject `s0` does not compile: s.proto:1:11: edition value \"2026\" not recognized; should be one of [\"2023\", \"2024\"]",
				"subject `s1` does not compile: t.proto:1:10: syntax value must be \"proto2\" or \"proto3\"",
			},
		},
		"no method": {
			[]string{"zilla.yaml", subjectsOf("", "proto/acme/v1/types.proto", "empty.proto"), "proto/acme/v1/types.proto", acmeTypes, "empty.proto", "syntax = \"proto3\"; service S {}"},
			nil, []string{
				"subject `s0` gives no method: there is no service with one in `proto/acme/v1/types.proto`",
				"subject `s1` gives no method: there is no service with one in `empty.proto`",
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, lines := loadFiles(t, tt.files...)
			if diff := cmp.Diff(tt.methods, methodNames(got)); diff != "" {
				t.Errorf("methods (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.lines, lines); diff != "" {
				t.Errorf("lines (-want +got):\n%s", diff)
			}
		})
	}
}

// A file of edition 2024 is one in reflection too, and means on the wire what its features say.
func TestEdition2024OnTheWire(t *testing.T) {
	t.Parallel()
	got, lines := loadFiles(t, "zilla.yaml", subjectsOf("", "s.proto"), "s.proto", `edition = "2024";
message M {
  string a = 1 [features.field_presence = IMPLICIT];
  repeated int32 b = 2;
  repeated int32 c = 3 [features.repeated_field_encoding = EXPANDED];
  M d = 4 [features.message_encoding = DELIMITED];
  string e = 5;
}
service S { rpc Call(M) returns (M); }
`)
	if len(lines) > 0 {
		t.Fatal(lines)
	}
	d, err := got.Protos.FindDescriptorByName("M")
	if err != nil {
		t.Fatal(err)
	}
	file := protodesc.ToFileDescriptorProto(d.ParentFile())
	if file.GetEdition() != descriptorpb.Edition_EDITION_2024 {
		t.Errorf("reflection tells of edition %v", file.GetEdition())
	}
	// Read as a client of reflection does.
	read, err := protodesc.NewFile(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []protoreflect.MessageDescriptor{d.(protoreflect.MessageDescriptor), read.Messages().Get(0)} {
		message := dynamicpb.NewMessage(m)
		if err := protojson.Unmarshal([]byte(`{"a": "", "b": [1, 2], "c": [1, 2], "d": {}, "e": ""}`), message); err != nil {
			t.Fatal(err)
		}
		data, err := proto.MarshalOptions{Deterministic: true}.Marshal(message)
		if err != nil {
			t.Fatal(err)
		}
		if want := "\x12\x02\x01\x02\x18\x01\x18\x02\x23\x24\x2a\x00"; string(data) != want {
			t.Errorf("on the wire it is %x, want %x", data, want)
		}
	}
}

// Each file has a name of its own, by which reflection tells it, also where the names of several end alike.
func TestNamesOfFiles(t *testing.T) {
	t.Parallel()
	file := func(name, pkg string) []string {
		return []string{name + "/service.proto", "syntax = \"proto3\";\npackage " + pkg + ";\nimport \"common.proto\";\nservice S { rpc Call(Common) returns (Common); }\n",
			name + "/common.proto", "syntax = \"proto3\";\npackage " + pkg + ";\nmessage Common { string " + pkg + " = 1; }\n"}
	}
	inline := "  i:\n    type: inline\n    options: {subjects: {service: {schema: \"syntax = 'proto3'; package i; message M {} service S { rpc Call(M) returns (M); }\"}}}\n"
	text := strings.Replace(subjectsOf("", "a/service.proto", "b/service.proto", "../out/service.proto", "proto/d/service.proto"), "bindings:\n", inline+"bindings:\n", 1)
	files := slices.Concat([]string{"in/zilla.yaml", text}, file("in/a", "aa"), file("in/b", "bb"), file("out", "cc"), file("in/proto/d", "d"))
	got, lines := loadFiles(t, files...)
	if len(lines) > 0 {
		t.Fatal(lines)
	}
	seen := map[string]bool{}
	for _, pkg := range []protoreflect.FullName{"aa", "bb", "cc", "d", "i"} {
		d, err := got.Protos.FindDescriptorByName(pkg + ".S")
		if err != nil {
			t.Fatal(err)
		}
		path := d.ParentFile().Path()
		if found, err := got.Protos.FindFileByPath(path); err != nil || found != d.ParentFile() {
			t.Errorf("file %s is another one: %v, %v", path, found, err)
		}
		if seen[path] {
			t.Errorf("file %s is there twice", path)
		}
		seen[path] = true
		for i := range d.ParentFile().Imports().Len() {
			imported := d.ParentFile().Imports().Get(i)
			if imported.Package() != pkg {
				t.Errorf("%s imports %s of %s", path, imported.Path(), imported.Package())
			}
			if found, err := got.Protos.FindFileByPath(imported.Path()); err != nil || found.Package() != pkg {
				t.Errorf("file %s is another one: %v, %v", imported.Path(), found, err)
			}
		}
	}
	for _, path := range []string{"service.proto", "b/service.proto", "d/service.proto"} {
		if !seen[path] {
			t.Errorf("no file is called %s: %v", path, seen)
		}
	}
}

// Whatever a proto holds, it is compiled or refused.
func FuzzProto(f *testing.F) {
	for _, text := range []string{acmeTypes, validated, "edition = \"2024\";\nimport option \"x\";\nexport message M { local enum E { A = 0; } }", "package a", "\"", "/*", "import \"s.proto\";"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		_, err := topology.Load(write(t, "zilla.yaml", subjectsOf("", "s.proto"), "s.proto", text), topology.Options{})
		if err != nil && err.Error() == "" {
			t.Error("it is refused without a word")
		}
	})
}
