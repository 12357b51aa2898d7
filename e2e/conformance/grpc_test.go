package conformance_test

import (
	"context"
	"io"
	"net/http"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	wholeRequests = "whole-requests"
	wholeReplies  = "whole-replies"
)

// grpcLevel are the scenarios of gRPC itself, through both sides.
func grpcLevel() []scenario {
	const group = "grpc"
	return []scenario{
		{group, "empty message", "a message of no bytes is an empty value, not a null one, both ways", func(s *stage) {
			s.script(1, echo)
			s.call("Whole/Unary", 1).send("").halfClose().receives("").ends(codes.OK, "")
			s.executed(1, 1)
		}},
		{group, "binary metadata", "any bytes in `-bin` metadata, repeated, both ways; base64 text without padding on the topics", func(s *stage) {
			s.script(1, func(c *serviceCall) error {
				if err := c.SetHeader(metadata.MD{"blob-bin": c.md["blob-bin"]}); err != nil {
					return err
				}
				c.SetTrailer(metadata.Pairs("proof-bin", "\xfe"))
				return echo(c)
			})
			s.call("Whole/Unary", 1, "blob-bin", "\x00\xff", "blob-bin", "").send("hi").halfClose().receives("hi").ends(codes.OK, "").
				header("blob-bin", "\x00\xff", "").trailer("proof-bin", "\xfe")
			s.executed(1, 1)
		}},
		{group, "response time-out", "a service that does not answer: status 4 at the caller's deadline, and its call is canceled", func(s *stage) {
			canceled := make(chan struct{})
			s.raw.script(s.key(1), func(_ http.ResponseWriter, r *http.Request) {
				s.wait(r.Context().Done())
				close(canceled)
			})
			ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), time.Second)
			defer cancel()
			s.callWith(ctx, "Raw/Unary", 1, nil).send("hi").halfClose().ends(codes.DeadlineExceeded, "")
			s.wait(canceled)
			s.seen(wholeReplies, 1)
		}},
		{group, "response without grpc-status", "a service that ends its answer without trailers: status 13", func(s *stage) {
			s.raw.script(s.key(1), func(w http.ResponseWriter, _ *http.Request) {
				_, _ = w.Write(frame(text("hi"))) // a caller that is gone is another scenario
				_ = http.NewResponseController(w).Flush()
			})
			s.call("Raw/Unary", 1).send("hi").halfClose().ends(codes.Internal, "")
		}},
		{group, "response with error", "the service's status, and its message with any characters", func(s *stage) {
			s.script(1, func(c *serviceCall) error {
				if _, err := c.receive(); err != nil {
					return err
				}
				return status.Error(codes.NotFound, "no such thing: 100% \"größe\"\n")
			})
			s.call("Whole/Unary", 1).send("hi").halfClose().ends(codes.NotFound, "no such thing: 100% \"größe\"\n")
			s.executed(1, 1)
		}},
		{group, "server abort on send", "a service that resets the stream after a message: the message, then status 13", func(s *stage) {
			reset := make(chan struct{})
			s.raw.script(s.key(1), func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				_, _ = w.Write(frame(text("one")))
				_ = http.NewResponseController(w).Flush()
				s.wait(reset)
				panic(http.ErrAbortHandler)
			})
			c := s.call("Raw/ServerStream", 1).send("hi").halfClose().receives("one")
			close(reset)
			c.ends(codes.Internal, "")
		}},
		{group, "server abort on read", "a service that resets the stream instead of reading on: status 13", func(s *stage) {
			s.raw.script(s.key(1), func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.ReadFull(r.Body, make([]byte, len(frame(text("one")))))
				panic(http.ErrAbortHandler)
			})
			s.call("Raw/ClientStream", 1).send("one").ends(codes.Internal, "")
		}},
		{group, "method not POST", "HTTP status 405, and no record", func(s *stage) {
			a := s.request(http.MethodGet, "/conformance.Whole/Unary", s.headers(1), nil)
			expect(s, "HTTP status", a.status, http.StatusMethodNotAllowed)
		}},
		{group, "missing te: trailers", "the call is served: what the header is for is already shown by HTTP/2", func(s *stage) {
			s.script(1, echo)
			h := s.headers(1)
			delete(h, "Te")
			a := s.request(http.MethodPost, "/conformance.Whole/Unary", h, frame(text("hi")))
			expect(s, "grpc-status", a.grpcStatus(), "0")
			expect(s, "message", string(a.body), string(frame(text("hi"))))
			s.executed(1, 1)
		}},
		{group, "unknown rpc", "a method without a route: status 12 and no record; one that the service does not have: its status 12", func(s *stage) {
			s.call("Nobody/Unary", 1).send("hi").halfClose().ends(codes.Unimplemented, "conformance.Nobody/Unary")
			s.script(2, func(c *serviceCall) error {
				if _, err := c.receiveAll(); err != nil {
					return err
				}
				return status.Error(codes.Unimplemented, "unknown method")
			})
			s.call("Whole/Missing", 2).send("hi").halfClose().ends(codes.Unimplemented, "unknown method")
			s.executed(2, 1)
		}},
		{group, "unsupported content type", "HTTP status 415, and no record", func(s *stage) {
			h := s.headers(1)
			h["Content-Type"] = "application/json"
			a := s.request(http.MethodPost, "/conformance.Whole/Unary", h, []byte("{}"))
			expect(s, "HTTP status", a.status, http.StatusUnsupportedMediaType)
		}},
	}
}

// headers are those of a gRPC request with the scenario's nth key.
func (s *stage) headers(n int) map[string]string {
	return map[string]string{"Content-Type": "application/grpc", "Te": "trailers", "Idempotency-Key": s.key(n)}
}
