package guard_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"kafkagrpc/internal/guard"
	"kafkagrpc/internal/issuertest"
	"kafkagrpc/internal/logtest"
	"kafkagrpc/internal/pkitest"
	"kafkagrpc/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// people is a guard of an issuer.
func people(i *issuertest.Issuer) *topology.Guard {
	return &topology.Guard{Name: "people", JWT: &topology.JWTGuard{
		Issuer: i.URL, Audience: issuertest.Audience, Identity: "sub", Roles: "scope", Attributes: []topology.Attribute{{Name: "tenant", From: "https://example.com/tenant"}},
	}}
}

func fetched(t *testing.T, o guard.Options, guards ...*topology.Guard) *guard.Set {
	t.Helper()
	s := guard.NewSet(guards, o)
	if err := s.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func reason(err error) guard.Reason {
	var r *guard.Refusal
	if !errors.As(err, &r) {
		return guard.Reason(fmt.Sprint(err))
	}
	return r.Reason
}

// A token says who calls, what else is asked of it, and how long it counts: a minute longer than it says, as clocks differ.
func TestCallerOfAToken(t *testing.T) {
	i := issuertest.Start(t)
	s := fetched(t, guard.Options{}, people(i))
	until := time.Now().Add(10 * time.Minute).Truncate(time.Second)
	for _, roles := range []any{"echo:read echo:write", []string{"echo:read", "echo:write"}} {
		token := i.Token(map[string]any{"scope": roles, "https://example.com/tenant": 7, "exp": until.Unix()})
		for range 2 { // the second time it is known
			c, err := s.Token(t.Context(), "people", token)
			if err != nil {
				t.Fatal(err)
			}
			if c.Identity != "ann" || c.Attribute("") != "ann" || c.Attribute("tenant") != "7" || c.Attribute("other") != "" {
				t.Errorf("%q, tenant %q", c.Identity, c.Attribute("tenant"))
			}
			if diff := cmp.Diff([]string{"echo:read", "echo:write"}, c.Roles); diff != "" {
				t.Error(diff)
			}
			if !c.Has([]string{"echo:write"}) || !c.Has(nil) || c.Has([]string{"echo:write", "admin"}) {
				t.Error("roles are told apart wrongly")
			}
			if want := until.Add(time.Minute); !c.Until.Equal(want) {
				t.Errorf("until %v, want %v", c.Until, want)
			}
		}
	}
}

// What is no token of the issuer for this audience at this time is refused, with the reason, and nothing of it repeated.
func TestTokensThatAreRefused(t *testing.T) {
	i := issuertest.Start(t)
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey := issuertest.Key{ID: "rsa", Private: private}
	i.Add(rsaKey)
	public, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	s := fetched(t, guard.Options{}, people(i))
	now := time.Now()
	good := i.Token(nil)
	parts := strings.Split(good, ".")
	for _, tt := range []struct {
		name, token string
		want        guard.Reason
	}{
		{"nothing", "", guard.Missing},
		{"no token", "hunter2", guard.Malformed},
		{"four parts", good + ".x", guard.Malformed},
		{"huge", strings.Repeat("a", 16<<10+1), guard.TooLarge},
		{"huge, and signed", i.Token(map[string]any{"pad": strings.Repeat("a", 16<<10)}), guard.TooLarge},
		{"another issuer", i.Token(map[string]any{"iss": "https://evil.example.com"}), guard.Issuer},
		{"no issuer", i.Token(map[string]any{"iss": nil}), guard.Issuer},
		{"another audience", i.Token(map[string]any{"aud": []string{"a", "b"}}), guard.Audience},
		{"no audience", i.Token(map[string]any{"aud": nil}), guard.Audience},
		{"another key of the same name", issuertest.Sign(t, issuertest.NewKey(t, i.Key().ID), i.Claims(nil)), guard.Signature},
		{"a key that the issuer does not have", issuertest.Sign(t, issuertest.NewKey(t, "key-0"), i.Claims(nil)), guard.UnknownKey},
		{"no kid", issuertest.Sign(t, issuertest.Key{Private: i.Key().Private}, i.Claims(nil)), guard.UnknownKey},
		{"algorithm none", issuertest.Forge(t, "none", i.Key().ID, nil, i.Claims(nil)), guard.Algorithm},
		{"the public key as a secret", issuertest.Forge(t, "HS256", "rsa", publicPEM, i.Claims(nil)), guard.Algorithm},
		{"the public key as a secret of another name", issuertest.Forge(t, "RS256", "rsa", publicPEM, i.Claims(nil)), guard.Signature},
		{"another algorithm than the key's", issuertest.Forge(t, "RS256", i.Key().ID, publicPEM, i.Claims(nil)), guard.Algorithm},
		{"expired", i.Token(map[string]any{"exp": now.Add(-2 * time.Minute).Unix()}), guard.Expired},
		{"no end", i.Token(map[string]any{"exp": nil}), guard.Malformed},
		{"an end that is none", i.Token(map[string]any{"exp": "tomorrow"}), guard.Malformed},
		{"not yet valid", i.Token(map[string]any{"nbf": now.Add(2 * time.Minute).Unix()}), guard.NotYetValid},
		{"from the future", i.Token(map[string]any{"iat": now.Add(2 * time.Minute).Unix()}), guard.NotYetValid},
		{"claims of somebody else", parts[0] + "." + strings.Split(i.Token(map[string]any{"sub": "eve"}), ".")[1] + "." + parts[2], guard.Signature},
		{"expired within the leeway", i.Token(map[string]any{"exp": now.Add(-30 * time.Second).Unix()}), ""},
		{"not yet valid within the leeway", i.Token(map[string]any{"nbf": now.Add(30 * time.Second).Unix()}), ""},
		{"the other key", issuertest.Sign(t, rsaKey, i.Claims(nil)), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := s.Token(t.Context(), "people", tt.token)
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if got := reason(err); got != tt.want {
				t.Fatalf("%q, want %q", got, tt.want)
			}
			for _, part := range strings.Split(tt.token, ".") {
				if len(part) > 4 && strings.Contains(err.Error(), part) {
					t.Errorf("the message repeats the token: %v", err)
				}
			}
		})
	}
}

