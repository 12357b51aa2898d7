// Package keystore reads PKCS #12 stores as Java and openssl write them, and Java's JKS stores: any number of keys and
// certificates, by their names.
//
// A library reads PKCS #12 too, and loses the names. The reader here knows every encryption that keytool and openssl
// have written, of which most are broken by today's measure, as JKS is: what protects a store is who may read its file.
package keystore

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ErrPassword says that a password does not open a store, or that what it opened is damaged.
var ErrPassword = errors.New("the password does not open it")

// maxCertificates bounds the certificates that are put behind the one of a key.
const maxCertificates = 10

// Store is an opened store. It is for one goroutine.
type Store struct {
	secret       secret
	sealed       bool // it has a checksum, so its password is known to be right
	keys         []sealedKey
	certificates []certificate
}

// Key is a private key with its certificate, and the issuers of that which the store holds.
type Key struct {
	Alias   string
	Private crypto.Signer
	Chain   []*x509.Certificate // at least one
}

// sealedKey is opened when it is asked for: one that nobody names may be of any kind.
type sealedKey struct {
	names
	pkcs8 func() ([]byte, error)
}

type certificate struct {
	names
	der []byte
}

// names are what is found by.
type names struct {
	alias, id string
	number    bool // the alias is none of the file
}

// find is the index of what has an alias, or -1. Case does not matter, and the last of a name counts, as in Java. What is alone
// and has no name in the file answers to any, since nothing else can be meant.
func find[E interface{ named() names }](all []E, alias string) int {
	for i, e := range slices.Backward(all) {
		if n := e.named(); n.alias != "" && strings.EqualFold(n.alias, alias) {
			return i
		}
	}
	if len(all) == 1 && all[0].named().number {
		return 0
	}
	return -1
}

func (n names) named() names { return n }

// The formats of stores.
const (
	PKCS12 = "pkcs12"
	JKS    = "jks"
)

// Open reads a store of a format, "" for either, and checks that the password is its password.
func Open(data []byte, format, password string) (*Store, error) {
	return openWithin(data, format, password, maxWork)
}

// openWithin is Open with a bound on the work that a store may ask for.
func openWithin(data []byte, format, password string, work int) (*Store, error) {
	isJKS := strings.HasPrefix(string(data), jksMagic)
	switch {
	case isJKS && format == PKCS12:
		return nil, errors.New("it is a JKS store, not a PKCS #12 file; its type is jks")
	case isJKS:
		return openJKS(data, password)
	}
	if err := foreign(data); err != nil {
		return nil, err
	}
	if format == JKS {
		if strings.HasPrefix(string(data), "\x30") {
			return nil, errors.New("it is no JKS store; if it is a PKCS #12 file, its type is pkcs12")
		}
		return nil, errors.New("it is not a JKS store")
	}
	return open(data, password, work)
}

// foreign names the files that are taken for stores.
func foreign(data []byte) error {
	const convert = "; convert it with keytool -importkeystore -srckeystore OLD -destkeystore NEW.p12 -deststoretype pkcs12"
	for _, known := range []struct{ begin, what string }{
		{"\xce\xce\xce\xce", "it is a JCEKS store, not a PKCS #12 file or a JKS store" + convert},
		{"-----BEGIN ", "it is a PEM file, not a PKCS #12 file; make a store of it with openssl pkcs12 -export"},
		{"\x30\x80", "it is a PKCS #12 file in BER, of which only DER is read; write it anew with keytool -importkeystore or openssl pkcs12"},
	} {
		if strings.HasPrefix(string(data), known.begin) {
			return errors.New(known.what)
		}
	}
	return nil
}

// Keys are the names of the keys, as Java tells them: one that has no name in the file is called by a number.
func (s *Store) Keys() []string {
	var names []string
	for _, k := range s.keys {
		names = append(names, k.alias)
	}
	return names
}

// Certificates are the names of the certificates.
func (s *Store) Certificates() []string {
	var names []string
	for _, c := range s.certificates {
		if c.alias != "" {
			names = append(names, c.alias)
		}
	}
	return names
}

