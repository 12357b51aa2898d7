package grpcin_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"kafkagrpc/grpcin"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

// startOwn starts a server that knows what the catalog of a file says, and a connection for its own services.
func startOwn(t *testing.T, settings ...setting) (*front, *grpc.ClientConn) {
	t.Helper()
	file, err := topology.Load("../topology/testdata/small.good.yaml", topology.Options{})
	if err != nil {
		t.Fatal(err)
	}
	f := start(t, append([]setting{func(o *grpcin.Options, _ *front) {
		o.Methods, o.Protos = file.Methods, file.Protos
	}}, settings...)...)
	// Not the raw codec: these are services of the server's own.
	conn, err := grpc.NewClient("passthrough:///"+f.address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return f, conn
}

func TestHealth(t *testing.T) {
	t.Parallel()
	f, conn := startOwn(t)
	ctx := withPatience(t)
	health := grpc_health_v1.NewHealthClient(conn)
	check := func(want grpc_health_v1.HealthCheckResponse_ServingStatus) {
		t.Helper()
		got, err := health.Check(ctx, &grpc_health_v1.HealthCheckRequest{})
		if err != nil || got.Status != want {
			t.Errorf("%v, %v, want %v", got, err, want)
		}
	}
	check(grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	f.server.SetReady(true)
	check(grpc_health_v1.HealthCheckResponse_SERVING)
	f.server.SetReady(false)
	check(grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	if _, err := health.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: "nobody"}); status.Code(err) != codes.NotFound {
		t.Errorf("another service: %v, want NOT_FOUND", err)
	}
}

// A watch would hold up the stop until the end of the drain time.
func TestHealthWatchEndsWithTheServer(t *testing.T) {
	t.Parallel()
	f, conn := startOwn(t, func(o *grpcin.Options, _ *front) { o.Drain = time.Hour })
	f.server.SetReady(true)
	watch, err := grpc_health_v1.NewHealthClient(conn).Watch(withPatience(t), &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := watch.Recv(); err != nil || got.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Fatalf("%v, %v, want SERVING", got, err)
	}
	if err := f.stop(); err != nil {
		t.Error(err)
	}
	for {
		got, err := watch.Recv()
		if status.Code(err) == codes.Unavailable {
			return
		}
		if err != nil || got.Status != grpc_health_v1.HealthCheckResponse_NOT_SERVING {
			t.Fatalf("%v, %v, want NOT_SERVING or UNAVAILABLE", got, err)
		}
	}
}

func TestHealthOfARoute(t *testing.T) {
	t.Parallel()
	f, _ := startOwn(t, func(o *grpcin.Options, f *front) {
		o.Listener.Routes[0].Methods = []topology.MethodPattern{"*", "grpc.health.v1.Health/*"}
		limit(0)(o, f)
	})
	f.kafka.on = echo(t, f.calls)
	if r := f.call(withPatience(t), "grpc.health.v1.Health/Check", "x"); r.Status != codes.OK || r.Message != "x" {
		t.Errorf("result %+v, want the route's answer", r)
	}
}

func TestReflection(t *testing.T) {
	t.Parallel()
	_, conn := startOwn(t, func(o *grpcin.Options, _ *front) {
		// Known to a catalog, but without a route.
		o.Methods["neighbours.Service/Method"] = topology.Method{}
	})
	want := []string{service, "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"}
	ctx := withPatience(t)
	t.Run("v1", func(t *testing.T) {
		stream, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
		if err != nil {
			t.Fatal(err)
		}
		ask := func(r *reflectionv1.ServerReflectionRequest) *reflectionv1.ServerReflectionResponse {
			t.Helper()
			if err := stream.Send(r); err != nil {
				t.Fatal(err)
			}
			answer, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			return answer
		}
		var names []string
		for _, s := range ask(&reflectionv1.ServerReflectionRequest{
			MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{},
		}).GetListServicesResponse().GetService() {
			names = append(names, s.Name)
		}
		if diff := cmp.Diff(want, names); diff != "" {
			t.Errorf("services (-want +got):\n%s", diff)
		}
		for _, symbol := range []string{service, service + ".UnaryEcho", "grpc.examples.echo.EchoRequest", "grpc.health.v1.Health"} {
			files := ask(&reflectionv1.ServerReflectionRequest{
				MessageRequest: &reflectionv1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: symbol},
			}).GetFileDescriptorResponse().GetFileDescriptorProto()
			if len(files) == 0 {
				t.Errorf("no file defines %s", symbol)
				continue
			}
			var file descriptorpb.FileDescriptorProto
			if err := proto.Unmarshal(files[0], &file); err != nil || len(file.Service) != 1 {
				t.Errorf("%s is in file %v with %d services (%v), want one", symbol, file.GetName(), len(file.Service), err)
			}
		}
		missing := ask(&reflectionv1.ServerReflectionRequest{
			MessageRequest: &reflectionv1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: "nobody.Knows"},
		}).GetErrorResponse()
		if codes.Code(missing.GetErrorCode()) != codes.NotFound {
			t.Errorf("an unknown symbol: %v, want NOT_FOUND", missing)
		}
		if err := stream.CloseSend(); err != nil {
			t.Error(err)
		}
	})
	t.Run("v1alpha", func(t *testing.T) {
		// The messages are those of v1.
		stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.SendMsg(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}); err != nil {
			t.Fatal(err)
		}
		var answer reflectionv1.ServerReflectionResponse
		if err := stream.RecvMsg(&answer); err != nil || len(answer.GetListServicesResponse().GetService()) != len(want) {
			t.Errorf("%v, %v", &answer, err)
		}
		if err := stream.CloseSend(); err != nil {
			t.Error(err)
		}
	})
}

