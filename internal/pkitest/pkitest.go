// Package pkitest makes certificates for tests: authorities, what they sign, and PKCS #12 stores of both.
//
// It knows nothing of who uses them.
package pkitest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"
)

// Password opens every store that is written here.
const Password = "changeit"

// Authority signs certificates.
type Authority struct {
	Certificate *x509.Certificate
	Lists       []string // where its revocation lists are, for certificates from now on

	key *ecdsa.PrivateKey
}

// NewAuthority makes one of its own, which nobody trusts yet.
func NewAuthority(t testing.TB, name string) *Authority {
	t.Helper()
	key, template := newKey(t), authority(name)
	return &Authority{Certificate: sign(t, template, template, key, key), key: key}
}

func authority(name string) *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(24 * 365 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

// Below makes an authority that this one has signed.
func (a *Authority) Below(t testing.TB, name string) *Authority {
	t.Helper()
	key, template := newKey(t), authority(name)
	template.CRLDistributionPoints = a.Lists
	return &Authority{Certificate: sign(t, template, a.Certificate, key, a.key), key: key}
}

// Revoke writes a list of certificates that are revoked, which is good for a day unless change has it otherwise.
func (a *Authority) Revoke(t testing.TB, change func(*x509.RevocationList), revoked ...*x509.Certificate) []byte {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(24 * time.Hour)}
	for _, c := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: time.Now().Add(-time.Hour)})
	}
	if change != nil {
		change(list)
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.Certificate, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// Pool trusts the authority.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.Certificate)
	return pool
}

// Issue signs a certificate for hosts, names or addresses, that is good for 90 days. The first host is also its subject.
func (a *Authority) Issue(t testing.TB, hosts ...string) tls.Certificate {
	t.Helper()
	return a.IssueUntil(t, time.Now().Add(90*24*time.Hour), hosts...)
}

// IssueUntil is Issue with another end, which may be in the past.
func (a *Authority) IssueUntil(t testing.TB, end time.Time, hosts ...string) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: hosts[0]}, NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: end,
		CRLDistributionPoints: a.Lists, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	key := newKey(t)
	leaf := sign(t, template, a.Certificate, key, a.key)
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
}

// Publish serves a revocation list, which certificates from now on name: what put was given last, and none before.
func (a *Authority) Publish(t testing.TB) (put func(list []byte)) {
	t.Helper()
	var now atomic.Pointer[[]byte]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		list := now.Load()
		if list == nil {
			http.Error(w, "there is no list yet", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write(*list) // who asks tells what is missing
	}))
	t.Cleanup(server.Close)
	a.Lists = []string{server.URL}
	return func(list []byte) { now.Store(&list) }
}

// WriteKey writes a store with one key, which answers to any alias.
func WriteKey(t testing.TB, path string, c tls.Certificate) {
	t.Helper()
	data, err := pkcs12.Modern.Encode(c.PrivateKey, c.Leaf, nil, Password)
	write(t, path, data, err)
}

// WriteTrust writes a trust store with certificates by alias.
func WriteTrust(t testing.TB, path string, certificates map[string]*x509.Certificate) {
	t.Helper()
	var entries []pkcs12.TrustStoreEntry
	for alias, c := range certificates {
		entries = append(entries, pkcs12.TrustStoreEntry{Cert: c, FriendlyName: alias})
	}
	data, err := pkcs12.Modern.EncodeTrustStoreEntries(entries, Password)
	write(t, path, data, err)
}

// write replaces a file at once, as tools that rotate certificates do.
func write(t testing.TB, path string, data []byte, err error) {
	t.Helper()
	if err == nil {
		err = os.WriteFile(path+".new", data, 0o600)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t testing.TB, template, parent *x509.Certificate, key, by *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}
