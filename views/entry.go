package views

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"kafkagrpc/processor/rowpb"
	"kafkagrpc/views/viewspb"
	"kafkagrpc/wire"
)

// row is what a key has in the table.
type row struct {
	pb         *rowpb.Row // nil: removed, or unreadable
	unreadable string     // why it cannot be read
}

func parseRow(value []byte) row {
	if value == nil {
		return row{}
	}
	pb, err := rowpb.Decode(value)
	if err != nil {
		return row{unreadable: err.Error()}
	}
	return row{pb: pb}
}

// expired reports whether the row answers its key no more. It is removed some time later.
func (r row) expired(now time.Time) bool {
	return r.pb != nil && r.pb.ExpiresMs != 0 && r.pb.ExpiresMs <= now.UnixMilli()
}

// The states by the names that people use.
var stateNames = map[rowpb.State]string{
	rowpb.State_STATE_OPEN: "open", rowpb.State_STATE_FINAL: "final", rowpb.State_STATE_RETRYABLE: "retryable",
	rowpb.State_STATE_WAITING: "waiting",
}

func statusName(code int32) string {
	if code >= 0 && int(code) < len(wire.StatusNames) {
		return wire.StatusNames[code]
	}
	return fmt.Sprintf("CODE_%d", code)
}

// textKey is a key as a protobuf string, and the key itself where that is not all of it.
func textKey(key string) (text string, raw []byte) {
	if utf8.ValidString(key) {
		return key, nil
	}
	return strings.ToValidUTF8(key, "\uFFFD"), []byte(key)
}

// describer makes entries of rows.
type describer struct {
	group       string
	protos      protodesc.Resolver // nil: none
	credentials []string           // names of metadata to mask, beside those that always are
}

// summary is an entry without metadata, messages and trailers.
func (d describer) summary(key string, r row) *viewspb.Entry {
	e := &viewspb.Entry{Group: d.group, Unreadable: r.unreadable}
	e.Key, e.RawKey = textKey(key)
	if r.pb == nil {
		return e
	}
	e.State = stateNames[r.pb.State]
	e.Service, e.Method, e.CorrelationId = r.pb.Service, r.pb.Method, r.pb.CorrelationId
	e.Status, e.Code, e.Message = statusName(r.pb.Status), r.pb.Status, r.pb.Message
	if s := r.pb.Source; s != nil {
		e.Source = &viewspb.Source{Topic: s.Topic, Partition: s.Partition, Offset: s.Offset, Timestamp: moment(s.TimestampMs)}
	}
	e.Attempts, e.Target, e.TraceId = r.pb.Attempts, r.pb.Target, r.pb.TraceId
	e.Started, e.Finished, e.Expires = moment(r.pb.StartedMs), moment(r.pb.FinishedMs), moment(r.pb.ExpiresMs)
	e.Waiting = int32(len(r.pb.GetWaiting().GetRequests()))
	if r.pb.State == rowpb.State_STATE_WAITING {
		e.NextTry, e.RetriedUntil = moment(r.pb.Waiting.GetNextMs()), moment(r.pb.Waiting.GetUntilMs())
		e.Behind, _ = textKey(string(r.pb.Waiting.GetBehind()))
	}
	e.MessageCount = int32(len(r.pb.Messages))
	for _, m := range r.pb.Messages {
		e.MessageBytes += int64(len(m))
	}
	return e
}

// entry is all that is known of a key.
func (d describer) entry(key string, r row) *viewspb.Entry {
	e := d.summary(key, r)
	if r.pb == nil {
		return e
	}
	e.Metadata, e.Trailers = d.metadata(r.pb.Metadata), d.metadata(r.pb.Trailers)
	output := d.output(r.pb.Service, r.pb.Method)
	for _, m := range r.pb.Messages {
		e.Messages = append(e.Messages, decoded(m, output))
	}
	return e
}

// output is the type of a method's replies; nil where it is not known.
func (d describer) output(service, method string) protoreflect.MessageDescriptor {
	if d.protos == nil {
		return nil
	}
	found, err := d.protos.FindDescriptorByName(protoreflect.FullName(service + "." + method))
	if err != nil {
		return nil
	}
	if m, ok := found.(protoreflect.MethodDescriptor); ok {
		return m.Output()
	}
	return nil
}

// moment is nil where the row has no time.
func moment(ms int64) *timestamppb.Timestamp {
	if ms == 0 {
		return nil
	}
	return timestamppb.New(time.UnixMilli(ms))
}

func (d describer) metadata(fields []*rowpb.Field) []*viewspb.Metadata {
	var out []*viewspb.Metadata
	for _, f := range fields {
		m := &viewspb.Metadata{Name: f.Name}
		switch {
		case d.masked(f.Name):
			m.Value, m.Masked = "***", true
		case strings.HasSuffix(f.Name, "-bin") || !utf8.Valid(f.Value):
			m.RawValue = f.Value
		default:
			m.Value = string(f.Value)
		}
		out = append(out, m)
	}
	return out
}

// credentials are the names of metadata whose values nobody gets to see.
var credentials = []string{"authorization", "proxy-authorization", "cookie", "set-cookie"}

func (d describer) masked(name string) bool {
	name = strings.TrimSuffix(strings.ToLower(name), "-bin")
	return slices.Contains(credentials, name) || slices.ContainsFunc(d.credentials, func(m string) bool {
		return strings.EqualFold(strings.TrimSuffix(m, "-bin"), name)
	})
}

// decodable is up to which size messages are decoded: larger ones are no use to a reader, and cost.
const decodable = 256 << 10

func decoded(data []byte, output protoreflect.MessageDescriptor) *viewspb.Message {
	m := &viewspb.Message{Data: data}
	if output == nil {
		m.Undecoded = "no catalog has the method"
		return m
	}
	m.Type = string(output.FullName())
	if len(data) > decodable {
		m.Undecoded = fmt.Sprintf("it has more than %d bytes", decodable)
		return m
	}
	message := dynamicpb.NewMessage(output)
	err := proto.Unmarshal(data, message)
	if err == nil {
		var text []byte
		if text, err = protojson.Marshal(message); err == nil {
			value := new(structpb.Value)
			if err = protojson.Unmarshal(text, value); err == nil {
				m.Json = value
				return m
			}
		}
	}
	m.Undecoded = fmt.Sprintf("it is no %s: %v", output.FullName(), err)
	return m
}
