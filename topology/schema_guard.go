package topology

import (
	"encoding/json"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/goccy/go-yaml/ast"
)

// callerGuard is one of a type that tells who calls.
type callerGuard interface {
	kind() string
	compile(c *compiler, g *Guard, of *guard)
}

// jwtGuard knows callers by tokens that somebody has signed.
type jwtGuard struct {
	Type    text `yaml:"type" doc:"what kind of thing it is"`
	Options struct {
		Issuer     text        `yaml:"issuer" doc:"what tokens must have as iss; without keys, where they are looked for"`
		Audience   text        `yaml:"audience" doc:"what tokens must have in aud"`
		Keys       jwtKeys     `yaml:"keys" doc:"URL of a JWKS, or the public keys themselves; without it, those that the issuer names"`
		Identity   text        `yaml:"identity" doc:"the claim that names the caller; without it, sub"`
		Roles      text        `yaml:"roles" doc:"the claim with the roles of the caller; without it, scope"`
		Attributes named[text] `yaml:"attributes" doc:"claims that expressions may have, by their names there"`
		Challenge  anything    `yaml:"challenge" instead:"a call cannot be asked for another token; one that is open when its token ends does so with UNAUTHENTICATED, and the caller calls again"`
	} `yaml:"options"`
}

func (*jwtGuard) kind() string { return "jwt" }

// x509Guard knows callers by the certificates of their connections.
type x509Guard struct {
	Type    text `yaml:"type" doc:"what kind of thing it is"`
	Options struct {
		Identity   certificateField        `yaml:"identity" doc:"the field that names the caller; without it, subject.dn"`
		Attributes named[certificateField] `yaml:"attributes" doc:"fields that expressions may have, by their names there"`
		Roles      named[[]named[text]]    `yaml:"roles" doc:"roles, each with certificates that have it: all fields of one entry"`
	} `yaml:"options"`
	Vault anything `yaml:"vault" instead:"the tls server verifies certificates, with its own vault and trust"`
}

func (*x509Guard) kind() string { return "x509" }

// jwtKeys are a URL, or keys.
type jwtKeys struct {
	url  text
	keys []jwk
	at   position
}

func (k *jwtKeys) decode(d *decoder, n ast.Node, at position, p place) {
	k.at = at
	if _, ok := n.(*ast.SequenceNode); ok {
		d.value(n, at, valueOf(&k.keys), p, `need:"true"`)
		if len(k.keys) == 0 {
			d.report.problem(at, "%s is empty; add a key", p)
		}
		return
	}
	d.scalar(n, &k.url, p, `need:"true"`)
}

func (k *jwtKeys) shape() object {
	keys, _ := (&shapes{}).value(valueOf(&k.keys), `need:"true"`)
	return object{{"anyOf", []object{word(&text{}, `need:"true"`), keys}}}
}

// jwk is one public key.
type jwk struct {
	spot
	Kty text `yaml:"kty" need:"true" oneof:"RSA EC OKP" doc:"its type"`
	Kid text `yaml:"kid" doc:"its name in tokens"`
	Use text `yaml:"use" doc:"what it is for; not looked at"`
	Alg text `yaml:"alg" oneof:"RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA" doc:"the one algorithm that it is for; without it, those of its type"`
	N   text `yaml:"n" doc:"modulus of RSA"`
	E   text `yaml:"e" doc:"exponent of RSA"`
	Crv text `yaml:"crv" doc:"curve"`
	X   text `yaml:"x" doc:"x of a point"`
	Y   text `yaml:"y" doc:"y of a point"`
}

// key is nil where it is none, which is reported.
func (k *jwk) key(r *report) *jose.JSONWebKey {
	members := map[string]string{}
	for name, value := range map[string]text{"kty": k.Kty, "kid": k.Kid, "alg": k.Alg, "n": k.N, "e": k.E, "crv": k.Crv, "x": k.X, "y": k.Y} {
		if value.given && !value.ok {
			return nil
		}
		if value.given {
			members[name] = value.value
		}
	}
	encoded, err := json.Marshal(members)
	key := new(jose.JSONWebKey)
	if err == nil {
		err = key.UnmarshalJSON(encoded)
	}
	if err != nil {
		r.cause(err, k.at, "%s is no key: %s", k.place, strings.TrimPrefix(err.Error(), "go-jose/go-jose: "))
		return nil
	}
	return key
}

// httpAuthorization is how a guard gets what callers send.
type httpAuthorization struct {
	spot
	Credentials struct {
		Headers named[credentialPattern] `yaml:"headers" doc:"metadata with a token, by name: such as Bearer {credentials}"`
		Cookies named[credentialPattern] `yaml:"cookies" doc:"cookies with a token, by name"`
		Query   anything                 `yaml:"query" instead:"calls of gRPC have no query; let callers send metadata, or a cookie"`
	} `yaml:"credentials" doc:"where tokens are, the first that is there"`
}

// credentialPattern is a text around a token.
type credentialPattern struct {
	text
	before, after string
}

const credentialsPlaceholder = "{credentials}"

func (*credentialPattern) regexp() string { return `^[^{}]*\{credentials\}[^{}]*$` }

func (p *credentialPattern) parse(value string) string {
	before, after, found := strings.Cut(value, credentialsPlaceholder)
	if !found || strings.ContainsAny(before+after, "{}") {
		return "must have {credentials} once, such as Bearer {credentials}"
	}
	p.before, p.after = before, after
	return ""
}

// tlsAuthorization gives a guard the certificate of a client.
type tlsAuthorization struct {
	spot
	Credentials struct {
		Certificates text `yaml:"certificates" need:"true" oneof:"pem" doc:"the client's certificate is what the guard gets"`
	} `yaml:"credentials" doc:"what the guard gets"`
}
