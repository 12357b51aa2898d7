package topology

import (
	"crypto/tls"
	"crypto/x509"
	"slices"
	"strings"
	"time"

	"kafkagrpc/internal/revocation"
)

// serverTLS is what a tls server presents. It is made once for each binding.
func (c *compiler) serverTLS(b *binding, spec *tlsServer) *ServerTLS {
	if t, done := c.tls[b.name]; done {
		return t
	}
	o := &spec.Options
	t := &ServerTLS{ALPN: []string{"h2"}}
	c.tls[b.name] = t
	for _, name := range o.SNI {
		if name.ok {
			t.ServerNames = append(t.ServerNames, name.value)
		}
	}
	var browsers *Browsers
	if to, _ := c.gates(b); to != nil {
		browsers = c.browsers(to, to.spec.(*httpServer))
	}
	http1 := browsers != nil && browsers.HTTP1
	c.alpn(b, o.ALPN, http1)
	if http1 && (len(o.ALPN) == 0 || slices.ContainsFunc(o.ALPN, func(name text) bool { return name.value == "http/1.1" })) {
		t.ALPN = append(t.ALPN, "http/1.1")
	}
	v := c.vault(spec.Vault)
	if v == nil {
		return t
	}
	watched := &renewal{keys: c.watch(v.Options.Keys.store, o.Keys)} // before the stores are read
	if len(o.Trust) > 0 {
		watched.trust = c.watch(v.Options.Trust.store, o.Trust)
	}
	t.Certificates = c.certificates(spec.Vault, v, o.Keys)
	for _, name := range o.SNI {
		covers := func(certificate tls.Certificate) bool { return certificate.Leaf.VerifyHostname(name.value) == nil }
		if name.ok && len(t.Certificates) > 0 && !slices.ContainsFunc(t.Certificates, covers) {
			c.report.warn(name.position, "%s: no certificate of `options.keys` is for `%s`; clients that ask for it will refuse what they get", name.place, name.raw)
		}
	}
	if t.ClientAuth = clientAuth(spec); t.ClientAuth == tls.NoClientCert {
		for _, alias := range o.Trust {
			c.report.warn(alias.position, "%s has no effect: `mutual` is none, so clients are not asked for a certificate", alias.place)
		}
	} else {
		t.ClientCAs = c.roots(b.spot, spec.Vault, o.Trust, o.TrustCACerts)
		if len(o.Trust) == 0 && o.Mutual.ok {
			c.report.warn(o.Mutual.position, "%s: without `trust` every client with a certificate of the system's authorities is let in; name yours", o.Mutual.place)
		}
		watched.system = trustsSystem(o.Trust, o.TrustCACerts)
		t.VerifyConnection = c.revocation(spec.Vault, v)
	}
	watched.constant = *t
	t.Renew = watched.renew
	return t
}

// clientAuth is what clients must show. As in the original a trust store means a certificate, unless `mutual` says otherwise.
func clientAuth(spec *tlsServer) tls.ClientAuthType {
	mutual := spec.Options.Mutual.value
	if !spec.Options.Mutual.given && len(spec.Options.Trust) > 0 {
		mutual = "required"
	}
	return map[string]tls.ClientAuthType{"required": tls.RequireAndVerifyClientCert, "requested": tls.VerifyClientCertIfGiven}[mutual]
}

// clientTLS is how connections through a tls client are secured. It is made once for each binding.
func (c *compiler) clientTLS(b *binding, spec *tlsClient) *ClientTLS {
	if t, done := c.outward[b.name]; done {
		return t
	}
	o := &spec.Options
	t := &ClientTLS{Binding: b.name}
	c.outward[b.name] = t
	c.alpn(b, o.ALPN, false)
	t.Config = c.outwardTLS(b.spot, spec.Vault, &o.outward)
	return t
}

// outwardTLS is the TLS of the connections that a binding, or something else with a vault, makes.
func (c *compiler) outwardTLS(of spot, vault text, o *outward) *tls.Config {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(o.SNI) > 1 {
		c.report.problem(o.SNI[1].position, "%s: a tls client takes one name, which the server's certificate must have; remove the others", o.SNI[1].place)
	}
	if len(o.SNI) > 0 && o.SNI[0].ok {
		config.ServerName = o.SNI[0].value
	}
	if needs := slices.Concat(o.Keys, o.Trust); len(needs) > 0 && !vault.given {
		c.report.problem(needs[0].position, "%s: %s names no `vault` to take it from; add one", needs[0].place, of.place)
		return config
	}
	if len(o.Keys) > 0 {
		if v := c.vault(vault); v != nil {
			config.Certificates = c.certificates(vault, v, o.Keys)
		}
	}
	config.RootCAs = c.roots(of, vault, o.Trust, o.TrustCACerts)
	config.VerifyConnection = c.revocation(vault, c.vault(vault))
	return config
}

// revocation is what holds certificates against the lists of their issuers, where a vault says so. The lists are fetched when a connection
// is made, and not here.
func (c *compiler) revocation(name text, v *vault) func(tls.ConnectionState) error {
	if v == nil || v.Options.Revocation.value == "" {
		return nil
	}
	c.revoking[name.value] = true
	return revocation.Check
}

