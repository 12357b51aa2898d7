package grpcin_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"kafkagrpc/grpcin"
	"kafkagrpc/internal/logtest"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
	"kafkagrpc/wire/rawcodec"
)

// rawAnswer is what comes back on one stream of HTTP/2.
type rawAnswer struct {
	header, trailer []hpack.HeaderField
	reset           http2.ErrCode // where the stream was cut
	cut             bool
}

func (a rawAnswer) get(name string) (values []string) {
	for _, f := range append(a.header, a.trailer...) {
		if f.Name == name {
			values = append(values, f.Value)
		}
	}
	return values
}

// rawCall makes a call with the message "x" as a peer of the most basic kind does, which checks nothing of what it sends. A
// greeting that comes in many parts must not matter.
func rawCall(t *testing.T, address, method string, settings []http2.Setting, fields ...hpack.HeaderField) (a rawAnswer) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	var greeting bytes.Buffer
	greeting.WriteString(http2.ClientPreface)
	framer := http2.NewFramer(&greeting, nil)
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	own := []hpack.HeaderField{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: "/" + method}, {Name: ":authority", Value: "a"},
		{Name: "content-type", Value: "application/grpc"}, {Name: "te", Value: "trailers"},
	}
	for _, f := range append(own, fields...) {
		if err := encoder.WriteField(f); err != nil {
			t.Fatal(err)
		}
	}
	err = errors.Join(framer.WriteSettings(settings...), framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true}),
		framer.WriteData(1, true, []byte("\x00\x00\x00\x00\x01x")))
	if err != nil {
		t.Fatal(err)
	}
	for part := range bytes.SplitAfterSeq(greeting.Bytes(), []byte{0}) {
		if _, err := conn.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	framer = http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				if err := framer.WriteSettingsAck(); err != nil {
					t.Fatal(err)
				}
			}
		case *http2.MetaHeadersFrame:
			if frame.StreamEnded() {
				a.trailer = frame.Fields
				return a
			}
			a.header = frame.Fields
		case *http2.RSTStreamFrame:
			a.reset, a.cut = frame.ErrCode, true
			return a
		}
	}
}

func field(name, value string) hpack.HeaderField { return hpack.HeaderField{Name: name, Value: value} }

// What a peer can send reaches the record byte by byte.
func TestTextOfAPeerReachesTheRecord(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.kafka.on = echo(t, f.calls)
	sent := []hpack.HeaderField{
		field("a-empty", ""), field("b-spaced", "  a "), field("c-user", "café"), field("c-user", "caf\xe9"), field("c-user", "plain"), field("d-tab", "a\tb"),
		field("e-comma", "a,b"), field("f!#$%&'*+^`|~", "odd"), field("g_under.dot-dash", "1"), field("h-bin", "AP8"), field("h-bin", "AP8="), field("h-bin", ""),
		field("i-"+strings.Repeat("long", 500), strings.Repeat("é", 5000)), field("-j", "1"), field("idempotency-key", "café \xff"), field("tracestate", "é=\xff"),
	}
	a := rawCall(t, f.address, unary, nil, sent...)
	if got := a.get("grpc-status"); len(got) != 1 || got[0] != "0" {
		t.Fatalf("answer %v", a)
	}
	var want []wire.Field
	for _, s := range sent {
		switch s.Name {
		case "h-bin":
			want = append(want, wire.Field{Name: "h-bin", Value: map[string]string{"AP8": "\x00\xff", "AP8=": "\x00\xff", "": ""}[s.Value]})
		case "-j": // sorted by name
			want = append([]wire.Field{{Name: s.Name, Value: s.Value}}, want...)
		default:
			want = append(want, wire.Field{Name: s.Name, Value: s.Value})
		}
	}
	records := f.kafka.written()
	if string(records[0].Key) != "café \xff"+scope {
		t.Errorf("key %q", records[0].Key)
	}
	got := request(t, records[0])
	if diff := cmp.Diff(wire.Metadata(want), got.Metadata); diff != "" {
		t.Errorf("metadata (-want +got):\n%s", diff)
	}
	if got.LeftOut.Count != 0 || got.Trace.State != "é=\xff" {
		t.Errorf("request = %+v", got)
	}
}

