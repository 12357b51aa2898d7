package grpcin_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"kafkagrpc/grpcin"
	"kafkagrpc/internal/issuertest"
	"kafkagrpc/internal/pkitest"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

const page = "https://app.example.com"

// browsers lets them call, from one page.
func browsers(set ...func(*topology.Browsers)) setting {
	return func(o *grpcin.Options, _ *front) {
		o.Listener.Browsers = &topology.Browsers{HTTP1: true, Origins: []string{page}}
		for _, s := range set {
			s(o.Listener.Browsers)
		}
	}
}

// webClient is a browser's side of gRPC-Web, over HTTP/1.1 or HTTP/2.
type webClient struct {
	t    *testing.T
	url  string
	http *http.Client
	text bool
}

func (f *front) web(t *testing.T, config *tls.Config, http1 bool) *webClient {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: config.Clone(), Protocols: new(http.Protocols)}
	transport.Protocols.SetHTTP1(true)
	scheme := "http://"
	if config != nil {
		scheme = "https://"
		transport.Protocols.SetHTTP2(!http1)
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &webClient{t, scheme + f.address, &http.Client{Transport: transport}, false}
}

// webResult is what a page sees.
type webResult struct {
	code     int // of HTTP
	proto    string
	header   http.Header
	messages []string
	trailer  map[string]string
}

func (r webResult) status() string { return r.trailer["grpc-status"] }

func frame(message string) string {
	return string(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))) + message
}

func (c *webClient) request(ctx context.Context, method string, body io.Reader, headers ...string) *http.Request {
	c.t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+"/"+method, body)
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/grpc-web+proto")
	if c.text {
		r.Header.Set("Content-Type", "application/grpc-web-text+proto")
	}
	r.Header.Set("X-Grpc-Web", "1")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return r
}

func (c *webClient) call(ctx context.Context, method, message string, headers ...string) webResult {
	c.t.Helper()
	body := frame(message)
	if c.text {
		body = base64.StdEncoding.EncodeToString([]byte(body))
	}
	response, err := c.http.Do(c.request(ctx, method, strings.NewReader(body), headers...))
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	all, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	r := webResult{code: response.StatusCode, proto: response.Proto, header: response.Header, trailer: map[string]string{}}
	if r.code != http.StatusOK {
		return r
	}
	if c.text {
		all = decodeText(c.t, all)
	}
	for len(all) > 0 {
		size := int(binary.BigEndian.Uint32(all[1:]))
		content := string(all[5 : 5+size])
		if all[0] == 0x80 {
			for line := range strings.SplitSeq(strings.TrimSuffix(content, "\r\n"), "\r\n") {
				name, value, _ := strings.Cut(line, ": ")
				r.trailer[name] = value
			}
		} else {
			r.messages = append(r.messages, content)
		}
		all = all[5+size:]
	}
	return r
}

// decodeText reads pieces of base64, of which each may end with padding.
func decodeText(t *testing.T, text []byte) (all []byte) {
	t.Helper()
	for len(text) > 0 {
		piece, err := base64.StdEncoding.DecodeString(string(text[:4]))
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		all, text = append(all, piece...), text[4:]
	}
	return all
}

