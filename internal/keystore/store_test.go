package keystore_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"maps"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"software.sslmate.com/src/go-pkcs12"

	"kafkagrpc/internal/keystore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const password = "changeit"

// content is what a store must hold: its names, and for each key the names of the certificates in its chain.
type content struct {
	Keys         map[string][]string
	Certificates []string
	Password     string // changeit unless said
}

// stores are the files of testdata that can be read.
func stores(t testing.TB) []string {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.p12")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no stores (%v)", err)
	}
	return append(paths, "testdata/keytool.jks")
}

// contents are those of testdata, made by testdata/make.sh.
func contents(t testing.TB) map[string]content {
	t.Helper()
	paths := stores(t)
	keytool := content{map[string][]string{"first": {"first.example"}, "second": {"second.example", "authority"}},
		[]string{"first", "second", "CN=authority", "Autorität"}, password}
	// As keytool -importkeystore writes it.
	copied := content{map[string][]string{"first": keytool.Keys["first"], "second": keytool.Keys["second"]},
		[]string{"first", "second", "CN=authority", "autorität"}, password}
	openssl := content{map[string][]string{"second": {"second.example", "authority"}}, []string{"second", "authority"}, password}
	all := map[string]content{}
	for _, path := range paths {
		name := filepath.Base(path)
		switch all[name] = openssl; {
		case name == "openssl.p12":
			all[name] = content{map[string][]string{"Zweiter": {"second.example", "authority"}}, []string{"Zweiter", "Ключ"}, password}
		case name == "openssl-unnamed.p12":
			all[name] = content{map[string][]string{"1": {"second.example", "authority"}}, nil, password}
		case name == "openssl-certificates.p12":
			all[name] = content{map[string][]string{}, []string{"second", "authority"}, password}
		case name == "openssl-no-password.p12":
			all[name] = content{map[string][]string{"second": {"second.example"}}, []string{"second"}, ""}
		case name == "keytool.jks":
			all[name] = content{keytool.Keys, []string{"first", "second", "autorität"}, password}
		case name == "keytool.p12":
			all[name] = keytool
		case strings.HasPrefix(name, "keytool-"):
			all[name] = copied
		}
	}
	return all
}

// holds fails where a folder's store holds something else.
func holds(t *testing.T, path string, want content) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	store, err := keystore.Open(data, "", want.Password)
	if err != nil {
		t.Fatal(err)
	}
	got := content{map[string][]string{}, store.Certificates(), want.Password}
	for _, alias := range store.Keys() {
		key, err := store.Key(strings.ToUpper(alias))
		if err != nil || key == nil {
			t.Fatalf("key %s: %v", alias, err)
		}
		if !key.Private.Public().(*ecdsa.PublicKey).Equal(key.Chain[0].PublicKey) {
			t.Errorf("key %s has another's certificate", alias)
		}
		for _, c := range key.Chain {
			got.Keys[alias] = append(got.Keys[alias], c.Subject.CommonName)
		}
	}
	sorted := func(names []string) []string { return slices.Sorted(slices.Values(names)) } // Java keeps no order
	if diff := cmp.Diff(sorted(want.Certificates), sorted(got.Certificates)); diff != "" {
		t.Errorf("names of certificates (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want.Keys, got.Keys); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	for _, alias := range store.Certificates() {
		if c, _, err := store.Certificate(strings.ToLower(alias)); err != nil || c == nil {
			t.Errorf("certificate %s: %v", alias, err)
		}
	}
	if c, _, err := store.Certificate("missing"); c != nil || err != nil {
		t.Errorf("a certificate that is not there is %v, %v", c, err)
	}
	_, alone := want.Keys["1"]
	if k, err := store.Key("missing"); (k != nil) != alone || err != nil {
		t.Errorf("a key that is not there is %v, %v", k, err)
	}
}

func TestStores(t *testing.T) {
	t.Parallel()
	for name, want := range contents(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join("testdata", name)
			holds(t, path, want)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(name, "plain") {
				return // nothing in them asks for a password, or keys alone
			}
			if _, err := keystore.Open(data, "", "guess"); !errors.Is(err, keystore.ErrPassword) {
				t.Errorf("with another password: %v", err)
			}
		})
	}
}

