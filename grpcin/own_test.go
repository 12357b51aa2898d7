package grpcin_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"kafkagrpc/grpcin"
	"kafkagrpc/internal/wire"
	"kafkagrpc/topology"
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
