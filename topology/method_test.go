package topology_test

import (
	"testing"

	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

func TestMethodPatternMatches(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		pattern topology.MethodPattern
		method  string
		want    bool
	}{
		"everything":                   {"*", "a.B/C", true},
		"the method":                   {"a.B/C", "a.B/C", true},
		"another method":               {"a.B/C", "a.B/D", false},
		"a method of the service":      {"a.B/*", "a.B/C", true},
		"a service that begins alike":  {"a.B/*", "a.BC/D", false},
		"a service that ends alike":    {"B/*", "a.B/D", false},
		"no method":                    {"a.B/*", "a.B", false},
		"a path below":                 {"a.B/*", "a.B/C/D", false},
		"nothing":                      {"", "a.B/C", false},
		"a star inside is not special": {"a.*/C", "a.B/C", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := tt.pattern.Matches(tt.method); got != tt.want {
				t.Errorf("%q matches %q: %v, want %v", tt.pattern, tt.method, got, tt.want)
			}
		})
	}
}

func TestRouteNamesAService(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		patterns []topology.MethodPattern
		want     bool
	}{
		"everything":                      {[]topology.MethodPattern{"*", "*"}, false},
		"the service":                     {[]topology.MethodPattern{"*", "a.B/*"}, true},
		"a method of it":                  {[]topology.MethodPattern{"a.B/C", "*"}, true},
		"another service":                 {[]topology.MethodPattern{"a.BC/*", "*"}, false},
		"the service and another: no way": {[]topology.MethodPattern{"a.B/*", "a.C/*"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := (topology.NorthRoute{Methods: tt.patterns}).Names("a.B"); got != tt.want {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}

func TestRoutesNeedAllPatterns(t *testing.T) {
	t.Parallel()
	patterns := []topology.MethodPattern{"a.B/*", "a.B/C"}
	north, remote := topology.NorthRoute{Methods: patterns}, topology.RemoteRoute{Methods: patterns}
	for method, want := range map[string]bool{"a.B/C": true, "a.B/D": false} {
		if got := remote.Matches(method, wire.Record{}); north.Matches(method) != want || got != want {
			t.Errorf("%s: north %v, remote %v, want %v", method, north.Matches(method), got, want)
		}
	}
}

// Metadata of a call is looked at by value, among those of its name; in a record that of -bin names is base64.
func TestRoutesWantMetadata(t *testing.T) {
	t.Parallel()
	header := func(name, value string) wire.Header { return wire.Header{Name: name, Value: []byte(value)} }
	wanted := wire.Metadata{{Name: "tenant", Value: "a"}, {Name: "key-bin", Value: "\x00\x01"}}
	north, remote := topology.NorthRoute{Metadata: wanted}, topology.RemoteRoute{Metadata: wanted}
	tests := map[string]struct {
		call   map[string][]string
		record []wire.Header
		want   bool
	}{
		"all":           {map[string][]string{"tenant": {"a"}, "key-bin": {"\x00\x01"}}, []wire.Header{header("meta:tenant", "a"), header("meta:key-bin", "AAE")}, true},
		"among others":  {map[string][]string{"tenant": {"b", "a"}, "key-bin": {"", "\x00\x01"}}, []wire.Header{header("meta:Tenant", "b"), header("meta:Tenant", "a"), header("meta:key-bin", "AA==,AAE=")}, true},
		"another value": {map[string][]string{"tenant": {"A"}, "key-bin": {"\x00\x01"}}, []wire.Header{header("meta:tenant", "A"), header("meta:key-bin", "AAE")}, false},
		"other bytes":   {map[string][]string{"tenant": {"a"}, "key-bin": {"AAE"}}, []wire.Header{header("meta:tenant", "a"), header("meta:key-bin", "\x00\x01")}, false},
		"one less":      {map[string][]string{"tenant": {"a"}}, []wire.Header{header("meta:tenant", "a"), header("key-bin", "AAE")}, false},
		"none":          {nil, nil, false},
	}
	for name, tt := range tests {
		if got := north.Takes(func(name string) []string { return tt.call[name] }); got != tt.want {
			t.Errorf("%s: a call is taken: %v", name, got)
		}
		if got := remote.Matches("a.B/C", wire.Record{Headers: tt.record}); got != tt.want {
			t.Errorf("%s: a record is taken: %v", name, got)
		}
	}
}

func TestRemoteRouteWantsKeyAndHeaders(t *testing.T) {
	t.Parallel()
	header := func(name, value string) wire.Header { return wire.Header{Name: name, Value: []byte(value)} }
	r := topology.RemoteRoute{Key: []byte("gold"), Headers: []wire.Header{header("region", "eu"), header("tier", "1")}}
	all := []wire.Header{header("tier", "1"), header("region", "us"), header("region", "eu")}
	tests := []struct {
		name   string
		record wire.Record
		want   bool
	}{
		{"all", wire.Record{Key: []byte("gold"), Headers: all}, true},
		{"another key", wire.Record{Key: []byte("Gold"), Headers: all}, false},
		{"no key", wire.Record{Headers: all}, false},
		{"a header less", wire.Record{Key: []byte("gold"), Headers: all[:2]}, false},
		{"another name", wire.Record{Key: []byte("gold"), Headers: []wire.Header{header("tier", "1"), header("Region", "eu")}}, false},
	}
	for _, tt := range tests {
		if got := r.Matches("a.B/C", tt.record); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
