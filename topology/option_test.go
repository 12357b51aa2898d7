package topology_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kafkagrpc/topology"
)

// withOptions is a configuration whose bindings take the options of those that have any.
const withOptions = `name: x
bindings:
  tcp0: {type: tcp, kind: server, options: {port: 7151}, exit: http0}
  http0: {type: http, kind: server, exit: server}
  server: {type: grpc, kind: server, exit: produce0, options: {SERVER}}
  produce0: {type: grpc-kafka, kind: proxy, exit: cache0, routes: [{with: {capability: produce, topic: a, reply-to: b}}]}
  cache0: {type: kafka, kind: cache_client, exit: cache1}
  cache1: {type: kafka, kind: cache_server, exit: kafka0}
  kafka0: {type: kafka, kind: client, options: {servers: ["kafka:9092"]}, exit: tcp1}
  tcp1: {type: tcp, kind: client}
  remote: {type: kafka-grpc, kind: remote_server, entry: cache0, exit: client, routes: [{when: [{topic: a, reply-to: b}]}], options: {REMOTE}}
  client: {type: grpc, kind: client, exit: http1, options: {CLIENT}}
  http1: {type: http, kind: client, exit: tcp2}
  tcp2: {type: tcp, kind: client, options: {host: echo, port: 8080}}
`

// loadWith reads it with options of one binding. at tells where a part of them stands in the file.
func loadWith(t *testing.T, binding, options string) (got *topology.Topology, at func(part string) string, err error) {
	t.Helper()
	text := strings.Replace(withOptions, binding, options, 1)
	text = strings.NewReplacer("SERVER", "", "REMOTE", "", "CLIENT", "").Replace(text)
	path := write(t, "zilla.yaml", text)
	got, err = topology.Load(path, topology.Options{})
	return got, func(part string) string {
		before, _, _ := strings.Cut(text, part)
		return fmt.Sprintf("%s:%d:%d: ", path, strings.Count(before, "\n")+1, len(before)-strings.LastIndex(before, "\n"))
	}, err
}

// compactJSON is the JSON of it with options of one binding, without the path of the file.
func compactJSON(t *testing.T, binding, options string) string {
	t.Helper()
	got, _, err := loadWith(t, binding, options)
	if err != nil {
		t.Fatal(err)
	}
	got.File, got.Warnings = "", nil
	text, err := got.JSON()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Each option that a struct declares is read, has its default, is told of when it is wrong or misspelt, and is in the JSON and in
// the documentation, with its default.
func TestDeclaredOptions(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	// A value of each kind that is no default, and how JSON shows it.
	values := map[string][2]string{
		"count": {"5", "5"}, "size": {"5KiB", "5120"}, "toggle": {"true", "true"}, "word": {"gzip", `"gzip"`}, "topic": {"other", `"other"`},
		"code": {"[aborted]", `["aborted"]`}, "duration": {"70m", `"1h10m0s"`}, "moment": {"70ms", `"70ms"`}, "bound": {"70m", `"1h10m0s"`}, "pause": {"70m", `"1h10m0s"`}, "patience": {"70m", `"1h10m0s"`},
	}
	// Options that have no effect alone, and what they need beside them.
	needs := map[string]string{"max-connection-age-grace": "max-connection-age: 1h", "rate.per": "calls: 7", "rate.burst": "calls: 7"}
	for _, s := range []struct {
		of             any
		binding, place string
	}{{topology.Server{}, "SERVER", ""}, {topology.Target{}, "CLIENT", ""}, {topology.Remote{}, "REMOTE", ""}, {topology.Processing{}, "REMOTE", "processing."}} {
		var options []reflect.StructField
		for _, f := range reflect.VisibleFields(reflect.TypeOf(s.of)) {
			if f.Tag.Get("is") != "" {
				options = append(options, f)
			}
		}
		if len(options) == 0 {
			t.Fatalf("%T has no options", s.of)
		}
		for _, f := range options {
			path := s.place + f.Tag.Get("yaml")
			t.Run(strings.ToLower(s.binding)+" "+path, func(t *testing.T) {
				t.Parallel()
				keys := strings.Split(path, ".")
				key := keys[len(keys)-1]
				beside := func(option string) string {
					return strings.Join(append(slices.Clone(keys[:len(keys)-1]), needs[path]), ": {") + option + strings.Repeat("}", len(keys)-1)
				}
				with := func(more, value string) string {
					option := key + more + ": " + value
					if needs[path] != "" {
						option = ", " + option
					}
					return beside(option)
				}
				without := ""
				if needs[path] != "" {
					without = compactJSON(t, s.binding, beside(""))
				} else {
					without = compactJSON(t, s.binding, "")
				}
				value, place := values[f.Tag.Get("is")], path
				if words := strings.Fields(f.Tag.Get("oneof")); len(words) > 0 {
					last := words[len(words)-1]
					value = [2]string{last, strconv.Quote(last)}
				}
				wrong, given := "a b", f.Tag.Get("default")
				if f.Type.Kind() == reflect.Slice {
					wrong, given, place = "[a b]", "["+given+"]", path+"[0]"
				}

				_, at, err := loadWith(t, s.binding, with("", wrong))
				problem := fmt.Sprintf("%s`options.%s` of binding `%s` must be ", at("a b"), place, strings.ToLower(s.binding))
				if err == nil || !strings.HasPrefix(err.Error(), problem) || strings.Contains(err.Error(), "\n") {
					t.Errorf("a wrong value: got %v\nwant %s...", err, problem)
				}
				_, at, err = loadWith(t, s.binding, with("x", value[0]))
				if err == nil || !strings.HasPrefix(err.Error(), at(key+"x")) || !strings.HasSuffix(err.Error(), "; did you mean `"+key+"`?") {
					t.Errorf("a misspelt key: got %v\nwant it at %s, with the right one", err, at(key+"x"))
				}

				name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
				if name == "" {
					name = strings.ReplaceAll(f.Tag.Get("yaml"), ".", "-")
				} else if name == "-" {
					name = key // elsewhere
				}
				member := `"` + name + `":` + value[1]
				if got := compactJSON(t, s.binding, with("", value[0])); strings.Count(got, member) <= strings.Count(without, member) {
					t.Errorf("the JSON has no %s:\n%s", member, got)
				}
				if f.Tag.Get("default") != "" {
					if diff := cmp.Diff(without, compactJSON(t, s.binding, with("", given))); diff != "" {
						t.Errorf("its default is not what counts without it (-without +default):\n%s", diff)
					}
					key += ": " + given
				}
				if !strings.Contains(string(page), key) {
					t.Errorf("the documentation does not say %q", key)
				}
			})
		}
	}
}