// A client puts the files of all services together, as grpcurl does: each has a name of its own, also where protos are called alike,
// with what it imports and its options.
func TestReflectionOfFilesThatAreCalledAlike(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	head := "syntax = \"proto3\";\npackage %[1]s;\n"
	service := head + "import \"common.proto\";\nimport \"google/api/annotations.proto\";\n" +
		"service S { rpc Call(Common) returns (Common) { option (google.api.http) = {get: \"/%[1]s\"}; option (unknown.option) = true; } }\n"
	modern := "edition = \"2024\";\npackage %s;\n"
	for name, text := range map[string]string{
		"zilla.yaml": `name: x
catalogs: {c: {type: filesystem, options: {subjects: {first: {path: a/service.proto}, second: {path: b/service.proto}}}}}
bindings:
  tcp0: {type: tcp, kind: server, options: {port: 7151}, exit: http0}
  http0: {type: http, kind: server, exit: grpc0}
  grpc0: {type: grpc, kind: server, catalog: {c: [{subject: first}, {subject: second}]}, exit: produce0}
  produce0: {type: grpc-kafka, kind: proxy, exit: cache0, routes: [{with: {capability: produce, topic: a, reply-to: b}}]}
  cache0: {type: kafka, kind: cache_client, exit: cache1}
  cache1: {type: kafka, kind: cache_server, exit: kafka0}
  kafka0: {type: kafka, kind: client, options: {servers: ["kafka:9092"]}, exit: tcp1}
  tcp1: {type: tcp, kind: client}
`,
		"a/service.proto": fmt.Sprintf(service, "first"), "a/common.proto": fmt.Sprintf(head, "first") + "message Common { string a = 1; }",
		"b/service.proto": fmt.Sprintf(service, "second"), "b/common.proto": fmt.Sprintf(modern, "second") + "export message Common { int32 b = 1; }",
	} {
		path := filepath.Join(folder, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	file, err := topology.Load(filepath.Join(folder, "zilla.yaml"), topology.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, conn := startOwn(t, func(o *grpcin.Options, _ *front) { o.Methods, o.Protos = file.Methods, file.Protos })
	stream, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(withPatience(t))
	if err != nil {
		t.Fatal(err)
	}
	set := &descriptorpb.FileDescriptorSet{}
	for _, symbol := range []string{"first.S", "second.S"} {
		if err := stream.Send(&reflectionv1.ServerReflectionRequest{
			MessageRequest: &reflectionv1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: symbol},
		}); err != nil {
			t.Fatal(err)
		}
		answer, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		for _, data := range answer.GetFileDescriptorResponse().GetFileDescriptorProto() {
			d := &descriptorpb.FileDescriptorProto{}
			if err := proto.Unmarshal(data, d); err != nil {
				t.Fatal(err)
			}
			set.File = append(set.File, d)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Error(err)
	}
	files, err := protodesc.NewFiles(set)
	if err != nil {
		t.Fatal(err)
	}
	for symbol, field := range map[protoreflect.FullName]protoreflect.Name{"first.S.Call": "a", "second.S.Call": "b"} {
		d, err := files.FindDescriptorByName(symbol)
		if err != nil {
			t.Error(err)
			continue
		}
		method := d.(protoreflect.MethodDescriptor)
		if method.Input().Fields().ByName(field) == nil {
			t.Errorf("%s takes another message", symbol)
		}
		if rule := proto.GetExtension(method.Options(), annotations.E_Http).(*annotations.HttpRule); rule.GetGet() != "/"+string(symbol.Parent().Parent()) {
			t.Errorf("the options of %s are %v", symbol, method.Options())
		}
	}
}

// Aged connections end; what is open on them gets the grace, and is a caller that went away after that.
func TestConnectionAge(t *testing.T) {
	t.Parallel()
	f := start(t, func(o *grpcin.Options, _ *front) {
		o.Listener.Server.MaxConnectionAge, o.Listener.Server.MaxConnectionAgeGrace = time.Second, 500*time.Millisecond
	})
	f.kafka.sent = make(chan wire.Record, 10)
	ctx := withPatience(t)
	c := f.stream(context.Background(), t, bidi)
	c.send("x")
	f.first(ctx, t)
	c.wants(codes.Unavailable)
	canceled(ctx, t, f)
}

func TestConcurrentStreamsOfAConnection(t *testing.T) {
	t.Parallel()
	f := start(t, func(o *grpcin.Options, _ *front) { o.Listener.Server.MaxConcurrentStreams = 2 })
	f.kafka.on = pingpong(t, f)
	ctx := withPatience(t)
	open := []caller{f.stream(ctx, t, bidi), f.stream(ctx, t, bidi)}
	for _, c := range open {
		c.send("x")
		c.next()
	}
	third := make(chan caller)
	go func() { third <- f.stream(ctx, t, bidi) }()
	open[0].half()
	open[0].wants(codes.OK)
	c := <-third // it waited for a place
	c.send("y")
	if got := c.next(); got != "y" {
		t.Errorf("the third call got %q", got)
	}
	for _, c := range slices.Concat(open[1:], []caller{c}) {
		c.half()
		c.wants(codes.OK)
	}
}
