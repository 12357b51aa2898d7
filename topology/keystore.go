package topology

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"software.sslmate.com/src/go-pkcs12"
)

// maxChain bounds the certificates that are put behind the one of a key.
const maxChain = 10

// keystore is an opened PKCS #12 file.
type keystore struct{ keys []storedKey }

type storedKey struct {
	alias       string // "" where the store gives none
	certificate tls.Certificate
}

// find returns the certificate of an alias. Case does not matter, as in Java. A store whose only key has no alias
// answers to any, since nothing else can be meant.
func (k *keystore) find(alias string) (tls.Certificate, bool) {
	for _, key := range k.keys {
		if strings.EqualFold(key.alias, alias) {
			return key.certificate, true
		}
	}
	if len(k.keys) == 1 && k.keys[0].alias == "" {
		return k.keys[0].certificate, true
	}
	return tls.Certificate{}, false
}

func (k *keystore) aliases() []string {
	var names []string
	for _, key := range k.keys {
		names = append(names, key.alias)
	}
	return names
}

// openKeystore decodes a store as Java's keytool and openssl write it: any number of private keys with their
// chains, with aliases.
func openKeystore(data []byte, password string) (*keystore, error) {
	var blocks []*pem.Block
	err := caught("the PKCS #12 decoder", func() (err error) {
		// The only function of the library that tells aliases and takes several keys.
		//lint:ignore SA1019 its flaw, keys that are not PKCS #8, is handled by parseKey.
		blocks, err = pkcs12.ToPEM(data, password)
		return err
	})
	if wrongPassword(err) {
		return nil, err
	}
	if err != nil {
		// It refuses what the other function takes: Ed25519 keys, and stores with trusted certificates.
		single, err := openSingle(data, password)
		switch {
		case err == nil:
			return single, nil
		case strings.Contains(err.Error(), "error reading P12 data"):
			return nil, errors.New("it is not a PKCS #12 file")
		default:
			return nil, fmt.Errorf("%w (a store with trusted certificates or Ed25519 keys may hold one private key only)", err)
		}
	}
	var certificates []*x509.Certificate
	leaf := map[string]*x509.Certificate{} // by the id that ties a key to its certificate
	for _, b := range blocks {
		if b.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, fmt.Errorf("a certificate in it cannot be read: %w", err)
		}
		certificates = append(certificates, cert)
		if id := b.Headers["localKeyId"]; id != "" {
			leaf[id] = cert
		}
	}
	store := &keystore{}
	for _, b := range blocks {
		if b.Type != "PRIVATE KEY" {
			continue
		}
		key, err := parseKey(b.Bytes)
		if err != nil {
			return nil, err
		}
		cert := leaf[b.Headers["localKeyId"]]
		if cert == nil || !belongs(key, cert) {
			cert = certificateOf(key, certificates)
		}
		if cert == nil {
			continue // a key without a certificate is of no use to a server
		}
		store.keys = append(store.keys, storedKey{b.Headers["friendlyName"], chain(key, cert, certificates)})
	}
	if len(store.keys) == 0 {
		return nil, errors.New("it holds no private key with a certificate")
	}
	return store, nil
}

func wrongPassword(err error) bool {
	return errors.Is(err, pkcs12.ErrIncorrectPassword) || errors.Is(err, pkcs12.ErrDecryption)
}

// openSingle decodes a store with one private key, without its alias.
func openSingle(data []byte, password string) (*keystore, error) {
	var key any
	var certificates []*x509.Certificate
	err := caught("the PKCS #12 decoder", func() error {
		k, first, others, err := pkcs12.DecodeChain(data, password)
		key, certificates = k, append(others, first)
		return err
	})
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("keys of type %T are not supported; use RSA, ECDSA or Ed25519", key)
	}
	cert := certificateOf(signer, certificates)
	if cert == nil {
		return nil, errors.New("it holds no certificate of its private key")
	}
	return &keystore{[]storedKey{{"", chain(signer, cert, certificates)}}}, nil
}

// parseKey reads the raw RSA and EC keys that ToPEM makes.
func parseKey(der []byte) (crypto.Signer, error) {
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key, nil
	}
	key, err := x509.ParseECPrivateKey(der)
	if err != nil {
		return nil, errors.New("a private key in it cannot be read; use RSA, ECDSA or Ed25519")
	}
	return key, nil
}

func belongs(key crypto.Signer, cert *x509.Certificate) bool {
	switch public := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		return public.Equal(key.Public())
	case *ecdsa.PublicKey:
		return public.Equal(key.Public())
	case ed25519.PublicKey:
		return public.Equal(key.Public())
	}
	return false
}

func certificateOf(key crypto.Signer, all []*x509.Certificate) *x509.Certificate {
	for _, cert := range all {
		if belongs(key, cert) {
			return cert
		}
	}
	return nil
}

// chain puts the issuers that the store holds behind the certificate of a key.
func chain(key crypto.Signer, leaf *x509.Certificate, all []*x509.Certificate) tls.Certificate {
	t := tls.Certificate{PrivateKey: key, Leaf: leaf, Certificate: [][]byte{leaf.Raw}}
	for last := leaf; len(t.Certificate) < maxChain && last.CheckSignatureFrom(last) != nil; {
		var issuer *x509.Certificate
		for _, cert := range all {
			if !cert.Equal(last) && last.CheckSignatureFrom(cert) == nil {
				issuer = cert
				break
			}
		}
		if issuer == nil {
			break
		}
		t.Certificate = append(t.Certificate, issuer.Raw)
		last = issuer
	}
	return t
}

func listed(aliases []string) string {
	quoted := make([]string, len(aliases))
	for i, a := range aliases {
		quoted[i] = "`" + a + "`"
		if a == "" {
			quoted[i] = "one without a name"
		}
	}
	return strings.Join(quoted, ", ")
}

// keystore opens the key store of a vault once. It is nil where that fails, which is reported.
func (c *compiler) keystore(name string, v *vault) *keystore {
	if k, done := c.keystores[name]; done {
		return k
	}
	c.keystores[name] = nil
	s := v.Options.Keys
	if !s.Store.given && v.Type.ok {
		c.report.problem(v.at, "%s has no `options.keys`; add the `store` with the keys of the tls bindings", v.place)
	}
	if !s.Store.ok || s.Password.given && !s.Password.ok || s.Type.given && !s.Type.ok {
		return nil
	}
	data, err := readRegular(c.path(s.Store.value))
	if err != nil {
		c.report.cause(err, s.Store.position, "cannot read the keystore of %s: %v", v.place, err)
		return nil
	}
	k, err := openKeystore(data, s.Password.value)
	switch {
	case wrongPassword(err):
		c.report.cause(err, s.Store.position, "the password of %s does not open keystore `%s`; check `options.keys.password`", v.place, s.Store.raw)
		return nil
	case err != nil:
		c.report.cause(err, s.Store.position, "keystore `%s` of %s cannot be used: %v", s.Store.raw, v.place, err)
		return nil
	}
	c.keystores[name] = k
	return k
}
