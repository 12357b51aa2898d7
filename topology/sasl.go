package topology

import (
	"net/url"
	"regexp"
	"strings"
)

// saslOf is what the values of a file mean: each mechanism has its own. Filled is a text with what the guard knows.
func (c *compiler) saslOf(values saslValues, guard string, secured bool, filled func(text) string) *SASL {
	s := &SASL{Guard: guard, Mechanism: values.Mechanism.value}
	e := &values.Endpoint
	endpoint := []saslKey{
		{"token-endpoint.url", e.URL}, {"token-endpoint.client-id", e.ClientID}, {"token-endpoint.client-secret", e.ClientSecret},
		{"token-endpoint.scope", e.Scope}, {"token-endpoint.audience", e.Audience},
	}
	fromEndpoint := false
	for _, k := range endpoint {
		fromEndpoint = fromEndpoint || k.text.given
	}
	password := []saslKey{{"username", values.Username}, {"password", values.Password}}
	token := []saslKey{{"token", values.Token}}
	region := []saslKey{{"region", values.Region}}
	if !values.Mechanism.ok {
		return s
	}
	switch s.Mechanism {
	case "plain", "scram-sha-256", "scram-sha-512":
		c.saslKeys(&values, password, token, endpoint, region)
		s.Username, s.Password = filled(values.Username), Secret(filled(values.Password))
	case "oauthbearer":
		if fromEndpoint {
			c.saslKeys(&values, endpoint[:3], password, token, region)
			s.Endpoint = TokenEndpoint{URL: c.tokenURL(e.URL), ClientID: filled(e.ClientID), ClientSecret: Secret(filled(e.ClientSecret)), Scope: e.Scope.value, Audience: e.Audience.value}
			break
		}
		if !values.Token.given {
			c.report.problem(values.at, "%s: oauthbearer needs a `token`, or a `token-endpoint` that gives tokens; add one", values.place)
		}
		c.saslKeys(&values, nil, password, region)
		if s.Token = Secret(filled(values.Token)); values.Token.ok && !legalToken.MatchString(string(s.Token)) {
			c.report.problem(values.Token.position, "%s has characters that no token can have", values.Token.place)
		}
	case "aws-msk-iam":
		c.saslKeys(&values, region, password, token, endpoint)
		if s.Region = values.Region.value; values.Region.ok && !legalRegion.MatchString(s.Region) {
			c.report.problem(values.Region.position, "%s: `%s` is no name of a region, such as eu-central-1", values.Region.place, values.Region.raw)
		}
	}
	switch {
	case secured:
	case s.Mechanism == "plain":
		c.report.warn(values.at, "%s: without a tls client binding the password is sent in the clear; add one, or use scram-sha-512", values.place)
	case s.Mechanism == "oauthbearer", s.Mechanism == "aws-msk-iam":
		c.report.warn(values.at, "%s: without a tls client binding the token is sent in the clear, and whoever reads it may use it; add one", values.place)
	}
	return s
}

// saslKey is a key of the values of a mechanism.
type saslKey struct {
	key  string
	text text
}

// saslKeys reports the keys that a mechanism needs and lacks, and those of others.
func (c *compiler) saslKeys(values *saslValues, needs []saslKey, others ...[]saslKey) {
	mechanism := values.Mechanism.value
	for _, k := range needs {
		if !k.text.given {
			c.report.problem(values.at, "%s is missing: %s needs it", values.place.key(k.key), mechanism)
		}
	}
	for _, keys := range others {
		for _, k := range keys {
			if k.text.given {
				c.report.problem(k.text.position, "%s is nothing that %s takes here; remove it", k.text.place, mechanism)
			}
		}
	}
}

var (
	legalToken  = regexp.MustCompile(`^[A-Za-z0-9._~+/-]+=*$`) // of RFC 6750
	legalRegion = regexp.MustCompile(`^[a-z]{2,}(-[a-z]+)+-[0-9]+$`)
)

// tokenURL is where tokens come from. What is wrong with it is told without the url, which may hold a password.
func (c *compiler) tokenURL(t text) string {
	if !t.ok {
		return ""
	}
	at, err := url.Parse(t.value)
	if err != nil || at.Scheme != "http" && at.Scheme != "https" || at.Hostname() == "" || at.Fragment != "" {
		c.report.problem(t.position, "%s must be a url such as https://issuer.example/token", t.place)
		return ""
	}
	if at.User != nil {
		c.report.problem(t.position, "%s names a user; take `client-id` and `client-secret` for that", t.place)
		return ""
	}
	if at.Scheme == "http" {
		c.report.warn(t.position, "%s sends the secret of the client in the clear; use a url with https", t.place)
	}
	return at.String()
}

// text is the mechanism with where its tokens come from, without what a query may hold.
func (s *SASL) text() string {
	switch {
	case s == nil:
		return ""
	case s.Endpoint.URL != "":
		from, _, _ := strings.Cut(s.Endpoint.URL, "?")
		return s.Mechanism + " with tokens from " + from
	case s.Region != "":
		return s.Mechanism + " in " + s.Region
	}
	return s.Mechanism
}