// Calls of gRPC-Web are those of gRPC, in both forms and over both versions of HTTP. What browsers add is not in records.
func TestGRPCWeb(t *testing.T) {
	t.Parallel()
	authority := pkitest.NewAuthority(t, "authority")
	secured := func(o *grpcin.Options, _ *front) {
		o.Listener.TLS = &topology.ServerTLS{Certificates: []tls.Certificate{authority.Issue(t, "127.0.0.1")}, ALPN: []string{"h2", "http/1.1"}}
	}
	config := &tls.Config{RootCAs: authority.Pool()}
	for _, tt := range []struct {
		name     string
		settings []setting
		config   *tls.Config
		http1    bool
		proto    string
	}{
		{"plain", nil, nil, true, "HTTP/1.1"},
		{"TLS, HTTP/1.1", []setting{secured}, config, true, "HTTP/1.1"},
		{"TLS, HTTP/2", []setting{secured}, config, false, "HTTP/2.0"},
	} {
		for _, text := range []bool{false, true} {
			t.Run(fmt.Sprint(tt.name, ", text ", text), func(t *testing.T) {
				t.Parallel()
				f := start(t, append(tt.settings, browsers())...)
				f.kafka.on = func(r wire.Record) {
					request := request(t, r)
					reply := wire.Reply{CorrelationID: request.CorrelationID, Call: request.Call, Metadata: fields("x-served-by", "a", "x-bin", "\x00\x01")}
					switch {
					case request.Method == "UnaryEcho" && r.Value != nil:
						f.kafka.reply(f.calls, message(reply, "answer to "+string(r.Value)))
					case request.Method == "UnaryEcho":
						reply.Trailers = fields("x-took", "1ms")
						f.kafka.reply(f.calls, end(reply))
					case r.Value != nil:
						for i := range 3 {
							f.kafka.reply(f.calls, message(reply, fmt.Sprint(string(r.Value), i)))
						}
					default:
						reply.Status, reply.Message = codes.ResourceExhausted, "genug für heute"
						f.kafka.reply(f.calls, end(reply))
					}
				}
				c := f.web(t, tt.config, tt.http1)
				c.text = text
				ctx := withPatience(t)
				got := c.call(ctx, unary, "x", "origin", page, "x-tenant", "acme", "x-key-bin", "AAE", "accept-language", "de", "sec-fetch-mode", "cors")
				if got.proto != tt.proto || got.status() != "0" || len(got.messages) != 1 || got.messages[0] != "answer to x" || got.trailer["x-took"] != "1ms" {
					t.Errorf("%+v", got)
				}
				if h := got.header; h.Get("X-Served-By") != "a" || h.Get("X-Bin") != "AAE" || h.Get("Access-Control-Allow-Origin") != page || !strings.HasPrefix(h.Get("Content-Type"), "application/grpc-web") || h.Get("Trailer") != "" {
					t.Errorf("%v", h)
				}
				var names []string
				for _, h := range f.kafka.written()[0].Headers {
					if strings.HasPrefix(h.Name, "meta:") {
						names = append(names, h.Name+"="+string(h.Value))
					}
				}
				if got := strings.Join(names, " "); got != "meta:x-key-bin=AAE meta:x-tenant=acme" {
					t.Errorf("the records have %s", got)
				}
				got = c.call(ctx, serverStream, "y", "origin", page)
				if got.status() != "8" || strings.Join(got.messages, " ") != "y0 y1 y2" || got.trailer["grpc-message"] != "genug f%C3%BCr heute" {
					t.Errorf("%+v", got)
				}
				if got = c.call(ctx, "other.Service/Method", "z", "origin", page); got.status() != "12" {
					t.Errorf("%+v", got)
				}
			})
		}
	}
}

// Messages of a stream come one by one, and a page that goes away ends the call.
func TestGRPCWebStreamsAsItComes(t *testing.T) {
	t.Parallel()
	f := start(t, browsers())
	f.kafka.sent = make(chan wire.Record, 10)
	c := f.web(t, nil, true)
	ctx, leave := context.WithCancel(withPatience(t))
	answered := make(chan *http.Response, 1)
	go func() {
		response, err := c.http.Do(c.request(ctx, serverStream, strings.NewReader(frame("x"))))
		if err != nil {
			t.Error(err)
		}
		answered <- response
	}()
	reply := f.first(ctx, t)
	f.kafka.reply(f.calls, message(reply, "one"))
	response := <-answered
	defer response.Body.Close()
	for _, want := range []string{"one", "two"} {
		if want == "two" {
			f.kafka.reply(f.calls, message(reply, want))
		}
		got := make([]byte, 8)
		if _, err := io.ReadFull(response.Body, got); err != nil || string(got[5:]) != want {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if r := <-f.kafka.sent; r.Value != nil {
		t.Errorf("%+v, want the end of the request", r)
	}
	leave()
	canceled(withPatience(t), t, f)
}

// Pages of other origins may not call, and nothing of what they try is on Kafka; browsers are told before.
func TestPagesThatMayCall(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, origin string
		browsers     func(*topology.Browsers)
		want         int
		allowed      string // the headers that the browser is told of
	}{
		{"listed", page, nil, 200, "x-tenant"},
		{"listed, in upper case", "HTTPS://APP.example.com", nil, 200, "x-tenant"},
		{"not listed", "https://evil.example.com", nil, 403, ""},
		{"a page of nowhere", "null", nil, 403, ""},
		{"no page", "", nil, 200, ""},
		{"all", "https://evil.example.com", func(b *topology.Browsers) { b.Origins = nil }, 200, "x-tenant"},
		{"its own alone", page, func(b *topology.Browsers) { b.SameOrigin, b.Origins = true, nil }, 403, ""},
		{"its own", "same", func(b *topology.Browsers) { b.SameOrigin, b.Origins = true, nil }, 200, "x-tenant"},
		{"its own, and others are listed", "same", nil, 403, ""},
		{"few headers", page, func(b *topology.Browsers) { b.Headers, b.Expose = []string{"x-other"}, []string{"x-shown"} }, 200, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := start(t, browsers(func(b *topology.Browsers) {
				b.MaxAge = time.Minute
				if tt.browsers != nil {
					tt.browsers(b)
				}
			}))
			f.kafka.on = echo(t, f.calls)
			c := f.web(t, nil, true)
			origin := tt.origin
			if origin == "same" {
				origin = c.url
			}
			ctx := withPatience(t)
			ask := c.request(ctx, unary, nil, "access-control-request-method", "POST", "access-control-request-headers", "content-type,x-grpc-web,x-tenant")
			ask.Method = http.MethodOptions
			headers := []string{}
			if origin != "" {
				ask.Header.Set("Origin", origin)
				headers = []string{"origin", origin}
			}
			response, err := c.http.Do(ask)
			if err != nil {
				t.Fatal(err)
			}
			if err := response.Body.Close(); err != nil {
				t.Error(err)
			}
			told := response.Header.Get("Access-Control-Allow-Headers")
			if strings.Contains(told, "x-tenant") != (tt.allowed != "") {
				t.Errorf("the browser is told %v", response.Header)
			}
			if tt.allowed != "" && (response.Header.Get("Access-Control-Max-Age") != "60" || response.Header.Get("Access-Control-Allow-Origin") != origin) {
				t.Errorf("the browser is told %v", response.Header)
			}
			got := c.call(ctx, unary, "x", headers...)
			if got.code != tt.want || tt.want == 200 && got.status() != "0" {
				t.Errorf("%+v", got)
			}
			if n := len(f.kafka.written()); tt.want != 200 && n > 0 {
				t.Errorf("%d records are written", n)
			}
			if tt.name == "few headers" && got.header.Get("Access-Control-Expose-Headers") != "X-Shown" {
				t.Errorf("%v", got.header)
			}
		})
	}
}

