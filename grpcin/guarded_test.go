package grpcin_test

import (
	"context"
	"crypto/tls"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"kafkagrpc/grpcin"
	"kafkagrpc/internal/guard"
	"kafkagrpc/internal/issuertest"
	"kafkagrpc/internal/logtest"
	"kafkagrpc/internal/pkitest"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

// guarded puts the guard `people` in front of all routes: callers need a token of the issuer.
func guarded(t testing.TB, i *issuertest.Issuer, roles ...string) setting {
	t.Helper()
	guards := guard.NewSet([]*topology.Guard{
		{Name: "people", JWT: &topology.JWTGuard{
			Issuer: i.URL, Audience: issuertest.Audience, Identity: "sub", Roles: "scope", Attributes: []topology.Attribute{{Name: "tenant", From: "tenant"}},
		}},
		{Name: "machines", X509: &topology.X509Guard{Identity: "subject.cn", Roles: []topology.CertificateRole{
			{Role: "writer", Fields: []topology.CertificateValue{{Field: "subject.cn", Value: "writer.example"}}},
		}}},
	}, guard.Options{})
	if err := guards.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	return func(o *grpcin.Options, _ *front) {
		o.Guards = guards
		o.Listener.Tokens = []topology.TokenSource{{
			Guard:   "people",
			Headers: []topology.TokenPlace{{Name: "authorization", Before: "Bearer "}, {Name: "x-token", Before: "<", After: ">"}},
			Cookies: []topology.TokenPlace{{Name: "token"}},
		}}
		o.Listener.Certificates = []string{"machines"}
		for r := range o.Listener.Routes {
			o.Listener.Routes[r].Guarded = []topology.Demand{{Guard: "people", Roles: roles}}
		}
	}
}

func bearer(token string) []string { return []string{"authorization", "Bearer " + token} }

func TestGuardedCalls(t *testing.T) {
	t.Parallel()
	i := issuertest.Start(t)
	f := start(t, guarded(t, i, "echo:write"))
	f.kafka.on = echo(t, f.calls)
	ctx := withPatience(t)
	good := i.Token(map[string]any{"scope": "echo:read echo:write"})
	for _, tt := range []struct {
		name string
		md   []string
		want codes.Code
		text string
	}{
		{"no token", nil, codes.Unauthenticated, "guard people: the call has no token"},
		{"another scheme", []string{"authorization", "Basic " + good}, codes.Unauthenticated, "the call has no token"},
		{"no scheme", []string{"authorization", good}, codes.Unauthenticated, "the call has no token"},
		{"no token of ours", bearer("x"), codes.Unauthenticated, "no signed JSON web token"},
		{"a token", bearer(good), codes.OK, ""},
		{"a scheme in lower case", []string{"authorization", "bearer " + good}, codes.OK, ""},
		{"other metadata", []string{"x-token", "<" + good + ">"}, codes.OK, ""},
		{"a cookie", []string{"cookie", "a=b; token=" + good}, codes.OK, ""},
		{"another cookie", []string{"cookie", "tokens=" + good}, codes.Unauthenticated, "the call has no token"},
		{"a role is missing", bearer(i.Token(map[string]any{"scope": "echo:read"})), codes.PermissionDenied, "guard people: the caller lacks a role of echo:write"},
		{"no role", bearer(i.Token(nil)), codes.PermissionDenied, "lacks a role"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := len(f.kafka.written())
			r := f.call(ctx, unary, "x", tt.md...)
			if r.Status != tt.want || !strings.Contains(r.Text, tt.text) {
				t.Errorf("%v %q, want %v %q", r.Status, r.Text, tt.want, tt.text)
			}
			records := f.kafka.written()[before:]
			if tt.want != codes.OK && len(records) > 0 {
				t.Errorf("records of a call that is refused: %+v", records)
			}
			for _, r := range records {
				for _, h := range r.Headers {
					if strings.Contains(string(h.Value), good) {
						t.Errorf("header %s has the token", h.Name)
					}
				}
			}
		})
	}
}

