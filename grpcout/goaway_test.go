package grpcout_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"

	"kafkagrpc/grpcout"
)

// A service may send connections away as often as it likes: no call fails that it has not begun, and none is made twice.
func TestConnectionsThatAreSentAwayUnderLoad(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	executed := map[string]int{}
	s := serve(t, "127.0.0.1:0", func(_ any, stream grpc.ServerStream) error {
		var message []byte
		if err := stream.RecvMsg(&message); err != nil {
			return err
		}
		mu.Lock()
		executed[string(message)]++
		mu.Unlock()
		return stream.SendMsg(&message)
	}, grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: 10 * time.Millisecond, MaxConnectionAgeGrace: patience}))
	c := newCaller(t, grpcout.Policy{}) // without attempts of our own
	ctx := withPatience(t)
	const workers, each = 40, 100
	var working sync.WaitGroup
	for w := range workers {
		working.Go(func() {
			for n := range each {
				text := fmt.Sprint(w, " ", n)
				var r grpcout.Result
				if w%2 == 0 {
					r = c.Unary(ctx, s.target, grpcout.Call{Method: method, Message: []byte(text)})
				} else {
					r = c.Stream(ctx, s.target, grpcout.Stream{
						Method: method, Next: requestOf(text).next, Receive: func(metadata.MD, []byte) error { return nil },
					})
				}
				if r.Status != codes.OK {
					t.Errorf("%s: %v %s", text, r.Status, r.Message)
				}
			}
		})
	}
	working.Wait()
	if got := s.connections.Load(); got < 5 {
		t.Errorf("%d connections: none was sent away", got)
	}
	for text, n := range executed {
		if n != 1 {
			t.Errorf("%s was executed %d times", text, n)
		}
	}
	if len(executed) != workers*each {
		t.Errorf("%d calls were executed, want %d", len(executed), workers*each)
	}
}

// harsh is a service whose connections each take a few streams, and then say that they have not looked at any later one,
// while those are on their way.
func harsh(t *testing.T, takes int, executed func(message string)) grpcout.Target {
	t.Helper()
	return accept(t, func(framer *http2.Framer) { takeSome(framer, takes, executed) })
}

// accept is a service that has its own way with each connection, which is begun.
func accept(t *testing.T, serve func(*http2.Framer)) grpcout.Target {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
					return
				}
				framer := http2.NewFramer(conn, conn)
				_ = framer.WriteSettings()
				serve(framer)
			})
		}
	})
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		serving.Wait()
	})
	return grpcout.Target{Scheme: "http", Address: l.Addr().String()}
}

// takeSome answers the first streams of a connection with their own message.
func takeSome(framer *http2.Framer, takes int, executed func(string)) {
	var last uint32
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
		case *http2.HeadersFrame:
			if takes--; takes >= 0 {
				last = f.StreamID
			}
			if takes == 0 {
				_ = framer.WriteGoAway(last, http2.ErrCodeNo, nil)
			}
		case *http2.DataFrame:
			if f.StreamID > last || len(f.Data()) == 0 {
				continue
			}
			executed(string(f.Data()[5:]))
			_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: f.StreamID, EndHeaders: true, BlockFragment: block(":status", "200", "content-type", "application/grpc")})
			_ = framer.WriteData(f.StreamID, false, f.Data())
			_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: f.StreamID, EndHeaders: true, EndStream: true, BlockFragment: block("grpc-status", "0")})
		}
	}
}

// A service, or what stands before it, may break a reply off in its middle.
func TestStreamThatTheServiceResets(t *testing.T) {
	t.Parallel()
	target := accept(t, func(framer *http2.Framer) {
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
			case *http2.HeadersFrame:
				_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: f.StreamID, EndHeaders: true, BlockFragment: block(":status", "200", "content-type", "application/grpc")})
				_ = framer.WriteData(f.StreamID, false, []byte{0, 0, 0, 0, 1, 'x'})
				_ = framer.WriteRSTStream(f.StreamID, http2.ErrCodeInternal)
			}
		}
	})
	c := newCaller(t, policy)
	var got []string
	r := c.Stream(withPatience(t), target, grpcout.Stream{
		Method: method, Next: make(source).next, Receive: func(_ metadata.MD, m []byte) error {
			got = append(got, string(m))
			return nil
		},
	})
	if r.Status != codes.Internal || r.Attempts != 1 || len(got) > 1 {
		t.Errorf("%+v after the messages %q", r, got)
	}
}

