package telemetry_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/stats"

	"kafkagrpc/internal/telemetry"
	"kafkagrpc/topology"
)

var begun = time.Now()

// played plays a call of these messages to a handler, as grpc-go does. end ends it, half a second after it began.
func played(ctx context.Context, h stats.Handler, client bool, method string, requests, responses []int) (end func()) {
	ctx = h.TagRPC(ctx, &stats.RPCTagInfo{FullMethodName: method})
	h.HandleRPC(ctx, &stats.Begin{Client: client, BeginTime: begun})
	in, out := requests, responses
	if client {
		in, out = out, in
	}
	for _, n := range in {
		h.HandleRPC(ctx, &stats.InPayload{Client: client, Length: n, CompressedLength: 1, WireLength: 6})
	}
	for _, n := range out {
		h.HandleRPC(ctx, &stats.OutPayload{Client: client, Length: n, CompressedLength: 1, WireLength: 6})
	}
	return func() {
		h.HandleRPC(ctx, &stats.End{Client: client, BeginTime: begun, EndTime: begun.Add(time.Second / 2)})
	}
}

// server plays a call with two messages to a server of a binding.
func server(set *telemetry.Telemetry, binding, method string) (end func()) {
	return played(context.Background(), set.ServerRecorder(binding), false, method, []int{100, 200}, []int{7})
}

// A binding records the calls that go through it: those of its server, or the attempts of its client, and none of health
// checks and reflection.
func TestBindingsRecordWhatTheySelect(t *testing.T) {
	text := scraped(t, func(set *telemetry.Telemetry) {
		server(set, "north", "/example.Echo/Unary")()
		server(set, "north", "/example.Echo/Unary") // goes on
		server(set, "north", "/grpc.health.v1.Health/Check")()
		server(set, "north", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")()
		if n, m := len(set.ServerOptions("north")), len(set.ClientOptions()); n != 1 || m != 1 {
			t.Errorf("%d options of the server, %d of the client", n, m)
		}
		client := telemetry.ClientRecorder()
		played(set.WithBinding(t.Context(), "west"), client, true, "/example.Echo/Unary", []int{10}, []int{1, 2, 3})()
		played(set.WithBinding(t.Context(), "other"), client, true, "/example.Echo/Unary", []int{10}, []int{1, 2, 3})()
		tagged := set.ServerRecorder("north")
		tagged.TagRPC(t.Context(), &stats.RPCTagInfo{FullMethodName: "nonsense"}) // it does not begin
	}, topology.Recorded{Binding: "north", Names: topology.GRPCMetrics()},
		topology.Recorded{Binding: "west", Names: []string{"grpc.duration", "grpc.request.size", "grpc.responses.per.rpc"}})
	for _, want := range []string{
		`grpc_active_requests{binding="north",namespace="example"} 1`,
		`grpc_duration_seconds_sum{binding="north",namespace="example"} 0.5`,
		`grpc_duration_seconds_count{binding="north",namespace="example"} 1`,
		`grpc_request_size_bytes_sum{binding="north",namespace="example"} 300`,
		`grpc_response_size_bytes_sum{binding="north",namespace="example"} 7`,
		`grpc_requests_per_rpc_sum{binding="north",namespace="example"} 2`,
		`grpc_responses_per_rpc_sum{binding="north",namespace="example"} 1`,
		`grpc_duration_seconds_sum{binding="west",namespace="example"} 0.5`,
		`grpc_request_size_bytes_sum{binding="west",namespace="example"} 10`,
		`grpc_responses_per_rpc_sum{binding="west",namespace="example"} 3`,
	} {
		if !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("no %s in %s", want, text)
		}
	}
	for _, never := range []string{
		`binding="other"`, `grpc_active_requests{binding="west"`, `grpc_response_size_bytes_sum{binding="west"`, `grpc_requests_per_rpc_sum{binding="west"`,
	} {
		if strings.Contains(text, never) {
			t.Errorf("%s is in %s", never, text)
		}
	}
}

// Where no binding selects metrics, or they go nowhere, nothing is installed.
func TestNothingIsRecordedUnasked(t *testing.T) {
	for name, config := range map[string]telemetry.Config{
		"unasked": {Scrape: true},
		"nowhere": {File: topology.Telemetry{Recorded: []topology.Recorded{{Binding: "north", Names: topology.GRPCMetrics()}}}},
	} {
		set, err := telemetry.Setup(t.Context(), config, nil)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(set.ServerOptions("north")) + len(set.ClientOptions()); n != 0 {
			t.Errorf("%s: %d options", name, n)
		}
		if ctx := t.Context(); set.WithBinding(ctx, "north") != ctx {
			t.Errorf("%s: the context of a call is another one", name)
		}
		if err := set.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// The names that a file may select are those that are recorded.
func TestSelectableMetricsAreRecorded(t *testing.T) {
	t.Parallel()
	names := topology.GRPCMetrics()
	specs := telemetry.SelectedSpecs()
	if len(names) != len(specs) {
		t.Fatalf("%d names, %d metrics", len(names), len(specs))
	}
	for i, s := range specs {
		if s.Name() != names[i] {
			t.Errorf("metric %d is %s, the file calls it %s", i, s.Name(), names[i])
		}
	}
}
