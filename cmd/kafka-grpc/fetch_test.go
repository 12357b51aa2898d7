package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"kafkagrpc/cmd/kafka-grpc/app"
	"kafkagrpc/internal/embedded"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
	"kafkagrpc/wire/rawcodec"
)

// startFanout starts the example on a Kafka with some records in topic messages.
func startFanout(ctx context.Context, t *testing.T, events *bytes.Buffer, values ...string) (*embedded.Kafka, *app.App, *grpc.ClientConn) {
	t.Helper()
	kafka, err := embedded.StartKafka(embedded.KafkaOptions{Topics: map[string]int32{"messages": 1}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kafka.Close)
	writer, err := kgo.NewClient(kgo.SeedBrokers(kafka.Brokers()...))
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	for _, v := range values {
		if err := writer.ProduceSync(ctx, &kgo.Record{Topic: "messages", Value: []byte(v)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	top, err := topology.Load("../../deploy/examples/fanout.yaml", topology.Options{Brokers: kafka.Brokers(), Listen: "127.0.0.1", LookupEnv: os.LookupEnv})
	if err != nil {
		t.Fatal(err)
	}
	top.Listeners[0].Port, top.Telemetry.Stdout = 0, true
	a, err := app.Start(ctx, app.Config{Topology: top, Admin: &app.Admin{Addr: "127.0.0.1:0"}, Stdout: events, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Stop(); err != nil {
			t.Error(err)
		}
	})
	if err := a.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(a.Addrs()[0].String(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawcodec.Codec{})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return kafka, a, conn
}

const fanout = "example.FanoutService/FanoutServerStream"

func fetchFanout(ctx context.Context, t *testing.T, conn *grpc.ClientConn, md ...string) grpc.ClientStream {
	t.Helper()
	stream, err := conn.NewStream(metadata.AppendToOutgoingContext(ctx, md...), &grpc.StreamDesc{ServerStreams: true}, "/"+fanout)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.SendMsg(&[]byte{}); err != nil {
		t.Fatal(err)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	return stream
}

// A call that reads a topic is told of as others are: a trace, metrics, an event.
func TestFetchIsTracedMeasuredAndTold(t *testing.T) {
	collector := newSpans(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	t.Setenv("OTEL_METRICS_EXPORTER", "none")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var events bytes.Buffer
	_, a, conn := startFanout(ctx, t, &events, "\x0a\x01a", "\x0a\x01b")
	trace := []byte(strings.Repeat("t", 16))
	stream := fetchFanout(ctx, t, conn, "traceparent", fmt.Sprintf("00-%x-00f067aa0ba902b7-01", trace), "fetch-group", "readers")
	for i, want := range []string{"\x0a\x01a", "\x0a\x01b"} {
		var got []byte
		if err := stream.RecvMsg(&got); err != nil {
			t.Fatal(err)
		}
		if want := string(wire.AppendMessageID([]byte(want), 32767, wire.EncodeProgress(map[int32]int64{0: int64(i) + 1}))); string(got) != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	const series = `kafka_grpc_fetch_messages_total{method="FanoutServerStream",service="example.FanoutService",topic="messages"} 2` + "\n"
	open := `kafka_grpc_fetch_calls{binding="north_grpc_kafka_mapping",topic="messages"} `
	if text := scrape(ctx, t, a.AdminURL()); !strings.Contains(text, series) || !strings.Contains(text, open+"1\n") {
		t.Errorf("while it is open: %s", text)
	}
	if err := a.Stop(); err != nil { // which ends the call, and sends all that is left
		t.Fatal(err)
	}
	if err := stream.RecvMsg(&[]byte{}); status.Code(err) != codes.Unavailable {
		t.Errorf("it ended with %v", err)
	}
	if got, want := collector.tree(trace), "orphan:\n  "+fanout+" [server]\n    receive messages [client]\n"; got != want {
		t.Errorf("the trace is\n%s\nnot\n%s", got, want)
	}
	for name, want := range map[string]string{
		"messaging.destination.name": "messages", "messaging.consumer.group.name": "example-north_grpc_kafka_mapping:messages:readers", "messaging.batch.message_count": "2",
		"rpc.response.status_code": "UNAVAILABLE",
	} {
		if got := attributes(collector.find(trace, "receive messages").GetAttributes())[name]; got != want {
			t.Errorf("%s is %q, not %q", name, got, want)
		}
	}
	for _, part := range []string{
		`"msg":"call"`, `"method":"` + fanout + `"`, `"status":"UNAVAILABLE"`, `"topic":"messages","group":"example-north_grpc_kafka_mapping:messages:readers","messages":2,`,
		fmt.Sprintf(`"trace_id":"%x"`, trace),
	} {
		if got := events.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, part) {
			t.Errorf("no %s in the events: %s", part, got)
		}
	}
}

// What keeps a topic from being read is a status that says whether to try again.
func TestFetchOfWhatCannotBeRead(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	kafka, _, conn := startFanout(ctx, t, new(bytes.Buffer))
	for _, tt := range []struct {
		name  string
		fault kfake.Fault
		md    []string
		code  codes.Code
		text  string
	}{
		{name: "a partition that there is not", md: []string{"last-message-id", wire.EncodeProgressText(map[int32]int64{1: 5})}, code: codes.InvalidArgument, text: `topic "messages" has 1 partitions`},
		{name: "not allowed", fault: kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.TopicAuthorizationFailed, Count: -1}, code: codes.Internal, text: "TOPIC_AUTHORIZATION_FAILED"},
		{name: "a group that is not allowed", fault: kfake.Fault{Keys: []kmsg.Key{kmsg.JoinGroup}, Err: kerr.GroupAuthorizationFailed, Count: -1}, md: []string{"fetch-group", "g"}, code: codes.Internal, text: `reading topic "messages": unable to join group session: GROUP_AUTHORIZATION_FAILED`},
		{name: "gone", fault: kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Err: kerr.UnknownTopicOrPartition, Count: -1}, code: codes.NotFound, text: "UNKNOWN_TOPIC_OR_PARTITION"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.fault.Err != nil {
				fault := kafka.Cluster().Fault(tt.fault)
				defer fault.Remove()
			}
			err := fetchFanout(ctx, t, conn, tt.md...).RecvMsg(&[]byte{})
			if status.Code(err) != tt.code || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("it ended with %v", err)
			}
		})
	}
	kafka.Close()
	if err := fetchFanout(ctx, t, conn).RecvMsg(&[]byte{}); status.Code(err) != codes.Unavailable {
		t.Errorf("without a Kafka: %v", err)
	}
}
