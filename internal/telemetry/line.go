package telemetry

import (
	"encoding/hex"
	"strconv"
	"time"
	"unicode/utf8"

	"kafkagrpc/wire"
)

// appendLine adds the line of an event, to the byte as slog.JSONHandler writes it. That one takes several times as long, and memory, for each call.
func (s stamped) appendLine(b []byte) []byte {
	b = append(b, `{"time":"`...)
	b = s.at.AppendFormat(b, time.RFC3339Nano)
	b = appendMember(append(b, `","level":"INFO"`...), "msg", s.Name)
	b = appendMember(b, "binding", s.Binding)
	b = appendMember(b, "method", s.Method)
	b = appendMember(b, "status", wire.StatusName(s.Status))
	if s.Result != "" {
		b = appendMember(b, "result", string(s.Result))
	}
	b = strconv.AppendFloat(append(b, `,"ms":`...), float64(s.Took.Microseconds())/1000, 'f', -1, 64)
	if s.Target != "" { // it has no records
		b = appendMember(b, "target", s.Target)
	} else {
		if s.CorrelationID != "" {
			b = appendMember(b, "correlation_id", s.CorrelationID)
		}
		b = appendMember(b, "topic", s.Topic)
	}
	if s.Group != "" {
		b = appendMember(b, "group", s.Group)
	}
	if s.Messages > 0 {
		b = strconv.AppendInt(append(b, `,"messages":`...), s.Messages, 10)
	}
	if s.Offset >= 0 {
		b = strconv.AppendInt(append(b, `,"partition":`...), int64(s.Partition), 10)
		b = strconv.AppendInt(append(b, `,"offset":`...), s.Offset, 10)
	}
	if s.Span.IsValid() {
		id := s.Span.TraceID()
		b = append(hex.AppendEncode(append(b, `,"trace_id":"`...), id[:]), '"')
	}
	return append(b, "}\n"...)
}

// appendMember adds a member that is not the first one. The name is plain.
func appendMember(b []byte, name, value string) []byte {
	b = append(append(append(b, `,"`...), name...), `":"`...)
	return append(appendEscaped(b, value), '"')
}

// appendEscaped adds text as it stands between the quotes of a JSON string. Bytes that are no UTF-8 become U+FFFD, and the two line ends that
// JavaScript knows beside those of ASCII are escaped.
func appendEscaped(b []byte, text string) []byte {
	const digits = "0123456789abcdef"
	done := 0 // what is added, or stands for what is
	for i := 0; i < len(text); {
		c, size := rune(text[i]), 1
		if c >= utf8.RuneSelf {
			c, size = utf8.DecodeRuneInString(text[i:])
		}
		if c >= ' ' && c != '"' && c != '\\' && c != '\u2028' && c != '\u2029' && (c != utf8.RuneError || size > 1) {
			i += size
			continue
		}
		b = append(b, text[done:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', byte(c))
		case '\n':
			b = append(b, `\n`...)
		case '\r':
			b = append(b, `\r`...)
		case '\t':
			b = append(b, `\t`...)
		default:
			b = append(b, '\\', 'u', digits[c>>12], digits[c>>8&0xf], digits[c>>4&0xf], digits[c&0xf])
		}
		i += size
		done = i
	}
	return append(b, text[done:]...)
}
