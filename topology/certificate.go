package topology

import (
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
)

// CertificateField is a part of a certificate, as x509 guards name it.
type CertificateField string

// Of are the values that a certificate has there; of some fields it may have several.
func (f CertificateField) Of(c *x509.Certificate) []string { return certificateFields[f](c) }

var certificateFields = func() map[CertificateField]func(*x509.Certificate) []string {
	all := map[CertificateField]func(*x509.Certificate) []string{
		"serial": func(c *x509.Certificate) []string { return []string{c.SerialNumber.Text(16)} },
		"fingerprint": func(c *x509.Certificate) []string {
			sum := sha256.Sum256(c.Raw)
			return []string{hex.EncodeToString(sum[:])}
		},
		"san.dns":   func(c *x509.Certificate) []string { return c.DNSNames },
		"san.email": func(c *x509.Certificate) []string { return c.EmailAddresses },
		"san.uri":   func(c *x509.Certificate) []string { return each(c.URIs, (*url.URL).String) },
		"san.ip":    func(c *x509.Certificate) []string { return each(c.IPAddresses, net.IP.String) },
	}
	for part, of := range map[CertificateField]func(pkix.Name) []string{
		"dn": func(n pkix.Name) []string { return []string{n.String()} },
		"cn": func(n pkix.Name) []string { return []string{n.CommonName} },
		"o":  func(n pkix.Name) []string { return n.Organization },
		"ou": func(n pkix.Name) []string { return n.OrganizationalUnit },
		"c":  func(n pkix.Name) []string { return n.Country },
		"l":  func(n pkix.Name) []string { return n.Locality },
		"st": func(n pkix.Name) []string { return n.Province },
	} {
		all["subject."+part] = func(c *x509.Certificate) []string { return of(c.Subject) }
		all["issuer."+part] = func(c *x509.Certificate) []string { return of(c.Issuer) }
	}
	return all
}()

// certificateField is the name of one.
type certificateField struct{ text }

func certificateFieldNames() (names []string) {
	for _, f := range slices.Sorted(maps.Keys(certificateFields)) {
		names = append(names, string(f))
	}
	return names
}

func (*certificateField) regexp() string {
	return "^(" + strings.ReplaceAll(strings.Join(certificateFieldNames(), "|"), ".", `\.`) + ")$"
}

func (*certificateField) parse(value string) string {
	if certificateFields[CertificateField(value)] == nil {
		return "must be a field of a certificate (" + strings.Join(certificateFieldNames(), ", ") + ")"
	}
	return ""
}
