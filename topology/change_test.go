package topology_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kafkagrpc/topology"
)

// edited loads a file of testdata, in a folder of its own, with some of its text replaced.
func edited(t *testing.T, dir, file string, replace ...string) *topology.Topology {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for i := 0; i+1 < len(replace); i += 2 {
		if !strings.Contains(text, replace[i]) {
			t.Fatalf("there is no %q in %s", replace[i], file)
		}
		text = strings.Replace(text, replace[i], replace[i+1], 1)
	}
	path := filepath.Join(dir, "zilla.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	top, err := topology.Load(path, topology.Options{LookupEnv: variables(t, filepath.Join("testdata", file))})
	if err != nil {
		t.Fatal(err)
	}
	return top
}

func copied(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, folder := range []string{"seed", "keystores"} {
		if err := os.CopyFS(filepath.Join(dir, folder), os.DirFS(filepath.Join("testdata", folder))); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestCompare(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		replace []string
		changes []string
		restart []string // after the path of the file
	}{
		"nothing":       {},
		"a comment":     {replace: []string{"name: example", "# another\nname: example"}},
		"a name":        {replace: []string{"spare:", "extra:"}},
		"a timeout":     {replace: []string{"timeout: 5s\n        stream-idle", "timeout: 6s\n        stream-idle"}, changes: []string{"`options.processing.timeout` of binding `remote0`"}},
		"a retry":       {replace: []string{"max-elapsed: 1h", "max-elapsed: 2h"}, changes: []string{"`options.processing.retry.max-elapsed` of binding `remote0`"}},
		"a bound":       {replace: []string{"max-in-flight: 10\n", "max-in-flight: 11\n"}, changes: []string{"`options.processing.max-in-flight` of binding `remote0`"}},
		"an expiry":     {replace: []string{"expiry: 1h", "expiry: 2h"}, changes: []string{"`options.table.expiry` of binding `remote0`"}},
		"a pace":        {replace: []string{"calls: 500", "calls: 501"}, changes: []string{"routes or services of binding `remote0`"}},
		"a service":     {replace: []string{"host: echo, port: 8080", "host: echo, port: 8081"}, changes: []string{"routes or services of binding `remote0`"}},
		"a north route": {replace: []string{"key: one", "key: two"}, changes: []string{"routes or services of binding `tcp0`"}},
		"a way less": {
			replace: []string{"      - exit: cache0\n        with: {capability: produce, topic: events}\n", ""}, changes: []string{"routes or services of binding `tcp0`"},
		},
		"server names": {replace: []string{"sni: [localhost]", "sni: [localhost, other]"}, changes: []string{"certificates or other TLS of binding `tcp0`"}},
		"clients": {
			replace: []string{"- when: [{port: 7151}]", "- when: [{port: 7151, cidr: 10.0.0.0/8}]"}, changes: []string{"clients of binding `tcp0`"},
		},
		"the namespace": {replace: []string{"name: example", "name: sample"}, restart: []string{
			":2:7: `name` needs a restart",
		}},
		"a port": {replace: []string{"port: [7151, 7153]", "port: [7151, 7154]", "port: 7153}]", "port: 7154}]"}, restart: []string{":25:32: `options.port` of binding `tcp0` needs a restart"}},
		"a port more": {replace: []string{"port: [7151, 7153]", "port: [7151, 7153, 7155]", "port: 7153}]", "port: [7153, 7155]}]"}, restart: []string{
			":25:32: `options.port` of binding `tcp0` needs a restart",
		}},
		"no TLS":              {replace: []string{"exit: tls0", "exit: http0"}, restart: []string{":22:3: whether binding `tcp0` leads to a tls server needs a restart"}},
		"a server option":     {replace: []string{"max-concurrent-streams: 50", "max-concurrent-streams: 51"}, restart: []string{":48:31: `options.max-concurrent-streams` of binding `grpc0` needs a restart"}},
		"a server option out": {replace: []string{"      max-concurrent-streams: 50\n", ""}, restart: []string{":46:5: `options.max-concurrent-streams` of binding `grpc0` needs a restart"}},
		"a topic in front":    {replace: []string{"topic: events", "topic: happenings"}, changes: []string{"routes or services of binding `tcp0`"}, restart: []string{":67:44: topic `happenings` of binding `produce0` needs a restart"}},
		"a group's topic": {replace: []string{"[{topic: requests, reply-to: replies, method", "[{topic: questions, reply-to: replies, method"}, changes: []string{"routes or services of binding `remote0`"}, restart: []string{
			":100:5: topic `requests` of binding `remote0` needs a restart",
			":102:24: topic `questions` of binding `remote0` needs a restart",
		}},
		"dead letters":  {replace: []string{"dead-letter: graveyard", "dead-letter: cemetery"}, restart: []string{":95:22: `options.processing.dead-letter` of binding `remote0` needs a restart"}},
		"a drain":       {replace: []string{"drain: 1500ms", "drain: 2s"}, restart: []string{":93:16: `options.processing.drain` of binding `remote0` needs a restart"}},
		"a transaction": {replace: []string{"drain: 1500ms", "transaction: {max: 20ms}\n        drain: 1500ms"}, restart: []string{":93:28: `options.processing.transaction.max` of binding `remote0` needs a restart"}},
		"a guarantee":   {replace: []string{"drain: 1500ms", "guarantee: exactly-once\n        drain: 1500ms"}, restart: []string{":93:20: `options.processing.guarantee` of binding `remote0` needs a restart"}},
		"brokers":       {replace: []string{"kafka:9092", "kafka:9093"}, restart: []string{":73:43: `options.servers` of binding `kafka0` needs a restart"}},
		"exporters":     {replace: []string{"4318", "4319"}, restart: []string{":17:3: `telemetry.exporters` needs a restart"}},
		"attributes":    {replace: []string{"service.name: x", "service.name: y"}, changes: []string{"`telemetry.attributes`"}},
		"a change beside": {
			replace: []string{"drain: 1500ms", "drain: 2s", "expiry: 1h", "expiry: 2h"}, changes: []string{"`options.table.expiry` of binding `remote0`"},
			restart: []string{":93:16: `options.processing.drain` of binding `remote0` needs a restart"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := copied(t)
			running := edited(t, dir, "compare.yaml")
			d := running.Compare(edited(t, dir, "compare.yaml", tt.replace...))
			var restart []string
			for _, p := range d.Restart {
				restart = append(restart, strings.TrimPrefix(p.Error(), p.File))
			}
			if diff := cmp.Diff(tt.changes, d.Changes); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.restart, restart); diff != "" {
				t.Errorf("needs a restart (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCompareProtos(t *testing.T) {
	t.Parallel()
	dir := copied(t)
	running := edited(t, dir, "compare.yaml")
	path := filepath.Join(dir, "seed", "proto", "echo.proto")
	proto, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(proto, "\nmessage More { string text = 1; }\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	d := running.Compare(edited(t, dir, "compare.yaml"))
	if diff := cmp.Diff(topology.Difference{Changes: []string{"the protos"}}, d); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What is the same keeps its identity, by which connections are shared.
func TestContinue(t *testing.T) {
	t.Parallel()
	const file = "secure.good.yaml"
	dir := copied(t)
	running := edited(t, dir, file)
	next := edited(t, dir, file)
	if targetOf(running).TLS == targetOf(next).TLS {
		t.Fatal("two files share their TLS")
	}
	next.Continue(running)
	if targetOf(running) != targetOf(next) {
		t.Error("what is the same is another target")
	}
}

// targetOf is the first service that is reached with TLS.
func targetOf(top *topology.Topology) topology.Target {
	for _, t := range top.Targets() {
		if t.TLS != nil {
			return t
		}
	}
	return topology.Target{}
}

// Whoever watches a configuration has to know what it is made of, also when it is wrong.
func TestReadIsTold(t *testing.T) {
	t.Parallel()
	dir := copied(t)
	text, err := os.ReadFile(filepath.Join("testdata", "compare.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "zilla.yaml")
	for _, folder := range []string{"seed/proto", "seed/other"} {
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(text), "roots: [seed/proto]", "roots: ["+folder+"]")), 0o600); err != nil {
			t.Fatal(err)
		}
		read := map[string]bool{} // and whether that went well
		_, err = topology.Load(path, topology.Options{
			LookupEnv: variables(t, filepath.Join("testdata", "compare.yaml")),
			Read:      func(path string, _ []byte, err error) { read[strings.TrimPrefix(path, dir+"/")] = err == nil },
		})
		want := map[string]bool{"zilla.yaml": true, "seed/proto/echo.proto": true, "seed/tls/localhost.p12": true}
		if folder == "seed/other" {
			want[folder] = false
		}
		if (err == nil) != (folder == "seed/proto") {
			t.Error(err)
		}
		if diff := cmp.Diff(want, read); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// Whether revocation lists are asked for is TLS as any other: it changes for connections from now on.
func TestCompareRevocation(t *testing.T) {
	t.Parallel()
	const file = "revocation.good.yaml"
	dir := copied(t)
	tests := map[string]struct {
		without []string // revocation of the vault, as in the file
		change  string
	}{
		"clients":  {[]string{"      revocation: crl\n  brokers:\n", "  brokers:\n"}, "certificates or other TLS of binding `tcp0`"},
		"Kafka":    {[]string{"      revocation: crl\n  services:", "  services:"}, "certificates or other TLS of binding `tls1`"},
		"services": {[]string{"services: {type: filesystem, options: {revocation: crl}}", "services: {type: filesystem}"}, "routes or services of binding `remote0`"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			with, without := edited(t, dir, file), edited(t, dir, file, tt.without...)
			for what, got := range map[string]topology.Difference{"off": with.Compare(without), "on": without.Compare(with)} {
				if diff := cmp.Diff(topology.Difference{Changes: []string{tt.change}}, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", what, diff)
				}
			}
		})
	}
}

// Connections to Kafka take other certificates without a restart, as long as they have TLS at all.
func TestCompareTLSOfKafka(t *testing.T) {
	t.Parallel()
	const file = "secure.good.yaml"
	dir := copied(t)
	running := edited(t, dir, file)
	next := edited(t, dir, file, "keys: [second], trust: [FIRST, second], sni: [kafka.example]", "keys: [first], trust: [FIRST, second], sni: [kafka.example]")
	if diff := cmp.Diff(topology.Difference{Changes: []string{"certificates or other TLS of binding `tls1`"}}, running.Compare(next)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	running.RenewClusters(next)
	if running.Clusters()[0].TLS.Now() != next.Clusters()[0].TLS.Config {
		t.Error("new connections to Kafka have the certificates of before")
	}
	without := edited(t, dir, file, "    exit: tls1\n", "    exit: tcp1\n")
	if d := running.Compare(without); len(d.Restart) != 1 || !strings.Contains(d.Restart[0].Error(), "whether binding `kafka0` leads to a tls client needs a restart") {
		t.Errorf("got %v", d)
	}
}

// Models change while the program runs, but for those whose schemas a registry has: registries are followed from the start on.
func TestCompareModels(t *testing.T) {
	t.Parallel()
	const file = `name: x
catalogs:
  protos: {type: inline, options: {subjects: {echo: {schema: 'syntax = "proto3"; package a; message M {} service B { rpc C(M) returns (M); }'}}}}
  registry: {type: schema-registry, options: {url: "http://registry:8081"}}
bindings:
  cache0:
    type: kafka
    kind: cache_client
    options: {topics: [{name: events, key: {model: string, pattern: "[a-z]+"}, value: {model: json, catalog: {registry: [{subject: events}]}}}]}
    exit: cache1
  cache1: {type: kafka, kind: cache_server, exit: kafka0}
  kafka0: {type: kafka, kind: client, options: {servers: ["kafka:9092"]}, exit: tcp1}
  tcp1: {type: tcp, kind: client}
  remote0: {type: kafka-grpc, kind: remote_server, entry: cache0, exit: grpc1, routes: [{when: [{topic: events}], with: {method: a.B/C}}]}
  grpc1: {type: grpc, kind: client, catalog: {protos: [{subject: echo}]}, exit: http1}
  http1: {type: http, kind: client, exit: tcp2}
  tcp2: {type: tcp, kind: client, options: {host: echo, port: 8080}}
`
	dir := t.TempDir()
	load := func(replace ...string) *topology.Topology {
		t.Helper()
		path := filepath.Join(dir, "zilla.yaml")
		if err := os.WriteFile(path, []byte(strings.NewReplacer(replace...).Replace(file)), 0o600); err != nil {
			t.Fatal(err)
		}
		top, err := topology.Load(path, topology.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return top
	}
	for name, tt := range map[string]struct {
		replace  []string
		changed  bool
		restarts string
	}{
		"the same":                    {},
		"another pattern":             {[]string{"[a-z]+", "[a-z]*"}, true, ""},
		"none that a registry has":    {[]string{", value: {model: json, catalog: {registry: [{subject: events}]}}", ""}, true, ""},
		"another that a registry has": {[]string{"subject: events", "subject: others"}, true, ":2:1: model json by subject others of registry, whose schema a registry has, needs a restart"},
	} {
		d := load().Compare(load(tt.replace...))
		restarts := ""
		if len(d.Restart) > 0 {
			restarts = strings.TrimPrefix(d.Restart.Error(), d.Restart[0].File)
		}
		if len(d.Changes) > 0 != tt.changed || restarts != tt.restarts {
			t.Errorf("%s: changes %q, restarts %q", name, d.Changes, restarts)
		}
	}
}
