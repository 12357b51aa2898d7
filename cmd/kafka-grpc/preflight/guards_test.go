package preflight_test

import (
	"testing"
	"time"

	"kafkagrpc/internal/issuertest"
	"kafkagrpc/internal/pkitest"
	"kafkagrpc/topology"
)

func TestGuards(t *testing.T) {
	t.Parallel()
	authority := pkitest.NewAuthority(t, "authority")
	w := newWorld(t, authority, authority.Issue(t, "server.example"), time.Now().Add(100*24*time.Hour), "requests", "replies")
	issuer, other := issuertest.Start(t), issuertest.Start(t)
	w.topology.Guards = []*topology.Guard{
		{Name: "people", JWT: &topology.JWTGuard{Issuer: issuer.URL}},
		{Name: "machines", X509: &topology.X509Guard{}},
		{Name: "partners", JWT: &topology.JWTGuard{Keys: other.JWKS().Keys}},
	}
	found := w.run(t)
	expect(t, found[len(found)-3:],
		[3]string{"guard", "ok", "people: 1 keys: key-1"},
		[3]string{"guard", "ok", "partners: 1 keys: key-1"},
		[3]string{"target", "ok", ""})
	issuer.Down(true)
	found = w.run(t)
	expect(t, found[len(found)-3:],
		[3]string{"guard", "FAILED", "people: guard people: the keys that sign tokens cannot be fetched: " + issuer.URL + "/.well-known/openid-configuration: 503 Service Unavailable"},
		[3]string{"guard", "ok", "partners"},
		[3]string{"target", "ok", ""})
}
