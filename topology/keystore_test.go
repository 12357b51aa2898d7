package topology_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"kafkagrpc/topology"
)

// tlsOf is a configuration with one TLS listener.
const tlsOf = `name: x
vaults:
  v: {type: filesystem, options: {keys: {store: %q, type: pkcs12, password: %q}}}
bindings:
  tcp0: {type: tcp, kind: server, options: {port: 7153}, exit: tls0}
  tls0: {type: tls, kind: server, vault: v, options: {keys: [%s]}, exit: http0}
  http0: {type: http, kind: server, exit: grpc0}
  grpc0: {type: grpc, kind: server, exit: produce0}
  produce0: {type: grpc-kafka, kind: proxy, exit: cache0, routes: [{with: {capability: produce, topic: a, reply-to: b}}]}
  cache0: {type: kafka, kind: cache_client, exit: cache1}
  cache1: {type: kafka, kind: cache_server, exit: kafka0}
  kafka0: {type: kafka, kind: client, options: {servers: ["kafka:9092"]}, exit: tcp1}
  tcp1: {type: tcp, kind: client}
`

func loadTLS(t *testing.T, store, password, keys string) (*topology.Topology, error) {
	t.Helper()
	path, err := filepath.Abs(store)
	if err != nil {
		t.Fatal(err)
	}
	return topology.Load(write(t, "zilla.yaml", fmt.Sprintf(tlsOf, path, password, keys)), topology.Options{})
}

// java are the stores of every encryption that keytool and openssl write.
const java = "../../internal/keystore/testdata/"

// The stores in testdata were made by keytool (of Java 17 or later) and openssl 3, with the password changeit and
// certificates that are valid for 100 years.
func TestKeystores(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		store, alias string
		name         string // of the certificate that must be presented
		chain        int
		refused      string
		warned       bool // of a name that the store does not have
	}{
		"keytool":                         {store: "seed/tls/localhost.p12", alias: "localhost", name: "localhost", chain: 1},
		"keytool, other case":             {store: "seed/tls/localhost.p12", alias: "LocalHost", name: "localhost", chain: 1},
		"keytool, no such key":            {store: "seed/tls/localhost.p12", alias: "other", refused: "has no key `other`; it has `localhost`"},
		"keytool, first of two":           {store: "keystores/two-keys.p12", alias: "first", name: "first.example", chain: 1},
		"keytool, second of two":          {store: "keystores/two-keys.p12", alias: "second", name: "second.example", chain: 1},
		"keytool, with a trusted one":     {store: "keystores/with-trusted.p12", alias: "localhost", name: "localhost", chain: 1},
		"keytool, Ed25519":                {store: "keystores/ed25519.p12", alias: "localhost", name: "localhost", chain: 1},
		"openssl, with its issuer":        {store: "keystores/openssl-chain.p12", alias: "localhost", name: "localhost", chain: 2},
		"openssl, key without a name":     {store: "keystores/openssl-unnamed.p12", alias: "1", name: "localhost", chain: 1},
		"the same by another name":        {store: "keystores/openssl-unnamed.p12", alias: "localhost", name: "localhost", chain: 1, warned: true},
		"Ed25519, no such key":            {store: "keystores/ed25519.p12", alias: "locolhost", refused: "has no key `locolhost`; it has `localhost`"},
		"with a trusted one, no such key": {store: "keystores/with-trusted.p12", alias: "ca", refused: "has no key `ca`; it has `localhost`"},
		"two keys with a trusted one":     {store: java + "keytool.p12", alias: "second", name: "second.example", chain: 2},
		"the same of an old Java":         {store: java + "keytool-legacy.p12", alias: "first", name: "first.example", chain: 1},
		"the same, no such key":           {store: java + "keytool-legacy.p12", alias: "third", refused: "has no key `third`; it has `first`, `second`"},
		"openssl, algorithms of the past": {store: "keystores/openssl-legacy.p12", alias: "localhost", name: "localhost", chain: 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := loadTLS(t, "testdata/"+tt.store, "changeit", tt.alias)
			if tt.refused != "" {
				if err == nil || !strings.Contains(err.Error(), tt.refused) {
					t.Fatalf("got %v, want %q", err, tt.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if warned := slices.ContainsFunc(got.Warnings, func(w topology.Problem) bool { return strings.Contains(w.Message, "no name in its store") }); warned != tt.warned {
				t.Errorf("the warnings are %v", got.Warnings)
			}
			certificate := got.Listeners[0].TLS.Certificates[0]
			if n := len(certificate.Certificate); n != tt.chain {
				t.Errorf("a chain of %d certificates, want %d", n, tt.chain)
			}
			handshake(t, certificate, tt.name)

			if _, err := loadTLS(t, "testdata/"+tt.store, "not-the-password", tt.alias); err == nil ||
				!strings.Contains(err.Error(), "does not open") || strings.Contains(err.Error(), "not-the-password") {
				t.Errorf("with a wrong password: %v", err)
			}
		})
	}
}

// handshake proves that certificate and key belong together: a client that trusts the last certificate of the chain
// accepts the server under its name.
func handshake(t *testing.T, certificate tls.Certificate, name string) {
	t.Helper()
	anchor, err := x509.ParseCertificate(certificate.Certificate[len(certificate.Certificate)-1])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(anchor)
	a, b := net.Pipe()
	deadline := time.Now().Add(30 * time.Second)
	for _, c := range []net.Conn{a, b} {
		defer c.Close()
		if err := c.SetDeadline(deadline); err != nil {
			t.Fatal(err)
		}
	}
	served := make(chan error, 1)
	go func() { served <- tls.Server(a, &tls.Config{Certificates: []tls.Certificate{certificate}}).Handshake() }()
	if err := tls.Client(b, &tls.Config{RootCAs: roots, ServerName: name}).Handshake(); err != nil {
		t.Errorf("client: %v", err)
	}
	b.Close()
	if err := <-served; err != nil {
		t.Errorf("server: %v", err)
	}
}

func TestExpiredCertificateIsAWarning(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "old"},
		NotBefore: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2021, 2, 3, 0, 0, 0, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	store, err := pkcs12.Modern.Encode(key, cert, nil, "changeit")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "old.p12")
	if err := os.WriteFile(path, store, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := loadTLS(t, path, "changeit", "old")
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range got.Warnings {
		if strings.Contains(w.Message, "expired on 2021-02-03") {
			return
		}
	}
	t.Errorf("no warning of the expired certificate in %v", got.Warnings)
}

func TestNoKeyMaterialIsPrinted(t *testing.T) {
	t.Parallel()
	got := loadSeed(t, topology.Options{})
	json, err := got.JSON()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"text": got.Text(), "mermaid": got.Mermaid(), "json": string(json)} {
		for _, secret := range []string{"changeit", "PrivateKey", "private"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s holds %q", name, secret)
			}
		}
	}
}
