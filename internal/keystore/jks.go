package keystore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	jks "github.com/pavlo-v-chernykh/keystore-go/v4"
)

// jksMagic begins the stores that Java wrote until version 9.
const jksMagic = "\xfe\xed\xfe\xed"

var errCutJKS = errors.New("it is a JKS store that is cut short or damaged")

// openJKS reads a JKS store. As in Java, one without a password is not checked, and gives its certificates alone.
func openJKS(data []byte, password string) (*Store, error) {
	// The library makes room for whatever a length says, and panics at keys that are too short.
	if err := checkJKS(data); err != nil {
		return nil, err
	}
	narrow, ok := latin1(password)
	if !ok {
		return nil, errors.New("it is a JKS store, whose password has characters beyond Latin-1, which are not supported here; write it anew as PKCS #12 with keytool -importkeystore")
	}
	file := jks.New(jks.WithOrderedAliases(), jks.WithCaseExactAliases())
	if err := file.Load(bytes.NewReader(data), narrow); err != nil && password != "" {
		return nil, ErrPassword // the digest: everything else is checked
	}
	s := &Store{sealed: true}
	for _, alias := range file.Aliases() {
		if trusted, err := file.GetTrustedCertificateEntry(alias); err == nil {
			s.certificates = append(s.certificates, certificate{names{alias: alias}, trusted.Certificate.Content})
			continue
		}
		chain, err := file.GetPrivateKeyEntryCertificateChain(alias)
		if err != nil {
			return nil, fmt.Errorf("its entry `%s` cannot be read: %w", alias, err)
		}
		for i, c := range chain {
			n := names{id: alias}
			if i == 0 {
				n.alias = alias
			}
			s.certificates = append(s.certificates, certificate{n, c.Content})
		}
		s.keys = append(s.keys, sealedKey{names{alias: alias, id: alias}, func() (der []byte, err error) {
			defer func() {
				if p := recover(); p != nil {
					err = fmt.Errorf("its key `%s` is damaged", alias)
				}
			}()
			key, err := file.GetPrivateKeyEntry(alias, narrow)
			switch {
			case err == nil:
				return key.PrivateKey, nil
			case password == "":
				return nil, ErrPassword
			}
			return nil, fmt.Errorf("its key `%s` has a password of its own, or is damaged; give it that of the store with keytool -keypasswd", alias)
		}})
	}
	return s, nil
}

// latin1 is a password as the library takes it: a byte for each of Java's characters.
func latin1(password string) ([]byte, bool) {
	narrow := make([]byte, 0, len(password))
	for _, r := range password {
		if r > 0xff {
			return nil, false
		}
		narrow = append(narrow, byte(r))
	}
	return narrow, true
}

// checkJKS walks over a store: every length must be within it.
func checkJKS(data []byte) error {
	r := jksReader{rest: data[len(jksMagic):]}
	version, entries := r.number(4), r.number(4)
	if r.cut {
		return errCutJKS
	}
	if version != 1 && version != 2 {
		return fmt.Errorf("it is a JKS store of version %d, of which only 1 and 2 are known", version)
	}
	for i := uint64(0); i < entries && !r.cut; i++ {
		tag := r.number(4)
		r.skip(r.number(2)) // the alias
		r.skip(8)           // when it was made
		certificates := uint64(1)
		switch tag {
		case 1:
			r.skip(r.number(4)) // the key
			certificates = r.number(4)
		case 2:
		default:
			r.cut = true
		}
		for j := uint64(0); j < certificates && !r.cut; j++ {
			if version == 2 {
				r.skip(r.number(2)) // its kind
			}
			r.skip(r.number(4))
		}
	}
	const digest = 20
	if r.cut || len(r.rest) < digest {
		return errCutJKS
	}
	return nil
}

// jksReader passes over a store until it is cut.
type jksReader struct {
	rest []byte
	cut  bool
}

func (r *jksReader) take(n uint64) []byte {
	if r.cut || n > uint64(len(r.rest)) {
		r.cut = true
		return nil
	}
	taken := r.rest[:n]
	r.rest = r.rest[n:]
	return taken
}

func (r *jksReader) skip(n uint64) { r.take(n) }

func (r *jksReader) number(size uint64) uint64 {
	var wide [8]byte
	copy(wide[8-size:], r.take(size))
	return binary.BigEndian.Uint64(wide[:])
}
