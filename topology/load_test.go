package topology_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kafkagrpc/topology"
)

// write puts files into a folder of their own and returns the path of the first.
func write(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		path := filepath.Join(dir, files[i])
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(files[i+1]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, files[0])
}

func TestFileThatIsNotThere(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "zilla.yaml")
	_, err := topology.Load(path, topology.Options{})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want an error that is fs.ErrNotExist", err)
	}
	var problems topology.Problems
	if !errors.As(err, &problems) || len(problems) != 1 || problems[0].File != path {
		t.Errorf("got %#v, want one problem with the file", err)
	}
}

func TestProblemPrintsItsPosition(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		problem topology.Problem
		want    string
	}{
		"in a line":    {topology.Problem{File: "a.yaml", Line: 3, Column: 7, Message: "wrong"}, "a.yaml:3:7: wrong"},
		"whole file":   {topology.Problem{File: "a.yaml", Message: "wrong"}, "a.yaml: wrong"},
		"with a cause": {topology.Problem{File: "a.yaml", Message: "wrong", Err: fs.ErrNotExist}, "a.yaml: wrong"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := tt.problem.Error(); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if !errors.Is(topology.Problems{tt.problem}, tt.problem.Err) && tt.problem.Err != nil {
				t.Error("the cause is lost")
			}
		})
	}
}

// within fails when f does not return: a file must never hang the program. The deadline is far above what any
// of the inputs needs, also under the race detector.
func within(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(2 * time.Minute):
		t.Fatal("does not return")
	}
}

func TestHostileFiles(t *testing.T) {
	t.Parallel()
	fill := func(s string) string { return strings.Repeat(s, 1<<18/len(s)) }
	bomb := "a: &a [x, x, x, x, x, x, x, x, x]\n"
	for c := 'b'; c < 'z'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c, ", c-1), 9), ", "))
	}
	indented := ""
	for i := 0; len(indented) < 100_000; i++ {
		indented += strings.Repeat(" ", i) + "a:\n"
	}
	tests := map[string]struct{ text, want string }{
		"ten megabytes":     {strings.Repeat("a: b # comment\n", 700_000), "larger than 1048576 bytes"},
		"alias bomb":        {bomb, "anchors and aliases are not supported"},
		"alias of itself":   {"a: &a [*a]\n", "anchors and aliases are not supported"},
		"merge of itself":   {"a: &a\n  <<: *a\n", "not supported"},
		"brackets":          {fill("["), "more than 20000 YAML tokens"},
		"braces":            {fill("{a: "), "more than 20000 YAML tokens"},
		"dashes":            {fill("- "), "more than 20000 YAML tokens"},
		"questions":         {fill("? "), "more than 20000 YAML tokens"},
		"lines":             {fill("a: b\n"), "more than 20000 YAML tokens"},
		"documents":         {fill("---\n"), "more than 20000 YAML tokens"},
		"brackets in limit": {strings.Repeat("[", 19_000), "this is not YAML"},
		"dashes in limit":   {strings.Repeat("- ", 19_000), "64 levels deep"},
		"lines in limit":    {strings.Repeat("a: b\n", 6_500), "given twice"},
		"indentation":       {indented, "64 levels deep"},
		"one long word":     {fill("a"), "must be a mapping"},
		"long quote":        {"a: \"" + fill("b\\n"), "this is not YAML"},
		"long literal":      {"name: |\n" + fill("  b\n"), "`bindings` is missing"},
		"expressions":       {"name: " + fill("${{env.A}}"), "more than 100 expressions"},
		"open expressions":  {"name: " + fill("${{"), "more than 100 expressions"},
		"zero bytes":        {fill("\x00"), ""},
		"not UTF-8":         {"name: \xff\xfe", "not UTF-8"},
		"blank":             {fill("\n"), "the file is empty"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := write(t, "zilla.yaml", tt.text)
			within(t, func() {
				_, err := topology.Load(path, topology.Options{LookupEnv: lookup(nil)})
				if err == nil {
					t.Error("loaded without a problem")
				} else if !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %.300s\nwant %q", err, tt.want)
				}
			})
		})
	}
}

// TestManyNames has no limit to run into, but must not take time that grows with the square of what is wrong.
func TestManyNames(t *testing.T) {
	t.Parallel()
	text := "name: x\nbindings:\n"
	for i := range 1200 {
		text += fmt.Sprintf("  b%d: {type: tls, kind: server, exit: nowhere%d}\n", i, i)
	}
	path := write(t, "zilla.yaml", text)
	within(t, func() {
		_, err := topology.Load(path, topology.Options{})
		var problems topology.Problems
		if !errors.As(err, &problems) || len(problems) < 1200 {
			t.Errorf("got %d problems, want at least one for each exit", len(problems))
		}
	})
}

func TestByteOrderMark(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/small.good.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll("\ufeff"+string(data), "\n", "\r\n")
	root, err := filepath.Abs("testdata/seed")
	if err != nil {
		t.Fatal(err)
	}
	text = strings.ReplaceAll(text, "seed/", root+"/")
	if _, err := topology.Load(write(t, "zilla.yaml", text), topology.Options{}); err != nil {
		t.Errorf("a file with a byte order mark and CRLF does not load: %v", err)
	}
}

