package topology

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"
)

// renewalPause is how long a store that could not be used is left alone: a try costs the connection that it is made for.
const renewalPause = time.Second

// renewal reads the stores of a tls server again when their files have changed. It looks at the files when it is asked,
// which is once for each connection: a look costs less than the handshake that it is for, and needs no one who waits. Files
// that cannot be used are tried again until they can, whether they change or not: their mode may, or what is on the way to them.
type renewal struct {
	keys, trust watchedStore
	system      bool      // trust the system's authorities too
	constant    ServerTLS // what no store changes

	mu    sync.Mutex
	tried time.Time // when the files could not be used; zero: they could
	told  string    // of that
}

// watchedStore is a store on disk with what is taken from it.
type watchedStore struct {
	path, format, password string // no path: no store
	aliases                []string
	used                   fs.FileInfo // the state of the file that is in use; nil: it could not be looked at
	tried                  fs.FileInfo // the state at the last try; nil: the file was not there, or there was none
}

func (c *compiler) watch(s store, aliases []text) watchedStore {
	w := watchedStore{path: c.path(s.Store.value), format: s.Type.value, password: s.Password.value}
	for _, a := range aliases {
		w.aliases = append(w.aliases, a.value)
	}
	w.used, _, _ = w.look() // the reading that follows says what is wrong
	return w
}

// look answers the state of the file, and whether it is another one than that in use.
func (w *watchedStore) look() (now fs.FileInfo, changed bool, err error) {
	if w.path == "" {
		return nil, false, nil
	}
	if now, err = os.Stat(w.path); err != nil {
		return nil, true, err
	}
	return now, !sameState(w.used, now), nil
}

func sameState(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == b
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// renew is ServerTLS.Renew.
func (r *renewal) renew() (*ServerTLS, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	keys, keysChanged, keysErr := r.keys.look()
	trust, trustChanged, trustErr := r.trust.look()
	if !keysChanged && !trustChanged {
		r.tried, r.told = time.Time{}, ""
		return nil, nil
	}
	again := !r.tried.IsZero() && sameState(keys, r.keys.tried) && sameState(trust, r.trust.tried)
	if again && time.Since(r.tried) < renewalPause {
		return nil, nil
	}
	next, err := r.read()
	if err != nil {
		r.tried, r.keys.tried, r.trust.tried = time.Now(), keys, trust
		missing := errors.Is(errors.Join(keysErr, trustErr), fs.ErrNotExist)
		if missing && !again || err.Error() == r.told { // it may be between two versions, as some tools replace a file
			return nil, nil
		}
		r.told = err.Error()
		return nil, err
	}
	r.tried, r.told = time.Time{}, ""
	r.keys.used, r.trust.used = keys, trust // from before the reading: what changed meanwhile is read again
	return next, nil
}

func (r *renewal) read() (*ServerTLS, error) {
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
	store, err := readStore(w.path, w.format, w.password, readRegular)
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
	store, err := readStore(w.path, w.format, w.password, readRegular)
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