// Aliases are the names of all of it, each once.
func (s *Store) Aliases() []string {
	all := s.Keys()
	for _, alias := range s.Certificates() {
		if !slices.ContainsFunc(all, func(known string) bool { return strings.EqualFold(known, alias) }) {
			all = append(all, alias)
		}
	}
	return all
}

// Has reports whether Key or Certificate finds something by a name.
func (s *Store) Has(alias string) bool {
	return find(s.keys, alias) >= 0 || find(s.certificates, alias) >= 0
}

// Certificate finds a certificate by its name, and tells that as the store has it. It is nil where there is none.
func (s *Store) Certificate(alias string) (certificate *x509.Certificate, name string, err error) {
	i := find(s.certificates, alias)
	if i < 0 {
		return nil, "", nil
	}
	found := s.certificates[i]
	if certificate, err = x509.ParseCertificate(found.der); err != nil {
		return nil, "", fmt.Errorf("its certificate `%s` cannot be read: %w", found.alias, err)
	}
	return certificate, found.alias, nil
}

// Key opens a key by its name. It is nil where there is none.
func (s *Store) Key(alias string) (*Key, error) {
	i := find(s.keys, alias)
	if i < 0 {
		return nil, nil
	}
	return s.open(s.keys[i])
}

func (s *Store) open(k sealedKey) (*Key, error) {
	der, err := k.pkcs8()
	if err != nil {
		return nil, s.damaged(err)
	}
	private, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, s.damaged(fmt.Errorf("its key `%s` cannot be read: %w; use RSA, ECDSA or Ed25519", k.alias, err))
	}
	signer, ok := private.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("its key `%s` is a %T, which cannot sign; use RSA, ECDSA or Ed25519", k.alias, private)
	}
	all := s.parsed(k.id)
	leaf := slices.IndexFunc(all, func(c *x509.Certificate) bool { return belongs(signer, c) })
	if leaf < 0 {
		return nil, fmt.Errorf("it holds no certificate of key `%s`", k.alias)
	}
	return &Key{k.alias, signer, chain(all[leaf], all)}, nil
}

// damaged says that it is the password's fault where nothing else has checked it.
func (s *Store) damaged(err error) error {
	if !s.sealed {
		return ErrPassword
	}
	return err
}

// parsed are the certificates that can be read, those that are tied to a key first.
func (s *Store) parsed(id string) []*x509.Certificate {
	var tied, others []*x509.Certificate
	for _, c := range s.certificates {
		switch parsed, err := x509.ParseCertificate(c.der); {
		case err != nil:
		case id != "" && c.id == id:
			tied = append(tied, parsed)
		default:
			others = append(others, parsed)
		}
	}
	return append(tied, others...)
}

func belongs(key crypto.Signer, cert *x509.Certificate) bool {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(cert.PublicKey)
}

// chain is a certificate with the issuers that the store holds.
func chain(leaf *x509.Certificate, all []*x509.Certificate) []*x509.Certificate {
	links := []*x509.Certificate{leaf}
	for last := leaf; len(links) < maxCertificates && last.CheckSignatureFrom(last) != nil; {
		issuer := slices.IndexFunc(all, func(c *x509.Certificate) bool { return !c.Equal(last) && last.CheckSignatureFrom(c) == nil })
		if issuer < 0 {
			break
		}
		last = all[issuer]
		links = append(links, last)
	}
	return links
}

// add takes over a bag. What is neither a key nor a certificate is nothing that can be asked for.
func (s *Store) add(bag safeBag, unnamed *int) error {
	n, trusted := bag.attributes()
	number := func() {
		if n.alias == "" {
			*unnamed++
			n.alias, n.number = strconv.Itoa(*unnamed), true
		}
	}
	switch {
	case bag.ID.Equal(oidKeyBag), bag.ID.Equal(oidShroudedKeyBag):
		number()
		s.keys = append(s.keys, sealedKey{n, func() ([]byte, error) { return s.secret.key(bag) }})
	case bag.ID.Equal(oidCertBag):
		var inner certBag
		if err := unmarshal(bag.Value.Bytes, &inner); err != nil {
			return err
		}
		if trusted {
			number()
		}
		s.certificates = append(s.certificates, certificate{n, inner.Data})
	}
	return nil
}