// The first route that the caller may take is taken; a caller that is known to none of them is told so, and one that lacks a role, that.
func TestNextRouteOfGuardedOnes(t *testing.T) {
	t.Parallel()
	i := issuertest.Start(t)
	f := start(t, guarded(t, i), func(o *grpcin.Options, f *front) {
		admin, user := o.Listener.Routes[0], o.Listener.Routes[0]
		admin.Guarded, admin.Topic = []topology.Demand{{Guard: "people", Roles: []string{"admin"}}}, "of-admins"
		user.Guarded, user.Topic = []topology.Demand{{Guard: "people", Roles: []string{"user"}}}, "of-users"
		open := o.Listener.Routes[0]
		open.Guarded, open.Topic, open.Methods = nil, "of-all", []topology.MethodPattern{bidi}
		o.Listener.Routes = []topology.NorthRoute{admin, user, open}
		limit(0)(o, f)
	})
	f.kafka.on = echo(t, f.calls)
	ctx := withPatience(t)
	for _, tt := range []struct {
		name, method string
		md           []string
		want         codes.Code
		topic        string
	}{
		{"the first", unary, bearer(i.Token(map[string]any{"scope": "admin user"})), codes.OK, "of-admins"},
		{"the second", unary, bearer(i.Token(map[string]any{"scope": "user"})), codes.OK, "of-users"},
		{"none", unary, bearer(i.Token(map[string]any{"scope": "guest"})), codes.PermissionDenied, ""},
		{"nobody", unary, nil, codes.Unauthenticated, ""},
		{"for all, with a wrong token", bidi, bearer("x"), codes.OK, "of-all"},
		{"for all, without one", bidi, nil, codes.OK, "of-all"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := len(f.kafka.written())
			if r := f.call(ctx, tt.method, "x", tt.md...); r.Status != tt.want {
				t.Fatalf("%v %q, want %v", r.Status, r.Text, tt.want)
			}
			if records := f.kafka.written()[before:]; tt.topic == "" && len(records) > 0 || tt.topic != "" && records[0].Topic != tt.topic {
				t.Errorf("%+v, want them in %q", records, tt.topic)
			}
		})
	}
}

// What a guard knows of the caller is in the key and in headers, where the route says so; what a caller says in its place is not.
func TestValuesOfCallers(t *testing.T) {
	t.Parallel()
	i := issuertest.Start(t)
	f := start(t, guarded(t, i), func(o *grpcin.Options, _ *front) {
		r := &o.Listener.Routes[0]
		r.Overrides = []wire.Header{{Name: "from", Value: []byte("north")}, {Name: "meta:user"}}
		r.Callers = []topology.CallerValue{
			{Header: -1, Parts: []topology.CallerPart{{Text: "t/"}, {Guard: "people", Attribute: "tenant"}}},
			{Header: 1, Parts: []topology.CallerPart{{Guard: "people"}}},
		}
	})
	f.kafka.on = echo(t, f.calls)
	ctx := withPatience(t)
	for _, tt := range []struct {
		name   string
		claims map[string]any
		want   codes.Code
		key    string
		user   []string
	}{
		{"ann", map[string]any{"tenant": "acme"}, codes.OK, "t/acme", []string{"ann"}},
		{"bob", map[string]any{"sub": "bob", "tenant": "acme"}, codes.OK, "t/acme", []string{"bob"}},
		{"no tenant", nil, codes.PermissionDenied, "", nil},
		{"nobody", map[string]any{"sub": nil, "tenant": "acme"}, codes.PermissionDenied, "", nil},
		{"no metadata", map[string]any{"sub": "a\nb", "tenant": "acme"}, codes.PermissionDenied, "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := len(f.kafka.written())
			md := append(bearer(i.Token(tt.claims)), "user", "root", "idempotency-key", "k")
			if r := f.call(ctx, unary, "x", md...); r.Status != tt.want {
				t.Fatalf("%v %q, want %v", r.Status, r.Text, tt.want)
			}
			records := f.kafka.written()[before:]
			if tt.want != codes.OK {
				if len(records) > 0 {
					t.Errorf("%+v", records)
				}
				return
			}
			var user []string
			for _, h := range records[0].Headers {
				if strings.EqualFold(h.Name, "meta:user") {
					user = append(user, string(h.Value))
				}
			}
			if !slices.Equal(user, tt.user) || string(records[0].Key) != tt.key {
				t.Errorf("key %q, user %q, want %q, %q", records[0].Key, user, tt.key, tt.user)
			}
		})
	}
}

// The certificate of the connection says who calls, and is asked for its roles.
func TestCallersByCertificate(t *testing.T) {
	t.Parallel()
	authority := pkitest.NewAuthority(t, "authority")
	server := authority.Issue(t, "localhost")
	f := start(t, guarded(t, issuertest.Start(t)), func(o *grpcin.Options, _ *front) {
		o.Listener.Tokens = nil
		o.Listener.TLS = &topology.ServerTLS{Certificates: []tls.Certificate{server}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: authority.Pool()}
		for i := range o.Listener.Routes {
			o.Listener.Routes[i].Guarded = []topology.Demand{{Guard: "machines", Roles: []string{"writer"}}}
		}
	})
	f.kafka.on = echo(t, f.calls)
	for _, tt := range []struct {
		name   string
		client []tls.Certificate
		want   codes.Code
	}{
		{"a writer", []tls.Certificate{authority.Issue(t, "writer.example")}, codes.OK},
		{"somebody else", []tls.Certificate{authority.Issue(t, "reader.example")}, codes.PermissionDenied},
		{"nobody", nil, codes.Unauthenticated},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conn := dial(t, f.address, &tls.Config{ServerName: "localhost", RootCAs: authority.Pool(), Certificates: tt.client})
			if r := call(withPatience(t), conn, unary, "x"); r.Status != tt.want {
				t.Errorf("%v %q, want %v", r.Status, r.Text, tt.want)
			}
		})
	}
}

