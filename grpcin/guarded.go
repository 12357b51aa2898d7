package grpcin

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"kafkagrpc/internal/guard"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

// asker asks guards who makes a call, each once. It is of one goroutine.
type asker struct {
	*Server
	table *table
	ctx   context.Context
	asked []answer
}

type answer struct {
	guard  string
	caller *guard.Caller
	err    error
}

// caller is who calls, as a guard knows it.
func (a *asker) caller(name string) (*guard.Caller, error) {
	for _, known := range a.asked {
		if known.guard == name {
			return known.caller, known.err
		}
	}
	made := answer{guard: name}
	i := slices.IndexFunc(a.table.Tokens, func(s topology.TokenSource) bool { return s.Guard == name })
	if i < 0 {
		made.caller, made.err = a.table.guards.Certificate(name, certificateOf(a.ctx))
	} else {
		made.caller, made.err = a.table.guards.Token(a.ctx, name, tokenOf(a.ctx, a.table.Tokens[i]))
	}
	a.asked = append(a.asked, made)
	return made.caller, made.err
}

// known is what a guard that a route is guarded by knows of the caller.
func (a *asker) known(name, attribute string) string {
	c, err := a.caller(name)
	if err != nil {
		return ""
	}
	return c.Attribute(attribute)
}

// passes reports why a caller may not take a route; nil: it may.
func (a *asker) passes(r topology.NorthRoute) error {
	for _, d := range r.Guarded {
		c, err := a.caller(d.Guard)
		if err != nil {
			return err
		}
		if !c.Has(d.Roles) {
			return &lacks{d.Guard, guard.Role, "the caller lacks a role of " + strings.Join(d.Roles, ", ")}
		}
	}
	return nil
}

// until is when the first of what the caller is known from counts no longer.
func (a *asker) until(r topology.NorthRoute) (first time.Time) {
	for _, d := range r.Guarded {
		if c, err := a.caller(d.Guard); err == nil && (first.IsZero() || c.Until.Before(first)) {
			first = c.Until
		}
	}
	return first
}

// lacks is why a caller that is known may not take a route.
type lacks struct {
	guard  string
	reason guard.Reason
	what   string
}

func (l *lacks) Error() string { return "guard " + l.guard + ": " + l.what }

// refused is the status of a call that guards keep from all routes that would take it.
func (s *Server) refused(name string, err error) error {
	code := codes.Unauthenticated
	var refusal *guard.Refusal
	var lack *lacks
	var by string
	var reason guard.Reason
	switch {
	case errors.As(err, &refusal):
		by, reason = refusal.Guard, refusal.Reason
	case errors.As(err, &lack):
		code, by, reason = codes.PermissionDenied, lack.guard, lack.reason
	default:
		return status.FromContextError(err).Err()
	}
	s.options.Telemetry.Metrics.Refused(by, string(reason))
	const what = "a call is refused by its guard"
	s.logged.Of(what+string(reason)).Log(s.options.Log, slog.LevelInfo, what, "guard", by, "reason", string(reason), "method", name)
	return status.Error(code, err.Error())
}

// tokenOf is what a caller has sent for a guard, "" for nothing.
func tokenOf(ctx context.Context, from topology.TokenSource) string {
	for _, p := range from.Headers {
		for _, value := range metadata.ValueFromIncomingContext(ctx, p.Name) {
			if token, ok := within(value, p); ok {
				return token
			}
		}
	}
	for _, p := range from.Cookies {
		for _, line := range metadata.ValueFromIncomingContext(ctx, "cookie") {
			cookies, _ := http.ParseCookie(line) // what is none of it is no token
			for _, c := range cookies {
				if token, ok := within(c.Value, p); c.Name == p.Name && ok {
					return token
				}
			}
		}
	}
	return ""
}

// within is what stands between the texts of a place. The first is told apart by case no more than schemes such as Bearer are.
func within(value string, p topology.TokenPlace) (string, bool) {
	if len(value) < len(p.Before)+len(p.After) || !strings.EqualFold(value[:len(p.Before)], p.Before) || !strings.HasSuffix(value, p.After) {
		return "", false
	}
	return strings.TrimSpace(value[len(p.Before) : len(value)-len(p.After)]), true
}

// certificateOf is the verified certificate of a connection; nil for none.
func certificateOf(ctx context.Context) *x509.Certificate {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	info := p.AuthInfo
	if heard, ok := info.(heardInfo); ok {
		info = heard.AuthInfo
	}
	if secured, ok := info.(credentials.TLSInfo); ok && len(secured.State.VerifiedChains) > 0 {
		return secured.State.VerifiedChains[0][0]
	}
	return nil
}

// withoutTokens is the metadata that a call's records may have: no tokens, which would count for as long as Kafka keeps them, and
// nothing that a caller says of itself in place of its guard.
func (s *Server) withoutTokens(m wire.Metadata, route topology.NorthRoute) wire.Metadata {
	tokens := s.table.Load().Tokens
	if len(tokens) == 0 && len(route.Callers) == 0 {
		return m
	}
	return slices.DeleteFunc(m, func(f wire.Field) bool {
		for _, t := range tokens {
			if f.Name == "cookie" && len(t.Cookies) > 0 || slices.ContainsFunc(t.Headers, func(p topology.TokenPlace) bool { return p.Name == f.Name }) {
				return true
			}
		}
		return slices.ContainsFunc(route.Callers, func(v topology.CallerValue) bool {
			return v.Filter == 0 && v.Header >= 0 && strings.EqualFold(route.Overrides[v.Header].Name, "meta:"+f.Name)
		})
	})
}

// filled is a route with what guards know of the caller in its values.
func (a *asker) filled(r topology.NorthRoute) (topology.NorthRoute, error) {
	filled, missing := r.Fill(a.known)
	if missing != nil {
		what := "it does not know who the caller is"
		if missing.Attribute != "" {
			what = "it does not know the " + missing.Attribute + " of the caller"
		}
		return r, &lacks{missing.Guard, guard.Attribute, what + ", which the route needs"}
	}
	if len(r.Callers) > 0 {
		d, err := filled.Contract.DecodeRequest(filled.Overrides, time.Time{})
		if err != nil || d.LeftOut.Count > 0 {
			return r, &lacks{r.Callers[0].Parts[0].Guard, guard.Attribute, "what it knows of the caller cannot be metadata"}
		}
	}
	return filled, nil
}

// ends is a timer for the end of what the caller is known from, which a stream must not outlive.
func (c *call) ends() (ended <-chan time.Time, stop func()) {
	if c.until.IsZero() || !c.streams() {
		return nil, func() {}
	}
	t := time.NewTimer(time.Until(c.until))
	return t.C, func() { t.Stop() }
}

var errTokenEnded = status.Error(codes.Unauthenticated, "what the caller is known from has expired during the call; call again with another token or certificate")

// guardReflection lets those look at what there is to call who may call some of it.
func (s *Server) guardReflection(service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if strings.HasPrefix(info.FullMethod, "/grpc.reflection.") && service != nil { // else a route has taken it
		if err := s.mayLook(stream.Context()); err != nil {
			return err
		}
	}
	return handler(service, stream)
}

func (s *Server) mayLook(ctx context.Context) error {
	a := &asker{Server: s, table: s.table.Load(), ctx: ctx}
	var first error
	for _, r := range a.table.Routes {
		err := a.passes(r)
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	if first == nil {
		return nil // there is nothing to see
	}
	return s.refused("reflection", first)
}
