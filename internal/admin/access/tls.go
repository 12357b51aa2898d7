package access

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
)

// Files are PEM files for TLS; "" where there is none.
type Files struct {
	Certificate, Key string // of this side
	CA               string // whose certificates the other side may have
}

// Server is the TLS of the admin address; nil without a certificate. Certificates of clients are checked where they are given:
// probes have none, and Guard sees to the others.
func (f Files) Server() (*tls.Config, error) {
	if f.Certificate == "" && f.Key == "" {
		if f.CA != "" {
			return nil, errors.New("clients can show certificates to a server with one only: name its certificate and key, too")
		}
		return nil, nil
	}
	certificate, err := f.certificate()
	if err != nil {
		return nil, err
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}}
	if f.CA != "" {
		if c.ClientCAs, err = f.pool(); err != nil {
			return nil, err
		}
		c.ClientAuth = tls.VerifyClientCertIfGiven
	}
	return c, nil
}

// Client is the TLS of somebody who asks; nil without a CA.
func (f Files) Client() (*tls.Config, error) {
	if f.CA == "" {
		if f.Certificate != "" || f.Key != "" {
			return nil, errors.New("a certificate is shown by TLS only: name the CA of the server, too")
		}
		return nil, nil
	}
	pool, err := f.pool()
	if err != nil {
		return nil, err
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
	if f.Certificate != "" || f.Key != "" {
		certificate, err := f.certificate()
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{certificate}
	}
	return c, nil
}

func (f Files) certificate() (tls.Certificate, error) {
	if f.Certificate == "" || f.Key == "" {
		return tls.Certificate{}, errors.New("a certificate and its key go together: name both files")
	}
	c, err := tls.LoadX509KeyPair(f.Certificate, f.Key)
	if err != nil {
		return c, fmt.Errorf("the certificate %s with the key %s: %w", f.Certificate, f.Key, err)
	}
	return c, nil
}

func (f Files) pool() (*x509.CertPool, error) {
	text, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s has no certificate in PEM", f.CA)
	}
	return pool, nil
}

// Pinned is the TLS of somebody beside the server, who has its certificate file and trusts that certificate alone, whatever
// the name by which the server is reached.
func Pinned(certificate string) (*tls.Config, error) {
	text, err := os.ReadFile(certificate)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s has no certificate in PEM", certificate)
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, // the check is the one that follows
		VerifyConnection: func(s tls.ConnectionState) error {
			if !bytes.Equal(block.Bytes, s.PeerCertificates[0].Raw) {
				return fmt.Errorf("the server has another certificate than %s", certificate)
			}
			return nil
		},
	}, nil
}
