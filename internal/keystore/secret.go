package keystore

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/hmac"
	"crypto/md5"
	"crypto/pbkdf2"
	"crypto/rc4"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"hash"
)

// maxWork is how many hashes a store may ask for in all, in a few seconds: it keeps a hostile one from costing hours. Java
// writes up to 100,000 iterations of three for each key, and reads up to 5,000,000.
const maxWork = 10_000_000

// maxMacKey is the longest key of a checksum that RFC 9579 has a use for.
const maxMacKey = 64

// secret is a password, and the work that may still be done with it.
type secret struct {
	password string
	units    []byte // the password as a BMPString with its end, as PKCS #12 takes it; PKCS #5 takes its bytes
	work     int
}

func newSecret(password string, work int) secret {
	return secret{password, append(bmpBytes(password), 0, 0), work}
}

type macData struct {
	Mac struct {
		Algorithm pkix.AlgorithmIdentifier
		Digest    []byte
	}
	Salt       []byte
	Iterations int `asn1:"optional,default:1"`
}

// The parameters of RFC 8018.
type (
	pbeParams struct {
		Salt       []byte
		Iterations int
	}
	// schemeParams are those of PBES2 and PBMAC1: how the key is made, and what it is for.
	schemeParams struct{ KDF, Use pkix.AlgorithmIdentifier }
	kdfParams    struct {
		Salt       []byte
		Iterations int
		KeyLength  int                      `asn1:"optional"`
		PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
	}
)

// algorithms are named by their object identifiers.
var (
	digests = map[string]func() hash.Hash{
		"1.2.840.113549.2.5": md5.New, "1.3.14.3.2.26": sha1.New,
		"2.16.840.1.101.3.4.2.4": sha256.New224, "2.16.840.1.101.3.4.2.1": sha256.New,
		"2.16.840.1.101.3.4.2.2": sha512.New384, "2.16.840.1.101.3.4.2.3": sha512.New,
		"2.16.840.1.101.3.4.2.5": sha512.New512_224, "2.16.840.1.101.3.4.2.6": sha512.New512_256,
	}
	hmacs = map[string]func() hash.Hash{
		"": sha1.New, "1.2.840.113549.2.7": sha1.New, "1.2.840.113549.2.8": sha256.New224, "1.2.840.113549.2.9": sha256.New,
		"1.2.840.113549.2.10": sha512.New384, "1.2.840.113549.2.11": sha512.New,
		"1.2.840.113549.2.12": sha512.New512_224, "1.2.840.113549.2.13": sha512.New512_256,
	}
	// ciphers of PBES2.
	ciphers = map[string]struct {
		keyLength int
		open      func(key []byte) (cipher.Block, error)
	}{
		"2.16.840.1.101.3.4.1.2": {16, aes.NewCipher}, "2.16.840.1.101.3.4.1.22": {24, aes.NewCipher},
		"2.16.840.1.101.3.4.1.42": {32, aes.NewCipher}, "1.2.840.113549.3.7": {24, des.NewTripleDESCipher},
	}
	// schemes are those of RFC 7292, appendix C, and of PKCS #5 before PBES2, with DES.
	schemes = map[string]struct {
		keyLength, ivLength int
		kdf                 func(s *secret, p pbeParams, purpose byte, length int) ([]byte, error)
		open                func(key, iv, sealed []byte) ([]byte, error)
	}{
		"1.2.840.113549.1.12.1.1": {16, 0, (*secret).pkcs12Key, openRC4},
		"1.2.840.113549.1.12.1.2": {5, 0, (*secret).pkcs12Key, openRC4},
		"1.2.840.113549.1.12.1.3": {24, 8, (*secret).pkcs12Key, openTripleDES},
		"1.2.840.113549.1.12.1.4": {16, 8, (*secret).pkcs12Key, openTripleDES},
		"1.2.840.113549.1.12.1.5": {16, 8, (*secret).pkcs12Key, openRC2},
		"1.2.840.113549.1.12.1.6": {5, 8, (*secret).pkcs12Key, openRC2},
		"1.2.840.113549.1.5.3":    {8, 8, (*secret).pkcs5KeyMD5, openDES},
		"1.2.840.113549.1.5.10":   {8, 8, (*secret).pkcs5KeySHA1, openDES},
	}
)

var (
	oidPBES2  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidPBMAC1 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 14}
)

const (
	forKey = 1 // purposes of RFC 7292, appendix B.3
	forIV  = 2
	forMAC = 3
)

func unknown(what string, id asn1.ObjectIdentifier) error {
	return fmt.Errorf("its %s is %s, which is none that keytool or openssl write; write it anew with keytool -importkeystore", what, id)
}