// A stream ends when the token of its caller does, through Kafka and without, and the processor is told that nobody waits.
func TestStreamsEndWithTheirTokens(t *testing.T) {
	t.Parallel()
	i := issuertest.Start(t)
	soon := func() []string {
		return bearer(i.Token(map[string]any{"exp": time.Now().Add(2*time.Second - guard.Leeway).Unix()}))
	}
	ended := func(t *testing.T, err error) {
		t.Helper()
		if s := status.Convert(err); s.Code() != codes.Unauthenticated || !strings.Contains(s.Message(), "expired during the call") {
			t.Errorf("%v", err)
		}
	}
	t.Run("through Kafka", func(t *testing.T) {
		t.Parallel()
		f := start(t, guarded(t, i))
		f.kafka.on = pingpong(t, f)
		c := f.stream(withPatience(t), t, bidi, soon()...)
		c.send("x")
		if got := c.next(); got != "x" {
			t.Errorf("%q", got)
		}
		_, err := c.rest()
		ended(t, err)
		eventually(t, "the processor is told", func() bool {
			records := f.kafka.written()
			return request(t, records[len(records)-1]).Canceled
		})
	})
	t.Run("one-way", func(t *testing.T) {
		t.Parallel()
		f := start(t, guarded(t, i), func(o *grpcin.Options, f *front) {
			o.Listener.Routes[0].ReplyTo = ""
			limit(0)(o, f)
		})
		c := f.stream(withPatience(t), t, clientStream, soon()...)
		c.send("x")
		_, err := c.rest()
		ended(t, err)
	})
	t.Run("without Kafka", func(t *testing.T) {
		t.Parallel()
		f := startDirect(t, echoes, guarded(t, i))
		c := f.stream(withPatience(t), t, bidi, soon()...)
		c.send("x")
		if got := c.next(); got != "x" {
			t.Errorf("%q", got)
		}
		_, err := c.rest()
		ended(t, err)
	})
}

// A service that is called without Kafka gets calls of those that its route is for, and their tokens.
func TestGuardedCallsWithoutKafka(t *testing.T) {
	t.Parallel()
	i := issuertest.Start(t)
	seen := make(chan metadata.MD, 10)
	f := startDirect(t, func(stream grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(stream.Context())
		seen <- md
		return echoes(stream)
	}, guarded(t, i, "user"))
	ctx := withPatience(t)
	if r := f.call(ctx, unary, "x"); r.Status != codes.Unauthenticated {
		t.Errorf("%+v", r)
	}
	if r := f.call(ctx, unary, "x", bearer(i.Token(nil))...); r.Status != codes.PermissionDenied {
		t.Errorf("%+v", r)
	}
	if len(seen) > 0 {
		t.Error("the service was called")
	}
	token := i.Token(map[string]any{"scope": "user"})
	if r := f.call(ctx, unary, "x", bearer(token)...); r.Status != codes.OK {
		t.Errorf("%+v", r)
	}
	if got := (<-seen).Get("authorization"); !slices.Equal(got, []string{"Bearer " + token}) {
		t.Errorf("authorization is %q", got)
	}
}

