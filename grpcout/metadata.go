package grpcout

import (
	"context"
	"maps"
	"strings"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
)

// outgoing is ctx for a call with metadata. Some that HTTP/2 carries, and that callers send, grpc-go refuses to send: names and
// values with other characters than its own API allows. A call that has such is odd: its connection takes the metadata from where
// grpc-go looks at it no more.
func outgoing(ctx context.Context, md metadata.MD) (_ context.Context, odd bool) {
	if !sendable(md) {
		out := make(metadata.MD, len(md))
		for name, values := range md {
			if name = strings.ToLower(name); !reserved(name) {
				out[name] = append(out[name], values...)
			}
		}
		md = out
	}
	for name, values := range md {
		odd = odd || isOdd(name, values)
	}
	if odd {
		return context.WithValue(ctx, oddKey{}, md), true
	}
	return metadata.NewOutgoingContext(ctx, md), false
}

// sendable reports whether metadata can go as it is.
func sendable(md metadata.MD) bool {
	for name := range md {
		if strings.ToLower(name) != name || reserved(name) {
			return false
		}
	}
	return true
}

// isOdd reports what grpc-go refuses.
func isOdd(name string, values []string) bool {
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return true
		}
	}
	if strings.HasSuffix(name, "-bin") {
		return false
	}
	for _, value := range values {
		for i := range len(value) {
			if value[i] < 0x20 || value[i] > 0x7e {
				return true
			}
		}
	}
	return false
}

type oddKey struct{}

// oddHandler gives a call its metadata when grpc-go has checked that of the context, which has what was added to it on the way. It is
// on connections of its own because a handler costs every call of its connection.
type oddHandler struct{}

// TagRPC implements stats.Handler.
func (oddHandler) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	odd, _ := ctx.Value(oddKey{}).(metadata.MD)
	md := odd.Copy()
	added, _ := metadata.FromOutgoingContext(ctx)
	maps.Copy(md, added)
	return metadata.NewOutgoingContext(ctx, md)
}

// HandleRPC implements stats.Handler.
func (oddHandler) HandleRPC(context.Context, stats.RPCStats) {}

// TagConn implements stats.Handler.
func (oddHandler) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (oddHandler) HandleConn(context.Context, stats.ConnStats) {}

// received leaves out the same of what a service sent; rich error details stay.
func received(md metadata.MD) metadata.MD {
	for name := range md {
		if reserved(name) && name != "grpc-status-details-bin" {
			delete(md, name)
		}
	}
	if len(md) == 0 {
		return nil
	}
	return md
}

func reserved(name string) bool {
	switch name {
	case "", "content-type", "te", "user-agent":
		return true
	case "content-length", "connection", "host", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
		// They are true of one message on one connection. On the next one HTTP/2 calls the whole message malformed.
		return true
	}
	return name[0] == ':' || strings.HasPrefix(name, "grpc-")
}
