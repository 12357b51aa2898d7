// Package service is the gRPC service that a chaos run calls: it records every execution, and answers each with an
// answer of its own, so that two executions of one key show as a contradiction. It knows nothing of Kafka.
package service

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"kafkagrpc/e2e/chaos/history"
	"kafkagrpc/wire/rawcodec"
)

// Metadata that a request carries for the record: the key of the table, and the attempt.
const (
	KeyMetadata     = "chaos-key"
	AttemptMetadata = "chaos-attempt"
)

// large is the size above which the reply to a request has its size, too.
const large = 1000

// Options are how the service behaves.
type Options struct {
	Slow    float64       // of all keys, those whose calls are slow
	SlowFor time.Duration // what a slow call takes
	Fail    float64       // of all keys, those that are answered NOT_FOUND
	Host    string        // address to listen on; default loopback
}

// Service has an address for each instance under test, so that it knows who calls. Up and Down are for one goroutine.
type Service struct {
	options   Options
	recorder  *history.Recorder
	addresses []string
	last      atomic.Int64 // execution
	servers   []*grpc.Server
	serving   sync.WaitGroup
}

// New finds an address for each instance, and serves nothing before Up.
func New(instances int, o Options, r *history.Recorder) (*Service, error) {
	if o.Host == "" {
		o.Host = "127.0.0.1"
	}
	s := &Service{options: o, recorder: r}
	// All at once, so that they differ.
	var held []net.Listener
	for range instances {
		l, err := net.Listen("tcp", net.JoinHostPort(o.Host, "0"))
		if err != nil {
			return nil, fmt.Errorf("service: %w", err)
		}
		held = append(held, l)
		s.addresses = append(s.addresses, l.Addr().String())
	}
	var errs []error
	for _, l := range held {
		errs = append(errs, l.Close())
	}
	return s, errors.Join(errs...)
}

// Address is what instance i is to call.
func (s *Service) Address(i int) string { return s.addresses[i] }

// Up begins to serve, on the same addresses each time.
func (s *Service) Up() error {
	for i, address := range s.addresses {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return errors.Join(fmt.Errorf("service: %w", err), s.Down())
		}
		server := grpc.NewServer(grpc.ForceServerCodecV2(rawcodec.Codec{}),
			grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error { return s.execute(strconv.Itoa(i), stream) }))
		s.servers = append(s.servers, server)
		s.serving.Go(func() { _ = server.Serve(l) }) // ends with Down
	}
	return nil
}

// Down cuts all calls, and returns when nothing listens any more.
func (s *Service) Down() error {
	for _, server := range s.servers {
		server.Stop()
	}
	s.serving.Wait()
	s.servers = nil
	return nil
}

func (s *Service) execute(instance string, stream grpc.ServerStream) error {
	var request []byte
	if err := stream.RecvMsg(&request); err != nil {
		return err
	}
	md, _ := metadata.FromIncomingContext(stream.Context())
	e := history.Event{
		Kind: history.Begin, Key: first(md, KeyMetadata), Attempt: first(md, AttemptMetadata),
		Execution: fmt.Sprintf("x%d", s.last.Add(1)), Instance: instance,
	}
	s.recorder.Record(e)
	e.Kind = history.End
	code, text := s.answer(stream.Context(), e.Key, e.Execution)
	if len(request) > large && code == codes.OK {
		text += strings.Repeat(".", len(request))
	}
	e.Status, e.Body = code.String(), history.Brief(text)
	s.recorder.Record(e)
	if code != codes.OK {
		return status.Error(code, text)
	}
	reply := []byte(text)
	return stream.SendMsg(&reply)
}

// answer depends on the key alone, but for the execution that it names: an execution that is repeated behaves the same.
func (s *Service) answer(ctx context.Context, key, execution string) (codes.Code, string) {
	if chance("slow", key) < s.options.Slow {
		slow := time.NewTimer(s.options.SlowFor)
		defer slow.Stop()
		select {
		case <-slow.C:
		case <-ctx.Done():
		}
	}
	if ctx.Err() != nil {
		return codes.Canceled, execution
	}
	if chance("fail", key) < s.options.Fail {
		return codes.NotFound, execution
	}
	return codes.OK, execution
}

// chance is a number from 0 to 1 that a key always has.
func chance(of, key string) float64 {
	h := fnv.New32a()
	h.Write([]byte(of + key)) // a hash takes everything
	// FNV alone spreads the last characters badly over the high bits.
	return float64(h.Sum32()*0x9e3779b1) / (1 << 32)
}

func first(md metadata.MD, name string) string {
	if values := md.Get(name); len(values) > 0 {
		return values[0]
	}
	return ""
}
