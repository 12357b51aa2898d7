package grpcin_test

import (
	"fmt"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"kafkagrpc/grpcin"
	"kafkagrpc/topology"
)

// Clients in the field probe a connection with a long call on it every 10 s, and some every second.
func TestKeepalivePings(t *testing.T) {
	t.Parallel()
	const probes = 20
	tests := []struct {
		name     string
		minTime  time.Duration
		answered bool
	}{
		{"any", topology.AnyKeepalive, true},
		{"too many", time.Hour, false},
		{"too many for the default", 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := start(t, func(o *grpcin.Options, _ *front) { o.Listener.Server.KeepaliveMinTime = tt.minTime })
			conn, err := net.DialTimeout("tcp", f.address, patience)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			_ = conn.SetDeadline(time.Now().Add(patience))
			if answered, err := probe(conn, probes); answered != tt.answered {
				t.Errorf("all of %d probes answered: %v (%v), want %v", probes, answered, err, tt.answered)
			}
		})
	}
}

// probe sends pings at once, and reports whether each is answered; why not is in the error.
func probe(conn net.Conn, pings int) (bool, error) {
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		return false, err
	}
	framer := http2.NewFramer(conn, conn)
	if err := framer.WriteSettings(); err != nil {
		return false, err
	}
	for i := range pings {
		if err := framer.WritePing(false, [8]byte{byte(i)}); err != nil {
			return false, err
		}
	}
	for answers := 0; answers < pings; {
		frame, err := framer.ReadFrame()
		if err != nil {
			return false, err
		}
		switch frame := frame.(type) {
		case *http2.PingFrame:
			if frame.IsAck() {
				answers++
			}
		case *http2.GoAwayFrame:
			return false, fmt.Errorf("%v: %s", frame.ErrCode, frame.DebugData())
		}
	}
	return true, nil
}