// What records hold reaches the caller byte by byte.
func TestTextOfAReplyReachesTheCaller(t *testing.T) {
	t.Parallel()
	md := []string{"-j", "1", "c-user", "café", "c-user", "caf\xe9", "d-tab", "a\tb", "f!#$%&'*+^`|~", "odd", "x-reason", " café "}
	for _, code := range []codes.Code{codes.OK, codes.NotFound, 42} {
		t.Run(code.String(), func(t *testing.T) {
			t.Parallel()
			f := start(t)
			answers(t, f, func(r wire.Reply) []wire.Record {
				r.Metadata, r.Trailers, r.Status, r.Message = fields(md...), fields(md...), code, "no café \xff"
				return []wire.Record{message(r, "y"), end(r)}
			})
			got := f.call(withPatience(t), unary, "x")
			want := metadata.Pairs(md...)
			if got.Status != code || code == codes.OK && got.Message != "y" || code != codes.OK && got.Text != "no café \uFFFD" {
				t.Errorf("%v %q %q", got.Status, got.Text, got.Message)
			}
			if diff := cmp.Diff(want, got.Header); diff != "" {
				t.Errorf("header (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(want, got.Trailer); diff != "" {
				t.Errorf("trailer (-want +got):\n%s", diff)
			}
		})
	}
}

// answers answers each call when it is complete.
func answers(t testing.TB, f *front, records func(wire.Reply) []wire.Record) {
	f.kafka.on = func(r wire.Record) {
		if r.Value != nil {
			return
		}
		request := request(t, r)
		for _, record := range records(wire.Reply{CorrelationID: request.CorrelationID, Call: request.Call}) {
			f.calls.Deliver(record)
		}
	}
}

func logging(log io.Writer) setting {
	return func(o *grpcin.Options, _ *front) { o.Log = slog.New(slog.NewJSONHandler(log, nil)) }
}

// What other producers write into a reply beside what HTTP/2 carries is left out and counted; the status reaches the caller.
func TestReplyThatCannotBeCarried(t *testing.T) {
	t.Parallel()
	log := new(logtest.Lines)
	f := start(t, logging(log))
	answers(t, f, func(r wire.Reply) []wire.Record {
		r.Status, r.Message = codes.NotFound, "nothing here"
		end := end(r)
		for _, h := range []string{"meta:a b=1", "meta:x=pass\nword", "meta:y=kept", "trailer:x-bin=??", "trailer:y=pass\x00word", "trailer:z=kept"} {
			name, value, _ := strings.Cut(h, "=")
			end.Headers = append(end.Headers, wire.Header{Name: name, Value: []byte(value)})
		}
		return []wire.Record{end}
	})
	got := f.call(withPatience(t), unary, "x")
	want := result{Status: codes.NotFound, Text: "nothing here", Header: metadata.MD{"y": {"kept"}}, Trailer: metadata.MD{"z": {"kept"}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
	lines := log.About(t, "metadata of a reply is left out")
	if len(lines) != 1 || lines[0]["left_out"] != 4.0 || lines[0]["first"] != `header "meta:a b": HTTP/2 has no such name` || lines[0]["offset"] != 42.0 {
		t.Errorf("lines %v", lines)
	}
	if strings.Contains(log.String(), "pass") {
		t.Errorf("the log has a value: %s", log)
	}
}

// Details that are of another status would take the place of both at the caller.
func TestDetailsOfAnotherStatus(t *testing.T) {
	t.Parallel()
	rich, err := status.New(codes.NotFound, "of the details").WithDetails(durationpb.New(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	details, err := proto.Marshal(rich.Proto())
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		details string
		code    codes.Code
		kept    bool
		text    string
	}{
		"the same":   {string(details), codes.NotFound, true, "of the details"},
		"another":    {string(details), codes.Aborted, false, "of the status"},
		"no details": {"nonsense", codes.Aborted, true, "of the status"},
		"empty":      {"", codes.Aborted, false, "of the status"}, // status 0
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := new(logtest.Lines)
			f := start(t, logging(log))
			answers(t, f, func(r wire.Reply) []wire.Record {
				r.Status, r.Message, r.Trailers = tt.code, "of the status", fields("grpc-status-details-bin", tt.details, "t", "kept")
				return []wire.Record{end(r)}
			})
			got := f.call(withPatience(t), unary, "x")
			want := result{Status: tt.code, Text: tt.text, Trailer: metadata.MD{"t": {"kept"}}}
			if tt.kept {
				want.Trailer.Set("grpc-status-details-bin", tt.details)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
			if n := log.Count(`"left_out":1`); (n == 0) != tt.kept {
				t.Errorf("%d lines: %s", n, log)
			}
		})
	}
}

// A caller says how large a header list it takes. A larger one, which grpc-go would cut the call for, costs its largest
// entries, and the message of a status its end; never the status.
func TestReplyThatIsLargerThanTheCallerTakes(t *testing.T) {
	t.Parallel()
	large, small := strings.Repeat("é", 3000), strings.Repeat("s", 500)
	cert, roots := certificate(t, "localhost")
	secured := func(o *grpcin.Options, _ *front) {
		o.Listener.TLS = &topology.ServerTLS{Certificates: []tls.Certificate{cert}}
	}
	for name, encrypted := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := new(logtest.Lines)
			settings := []setting{logging(log)}
			if encrypted {
				settings = append(settings, secured)
			}
			f := start(t, settings...)
			answers(t, f, func(r wire.Reply) []wire.Record {
				r.Metadata = fields("a", small, "b", large, "b-bin", small)
				r.Status, r.Message, r.Trailers = codes.NotFound, strings.Repeat("é", 300), fields("t", small, "u-bin", large, "v", small)
				return []wire.Record{end(r)}
			})
			got := call(withPatience(t), limited(t, f.address, 4000, encrypted, roots), unary, "x")
			want := result{
				Status: codes.NotFound, Text: strings.Repeat("é", 300),
				Header: metadata.MD{"a": {small}, "b-bin": {small}}, Trailer: metadata.MD{"t": {small}, "v": {small}},
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
			lines := log.About(t, "a reply is cut to the header list that the caller takes")
			if len(lines) != 1 || lines[0]["left_out"] != 1.0 || lines[0]["limit"] != 4000.0 {
				t.Errorf("lines %v", lines)
			}

			// The message counts for more than trailers do.
			got = call(withPatience(t), limited(t, f.address, 700, encrypted, roots), unary, "x")
			if got.Status != codes.NotFound || !strings.HasPrefix(got.Text, "éééé") || !strings.HasSuffix(got.Text, "é...") || len(got.Trailer) != 0 {
				t.Errorf("result = %+v", got)
			}
			// Who announces nothing gets everything.
			if got := call(withPatience(t), limited(t, f.address, 0, encrypted, roots), unary, "x"); len(got.Trailer) != 3 || len(got.Header) != 3 {
				t.Errorf("result = %+v", got)
			}
		})
	}
}

// limited is a connection of a client that takes header lists of a size; 0: it says nothing of it.
func limited(t *testing.T, address string, size uint32, secured bool, roots *x509.CertPool) *grpc.ClientConn {
	t.Helper()
	transport := insecure.NewCredentials()
	if secured {
		transport = credentials.NewTLS(&tls.Config{RootCAs: roots, ServerName: "localhost"})
	}
	options := []grpc.DialOption{grpc.WithTransportCredentials(transport), grpc.WithNoProxy(), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawcodec.Codec{}))}
	if size > 0 {
		options = append(options, grpc.WithMaxHeaderListSize(size))
	}
	conn, err := grpc.NewClient("passthrough:///"+address, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Every limit is kept to the byte: grpc-go, which cuts the call where it is not, is the judge.
func TestHeaderListsOfEverySize(t *testing.T) {
	t.Parallel()
	f := start(t)
	answers(t, f, func(r wire.Reply) []wire.Record {
		r.Metadata = fields("a", strings.Repeat("a", 40), "b-bin", strings.Repeat("b", 41))
		r.Status, r.Message = codes.NotFound, "café \xff, and more of it"
		r.Trailers = fields("t", strings.Repeat("t", 40), "u-bin", strings.Repeat("u", 41), "v", "")
		return []wire.Record{end(r)}
	})
	whole := 0
	for size := uint32(320); size < 700; size += 7 {
		a := rawCall(t, f.address, unary, []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 65535}, {ID: http2.SettingMaxHeaderListSize, Val: size}})
		if got := a.get("grpc-status"); a.cut || len(got) != 1 || got[0] != "5" {
			t.Fatalf("with %d bytes: %+v", size, a)
		}
		if len(a.get("t"))+len(a.get("u-bin"))+len(a.get("v")) == 3 {
			whole++
		}
	}
	if whole == 0 {
		t.Error("nothing was ever large enough")
	}
}