func TestValueOfVariableIsNotExpandedAgain(t *testing.T) {
	t.Parallel()
	path := write(t, "zilla.yaml", "name: ${{env.A}}\nbindings:\n  b: {type: kafka-grpc, kind: remote_server}\n")
	_, err := topology.Load(path, topology.Options{LookupEnv: lookup(map[string]string{"A": "${{env.B}}"})})
	if err == nil || strings.Contains(err.Error(), "`B`") {
		t.Errorf("got %v", err)
	}
}

// catalogOf is a configuration with nothing but a catalog of one subject, and what must be there.
const catalogOf = `name: x
catalogs:
  c:
    type: %s
    options:
      subjects:
        s: %s
bindings:
  tcp0: {type: tcp, kind: server, options: {port: 7151}, exit: http0}
  http0: {type: http, kind: server, exit: grpc0}
  grpc0: {type: grpc, kind: server, catalog: {c: [{subject: s, version: latest}]}, exit: produce0}
  produce0: {type: grpc-kafka, kind: proxy, exit: cache0, routes: [{with: {capability: produce, topic: a, reply-to: b}}]}
  cache0: {type: kafka, kind: cache_client, exit: cache1}
  cache1: {type: kafka, kind: cache_server, exit: kafka0}
  kafka0: {type: kafka, kind: client, options: {servers: ["kafka:9092"]}, exit: tcp1}
  tcp1: {type: tcp, kind: client}
`

func TestCatalogs(t *testing.T) {
	t.Parallel()
	const service = "syntax = \"proto3\";\npackage p;\nimport \"google/protobuf/empty.proto\";\nimport \"beside.proto\";\nimport \"shared/above.proto\";\n" +
		"service S { rpc Call(Beside) returns (stream Above); rpc Nothing(google.protobuf.Empty) returns (google.protobuf.Empty); }\n"
	const message = "syntax = \"proto3\";\npackage p;\nmessage %s {}\n"
	want := topology.Methods{"p.S/Call": {ServerStreams: true}, "p.S/Nothing": {}}
	tests := map[string]struct {
		files []string
		want  topology.Methods
	}{
		"imports beside the proto, beside the configuration, and built in": {
			[]string{"zilla.yaml", fmt.Sprintf(catalogOf, "filesystem", "{path: protos/s.proto}"), "protos/s.proto", service,
				"protos/beside.proto", fmt.Sprintf(message, "Beside"), "shared/above.proto", fmt.Sprintf(message, "Above")}, want,
		},
		"inline": {
			[]string{"zilla.yaml", fmt.Sprintf(catalogOf, "inline", "\n          version: v1\n          schema: |\n            "+
				strings.ReplaceAll(service, "\n", "\n            ")),
				"beside.proto", fmt.Sprintf(message, "Beside"), "shared/above.proto", fmt.Sprintf(message, "Above")}, want,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := topology.Load(write(t, tt.files...), topology.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got.Methods); diff != "" {
				t.Errorf("methods (-want +got):\n%s", diff)
			}
		})
	}
}

func TestProtoThatBlocksIsRefused(t *testing.T) {
	t.Parallel()
	path := write(t, "zilla.yaml", fmt.Sprintf(catalogOf, "filesystem", "{path: /dev/zero}"))
	within(t, func() {
		if _, err := topology.Load(path, topology.Options{}); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("got %v", err)
		}
	})
}

// FuzzLoad holds that no bytes make Load panic or hang, and that its result can be used: problems are sorted and
// complete, and a topology can be printed.
func FuzzLoad(f *testing.F) {
	for _, pattern := range []string{"testdata/*.yaml", seed} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			f.Fatalf("no file matches %s (%v)", pattern, err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	dir := f.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata")); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := os.CreateTemp(dir, "*.fuzz")
		if err != nil {
			t.Fatal(err)
		}
		defer os.Remove(file.Name())
		defer file.Close()
		if _, err := file.Write(data); err != nil {
			t.Fatal(err)
		}
		got, err := topology.Load(file.Name(), topology.Options{LookupEnv: lookup(seedEnv)})
		if err == nil {
			if _, err := got.JSON(); err != nil {
				t.Error(err)
			}
			if got.Text() == "" || got.Mermaid() == "" {
				t.Error("a topology prints as nothing")
			}
			return
		}
		var problems topology.Problems
		if !errors.As(err, &problems) || len(problems) == 0 {
			t.Fatalf("the error is no list of problems: %v", err)
		}
		if !slices.IsSortedFunc(problems, func(a, b topology.Problem) int {
			if a.Line != b.Line {
				return a.Line - b.Line
			}
			return a.Column - b.Column
		}) {
			t.Errorf("problems are not in the order of the file:\n%v", problems)
		}
		for _, p := range problems {
			if p.Message == "" || strings.Contains(p.Message, "\n") || p.Line < 0 || p.Column < 0 || p.File != file.Name() {
				t.Errorf("a problem is incomplete: %#v", p)
			}
		}
	})
}
