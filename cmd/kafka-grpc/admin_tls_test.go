package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kafkagrpc/internal/pkitest"
)

// pemFiles writes a certificate, its key and its authority as other programs want them.
func pemFiles(t *testing.T, ca *pkitest.Authority, c tls.Certificate) (certificate, key, authority string) {
	t.Helper()
	dir := t.TempDir()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("cert.pem", "CERTIFICATE", c.Leaf.Raw), write("key.pem", "PRIVATE KEY", der), write("ca.pem", "CERTIFICATE", ca.Certificate.Raw)
}

// With certificates of clients in place of a token: who has one gets answers, and probes need none.
func TestCertificatesForTheAdminAddress(t *testing.T) {
	b := newLettersBench(t)
	ours, theirs := pkitest.NewAuthority(t, "ours"), pkitest.NewAuthority(t, "theirs")
	cert, key, ca := pemFiles(t, ours, ours.Issue(t, "127.0.0.1"))
	clientCert, clientKey, _ := pemFiles(t, ours, ours.Issue(t, "operator"))
	strangerCert, strangerKey, strangerCA := pemFiles(t, theirs, theirs.Issue(t, "stranger"))

	url, stop := b.running("run", "--listen", "127.0.0.1", "--state-dir", b.state, "--admin-cert-file", cert, "--admin-key-file", key, "--admin-client-ca-file", ca)
	defer stop()
	address := strings.TrimPrefix(url, "https://")
	b.produce(call("a-1"))
	b.await(address, "a-1", "list", "--admin-ca-file", ca, "--admin-client-cert-file", clientCert, "--admin-client-key-file", clientKey)
	_, notes := b.keys(address, 1, "list", "--admin-ca-file", ca)
	b.expect(notes, "show a certificate of a client")
	_, notes = b.keys(address, 1, "list", "--admin-ca-file", ca, "--admin-client-cert-file", strangerCert, "--admin-client-key-file", strangerKey)
	b.expect(notes, "certificate")
	_, notes = b.keys(address, 1, "list", "--admin-ca-file", strangerCA)
	b.expect(notes, "unknown authority")
	_, notes = b.keys(address, 2, "list", "--admin-client-cert-file", clientCert)
	b.expect(notes, "--admin-ca-file")

	for _, test := range []struct {
		certificate string
		code        int
	}{{cert, 0}, {strangerCert, 1}} {
		var stdout, stderr bytes.Buffer
		args := []string{"health", "--live", "--admin-addr", address, "--admin-cert-file", test.certificate}
		if code := execute(t.Context(), args, &stdout, &stderr, b.env); code != test.code {
			t.Errorf("exit code %d of health with %s: %s%s", code, test.certificate, &stdout, &stderr)
		}
	}
	for name, flags := range map[string][]string{
		"a key without its certificate": {"--admin-key-file", key},
		"clients without a server":      {"--admin-client-ca-file", ca},
		"the key of another":            {"--admin-cert-file", cert, "--admin-key-file", clientKey},
		"a CA that is none":             {"--admin-cert-file", cert, "--admin-key-file", key, "--admin-client-ca-file", key},
	} {
		var stdout, stderr bytes.Buffer
		args := append([]string{"run", "-c", b.file, "--brokers", "127.0.0.1:1", "--state-dir", t.TempDir()}, flags...)
		if code := execute(t.Context(), args, &stdout, &stderr, b.env); code != 2 || !strings.Contains(stderr.String(), "TLS of --admin-addr") {
			t.Errorf("%s: exit code %d: %s", name, code, &stderr)
		}
	}
}
