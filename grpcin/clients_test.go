package grpcin_test

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"kafkagrpc/grpcin"
)

// A listener for some clients answers them, and no others.
func TestClientsOfSomeAddresses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		clients string
		want    codes.Code
	}{
		{"127.0.0.0/8", codes.OK},
		{"10.0.0.0/8 127.0.0.1/32", codes.OK},
		{"10.0.0.0/8", codes.Unavailable},
		{"127.0.0.2/32 ::1/128", codes.Unavailable},
		{"::/0", codes.Unavailable},
		{"::ffff:127.0.0.0/104", codes.Unavailable}, // of version 6, which no client has
	} {
		t.Run(tt.clients, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			f := start(t, func(o *grpcin.Options, _ *front) {
				o.Log = slog.New(slog.NewTextHandler(&log, nil))
				for c := range strings.FieldsSeq(tt.clients) {
					o.Listener.Clients = append(o.Listener.Clients, netip.MustParsePrefix(c))
				}
			})
			f.kafka.on = echo(t, f.calls)
			if r := f.call(withPatience(t), unary, "x"); r.Status != tt.want {
				t.Errorf("result = %+v, want %v", r, tt.want)
			}
			if err := f.stop(); err != nil {
				t.Fatal(err)
			}
			if told := strings.Contains(log.String(), "is closed\" binding=") && strings.Contains(log.String(), "client=127.0.0.1:"); told != (tt.want != codes.OK) {
				t.Errorf("the log has a line: %v: %s", told, &log)
			}
		})
	}
}
