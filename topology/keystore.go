package topology

import (
	"crypto/tls"
	"errors"
	"slices"
	"strings"

	"kafkagrpc/internal/keystore"
)

// readStore opens a store of a format, "" for either. A panic of a decoder is an error of the file.
func readStore(path, format, password string, read func(string) ([]byte, error)) (store *keystore.Store, err error) {
	data, err := read(path)
	if err != nil {
		return nil, &unreadable{err}
	}
	err = caught("the decoder of stores", func() (err error) {
		store, err = keystore.Open(data, format, password)
		return err
	})
	return store, err
}

// unreadable is what keeps a store from being read, before anything in it is looked at.
type unreadable struct{ error }

func (u *unreadable) Unwrap() error { return u.error }

// certificateOf is a key of a store as TLS takes it, with its name in the store, or nil where there is none of that name.
func certificateOf(store *keystore.Store, alias string) (certificate *tls.Certificate, name string, err error) {
	key, err := store.Key(alias)
	if key == nil || err != nil {
		return nil, "", err
	}
	certificate = &tls.Certificate{PrivateKey: key.Private, Leaf: key.Chain[0]}
	for _, c := range key.Chain {
		certificate.Certificate = append(certificate.Certificate, c.Raw)
	}
	return certificate, key.Alias, nil
}

// listed says what a store has.
func listed(aliases []string) string {
	if len(aliases) == 0 {
		return "none with a name"
	}
	quoted := make([]string, len(aliases))
	for i, a := range aliases {
		quoted[i] = "`" + a + "`"
	}
	return strings.Join(quoted, ", ")
}

// keystore opens the key store of a vault once. It is nil where that fails, which is reported.
func (c *compiler) keystore(name string, v *vault) *keystore.Store {
	s := v.Options.Keys
	if !s.Store.given && v.Type.ok && !c.seen(c.keystores, name) {
		c.report.problem(v.at, "%s has no `options.keys`; add the `store` with the keys of the tls bindings", v.place)
	}
	return c.openStore(c.keystores, name, v, s, "keystore", "keys")
}

// trustStore opens the trust store of a vault once, as keystore does.
func (c *compiler) trustStore(name string, v *vault) *keystore.Store {
	s := v.Options.Trust
	if !s.Store.given && v.Type.ok && !c.seen(c.trusted, name) {
		c.report.problem(v.at, "%s has no `options.trust`; add the `store` with the certificates that the tls bindings trust", v.place)
	}
	return c.openStore(c.trusted, name, v, s, "trust store", "trust")
}

func (c *compiler) seen(opened map[string]*keystore.Store, name string) bool {
	_, done := opened[name]
	return done
}

func (c *compiler) openStore(opened map[string]*keystore.Store, name string, v *vault, s storeFile, what, option string) *keystore.Store {
	if c.seen(opened, name) {
		return opened[name]
	}
	opened[name] = nil
	if !s.Store.ok || s.Password.given && !s.Password.ok || s.Type.given && !s.Type.ok {
		return nil
	}
	store, err := readStore(c.path(s.Store.value), s.Type.value, s.Password.value, func(path string) ([]byte, error) { return c.options.read(path, readRegular) })
	var before *unreadable
	switch {
	case errors.As(err, &before):
		c.report.cause(err, s.Store.position, "cannot read the %s of %s: %v", what, v.place, err)
	case errors.Is(err, keystore.ErrPassword):
		c.report.cause(err, s.Store.position, "the password of %s does not open %s `%s`; check `options.%s.password`", v.place, what, s.Store.raw, option)
	case err != nil:
		c.report.cause(err, s.Store.position, "%s `%s` of %s cannot be used: %v", what, s.Store.raw, v.place, err)
	default:
		opened[name] = store
		c.entries(store, s.store)
	}
	return opened[name]
}

// entries reports those that a vault lists and its store does not have.
func (c *compiler) entries(store *keystore.Store, s store) {
	for _, e := range s.Entries {
		if e.ok && !store.Has(e.value) {
			c.report.problem(e.position, "%s: store `%s` has no entry `%s`; it has %s", e.place, s.Store.raw, e.raw, listed(store.Aliases()))
		}
	}
}

// closed reports whether a vault lists the entries of a store that count, and leaves an alias out, which is reported.
func (c *compiler) closed(alias text, s store) bool {
	if s.Entries == nil || slices.ContainsFunc(s.Entries, func(e text) bool { return !e.ok || strings.EqualFold(e.value, alias.value) }) {
		return false
	}
	c.report.problem(alias.position, "%s: `entries` of store `%s` does not list `%s`; add it there, or leave `entries` away", alias.place, s.Store.raw, alias.raw)
	return true
}
