package views

import (
	"hash/fnv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"kafkagrpc/processor/rowpb"
	"kafkagrpc/views/viewspb"
	"kafkagrpc/wire"
)

// badRequest is a mistake of the caller: which parameter it is in, and what that takes.
type badRequest struct{ parameter, problem string }

func (e *badRequest) Error() string { return e.parameter + ": " + e.problem }

// filter is a checked Filter.
type filter struct {
	prefix, service, method string
	status                  int32 // -1: any
	state                   rowpb.State
	since, until            int64 // Unix milliseconds; 0: any
}

const maxKey = 64 << 10 // bytes; Kafka would take longer keys, idempotency keys have 223

func newFilter(f *viewspb.Filter) (filter, error) {
	out := filter{prefix: f.GetPrefix(), service: f.GetService(), method: f.GetMethod(), status: -1}
	if len(out.prefix) > maxKey {
		return out, &badRequest{"prefix", "it has more than 65536 bytes"}
	}
	if name := f.GetStatus(); name != "" {
		code, ok := wire.StatusOf(name)
		if !ok {
			return out, &badRequest{"status", "it takes the name of a gRPC status: " + strings.Join(wire.StatusNames, ", ")}
		}
		out.status = int32(code)
	}
	switch strings.ToLower(f.GetState()) {
	case "":
	case "open":
		out.state = rowpb.State_STATE_OPEN
	case "final":
		out.state = rowpb.State_STATE_FINAL
	case "retryable":
		out.state = rowpb.State_STATE_RETRYABLE
	default:
		return out, &badRequest{"state", "it takes open, final or retryable"}
	}
	for _, at := range []struct {
		name string
		time interface {
			CheckValid() error
			AsTime() time.Time
		}
		given bool
		to    *int64
	}{
		{"since", f.GetSince(), f.GetSince() != nil, &out.since},
		{"until", f.GetUntil(), f.GetUntil() != nil, &out.until},
	} {
		if !at.given {
			continue
		}
		if err := at.time.CheckValid(); err != nil {
			return out, &badRequest{at.name, "it takes a time of the years 1 to 9999"}
		}
		*at.to = at.time.AsTime().UnixMilli()
	}
	if out.since != 0 && out.until != 0 && out.since >= out.until {
		return out, &badRequest{"until", "it must be after since"}
	}
	return out, nil
}

// passes reports whether a row passes, but for the prefix. One that cannot be read passes where nothing is asked of it.
func (f filter) passes(r row) bool {
	if r.pb == nil {
		return f.service == "" && f.method == "" && f.status < 0 && f.state == 0 && f.since == 0 && f.until == 0
	}
	at := r.pb.FinishedMs
	if at == 0 {
		at = r.pb.StartedMs
	}
	return (f.service == "" || f.service == r.pb.Service) &&
		(f.method == "" || f.method == r.pb.Method) &&
		(f.status < 0 || f.status == r.pb.Status) &&
		(f.state == 0 || f.state == r.pb.State) &&
		(f.since == 0 || at >= f.since) &&
		(f.until == 0 || at < f.until)
}

// sum tells queries apart: a cursor is of one.
func sum(group string, f *viewspb.Filter) uint64 {
	h := fnv.New64a()
	h.Write([]byte(group + "\x00"))
	// Deterministic within one build, which is not enough for a cursor that outlives it: the fields one by one.
	for _, s := range []string{f.GetPrefix(), f.GetService(), f.GetMethod(), strings.ToUpper(f.GetStatus()), strings.ToLower(f.GetState())} {
		h.Write([]byte(s + "\x00"))
	}
	for _, at := range []proto.Message{f.GetSince(), f.GetUntil()} {
		encoded, _ := proto.MarshalOptions{Deterministic: true}.Marshal(at)
		h.Write(append(encoded, 0))
	}
	return h.Sum64()
}
