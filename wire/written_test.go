package wire_test

import (
	"bytes"
	"encoding/base64"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"pgregory.net/rapid"

	"kafkagrpc/wire"
)

// carried reports whether an entry reaches a peer whose HTTP/2 is that of grpc-go. It is the one that judges here: what a peer
// can send is what comes out of a connection.
func carried(f wire.Field) bool {
	var block, frame bytes.Buffer
	value := f.Value
	if strings.HasSuffix(f.Name, "-bin") {
		value = base64.RawStdEncoding.EncodeToString([]byte(value))
	}
	encoder := hpack.NewEncoder(&block)
	if encoder.WriteField(hpack.HeaderField{Name: ":status", Value: "200"}) != nil || encoder.WriteField(hpack.HeaderField{Name: f.Name, Value: value}) != nil {
		return false
	}
	framer := http2.NewFramer(&frame, &frame)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true}) != nil {
		return false
	}
	got, err := framer.ReadFrame()
	if err != nil {
		return false
	}
	fields := got.(*http2.MetaHeadersFrame).RegularFields()
	return len(fields) == 1 && fields[0].Name == f.Name && fields[0].Value == value
}

// reserved are names that never reach Kafka, whatever their value.
var reserved = []string{
	":path", "content-type", "te", "user-agent", "service-name", "content-length", "connection", "host", "keep-alive",
	"proxy-connection", "transfer-encoding", "upgrade", "authorization", "cookie",
}

// texts are what peers send, and what they cannot.
var texts = rapid.OneOf(
	rapid.StringMatching(`[a-zA-Z0-9._-]{0,12}`),
	rapid.SampledFrom([]string{"", " ", " led and trailed ", "café", "caf\xe9", "a,b", "tab\tin it", "\x00", "a\nb", "\x7f", "%", "\xff\xfe", "日本"}),
	rapid.String(),
	rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
)

func names() *rapid.Generator[string] {
	plain := rapid.OneOf(
		rapid.StringMatching(`[a-z0-9!#$%&'*+.^_|~-]{1,12}`),
		rapid.StringMatching(`[a-z]{1,6}-bin`),
		rapid.SampledFrom(reserved),
		rapid.SampledFrom([]string{"grpc-status", "grpc-status-details-bin", "grpc-x", "idempotency-key", "-bin", "_", ".", "-", "X-Upper", "naïve", "a b", "a:b"}),
		texts,
	)
	return plain
}

func entries(t *rapid.T, label string) wire.Metadata {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) wire.Field {
		return wire.Field{Name: names().Draw(t, "name"), Value: texts.Draw(t, "value")}
	}), 0, 6).Draw(t, label)
}

// passing is what must come back of metadata.
func passing(m wire.Metadata, more ...string) (out wire.Metadata) {
	for _, f := range m {
		f.Name = strings.ToLower(f.Name)
		hop := slices.Contains(reserved, f.Name) || strings.HasPrefix(f.Name, ":") || strings.HasPrefix(f.Name, "grpc-")
		if carried(f) && (!hop || slices.Contains(more, f.Name)) {
			out = append(out, f)
		}
	}
	return out
}

func traces(t *rapid.T) wire.Trace {
	return wire.Trace{Parent: texts.Draw(t, "traceparent"), State: texts.Draw(t, "tracestate"), Baggage: texts.Draw(t, "baggage")}
}

// call is a grpc:call, as its writers promise it.
var call = rapid.StringMatching(`[ -~]{0,64}`)

