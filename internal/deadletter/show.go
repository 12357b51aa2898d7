package deadletter

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"

	"kafkagrpc/internal/texttable"
	"kafkagrpc/wire"
)

// text is bytes as a person can read them on one line, or null.
func text(b []byte) string {
	if b == nil {
		return "null"
	}
	return texttable.Text(string(b))
}

// said is text of something that may be missing.
func said(s string) string {
	if s == "" {
		return "-"
	}
	return text([]byte(s))
}

// Table writes letters as one line each, cut to a number of columns. asks is what a letter says of its call.
func Table(w io.Writer, letters []Letter, asks func(Letter) wire.Request, replayed bool, columns int) error {
	rows := [][]string{{"LETTER", "TIME", "CODE", "FROM", "KEY", "CORRELATION ID", "METHOD", "REASON"}}
	if replayed {
		rows[0] = append(rows[0], "REPLAYED")
	}
	for _, l := range letters {
		request := asks(l)
		code := "-"
		if l.Cause.Code != codes.OK {
			code = l.Cause.Code.String()
		}
		row := []string{
			l.Position().String(), moment(l.Timestamp), code,
			fmt.Sprintf("%s %d@%d", text([]byte(l.Cause.Topic)), l.Cause.Partition, l.Cause.Offset),
			text(l.Key), said(request.CorrelationID), said(method(request)), said(l.Cause.Reason),
		}
		if replayed {
			row = append(row, moment(l.Replayed))
		}
		rows = append(rows, row)
	}
	return texttable.Write(w, rows, columns, "LETTER", "TIME", "REPLAYED") // positions and times are never cut
}

func moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

// letterJSON is the stable form of a letter: kebab-case keys. Bytes are text, or base64 under another name where they
// are not UTF-8; a null is null.
type letterJSON struct {
	Topic         string       `json:"topic"`
	Letter        string       `json:"letter"`
	Partition     int32        `json:"partition"`
	Offset        int64        `json:"offset"`
	Time          time.Time    `json:"time"`
	Reason        string       `json:"reason"`
	Class         string       `json:"class,omitempty"`
	Code          string       `json:"code,omitempty"`
	Attempts      int          `json:"attempts,omitempty"`
	Source        sourceJSON   `json:"source"`
	CorrelationID string       `json:"correlation-id"`
	Service       string       `json:"service"`
	Method        string       `json:"method"`
	Key           *string      `json:"key"`
	KeyBase64     *string      `json:"key-base64,omitempty"`
	ValueBase64   *string      `json:"value-base64"`
	Headers       []headerJSON `json:"headers"`
	Replayed      *time.Time   `json:"replayed"`
}

type sourceJSON struct {
	Topic     string    `json:"topic"`
	Partition int32     `json:"partition"`
	Offset    int64     `json:"offset"`
	Time      time.Time `json:"time"`
}

type headerJSON struct {
	Name        string  `json:"name"`
	Value       *string `json:"value"`
	ValueBase64 *string `json:"value-base64,omitempty"`
}

// JSON describes a letter of a request for programs. The values of credentials are masked.
func (l Letter) JSON(request wire.Request) ([]byte, error) {
	j := letterJSON{
		Topic: l.Topic, Letter: l.Position().String(), Partition: l.Partition, Offset: l.Offset, Time: l.Timestamp.UTC(),
		Reason: l.Cause.Reason, Class: l.Cause.Class, Attempts: l.Cause.Attempts,
		Source:        sourceJSON{Topic: l.Cause.Topic, Partition: l.Cause.Partition, Offset: l.Cause.Offset, Time: l.Cause.Timestamp.UTC()},
		CorrelationID: request.CorrelationID, Service: request.Service, Method: request.Method,
		Headers: []headerJSON{},
	}
	if l.Cause.Code != codes.OK {
		j.Code = l.Cause.Code.String()
	}
	if !l.Replayed.IsZero() {
		at := l.Replayed.UTC()
		j.Replayed = &at
	}
	j.Key, j.KeyBase64 = textOrBase64(l.Key)
	if l.Value != nil {
		j.ValueBase64 = encoded(l.Value)
	}
	for _, h := range l.Headers {
		value, inBase64 := textOrBase64(h.Value)
		if secret(h.Name) {
			masked := "***"
			value, inBase64 = &masked, nil
		}
		j.Headers = append(j.Headers, headerJSON{Name: h.Name, Value: value, ValueBase64: inBase64})
	}
	return json.Marshal(j)
}

func textOrBase64(b []byte) (plain, inBase64 *string) {
	switch {
	case b == nil:
		return nil, nil
	case utf8.Valid(b):
		s := string(b)
		return &s, nil
	default:
		return nil, encoded(b)
	}
}

func encoded(b []byte) *string {
	s := base64.StdEncoding.EncodeToString(b)
	return &s
}

// secret reports whether a header holds a credential, as metadata or otherwise.
func secret(name string) bool {
	switch strings.TrimSuffix(strings.TrimPrefix(strings.ToLower(name), "meta:"), "-bin") {
	case "authorization", "proxy-authorization", "cookie", "set-cookie":
		return true
	}
	return false
}