func block(fields ...string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for i := 0; i < len(fields); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return b.Bytes()
}

// A call that is refused by one connection after the other is made again by the policy, and still executed once.
func TestStreamsThatAServiceHasNotLookedAt(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	executed := map[string]int{}
	target := harsh(t, 3, func(message string) {
		mu.Lock()
		defer mu.Unlock()
		executed[message]++
	})
	p := policy
	p.Breaker = grpcout.Breaker{}
	c := newCaller(t, p)
	ctx := withPatience(t)
	const calls = 60
	var working sync.WaitGroup
	for n := range calls {
		working.Go(func() {
			text := fmt.Sprint(n)
			var r grpcout.Result
			if n%2 == 0 {
				r = c.Unary(ctx, target, grpcout.Call{Method: method, Message: []byte(text)})
			} else {
				r = c.Stream(ctx, target, grpcout.Stream{
					Method: method, Next: requestOf(text).next, Receive: func(metadata.MD, []byte) error { return nil },
				})
			}
			if r.Status != codes.OK {
				t.Errorf("%s: %v %s", text, r.Status, r.Message)
			}
		})
	}
	working.Wait()
	for n := range calls {
		if got := executed[fmt.Sprint(n)]; got != 1 {
			t.Errorf("call %d was executed %d times", n, got)
		}
	}
}

// A call that two connections refuse, the second one before it is sent the request, was not executed: it is no success.
func TestCallsThatAreRefusedTwice(t *testing.T) {
	t.Parallel()
	var connections atomic.Int32
	second := &secondTries{refused: make(chan struct{}, 10)}
	target := accept(t, func(framer *http2.Framer) {
		again := connections.Add(1)%2 == 0
		refused := sync.OnceFunc(func() {
			if again {
				second.refused <- struct{}{}
			}
		})
		defer refused()
		for {
			frame, err := framer.ReadFrame()
			if err != nil {
				return
			}
			switch f := frame.(type) {
			case *http2.HeadersFrame:
				if again {
					_ = framer.WriteGoAway(0, http2.ErrCodeNo, nil)
					_ = framer.WritePing(false, [8]byte{})
				}
			case *http2.DataFrame:
				if !again {
					_ = framer.WriteGoAway(0, http2.ErrCodeNo, nil)
				}
			case *http2.PingFrame:
				if f.IsAck() { // it has read what came before
					refused()
				}
			}
		}
	})
	c := newClient(t, grpcout.Options{Dial: []grpc.DialOption{grpc.WithStatsHandler(second)}})
	check := func(what string, r grpcout.Result) {
		t.Helper()
		if r.Status != codes.Unavailable || r.Message == "" || len(r.Messages) > 0 {
			t.Errorf("%s: %+v", what, r)
		}
	}
	check("unary", c.Unary(withPatience(t), target, grpcout.Call{Method: method, Message: []byte("request")}))
	check("stream", grpcout.NewCaller(c, grpcout.Policy{}).Stream(withPatience(t), target, grpcout.Stream{
		Method: method, Next: requestOf("request").next, Receive: func(metadata.MD, []byte) error { return nil },
	}))
	if n := second.tries.Load(); n != 4 {
		t.Errorf("%d streams were begun, want two for each call", n)
	}
}

// secondTries holds each second stream up after its headers until the service has refused it.
type secondTries struct {
	tries   atomic.Int32
	refused chan struct{}
}

func (s *secondTries) HandleRPC(_ context.Context, event stats.RPCStats) {
	if _, ok := event.(*stats.OutHeader); ok && s.tries.Add(1)%2 == 0 {
		<-s.refused
	}
}

func (*secondTries) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (*secondTries) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (*secondTries) HandleConn(context.Context, stats.ConnStats)                       {}
