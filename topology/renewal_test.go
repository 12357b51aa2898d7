package topology_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

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

// Certificates are held against lists of revoked ones where the vault says so, also when the stores were read again.
func TestRevocationOfClients(t *testing.T) {
	t.Parallel()
	authority := pkitest.NewAuthority(t, "authority")
	path := write(t, "zilla.yaml", strings.Replace(fmt.Sprintf(mutualOf, ""), "options: {keys: {", "options: {revocation: crl, keys: {", 1))
	keys, trust := filepath.Join(filepath.Dir(path), "keys.p12"), filepath.Join(filepath.Dir(path), "trust.p12")
	pkitest.WriteKey(t, keys, authority.Issue(t, "first.example"))
	pkitest.WriteTrust(t, trust, map[string]*x509.Certificate{"clients": authority.Certificate})
	loaded, err := topology.Load(path, topology.Options{})
	if err != nil {
		t.Fatal(err)
	}
	now := loaded.Listeners[0].TLS
	client := authority.Issue(t, "client").Leaf // which names no list
	shown := tls.ConnectionState{PeerCertificates: []*x509.Certificate{client}, VerifiedChains: [][]*x509.Certificate{{client, authority.Certificate}}}
	if now.VerifyConnection == nil || now.VerifyConnection(shown) == nil {
		t.Error("it is let in")
	}
	pkitest.WriteKey(t, keys, authority.Issue(t, "second.example"))
	if now, err = now.Renew(); err != nil || now == nil || now.VerifyConnection == nil || now.VerifyConnection(shown) == nil {
		t.Errorf("with another key: %v, %v", now, err)
	}
}

// What keeps a store from being read passes without a change of the file: its mode, the folder that a link leads to.
func TestRenewTriesAgain(t *testing.T) {
	t.Parallel()
	// Each replaces a link that is in the place of the keystore, and answers what makes the store good that is beside it.
	tests := map[string]func(t *testing.T, link, fresh string) (cure func() error){
		"a link to a folder that is not there yet": func(t *testing.T, link, fresh string) func() error {
			later := filepath.Join(filepath.Dir(fresh), "later")
			replaceLink(t, link, filepath.Join(later, filepath.Base(fresh)))
			return func() error { return os.Symlink(filepath.Dir(fresh), later) }
		},
		"a folder": func(t *testing.T, link, fresh string) func() error {
			replaceLink(t, link, filepath.Dir(fresh))
			return func() error { return errors.Join(os.Symlink(fresh, link+".new"), os.Rename(link+".new", link)) }
		},
		"a file of another user": func(t *testing.T, link, fresh string) func() error {
			if err := os.Chmod(fresh, 0); err != nil {
				t.Fatal(err)
			}
			replaceLink(t, link, fresh)
			return func() error { return os.Chmod(fresh, 0o644) }
		},
		"half of a file that keeps its time": func(t *testing.T, link, fresh string) func() error {
			whole, err := os.ReadFile(fresh)
			if err != nil {
				t.Fatal(err)
			}
			write := func(data []byte) error {
				return errors.Join(os.WriteFile(fresh, data, 0o644), os.Chtimes(fresh, time.Unix(1, 0), time.Unix(1, 0)))
			}
			if err := write(make([]byte, len(whole))); err != nil {
				t.Fatal(err)
			}
			replaceLink(t, link, fresh)
			return func() error { return write(whole) }
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			authority := pkitest.NewAuthority(t, "authority")
			path := write(t, "zilla.yaml", fmt.Sprintf(mutualOf, ""))
			dir := filepath.Dir(path)
			link, first, fresh := filepath.Join(dir, "keys.p12"), filepath.Join(dir, "first.p12"), filepath.Join(dir, "versions", "fresh.p12")
			if err := os.Mkdir(filepath.Dir(fresh), 0o755); err != nil {
				t.Fatal(err)
			}
			pkitest.WriteKey(t, first, authority.Issue(t, "first.example"))
			pkitest.WriteKey(t, fresh, authority.Issue(t, "fresh.example"))
			trust := filepath.Join(dir, "trust.p12")
			pkitest.WriteTrust(t, trust, map[string]*x509.Certificate{"clients": authority.Certificate})
			for _, name := range []string{first, fresh, trust, dir, filepath.Dir(dir)} {
				if err := os.Chmod(name, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			replaceLink(t, link, first)
			loaded, err := topology.Load(path, topology.Options{})
			if err != nil {
				t.Fatal(err)
			}
			cure := test(t, link, fresh)
			told := ""
			deadline := time.Now().Add(time.Minute)
			poll := time.NewTicker(10 * time.Millisecond)
			defer poll.Stop()
			for ; told == ""; <-poll.C {
				next, err := renewAsNobody(t, loaded.Listeners[0].TLS)
				if next != nil || time.Now().After(deadline) {
					t.Fatalf("a store that cannot be read: %v, %v", next, err)
				}
				if err != nil {
					told = err.Error()
				}
			}
			if !strings.Contains(told, link) {
				t.Errorf("the store is not named: %s", told)
			}
			if err := cure(); err != nil {
				t.Fatal(err)
			}
			for ; ; <-poll.C {
				next, err := renewAsNobody(t, loaded.Listeners[0].TLS)
				if next != nil {
					if got := next.Certificates[0].Leaf.Subject.CommonName; got != "fresh.example" {
						t.Errorf("certificate of %s", got)
					}
					return
				}
				if err != nil || time.Now().After(deadline) {
					t.Fatalf("a store that can be read again: %v", err)
				}
			}
		})
	}
}

// renewAsNobody is Renew without root's right to read every file.
func renewAsNobody(t *testing.T, now *topology.ServerTLS) (*topology.ServerTLS, error) {
	t.Helper()
	if os.Getuid() != 0 {
		return now.Renew()
	}
	runtime.LockOSThread() // whose user it is
	defer runtime.UnlockOSThread()
	const nobody = 65534
	if err := syscall.Setfsuid(nobody); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Setfsuid(0); err != nil {
			t.Fatal(err)
		}
	}()
	return now.Renew()
}

// replaceLink makes link lead to target.
func replaceLink(t *testing.T, link, target string) {
	t.Helper()
	if err := errors.Join(os.Symlink(target, link+".new"), os.Rename(link+".new", link)); err != nil {
		t.Fatal(err)
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
