package topology

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"strings"
	"unicode/utf16"

	"software.sslmate.com/src/go-pkcs12"
)

// trustStore is an opened PKCS #12 file with certificates that are trusted.
type trustStore struct{ certificates []trustedCertificate }

type trustedCertificate struct {
	alias       string // "" where the store gives none, or hides it
	certificate *x509.Certificate
}

// find returns the certificate of an alias, as keystore.find does.
func (t *trustStore) find(alias string) (*x509.Certificate, bool) {
	for _, c := range t.certificates {
		if strings.EqualFold(c.alias, alias) {
			return c.certificate, true
		}
	}
	if len(t.certificates) == 1 && t.certificates[0].alias == "" {
		return t.certificates[0].certificate, true
	}
	return nil, false
}

func (t *trustStore) aliases() []string {
	var names []string
	for _, c := range t.certificates {
		names = append(names, c.alias)
	}
	return names
}

// openTrustStore decodes a store as keytool makes it. The library checks the password, and tells certificates without
// their aliases; those are read here, from the encryption that keytool and openssl have used since 2021.
func openTrustStore(data []byte, password string) (*trustStore, error) {
	var plain []*x509.Certificate
	err := caught("the PKCS #12 decoder", func() (err error) {
		plain, err = pkcs12.DecodeTrustStore(data, password)
		return err
	})
	if wrongPassword(err) {
		return nil, err
	}
	var named *trustStore
	if namedErr := caught("the reader of aliases", func() (err error) {
		named, err = namedCertificates(data, password)
		return err
	}); namedErr == nil && len(named.certificates) > 0 {
		return named, nil
	}
	if err != nil {
		if strings.Contains(err.Error(), "error reading P12 data") {
			return nil, errors.New("it is not a PKCS #12 file")
		}
		return nil, errors.New(strings.TrimPrefix(err.Error(), "pkcs12: ") +
			" (make the trust store with keytool -importcert)")
	}
	t := &trustStore{}
	for _, c := range plain {
		t.certificates = append(t.certificates, trustedCertificate{"", c})
	}
	return t, nil
}

// The parts of RFC 7292 (PKCS #12) and RFC 8018 (PBES2) that hold the certificates of a store.
type (
	p12File struct {
		Version  int
		AuthSafe p12Content
		MacData  asn1.RawValue `asn1:"optional"`
	}
	p12Content struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue `asn1:"tag:0,explicit,optional"`
	}
	p12Encrypted struct {
		Version int
		Info    struct {
			Type      asn1.ObjectIdentifier
			Algorithm pkix.AlgorithmIdentifier
			Data      []byte `asn1:"tag:0,optional"`
		}
	}
	p12Bag struct {
		ID         asn1.ObjectIdentifier
		Value      asn1.RawValue  `asn1:"tag:0,explicit"`
		Attributes []p12Attribute `asn1:"set,optional"`
	}
	p12Attribute struct {
		ID    asn1.ObjectIdentifier
		Value asn1.RawValue `asn1:"set"`
	}
	p12Certificate struct {
		ID   asn1.ObjectIdentifier
		Data []byte `asn1:"tag:0,explicit"`
	}
	pbes2 struct {
		KDF, Cipher pkix.AlgorithmIdentifier
	}
	pbkdf struct {
		Salt       []byte
		Iterations int
		KeyLength  int                      `asn1:"optional"`
		PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
	}
)

var (
	oidEncryptedData  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 6}
	oidPBES2          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidHMACWithSHA256 = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}
	oidAES256CBC      = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}
	oidCertBag        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 3}
	oidFriendlyName   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 20}
)

// maxIterations keeps a hostile store from costing minutes; keytool and openssl write 10,000 and 2,048.
const maxIterations = 1_000_000

var errOtherStore = errors.New("encrypted in another way than PBES2 with AES-256 and HMAC-SHA-256")

