package topology_test

import (
	"strings"
	"testing"

	"github.com/mattn/go-runewidth"

	"kafkagrpc/topology"
)

// Columns are one below the other in a terminal, whatever script the names are of.
func TestTextAlignsWideNames(t *testing.T) {
	t.Parallel()
	text := strings.ReplaceAll(catalogOf[strings.Index(catalogOf, "bindings:"):], "catalog: {c: [{subject: s, version: latest}]}", "telemetry: {metrics: [grpc.*]}")
	text = "name: x\ntelemetry: {metrics: [grpc.duration]}\n" + text + `  tcp2: {type: tcp, kind: server, options: {port: 7152}, exit: http2}
  http2: {type: http, kind: server, exit: 注文🍣}
  注文🍣: {type: grpc, kind: server, telemetry: {metrics: [grpc.*]}, exit: produce0}
`
	got, err := topology.Load(write(t, "zilla.yaml", text), topology.Options{})
	if err != nil {
		t.Fatal(err)
	}
	columns := map[int]bool{}
	for line := range strings.Lines(got.Text()) {
		if before, _, found := strings.Cut(line, "grpc.duration"); found {
			columns[(&runewidth.Condition{}).StringWidth(before)] = true
		}
	}
	if len(columns) != 1 || !strings.Contains(got.Text(), "注文") {
		t.Errorf("names stand in columns %v:\n%s", columns, got.Text())
	}
}
