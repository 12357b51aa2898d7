package processor_test

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"kafkagrpc/processor/rowpb"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

func TestUnreadableRowIsAnsweredDataLoss(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.createTable()
	future, err := proto.Marshal(&rowpb.Row{Version: 99, State: rowpb.State_STATE_FINAL, ExpiresMs: 1 << 50})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		row    []byte
		reason string
	}{
		{"garbage", []byte("\xff\xff\xff"), "proto"},
		{"unknown version", future, "row version 99, this program reads 1"},
		{"empty", []byte{}, "row version 0"},
	}
	for _, test := range tests {
		b.produceTo(b.remote.Table, -1, wire.Record{Key: []byte(request(test.name).CorrelationID), Value: test.row})
	}
	i := b.started()
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b.call(attempt(test.name, test.name), "one").check(t, codes.DataLoss, "the stored result of this idempotency key cannot be read")
			key := request(test.name).CorrelationID
			if _, err := i.Row(key); err == nil || !strings.Contains(err.Error(), test.reason) || !strings.Contains(err.Error(), key) {
				t.Errorf("reading the row: %v", err)
			}
		})
	}
	b.call(attempt("other", "other"), "one").check(t, codes.OK, "", "one")
	b.committed()
	b.wantExecuted("one")
	if got := b.log(b.remote.Table); len(got) != len(tests)+1 {
		t.Errorf("%d rows on the table topic, want %d", len(got), len(tests)+1)
	}
}

// What a service sends as its status message is percent-encoded bytes, not always text.
func TestStatusMessageThatIsNotText(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/grpc+proto")
		w.WriteHeader(http.StatusOK)
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", "5")
		w.Header().Set(http.TrailerPrefix+"Grpc-Message", "bytes: %FF%FE")
	})}
	server.Protocols.SetUnencryptedHTTP2(true)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		<-served
	})
	b := newBench(t, 1, func(r *topology.Remote) {
		address := listener.Addr().String()
		r.Routes[0].Target = topology.Target{Scheme: "http", Authority: address, Address: address}
	})
	b.started()
	first := b.call(attempt("k", "a"), "one")
	first.check(t, codes.NotFound, "bytes: \uFFFD")
	first.same(t, b.call(attempt("k", "b"), "one"))
	b.committed()
}

// Where nothing is traced, a row leads to the trace of the caller.
func TestRowNamesTheTraceOfItsCaller(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	i := b.started()
	traced := attempt("k", "a")
	traced.Trace.Parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	b.call(traced, "1").check(t, codes.OK, "", "1")
	b.call(attempt("other", "b"), "2").check(t, codes.OK, "", "2")
	b.committed()
	if row := i.row(t, "k"); row.TraceId != "4bf92f3577b34da6a3ce929d0e0e4736" || row.SpanId != "00f067aa0ba902b7" {
		t.Errorf("the row has trace %q and span %q", row.TraceId, row.SpanId)
	}
	if row := i.row(t, "other"); row.TraceId != "" || row.SpanId != "" {
		t.Errorf("without a caller's trace the row has trace %q and span %q", row.TraceId, row.SpanId)
	}
}
