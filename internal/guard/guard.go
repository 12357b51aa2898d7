// Package guard tells who calls: by tokens that an issuer has signed, or by the certificates of connections.
//
// It knows nothing of gRPC, of routes, and of what a caller may do.
package guard

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"kafkagrpc/topology"
)

// Caller is what a guard knows of who calls. It is read-only.
type Caller struct {
	Identity string // "": the token, or the certificate, names nobody
	Roles    []string
	Until    time.Time // what it is known from counts no longer then

	attributes map[string]string
}

// Attribute is what is known under a name of the guard's attributes; the identity is "". What is not known is "".
func (c *Caller) Attribute(name string) string {
	if name == "" {
		return c.Identity
	}
	return c.attributes[name]
}

// Has reports whether the caller has all roles.
func (c *Caller) Has(roles []string) bool {
	return !slices.ContainsFunc(roles, func(role string) bool { return !slices.Contains(c.Roles, role) })
}

// Reason says in a word why a guard does not know a caller. There are few.
type Reason string

const (
	Missing     Reason = "missing"       // the caller has sent nothing
	Malformed   Reason = "malformed"     // it is no token that could be looked at
	TooLarge    Reason = "too_large"     // it is longer than tokens are
	Algorithm   Reason = "algorithm"     // it is signed in a way that proves nothing, or not as the key is used
	UnknownKey  Reason = "unknown_key"   // the issuer has no such key
	Signature   Reason = "signature"     // the issuer's key has not signed it
	Issuer      Reason = "issuer"        // another one has made it
	Audience    Reason = "audience"      // it was made for others
	Expired     Reason = "expired"       // it counts no longer
	NotYetValid Reason = "not_yet_valid" // it does not count yet
	Role        Reason = "role"          // the caller is known, and lacks a role
	Attribute   Reason = "attribute"     // the caller is known, and lacks what a value is made of
)

// Refusal is why a guard does not know a caller. It repeats nothing of what the caller has sent.
type Refusal struct {
	Guard  string
	Reason Reason
	what   string
}

func (r *Refusal) Error() string { return "guard " + r.Guard + ": " + r.what }

// Leeway is how far the clocks of an issuer and of this side may be apart.
const Leeway = time.Minute

// Options of a Set.
type Options struct {
	Log *slog.Logger // default: none
	// KeysFailed is told of each time that keys of a guard could not be fetched. Default: nobody is.
	KeysFailed func(guard string)
	Transport  http.RoundTripper // to issuers; default: that of the process
}

// Set are the guards of a topology. It is safe for concurrent use.
type Set struct {
	tokens       map[string]*tokens
	certificates map[string]*topology.X509Guard
}

// NewSet prepares guards. It fetches nothing yet.
func NewSet(guards []*topology.Guard, o Options) *Set {
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if o.KeysFailed == nil {
		o.KeysFailed = func(string) {}
	}
	if o.Transport == nil {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.DisableKeepAlives = true // a question in minutes
		o.Transport = transport
	}
	s := &Set{tokens: map[string]*tokens{}, certificates: map[string]*topology.X509Guard{}}
	for _, g := range guards {
		if g.X509 != nil {
			s.certificates[g.Name] = g.X509
		} else {
			s.tokens[g.Name] = newTokens(g.Name, g.JWT, o)
		}
	}
	return s
}

// Fetch gets the keys of some guards that are not in the file, of all where none is named, and tells whose keys are not to be had before
// ctx ends.
func (s *Set) Fetch(ctx context.Context, guards ...string) error {
	var fetching errgroup.Group
	errs := make(chan error, len(s.tokens))
	for _, t := range s.tokens {
		if len(guards) > 0 && !slices.Contains(guards, t.name) {
			continue
		}
		fetching.Go(func() error {
			errs <- t.keys.first(ctx)
			return nil
		})
	}
	_ = fetching.Wait()
	close(errs)
	var all []error
	for err := range errs {
		all = append(all, err)
	}
	slices.SortFunc(all, func(a, b error) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return errors.Join(all...)
}

// Keys are the names of the keys of a guard of tokens.
func (s *Set) Keys(guard string) []string { return names(s.tokens[guard].keys.all()) }

// Run follows the keys until ctx ends.
func (s *Set) Run(ctx context.Context) {
	var following errgroup.Group
	for _, t := range s.tokens {
		following.Go(func() error {
			t.keys.follow(ctx)
			return nil
		})
	}
	_ = following.Wait()
	<-ctx.Done() // also where no keys are followed
}

// Token is who calls with a token. An error is a *Refusal, or that of ctx.
func (s *Set) Token(ctx context.Context, guard, token string) (*Caller, error) {
	if token == "" {
		return nil, &Refusal{guard, Missing, "the call has no token"}
	}
	return s.tokens[guard].caller(ctx, token)
}

// Certificate is who calls from a connection whose verified certificate is given; nil for none. An error is a *Refusal.
func (s *Set) Certificate(guard string, of *x509.Certificate) (*Caller, error) {
	if of == nil {
		return nil, &Refusal{guard, Missing, "the connection has no certificate"}
	}
	if !time.Now().Before(of.NotAfter) {
		return nil, &Refusal{guard, Expired, "the certificate of the connection has expired"}
	}
	return ofCertificate(s.certificates[guard], of), nil
}

// ofCertificate reads a certificate.
func ofCertificate(g *topology.X509Guard, of *x509.Certificate) *Caller {
	first := func(f topology.CertificateField) string {
		if values := f.Of(of); len(values) > 0 {
			return values[0]
		}
		return ""
	}
	c := &Caller{Identity: first(g.Identity), Until: of.NotAfter, attributes: map[string]string{}}
	for _, a := range g.Attributes {
		c.attributes[a.Name] = first(topology.CertificateField(a.From))
	}
	for _, r := range g.Roles {
		lacks := func(v topology.CertificateValue) bool { return !slices.Contains(v.Field.Of(of), v.Value) }
		if !slices.ContainsFunc(r.Fields, lacks) && !slices.Contains(c.Roles, r.Role) {
			c.Roles = append(c.Roles, r.Role)
		}
	}
	return c
}
