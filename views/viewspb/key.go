package viewspb

import "unicode/utf8"

// Keyed is a message with a key, which is text, or raw bytes where it is no UTF-8.
type Keyed interface {
	GetKey() string
	GetRawKey() []byte
}

// KeyOf is the key of a message, to the byte.
func KeyOf(m Keyed) string {
	if raw := m.GetRawKey(); len(raw) > 0 {
		return string(raw)
	}
	return m.GetKey()
}

// AskedKey is a key as requests have it: in one of the two fields.
func AskedKey(key string) (text string, raw []byte) {
	if utf8.ValidString(key) {
		return key, nil
	}
	return "", []byte(key)
}
