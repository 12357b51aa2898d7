package topology_test

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"kafkagrpc/topology"
)

// trustOf is a configuration whose Kafka is reached through a tls client that trusts some certificates.
const trustOf = `name: x
vaults:
  v: {type: filesystem, options: {trust: {store: %q, password: %q}}}
bindings:
  tcp0: {type: tcp, kind: server, options: {port: 7151}, exit: http0}
  http0: {type: http, kind: server, exit: grpc0}
  grpc0: {type: grpc, kind: server, exit: produce0}
  produce0: {type: grpc-kafka, kind: proxy, exit: cache0, routes: [{with: {capability: produce, topic: a, reply-to: b}}]}
  cache0: {type: kafka, kind: cache_client, exit: cache1}
  cache1: {type: kafka, kind: cache_server, exit: kafka0}
  kafka0:
    type: kafka
    kind: client
    options: {servers: ["kafka:9092"], sasl: {mechanism: plain, username: ann, password: secret-word}}
    exit: tls1
  tls1: {type: tls, kind: client, vault: v, options: {trust: [%s]}, exit: tcp1}
  tcp1: {type: tcp, kind: client}
`

// The stores were made by keytool, the legacy ones as Java before 16 did it.
func TestTrustStores(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		store, aliases string
		password       string
		trusted        []string // subjects
		refused        string
	}{
		"one of two":               {store: "trust.p12", aliases: "first", trusted: []string{"first-authority"}},
		"the other, in other case": {store: "trust.p12", aliases: "SECOND", trusted: []string{"second-authority"}},
		"both":                     {store: "trust.p12", aliases: "first, second", trusted: []string{"first-authority", "second-authority"}},
		"no such alias":            {store: "trust.p12", aliases: "third", refused: "has no certificate `third`; it has `First`, `second`"},
		"old encryption":           {store: "trust-legacy.p12", aliases: "first", trusted: []string{"first-authority"}},
		"old encryption, no such":  {store: "trust-legacy.p12", aliases: "frist", refused: "has no certificate `frist`; it has `first`"},
		"old encryption, of two":   {store: "trust-legacy-two.p12", aliases: "second", trusted: []string{"second-authority"}},
		"both, one not there":      {store: "trust-legacy-two.p12", aliases: "first, third", refused: "has no certificate `third`; it has `first`, `second`"},
		"not encrypted":            {store: "../" + java + "keytool-plain.p12", aliases: "Autorität", trusted: []string{"authority"}},
		"made by openssl":          {store: "../" + java + "openssl-certificates.p12", aliases: "authority", trusted: []string{"authority"}},
		"JKS":                      {store: "keytool.jks", aliases: "Autorität, second", trusted: []string{"authority", "second.example"}},
		"JKS, no such":             {store: "keytool.jks", aliases: "third", refused: "has no certificate `third`; it has `autorität`, `first`, `second`"},
		"JKS, wrong password":      {store: "keytool.jks", aliases: "first", password: "guess", refused: "the password of `vaults.v` does not open trust store"},
		"beside a key":             {store: "with-trusted.p12", aliases: "localhost", trusted: []string{"localhost"}},
		"wrong password":           {store: "trust.p12", aliases: "first", password: "guess", refused: "the password of `vaults.v` does not open trust store"},
		"not a store":              {store: "../small.good.yaml", aliases: "first", refused: "it is not a PKCS #12 file"},
		"without names":            {store: "openssl-unnamed.p12", aliases: "first", refused: "it has none with a name"},
		"a certificate of a key":   {store: "openssl-legacy.p12", aliases: "first", refused: "has no certificate `first`; it has `localhost`"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, err := filepath.Abs("testdata/keystores/" + tt.store)
			if err != nil {
				t.Fatal(err)
			}
			if tt.password == "" {
				tt.password = "changeit"
			}
			got, err := topology.Load(write(t, "zilla.yaml", fmt.Sprintf(trustOf, path, tt.password, tt.aliases)), topology.Options{})
			if tt.refused != "" {
				if err == nil || !strings.Contains(err.Error(), tt.refused) {
					t.Fatalf("got %v, want %q", err, tt.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			//lint:ignore SA1019 the pool was made from certificates, so it knows all its subjects.
			subjects := got.Clusters()[0].TLS.Config.RootCAs.Subjects()
			if len(subjects) != len(tt.trusted) {
				t.Fatalf("%d authorities are trusted, want %v", len(subjects), tt.trusted)
			}
			for i, want := range tt.trusted {
				if !bytes.Contains(subjects[i], []byte(want)) {
					t.Errorf("authority %d is not %s", i, want)
				}
			}
		})
	}
}

func TestNoPasswordIsPrinted(t *testing.T) {
	t.Parallel()
	path, err := filepath.Abs("testdata/keystores/trust.p12")
	if err != nil {
		t.Fatal(err)
	}
	got, err := topology.Load(write(t, "zilla.yaml", fmt.Sprintf(trustOf, path, "changeit", "first")), topology.Options{})
	if err != nil {
		t.Fatal(err)
	}
	json, err := got.JSON()
	if err != nil {
		t.Fatal(err)
	}
	sasl := got.Clusters()[0].SASL
	if sasl == nil || sasl.Password != "secret-word" {
		t.Fatalf("SASL %v", sasl)
	}
	for _, text := range []string{got.Text(), got.Mermaid(), string(json), fmt.Sprintf("%v %+v %#v %s", *sasl, *sasl, *sasl, sasl.Password)} {
		if strings.Contains(text, "secret-word") || strings.Contains(text, "changeit") {
			t.Errorf("a password shows in %s", text)
		}
	}
}
