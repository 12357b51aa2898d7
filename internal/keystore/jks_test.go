package keystore_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"testing"

	jks "github.com/pavlo-v-chernykh/keystore-go/v4"

	"kafkagrpc/internal/keystore"
)

func read(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// The type of a store is what is said of it, and nothing else is tried.
func TestFormats(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ store, format, want string }{
		"either, PKCS #12":     {"keytool.p12", "", ""},
		"either, JKS":          {"keytool.jks", "", ""},
		"PKCS #12":             {"keytool.p12", keystore.PKCS12, ""},
		"JKS":                  {"keytool.jks", keystore.JKS, ""},
		"JKS for PKCS #12":     {"keytool.jks", keystore.PKCS12, "it is a JKS store, not a PKCS #12 file; its type is jks"},
		"PKCS #12 for JKS":     {"keytool.p12", keystore.JKS, "it is no JKS store; if it is a PKCS #12 file, its type is pkcs12"},
		"JCEKS for JKS":        {"keytool.jceks", keystore.JKS, "it is a JCEKS store, not a PKCS #12 file or a JKS store; convert it"},
		"JCEKS for PKCS #12":   {"keytool.jceks", keystore.PKCS12, "it is a JCEKS store"},
		"something else":       {"make.sh", keystore.JKS, "it is not a JKS store"},
		"something else, p12":  {"make.sh", keystore.PKCS12, "it is not a PKCS #12 file"},
		"something else again": {"make.sh", "", "it is not a PKCS #12 file"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := keystore.Open(read(t, tt.store), tt.format, password)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

const ownPasswords = "keytool-own-passwords.jks"

// A key may have a password of its own, which a configuration has no place for.
func TestKeyWithAPasswordOfItsOwn(t *testing.T) {
	t.Parallel()
	store, err := keystore.Open(read(t, ownPasswords), "", password)
	if err != nil {
		t.Fatal(err)
	}
	if key, err := store.Key("second"); key == nil || err != nil {
		t.Errorf("the other key: %v", err)
	}
	if _, err := store.Key("first"); err == nil || !strings.Contains(err.Error(), "keytool -keypasswd") {
		t.Errorf("got %v", err)
	}
}

// As in Java, certificates of a JKS store need no password, and keys do.
func TestJKSWithoutAPassword(t *testing.T) {
	t.Parallel()
	store, err := keystore.Open(read(t, "keytool.jks"), "", "")
	if err != nil {
		t.Fatal(err)
	}
	if c, _, err := store.Certificate("Autorität"); c == nil || err != nil {
		t.Errorf("certificate: %v", err)
	}
	if _, err := store.Key("first"); !errors.Is(err, keystore.ErrPassword) {
		t.Errorf("key: %v", err)
	}
}

// A store that ends early is refused wherever it does, and one that claims to hold more than it does costs no memory.
func TestJKSThatIsCut(t *testing.T) {
	t.Parallel()
	whole := read(t, "keytool.jks")
	for n := len("\xfe\xed\xfe\xed"); n < len(whole); n++ {
		if _, err := keystore.Open(whole[:n], "", password); err == nil || !strings.Contains(err.Error(), "cut short or damaged") {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
	for at := 8; at < len(whole)-4; at++ { // lengths are among these
		data := bytes.Clone(whole)
		binary.BigEndian.PutUint32(data[at:], 0xfffffff0)
		if _, err := keystore.Open(data, "", password); err == nil {
			t.Fatalf("a change at %d is not noticed", at)
		}
	}
	version := bytes.Clone(whole)
	version[7] = 3
	if _, err := keystore.Open(version, "", password); err == nil || !strings.Contains(err.Error(), "version 3") {
		t.Errorf("got %v", err)
	}
}

// made by the library, as keytool makes no such ones
func TestJKSOfOtherKinds(t *testing.T) {
	t.Parallel()
	write := func(alias string, key []byte, password string) []byte {
		store := jks.New()
		entry := jks.PrivateKeyEntry{PrivateKey: key, CertificateChain: []jks.Certificate{{Type: "X509", Content: []byte("no certificate")}}}
		if err := store.SetPrivateKeyEntry(alias, entry, []byte(password)); err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := store.Store(&b, []byte(password)); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	store, err := keystore.Open(write("x", []byte("no key"), "p\xe4ss"), "", "päss")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Key("x"); err == nil || !strings.Contains(err.Error(), "its key `x` cannot be read") {
		t.Errorf("a key that is none: %v", err)
	}
	if _, _, err := store.Certificate("x"); err == nil || !strings.Contains(err.Error(), "its certificate `x` cannot be read") {
		t.Errorf("a certificate that is none: %v", err)
	}
	if _, err := keystore.Open(write("x", []byte("no key"), "p"), "", "пароль"); err == nil || !strings.Contains(err.Error(), "beyond Latin-1") {
		t.Errorf("a password in Cyrillic: %v", err)
	}
	// The sealed key is cut below what its salt and checksum take, in a store whose own checksum is not asked for.
	short := bytes.Replace(write("x", []byte("no key"), ""), []byte{0x04, 46}, []byte{0x04, 2}, 1)
	if store, err = keystore.Open(short, "", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Key("x"); err == nil {
		t.Error("a key that is cut is opened")
	}
}
