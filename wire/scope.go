package wire

import (
	"crypto/md5" // the contract names it; it separates scopes, it protects nothing
	"encoding/hex"
	"errors"
	"fmt"
)

// maxIdempotencyKey is the longest key of a caller, in bytes: with "-" and 32 hex digits the correlation id
// stays within 256.
const maxIdempotencyKey = 223

// ScopeID is the correlation id of a call: the key, and a digest of what the key is good for, so that it
// never answers a call of another method or with other overrides.
func (c Contract) ScopeID(idempotencyKey, service, method, replyTo string, overrides []Header) string {
	scope := make([]byte, 0, 256) // on the stack, mostly
	if replyTo != "" {
		for _, s := range [...]string{c.Service, service, c.Method, method, c.ReplyTo, replyTo} {
			scope = append(scope, s...)
		}
	}
	for _, o := range overrides {
		scope = append(scope, o.Value...)
	}
	digest := md5.Sum(scope)
	return idempotencyKey + "-" + hex.EncodeToString(digest[:])
}

// CheckIdempotencyKey says what is wrong with a caller's key, which may have any bytes. It does not repeat the key.
func CheckIdempotencyKey(key string) error {
	switch {
	case key == "":
		return errors.New("the idempotency key is empty; leave it out to have one made")
	case len(key) > maxIdempotencyKey:
		return fmt.Errorf("the idempotency key has %d bytes; at most %d are allowed", len(key), maxIdempotencyKey)
	}
	return nil
}

// TableKey is the key of a request in the table of results: the correlation id where it is scoped to the
// caller's key or where the caller gave none, else the caller's key itself. The latter is for producers whose
// correlation id differs from try to try. An empty key counts as none: all of its users would share one row.
func (c Contract) TableKey(r Request) string {
	key, _ := r.Metadata.Get(c.IdempotencyMetadata)
	if key == "" || isScoped(r.CorrelationID, key) {
		return r.CorrelationID
	}
	return key
}

// isScoped reports whether id is key, "-" and 32 hex digits.
func isScoped(id, key string) bool {
	if len(id) != len(key)+1+2*md5.Size || id[:len(key)] != key || id[len(key)] != '-' {
		return false
	}
	for i := len(key) + 1; i < len(id); i++ {
		if unhex(id[i]) < 0 {
			return false
		}
	}
	return true
}