// namedCertificates are the certificates of a store that have an alias. The store's integrity was checked before.
func namedCertificates(data []byte, password string) (*trustStore, error) {
	var file p12File
	if _, err := asn1.Unmarshal(data, &file); err != nil {
		return nil, err
	}
	var safe []byte
	var contents []p12Content
	if _, err := asn1.Unmarshal(file.AuthSafe.Content.Bytes, &safe); err != nil {
		return nil, err
	}
	if _, err := asn1.Unmarshal(safe, &contents); err != nil {
		return nil, err
	}
	store := &trustStore{}
	for _, content := range contents {
		if !content.Type.Equal(oidEncryptedData) {
			continue // keys; certificates are encrypted in every store that has a password
		}
		var sealed p12Encrypted
		if _, err := asn1.Unmarshal(content.Content.Bytes, &sealed); err != nil {
			return nil, err
		}
		opened, err := decrypt(sealed.Info.Algorithm, sealed.Info.Data, password)
		if err != nil {
			return nil, err
		}
		var bags []p12Bag
		if _, err := asn1.Unmarshal(opened, &bags); err != nil {
			return nil, err
		}
		for _, bag := range bags {
			if alias := bag.alias(); bag.ID.Equal(oidCertBag) && alias != "" {
				var inner p12Certificate
				if _, err := asn1.Unmarshal(bag.Value.Bytes, &inner); err != nil {
					return nil, err
				}
				certificate, err := x509.ParseCertificate(inner.Data)
				if err != nil {
					return nil, err
				}
				store.certificates = append(store.certificates, trustedCertificate{alias, certificate})
			}
		}
	}
	return store, nil
}

func (b p12Bag) alias() string {
	for _, a := range b.Attributes {
		if !a.ID.Equal(oidFriendlyName) {
			continue
		}
		var text asn1.RawValue
		if _, err := asn1.Unmarshal(a.Value.Bytes, &text); err != nil || len(text.Bytes)%2 != 0 {
			return ""
		}
		units := make([]uint16, 0, len(text.Bytes)/2)
		for i := 0; i < len(text.Bytes); i += 2 {
			units = append(units, uint16(text.Bytes[i])<<8|uint16(text.Bytes[i+1]))
		}
		return string(utf16.Decode(units))
	}
	return ""
}

func decrypt(algorithm pkix.AlgorithmIdentifier, sealed []byte, password string) ([]byte, error) {
	var scheme pbes2
	var kdf pbkdf
	if !algorithm.Algorithm.Equal(oidPBES2) {
		return nil, errOtherStore
	}
	if _, err := asn1.Unmarshal(algorithm.Parameters.FullBytes, &scheme); err != nil {
		return nil, err
	}
	if _, err := asn1.Unmarshal(scheme.KDF.Parameters.FullBytes, &kdf); err != nil {
		return nil, err
	}
	iv := scheme.Cipher.Parameters.Bytes
	if !kdf.PRF.Algorithm.Equal(oidHMACWithSHA256) || !scheme.Cipher.Algorithm.Equal(oidAES256CBC) ||
		len(iv) != aes.BlockSize || len(sealed) == 0 || len(sealed)%aes.BlockSize != 0 || kdf.Iterations > maxIterations {
		return nil, errOtherStore
	}
	key, err := pbkdf2.Key(sha256.New, password, kdf.Salt, kdf.Iterations, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	opened := make([]byte, len(sealed))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(opened, sealed)
	padding := int(opened[len(opened)-1])
	if padding == 0 || padding > aes.BlockSize || !bytes.HasSuffix(opened, bytes.Repeat([]byte{byte(padding)}, padding)) {
		return nil, pkcs12.ErrDecryption
	}
	return opened[:len(opened)-padding], nil
}

// trustStore opens the trust store of a vault once. It is nil where that fails, which is reported.
func (c *compiler) trustStore(name string, v *vault) *trustStore {
	if t, done := c.trusted[name]; done {
		return t
	}
	c.trusted[name] = nil
	s := v.Options.Trust
	if !s.Store.given && v.Type.ok {
		c.report.problem(v.at, "%s has no `options.trust`; add the `store` with the certificates that the tls bindings trust", v.place)
	}
	if !s.Store.ok || s.Password.given && !s.Password.ok || s.Type.given && !s.Type.ok {
		return nil
	}
	data, err := readRegular(c.path(s.Store.value))
	if err != nil {
		c.report.cause(err, s.Store.position, "cannot read the trust store of %s: %v", v.place, err)
		return nil
	}
	t, err := openTrustStore(data, s.Password.value)
	switch {
	case wrongPassword(err):
		c.report.cause(err, s.Store.position, "the password of %s does not open trust store `%s`; check `options.trust.password`", v.place, s.Store.raw)
		return nil
	case err != nil:
		c.report.cause(err, s.Store.position, "trust store `%s` of %s cannot be used: %v", s.Store.raw, v.place, err)
		return nil
	}
	c.trusted[name] = t
	return t
}
