// Package preflight tries everything that a topology connects to, before anything runs: brokers, topics, schema registries,
// services and certificates. It changes nothing and starts nothing, but that Kafka notes a transactional id for each remote with exactly-once.
//
// It knows nothing of how findings are shown.
package preflight

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"kafkagrpc/topology"
)

// Level is how bad a finding is.
type Level string

const (
	OK     Level = "ok"
	Warn   Level = "warn" // it works, and not for long, or not for all
	Failed Level = "FAILED"
)

// Finding is the result of one trial.
type Finding struct {
	What   string `json:"what"` // certificate, broker, topic, limit, transactions, registry, schema, guard or target
	Name   string `json:"name"`
	Result Level  `json:"result"`
	Detail string `json:"detail"`
}

// renewalTime is how many days before its end a certificate is a warning: those that are renewed by machines have been by then.
const renewalTime = 14 * 24 * time.Hour

// Run tries all of a topology. The findings are in a fixed order: certificates, then brokers, topics and transactions of each cluster, then
// schema registries, then guards, then targets.
func Run(ctx context.Context, t *topology.Topology) []Finding {
	var all []Finding
	all = append(all, ownCertificates(t)...)
	for _, c := range t.Clusters() {
		all = append(all, cluster(ctx, t, c)...)
	}
	all = append(all, registries(ctx, t)...)
	all = append(all, guards(ctx, t)...)
	return append(all, targets(ctx, t)...)
}

// ownCertificates are those of the keystores.
func ownCertificates(t *topology.Topology) []Finding {
	var all []Finding
	add := func(owner string, certificates []tls.Certificate) {
		for _, c := range certificates {
			f := Finding{What: "certificate", Name: owner + " " + subject(c.Leaf)}
			f.Result, f.Detail = lifetime(c.Leaf)
			if !slices.Contains(all, f) {
				all = append(all, f)
			}
		}
	}
	outward := func(c *topology.ClientTLS) {
		if c != nil {
			add(c.Binding, c.Config.Certificates)
		}
	}
	for _, l := range t.Listeners {
		if l.TLS != nil {
			add(l.Binding, l.TLS.Certificates)
		}
	}
	for _, c := range t.Clusters() {
		outward(c.TLS)
	}
	for _, r := range t.Registries {
		outward(r.TLS)
	}
	for _, target := range t.Targets() {
		outward(target.TLS)
	}
	return all
}

func subject(c *x509.Certificate) string {
	if name := c.Subject.String(); name != "" {
		return name
	}
	return "serial " + c.SerialNumber.String()
}

// lifetime says how long a certificate is good for.
func lifetime(c *x509.Certificate) (Level, string) {
	now := time.Now()
	days := int(c.NotAfter.Sub(now).Hours() / 24)
	date := c.NotAfter.UTC().Format(time.DateOnly)
	switch {
	case now.Before(c.NotBefore):
		return Failed, "is not valid before " + c.NotBefore.UTC().Format(time.DateOnly)
	case now.After(c.NotAfter):
		return Failed, fmt.Sprintf("expired %d days ago, on %s", -days, date)
	case c.NotAfter.Sub(now) < renewalTime:
		return Warn, fmt.Sprintf("expires in %d days, on %s", days, date)
	}
	return OK, fmt.Sprintf("expires in %d days, on %s", days, date)
}

// secured adds to a connection's finding what its TLS says.
func (f *Finding) secured(state *tls.ConnectionState) {
	if state == nil {
		return
	}
	level, text := lifetime(state.PeerCertificates[0])
	f.Detail += ", " + tls.VersionName(state.Version) + ", its certificate " + text
	if f.Result == OK {
		f.Result = level
	}
}