// revocationLists is the word of the file for what holds certificates against lists, "" for nothing.
func revocationLists(verify func(tls.ConnectionState) error) string {
	if verify == nil {
		return ""
	}
	return "crl"
}

// unusedRevocation reports vaults with which nobody's certificate is verified.
func (c *compiler) unusedRevocation() {
	for _, v := range c.doc.Vaults {
		if r := v.value.Options.Revocation; r.ok && !c.revoking[v.name.value] {
			c.report.warn(r.position, "%s has no effect: no binding verifies certificates with this vault", r.place)
		}
	}
}

// alpn checks the protocols that a tls binding offers: http/1.1 where browsers may speak it.
func (c *compiler) alpn(b *binding, names []text, http1 bool) {
	h2 := len(names) == 0
	for _, name := range names {
		h2 = h2 || !name.ok || name.value == "h2"
		if name.ok && name.value != "h2" && !(name.value == "http/1.1" && http1) {
			c.report.warn(name.position, "%s has no effect: only h2 is spoken", name.place)
		}
	}
	if !h2 {
		c.report.problem(names[0].position, "%s must name h2: gRPC needs HTTP/2", place{b.place.owner, "options.alpn"})
	}
}

// vault is what a binding names, or nil, which is reported.
func (c *compiler) vault(name text) *vault {
	if !name.ok {
		return nil
	}
	v, ok := c.doc.Vaults.get(name.value)
	if !ok {
		c.report.problem(name.position, "%s names vault `%s`, which does not exist%s", name.place, name.raw, hint(name.value, c.doc.Vaults.names()))
		return nil
	}
	return v
}

// certificates are the keys of a vault that a binding names, with their certificates.
func (c *compiler) certificates(vault text, v *vault, aliases []text) []tls.Certificate {
	keys := c.keystore(vault.value, v)
	if keys == nil {
		return nil
	}
	var all []tls.Certificate
	for _, alias := range aliases {
		if !alias.ok || c.closed(alias, v.Options.Keys.store) {
			continue
		}
		certificate, name, err := certificateOf(keys, alias.value)
		if err != nil {
			c.report.cause(err, alias.position, "%s: keystore `%s` of %s cannot be used: %v", alias.place, v.Options.Keys.Store.raw, v.place, err)
			continue
		}
		if certificate == nil {
			c.report.problem(alias.position, "%s: keystore `%s` has no key `%s`; it has %s", alias.place, v.Options.Keys.Store.raw, alias.raw,
				listed(keys.Keys()))
			continue
		}
		c.unnamed(alias, name)
		if end := certificate.Leaf.NotAfter; time.Now().After(end) {
			c.report.warn(alias.position, "%s: the certificate of key `%s` expired on %s; the other side will refuse it", alias.place, alias.raw, end.Format(time.DateOnly))
		}
		all = append(all, *certificate)
	}
	return all
}

// trustsSystem: the authorities of the system count where `trustcacerts` says so, or where nothing says whom to trust.
func trustsSystem(aliases []text, system text) bool {
	return system.value == "true" || !system.given && len(aliases) == 0
}

// roots are the authorities that a binding trusts: those that it names, and the system's where it says so or names none.
func (c *compiler) roots(of spot, vault text, aliases []text, system text) *x509.CertPool {
	pool := x509.NewCertPool()
	if trustsSystem(aliases, system) {
		var err error
		if pool, err = x509.SystemCertPool(); err != nil {
			c.report.cause(err, of.at, "%s trusts the authorities of the system, which cannot be read: %v; name yours in `trust`", of.place, err)
			return nil
		}
	}
	if len(aliases) == 0 {
		if system.ok && system.value == "false" {
			c.report.problem(system.position, "%s trusts nobody: `trustcacerts` is false and `trust` is missing; add it", of.place)
		}
		return pool
	}
	v := c.vault(vault)
	if v == nil {
		return pool
	}
	store := c.trustStore(vault.value, v)
	if store == nil {
		return pool
	}
	for _, alias := range aliases {
		if !alias.ok || c.closed(alias, v.Options.Trust.store) {
			continue
		}
		certificate, name, err := store.Certificate(alias.value)
		if err != nil {
			c.report.cause(err, alias.position, "%s: trust store `%s` of %s cannot be used: %v", alias.place, v.Options.Trust.Store.raw, v.place, err)
			continue
		}
		if certificate == nil {
			c.report.problem(alias.position, "%s: trust store `%s` has no certificate `%s`; it has %s", alias.place, v.Options.Trust.Store.raw, alias.raw,
				listed(store.Certificates()))
			continue
		}
		c.unnamed(alias, name)
		if end := certificate.NotAfter; time.Now().After(end) {
			c.report.warn(alias.position, "%s: the certificate `%s` expired on %s; nobody whom it signed is trusted", alias.place, alias.raw, end.Format(time.DateOnly))
		}
		pool.AddCert(certificate)
	}
	return pool
}

// unnamed tells that something was taken that has no name in its store. Java, which calls it by a number, would not take it.
func (c *compiler) unnamed(alias text, name string) {
	if !strings.EqualFold(alias.value, name) {
		c.report.warn(alias.position, "%s: what is taken for `%s` has no name in its store, where it is alone; Java calls it `%s`", alias.place, alias.raw, name)
	}
}