// A token without a kid is taken where there is only one key.
func TestTheOnlyKeyNeedsNoName(t *testing.T) {
	i := issuertest.Start(t)
	s := fetched(t, guard.Options{}, people(i))
	if _, err := s.Token(t.Context(), "people", issuertest.Sign(t, issuertest.Key{Private: i.Key().Private}, i.Claims(nil))); err != nil {
		t.Error(err)
	}
}

// Keys in the file need no issuer that can be asked, and none is.
func TestKeysOfTheFile(t *testing.T) {
	i := issuertest.Start(t)
	g := people(i)
	g.JWT.Keys = i.JWKS().Keys
	i.Down(true)
	s := fetched(t, guard.Options{}, g)
	if _, err := s.Token(t.Context(), "people", i.Token(nil)); err != nil {
		t.Error(err)
	}
	i.Rotate()
	if _, err := s.Token(t.Context(), "people", i.Token(nil)); reason(err) != guard.UnknownKey {
		t.Error(err)
	}
}

// Who follows keys does so until it is stopped, also where there are none.
func TestRunEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := issuertest.New(t, "https://auth.example.com")
		fixed := people(i)
		fixed.JWT.Keys = i.JWKS().Keys
		for _, guards := range [][]*topology.Guard{nil, {fixed}} {
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() {
				guard.NewSet(guards, guard.Options{}).Run(ctx)
				close(ended)
			}()
			synctest.Wait()
			select {
			case <-ended:
				t.Error("it has ended by itself")
			default:
			}
			cancel()
			<-ended
		}
	})
}