// Guards ask browsers as they do others: by metadata, and by cookies.
func TestGuardedBrowsers(t *testing.T) {
	t.Parallel()
	i := issuertest.Start(t)
	f := start(t, guarded(t, i, "user"), browsers(func(b *topology.Browsers) { b.Credentials = true }))
	f.kafka.on = echo(t, f.calls)
	c := f.web(t, nil, true)
	good := i.Token(map[string]any{"scope": "user"})
	for _, tt := range []struct {
		headers []string
		want    string
	}{
		{nil, "16"},
		{[]string{"authorization", "Bearer x"}, "16"},
		{[]string{"authorization", "Bearer " + i.Token(nil)}, "7"},
		{[]string{"authorization", "Bearer " + good}, "0"},
		{[]string{"cookie", "token=" + good}, "0"},
	} {
		if got := c.call(withPatience(t), unary, "x", append(tt.headers, "origin", page)...); got.status() != tt.want || got.header.Get("Access-Control-Allow-Credentials") != "true" {
			t.Errorf("%v: %+v", tt.headers, got)
		}
	}
}

// gRPC clients are served as ever where browsers may call: with TLS and without, and those that offer HTTP/1.1, too. Their certificates are known.
func TestGRPCBesideBrowsers(t *testing.T) {
	t.Parallel()
	authority := pkitest.NewAuthority(t, "authority")
	secured := func(o *grpcin.Options, _ *front) {
		o.Listener.TLS = &topology.ServerTLS{
			Certificates: []tls.Certificate{authority.Issue(t, "127.0.0.1")}, ALPN: []string{"h2", "http/1.1"}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authority.Pool(),
		}
		o.Listener.Tokens = nil
		for i := range o.Listener.Routes {
			o.Listener.Routes[i].Guarded = []topology.Demand{{Guard: "machines", Roles: []string{"writer"}}}
		}
	}
	f := start(t, browsers())
	f.kafka.on = pingpong(t, f)
	conversation := func(t *testing.T, conn *grpc.ClientConn) {
		t.Helper()
		ctx := withPatience(t)
		if r := call(ctx, conn, unary, "x"); r.Status != codes.OK || r.Message != "x" {
			t.Errorf("%+v", r)
		}
		stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/"+bidi)
		if err != nil {
			t.Fatal(err)
		}
		c := caller{t, stream}
		for i := range 3 {
			c.send(fmt.Sprint(i))
			if got := c.next(); got != fmt.Sprint(i) {
				t.Errorf("%q", got)
			}
		}
		c.half()
		c.wants(codes.OK)
	}
	t.Run("plain", func(t *testing.T) { conversation(t, f.conn) })
	g := start(t, guarded(t, issuertest.Start(t)), browsers(), secured)
	g.kafka.on = pingpong(t, g)
	for _, protocols := range [][]string{{"h2"}, {"h2", "http/1.1"}} {
		t.Run(fmt.Sprint("TLS ", protocols), func(t *testing.T) {
			conversation(t, dial(t, g.address, &tls.Config{RootCAs: authority.Pool(), Certificates: []tls.Certificate{authority.Issue(t, "writer.example")}, NextProtos: protocols}))
			conn := dial(t, g.address, &tls.Config{RootCAs: authority.Pool(), Certificates: []tls.Certificate{authority.Issue(t, "reader.example")}, NextProtos: protocols})
			if r := call(withPatience(t), conn, unary, "x"); r.Status != codes.PermissionDenied {
				t.Errorf("%+v", r)
			}
		})
	}
}

