package topology

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
)

// renewal reads the stores of a tls server again when their files have changed. It looks at the files when it is asked,
// which is once for each connection: a look costs less than the handshake that it is for, and needs no one who waits.
type renewal struct {
	keys, trust watchedStore
	system      bool      // trust the system's authorities too
	constant    ServerTLS // what no store changes
	mu          sync.Mutex
}

// watchedStore is a store on disk with what is taken from it.
type watchedStore struct {
	path, password string // no path: no store
	aliases        []string
	seen           fs.FileInfo // the state of the file that was read last; nil: it could not be looked at
}

func (c *compiler) watch(s store, aliases []text) watchedStore {
	w := watchedStore{path: c.path(s.Store.value), password: s.Password.value}
	for _, a := range aliases {
		w.aliases = append(w.aliases, a.value)
	}
	w.changed()
	return w
}

// changed reports whether the file is another one than at the last look, and remembers it.
func (w *watchedStore) changed() bool {
	if w.path == "" {
		return false
	}
	now, err := os.Stat(w.path)
	if err != nil {
		return false // between two versions, as some tools replace a file
	}
	last := w.seen
	w.seen = now
	return last == nil || !os.SameFile(last, now) || last.Size() != now.Size() || !last.ModTime().Equal(now.ModTime())
}

// renew is ServerTLS.Renew.
func (r *renewal) renew() (*ServerTLS, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	keysChanged, trustChanged := r.keys.changed(), r.trust.changed()
	if !keysChanged && !trustChanged {
		return nil, nil
	}
	t := r.constant
	var err error
	if t.Certificates, err = r.keys.certificates(); err != nil {
		return nil, err
	}
	if t.ClientAuth != tls.NoClientCert {
		if t.ClientCAs, err = r.trust.pool(r.system); err != nil {
			return nil, err
		}
	}
	t.Renew = r.renew
	return &t, nil
}

func (w *watchedStore) certificates() ([]tls.Certificate, error) {
	store, err := readStore(w.path, w.password)
	if err != nil {
		return nil, fmt.Errorf("reading keystore %s again: %w", w.path, err)
	}
	var all []tls.Certificate
	for _, alias := range w.aliases {
		certificate, _, err := certificateOf(store, alias)
		if err != nil {
			return nil, fmt.Errorf("reading keystore %s again: %w", w.path, err)
		}
		if certificate == nil {
			return nil, fmt.Errorf("reading keystore %s again: it has no key `%s` any more; it has %s", w.path, alias, listed(store.Keys()))
		}
		all = append(all, *certificate)
	}
	return all, nil
}

func (w *watchedStore) pool(system bool) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if system {
		var err error
		if pool, err = x509.SystemCertPool(); err != nil {
			return nil, fmt.Errorf("reading the authorities of the system: %w", err)
		}
	}
	if w.path == "" {
		return pool, nil
	}
	store, err := readStore(w.path, w.password)
	if err != nil {
		return nil, fmt.Errorf("reading trust store %s again: %w", w.path, err)
	}
	var problems []error
	for _, alias := range w.aliases {
		switch certificate, _, err := store.Certificate(alias); {
		case err != nil:
			problems = append(problems, fmt.Errorf("reading trust store %s again: %w", w.path, err))
		case certificate == nil:
			problems = append(problems, fmt.Errorf("reading trust store %s again: it has no certificate `%s` any more; it has %s", w.path, alias, listed(store.Certificates())))
		default:
			pool.AddCert(certificate)
		}
	}
	return pool, errors.Join(problems...)
}
