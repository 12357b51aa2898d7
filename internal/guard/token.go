package guard

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"kafkagrpc/topology"
)

// maxToken bounds what is looked at. Tokens are a kilobyte or two; those with many groups are several.
const maxToken = 16 << 10

// algorithms are those that a token may be signed with: never none, and none whose key makes tokens, too.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// tokens is a guard that knows callers by tokens.
type tokens struct {
	name  string
	spec  *topology.JWTGuard
	keys  *keys
	known *known
}

func newTokens(name string, spec *topology.JWTGuard, o Options) *tokens {
	t := &tokens{name: name, spec: spec, known: newKnown()}
	t.keys = newKeys(name, spec, o, t.known.forget)
	return t
}

func (t *tokens) refuse(r Reason, what string) error { return &Refusal{t.name, r, what} }

// caller is who calls with a token. Who has called with it before is known.
func (t *tokens) caller(ctx context.Context, token string) (*Caller, error) {
	if len(token) > maxToken {
		return nil, t.refuse(TooLarge, "the token is longer than 16 KiB")
	}
	c, generation := t.known.get(token)
	if c == nil {
		var err error
		if c, err = t.verified(ctx, token); err != nil {
			return nil, err
		}
		t.known.put(token, c, generation)
	}
	if !time.Now().Before(c.Until) {
		return nil, t.refuse(Expired, "the token has expired")
	}
	return c, nil
}

// verified looks at a token.
func (t *tokens) verified(ctx context.Context, token string) (*Caller, error) {
	parsed, err := jwt.ParseSigned(token, algorithms)
	var algorithm *jose.ErrUnexpectedSignatureAlgorithm
	switch {
	case errors.As(err, &algorithm):
		return nil, t.refuse(Algorithm, "the token is signed with an algorithm that is not taken; RSA, ECDSA and EdDSA are")
	case err != nil:
		return nil, t.refuse(Malformed, "what was sent is no signed JSON web token")
	}
	header := parsed.Headers[0]
	candidates, named := t.keys.of(header.KeyID)
	if !named {
		again, err := t.keys.again(ctx)
		if err != nil {
			return nil, err
		}
		if again {
			candidates, named = t.keys.of(header.KeyID)
		}
	}
	switch {
	case !named && header.KeyID == "":
		return nil, t.refuse(UnknownKey, "the token does not say which of the issuer's keys has signed it")
	case !named:
		return nil, t.refuse(UnknownKey, "the token is signed with a key that the issuer does not have")
	}
	candidates = slices.DeleteFunc(candidates, func(k jose.JSONWebKey) bool { return !fits(k, header.Algorithm) })
	if len(candidates) == 0 {
		return nil, t.refuse(Algorithm, "the token is signed with another algorithm than its key is for")
	}
	var claims jwt.Claims
	var all map[string]any
	err = errors.New("no key")
	for _, k := range candidates {
		if err = parsed.Claims(k.Key, &claims, &all); err == nil {
			break
		}
	}
	switch {
	case errors.Is(err, jose.ErrCryptoFailure):
		return nil, t.refuse(Signature, "the signature of the token is wrong")
	case err != nil:
		return nil, t.refuse(Malformed, "what the token claims cannot be read")
	}
	return t.validated(claims, all)
}

// validated is what the claims of a token that is signed say of who calls.
func (t *tokens) validated(claims jwt.Claims, all map[string]any) (*Caller, error) {
	expected := jwt.Expected{Issuer: t.spec.Issuer, Time: time.Now()}
	if t.spec.Audience != "" {
		expected.AnyAudience = jwt.Audience{t.spec.Audience}
	}
	if claims.Expiry == nil {
		return nil, t.refuse(Malformed, "the token has no exp, so it would count for ever")
	}
	switch err := claims.ValidateWithLeeway(expected, Leeway); {
	case errors.Is(err, jwt.ErrInvalidIssuer):
		return nil, t.refuse(Issuer, "the token is of another issuer")
	case errors.Is(err, jwt.ErrInvalidAudience):
		return nil, t.refuse(Audience, "the token is for another audience")
	case errors.Is(err, jwt.ErrExpired):
		return nil, t.refuse(Expired, "the token has expired")
	case errors.Is(err, jwt.ErrNotValidYet), errors.Is(err, jwt.ErrIssuedInTheFuture):
		return nil, t.refuse(NotYetValid, "the token does not count yet")
	case err != nil:
		return nil, t.refuse(Malformed, "the token is not valid")
	}
	c := &Caller{Identity: claimText(all[t.spec.Identity]), Roles: claimRoles(all[t.spec.Roles]), Until: claims.Expiry.Time().Add(Leeway), attributes: map[string]string{}}
	for _, a := range t.spec.Attributes {
		c.attributes[a.Name] = claimText(all[a.From])
	}
	return c, nil
}

// fits reports whether a key is for an algorithm. What the token says must not choose how the key is used.
func fits(k jose.JSONWebKey, algorithm string) bool {
	if k.Algorithm != "" && k.Algorithm != algorithm {
		return false
	}
	a := jose.SignatureAlgorithm(algorithm)
	switch key := k.Key.(type) {
	case *rsa.PublicKey:
		return slices.Contains([]jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512}, a)
	case *ecdsa.PublicKey:
		return a == map[elliptic.Curve]jose.SignatureAlgorithm{elliptic.P256(): jose.ES256, elliptic.P384(): jose.ES384, elliptic.P521(): jose.ES512}[key.Curve]
	case ed25519.PublicKey:
		return a == jose.EdDSA
	}
	return false
}

// claimText is a claim as a text; "" for what is none.
func claimText(claim any) string {
	switch v := claim.(type) {
	case string:
		return v
	case bool, float64:
		if text, err := json.Marshal(v); err == nil {
			return string(text)
		}
	}
	return ""
}

// claimRoles are those of a claim: a list, or a text with spaces between them.
func claimRoles(claim any) (roles []string) {
	switch v := claim.(type) {
	case string:
		return strings.Fields(v)
	case []any:
		for _, role := range v {
			if text, ok := role.(string); ok {
				roles = append(roles, text)
			}
		}
	}
	return roles
}
