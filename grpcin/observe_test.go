package grpcin_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"kafkagrpc/grpcin"
	"kafkagrpc/internal/wire"
)

// An outage is a failure of every call: the log tells of it, and does not have a line for each.
func TestLogOfAnOutageIsShort(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	f := start(t, func(o *grpcin.Options, _ *front) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	f.kafka.fail = func(wire.Record) error { return errors.New("no broker answers") }
	const calls = 50
	for range calls {
		if r := f.call(withPatience(t), unary, "x"); r.Status != codes.Unavailable {
			t.Fatalf("%+v", r)
		}
	}
	if err := f.stop(); err != nil {
		t.Fatal(err)
	}
	lines := strings.Count(log.String(), "a call could not be written to Kafka")
	if lines == 0 || lines == calls || !strings.Contains(log.String(), "correlation_id=") || !strings.Contains(log.String(), "not_shown_before=") {
		t.Errorf("%d lines of %d calls: %s", lines, calls, &log)
	}
}