// When an issuer signs with another key, the first token with it makes the keys be asked for once more. The key that is gone counts no
// more, also for tokens that were known. Who makes up names of keys does not make the issuer busy.
func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := issuertest.New(t, "https://auth.example.com")
		s := fetched(t, guard.Options{Transport: i}, people(i))
		before := i.Token(nil)
		wants(t, s, before, "")
		i.Rotate()
		after := i.Token(nil)
		wants(t, s, before, "") // until somebody asks for the keys
		wants(t, s, after, "")
		wants(t, s, before, guard.UnknownKey)
		made := issuertest.Sign(t, issuertest.NewKey(t, "made-up"), i.Claims(nil))
		for range 100 {
			wants(t, s, made, guard.UnknownKey)
		}
		if asked := i.Asked(); asked != 2 {
			t.Errorf("the issuer was asked %d times, want 2", asked)
		}
		time.Sleep(5 * time.Second)
		var callers sync.WaitGroup
		for range 10 { // who comes while keys are fetched waits for them
			callers.Go(func() { wants(t, s, made, guard.UnknownKey) })
		}
		callers.Wait()
		if asked := i.Asked(); asked != 3 {
			t.Errorf("the issuer was asked %d times, want 3", asked)
		}
	})
}

func wants(t *testing.T, s *guard.Set, token string, want guard.Reason) {
	t.Helper()
	_, err := s.Token(t.Context(), "people", token)
	if want == "" && err != nil || want != "" && reason(err) != want {
		t.Errorf("%v, want %q", err, want)
	}
}

// A key that an issuer takes back counts for five minutes at most. While the issuer is down the keys of before stay; that is told once,
// and counted each time.
func TestKeysAreFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := issuertest.New(t, "https://auth.example.com")
		var log logtest.Lines
		var failures atomic.Int32
		o := guard.Options{Transport: i, Log: slog.New(slog.NewJSONHandler(&log, nil)), KeysFailed: func(guard string) {
			if guard == "people" {
				failures.Add(1)
			}
		}}
		s := fetched(t, o, people(i))
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { s.Run(ctx) })
		token := i.Token(nil)
		i.Down(true)
		time.Sleep(7 * time.Minute)
		wants(t, s, token, "")
		if n := failures.Load(); n < 2 {
			t.Errorf("%d failures are counted", n)
		}
		if n := log.Count("cannot be fetched"); n != 1 {
			t.Errorf("the outage is told %d times: %s", n, &log)
		}
		i.Rotate()
		i.Down(false)
		time.Sleep(time.Minute)
		wants(t, s, token, guard.UnknownKey)
		i.Rotate()
		time.Sleep(5 * time.Second)
		wants(t, s, i.Token(nil), "")
		cancel()
		running.Wait()
		if log.Count("are fetched again") != 1 {
			t.Error(log.String())
		}
	})
}

// Callers whose tokens end are known no longer, though their tokens were.
func TestTokenEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := issuertest.New(t, "https://auth.example.com")
		s := fetched(t, guard.Options{Transport: i}, people(i))
		token := i.Token(nil)
		wants(t, s, token, "")
		time.Sleep(time.Hour + 59*time.Second)
		wants(t, s, token, "")
		time.Sleep(2 * time.Second)
		wants(t, s, token, guard.Expired)
	})
}

