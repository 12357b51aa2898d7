// Package issuertest is an issuer of tokens for tests, shaped as OpenID Connect has it: it says where its keys are, has them there, and
// signs with one of them.
package issuertest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// Audience is whom the tokens are for.
const Audience = "https://api.example.com"

// Issuer signs tokens. It is safe for concurrent use.
type Issuer struct {
	URL string // what it calls itself

	t      testing.TB
	server *httptest.Server
	mux    *http.ServeMux

	mu     sync.Mutex
	keys   []Key
	rotate int
	asked  int
	down   bool
}

// Key signs tokens.
type Key struct {
	ID      string // "": tokens do not say
	Private crypto.Signer
}

// NewKey makes one that no issuer has.
func NewKey(t testing.TB, id string) Key {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return Key{id, private}
}

// Start starts an issuer with one key. It ends with the test.
func Start(t testing.TB) *Issuer {
	t.Helper()
	i := New(t, "")
	i.server = httptest.NewServer(i.mux)
	i.URL = i.server.URL
	t.Cleanup(i.server.Close)
	return i
}

// New makes an issuer with one key, which has no port: it is asked through RoundTrip.
func New(t testing.TB, url string) *Issuer {
	t.Helper()
	mux := http.NewServeMux()
	i := &Issuer{t: t, mux: mux, URL: url}
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		i.answer(w, map[string]string{"issuer": i.URL, "jwks_uri": i.URL + "/keys"})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		i.mu.Lock()
		i.asked++
		i.mu.Unlock()
		i.answer(w, i.JWKS())
	})
	i.Rotate()
	return i
}

// RoundTrip implements http.RoundTripper.
func (i *Issuer) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	i.mux.ServeHTTP(w, r)
	return w.Result(), nil
}

func (i *Issuer) answer(w http.ResponseWriter, what any) {
	i.mu.Lock()
	down := i.down
	i.mu.Unlock()
	if down {
		http.Error(w, "it is down", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(what); err != nil {
		i.t.Error(err)
	}
}

// JWKS are the public keys.
func (i *Issuer) JWKS() jose.JSONWebKeySet {
	i.mu.Lock()
	defer i.mu.Unlock()
	var set jose.JSONWebKeySet
	for _, k := range i.keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: k.Private.Public(), KeyID: k.ID, Use: "sig"})
	}
	return set
}

// Rotate signs with another key from now on, in place of those that there were.
func (i *Issuer) Rotate() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.rotate++
	i.keys = []Key{NewKey(i.t, fmt.Sprintf("key-%d", i.rotate))}
}

// Add has another key, too, which signs nothing.
func (i *Issuer) Add(k Key) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = append(i.keys, k)
}

// Key is what it signs with.
func (i *Issuer) Key() Key {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.keys[0]
}

// Down makes it answer nobody, or all again.
func (i *Issuer) Down(down bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.down = down
}

// Asked is how often its keys were asked for.
func (i *Issuer) Asked() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.asked
}

// Claims are those of a token that is good for an hour, with others in place of them; nil takes one away.
func (i *Issuer) Claims(others map[string]any) map[string]any {
	all := map[string]any{"iss": i.URL, "aud": Audience, "sub": "ann", "exp": time.Now().Add(time.Hour).Unix()}
	maps.Copy(all, others)
	maps.DeleteFunc(all, func(_ string, v any) bool { return v == nil })
	return all
}

// Token is one with these claims.
func (i *Issuer) Token(others map[string]any) string {
	i.t.Helper()
	return Sign(i.t, i.Key(), i.Claims(others))
}

// Sign makes a token.
func Sign(t testing.TB, k Key, claims map[string]any) string {
	t.Helper()
	algorithm := jose.RS256
	if _, ok := k.Private.(*ecdsa.PrivateKey); ok {
		algorithm = jose.ES256
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: jose.JSONWebKey{Key: k.Private, KeyID: k.ID}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}
