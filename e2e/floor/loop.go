package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"kafkagrpc/processor/rowpb"
	"kafkagrpc/wire"
	"kafkagrpc/wire/rawcodec"
)

const (
	maxInFlight = 8000 // calls, until their replies are acknowledged
	callTimeout = 30 * time.Second
	expiry      = 24 * time.Hour
)

var contract = wire.DefaultContract()

// loop reads requests, calls the service and writes rows and replies.
type loop struct {
	options
	client   *kgo.Client // of the group; it writes, too
	service  *grpc.ClientConn
	fail     context.CancelCauseFunc
	assigned chan struct{} // closed when the group has given it its partitions
	slots    chan struct{} // one for each call
	running  sync.WaitGroup
}

func startLoop(ctx context.Context, o options, fail context.CancelCauseFunc) (*loop, error) {
	l := &loop{options: o, fail: fail, assigned: make(chan struct{}), slots: make(chan struct{}, maxInFlight)}
	var err error
	l.service, err = grpc.NewClient("passthrough:///"+o.target, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawcodec.Codec{}), grpc.WaitForReady(true)))
	if err != nil {
		return nil, err
	}
	assigned := sync.OnceFunc(func() { close(l.assigned) })
	l.client, err = kgo.NewClient(kgo.SeedBrokers(o.brokers...), kgo.ConsumerGroup(o.group), kgo.ConsumeTopics(o.requests),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, topics map[string][]int32) {
			if len(topics[o.requests]) > 0 {
				assigned()
			}
		}),
		// Idempotent, with acks of all replicas, by default. More room than there can be records, as Produce must not wait in a promise.
		kgo.MaxBufferedRecords(8*maxInFlight), kgo.RecordDeliveryTimeout(callTimeout), kgo.ProducerLinger(0), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		return nil, errors.Join(err, l.service.Close())
	}
	l.running.Go(func() { l.read(ctx) })
	return l, nil
}

func (l *loop) close() error {
	l.running.Wait()
	l.client.Close()
	return l.service.Close()
}

func (l *loop) read(ctx context.Context) {
	for {
		fetches := l.client.PollFetches(ctx)
		if ctx.Err() != nil {
			return
		}
		if err := fetches.Err(); err != nil {
			l.fail(fmt.Errorf("reading %s: %w", l.requests, err))
			return
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Value == nil {
				return // the caller's half-close: a unary call is whole before
			}
			select {
			case l.slots <- struct{}{}:
				l.running.Go(func() { l.call(ctx, r) })
			case <-ctx.Done():
			}
		})
	}
}

// call executes a request, and writes first its row and then its reply.
func (l *loop) call(ctx context.Context, r *kgo.Record) {
	request, err := contract.DecodeRequest(wireHeaders(r.Headers), r.Timestamp)
	if err != nil {
		l.fail(fmt.Errorf("%s/%d@%d: %w", r.Topic, r.Partition, r.Offset, err))
		return
	}
	started := time.Now()
	deadline := started.Add(callTimeout)
	if d := request.Deadline; !d.IsZero() && d.Before(deadline) {
		deadline = d
	}
	calling, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	var answer []byte
	var header, trailer metadata.MD
	err = l.service.Invoke(metadata.NewOutgoingContext(calling, request.Metadata.MD()), "/"+request.FullMethod(), &r.Value, &answer,
		grpc.Header(&header), grpc.Trailer(&trailer))
	if err != nil {
		l.fail(fmt.Errorf("calling %s: %w", request.FullMethod(), err))
		return
	}
	header.Delete("content-type") // of HTTP
	reply := wire.Reply{
		CorrelationID: request.CorrelationID, Call: request.Call, // the status is OK
		Metadata: wire.FromMD(header), Trailers: wire.FromMD(trailer), Number: wire.Nth(0),
	}
	finished := time.Now()
	row, err := proto.Marshal(&rowpb.Row{
		Version: 1, State: rowpb.State_STATE_FINAL, Fingerprint: fingerprint(request.FullMethod(), r.Value),
		Service: request.Service, Method: request.Method, CorrelationId: request.CorrelationID,
		Metadata: fields(reply.Metadata), Messages: [][]byte{answer}, Trailers: fields(reply.Trailers),
		Source:   &rowpb.Source{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, TimestampMs: r.Timestamp.UnixMilli()},
		Attempts: 1, Target: l.target,
		StartedMs: started.UnixMilli(), FinishedMs: finished.UnixMilli(), ExpiresMs: finished.Add(expiry).UnixMilli(),
	})
	if err != nil {
		l.fail(err)
		return
	}
	key := []byte(request.CorrelationID)
	message := &kgo.Record{Topic: l.replies, Key: key, Value: answer, Headers: kafkaHeaders(contract.EncodeReplyMessage(reply))}
	reply.Metadata, reply.Number = nil, wire.Nth(1)
	end := &kgo.Record{Topic: l.replies, Key: key, Headers: kafkaHeaders(contract.EncodeReplyEnd(reply))}
	l.write(ctx, &kgo.Record{Topic: l.table, Key: key, Value: row}, func() {
		l.write(ctx, message, func() {})
		l.write(ctx, end, func() { <-l.slots })
	})
}

// write writes a record; then is called when Kafka has acknowledged it.
func (l *loop) write(ctx context.Context, r *kgo.Record, then func()) {
	l.client.Produce(ctx, r, func(_ *kgo.Record, err error) {
		if err != nil {
			l.fail(fmt.Errorf("writing to %s: %w", r.Topic, err))
			return
		}
		then()
	})
}

// fingerprint is the program's hash over method and message.
func fingerprint(method string, message []byte) []byte {
	hash := sha256.New()
	for _, part := range [][]byte{[]byte(method), message} {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		hash.Write(n[:])
		hash.Write(part)
	}
	return hash.Sum(nil)
}

func fields(m wire.Metadata) []*rowpb.Field {
	out := make([]*rowpb.Field, len(m))
	for i, f := range m {
		out[i] = &rowpb.Field{Name: f.Name, Value: []byte(f.Value)}
	}
	return out
}

func wireHeaders(headers []kgo.RecordHeader) []wire.Header {
	out := make([]wire.Header, len(headers))
	for i, h := range headers {
		out[i] = wire.Header{Name: h.Key, Value: h.Value}
	}
	return out
}

func kafkaHeaders(headers []wire.Header) []kgo.RecordHeader {
	out := make([]kgo.RecordHeader, len(headers))
	for i, h := range headers {
		out[i] = kgo.RecordHeader{Key: h.Name, Value: h.Value}
	}
	return out
}