// spend counts iterations that are about to be done.
func (s *secret) spend(iterations, blocks int) error {
	if iterations < 1 || iterations > s.work/max(1, blocks) {
		return fmt.Errorf("it asks for %d iterations of its key derivation; at most %d are done for one store", iterations, maxWork)
	}
	s.work -= iterations * blocks
	return nil
}

// verify checks a store's checksum.
func (s *secret) verify(mac macData, data []byte) error {
	algorithm := mac.Mac.Algorithm.Algorithm
	if algorithm.Equal(oidPBMAC1) {
		var params schemeParams
		if err := unmarshal(mac.Mac.Algorithm.Parameters.FullBytes, &params); err != nil {
			return fmt.Errorf("its checksum cannot be read: %w", err)
		}
		digest, known := hmacs[params.Use.Algorithm.String()]
		if !known {
			return unknown("checksum", params.Use.Algorithm)
		}
		key, err := s.pbkdf2(params.KDF, 0)
		if err != nil {
			return err
		}
		return check(digest, key, data, mac.Mac.Digest)
	}
	digest, known := digests[algorithm.String()]
	if !known {
		return unknown("checksum", algorithm)
	}
	for {
		key, err := s.pkcs12(digest, pbeParams{mac.Salt, mac.Iterations}, forMAC, digest().Size())
		if err == nil {
			err = check(digest, key, data, mac.Mac.Digest)
		}
		if !errors.Is(err, ErrPassword) || s.password != "" || s.units == nil {
			return err
		}
		s.units = nil // some write an empty password without its end
	}
}

func check(digest func() hash.Hash, key, data, want []byte) error {
	h := hmac.New(digest, key)
	h.Write(data)
	if !hmac.Equal(h.Sum(nil), want) {
		return ErrPassword
	}
	return nil
}

// decrypt opens what is sealed with the password.
func (s *secret) decrypt(algorithm pkix.AlgorithmIdentifier, sealed []byte) ([]byte, error) {
	if algorithm.Algorithm.Equal(oidPBES2) {
		return s.decryptPBES2(algorithm, sealed)
	}
	scheme, known := schemes[algorithm.Algorithm.String()]
	if !known {
		return nil, unknown("encryption", algorithm.Algorithm)
	}
	var params pbeParams
	if err := unmarshal(algorithm.Parameters.FullBytes, &params); err != nil {
		return nil, fmt.Errorf("its encryption cannot be read: %w", err)
	}
	key, err := scheme.kdf(s, params, forKey, scheme.keyLength)
	if err != nil {
		return nil, err
	}
	var iv []byte
	if scheme.ivLength > 0 {
		if iv, err = scheme.kdf(s, params, forIV, scheme.ivLength); err != nil {
			return nil, err
		}
	}
	return scheme.open(key, iv, sealed)
}

func (s *secret) decryptPBES2(algorithm pkix.AlgorithmIdentifier, sealed []byte) ([]byte, error) {
	var params schemeParams
	var iv []byte
	if err := unmarshal(algorithm.Parameters.FullBytes, &params); err != nil {
		return nil, fmt.Errorf("its encryption cannot be read: %w", err)
	}
	use, known := ciphers[params.Use.Algorithm.String()]
	if !known {
		return nil, unknown("encryption", params.Use.Algorithm)
	}
	if err := unmarshal(params.Use.Parameters.FullBytes, &iv); err != nil {
		return nil, fmt.Errorf("its encryption cannot be read: %w", err)
	}
	key, err := s.pbkdf2(params.KDF, use.keyLength)
	if err != nil {
		return nil, err
	}
	block, err := use.open(key)
	if err != nil {
		return nil, err
	}
	return openBlocks(block, iv, sealed)
}

// pbkdf2 makes a key of a length, or with 0 of the one that the parameters name.
func (s *secret) pbkdf2(kdf pkix.AlgorithmIdentifier, length int) ([]byte, error) {
	var params kdfParams
	if !kdf.Algorithm.Equal(oidPBKDF2) {
		return nil, unknown("key derivation", kdf.Algorithm)
	}
	if err := unmarshal(kdf.Parameters.FullBytes, &params); err != nil {
		return nil, fmt.Errorf("its key derivation cannot be read: %w", err)
	}
	prf, known := hmacs[params.PRF.Algorithm.String()]
	if !known {
		return nil, unknown("key derivation", params.PRF.Algorithm)
	}
	if length == 0 {
		// A short key would be a checksum that another file can be made to have.
		if length = params.KeyLength; length < sha1.Size || length > maxMacKey {
			return nil, fmt.Errorf("the key of its checksum has %d bytes, not %d to %d", length, sha1.Size, maxMacKey)
		}
	}
	size := prf().Size()
	if err := s.spend(params.Iterations, 2*((length+size-1)/size)); err != nil {
		return nil, err
	}
	return pbkdf2.Key(prf, s.password, params.Salt, params.Iterations, length)
}