// Where browsers may not call, or not with HTTP/1.1, a connection of theirs is none.
func TestBrowsersThatMayNotCall(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string][]setting{
		"none":        nil,
		"HTTP/2 only": {browsers(func(b *topology.Browsers) { b.HTTP1 = false })},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t, settings...)
			c := f.web(t, nil, true)
			if response, err := c.http.Do(c.request(withPatience(t), unary, strings.NewReader(frame("x")))); err == nil {
				t.Errorf("%v", response.Status)
				_ = response.Body.Close()
			}
		})
	}
	f := start(t, browsers())
	c := f.web(t, nil, true)
	for _, tt := range []struct {
		contentType string
		want        int
	}{{"application/grpc", 415}, {"text/plain", 415}, {"", 415}} {
		if got := c.call(withPatience(t), unary, "x", "content-type", tt.contentType); got.code != tt.want {
			t.Errorf("%q: %+v", tt.contentType, got)
		}
	}
}

// What a client that offers HTTP/1.1 sends ahead of a slow service comes whole, and in its order.
func TestManyMessagesOverWeb(t *testing.T) {
	t.Parallel()
	authority := pkitest.NewAuthority(t, "authority")
	f := startDirect(t, echoes, browsers(), func(o *grpcin.Options, _ *front) {
		o.Listener.TLS = &topology.ServerTLS{Certificates: []tls.Certificate{authority.Issue(t, "127.0.0.1")}, ALPN: []string{"h2", "http/1.1"}}
	})
	conn := dial(t, f.address, &tls.Config{RootCAs: authority.Pool(), NextProtos: []string{"h2", "http/1.1"}})
	stream, err := conn.NewStream(withPatience(t), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/"+bidi)
	if err != nil {
		t.Fatal(err)
	}
	c := caller{t, stream}
	var messages []string
	for i := range 200 {
		messages = append(messages, fmt.Sprint(i, strings.Repeat("x", i*i*10)))
	}
	var sending sync.WaitGroup
	sending.Go(func() {
		c.send(messages...)
		c.half()
	})
	c.wants(codes.OK, messages...)
	sending.Wait()
}

// A stop lets calls of browsers finish, and ends those that do not.
func TestStopWithBrowsers(t *testing.T) {
	t.Parallel()
	f := start(t, browsers(), func(o *grpcin.Options, _ *front) { o.Drain = 100 * time.Millisecond })
	f.kafka.sent = make(chan wire.Record, 10)
	c := f.web(t, nil, true)
	ctx := withPatience(t)
	got := make(chan webResult, 1)
	go func() { got <- c.call(ctx, serverStream, "x") }()
	f.kafka.reply(f.calls, message(f.first(ctx, t), "one"))
	if err := f.stop(); err != nil {
		t.Error(err)
	}
	if r := <-got; r.status() != "14" || len(r.messages) != 1 {
		t.Errorf("%+v", r)
	}
	if _, err := net.DialTimeout("tcp", f.address, time.Second); err == nil {
		t.Error("it still takes connections")
	}
}

// BenchmarkUnaryOverTLS is a call of a gRPC client, and of one that looks like a browser.
func BenchmarkUnaryOverTLS(b *testing.B) {
	authority := pkitest.NewAuthority(b, "authority")
	for name, protocols := range map[string][]string{"gRPC": {"h2"}, "as a browser": {"h2", "http/1.1"}} {
		b.Run(name, func(b *testing.B) {
			f := start(b, browsers(), func(o *grpcin.Options, _ *front) {
				o.Listener.TLS = &topology.ServerTLS{Certificates: []tls.Certificate{authority.Issue(b, "127.0.0.1")}, ALPN: []string{"h2", "http/1.1"}}
			})
			f.kafka.on = echo(b, f.calls)
			conn := dial(b, f.address, &tls.Config{RootCAs: authority.Pool(), NextProtos: protocols})
			b.ReportAllocs()
			for b.Loop() {
				if r := call(b.Context(), conn, unary, "x"); r.Status != codes.OK {
					b.Fatalf("%+v", r)
				}
				f.kafka.mu.Lock()
				f.kafka.records = f.kafka.records[:0]
				f.kafka.mu.Unlock()
			}
		})
	}
}