// Keys can be sealed where certificates are not, and nothing has a checksum: then the key tells that the password is wrong.
func TestPasswordOfAKeyAlone(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/keytool-plain.p12")
	if err != nil {
		t.Fatal(err)
	}
	store, err := keystore.Open(data, "", "guess")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Key("first"); !errors.Is(err, keystore.ErrPassword) {
		t.Errorf("got %v", err)
	}
}

// The stores that this machine's keytool and openssl write are read as those of testdata, under the names that Java tells.
func TestStoresMadeHere(t *testing.T) {
	t.Parallel()
	if testing.Short() { // CI runs all of it
		t.Skip("takes half a minute")
	}
	for _, program := range []string{"keytool", "java", "openssl"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	testdata, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "sh", "-e", filepath.Join(testdata, "make.sh"))
	cmd.Dir = folder
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	out, err := exec.CommandContext(t.Context(), "java", "-Dfile.encoding=UTF-8", filepath.Join(testdata, "List.java"), folder).Output()
	if err != nil {
		t.Fatal(err)
	}
	all := contents(t)
	for name, want := range all {
		t.Run(name, func(t *testing.T) { holds(t, filepath.Join(folder, name), want) })
	}
	told := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		part := strings.Split(strings.TrimSpace(line), "\t") // store, kind, alias
		if part[0] == ownPasswords {                         // not all of it can be read: TestKeyWithAPasswordOfItsOwn
			continue
		}
		has := slices.Collect(maps.Keys(all[part[0]].Keys))
		if part[1] == "certificate" {
			has = all[part[0]].Certificates
		}
		if !slices.ContainsFunc(has, func(s string) bool { return strings.EqualFold(s, part[2]) }) {
			t.Errorf("%s has no %s %s, which Java finds in it", part[0], part[1], part[2])
		}
		told[part[0]] = true
	}
	if len(told) < 20 {
		t.Errorf("Java reads %d stores", len(told))
	}
}

// made is a store with a key that Go's library writes.
func made(t testing.TB, encoder *pkcs12.Encoder) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "made"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	data, err := encoder.Encode(key, certificate, nil, password)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// PBMAC1 is the checksum of openssl from 3.4 and of Java from 26 on.
func TestPBMAC1(t *testing.T) {
	t.Parallel()
	data := made(t, pkcs12.Modern2026)
	store, err := keystore.Open(data, "", password)
	if err != nil {
		t.Fatal(err)
	}
	if key, err := store.Key("1"); err != nil || key == nil {
		t.Errorf("key %v, %v", key, err)
	}
	if _, err := keystore.Open(data, "", "guess"); !errors.Is(err, keystore.ErrPassword) {
		t.Errorf("with another password: %v", err)
	}
	// A key of one byte: one file in 256 would have the checksum.
	length := []byte{2, 2, 8, 0, 2, 1, 32} // iterations 2048, length 32
	at := bytes.LastIndex(data, length)
	if at < 0 {
		t.Fatal("where is the length of the key?")
	}
	data[at+len(length)-1] = 1
	if _, err := keystore.Open(data, "", password); err == nil || !strings.Contains(err.Error(), "1 bytes, not 20 to 64") {
		t.Errorf("with a key of one byte: %v", err)
	}
}

func TestOtherFiles(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"\xce\xce\xce\xce\x00\x00\x00\x02":  "JCEKS store, not a PKCS #12 file or a JKS store; convert it with keytool -importkeystore",
		"-----BEGIN CERTIFICATE-----\nMIIB": "PEM file, not a PKCS #12 file; make a store of it with openssl",
		"\x30\x80\x02\x01\x03":              "in BER",
		"":                                  "it is not a PKCS #12 file",
		"bindings:\n":                       "it is not a PKCS #12 file",
		"\x30\x03\x02\x01\x03":              "it is not a PKCS #12 file",
		"\x30\x03\x02\x01\x03 and something behind": "it is not a PKCS #12 file",
	} {
		if _, err := keystore.Open([]byte(text), "", password); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}