// A caller who reads a topic gets the records that are his, in a group with those alone who get the same, and until his token ends.
func TestGuardedFetch(t *testing.T) {
	t.Parallel()
	i := issuertest.Start(t)
	s := newShelf(at(0, 0, "ann", "1"), at(0, 1, "bob", "2"), at(0, 2, "x", "3", "for", "t/acme"), at(0, 3, "x", "4", "for", "t/other"))
	f := startFetch(t, s, func(f *topology.Fetch) {
		f.Filters = []topology.Filter{{Key: []byte("?")}, {Key: []byte("x"), Headers: []wire.Header{{Name: "for", Value: []byte("?")}}}}
	}, guarded(t, i), func(o *grpcin.Options, _ *front) {
		o.Listener.Routes[0].Callers = []topology.CallerValue{
			{Filter: 1, Header: -1, Parts: []topology.CallerPart{{Guard: "people"}}},
			{Filter: 2, Header: 0, Parts: []topology.CallerPart{{Text: "t/"}, {Guard: "people", Attribute: "tenant"}}},
		}
	})
	ctx := withPatience(t)
	if _, err := f.stream(ctx, t, serverStream).rest(); status.Code(err) != codes.Unauthenticated {
		t.Errorf("without a token: %v", err)
	}
	read := func(who, tenant string, more ...string) caller {
		return f.stream(ctx, t, serverStream, append(bearer(i.Token(map[string]any{"sub": who, "tenant": tenant, "exp": time.Now().Add(3*time.Second - guard.Leeway).Unix()})), more...)...)
	}
	ann, bob := read("ann", "acme", "fetch-group", "g"), read("bob", "other", "fetch-group", "g")
	for _, tt := range []struct {
		of   caller
		want []string
	}{
		{ann, []string{placed("1", map[int32]int64{0: 1}), placed("3", map[int32]int64{0: 3})}},
		{bob, []string{placed("2", map[int32]int64{0: 2}), placed("4", map[int32]int64{0: 4})}},
	} {
		for _, want := range tt.want {
			if got := tt.of.next(); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		}
		if _, err := tt.of.rest(); status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "expired during the call") {
			t.Errorf("%v", err)
		}
	}
	if a := s.asked; len(a) != 2 || a[0].Group == a[1].Group || !strings.HasPrefix(a[0].Group, "ns-fetch:messages:") || !strings.HasSuffix(a[1].Group, ":g") {
		t.Errorf("the groups are %+v", a)
	}
}

// Reflection tells what there is only to those who may call some of it. Health checks are for all: who asks is a load balancer.
func TestGuardedReflection(t *testing.T) {
	t.Parallel()
	i := issuertest.Start(t)
	_, conn := startOwn(t, guarded(t, i, "user"))
	ctx := withPatience(t)
	v1 := func(ctx context.Context) error {
		stream, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
		if err != nil {
			return err
		}
		_ = stream.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}) // the answer tells
		_, err = stream.Recv()
		return err
	}
	alpha := func(ctx context.Context) error { // whose messages are the same, and deprecated
		stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
		if err != nil {
			return err
		}
		_ = stream.SendMsg(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}})
		return stream.RecvMsg(&reflectionv1.ServerReflectionResponse{})
	}
	for _, look := range []func(context.Context) error{v1, alpha} {
		if err := look(ctx); status.Code(err) != codes.Unauthenticated {
			t.Errorf("without a token: %v", err)
		}
		if err := look(metadata.AppendToOutgoingContext(ctx, bearer(i.Token(nil))...)); status.Code(err) != codes.PermissionDenied {
			t.Errorf("without the role: %v", err)
		}
		if err := look(metadata.AppendToOutgoingContext(ctx, bearer(i.Token(map[string]any{"scope": "user"}))...)); err != nil {
			t.Error(err)
		}
	}
}

// Calls that are refused are told now and then, with the reason and without what was sent.
func TestRefusedCallsAreTold(t *testing.T) {
	t.Parallel()
	i := issuertest.Start(t)
	var log logtest.Lines
	f := start(t, guarded(t, i), func(o *grpcin.Options, _ *front) { o.Log = slog.New(slog.NewJSONHandler(&log, nil)) })
	token := i.Token(map[string]any{"aud": "others", "sub": "hunter2"})
	for range 20 {
		f.call(withPatience(t), unary, "x", bearer(token)...)
	}
	lines := log.About(t, "a call is refused by its guard")
	if len(lines) == 0 || len(lines) > 5 {
		t.Fatalf("%d lines: %s", len(lines), &log)
	}
	if l := lines[0]; l["guard"] != "people" || l["reason"] != "audience" || l["method"] != unary {
		t.Errorf("%v", l)
	}
	if strings.Contains(log.String(), "hunter2") || strings.Contains(log.String(), token) {
		t.Errorf("the token is in the log: %s", &log)
	}
}

// BenchmarkUnary is a call that a route takes, for all, for callers with a token, or where browsers may call, too.
func BenchmarkUnary(b *testing.B) {
	i := issuertest.Start(b)
	for _, tt := range []struct {
		name     string
		settings []setting
	}{
		{"open", nil},
		{"guarded", []setting{guarded(b, i, "user")}},
		{"beside browsers", []setting{browsers()}},
	} {
		b.Run(tt.name, func(b *testing.B) {
			f := start(b, tt.settings...)
			f.kafka.on = echo(b, f.calls)
			ctx := metadata.AppendToOutgoingContext(context.Background(), bearer(i.Token(map[string]any{"scope": "user"}))...)
			b.ReportAllocs()
			for b.Loop() {
				if r := f.call(ctx, unary, "x"); r.Status != codes.OK {
					b.Fatalf("%+v", r)
				}
				f.kafka.mu.Lock()
				f.kafka.records = f.kafka.records[:0]
				f.kafka.mu.Unlock()
			}
		})
	}
}
