package embedded

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"embed"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"software.sslmate.com/src/go-pkcs12"
)

//go:embed seed
var seed embed.FS

// certificateLife is longer than any demo, and short enough for nobody to rely on it.
const certificateLife = 30 * 24 * time.Hour

// Seed is the configuration that the demo runs, zilla.yaml, and the proto that it names. Its keystore is not in
// it: WriteSeed makes one.
func Seed() fs.FS {
	sub, err := fs.Sub(seed, "seed")
	if err != nil {
		panic(err) // the name is a constant
	}
	return sub
}

// WriteSeed writes the seed's files to a directory, and the keystore tls/localhost.p12 that zilla.yaml names: a new
// self-signed certificate for localhost and 127.0.0.1, valid for 30 days, under the password. Files that are there
// are replaced.
func WriteSeed(dir, password string) error {
	err := fs.WalkDir(Seed(), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(dir, filepath.FromSlash(path))
		if entry.IsDir() {
			return os.MkdirAll(to, 0o755)
		}
		content, err := fs.ReadFile(Seed(), path)
		if err != nil {
			return err
		}
		return os.WriteFile(to, content, 0o644)
	})
	if err != nil {
		return fmt.Errorf("writing the demo's configuration to %s: %w", dir, err)
	}
	keystore, err := newKeystore(password)
	if err != nil {
		return fmt.Errorf("making the demo's keystore: %w", err)
	}
	store := filepath.Join(dir, "tls", "localhost.p12")
	if err := os.MkdirAll(filepath.Dir(store), 0o755); err != nil {
		return fmt.Errorf("writing the demo's keystore: %w", err)
	}
	if err := os.WriteFile(store, keystore, 0o600); err != nil {
		return fmt.Errorf("writing the demo's keystore: %w", err)
	}
	return nil
}

func newKeystore(password string) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "localhost"},
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		NotBefore:             now.Add(-time.Hour), // clocks differ
		NotAfter:              now.Add(certificateLife),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return pkcs12.Modern.Encode(key, certificate, nil, password)
}