// Whatever is written is read: what a gRPC peer can send comes back byte by byte, and the rest costs only itself.
func TestWhatIsWrittenOfARequestIsRead(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := wire.DefaultContract()
		want := wire.Request{
			Service: texts.Draw(t, "service"), Method: texts.Draw(t, "method"), ReplyTo: "r" + texts.Draw(t, "reply-to"),
			CorrelationID: texts.Draw(t, "correlation id"), Call: call.Draw(t, "call"),
			Deadline: time.UnixMilli(rapid.Int64Range(0, 1<<42).Draw(t, "deadline")),
			Canceled: rapid.Bool().Draw(t, "canceled"), Trace: traces(t), Metadata: entries(t, "metadata"),
		}
		got, err := c.DecodeRequest(c.EncodeRequest(want, nil), time.UnixMilli(1))
		if err != nil {
			t.Fatalf("our own headers: %v", err)
		}
		want.Metadata = passing(want.Metadata)
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("request (-want +got):\n%s", diff)
		}
	})
}

func TestWhatIsWrittenOfAReplyIsRead(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := wire.DefaultContract()
		want := wire.Reply{
			CorrelationID: texts.Draw(t, "correlation id"), Call: call.Draw(t, "call"), Trace: traces(t), Metadata: entries(t, "metadata"),
			Status: codes.Code(rapid.Uint32().Draw(t, "status")), Message: texts.Draw(t, "message"), Trailers: entries(t, "trailers"),
		}
		message, err := c.DecodeReply(c.EncodeReplyMessage(want))
		if err != nil {
			t.Fatalf("our own message headers: %v", err)
		}
		end, err := c.DecodeReply(c.EncodeReplyEnd(want))
		if err != nil {
			t.Fatalf("our own end headers: %v", err)
		}
		want.Metadata, want.Trailers = passing(want.Metadata), passing(want.Trailers, "grpc-status-details-bin")
		if want.Status > 1<<31-1 {
			want.Status = codes.Unknown
		}
		if diff := cmp.Diff(want, end, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("end (-want +got):\n%s", diff)
		}
		want.Status, want.Message, want.Trailers = codes.OK, "", nil
		if diff := cmp.Diff(want, message, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("message (-want +got):\n%s", diff)
		}
	})
}

// What other producers write beside what HTTP/2 carries costs only itself, too, and is counted. Its value is not told.
func TestWhatCannotBeCarriedIsLeftOut(t *testing.T) {
	t.Parallel()
	headers := pairs("zilla:correlation-id", "c", "zilla:status", "5", "zilla:message", "no caf%C3%A9",
		"meta:x", "caf\xc3\xa9", "meta:x", "caf\xe9", "meta:tab", "a\tb", "meta:odd!", "kept", "meta:x-bin", "YQ,YmI",
		"meta:secret", "pass\nword", "meta:na\xc3\xafve", "a", "meta:a b", "b", "meta:y-bin", "YQ,??,YmI", "trailer:t", "kept", "trailer:secret", "\x00")
	kept := wire.Metadata{{"x", "café"}, {"x", "caf\xe9"}, {"tab", "a\tb"}, {"odd!", "kept"}, {"x-bin", "a"}, {"x-bin", "bb"}, {"y-bin", "a"}, {"y-bin", "bb"}}
	r, err := wire.DefaultContract().DecodeReply(headers)
	if err != nil {
		t.Fatal(err)
	}
	if r.Status != codes.NotFound || r.Message != "no café" {
		t.Errorf("%v %q", r.Status, r.Message)
	}
	if diff := cmp.Diff(kept, r.Metadata); diff != "" {
		t.Errorf("metadata (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(wire.Metadata{{"t", "kept"}}, r.Trailers); diff != "" {
		t.Errorf("trailers (-want +got):\n%s", diff)
	}
	request, err := wire.DefaultContract().DecodeRequest(headers, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(kept, request.Metadata); diff != "" {
		t.Errorf("metadata of a request (-want +got):\n%s", diff)
	}
	if request.LeftOut.Count != 4 || r.LeftOut.Count != 5 {
		t.Errorf("%d of a request and %d of a reply were left out, want 4 and 5", request.LeftOut.Count, r.LeftOut.Count)
	}
	if first := r.LeftOut.First; !strings.Contains(first, `"meta:secret"`) || strings.Contains(first, "pass") {
		t.Errorf("it says %q", first)
	}
}
