package grpcout_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"kafkagrpc/grpcout"
)

// tracing adds to the metadata of a call, as telemetry does.
func tracing() []grpc.DialOption {
	within := func(ctx context.Context) context.Context {
		md, _ := metadata.FromOutgoingContext(ctx)
		if md == nil {
			md = metadata.MD{}
		}
		md.Set("traceparent", "of the span")
		return metadata.NewOutgoingContext(ctx, md)
	}
	return []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
			return invoke(within(ctx), method, request, reply, conn, options...)
		}),
		grpc.WithChainStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, options ...grpc.CallOption) (grpc.ClientStream, error) {
			return open(within(ctx), desc, conn, method, options...)
		}),
	}
}

// What HTTP/2 carries reaches the service byte by byte, also what grpc-go would not send for others.
func TestTextOfACallReachesTheService(t *testing.T) {
	t.Parallel()
	for name, sent := range map[string]metadata.MD{
		"plain":  {"a": {"", " b ", "c"}, "b-bin": {"\x00\xff", ""}, "_-.": {"x"}},
		"values": {"a": {"plain", "café", "caf\xe9"}, "b": {"a\tb"}, "c-bin": {"\x00\xff", ""}, "d": {"plain"}},
		"names":  {"a!#$%&'*+^`|~": {"1", "2"}, "b!-bin": {"\x00\xff", "x"}, "D": {"plain"}},
		"long":   {"a" + strings.Repeat("b", 5000): {strings.Repeat("é", 50000)}},
	} {
		for kind, traced := range map[string]bool{"": false, " traced": true} {
			t.Run(name+kind, func(t *testing.T) {
				t.Parallel()
				calls := make(chan metadata.MD, 2)
				s := serve(t, "127.0.0.1:0", func(_ any, stream grpc.ServerStream) error {
					md, _ := metadata.FromIncomingContext(stream.Context())
					calls <- md
					return echo(nil, stream)
				})
				want := metadata.MD{}
				for name, values := range sent {
					want[strings.ToLower(name)] = values
				}
				want.Set("traceparent", "of the caller")
				o := grpcout.Options{}
				if traced {
					o.Dial = tracing()
					want.Set("traceparent", "of the span")
				}
				sent := sent.Copy()
				sent.Set("traceparent", "of the caller")
				c := newClient(t, o)
				check := func(what string, r grpcout.Result) {
					t.Helper()
					if r.Status != codes.OK {
						t.Fatalf("%s: %+v", what, r)
					}
					got := <-calls
					for _, own := range []string{":authority", "content-type", "user-agent", "grpc-accept-encoding"} {
						delete(got, own)
					}
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("%s (-want +got):\n%s", what, diff)
					}
				}
				ctx := withPatience(t)
				check("unary", c.Unary(ctx, s.target, grpcout.Call{Method: method, Metadata: sent, Message: []byte("x")}))
				check("stream", grpcout.NewCaller(c, grpcout.Policy{}).Stream(ctx, s.target, grpcout.Stream{
					Method: method, Metadata: sent, Next: requestOf("x").next, Receive: func(metadata.MD, []byte) error { return nil },
				}))
				if got := s.connections.Load(); got != 1 {
					t.Errorf("%d connections for calls of one kind", got)
				}
			})
		}
	}
}

// listing is a service that answers each stream with these headers, the last of which end it. It announces what header lists it
// takes, unless that is 0.
func listing(t *testing.T, takes uint32, lists ...[]string) grpcout.Target {
	t.Helper()
	return accept(t, func(framer *http2.Framer) {
		if takes > 0 {
			_ = framer.WriteSettings(http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: takes})
		}
		for {
			frame, err := framer.ReadFrame()
			if err != nil {
				return
			}
			switch f := frame.(type) {
			case *http2.SettingsFrame:
				if !f.IsAck() {
					_ = framer.WriteSettingsAck()
				}
			case *http2.DataFrame:
				if !f.StreamEnded() {
					continue
				}
				for i, list := range lists {
					rest := block(list...)
					const most = 16 << 10
					first := rest[:min(len(rest), most)]
					rest = rest[len(first):]
					_ = framer.WriteHeaders(http2.HeadersFrameParam{
						StreamID: f.StreamID, EndHeaders: len(rest) == 0, EndStream: i == len(lists)-1, BlockFragment: first,
					})
					for len(rest) > 0 {
						part := rest[:min(len(rest), most)]
						rest = rest[len(part):]
						_ = framer.WriteContinuation(f.StreamID, len(rest) == 0, part)
					}
				}
			}
		}
	})
}

