package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"kafkagrpc/wire"
	"kafkagrpc/wire/rawcodec"
)

// north takes unary gRPC calls, writes their requests and reads their replies.
type north struct {
	options
	listener net.Listener
	server   *grpc.Server
	writer   *kgo.Client
	reader   *kgo.Client
	running  sync.WaitGroup

	mu      sync.Mutex
	waiting map[string]chan wire.Record // by correlation id, one for each call; each has room for a whole reply
}

func startNorth(ctx context.Context, o options, writer *kgo.Client, fail context.CancelCauseFunc) (*north, error) {
	n := &north{options: o, writer: writer, waiting: map[string]chan wire.Record{}}
	var err error
	// From the start of the topic, so that there is no moment from which on it reads.
	n.reader, err = kgo.NewClient(kgo.SeedBrokers(o.brokers...), kgo.ConsumeTopics(o.replies), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return nil, err
	}
	if n.listener, err = net.Listen("tcp", o.listen); err != nil {
		n.reader.Close()
		return nil, err
	}
	n.server = grpc.NewServer(grpc.ForceServerCodecV2(rawcodec.Codec{}), grpc.UnknownServiceHandler(n.serve))
	n.running.Go(func() {
		if err := n.server.Serve(n.listener); err != nil {
			fail(err)
		}
	})
	n.running.Go(func() { n.read(ctx, fail) })
	return n, nil
}

// close is called when ctx has ended.
func (n *north) close() {
	n.server.Stop()
	n.running.Wait()
	n.reader.Close()
}

func (n *north) serve(_ any, stream grpc.ServerStream) error {
	var message []byte
	if err := stream.RecvMsg(&message); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(stream.Context(), callTimeout)
	defer cancel()
	incoming, _ := metadata.FromIncomingContext(ctx)
	method, _ := grpc.MethodFromServerStream(stream)
	service, method, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	request := wire.Request{Service: service, Method: method, ReplyTo: n.replies, Call: rand.Text(), Metadata: wire.FromMD(incoming), Number: wire.Nth(0)}
	key, _ := request.Metadata.Get(contract.IdempotencyMetadata)
	request.CorrelationID = contract.ScopeID(key, service, method, n.replies, nil)
	request.Deadline, _ = stream.Context().Deadline()

	records := make(chan wire.Record, 2)
	n.mu.Lock()
	_, waits := n.waiting[request.CorrelationID]
	if !waits {
		n.waiting[request.CorrelationID] = records
	}
	n.mu.Unlock()
	if waits {
		return status.Errorf(codes.AlreadyExists, "%s waits already", request.CorrelationID)
	}
	defer func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.waiting, request.CorrelationID)
	}()
	failed := make(chan error, 2)
	for i, value := range [][]byte{message, nil} {
		request.Number = wire.Nth(i)
		n.writer.Produce(ctx, &kgo.Record{
			Topic: n.requests, Key: []byte(request.CorrelationID), Value: value, Headers: kafkaHeaders(contract.EncodeRequest(request, nil)),
		}, func(_ *kgo.Record, err error) {
			if err != nil {
				failed <- err
			}
		})
	}
	for {
		select {
		case r := <-records:
			reply, err := contract.DecodeReply(r.Headers)
			if err != nil {
				return err
			}
			if r.Value == nil {
				stream.SetTrailer(reply.Trailers.MD())
				return status.Error(reply.Status, reply.Message)
			}
			if err := stream.SetHeader(reply.Metadata.MD()); err != nil {
				return err
			}
			if err := stream.SendMsg(&r.Value); err != nil {
				return err
			}
		case err := <-failed:
			return err
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
}

func (n *north) read(ctx context.Context, fail context.CancelCauseFunc) {
	for {
		fetches := n.reader.PollFetches(ctx)
		if ctx.Err() != nil {
			return
		}
		if err := fetches.Err(); err != nil {
			fail(fmt.Errorf("reading %s: %w", n.replies, err))
			return
		}
		fetches.EachRecord(func(r *kgo.Record) {
			n.mu.Lock()
			records := n.waiting[string(r.Key)]
			n.mu.Unlock()
			select {
			case records <- wire.Record{Value: r.Value, Headers: wireHeaders(r.Headers)}:
			default: // nobody waits, or it is more than a reply
			}
		})
	}
}
