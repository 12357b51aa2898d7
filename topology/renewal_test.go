package topology_test

import (
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kafkagrpc/internal/pkitest"
	"kafkagrpc/topology"
)

// mutualOf is a configuration with a listener that asks for client certificates.
const mutualOf = `name: x
vaults:
  v:
    type: filesystem
    options: {keys: {store: keys.p12, password: changeit}, trust: {store: trust.p12, password: changeit}}
bindings:
  tcp0: {type: tcp, kind: server, options: {port: 7153}, exit: tls0}
  tls0: {type: tls, kind: server, vault: v, options: {keys: [server], trust: [clients]%s}, exit: http0}
  http0: {type: http, kind: server, exit: grpc0}
  grpc0: {type: grpc, kind: server, exit: produce0}
  produce0: {type: grpc-kafka, kind: proxy, exit: cache0, routes: [{with: {capability: produce, topic: a, reply-to: b}}]}
  cache0: {type: kafka, kind: cache_client, exit: cache1}
  cache1: {type: kafka, kind: cache_server, exit: kafka0}
  kafka0: {type: kafka, kind: client, options: {servers: ["kafka:9092"]}, exit: tcp1}
  tcp1: {type: tcp, kind: client}
`

func TestRenew(t *testing.T) {
	t.Parallel()
	one, two := pkitest.NewAuthority(t, "one"), pkitest.NewAuthority(t, "two")
	path := write(t, "zilla.yaml", fmt.Sprintf(mutualOf, ""))
	keys, trust := filepath.Join(filepath.Dir(path), "keys.p12"), filepath.Join(filepath.Dir(path), "trust.p12")
	pkitest.WriteKey(t, keys, one.Issue(t, "first.example"))
	pkitest.WriteTrust(t, trust, map[string]*x509.Certificate{"clients": one.Certificate, "others": two.Certificate})
	loaded, err := topology.Load(path, topology.Options{})
	if err != nil {
		t.Fatal(err)
	}
	now := loaded.Listeners[0].TLS
	want := func(what, subject string, authority *pkitest.Authority) {
		t.Helper()
		if got := now.Certificates[0].Leaf.Subject.CommonName; got != subject {
			t.Errorf("%s: certificate of %s, want %s", what, got, subject)
		}
		if !now.ClientCAs.Equal(authority.Pool()) {
			t.Errorf("%s: other authorities are trusted", what)
		}
	}
	renew := func(what string) {
		t.Helper()
		next, err := now.Renew()
		if err != nil || next == nil {
			t.Fatalf("%s: got %v, %v", what, next, err)
		}
		now = next
	}
	want("at first", "first.example", one)
	if next, err := now.Renew(); next != nil || err != nil {
		t.Fatalf("nothing has changed: got %v, %v", next, err)
	}

	pkitest.WriteKey(t, keys, one.Issue(t, "second.example"))
	renew("another key")
	want("another key", "second.example", one)

	pkitest.WriteTrust(t, trust, map[string]*x509.Certificate{"clients": two.Certificate})
	renew("other clients")
	want("other clients", "second.example", two)

	if err := os.WriteFile(keys, []byte("half of a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	if next, err := now.Renew(); next != nil || err == nil || !strings.Contains(err.Error(), keys) {
		t.Fatalf("a broken store: got %v, %v", next, err)
	}
	if next, err := now.Renew(); next != nil || err != nil {
		t.Fatalf("a broken store is told once: got %v, %v", next, err)
	}
	if err := os.Remove(keys); err != nil {
		t.Fatal(err)
	}
	if next, err := now.Renew(); next != nil || err != nil {
		t.Fatalf("a store between two versions: got %v, %v", next, err)
	}
	pkitest.WriteKey(t, keys, one.Issue(t, "third.example"))
	renew("a store that is whole again")
	want("a store that is whole again", "third.example", two)

	pkitest.WriteTrust(t, trust, map[string]*x509.Certificate{"others": two.Certificate})
	if next, err := now.Renew(); next != nil || err == nil || !strings.Contains(err.Error(), "no certificate `clients` any more; it has `others`") {
		t.Fatalf("a store without the certificate: got %v, %v", next, err)
	}
}

// What `mutual` means without a word is what the trust says.
func TestMutual(t *testing.T) {
	t.Parallel()
	authority := pkitest.NewAuthority(t, "authority")
	for options, want := range map[string]string{
		"": "client certificates required", ", mutual: required": "client certificates required",
		", mutual: requested": "client certificates requested", ", mutual: none": "`mutual` is none",
	} {
		path := write(t, "zilla.yaml", fmt.Sprintf(mutualOf, options))
		pkitest.WriteKey(t, filepath.Join(filepath.Dir(path), "keys.p12"), authority.Issue(t, "server.example"))
		pkitest.WriteTrust(t, filepath.Join(filepath.Dir(path), "trust.p12"), map[string]*x509.Certificate{"clients": authority.Certificate})
		got, err := topology.Load(path, topology.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if text := got.Text(); !strings.Contains(text, want) {
			t.Errorf("%q: %q is not in\n%s", options, want, text)
		}
	}
}
