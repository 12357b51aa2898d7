package wire

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/grpc/metadata"
)

// statusDetails is the one reserved name that may travel as a trailer: it carries rich errors.
const statusDetails = "grpc-status-details-bin"

// Field is one metadata entry. The value of a name that ends in "-bin" is raw bytes, every other one is
// printable ASCII.
type Field struct{ Name, Value string }

// Metadata is the metadata of a call or of its answer. Its order counts and names may repeat.
type Metadata []Field

// FromMD takes over the metadata of grpc-go. That is a map, so names come sorted; the values of one name keep
// their order.
func FromMD(md metadata.MD) Metadata {
	if len(md) == 0 {
		return nil
	}
	m := make(Metadata, 0, len(md))
	for _, name := range slices.Sorted(maps.Keys(md)) {
		for _, value := range md[name] {
			m = append(m, Field{strings.ToLower(name), value})
		}
	}
	return m
}

// MD is the metadata as grpc-go takes it; nil when there is none.
func (m Metadata) MD() metadata.MD {
	if len(m) == 0 {
		return nil
	}
	md := make(metadata.MD, len(m))
	for _, f := range m {
		name := strings.ToLower(f.Name)
		md[name] = append(md[name], f.Value)
	}
	return md
}

// Get is the first value of a name, whatever the case of its letters.
func (m Metadata) Get(name string) (string, bool) {
	for _, f := range m {
		if strings.EqualFold(f.Name, name) {
			return f.Value, true
		}
	}
	return "", false
}

// passes reports whether metadata of this lower-case name may be written to Kafka, or taken from there.
// Reserved names belong to one HTTP/2 hop; credentials pass only where the configuration names them, because
// Kafka stores what it is given.
func (c Contract) passes(name string) bool {
	switch name {
	case "", "content-type", "te", "user-agent", "service-name":
		return false
	case "content-length", "connection", "host", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
		// They are true of one message on one connection. On the next one HTTP/2 calls the whole message malformed.
		return false
	case "authorization", "cookie":
		return slices.ContainsFunc(c.AllowMetadata, func(allowed string) bool { return strings.EqualFold(allowed, name) })
	}
	return name[0] != ':' && !strings.HasPrefix(name, "grpc-")
}

func (c Contract) passesTrailer(name string) bool { return name == statusDetails || c.passes(name) }

// appendMetadata adds one header for each field that passes.
func appendMetadata(headers []Header, prefix string, m Metadata, passes func(string) bool) []Header {
	for _, f := range m {
		name := strings.ToLower(f.Name)
		if !passes(name) {
			continue
		}
		var value []byte
		if strings.HasSuffix(name, "-bin") {
			value = make([]byte, base64.RawStdEncoding.EncodedLen(len(f.Value)))
			base64.RawStdEncoding.Encode(value, []byte(f.Value))
		} else {
			value = []byte(f.Value)
		}
		headers = append(headers, Header{prefix + name, value})
	}
	return headers
}

// appendField reads a header written by appendMetadata. What cannot be metadata is an error here, with the
// header's name, because a gRPC library would refuse the whole call later and say less.
func appendField(m Metadata, prefix string, h Header, passes func(string) bool) (Metadata, error) {
	name := strings.ToLower(h.Name[len(prefix):])
	if !passes(name) {
		return m, nil
	}
	if !validName(name) {
		return m, fmt.Errorf("header %q: %q is not a metadata name; use a-z, 0-9, '-', '_' and '.'", h.Name, name)
	}
	if !strings.HasSuffix(name, "-bin") {
		value := string(h.Value)
		if !printable(value) {
			return m, fmt.Errorf("header %q: the value is not printable ASCII; metadata with other bytes needs a name that ends in -bin", h.Name)
		}
		return append(m, Field{name, value}), nil
	}
	// A gRPC library may join repeated binary values with commas, which are no base64.
	for part := range strings.SplitSeq(string(h.Value), ",") {
		value, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(part, "="))
		if err != nil {
			return m, fmt.Errorf("header %q: the value is not base64: %w", h.Name, err)
		}
		m = append(m, Field{name, string(value)})
	}
	return m, nil
}

func validName(name string) bool {
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return name != ""
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}