// An issuer that is not to be had at the start is an error that says where it was looked for, and what was wrong; no query, which may be a secret.
func TestIssuersThatAnswerNothing(t *testing.T) {
	for _, tt := range []struct {
		name    string
		handler http.HandlerFunc
		keys    string // path
		want    string // "": the keys are taken
	}{
		{"down", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "", http.StatusBadGateway) }, "", "/.well-known/openid-configuration: 502 Bad Gateway"},
		{"no discovery, and keys in the usual place", usual(`{"keys":[` + aKey(t) + `]}`), "", ""},
		{"no discovery and no keys", http.NotFound, "", "/.well-known/jwks.json: 404 Not Found"},
		{"another issuer", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"issuer":"https://evil.example.com"}`) }, "", `the issuer calls itself "https://evil.example.com"`},
		{"no JSON", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `<html>`) }, "/keys?secret=hunter2", "/keys: invalid character"},
		{"no key", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"keys":[{"kty":"oct","k":"aHVudGVyMg"},{"kty":"new"}]}`)
		}, "/keys", "has 2 keys, of which none"},
		{"huge", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"keys":["`, strings.Repeat("a", 2<<20)) }, "/keys", "too large"},
		{"other keys beside", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"keys":[{"kty":"new"},`, aKey(t), `]}`) }, "/keys", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(tt.handler)
			defer server.Close()
			g := &topology.Guard{Name: "people", JWT: &topology.JWTGuard{Issuer: server.URL}}
			if tt.keys != "" {
				g.JWT.KeysURL = server.URL + tt.keys
			}
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			if tt.want == "" {
				ctx = t.Context()
			}
			defer cancel()
			err := guard.NewSet([]*topology.Guard{g}, guard.Options{}).Fetch(ctx)
			switch {
			case tt.want == "":
				if err != nil {
					t.Error(err)
				}
			case err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "guard people"):
				t.Errorf("%v, want %q", err, tt.want)
			case strings.Contains(err.Error(), "hunter2"):
				t.Errorf("a secret is in %v", err)
			}
		})
	}
}

func usual(answer string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/.well-known/jwks.json" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, answer)
	}
}

func aKey(t *testing.T) string {
	t.Helper()
	key, err := json.Marshal(jose.JSONWebKey{Key: issuertest.NewKey(t, "a").Private.Public(), KeyID: "a"})
	if err != nil {
		t.Fatal(err)
	}
	return string(key)
}

// A certificate says who calls, and which roles that has.
func TestCallerOfACertificate(t *testing.T) {
	ca := pkitest.NewAuthority(t, "ca")
	s := guard.NewSet([]*topology.Guard{{Name: "machines", X509: &topology.X509Guard{
		Identity: "subject.dn", Attributes: []topology.Attribute{{Name: "host", From: "san.dns"}, {Name: "unit", From: "subject.ou"}},
		Roles: []topology.CertificateRole{
			{Role: "writer", Fields: []topology.CertificateValue{{Field: "subject.cn", Value: "a.example"}, {Field: "issuer.cn", Value: "ca"}}},
			{Role: "reader", Fields: []topology.CertificateValue{{Field: "san.dns", Value: "b.example"}}},
			{Role: "reader", Fields: []topology.CertificateValue{{Field: "subject.cn", Value: "a.example"}}},
			{Role: "admin", Fields: []topology.CertificateValue{{Field: "subject.cn", Value: "a.example"}, {Field: "subject.o", Value: "Example"}}},
		},
	}}}, guard.Options{})
	leaf := ca.Issue(t, "a.example", "b.example").Leaf
	c, err := s.Certificate("machines", leaf)
	if err != nil {
		t.Fatal(err)
	}
	if c.Identity != "CN=a.example" || c.Attribute("host") != "a.example" || c.Attribute("unit") != "" || !c.Until.Equal(leaf.NotAfter) {
		t.Errorf("%+v", c)
	}
	if diff := cmp.Diff([]string{"writer", "reader"}, c.Roles); diff != "" {
		t.Error(diff)
	}
	if _, err := s.Certificate("machines", nil); reason(err) != guard.Missing {
		t.Error(err)
	}
	if _, err := s.Certificate("machines", ca.IssueUntil(t, time.Now().Add(-time.Second), "a.example").Leaf); reason(err) != guard.Expired {
		t.Error(err)
	}
}

func BenchmarkToken(b *testing.B) {
	i := issuertest.Start(b)
	s := guard.NewSet([]*topology.Guard{people(i)}, guard.Options{})
	if err := s.Fetch(b.Context()); err != nil {
		b.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		next func(n int) string
	}{
		{"known", func() func(int) string { token := i.Token(nil); return func(int) string { return token } }()},
		{"new", func(n int) string { return i.Token(map[string]any{"jti": fmt.Sprint(n)}) }},
	} {
		b.Run(tt.name, func(b *testing.B) {
			for n := 0; b.Loop(); n++ {
				b.StopTimer()
				token := tt.next(n)
				b.StartTimer()
				if _, err := s.Token(b.Context(), "people", token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
