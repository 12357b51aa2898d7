package keystore

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"unicode/utf16"
)

// The parts of RFC 7292 that a store is made of.
type (
	pfx struct {
		Version  int
		AuthSafe contentInfo
		Mac      macData `asn1:"optional"`
	}
	contentInfo struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue `asn1:"tag:0,explicit,optional"`
	}
	encryptedData struct {
		Version int
		Info    struct {
			Type      asn1.ObjectIdentifier
			Algorithm pkix.AlgorithmIdentifier
			Data      []byte `asn1:"tag:0,optional"`
		}
	}
	encryptedKey struct {
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte
	}
	safeBag struct {
		ID         asn1.ObjectIdentifier
		Value      asn1.RawValue `asn1:"tag:0,explicit"`
		Attributes []attribute   `asn1:"set,optional"`
	}
	attribute struct {
		ID    asn1.ObjectIdentifier
		Value asn1.RawValue `asn1:"set"`
	}
	certBag struct {
		ID   asn1.ObjectIdentifier
		Data []byte `asn1:"tag:0,explicit"`
	}
)

var (
	oidData           = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidEncryptedData  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 6}
	oidKeyBag         = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 1}
	oidShroudedKeyBag = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 2}
	oidCertBag        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 3}
	oidFriendlyName   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 20}
	oidLocalKeyID     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 21}
	oidTrusted        = asn1.ObjectIdentifier{2, 16, 840, 1, 113894, 746875, 1, 1} // what Java marks a trusted certificate with
)

func unmarshal(data []byte, v any) error {
	rest, err := asn1.Unmarshal(data, v)
	if err == nil && len(rest) > 0 {
		err = errors.New("there is more behind its end")
	}
	return err
}

var errNotPKCS12 = errors.New("it is not a PKCS #12 file")

// open is Open with a bound on the work that a store may ask for.
func open(data []byte, password string, work int) (*Store, error) {
	var file pfx
	if err := unmarshal(data, &file); err != nil {
		return nil, errNotPKCS12
	}
	if file.Version != 3 || !file.AuthSafe.Type.Equal(oidData) {
		return nil, errors.New("it is a PKCS #12 file of another kind than those with a password")
	}
	var safe []byte
	if err := unmarshal(file.AuthSafe.Content.Bytes, &safe); err != nil {
		return nil, errNotPKCS12
	}
	s := &Store{secret: newSecret(password, work), sealed: len(file.Mac.Mac.Algorithm.Algorithm) > 0}
	if s.sealed {
		if err := s.secret.verify(file.Mac, safe); err != nil {
			return nil, err
		}
	}
	var contents []contentInfo
	if err := unmarshal(safe, &contents); err != nil {
		return nil, fmt.Errorf("its contents cannot be read: %w", err)
	}
	unnamed := 0
	for _, content := range contents {
		bags, err := s.bags(content)
		if err != nil {
			return nil, err
		}
		for _, bag := range bags {
			if err := s.add(bag, &unnamed); err != nil {
				return nil, s.damaged(fmt.Errorf("its contents cannot be read: %w", err))
			}
		}
	}
	return s, nil
}

func (s *Store) bags(content contentInfo) ([]safeBag, error) {
	var plain []byte
	switch {
	case content.Type.Equal(oidData):
		if err := unmarshal(content.Content.Bytes, &plain); err != nil {
			return nil, fmt.Errorf("its contents cannot be read: %w", err)
		}
	case content.Type.Equal(oidEncryptedData):
		var sealed encryptedData
		err := unmarshal(content.Content.Bytes, &sealed)
		if err != nil {
			return nil, fmt.Errorf("its contents cannot be read: %w", err)
		}
		if plain, err = s.secret.decrypt(sealed.Info.Algorithm, sealed.Info.Data); err != nil {
			return nil, err
		}
	default:
		return nil, nil // sealed for somebody's public key, which Java passes over too
	}
	var bags []safeBag
	if err := unmarshal(plain, &bags); err != nil {
		return nil, s.damaged(fmt.Errorf("its contents cannot be read: %w", err))
	}
	return bags, nil
}

// key is a private key as PKCS #8.
func (s *secret) key(bag safeBag) ([]byte, error) {
	if bag.ID.Equal(oidKeyBag) {
		return bag.Value.Bytes, nil
	}
	var sealed encryptedKey
	if err := unmarshal(bag.Value.Bytes, &sealed); err != nil {
		return nil, fmt.Errorf("its keys cannot be read: %w", err)
	}
	return s.decrypt(sealed.Algorithm, sealed.Data)
}

// attributes are the name of a bag, what ties it to others, and whether it is a certificate to be trusted.
func (b safeBag) attributes() (n names, trusted bool) {
	for _, a := range b.Attributes {
		var value asn1.RawValue
		switch _, err := asn1.Unmarshal(a.Value.Bytes, &value); {
		case err != nil:
		case a.ID.Equal(oidFriendlyName):
			n.alias = bmpText(value.Bytes)
		case a.ID.Equal(oidLocalKeyID):
			n.id = string(value.Bytes)
		}
		trusted = trusted || a.ID.Equal(oidTrusted)
	}
	return n, trusted
}

// bmpText is a BMPString: UTF-16 in network order.
func bmpText(data []byte) string {
	var units []uint16
	for ; len(data) >= 2; data = data[2:] {
		units = append(units, uint16(data[0])<<8|uint16(data[1]))
	}
	return string(utf16.Decode(units))
}

func bmpBytes(text string) []byte {
	var data []byte
	for _, unit := range utf16.Encode([]rune(text)) {
		data = append(data, byte(unit>>8), byte(unit))
	}
	return data
}
