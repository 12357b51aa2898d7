package wire_test

import (
	"strings"
	"testing"
	"time"

	"kafkagrpc/wire"
)

func TestNumberOfARecord(t *testing.T) {
	t.Parallel()
	c := wire.DefaultContract()
	reply, asked := wire.Reply{CorrelationID: "id", Call: "a", Trace: wire.Trace{Parent: "p"}}, request()
	for name, encode := range map[string]func(wire.Number) []wire.Header{
		"request":       func(n wire.Number) []wire.Header { asked.Number = n; return c.EncodeRequest(asked, nil) },
		"reply message": func(n wire.Number) []wire.Header { reply.Number = n; return c.EncodeReplyMessage(reply) },
		"reply end":     func(n wire.Number) []wire.Header { reply.Number = n; return c.EncodeReplyEnd(reply) },
		"one of several": func(n wire.Number) []wire.Header {
			reply.Number = 0
			return wire.Numbered(c.EncodeReplyMessage(reply), n)
		},
	} {
		t.Run(name, func(t *testing.T) {
			plain := encode(0)
			for text, n := range map[string]wire.Number{"0": wire.Nth(0), "1": wire.Nth(1), "1234567": wire.Nth(1234567)} {
				headers := encode(n)
				diffHeaders(t, headers, append(plain[:len(plain):len(plain)], pairs("grpc:message", text)...))
				if got := wire.NumberOf(headers); got != n {
					t.Errorf("NumberOf = %d, want %d", got, n)
				}
				r, err := c.DecodeReply(headers)
				if err != nil || r.Number != n {
					t.Errorf("DecodeReply: %d, %v, want %d", r.Number, err, n)
				}
				q, err := c.DecodeRequest(headers, time.Time{})
				if err != nil || q.Number != n {
					t.Errorf("DecodeRequest: %d, %v, want %d", q.Number, err, n)
				}
			}
			if n, ok := wire.NumberOf(plain).Get(); ok {
				t.Errorf("without one: %d", n)
			}
		})
	}
}

// The headers of several records are made of the same ones.
func TestNumberedSharesNothing(t *testing.T) {
	t.Parallel()
	plain := append(make([]wire.Header, 0, 10), pairs("a", "b")...)
	first, second := wire.Numbered(plain, wire.Nth(0)), wire.Numbered(plain, wire.Nth(1))
	diffHeaders(t, first, pairs("a", "b", "grpc:message", "0"))
	diffHeaders(t, second, pairs("a", "b", "grpc:message", "1"))
}

func TestNumberThatIsNone(t *testing.T) {
	t.Parallel()
	for _, value := range []string{"", "-1", "+1", "1.5", "one", "0x1", "99999999999999999999", strings.Repeat("1", 100)} {
		headers := pairs("grpc:message", value)
		if n, ok := wire.NumberOf(headers).Get(); ok {
			t.Errorf("%.10q is read as %d", value, n)
		}
		_, reply := wire.DefaultContract().DecodeReply(headers)
		_, request := wire.DefaultContract().DecodeRequest(headers, time.Time{})
		for _, err := range []error{reply, request} {
			if err == nil || !strings.Contains(err.Error(), `header "grpc:message"`) || len(err.Error()) > 100 {
				t.Errorf("%.10q: the error is %v", value, err)
			}
		}
	}
}

func TestNumberAfterOthers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		number     wire.Number
		have, want int
	}{
		{0, 0, 0}, {0, 7, 0}, // none: it follows
		{wire.Nth(0), 0, 0}, {wire.Nth(0), 1, -1}, {wire.Nth(1), 0, 1}, {wire.Nth(7), 7, 0}, {wire.Nth(6), 7, -1}, {wire.Nth(8), 7, 1},
	} {
		if got := tt.number.After(tt.have); got != tt.want {
			t.Errorf("%d after %d messages: %d, want %d", tt.number, tt.have, got, tt.want)
		}
	}
}
