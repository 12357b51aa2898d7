package grpcin_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"kafkagrpc/wire"
)

func TestAnswers(t *testing.T) {
	t.Parallel()
	rich, err := status.New(codes.NotFound, "größer 100%").WithDetails(durationpb.New(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	details, err := proto.Marshal(rich.Proto())
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		answer func(reply wire.Reply) []wire.Record
		want   result
	}{
		{
			"header, message, trailers", func(r wire.Reply) []wire.Record {
				r.Metadata = fields("h", "2", "h", "1", "h-bin", "\x00\xff", "grpc-status", "3")
				r.Trailers = fields("t", "2", "t", "1", "t-bin", "\xff\x00")
				return []wire.Record{message(r, "y"), end(r)}
			}, result{
				Message: "y", Header: metadata.MD{"h": {"2", "1"}, "h-bin": {"\x00\xff"}}, Trailer: metadata.MD{"t": {"2", "1"}, "t-bin": {"\xff\x00"}},
			},
		},
		{"empty message", func(r wire.Reply) []wire.Record { return []wire.Record{message(r, ""), end(r)} }, result{}},
		{
			"rich error", func(r wire.Reply) []wire.Record {
				r.Status, r.Message = codes.NotFound, "größer 100%"
				r.Metadata, r.Trailers = fields("h", "1"), fields("grpc-status-details-bin", string(details), "t", "1")
				return []wire.Record{end(r)}
			}, result{
				Status: codes.NotFound, Text: "größer 100%", Header: metadata.MD{"h": {"1"}},
				Trailer: metadata.MD{"grpc-status-details-bin": {string(details)}, "t": {"1"}},
			},
		},
		{
			"error without a message", func(r wire.Reply) []wire.Record {
				r.Status = codes.Internal
				return []wire.Record{end(r)}
			}, result{Status: codes.Internal},
		},
		{
			"error after a message", func(r wire.Reply) []wire.Record {
				r.Status, r.Message, r.Trailers = codes.Aborted, "too late", fields("t", "1")
				return []wire.Record{message(r, "y"), end(r)}
			}, result{Status: codes.Aborted, Text: "too late", Trailer: metadata.MD{"t": {"1"}}},
		},
		{
			"status absent", func(r wire.Reply) []wire.Record {
				end := end(r)
				end.Headers = wire.DefaultContract().EncodeReplyMessage(r) // the same without a status
				return []wire.Record{message(r, "y"), end}
			}, result{Message: "y"},
		},
		{
			"the message of a crashed processor before it", func(r wire.Reply) []wire.Record {
				return []wire.Record{message(r, "lost"), message(r, "stored"), end(r)}
			}, result{Message: "stored"},
		},
		{
			"the reply twice", func(r wire.Reply) []wire.Record {
				return []wire.Record{message(r, "y"), end(r), message(r, "y"), end(r)}
			}, result{Message: "y"},
		},
		{
			"no grpc:call", func(r wire.Reply) []wire.Record {
				r.Call = ""
				return []wire.Record{message(r, "y"), end(r)}
			}, result{Message: "y"},
		},
		{
			"foreign replies before it", func(r wire.Reply) []wire.Record {
				otherCall, otherID, otherTopic, noID := r, r, message(r, "otherTopic"), end(r)
				otherCall.Call, otherID.CorrelationID = "other", "other"+scope
				otherTopic.Topic, otherTopic.Value = "neighbour-responses", nil
				noID.Headers = noID.Headers[1:]
				bare := end(r)
				bare.Headers = nil
				return []wire.Record{
					message(otherCall, "otherCall"), end(otherCall), message(otherID, "otherID"), end(otherID), otherTopic, noID, bare,
					message(r, "y"), end(r),
				}
			}, result{Message: "y"},
		},
		{
			"malformed status", func(r wire.Reply) []wire.Record {
				end := end(r)
				end.Headers[1].Value = []byte("NOT_FOUND")
				return []wire.Record{message(r, "y"), end}
			}, result{
				Status: codes.Internal,
				Text:   `the reply in topic "echo-responses", partition 3, offset 42 is malformed: header "zilla:status": "NOT_FOUND" is not a gRPC status in decimal`,
			},
		},
		{
			"metadata that cannot be carried", func(r wire.Reply) []wire.Record {
				message := message(r, "y")
				message.Headers = append(message.Headers, wire.Header{Name: "meta:x", Value: []byte("\n")}, wire.Header{Name: "meta:y", Value: []byte("kept")})
				return []wire.Record{message, end(r)}
			}, result{Message: "y", Header: metadata.MD{"y": {"kept"}}},
		},
		{
			"OK without a message", func(r wire.Reply) []wire.Record { return []wire.Record{end(r)} }, result{
				Status: codes.Internal,
				Text:   `the reply in topic "echo-responses", partition 3, offset 42 is malformed: the call ended with OK, but without a message`,
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			f.kafka.on = func(r wire.Record) {
				if r.Value != nil {
					return
				}
				request := request(t, r)
				for _, record := range tt.answer(wire.Reply{CorrelationID: request.CorrelationID, Call: request.Call}) {
					f.calls.Deliver(record)
				}
			}
			got := f.call(withPatience(t), unary, "x", "idempotency-key", "k1")
			if diff := cmp.Diff(tt.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
			eventually(t, "no call waits", func() bool { return f.calls.Waiting() == 0 })
		})
	}
}