// pkcs12Key is what stores before 2021 made their keys with.
func (s *secret) pkcs12Key(p pbeParams, purpose byte, length int) ([]byte, error) {
	return s.pkcs12(sha1.New, p, purpose, length)
}

// pkcs12 is the key derivation of RFC 7292, appendix B.2.
func (s *secret) pkcs12(digest func() hash.Hash, p pbeParams, purpose byte, length int) ([]byte, error) {
	h := digest()
	size, width := h.Size(), h.BlockSize()
	if err := s.spend(p.Iterations, (length+size-1)/size); err != nil {
		return nil, err
	}
	diversifier := bytes.Repeat([]byte{purpose}, width)
	input := append(repeated(p.Salt, width), repeated(s.units, width)...)
	var key []byte
	for len(key) < length {
		h.Reset()
		h.Write(diversifier)
		h.Write(input)
		sum := h.Sum(nil)
		for range p.Iterations - 1 {
			h.Reset()
			h.Write(sum)
			sum = h.Sum(sum[:0])
		}
		key = append(key, sum...)
		added := repeated(sum, width)[:width]
		for block := 0; block+width <= len(input); block += width {
			carry := 1
			for i := width - 1; i >= 0; i-- {
				carry += int(input[block+i]) + int(added[i])
				input[block+i] = byte(carry)
				carry >>= 8
			}
		}
	}
	return key[:length], nil
}

// repeated is a pattern again and again, up to a multiple of a width.
func repeated(pattern []byte, width int) []byte {
	length := (len(pattern) + width - 1) / width * width
	out := make([]byte, length)
	for i := range out {
		out[i] = pattern[i%len(pattern)]
	}
	return out
}

func (s *secret) pkcs5KeyMD5(p pbeParams, purpose byte, _ int) ([]byte, error) {
	return s.pkcs5(md5.New, p, purpose)
}

func (s *secret) pkcs5KeySHA1(p pbeParams, purpose byte, _ int) ([]byte, error) {
	return s.pkcs5(sha1.New, p, purpose)
}

// pkcs5 is PBKDF1: one hash of which the first half is the key and the second one the IV of DES.
func (s *secret) pkcs5(digest func() hash.Hash, p pbeParams, purpose byte) ([]byte, error) {
	if err := s.spend(p.Iterations, 1); err != nil {
		return nil, err
	}
	h := digest()
	h.Write([]byte(s.password))
	h.Write(p.Salt)
	sum := h.Sum(nil)
	for range p.Iterations - 1 {
		h.Reset()
		h.Write(sum)
		sum = h.Sum(sum[:0])
	}
	if purpose == forIV {
		return sum[8:16], nil
	}
	return sum[:8], nil
}

func openDES(key, iv, sealed []byte) ([]byte, error) {
	block, err := des.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return openBlocks(block, iv, sealed)
}

// openTripleDES takes keys of two parts too, of which the first one is used again.
func openTripleDES(key, iv, sealed []byte) ([]byte, error) {
	block, err := des.NewTripleDESCipher(append(key, key[:24-len(key)]...))
	if err != nil {
		return nil, err
	}
	return openBlocks(block, iv, sealed)
}

func openRC2(key, iv, sealed []byte) ([]byte, error) {
	return openBlocks(newRC2(key), iv, sealed)
}

func openRC4(key, _, sealed []byte) ([]byte, error) {
	stream, err := rc4.NewCipher(key)
	if err != nil {
		return nil, err
	}
	plain := make([]byte, len(sealed))
	stream.XORKeyStream(plain, sealed)
	return plain, nil
}

var errBlocks = errors.New("its encryption cannot be read: its length is not that of its blocks")

// openBlocks decrypts CBC and takes the padding off.
func openBlocks(block cipher.Block, iv, sealed []byte) ([]byte, error) {
	size := block.BlockSize()
	if len(iv) != size || len(sealed) == 0 || len(sealed)%size != 0 {
		return nil, errBlocks
	}
	plain := make([]byte, len(sealed))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, sealed)
	padding := int(plain[len(plain)-1])
	if padding == 0 || padding > size || !bytes.HasSuffix(plain, bytes.Repeat([]byte{byte(padding)}, padding)) {
		return nil, ErrPassword
	}
	return plain[:len(plain)-padding], nil
}
