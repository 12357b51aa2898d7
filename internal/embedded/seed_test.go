package embedded_test

import (
	"crypto/x509"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"software.sslmate.com/src/go-pkcs12"

	"kafkagrpc/internal/embedded"
)

func TestSeed(t *testing.T) {
	t.Parallel()
	if err := fstest.TestFS(embedded.Seed(), "zilla.yaml", "proto/echo.proto"); err != nil {
		t.Error(err)
	}
}

func TestWriteSeed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for range 2 { // the second replaces the first
		if err := embedded.WriteSeed(dir, "secret"); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"zilla.yaml", "proto/echo.proto"} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		want, err := fs.ReadFile(embedded.Seed(), name)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("%s is not the seed's", name)
		}
	}

	store := filepath.Join(dir, "tls", "localhost.p12")
	data, err := os.ReadFile(store)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := pkcs12.DecodeChain(data, "wrong"); err == nil {
		t.Error("the keystore opens with a wrong password")
	}
	key, certificate, _, err := pkcs12.DecodeChain(data, "secret")
	if err != nil || key == nil {
		t.Fatalf("key %v, %v", key, err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(certificate)
	for _, name := range []string{"localhost", "127.0.0.1"} {
		if _, err := certificate.Verify(x509.VerifyOptions{DNSName: name, Roots: roots}); err != nil {
			t.Errorf("a client that trusts the certificate refuses %s: %v", name, err)
		}
	}
	if info, err := os.Stat(store); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the keystore's mode is %v, %v; want that only its owner can read it", info.Mode(), err)
	}
}

func TestWriteSeedNamesWhereItCannotWrite(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := embedded.WriteSeed(file, "secret"); err == nil {
		t.Error("no error for a directory that is a file")
	}
}
