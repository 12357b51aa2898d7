package topology

import (
	"maps"
	"slices"
	"strings"
)

// MethodPattern is a `when.method` of a route: "package.Service/Method", "package.Service/*" or "*".
type MethodPattern string

// Matches reports whether the pattern takes a method, given as "package.Service/Method".
func (p MethodPattern) Matches(method string) bool {
	if p == "*" || string(p) == method {
		return true
	}
	service, ok := strings.CutSuffix(string(p), "/*")
	return ok && len(method) > len(service) && method[:len(service)] == service && method[len(service)] == '/' &&
		!strings.Contains(method[len(service)+1:], "/")
}

// allMatch reports whether every pattern takes the method: a call passes all conditions on its way.
func allMatch(patterns []MethodPattern, method string) bool {
	return !slices.ContainsFunc(patterns, func(p MethodPattern) bool { return !p.Matches(method) })
}

// Method is what a catalog knows of one method.
type Method struct {
	ClientStreams bool
	ServerStreams bool
}

// Unary reports whether both sides send exactly one message.
func (m Method) Unary() bool { return !m.ClientStreams && !m.ServerStreams }

// Methods are the methods of the catalogs, by "package.Service/Method".
type Methods map[string]Method

// names are the methods in alphabetical order.
func (m Methods) names() []string { return slices.Sorted(maps.Keys(m)) }