// Whatever a service says beside its status, the status and its message come back.
func TestTextOfAServiceComesBack(t *testing.T) {
	t.Parallel()
	header := []string{":status", "200", "content-type", "application/grpc"}
	large := strings.Repeat("é", 1<<20)
	for name, tt := range map[string]struct {
		header, trailer []string
		want            grpcout.Result
	}{
		"a trailer": {nil, []string{"grpc-status", "5", "grpc-message", "no caf%C3%A9", "x-reason", "café"}, grpcout.Result{
			Status: codes.NotFound, Message: "no café", Trailer: metadata.MD{"x-reason": {"café"}},
		}},
		"names and values": {
			[]string{"a", "caf\xe9", "a", " b ", "a", "", "b-bin", "AP8=", "b-bin", "", "c!~", "odd", "_", "a\tb"},
			[]string{"grpc-status", "5", "grpc-message", "m", "a", "caf\xe9", "a", " b ", "a", "", "b-bin", "AP8", "c!~", "odd", "grpc-x", "y"},
			grpcout.Result{
				Status: codes.NotFound, Message: "m",
				Header:  metadata.MD{"a": {"caf\xe9", " b ", ""}, "b-bin": {"\x00\xff", ""}, "c!~": {"odd"}, "_": {"a\tb"}},
				Trailer: metadata.MD{"a": {"caf\xe9", " b ", ""}, "b-bin": {"\x00\xff"}, "c!~": {"odd"}},
			},
		},
		"large": {
			[]string{"a", large}, []string{"grpc-status", "5", "grpc-message", "m", "b", large},
			grpcout.Result{Status: codes.NotFound, Message: "m", Header: metadata.MD{"a": {large}}, Trailer: metadata.MD{"b": {large}}},
		},
		"a message that is not encoded": {nil, []string{"grpc-status", "5", "grpc-message", "caf\xe9 % %F %FF"}, grpcout.Result{
			Status: codes.NotFound, Message: "caf\xe9 % %F \xff",
		}},
		"a status without a name": {nil, []string{"grpc-status", "42", "grpc-message", "m"}, grpcout.Result{Status: 42, Message: "m"}},
		"a status that is none":   {nil, []string{"grpc-status", "-1", "grpc-message", "m"}, grpcout.Result{Status: codes.Unknown, Message: "m"}},
		"details that are none": {nil, []string{"grpc-status", "5", "grpc-message", "m", "grpc-status-details-bin", "bm9uc2Vuc2U"}, grpcout.Result{
			Status: codes.NotFound, Message: "m", Trailer: metadata.MD{"grpc-status-details-bin": {"nonsense"}},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := listing(t, 0, append(header[:4:4], tt.header...), tt.trailer)
			c := newClient(t, grpcout.Options{})
			if diff := cmp.Diff(tt.want, c.Unary(withPatience(t), target, grpcout.Call{Method: method})); diff != "" {
				t.Errorf("unary (-want +got):\n%s", diff)
			}
			got := grpcout.NewCaller(c, grpcout.Policy{}).Stream(withPatience(t), target, grpcout.Stream{Method: method, Next: requestOf("x").next})
			want := tt.want
			want.Attempts, want.Address = 1, target.Address
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("stream (-want +got):\n%s", diff)
			}
		})
	}
}

// A service says how much metadata it takes. A call that has more is not sent, and its status says why.
func TestMetadataThatIsLargerThanTheServiceTakes(t *testing.T) {
	t.Parallel()
	target := listing(t, 1000, []string{":status", "200", "content-type", "application/grpc", "grpc-status", "0"})
	c := newClient(t, grpcout.Options{})
	for _, text := range []string{"a", "é"} {
		// The first call of a connection may come before the service has said so.
		c.Unary(withPatience(t), target, grpcout.Call{Method: method, Metadata: metadata.Pairs("x", text)})
		r := c.Unary(withPatience(t), target, grpcout.Call{Method: method, Metadata: metadata.Pairs("x", strings.Repeat(text, 1000))})
		if r.Status != codes.Internal || !strings.Contains(r.Message, "maximum size (1000 bytes) set by server") {
			t.Errorf("%+v", r)
		}
	}
}
