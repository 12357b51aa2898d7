package views

import (
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"kafkagrpc/processor/rowpb"
	"kafkagrpc/views/viewspb"
	"kafkagrpc/wire"
)

// badRequest is a mistake of the caller: which parameter it is in, and what that takes.
type badRequest struct{ parameter, problem string }

func (e *badRequest) Error() string { return e.parameter + ": " + e.problem }

// FilterField is a field of viewspb.Filter, a text or a time. It is a parameter of the plain paths, and a flag of a command.
type FilterField struct {
	Name   string   // in the proto
	Help   string   // of a flag
	Values []string // to offer; nil: it takes any

	// fold brings what is the same for the field to one spelling; nil: it tells all spellings apart.
	fold func(string) string
	// test answers what the rows must pass for a value, or what is wrong with the value.
	test func(protoreflect.Value) (rowTest, string)
}

type rowTest func(*rowpb.Row) bool

// FilterFields are all fields of viewspb.Filter, in their order. A new one is declared there, and has its line here.
var FilterFields = []FilterField{
	{Name: "prefix", Help: "only keys that begin with this", test: checkPrefix},
	{Name: "service", Help: "only calls of this service, such as grpc.examples.echo.Echo", test: equals((*rowpb.Row).GetService)},
	{Name: "method", Help: "only calls of this method, such as UnaryEcho", test: equals((*rowpb.Row).GetMethod)},
	{Name: "status", Help: "only results with this gRPC status, such as NOT_FOUND", Values: wire.StatusNames, fold: strings.ToUpper, test: hasStatus},
	{Name: "state", Help: "only keys in this state: open, final, retryable or waiting", Values: []string{"open", "final", "retryable", "waiting"}, fold: strings.ToLower, test: isInState},
	{Name: "since", Help: "only results from then on: a time such as 2026-01-31T12:00:00Z, or how long ago, such as 15m",
		test: finished(func(at, since int64) bool { return at >= since })},
	{Name: "until", Help: "only results before then, as --since", test: finished(func(at, until int64) bool { return at < until })},
}

// Set sets the field from a text, unless that is empty. Where it is a time, it is what moment makes of the text, with its error.
func (f FilterField) Set(to *viewspb.Filter, text string, moment func(string) (time.Time, error)) error {
	field := f.in(to)
	switch {
	case text == "":
	case field.Message() == nil:
		to.ProtoReflect().Set(field, protoreflect.ValueOfString(text))
	default:
		at, err := moment(text)
		if err != nil {
			return err
		}
		to.ProtoReflect().Set(field, protoreflect.ValueOfMessage(timestamppb.New(at).ProtoReflect()))
	}
	return nil
}

func (f FilterField) in(m *viewspb.Filter) protoreflect.FieldDescriptor {
	return m.ProtoReflect().Descriptor().Fields().ByName(protoreflect.Name(f.Name))
}

const maxKey = 64 << 10 // bytes; Kafka would take longer keys, idempotency keys have 223

// checkPrefix asks nothing of rows: it is the key that must have it.
func checkPrefix(v protoreflect.Value) (rowTest, string) {
	if len(v.String()) > maxKey {
		return nil, fmt.Sprintf("it has more than %d bytes", maxKey)
	}
	return nil, ""
}

func equals(of func(*rowpb.Row) string) func(protoreflect.Value) (rowTest, string) {
	return func(v protoreflect.Value) (rowTest, string) {
		want := v.String()
		return func(r *rowpb.Row) bool { return of(r) == want }, ""
	}
}

func hasStatus(v protoreflect.Value) (rowTest, string) {
	code, ok := wire.StatusOf(v.String())
	if !ok {
		return nil, "it takes the name of a gRPC status: " + strings.Join(wire.StatusNames, ", ")
	}
	return func(r *rowpb.Row) bool { return r.Status == int32(code) }, ""
}

func isInState(v protoreflect.Value) (rowTest, string) {
	for state, name := range stateNames {
		if name == strings.ToLower(v.String()) {
			return func(r *rowpb.Row) bool { return r.State == state }, ""
		}
	}
	return nil, "it takes open, final, retryable or waiting"
}

// finished compares when the result was there with a time, both in Unix milliseconds.
func finished(passes func(at, given int64) bool) func(protoreflect.Value) (rowTest, string) {
	return func(v protoreflect.Value) (rowTest, string) {
		given := v.Message().Interface().(*timestamppb.Timestamp)
		if given.CheckValid() != nil {
			return nil, "it takes a time of the years 1 to 9999"
		}
		limit := given.AsTime().UnixMilli()
		return func(r *rowpb.Row) bool {
			at := r.FinishedMs
			if at == 0 {
				at = r.StartedMs
			}
			return passes(at, limit)
		}, ""
	}
}

// filter is a checked Filter.
type filter struct {
	prefix string
	tests  []rowTest // that rows must pass
}

func newFilter(from *viewspb.Filter) (filter, error) {
	out := filter{prefix: from.GetPrefix()}
	for _, f := range FilterFields {
		m, field := from.ProtoReflect(), f.in(from)
		if !m.Has(field) {
			continue
		}
		test, problem := f.test(m.Get(field))
		if problem != "" {
			return out, &badRequest{f.Name, problem}
		}
		if test != nil {
			out.tests = append(out.tests, test)
		}
	}
	since, until := from.GetSince(), from.GetUntil()
	if since != nil && until != nil && since.AsTime().UnixMilli() >= until.AsTime().UnixMilli() {
		return out, &badRequest{"until", "it must be after since"}
	}
	return out, nil
}

// passes reports whether a row passes, but for the prefix. One that cannot be read passes where nothing is asked of it.
func (f filter) passes(r row) bool {
	if r.pb == nil {
		return len(f.tests) == 0
	}
	for _, test := range f.tests {
		if !test(r.pb) {
			return false
		}
	}
	return true
}

// sum tells queries apart: a cursor is of one.
func sum(group string, of *viewspb.Filter) uint64 {
	h := fnv.New64a()
	h.Write([]byte(group + "\x00"))
	// Deterministic within one build, which is not enough for a cursor that outlives it: the fields one by one.
	for _, f := range FilterFields {
		v := of.ProtoReflect().Get(f.in(of))
		var text []byte
		if f.in(of).Message() != nil {
			text, _ = proto.MarshalOptions{Deterministic: true}.Marshal(v.Message().Interface())
		} else if text = []byte(v.String()); f.fold != nil {
			text = []byte(f.fold(v.String()))
		}
		h.Write(append(text, 0))
	}
	return h.Sum64()
}
