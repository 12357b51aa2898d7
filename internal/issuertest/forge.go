package issuertest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"testing"
)

// Forge makes a token that says of itself that it is of an algorithm, signed with HMAC and a secret; without a secret, it is not signed.
func Forge(t testing.TB, algorithm, id string, secret []byte, claims map[string]any) string {
	t.Helper()
	encoded := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(text)
	}
	token := encoded(map[string]string{"alg": algorithm, "kid": id, "typ": "JWT"}) + "." + encoded(claims)
	if secret == nil {
		return token + "."
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(token))
	return token + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}
